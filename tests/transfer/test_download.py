"""Objects to files and streams: whole and verified, or not there."""

from __future__ import annotations

import io
import os
import stat
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from cosfs.client.client import CosClient
from cosfs.client.crc64 import crc64
from cosfs.client.model import ObjectInfo
from cosfs.emulator import Emulator
from cosfs.errors import IntegrityError, ObjectNotFoundError, PreconditionFailedError, TransferError
from cosfs.transfer.download import download_file, download_stream
from cosfs.transfer.engine import Engine
from cosfs.transfer.options import TransferOptions
from cosfs.transfer.paths import DestinationRoot
from cosfs.transfer.receive import write_to
from cosfs.units import KIB, MIB
from tests.transfer.support import (
    HELD,
    SMALL_LIMITS,
    Holding,
    Moved,
    cancelled,
    content,
    open_descriptors,
    settled,
)

SIZES = [0, 1, 4 * KIB, MIB, MIB + 1, 3 * MIB - 1, 3 * MIB, 7 * MIB + 11]


def put(client: CosClient, bucket: str, size: int, seed: int = 0) -> bytes:
    data = content(size, seed)
    client.put_object(bucket, "k", data)
    return data


def listed(client: CosClient, bucket: str) -> ObjectInfo:
    return client.list_objects(bucket).objects[0]


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("known", [True, False])
async def test_download(
    engine: Engine,
    client: CosClient,
    bucket: str,
    emulator: Emulator,
    tmp_path: Path,
    size: int,
    known: bool,
) -> None:
    data = put(client, bucket, size)
    info = listed(client, bucket) if known else None
    emulator.requests.reset()
    moved = Moved()
    target = tmp_path / "new/dir/file"
    result = await download_file(engine, bucket, "k", target, info=info, progress=moved)
    await trio.sleep(0.01)
    assert target.read_bytes() == data
    assert names(target.parent) == ["file"]
    assert (result.size, result.crc64, result.verified, result.attempts) == (size, crc64(data), "crc64", 1)
    assert moved.total == size
    requests = emulator.requests.snapshot()
    if size == 0 and not known:
        # The range that was asked for is outside of the object.
        assert requests.pop("HeadObject") == 1
    assert set(requests) == {"GetObject"}
    if known or size:
        assert requests["GetObject"] == (1 if known and size < 3 * MIB else max(1, -(-size // MIB)))


async def test_file_is_as_others_are(engine: Engine, client: CosClient, bucket: str, tmp_path: Path) -> None:
    put(client, bucket, 10)
    (tmp_path / "ours").touch()
    await download_file(engine, bucket, "k", tmp_path / "f")
    info = client.head_object(bucket, "k")
    assert info is not None
    found = (tmp_path / "f").stat()
    assert found.st_mtime == info.last_modified
    assert stat.S_IMODE(found.st_mode) == stat.S_IMODE((tmp_path / "ours").stat().st_mode)
    await download_file(
        engine, bucket, "k", tmp_path / "g", options=TransferOptions(set_mtime=False, fsync=True)
    )
    assert (tmp_path / "g").stat().st_mtime != info.last_modified


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o755])
async def test_a_file_that_is_replaced_hands_its_permissions_on(
    engine: Engine, client: CosClient, bucket: str, tmp_path: Path, mode: int
) -> None:
    data = put(client, bucket, 10)
    target = tmp_path / "f"
    target.write_text("before")
    target.chmod(mode | stat.S_ISUID)
    await download_file(engine, bucket, "k", target)
    assert (stat.S_IMODE(target.stat().st_mode), target.read_bytes()) == (mode, data)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("open_to_all", [False, True])
async def test_as_root_the_owner_stays_unless_the_file_may_be_a_trap(
    engine: Engine, client: CosClient, bucket: str, tmp_path: Path, open_to_all: bool
) -> None:
    put(client, bucket, 10)
    target = tmp_path / "d" / "f"
    target.parent.mkdir()
    target.parent.chmod(0o1777 if open_to_all else 0o755)
    target.write_text("before")
    target.chmod(0o666)
    os.chown(target, 1234, 1235)
    await download_file(engine, bucket, "k", target)
    found = target.stat()
    (tmp_path / "new").touch()
    new = (tmp_path / "new").stat()
    expected = (new.st_uid, new.st_gid, new.st_mode) if open_to_all else (1234, 1235, stat.S_IFREG | 0o666)
    assert (found.st_uid, found.st_gid, found.st_mode) == expected


async def test_existing_file_is_replaced_in_one_step(
    engine: Engine, client: CosClient, bucket: str, tmp_path: Path
) -> None:
    data = put(client, bucket, 5 * MIB)
    (tmp_path / "f").write_text("before")
    with (tmp_path / "f").open() as before:
        await download_file(engine, bucket, "k", tmp_path / "f")
        assert before.read() == "before"
    assert (tmp_path / "f").read_bytes() == data


@pytest.mark.parametrize("name", ["好" * 85, "x" * 255])
async def test_target_with_the_longest_name(
    engine: Engine, client: CosClient, bucket: str, tmp_path: Path, name: str
) -> None:
    data = put(client, bucket, 10)
    await download_file(engine, bucket, "k", tmp_path / name)
    assert (tmp_path / name).read_bytes() == data


@pytest.mark.parametrize("size", [10, 5 * MIB])
async def test_directory_in_the_way(
    engine: Engine, client: CosClient, bucket: str, tmp_path: Path, size: int
) -> None:
    put(client, bucket, size)
    (tmp_path / "f").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        await download_file(engine, bucket, "k", tmp_path / "f")
    assert caught.value.filename == str(tmp_path / "f")
    assert names(tmp_path) == ["f"]


async def test_missing_object(engine: Engine, bucket: str, tmp_path: Path) -> None:
    with pytest.raises(ObjectNotFoundError):
        await download_file(engine, bucket, "k", tmp_path / "f")
    assert names(tmp_path) == []


async def test_below_a_root(engine: Engine, client: CosClient, bucket: str, tmp_path: Path) -> None:
    data = put(client, bucket, 5 * MIB)
    outside = tmp_path / "outside"
    outside.mkdir()
    with DestinationRoot(tmp_path / "root") as root:
        await download_file(engine, bucket, "k", root.target("a/b/file"))
        (tmp_path / "root/link").symlink_to(outside)
        with pytest.raises(TransferError, match="symbolic link"):
            await download_file(engine, bucket, "k", root.target("link/file"))
        # A link in place of the file itself is replaced, not followed.
        (tmp_path / "root/file").symlink_to(outside / "file")
        await download_file(engine, bucket, "k", root.target("file"), info=listed(client, bucket))
    assert (tmp_path / "root/a/b/file").read_bytes() == data
    assert (tmp_path / "root/file").read_bytes() == data
    assert names(outside) == []


async def test_fifo_is_streamed_to(engine: Engine, client: CosClient, bucket: str, tmp_path: Path) -> None:
    data = put(client, bucket, 5 * MIB)
    os.mkfifo(tmp_path / "fifo")
    got: list[bytes] = []

    async def read() -> None:
        got.append(await trio.to_thread.run_sync((tmp_path / "fifo").read_bytes))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        result = await download_file(engine, bucket, "k", tmp_path / "fifo")
    assert got == [data]
    assert result.verified == "crc64"
    assert stat.S_ISFIFO((tmp_path / "fifo").stat().st_mode)


# --- faults


@pytest.mark.parametrize("size", [2 * MIB, 5 * MIB])
@pytest.mark.parametrize("kind", ["truncate", "reset", "stall"])
async def test_broken_bodies_are_continued(
    engine: Engine,
    client: CosClient,
    bucket: str,
    emulator: Emulator,
    tmp_path: Path,
    size: int,
    kind: str,
) -> None:
    data = put(client, bucket, size)
    info = listed(client, bucket)
    if kind == "truncate":
        emulator.faults.truncate(offset=500_000, count=2)
    elif kind == "reset":
        emulator.faults.reset("GetObject", count=2)
    else:
        emulator.faults.stall(0.2, offset=100_000)
    emulator.requests.reset()
    moved = Moved()
    await download_file(engine, bucket, "k", tmp_path / "f", info=info, progress=moved)
    await trio.sleep(0.01)
    assert (tmp_path / "f").read_bytes() == data
    assert moved.total == size
    if kind == "truncate":
        # Only what was missing came again.
        assert emulator.requests.bytes_sent < size + 2 * MIB


async def test_busy_service_is_got_over(
    engine: Engine, client: CosClient, bucket: str, emulator: Emulator, tmp_path: Path
) -> None:
    data = put(client, bucket, 6 * MIB)
    emulator.faults.error("GetObject", "SlowDown", 503, count=2, every=2)
    await download_file(engine, bucket, "k", tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == data


@pytest.mark.parametrize("size", [2 * MIB, 5 * MIB])
async def test_flipped_byte_is_noticed_and_fetched_again(
    engine: Engine, client: CosClient, bucket: str, emulator: Emulator, tmp_path: Path, size: int
) -> None:
    data = put(client, bucket, size)
    emulator.faults.corrupt(offset=1000)
    moved = Moved()
    result = await download_file(
        engine, bucket, "k", tmp_path / "f", info=listed(client, bucket), progress=moved
    )
    await trio.sleep(0.01)
    assert (tmp_path / "f").read_bytes() == data
    assert result.attempts == 2
    assert moved.total == size


@pytest.mark.parametrize("size", [2 * MIB, 5 * MIB])
async def test_damage_that_stays_leaves_no_file(
    engine: Engine, client: CosClient, bucket: str, emulator: Emulator, tmp_path: Path, size: int
) -> None:
    put(client, bucket, size)
    (tmp_path / "f").write_text("before")
    emulator.faults.corrupt(offset=1000, count=0)
    with pytest.raises(IntegrityError):
        await download_file(engine, bucket, "k", tmp_path / "f", info=listed(client, bucket))
    assert (tmp_path / "f").read_text() == "before"
    assert names(tmp_path) == ["f"]


class Interfering:
    """A client that does something once a number of GETs were made."""

    def __init__(self, client: CosClient, interfere: Any, gets: int, times: int = 1) -> None:
        self._client = client
        self._interfere = interfere
        self._gets = gets
        self._times = times
        self._lock = threading.Lock()
        self._made = 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        return self._counted(method) if name == "get_object" else method

    def _counted(self, method: Any) -> Any:
        def counted(*args: Any, **kwargs: Any) -> Any:
            with self._lock:
                self._made += 1
                if self._made % self._gets == 0 and self._times:
                    self._times -= 1
                    self._interfere()
            return method(*args, **kwargs)

        return counted


@pytest.mark.parametrize("known", [True, False])
async def test_object_replaced_meanwhile_is_begun_again(
    client: CosClient, bucket: str, tmp_path: Path, known: bool
) -> None:
    put(client, bucket, 6 * MIB)
    info = listed(client, bucket) if known else None
    new = content(8 * MIB, 2)
    interfering: Any = Interfering(client, lambda: client.put_object(bucket, "k", new), 3)
    moved = Moved()
    async with Engine(interfering, SMALL_LIMITS) as engine:
        result = await download_file(engine, bucket, "k", tmp_path / "f", info=info, progress=moved)
        await trio.sleep(0.01)
        await settled(engine)
    assert (tmp_path / "f").read_bytes() == new
    assert result.attempts == 2
    assert moved.total == len(new)


async def test_object_that_keeps_being_replaced_fails(client: CosClient, bucket: str, tmp_path: Path) -> None:
    put(client, bucket, 6 * MIB)
    seeds = iter(range(1000))
    interfering: Any = Interfering(
        client, lambda: client.put_object(bucket, "k", content(6 * MIB, next(seeds))), 3, 1000
    )
    async with Engine(interfering, SMALL_LIMITS) as engine:
        with pytest.raises(PreconditionFailedError):
            await download_file(engine, bucket, "k", tmp_path / "f")
        await settled(engine)
    assert names(tmp_path) == []


async def test_listing_that_is_out_of_date(
    engine: Engine, client: CosClient, bucket: str, tmp_path: Path
) -> None:
    put(client, bucket, 100)
    old = listed(client, bucket)
    data = put(client, bucket, 2 * MIB, 1)
    await download_file(engine, bucket, "k", tmp_path / "f", info=old)
    assert (tmp_path / "f").read_bytes() == data


@pytest.mark.parametrize(("md5", "verified"), [(True, "md5"), (False, "size")])
@pytest.mark.parametrize("size", [100, 5 * MIB])
async def test_without_a_checksum_of_cos(
    client: CosClient, bucket: str, tmp_path: Path, size: int, md5: bool, verified: str
) -> None:
    """Objects stored long ago have no CRC; those made of parts no MD5 either."""

    class Old:
        def __getattr__(self, name: str) -> Any:
            method = getattr(client, name)
            if name != "get_object":
                return method

            def old(*args: Any, **kwargs: Any) -> Any:
                kwargs["if_match"] = ""
                stream = method(*args, **kwargs)
                etag = stream.info.etag if md5 else "0" * 32 + "-2"
                stream.info = replace(stream.info, crc64=None, etag=etag)
                return stream

            return old

    data = put(client, bucket, size)
    without: Any = Old()
    async with Engine(without, SMALL_LIMITS) as engine:
        result = await download_file(engine, bucket, "k", tmp_path / "f")
    assert result.verified == verified
    assert (tmp_path / "f").read_bytes() == data


# --- cancelling


@pytest.mark.parametrize("size", [2 * MIB, 6 * MIB])
@pytest.mark.parametrize("known", [True, False])
async def test_cancelled_download_leaves_nothing(
    client: CosClient, bucket: str, emulator: Emulator, tmp_path: Path, size: int, known: bool
) -> None:
    put(client, bucket, size)
    info = listed(client, bucket) if known else None
    (tmp_path / "f").write_text("before")
    client.close()
    await trio.sleep(0.05)
    before = open_descriptors()
    held = emulator.faults.stall(HELD, "GetObject", offset=100_000, count=0)
    async with Engine(client, SMALL_LIMITS) as engine:
        download = partial(download_file, engine, bucket, "k", tmp_path / "f", info=info)
        await cancelled(download, lambda: held.struck and len(names(tmp_path)) > 1)
        # At once, not when the threads find out.
        assert names(tmp_path) == ["f"]
        emulator.faults.release(held)
        await settled(engine)
    assert (tmp_path / "f").read_text() == "before"
    assert names(tmp_path) == ["f"]
    client.close()
    with trio.fail_after(100):
        while open_descriptors() > before:  # noqa: ASYNC110
            await trio.sleep(0.01)


@pytest.mark.parametrize("size", [2 * MIB, 6 * MIB])
async def test_cancelled_download_ends_before_its_threads_find_out(
    client: CosClient, bucket: str, tmp_path: Path, size: int
) -> None:
    put(client, bucket, size)
    holding: Any = Holding(client, "get_object")
    async with Engine(holding, SMALL_LIMITS) as engine:
        with trio.move_on_after(0.1) as scope:
            await download_file(engine, bucket, "k", tmp_path / "f")
        assert scope.cancelled_caught and not holding.ended
        assert names(tmp_path) == []
        holding.release.set()
        await settled(engine)
    assert names(tmp_path) == []


# --- streams


@pytest.mark.parametrize("size", [0, 1, MIB, MIB + 1, 7 * MIB + 11])
async def test_stream(engine: Engine, client: CosClient, bucket: str, emulator: Emulator, size: int) -> None:
    data = put(client, bucket, size)
    sink = io.BytesIO()
    moved = Moved()
    result = await download_stream(engine, bucket, "k", sink, progress=moved)
    await trio.sleep(0.01)
    assert sink.getvalue() == data
    assert (result.size, result.crc64, moved.total) == (size, crc64(data), size)
    assert result.verified == "crc64"
    assert engine.buffers.used == 0


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 10), (5, 5), (100, 2 * MIB), (MIB, None), (3 * MIB, 100 * MIB), (0, None)]
)
async def test_part_of_an_object(
    engine: Engine, client: CosClient, bucket: str, start: int, stop: int | None
) -> None:
    data = put(client, bucket, 4 * MIB)
    sink = io.BytesIO()
    result = await download_stream(engine, bucket, "k", sink, start=start, stop=stop)
    assert sink.getvalue() == data[start:stop]
    assert result.size == len(data[start:stop])


async def test_sink_that_takes_little(engine: Engine, client: CosClient, bucket: str) -> None:
    class Sink:
        def __init__(self) -> None:
            self.data = bytearray()

        def write(self, data: memoryview) -> int:
            self.data += data[:100_003]
            return min(len(data), 100_003)

    data = put(client, bucket, 3 * MIB)
    sink = Sink()
    await download_stream(engine, bucket, "k", sink)
    assert sink.data == data


async def test_sink_that_breaks(engine: Engine, client: CosClient, bucket: str) -> None:
    class Sink:
        def write(self, data: memoryview) -> int:
            raise BrokenPipeError("nobody reads")

    put(client, bucket, 5 * MIB)
    with pytest.raises(BrokenPipeError):
        await download_stream(engine, bucket, "k", Sink())
    assert engine.buffers.used == 0


async def test_stream_is_verified(engine: Engine, client: CosClient, bucket: str, emulator: Emulator) -> None:
    put(client, bucket, 5 * MIB)
    emulator.faults.corrupt(offset=1000)
    with pytest.raises(IntegrityError, match="damaged"):
        await download_stream(engine, bucket, "k", io.BytesIO())


async def test_stream_never_mixes_two_objects(client: CosClient, bucket: str) -> None:
    put(client, bucket, 6 * MIB)
    interfering: Any = Interfering(client, lambda: client.put_object(bucket, "k", content(6 * MIB, 1)), 3)
    async with Engine(interfering, SMALL_LIMITS) as engine:
        with pytest.raises(PreconditionFailedError):
            await download_stream(engine, bucket, "k", io.BytesIO())
        await settled(engine)


async def test_cancelled_stream_gives_its_memory_back(engine: Engine, client: CosClient, bucket: str) -> None:
    release = threading.Event()

    class Sink:
        def write(self, data: memoryview) -> int:
            release.wait(60)
            return len(data)

    put(client, bucket, 6 * MIB)
    with trio.move_on_after(0.3) as scope:
        await download_stream(engine, bucket, "k", Sink())
    release.set()
    assert scope.cancelled_caught
    assert engine.buffers.used == 0


def test_what_arrives_is_written_in_small_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page cache takes memory in blocks as long as a write, and large ones are dear."""
    data = content(200 * KIB + 7)
    pieces: list[int] = []
    pwrite = os.pwrite

    def write(fd: int, piece: memoryview, position: int) -> int:
        pieces.append(len(piece))
        return pwrite(fd, piece, position)

    with (tmp_path / "f").open("wb") as file:
        monkeypatch.setattr(os, "pwrite", write)
        write_to(file.fileno())(memoryview(data), 0)
    assert (tmp_path / "f").read_bytes() == data
    assert pieces == [32 * KIB] * 6 + [8 * KIB + 7]
