"""What goes wrong outside of us: each is one sentence, with the object's name and what to do, and a code."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cosfs.client.client import CosClient
from cosfs.emulator import Emulator

Run = Callable[..., Any]
COMMANDS = [
    ["ls", "{url}"],
    ["stat", "{url}/k"],
    ["cat", "{url}/k"],
    ["cp", "{url}/k", "here"],
    ["cp", "f", "{url}/k"],
]


def code_of(args: list[str], other: int) -> int:
    """Return 1 for commands that transfer, else the code of the error."""
    return 1 if args[0] in ("cat", "cp") else other


def one_sentence(result: Any) -> None:
    assert len(result.err.splitlines()) == 1, result.err
    assert "Traceback" not in result.err


@pytest.fixture
def f(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")


@pytest.fixture(params=COMMANDS, ids=lambda args: " ".join(args[:2]))
def command(request: pytest.FixtureRequest, f: None) -> list[str]:
    return list(request.param)


def filled(command: list[str], url: str) -> list[str]:
    return [arg.format(url=url) for arg in command]


def test_unknown_bucket(run: Run, command: list[str]) -> None:
    args = filled(command, "cos://nosuch-1250000000")
    result = run(*args, code=code_of(args, 254))
    assert "cos://nosuch-1250000000" in result.err and "bucket does not exist" in result.err
    one_sentence(result)


def test_wrong_key(run: Run, bucket: str, command: list[str]) -> None:
    args = filled(command, f"cos://{bucket}")
    result = run(*args, code=code_of(args, 254), env={"COS_SECRET_KEY": "wrong"})
    assert "SignatureDoesNotMatch" in result.err and "secret_key" in result.err
    one_sentence(result)


def test_unknown_id(run: Run, bucket: str, command: list[str]) -> None:
    args = filled(command, f"cos://{bucket}")
    result = run(*args, code=code_of(args, 254), env={"COS_SECRET_ID": "AKIDnobody"})
    assert "InvalidAccessKeyId" in result.err and "secret_id" in result.err
    one_sentence(result)


def test_expired_credentials(run: Run, bucket: str, command: list[str], emulator: Any) -> None:
    from cosfs.emulator import Credential

    emulator.add_credential(Credential("AKIDexpired", "secret", "old-token", time.time() - 60))
    env = {"COS_SECRET_ID": "AKIDexpired", "COS_SECRET_KEY": "secret", "COS_SESSION_TOKEN": "old-token"}
    args = filled(command, f"cos://{bucket}")
    result = run(*args, code=code_of(args, 254), env=env)
    assert "expired" in result.err
    one_sentence(result)


def test_missing_credentials(run: Run, bucket: str, command: list[str]) -> None:
    env = {"COS_SECRET_ID": "", "COS_SECRET_KEY": ""}
    result = run(*filled(command, f"cos://{bucket}"), code=253, env=env)
    assert "cos configure" in result.err
    one_sentence(result)


def test_no_server(run: Run, command: list[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        args = filled(command, "cos://b-1250000000")
        result = run(*args, "--max-retries", "1", code=code_of(args, 255), env={"COS_ENDPOINT_URL": url})
    assert "refuses connections" in result.err and "endpoint_url" in result.err
    one_sentence(result)


@pytest.fixture
def not_cos() -> Iterator[str]:
    """A web server that is not COS."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                connection.sendall(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 13\r\n\r\n<html></html>"
                )

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.getsockname()[1]}"
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


def test_endpoint_that_is_not_cos(run: Run, not_cos: str) -> None:
    result = run("ls", "cos://b-1250000000", code=255, env={"COS_ENDPOINT_URL": not_cos})
    assert "127.0.0.1" in result.err and "not COS" in result.err
    one_sentence(result)


def test_tls_to_a_server_without_it(run: Run, emulator: Any) -> None:
    url = emulator.endpoint_url.replace("http://", "https://")
    result = run("ls", "cos://b-1250000000", "--max-retries", "0", code=255, env={"COS_ENDPOINT_URL": url})
    assert "TLS" in result.err
    one_sentence(result)


def test_region_that_does_not_exist_is_no_network(run: Run) -> None:
    env = {"COS_ENDPOINT_URL": "", "COS_REGION": "no-such-region"}
    result = run(
        "ls", "cos://b-1250000000", "--max-retries", "0", "--connect-timeout", "2", code=255, env=env
    )
    assert "no-such-region" in result.err
    one_sentence(result)


def test_clock_that_is_an_hour_off(run: Run, bucket: str, emulator: Any, tmp_path: Path) -> None:
    """The client corrects it from the server's Date; nobody needs to know."""
    from cosfs.emulator import Emulator

    with Emulator(tmp_path / "late", clock=lambda: time.time() + 3600, buckets=["b"]) as late:
        env = {
            "COS_ENDPOINT_URL": late.endpoint_url,
            "COS_SECRET_ID": late.secret_id,
            "COS_SECRET_KEY": late.secret_key,
        }
        assert run("ls", "cos://b", env=env).out == ""


def test_full_disk_is_named(run: Run, client: Any, bucket: str, tmp_path: Path) -> None:
    client.put_object(bucket, "k", b"x")
    result = run("cp", f"cos://{bucket}/k", "/proc/nowhere/k", code=1)
    assert "/proc" in result.err
    one_sentence(result)


def test_denied_listing_is_not_success(run: Run, client: Any, bucket: str, emulator: Any) -> None:
    client.put_object(bucket, "p/k", b"x")
    for args, code in (
        (["ls", f"cos://{bucket}"], 254),
        (["du", f"cos://{bucket}"], 254),
        (["cp", "-r", f"cos://{bucket}/p", "x"], 1),
        (["rm", "-r", f"cos://{bucket}/p"], 1),
    ):
        emulator.faults.error("ListObjects", "AccessDenied")
        try:
            result = run(*args, code=code)
        finally:
            emulator.faults.clear()
        assert "AccessDenied" in result.err and "RequestId" in result.err
        one_sentence(result)


def test_what_to_do_is_said_once(run: Run, client: CosClient, emulator: Emulator, bucket: str) -> None:
    for number in range(3):
        client.put_object(bucket, f"d/{number}", b"x")
    emulator.faults.error("GetObject", "AccessDenied", 403, count=0)
    try:
        lines = run("cp", "-r", f"cos://{bucket}/d/", "down", code=1).err.splitlines()
    finally:
        emulator.faults.clear()
    failed = [line for line in lines if line.startswith("download failed")]
    assert len(failed) == 3
    assert ["cos:GetObject" in line for line in failed].count(True) == 1
