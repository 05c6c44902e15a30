"""No command lets a secret out: not by --debug, not on the screen, in files, or in what other users see."""

from __future__ import annotations

import base64
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.main import COMMANDS
from cli.main import run as run_program
from cosfs.client.auth import Credentials
from cosfs.client.buckets import Buckets
from cosfs.client.client import CosClient
from cosfs.client.sts import Role, Sts
from cosfs.emulator import Emulator
from tests.cli.conftest import Result

Debug = Callable[..., Result]

ROLE = "qcs::cam::uin/100000000001:roleName/emulator"
SSE_KEY = base64.b64encode(b"0123456789abcdef0123456789ABCDEF").decode()

# What prints secrets because it is asked to, and what has no end or needs a kernel.
ASKED_FOR = {"token", "presign", "signurl"}
LEFT_OUT = {"emulator", "mount", "umount", "completion"}
LINES: dict[str, list[str]] = {
    "ls": ["{b}", "--recursive"],
    "cp": ["f", "{b}/copied"],
    "mv": ["{b}/a", "{b}/moved"],
    "sync": [".", "{b}/tree/"],
    "run": ["commands"],
    "check": [".", "{b}/tree/"],
    "rm": ["{b}/moved"],
    "cat": ["{b}/k"],
    "stat": ["{b}/k"],
    "du": ["{b}"],
    "hash": ["{b}/k"],
    "multipart": ["ls", "{b}"],
    "jobs": ["list"],
    "mb": ["cos://new-1250000000"],
    "rb": ["cos://new-1250000000", "--yes"],
    "status": [],
    "configure": ["list"],
    "config": ["list"],
    "whoami": [],
    "doctor": ["{b}"],
}


@pytest.fixture(scope="module")
def temporary(emulator: Emulator) -> Credentials:
    """Keys with a token: all three parts are found nowhere else."""
    base = Credentials(emulator.secret_id, emulator.secret_key)
    return Sts(emulator.endpoint_url).assume_role(base, Role(ROLE))


@pytest.fixture
def place(client: CosClient, bucket: str, tmp_path: Path) -> Path:
    """A directory with something to work with, and objects."""
    (tmp_path / "f").write_text("hello")
    (tmp_path / "commands").write_text(f"ls cos://{bucket}\n")
    for key in ("k", "a"):
        client.put_object(bucket, key, b"hello")
    return tmp_path


@pytest.fixture
def debug(
    cos_environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    temporary: Credentials,
) -> Callable[..., Result]:
    """Run a command line with --debug and temporary keys in this process."""
    for name in [name for name in os.environ if name.startswith("COS_")]:
        monkeypatch.delenv(name)
    for name, value in {**cos_environment, **environment_of(temporary)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)

    def call(*args: str) -> Result:
        capfd.readouterr()
        code = run_program([*args, "--debug"])
        return Result(code, *capfd.readouterr())

    return call


def leaks(text: str, temporary: Credentials) -> list[str]:
    secrets = {"secret_key": temporary.secret_key, "token": temporary.token, "sse key": SSE_KEY}
    return [name for name, secret in secrets.items() if secret in text]


def files_below(*directories: Path) -> str:
    found = [path for directory in directories for path in directory.rglob("*") if path.is_file()]
    return "\n".join(path.read_bytes().decode("utf-8", "replace") for path in found)


def environment_of(temporary: Credentials) -> dict[str, str]:
    return {
        "COS_SECRET_ID": temporary.secret_id,
        "COS_SECRET_KEY": temporary.secret_key,
        "COS_SESSION_TOKEN": temporary.token,
    }


def test_debug_shows_no_secret(
    debug: Debug, place: Path, bucket: str, temporary: Credentials, cos_environment: dict[str, str]
) -> None:
    for command in COMMANDS:
        if command in LEFT_OUT | ASKED_FOR:
            continue
        args = [arg.replace("{b}", f"cos://{bucket}") for arg in LINES.get(command, [f"cos://{bucket}"])]
        done = debug(command, *args)
        assert command not in LINES or done.code in (0, 1, 2, 254), (command, done)
        assert leaks(done.out + done.err, temporary) == [], command
        assert leaks(files_below(place, Path(cos_environment["HOME"])), temporary) == [], command


def test_debug_shows_the_request_and_the_answer(debug: Debug, place: Path, bucket: str) -> None:
    shown = debug("stat", f"cos://{bucket}/k").err
    assert "> HEAD " in shown and "Authorization: ***" in shown and "x-cos-security-token: ***" in shown
    assert "< HTTP 200; " in shown
    args = ("--secret-id", "AKIDnobody", "--secret-key", "wrong-key-x")
    refused = debug("cat", f"cos://{bucket}/k", *args).err
    assert "<Code>InvalidAccessKeyId</Code>" in refused
    assert "wrong-key-x" not in refused


def test_a_wrong_signature_echoes_no_token(
    debug: Debug, place: Path, bucket: str, temporary: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COS_SECRET_KEY", "not-the-secret-key")
    shown = debug("cat", f"cos://{bucket}/k").err
    assert "SignatureDoesNotMatch" in shown and "FormatString" in shown
    assert leaks(shown, temporary) == []


def test_keys_of_customers_are_not_shown(
    debug: Debug, place: Path, bucket: str, temporary: Credentials
) -> None:
    (place / "key").write_bytes(base64.b64decode(SSE_KEY))
    for key in ("fileb://key", base64.b64decode(SSE_KEY).decode()):
        args = ("--sse-c", "AES256", "--sse-c-key", key)
        sent = debug("cp", "f", f"cos://{bucket}/enc", *args)
        assert leaks(sent.out + sent.err, temporary) == []
        assert "customer-key: ***" in sent.err, sent
        assert base64.b64decode(SSE_KEY).decode() not in sent.out + sent.err


def test_tokens_that_are_made_are_not_logged(
    debug: Debug, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COS_SECRET_ID", emulator.secret_id)
    monkeypatch.setenv("COS_SECRET_KEY", emulator.secret_key)
    monkeypatch.delenv("COS_SESSION_TOKEN")
    done = debug("token", "--role", ROLE, "--output", "json")
    made = done.json
    assert made["Token"] not in done.err and made["SecretKey"] not in done.err
    assert "AssumeRole at" in done.err


def test_others_see_no_secret_of_a_process(
    cos_environment: dict[str, str], bucket: str, place: Path, temporary: Credentials
) -> None:
    """What ps shows of a cos with secrets in its options; cores and debuggers are shut out."""
    args = ["cp", "-", f"cos://{bucket}/slow", "--secret-id", temporary.secret_id]
    args += [f"--secret-key={temporary.secret_key}", "--token", temporary.token]
    process = subprocess.Popen(["cos", *args], env=cos_environment, stdin=subprocess.PIPE, cwd=place)
    try:
        status = Path(f"/proc/{process.pid}")
        shown = ""
        for _ in range(1200):
            shown = (status / "cmdline").read_bytes().decode().replace("\0", " ")
            limits = (status / "limits").read_text()
            if "***" in shown and "Max core file size        0" in limits:
                break
            time.sleep(0.05)
        assert "***" in shown and leaks(shown, temporary) == []
        assert "Max core file size        0" in limits
        children = (status / "task" / str(process.pid) / "children").read_text().split()
        for child in children:
            for name in ("cmdline", "environ"):
                assert leaks(Path(f"/proc/{child}/{name}").read_bytes().decode(), temporary) == []
    finally:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=150) == 0


def test_an_unexpected_error_shows_no_secret(
    debug: Debug, temporary: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Buckets) -> None:
        raise RuntimeError(f"header x-cos-security-token: {temporary.token} with {temporary.secret_key}")

    monkeypatch.setattr(Buckets, "list_buckets", broken)
    done = debug("ls")
    assert done.code == 255 and "RuntimeError" in done.err
    assert leaks(done.err, temporary) == []
