"""cos cp and mv with keys that no path can have, and with odd things on the local side."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.trees import files_below
from tests.conftest import Cos
from tests.objects import keys, put

if TYPE_CHECKING:
    from cosfs.client.client import CosClient
    from cosfs.emulator import Emulator

Run = Callable[..., Any]


# --- keys that no path can have


HOSTILE = ["../up", "t/../../evil", "/lead", "a//b", "./dot", "n\0ul", "l" * 300, "ok"]


@pytest.fixture
def hostile(client: CosClient, bucket: str) -> str:
    for key in HOSTILE:
        if "\0" not in key:
            client.put_object(bucket, f"p/{key}", b"x")
    return bucket


def test_hostile_keys_are_skipped_with_a_warning(run: Run, hostile: str, tmp_path: Path) -> None:
    result = run("cp", "-r", f"cos://{hostile}/p", "out/in", code=2)
    assert files_below(tmp_path) == ["out/in/ok"]
    assert result.err.count("warning: skipped") == len(HOSTILE) - 2
    assert "--key-policy encode" in result.err


def test_hostile_keys_are_errors_if_wanted(run: Run, hostile: str, tmp_path: Path) -> None:
    run("cp", "-r", f"cos://{hostile}/p", "out", "--key-policy", "error", code=1)
    assert files_below(tmp_path) == ["out/ok"]


def test_hostile_keys_make_a_round_trip_encoded(
    run: Run, client: CosClient, hostile: str, tmp_path: Path
) -> None:
    client.put_object(hostile, "p/50%", b"x")
    client.put_object(hostile, "p/50%2F", b"x")
    client.put_object(hostile, "p/dir/", b"content")
    client.delete_object(hostile, "p/" + "l" * 300)
    run("cp", "-r", f"cos://{hostile}/p", "out", "--key-policy", "encode")
    assert "%2E%2E/up" in files_below(tmp_path / "out")
    run("cp", "-r", "out", f"cos://{hostile}/q", "--key-policy", "encode")
    before = [key.removeprefix("p/") for key in keys(client, hostile, "p/")]
    assert [key.removeprefix("q/") for key in keys(client, hostile, "q/")] == before


def test_symlink_planted_below_the_destination_is_not_followed(
    run: Run, client: CosClient, bucket: str, tmp_path: Path
) -> None:
    put(client, bucket, "p/link/evil", "p/ok")
    (tmp_path / "outside").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "link").symlink_to(tmp_path / "outside")
    result = run("cp", "-r", f"cos://{bucket}/p", "out", code=1)
    assert list((tmp_path / "outside").iterdir()) == [] and (tmp_path / "out" / "ok").exists()
    assert "symbolic link" in result.err


def test_markers_become_directories(run: Run, client: CosClient, bucket: str, tmp_path: Path) -> None:
    client.put_object(bucket, "p/", b"")
    client.put_object(bucket, "p/empty/", b"")
    client.put_object(bucket, "p/full/", b"content")
    put(client, bucket, "p/full/x")
    result = run("cp", "-r", f"cos://{bucket}/p", "out", code=2)
    assert (tmp_path / "out" / "empty").is_dir() and files_below(tmp_path / "out") == ["full/x"]
    assert "p/full/:" in result.err


def test_file_and_directory_of_one_name_are_told(
    run: Run, client: CosClient, bucket: str, tmp_path: Path
) -> None:
    put(client, bucket, "p/file", "p/file-x", "p/file/child")
    result = run("cp", "-r", f"cos://{bucket}/p", "out", code=1)
    assert files_below(tmp_path / "out") == ["file", "file-x"]
    assert "file/child" in result.err


@pytest.mark.parametrize(
    "name",
    [
        "n" * 255,
        "文" * 85,
        "a\nb",
        "tab\t",
        "  spaces  ",
        "quote'\"",
        "back\\slash",
        "émoji-🎉",
        "-dash",
        "%2F",
    ],
)
def test_odd_file_names_make_a_round_trip(
    run: Run, client: CosClient, bucket: str, tmp_path: Path, name: str
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_text(name)
    run("cp", "-r", "in", f"cos://{bucket}")
    assert keys(client, bucket) == [name]
    result = run("cp", "-r", f"cos://{bucket}", "out")
    assert (tmp_path / "out" / name).read_text() == name
    assert len(result.lines) == 1


def test_key_of_800_bytes(run: Run, client: CosClient, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    key = "/".join(["k" * 199] * 4)
    run("cp", "f", f"cos://{bucket}/{key}")
    run("cp", f"cos://{bucket}/{key}", "g")
    run("cp", "f", f"cos://{bucket}/{'k' * 800}")
    result = run("cp", f"cos://{bucket}/{'k' * 800}", "./", code=1)
    assert "255" in result.err


@pytest.mark.parametrize("key", ["a", "a/", "a/b", "a//b", "/x", "../x", "a\nb", "ü/文", "a/../b", ".", ".."])
def test_every_key_can_be_written_read_and_removed(
    run: Run, client: CosClient, bucket: str, tmp_path: Path, key: str
) -> None:
    (tmp_path / "f").write_text(key)
    client.put_object(bucket, key, key.encode())
    assert run("cat", f"cos://{bucket}/{key}").out == key
    assert run("stat", f"cos://{bucket}/{key}", "--output", "json").json["Key"] == key
    run("cp", f"cos://{bucket}/{key}", "g")
    assert (tmp_path / "g").read_text() == key
    run("presign", f"cos://{bucket}/{key}")
    run("rm", f"cos://{bucket}/{key}")
    assert keys(client, bucket) == []
    if not key.endswith("/"):
        run("cp", "f", f"cos://{bucket}/{key}")
        assert keys(client, bucket) == [key]


# --- odd things on the local side


def test_links_fifos_and_unreadable_files(run: Run, client: CosClient, bucket: str, local: Path) -> None:
    (local / "d" / "link").symlink_to("a.txt")
    (local / "d" / "loop").symlink_to(".")
    (local / "d" / "dangling").symlink_to("nowhere")
    os.mkfifo(local / "d" / "fifo")
    result = run("cp", "-r", "d", f"cos://{bucket}", code=2)
    assert "link" in keys(client, bucket) and not any("loop" in key for key in keys(client, bucket))
    for name in ("loop", "dangling", "fifo"):
        assert f"d/{name}" in result.err
    silent = run("cp", "-r", "d", f"cos://{bucket}/n", "--no-follow-symlinks", "--exclude", "fifo")
    assert silent.err == "" and "n/link" not in keys(client, bucket)


def test_names_that_are_not_utf8(run: Run, client: CosClient, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / os.fsdecode(b"bad\xff")).write_text("x")
    result = run("cp", "-r", "d", f"cos://{bucket}", "--output", "jsonl", code=2)
    assert result.events[0]["status"] == "skipped" and "src_b64" in result.events[0]
    assert "\\xff" in result.err


def test_excluded_names_that_are_not_utf8_are_no_matter(run: Run, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "d" / os.fsdecode(b"dir\xff")).mkdir(parents=True)
    (tmp_path / "d" / os.fsdecode(b"bad\xff")).write_text("x")
    run("cp", "-r", "d", f"cos://{bucket}/", "--exclude", "bad*", "--exclude", "dir*/*")
    assert "bad\\xff" in run("cp", "-r", "d", f"cos://{bucket}/", "--exclude", "dir*", code=2).err


@pytest.mark.parametrize("args", [["d/f"], ["-r", "d"]])
def test_moved_file_that_cannot_be_removed(
    run: Run, client: CosClient, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: list[str]
) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_text("x")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "d/f")  # what root would not be told

    monkeypatch.setattr(os, "unlink", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    result = run("mv", *args, f"cos://{bucket}/p/", code=1)
    assert "it was copied, but cannot be removed: permission denied" in result.err
    assert keys(client, bucket) == ["p/f"] and (tmp_path / "d" / "f").exists()


def test_empty_directories(run: Run, client: CosClient, bucket: str, local: Path) -> None:
    (local / "d" / "empty" / "deep").mkdir(parents=True)
    run("cp", "-r", "d", f"cos://{bucket}")
    assert not any(key.endswith("/") for key in keys(client, bucket))
    run("cp", "-r", "d", f"cos://{bucket}", "--keep-dirs")
    assert [key for key in keys(client, bucket) if key.endswith("/")] == ["empty/deep/"]


def test_missing_source(run: Run, bucket: str, emulator: Emulator) -> None:
    emulator.requests.reset()
    assert "nosuch" in run("cp", "nosuch", f"cos://{bucket}/k", code=252).err
    assert "nosuch" in run("cp", "-r", "nosuch", f"cos://{bucket}/k", code=252).err
    assert emulator.requests.total == 0


def test_downloaded_files_have_the_modes_of_new_files(
    cos_environment: dict[str, str], client: CosClient, bucket: str, tmp_path: Path
) -> None:
    put(client, bucket, "k")
    script = f"umask 027; cos cp cos://{bucket}/k k"
    subprocess.run(["sh", "-c", script], env=cos_environment, cwd=tmp_path, check=True, capture_output=True)
    assert stat.S_IMODE((tmp_path / "k").stat().st_mode) == 0o640


@pytest.mark.parametrize("args", [["{}/d/f", "{}/p/"], ["-r", "{}/d/", "{}/p/"]], ids=["one", "tree"])
def test_moved_object_that_cannot_be_removed(
    run: Run, client: CosClient, bucket: str, emulator: Emulator, args: list[str]
) -> None:
    client.put_object(bucket, "d/f", b"x")
    emulator.faults.error("DeleteObject*", "AccessDenied", 403)
    result = run("mv", *(arg.format(f"cos://{bucket}") for arg in args), code=1)
    assert "AccessDenied: it was copied, but cannot be removed: access denied" in result.err
    assert keys(client, bucket) == ["d/f", "p/f"]


def test_bucket_that_is_gone_ends_the_command(
    cos: Cos, bucket: str, emulator: Emulator, tmp_path: Path
) -> None:
    """Not one request and one line for each of very many files."""
    (tmp_path / "d").mkdir()
    for number in range(600):
        (tmp_path / "d" / f"{number}").write_text("x")
    emulator.faults.error("PutObject", "NoSuchBucket", 404, count=0)
    emulator.requests.reset()
    result = cos("cp", "-r", "d", f"cos://{bucket}/")
    emulator.faults.clear()
    assert result.returncode == 1
    assert "stopped: the bucket is not there" in result.stderr
    assert emulator.requests["PutObject"] < 300


def test_a_socket_is_no_source(run: Run, bucket: str, emulator: Emulator) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("sock")
        emulator.requests.reset()
        assert "sock is a socket" in run("cp", "sock", f"cos://{bucket}/k", code=252).err
    assert emulator.requests.total == 0


@pytest.mark.parametrize("command", ["cp", "mv"])
def test_an_object_whose_key_ends_in_a_slash_keeps_it(
    run: Run, client: CosClient, bucket: str, command: str
) -> None:
    """A marker that lost it would be a file where a directory was."""
    client.put_object(bucket, "d/", b"")
    client.put_object(bucket, "e//", b"x")
    run(command, f"cos://{bucket}/d/", f"cos://{bucket}/e//", f"cos://{bucket}/p/")
    assert keys(client, bucket, "p/") == ["p/d/", "p/e//"]


def test_a_destination_that_is_removed_ends_the_command(
    cos: Cos, client: CosClient, bucket: str, emulator: Emulator, tmp_path: Path
) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: client.put_object(bucket, f"{number}", b"x"), range(300)))
    emulator.requests.reset()
    emulator.faults.latency(0.2, "GetObject", skip=30)  # it is not done before the directory is gone

    def remove() -> None:
        end = time.monotonic() + 90
        while emulator.requests["GetObject"] < 30 and time.monotonic() < end:
            time.sleep(0.002)
        while (tmp_path / "out").exists():  # files come while it is emptied
            shutil.rmtree(tmp_path / "out", ignore_errors=True)

    remover = threading.Thread(target=remove)
    remover.start()
    result = cos("cp", "-r", f"cos://{bucket}/", "out", "--concurrency", "4")
    remover.join()
    assert result.returncode == 1
    assert "stopped: the directory it was to be downloaded to is gone" in result.stderr
    assert result.stderr.count("download failed") < 300


FULL_DISK = """
import errno, os
def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")
os.pwrite = full
from cli.main import main
main()
"""


def test_a_full_disk_ends_the_command(
    client: CosClient, bucket: str, emulator: Emulator, cos_environment: dict[str, str], tmp_path: Path
) -> None:
    """Not one GET for each of very many objects, whose bytes have nowhere to go."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: client.put_object(bucket, f"{number}", b"x"), range(600)))
    emulator.requests.reset()
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, "cp", "-r", f"cos://{bucket}/", str(tmp_path / "out")],
        env=cos_environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "stopped: the disk is full" in done.stderr
    assert emulator.requests["GetObject"] < 600


def test_a_link_to_standard_output_is_written_through(
    run: Run, client: CosClient, bucket: str, tmp_path: Path
) -> None:
    """As /dev/stdout is, which root could replace; here standard output is a regular file."""
    client.put_object(bucket, "k", b"data\n")
    (tmp_path / "inner").symlink_to("/proc/self/fd/1")
    (tmp_path / "out").symlink_to("inner")
    assert run("cp", f"cos://{bucket}/k", "out").out == "data\n"
    assert (tmp_path / "out").is_symlink() and (tmp_path / "inner").is_symlink()


FEW_FILES = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
from cli.main import main
sys.exit(main())
"""


def test_a_tree_is_copied_where_few_files_may_be_open(
    client: CosClient, bucket: str, cos_environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    for number in range(300):
        (tmp_path / "in" / str(number)).write_text(str(number))
    for source, target in (
        (str(tmp_path / "in"), f"cos://{bucket}/in/"),
        (f"cos://{bucket}/in/", f"cos://{bucket}/copy/"),
        (f"cos://{bucket}/copy/", str(tmp_path / "out")),
    ):
        done = subprocess.run(
            [sys.executable, "-c", FEW_FILES, "cp", "-r", source, target],
            env=cos_environment,
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stderr) == (0, "")
    assert {path.name: path.read_text() for path in (tmp_path / "out").iterdir()} == {
        str(number): str(number) for number in range(300)
    }
