"""Mistakes of other tools for COS, each tried with the same steps. Those of a sync are in test_sync.py."""

from __future__ import annotations

import json
import os
import re
import ssl
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cosfs.client.model import Headers
from tests.objects import keys, put

if TYPE_CHECKING:
    from cosfs.client.client import CosClient
    from cosfs.emulator import Emulator

Run = Callable[..., Any]
MANY = 1005  # more than a listing, or a removal, holds


@pytest.fixture
def many(client: CosClient, bucket: str) -> str:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: client.put_object(bucket, f"p/{number:04}", b""), range(MANY)))
    return bucket


# --- options that did nothing, or too much


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """An emulator behind HTTPS with a certificate that nobody knows."""
    from cosfs.emulator import Emulator

    with Emulator(tmp_path_factory.mktemp("secure"), https=True) as running:
        yield running


def test_tls_verification_switched_off_for_the_whole_process(run: Run, secure: Emulator) -> None:
    env = {
        "COS_ENDPOINT_URL": secure.info.https_url,
        "COS_SECRET_ID": secure.secret_id,
        "COS_SECRET_KEY": secure.secret_key,
        "COS_MAX_RETRIES": "0",
    }
    make_context = ssl._create_default_https_context
    assert "certificate" in run("ls", env=env, code=255).err
    assert "not verified" in run("ls", "--no-verify-ssl", env=env).err
    assert "certificate" in run("ls", env=env, code=255).err
    assert ssl._create_default_https_context is make_context
    assert ssl.create_default_context().verify_mode == ssl.CERT_REQUIRED
    run("ls", "--ca-bundle", secure.info.ca_file, env=env)


def test_endpoint_url_parsed_and_ignored(run: Run, bucket: str, emulator: Emulator) -> None:
    emulator.requests.reset()
    nobody = "http://127.0.0.1:1"
    assert (
        "127.0.0.1:1"
        in run("ls", f"cos://{bucket}", "--endpoint-url", nobody, "--max-retries", "0", code=255).err
    )
    assert emulator.requests.total == 0
    run("ls", f"cos://{bucket}", "--endpoint-url", emulator.endpoint_url, env={"COS_ENDPOINT_URL": nobody})
    assert emulator.requests.total == 1


def test_quiet_parsed_and_ignored(run: Run, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    for place in (["--quiet", "cp"], ["cp", "--quiet"], ["cp", "-q"]):
        result = run(*place, "f", f"cos://{bucket}/f")
        assert result.out == result.err == ""
    failed = run("cp", f"cos://{bucket}/missing", "g", "--quiet", code=1)
    assert failed.out == failed.err == ""


# --- lists that ended after the first page


def test_only_the_first_thousand_keys_listed(run: Run, many: str) -> None:
    assert len(run("ls", "-r", f"cos://{many}", "--output", "text").lines) == MANY


def test_only_the_first_thousand_keys_copied(run: Run, client: CosClient, many: str, tmp_path: Path) -> None:
    run("cp", "-r", f"cos://{many}/p", f"cos://{many}/q", "--only-show-errors")
    assert len(keys(client, many, "q/")) == MANY
    run("cp", "-r", f"cos://{many}/q", "out", "--only-show-errors")
    assert len(list((tmp_path / "out").iterdir())) == MANY


def test_only_the_first_thousand_keys_removed_and_one_delete_request_per_key(
    run: Run, client: CosClient, many: str, emulator: Emulator
) -> None:
    emulator.requests.reset()
    run("rm", "-r", f"cos://{many}/p", "--only-show-errors")
    assert emulator.requests["DeleteObjects"] == 2 and emulator.requests["DeleteObject"] == 0
    assert keys(client, many) == []


# --- more removed, taken or overwritten than was meant


def test_include_that_removed_everything(run: Run, client: CosClient, bucket: str) -> None:
    put(client, bucket, "p/a.log", "p/b.txt", "p/s/c.log")
    run("rm", "-r", f"cos://{bucket}/p/", "--include", "*.log")
    assert keys(client, bucket) == ["p/b.txt"]


def test_mv_that_overwrote_in_spite_of_a_no(run: Run, client: CosClient, bucket: str, tmp_path: Path) -> None:
    put(client, bucket, "k")
    (tmp_path / "f").write_text("local")
    run("mv", f"cos://{bucket}/k", "f", "--no-overwrite")
    assert (tmp_path / "f").read_text() == "local" and keys(client, bucket) == ["k"]
    run("mv", "f", f"cos://{bucket}/k", "--no-overwrite")
    assert (tmp_path / "f").exists()
    assert run("cat", f"cos://{bucket}/k").out == "k"


@pytest.mark.parametrize("target", ["k", ""])
def test_mv_onto_itself_removing_the_object(run: Run, client: CosClient, bucket: str, target: str) -> None:
    put(client, bucket, "k")
    run("mv", f"cos://{bucket}/k", f"cos://{bucket}/{target}", code=252)
    run("mv", f"cos://{bucket}/k", f"cos://{bucket.rpartition('-')[0]}/{target}", code=252)
    assert run("cat", f"cos://{bucket}/k").out == "k"


@pytest.mark.parametrize("before", ["", "short", "x" * 5_000_000])
def test_download_that_appended_its_tail_to_an_older_file(
    run: Run, client: CosClient, bucket: str, tmp_path: Path, before: str
) -> None:
    data = os.urandom(3_000_000)
    client.put_object(bucket, "k", data)
    (tmp_path / "k").write_text(before)
    run("cp", f"cos://{bucket}/k", "k")
    assert (tmp_path / "k").read_bytes() == data


def test_mv_recursive_that_crashed(run: Run, client: CosClient, bucket: str, tmp_path: Path) -> None:
    put(client, bucket, "d/a", "d/s/b", "e")
    run("mv", "-r", f"cos://{bucket}/d/", f"cos://{bucket}/n/")
    assert keys(client, bucket) == ["e", "n/a", "n/s/b"]
    run("mv", "-r", f"cos://{bucket}/n", "out")
    assert (tmp_path / "out/s/b").read_text() == "d/s/b" and keys(client, bucket) == ["e"]


@pytest.mark.parametrize("key", ["t/../../evil.txt", "t/..", "t//evil.txt", "t/./evil.txt", "t//abs"])
def test_key_that_was_written_outside_of_the_destination(
    run: Run, client: CosClient, bucket: str, tmp_path: Path, key: str
) -> None:
    put(client, bucket, key, "t/good")
    (tmp_path / "in" / "deep").mkdir(parents=True)
    result = run("cp", "-r", f"cos://{bucket}/t", "in/deep/dst", code=2)
    assert "skipped" in result.err
    files = [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()]
    assert files == ["in/deep/dst/good"]


def test_planted_link_that_sent_a_write_elsewhere(
    run: Run, client: CosClient, bucket: str, tmp_path: Path
) -> None:
    put(client, bucket, "t/link/evil")
    (tmp_path / "outside").mkdir()
    (tmp_path / "dst").mkdir()
    (tmp_path / "dst" / "link").symlink_to(tmp_path / "outside")
    assert "symbolic link" in run("cp", "-r", f"cos://{bucket}/t", "dst", code=1).err
    assert list((tmp_path / "outside").iterdir()) == []


def test_marker_that_aborted_a_recursive_download(
    run: Run, client: CosClient, bucket: str, tmp_path: Path
) -> None:
    for key in ("p/", "p/dir/", "p/dir/a", "p/empty/"):
        client.put_object(bucket, key, b"" if key.endswith("/") else b"x")
    run("cp", "-r", f"cos://{bucket}/p/", "out")
    assert (tmp_path / "out/dir/a").is_file() and (tmp_path / "out/empty").is_dir()


@pytest.mark.parametrize("prefix", ["q", "q/"])
def test_prefix_that_took_its_neighbour(
    run: Run, client: CosClient, bucket: str, tmp_path: Path, prefix: str
) -> None:
    put(client, bucket, "q/1", "q2/2")
    run("cp", "-r", f"cos://{bucket}/{prefix}", "out")
    assert [path.name for path in (tmp_path / "out").rglob("*")] == ["1"]
    run("sync", f"cos://{bucket}/{prefix}", "synced")
    assert [path.name for path in (tmp_path / "synced").rglob("*")] == ["1"]
    run("cp", "-r", f"cos://{bucket}/{prefix}", f"cos://{bucket}/copied")
    assert keys(client, bucket, "copied") == ["copied/1"]
    run("rm", "-r", f"cos://{bucket}/{prefix}", f"cos://{bucket}/copied")
    assert keys(client, bucket) == ["q2/2"]


# --- what was printed


def test_secrets_echoed_by_configure(run: Run, cos_environment: dict[str, str]) -> None:
    secret = "s3cr3t" + "x" * 26
    shown = run("configure", "set", "secret_key", secret)
    listed = run("configure", "list", env={"COS_SECRET_KEY": ""})
    assert secret not in shown.out + shown.err + listed.out + listed.err


def test_credentials_that_others_can_read(run: Run, cos_environment: dict[str, str]) -> None:
    run("configure", "set", "secret_id", "AKIDx")
    directory = Path(cos_environment["HOME"]) / ".cos"
    assert stat.S_IMODE((directory / "credentials").stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "args",
    [
        ["ls", "{}"],
        ["ls"],
        ["cp", "f", "{}/f"],
        ["rm", "{}/a"],
        ["du", "{}"],
        ["stat", "{}/a"],
        ["cp", "-r", "{}", "o"],
    ],
)
def test_prose_behind_json(run: Run, client: CosClient, bucket: str, tmp_path: Path, args: list[str]) -> None:
    put(client, bucket, "a", "b")
    (tmp_path / "f").write_text("x")
    result = run(*(arg.format(f"cos://{bucket}") for arg in args), "--output", "json")
    json.loads(result.out)


def test_presigned_url_among_other_lines_and_without_its_token(
    run: Run, client: CosClient, bucket: str
) -> None:
    put(client, bucket, "k")
    (url,) = run("presign", f"cos://{bucket}/k").lines
    assert url.startswith("http://127.0.0.1")
    (url,) = run("presign", f"cos://{bucket}/k", env={"COS_SESSION_TOKEN": "the-token"}).lines
    assert "x-cos-security-token=the-token" in url


def test_markup_in_keys_swallowed_by_the_table(run: Run, client: CosClient, bucket: str) -> None:
    put(client, bucket, "[bold]a[/bold]", "[red]")
    shown = run("ls", "-r", f"cos://{bucket}", "--output", "table").out
    assert "[bold]a[/bold]" in shown and "[red]" in shown


# --- time


def test_polling_sleep(run: Run, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    slept: list[float] = []
    wait = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: (slept.append(seconds), wait(min(seconds, 0.01)))[1])
    (tmp_path / "f").write_text("x")
    run("cp", "f", f"cos://{bucket}/f")
    run("cp", f"cos://{bucket}/f", "g")
    run("rm", f"cos://{bucket}/f")
    assert sum(slept) < 0.1


def test_retry_that_waited_nanoseconds(
    run: Run, bucket: str, tmp_path: Path, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("cosfs.client.retry.wait_for", lambda event, seconds: waits.append(seconds))
    (tmp_path / "f").write_text("x")
    emulator.faults.error("PutObject", "SlowDown", count=5)
    run("cp", "f", f"cos://{bucket}/f")
    assert len(waits) == 5 and max(waits) > 0.001


# --- failures


def test_failed_upload_that_exited_0(run: Run, bucket: str, tmp_path: Path, emulator: Emulator) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_text("x")
    for source, options in (("d/f", []), ("d", ["-r"])):
        emulator.faults.error("PutObject", "AccessDenied")
        assert "AccessDenied" in run("cp", source, f"cos://{bucket}/f", *options, code=1).err
    run("cp", "d/f", "cos://nosuch-1250000000/f", code=1)
    run("cp", "-r", "cos://nosuch-1250000000/p", "out", code=1)


def test_failed_listing_that_exited_0(run: Run, cos: Any, many: str, emulator: Emulator) -> None:
    emulator.faults.error("ListObjects", "AccessDenied", skip=1)
    assert cos("cp", "-r", f"cos://{many}/p", "out", "--only-show-errors").returncode == 1
    emulator.faults.error("ListObjects", "AccessDenied", skip=1)
    run("ls", "-r", f"cos://{many}/p", code=254)


def test_metadata_lost_by_server_copies(run: Run, client: CosClient, bucket: str) -> None:
    headers = Headers(
        content_type="text/x-odd",
        cache_control="no-cache",
        metadata={"a": "1"},
        extra={"x-cos-tagging": "t=1"},
    )
    client.put_object(bucket, "s/k", b"data", headers=headers)
    run("cp", f"cos://{bucket}/s/k", f"cos://{bucket}/one")
    run("cp", "-r", f"cos://{bucket}/s", f"cos://{bucket}/tree")
    run("mv", f"cos://{bucket}/s/k", f"cos://{bucket}/moved")
    for key in ("one", "tree/k", "moved"):
        info = client.head_object(bucket, key)
        assert info is not None and info.headers is not None
        assert (info.headers.content_type, info.headers.cache_control) == ("text/x-odd", "no-cache")
        assert dict(info.headers.metadata) == {"a": "1"} and client.object_tags(bucket, key) == "t=1"


def test_empty_answer_taken_as_yes(terminal: Callable[..., Any], client: CosClient, bucket: str) -> None:
    put(client, bucket, "k")
    for args in (["rb", f"cos://{bucket}", "--all-versions"], ["rm", "-r", f"cos://{bucket}"]):
        screen = terminal(*args)
        screen.read_until("[y/N]")
        screen.type("\n")
        assert screen.finish() == 1
    assert keys(client, bucket) == ["k"]


def test_abort_that_saw_only_the_first_page(run: Run, client: CosClient, bucket: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: client.create_upload(bucket, f"{number:04}"), range(MANY)))
    assert len(run("ls", f"cos://{bucket}", "--incomplete", "--output", "text").lines) == MANY
    run("abort", "-r", f"cos://{bucket}", "--only-show-errors")
    assert list(client.list_uploads(bucket).uploads) == []


def test_transfers_of_one_key_that_shared_an_upload(
    run: Run, client: CosClient, bucket: str, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(name.encode() * 18_000_000)
    lines = [f"cp {name} cos://{bucket}/k --part-size 1MB" for name in ("a", "b", "a", "b")]
    (tmp_path / "lines").write_text("\n".join(lines))
    run("run", "lines")
    with client.get_object(bucket, "k") as stream:
        assert len(set(b"".join(stream.chunks()))) == 1
    assert list(client.list_uploads(bucket).uploads) == []


def test_ctrl_c_that_left_the_process_hanging(
    terminal: Callable[..., Any], bucket: str, tmp_path: Path, emulator: Emulator
) -> None:
    (tmp_path / "big").write_bytes(bytes(40_000_000))
    emulator.faults.latency(3600.0, "UploadPart")
    try:
        screen = terminal("cp", "big", f"cos://{bucket}/big")
        screen.read_until("uploading")
        screen.interrupt()
        assert screen.finish() == 130
    finally:
        emulator.faults.clear()
    assert re.search(r"interrupted", screen.text) and "Traceback" not in screen.text
