"""A mount whose process is killed, whose disk is full, whose COS does not answer."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fuse.support import fails_with, tree, until
from tests.fuse.users import User, alive, fails, user_of
from tests.mounting import Mounted, is_mounted
from tests.objects import keys, stored

if TYPE_CHECKING:
    from cosfs.client.client import CosClient
    from cosfs.emulator import Emulator

Mount = Callable[..., Mounted]
MIB = 1024 * 1024

pytestmark = pytest.mark.fuse


# --- nothing is lost


def test_async_file_survives_a_kill(mount: Mount, bucket: str, client: CosClient, emulator: Emulator) -> None:
    first = mount(f"cos://{bucket}", "--write-back", "async")
    fault = emulator.faults.error("PutObject", "ServiceUnavailable", 503, count=0)
    (first.path / "small").write_bytes(b"small")
    (first.path / "small").chmod(0o640)
    data = os.urandom(3 * MIB)
    (first.path / "middle").write_bytes(data)
    (first.path / "renamed").write_bytes(b"r")
    (first.path / "renamed").rename(first.path / "name")
    (first.path / "removed").write_bytes(b"x")
    (first.path / "removed").unlink()
    first.kill()
    assert keys(client, bucket) == []
    emulator.faults.remove(fault)
    second = mount(f"cos://{bucket}", "--metadata-ttl", "0.2s", cache_dir=first.cache_dir)
    expected = {"small": b"small", "middle": data, "name": b"r"}
    until(lambda: keys(client, bucket) == sorted(expected), "the next mount sends what was closed")
    until(lambda: tree(second.path) == expected, "and shows it")
    assert (second.path / "small").stat().st_mode & 0o777 == 0o640
    until(lambda: not list((first.own_dir / "staging").iterdir()), "the staging files are gone")


def test_an_unmount_waits_for_what_an_earlier_mount_left(
    mount: Mount, bucket: str, client: CosClient, emulator: Emulator
) -> None:
    client.put_object(bucket, "theirs", b"theirs")
    first = mount(f"cos://{bucket}", "--write-back", "async")
    # Not refused: if COS had refused the one before the other is made, that would fail at once.
    emulator.faults.error("PutObject", "SlowDown", 503, count=0)
    emulator.faults.error("CopyObject", "SlowDown", 503, count=0)
    (first.path / "theirs").chmod(0o600)
    (first.path / "ours").write_bytes(b"ours")
    first.kill()
    emulator.faults.clear()
    client.create_upload(bucket, "lost")
    with closing(sqlite3.connect(first.own_dir / "journal.db")) as journal, journal:
        row = ("upload", bucket, "lost", json.dumps({"upload_id": "", "at": time.time()}), time.time())
        journal.execute("insert into record (kind, bucket, key, body, written) values (?, ?, ?, ?, ?)", row)
    emulator.faults.latency(0.3)
    second = mount(f"cos://{bucket}", cache_dir=first.cache_dir)
    assert (second.path / "theirs").stat().st_mode & 0o777 == 0o600, "before COS has it"
    assert second.unmount() == 0, second.log_text()
    emulator.faults.clear()
    assert stored(client, bucket, "ours") == b"ours"
    info = client.head_object(bucket, "theirs")
    assert info is not None and info.headers is not None
    assert int(info.headers.metadata["mode"]) & 0o777 == 0o600
    assert client.list_uploads(bucket).uploads == []
    with closing(sqlite3.connect(first.own_dir / "journal.db")) as journal:
        assert journal.execute("select kind, key from record").fetchall() == []


def test_change_of_an_object_survives_a_kill(
    mount: Mount, bucket: str, client: CosClient, emulator: Emulator
) -> None:
    data = os.urandom(20 * MIB)
    client.put_object(bucket, "large", data)
    first = mount(f"cos://{bucket}", "--write-back", "async")
    fault = emulator.faults.error("*Upload*", "AccessDenied", 403, count=0)
    with (first.path / "large").open("r+b") as file:
        file.seek(9 * MIB)
        file.write(b"changed")
    first.kill()
    emulator.faults.remove(fault)
    mount(f"cos://{bucket}", cache_dir=first.cache_dir)
    expected = data[: 9 * MIB] + b"changed" + data[9 * MIB + 7 :]
    until(lambda: stored(client, bucket, "large") == expected, "the next mount sends the change")


def test_kill_while_a_large_file_is_streamed_leaves_the_old_one(
    mount: Mount, bucket: str, client: CosClient
) -> None:
    client.put_object(bucket, "file", b"old")
    mounted = mount(f"cos://{bucket}")
    file = (mounted.path / "file").open("wb", buffering=0)
    for _ in range(20):
        file.write(bytes(MIB))
    mounted.kill()
    with fails_with(errno.ENOTCONN):
        file.write(b"x")
    with fails_with(errno.ENOTCONN):
        file.close()
    assert stored(client, bucket, "file") == b"old"


@pytest.mark.parametrize(
    ("code", "status", "number"), [("AccessDenied", 403, errno.EACCES), ("X", 500, errno.EIO)]
)
def test_close_tells_that_cos_refuses(
    mount: Mount, bucket: str, client: CosClient, emulator: Emulator, code: str, status: int, number: int
) -> None:
    mounted = mount(f"cos://{bucket}", "--max-retries", "1", "--retry-max", "0.3s")
    emulator.faults.error("PutObject", code, status, count=0)
    file = (mounted.path / "file").open("wb", buffering=0)
    file.write(b"precious")
    with fails_with(number):
        os.fsync(file.fileno())
    with fails_with(number):
        file.close()
    assert (mounted.path / "file").read_bytes() == b"precious"
    assert keys(client, bucket) == []
    emulator.faults.clear()
    until(lambda: keys(client, bucket) == ["file"], "it is sent as soon as COS takes it")
    assert stored(client, bucket, "file") == b"precious"
    (mounted.path / "file").write_bytes(b"again")
    assert stored(client, bucket, "file") == b"again"


def test_refused_file_can_be_removed_or_replaced(
    mount: Mount, bucket: str, client: CosClient, emulator: Emulator
) -> None:
    mounted = mount(f"cos://{bucket}")
    emulator.faults.error("PutObject", "AccessDenied", 403, count=0)
    for name in ("removed", "replaced"):
        with fails_with(errno.EACCES):
            (mounted.path / name).write_bytes(b"first")
    (mounted.path / "removed").unlink()
    emulator.faults.clear()
    (mounted.path / "replaced").write_bytes(b"second")
    assert mounted.unmount() == 0
    assert keys(client, bucket) == ["replaced"]
    assert stored(client, bucket, "replaced") == b"second"


def test_large_file_that_fails_half_way_is_sent_later(
    mount: Mount, bucket: str, client: CosClient, emulator: Emulator
) -> None:
    mounted = mount(f"cos://{bucket}", "--retry-max", "0.3s")
    emulator.faults.error("UploadPart", "AccessDenied", 403, count=0)
    data = os.urandom(MIB) * 24
    with fails_with(errno.EACCES):
        (mounted.path / "large").write_bytes(data)
    assert (mounted.path / "large").read_bytes() == data
    emulator.faults.clear()
    until(lambda: keys(client, bucket) == ["large"], "it is sent as soon as COS takes it")
    assert stored(client, bucket, "large") == data
    assert not client.list_uploads(bucket).uploads


# --- a full disk


def free_space(path: Path) -> int:
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


@pytest.mark.parametrize("write_back", ["close", "async"])
def test_full_cache_disk(
    mount: Mount, bucket: str, client: CosClient, small_disk: Path, write_back: str
) -> None:
    data = os.urandom(MIB) * 8
    client.put_object(bucket, "large", data)
    client.put_object(bucket, "small", b"small")
    options = ("--cache-size", "4MB", "--cache-reserve", "10%", "--write-back", write_back)
    mounted = mount(f"cos://{bucket}", *options, cache_dir=small_disk / "cache")
    path = mounted.path
    (path / "before").write_bytes(b"before")
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError):
        while True:
            file.write(bytes(65536))
    with fails_with(errno.ENOSPC), (path / "new").open("wb", buffering=0) as file:
        for _ in range(64):
            file.write(bytes(65536))
    assert (path / "large").read_bytes() == data
    assert (path / "small").read_bytes() == b"small"
    assert (path / "before").read_bytes() == b"before"
    with pytest.raises(OSError), (path / "small").open("r+b") as file:
        file.write(b"S" * 4_000_000)
    assert stored(client, bucket, "small") in (b"small", b"")
    filler.unlink()
    (path / "after").write_bytes(b"after" * 1000)
    assert (path / "after").read_bytes() == b"after" * 1000
    for name in ("new", "small"):
        (path / name).write_bytes(b"better now")
    assert mounted.unmount() == 0, mounted.log_text()
    assert stored(client, bucket, "after") == b"after" * 1000
    assert stored(client, bucket, "new") == b"better now"
    assert stored(client, bucket, "small") == b"better now"
    assert stored(client, bucket, "large") == data


@pytest.mark.parametrize("write_back", ["close", "async"])
def test_blocks_of_the_cache_give_way_to_what_is_written(
    mount: Mount, bucket: str, client: CosClient, small_disk: Path, write_back: str
) -> None:
    read, written = os.urandom(18 * MIB), os.urandom(12 * MIB)
    client.put_object(bucket, "read", read)
    options = ("--cache-reserve", "10%", "--write-back", write_back)
    mounted = mount(f"cos://{bucket}", *options, cache_dir=small_disk / "cache")
    assert (mounted.path / "read").read_bytes() == read
    until(lambda: free_space(small_disk) < 8 * MIB, "what was read is in the cache")
    (mounted.path / "written").write_bytes(written)
    assert (mounted.path / "written").read_bytes() == written
    assert (mounted.path / "read").read_bytes() == read
    assert mounted.unmount() == 0, mounted.log_text()
    assert stored(client, bucket, "written") == written


@pytest.mark.parametrize("write_back", ["close", "async"])
def test_a_file_larger_than_the_disk(
    mount: Mount, bucket: str, client: CosClient, small_disk: Path, write_back: str
) -> None:
    mounted = mount(f"cos://{bucket}", "--write-back", write_back, cache_dir=small_disk / "cache")
    chunks = [os.urandom(MIB) for _ in range(60)]
    with (mounted.path / "large").open("w+b", buffering=0) as file:
        for chunk in chunks:
            file.write(chunk)
        for number in (0, 30, 59):
            file.seek(number * MIB)
            assert file.read(MIB) == chunks[number]
        chunks[7] = os.urandom(MIB)
        file.seek(7 * MIB)
        file.write(chunks[7])
    assert (mounted.path / "large").read_bytes() == b"".join(chunks)
    assert mounted.unmount() == 0, mounted.log_text()
    assert stored(client, bucket, "large") == b"".join(chunks)
    assert not client.list_uploads(bucket).uploads


def test_writers_wait_for_files_that_fill_the_disk(
    mount: Mount, bucket: str, client: CosClient, small_disk: Path
) -> None:
    mounted = mount(f"cos://{bucket}", "--write-back", "async", cache_dir=small_disk / "cache")
    data = os.urandom(4 * MIB)
    for number in range(20):
        (mounted.path / f"{number:02}").write_bytes(data[number:])
    assert mounted.unmount() == 0, mounted.log_text()
    for number in range(20):
        assert stored(client, bucket, f"{number:02}") == data[number:]


def test_a_cache_directory_that_somebody_removed_is_an_io_error(
    mount: Mount, bucket: str, client: CosClient
) -> None:
    """Not ENOENT, which would be about the file that is written."""
    mounted = mount(f"cos://{bucket}")
    (mounted.path / "before").write_bytes(b"x" * MIB)
    shutil.rmtree(mounted.cache_dir)
    with fails_with(errno.EIO):
        (mounted.path / "after").write_bytes(b"x" * MIB)
    assert (mounted.path / "before").read_bytes() == b"x" * MIB
    assert str(mounted.cache_dir) in mounted.log_text()


def test_mounting_with_a_full_cache_disk(user: User, bucket: str, small_disk: Path) -> None:
    with (small_disk / "filler").open("wb", buffering=0) as file, pytest.raises(OSError):
        while True:
            file.write(bytes(4096))
    cache = small_disk / "cache"
    fails(user, f"cos://{bucket}", user.mountpoint, "--cache-dir", cache, code=253, says="cannot be written")


# --- no network


@pytest.mark.parametrize("write_back", ["close", "async"])
def test_network_loss(server: Emulator, tmp_path: Path, write_back: str) -> None:
    with user_of(server, tmp_path.resolve() / "home") as user:
        path = user.mountpoint
        options = ("--write-back", write_back, "--metadata-ttl", "1s", "--max-retries", "1")
        user.mount("cos://b-1250000000", *options, "--io-timeout", "4s", "--retry-max", "1s")
        data = os.urandom(3 * MIB)
        (path / "cached").write_bytes(data)
        (path / "removed").write_bytes(b"x")
        until(lambda: user.one()["pending_files"] == 0, "both are sent")
        assert os.listdir(path)  # noqa: PTH208
        server.stop()
        with (path / "cached").open("rb") as file:
            assert file.read() == data
        if write_back == "close":
            with pytest.raises(OSError) as caught:
                (path / "new").write_bytes(b"written without a network")
            assert caught.value.errno in (errno.EIO, errno.ETIMEDOUT)
        else:
            (path / "new").write_bytes(b"written without a network")
        assert (path / "new").read_bytes() == b"written without a network"
        time.sleep(1.1)  # what is known is old now, and still the best there is
        assert sorted(os.listdir(path)) == ["cached", "new", "removed"]  # noqa: PTH208
        with pytest.raises(OSError):
            (path / "unknown").stat()
        with pytest.raises(OSError):
            (path / "dir").mkdir()
        found = user.one()
        assert found["state"] == "running" and found["pending_files"] == 1
        done = user.cos("umount", path)
        assert done.returncode == 255 and "b-1250000000/new" in done.stderr
        server.start()
        until(lambda: user.one()["pending_files"] == 0, "what was written is sent")
        assert tree(path) == {"cached": data, "removed": b"x", "new": b"written without a network"}
        (path / "removed").unlink()
        assert user.cos("umount", path).returncode == 0
        assert "Traceback" not in user.log()


def is_readable(path: Path) -> bool:
    """Whether a file can be read that has to be asked for."""
    try:
        return bool(path.read_bytes())
    except OSError:
        return False


def test_server_that_hangs(mount: Mount, bucket: str, client: CosClient, emulator: Emulator) -> None:
    client.put_object(bucket, "file", b"x" * 1000)
    client.put_object(bucket, "other", b"y")
    options = ("--read-timeout", "3", "--max-retries", "0", "--metadata-ttl", "1s", "--io-timeout", "3s")
    path = mount(f"cos://{bucket}", *options).path
    assert (path / "file").read_bytes() == b"x" * 1000
    assert (path / "other").exists()
    emulator.faults.latency(3600.0)
    for call in (
        lambda: (path / "other").read_bytes(),
        lambda: (path / "new").write_bytes(b"x"),
        lambda: (path / "dir").mkdir(),
    ):
        with pytest.raises(OSError) as caught:
            call()
        assert caught.value.errno in (errno.EIO, errno.ETIMEDOUT)
    emulator.faults.clear()
    until(lambda: is_readable(path / "other"), "the mount has found out that COS answers")
    (path / "new").write_bytes(b"again")
    assert stored(client, bucket, "new") == b"again"
    (path / "dir").mkdir()
    assert (path / "other").read_bytes() == b"y"


def test_end_without_a_network(server: Emulator, tmp_path: Path) -> None:
    with user_of(server, tmp_path.resolve() / "home") as user:
        user.mount("cos://b-1250000000", "--write-back", "async", "--max-retries", "1")
        for name in ("a", "b"):
            (user.mountpoint / name).write_bytes(b"sent")
        until(lambda: user.one()["pending_files"] == 0, "both are sent")
        server.stop()
        (user.mountpoint / "a").unlink()
        (user.mountpoint / "c").write_bytes(b"kept")
        pid = user.one()["pid"]
        os.kill(pid, signal.SIGTERM)
        until(lambda: not alive(pid), "the process ends although nothing can be sent")
        assert not is_mounted(user.mountpoint)
        server.start()
        user.mount("cos://b-1250000000", "--metadata-ttl", "0.2s")
        until(lambda: tree(user.mountpoint) == {"b": b"sent", "c": b"kept"}, "the next mount finishes it all")


def test_answers_that_break_off(mount: Mount, bucket: str, client: CosClient, emulator: Emulator) -> None:
    data = os.urandom(MIB) * 12
    client.put_object(bucket, "file", data)
    path = mount(f"cos://{bucket}").path
    emulator.faults.truncate("GetObject", 300_000, count=2)
    emulator.faults.reset("GetObject", count=1)
    emulator.faults.reset("PutObject", count=1)
    emulator.faults.reset("PutObject", count=1, after=True)
    emulator.faults.error("ListObjects", "SlowDown", 503, count=1)
    emulator.faults.error("HeadObject", "InternalError", 500, count=1)
    assert (path / "file").read_bytes() == data
    (path / "one").write_bytes(b"1")
    (path / "two").write_bytes(b"2")
    assert tree(path) == {"file": data, "one": b"1", "two": b"2"}
    assert keys(client, bucket) == ["file", "one", "two"]
