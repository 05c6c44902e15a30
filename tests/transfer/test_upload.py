"""Files and streams to COS, with everything that can go wrong on the way."""

from __future__ import annotations

import io
import os
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from cosfs.client.client import CosClient
from cosfs.client.crc64 import crc64
from cosfs.client.model import Headers
from cosfs.config import TransferSettings
from cosfs.emulator import Emulator
from cosfs.errors import (
    AlreadyExistsError,
    BucketNotFoundError,
    IntegrityError,
    ServerError,
    SourceChangedError,
    UsageError,
)
from cosfs.transfer.engine import Engine
from cosfs.transfer.multipart import MultipartUpload
from cosfs.transfer.options import TransferOptions
from cosfs.transfer.upload import upload_file, upload_stream
from cosfs.units import KIB, MIB
from tests.objects import stored
from tests.transfer.support import (
    HELD,
    SMALL_LIMITS,
    Holding,
    Moved,
    cancelled,
    content,
    make_file,
    open_descriptors,
    open_uploads,
    settled,
)


@pytest.mark.parametrize("size", [0, 1, 4 * KIB, MIB, MIB + 1, 3 * MIB - 1])
async def test_small_file_is_one_put(
    engine: Engine, client: CosClient, bucket: str, emulator: Emulator, tmp_path: Path, size: int
) -> None:
    data = make_file(tmp_path / "f", size)
    moved = Moved()
    result = await upload_file(engine, tmp_path / "f", bucket, "k", progress=moved)
    assert emulator.requests.snapshot() == {"PutObject": 1}
    await trio.sleep(0.01)
    assert moved.total == size
    assert (result.size, result.crc64, result.verified, result.attempts) == (size, crc64(data), "crc64", 1)
    assert stored(client, bucket, "k") == data


@pytest.mark.parametrize("size", [3 * MIB, 5 * MIB + 1, 20 * MIB])
async def test_large_file_is_its_parts_and_two_requests(
    engine: Engine, client: CosClient, bucket: str, emulator: Emulator, tmp_path: Path, size: int
) -> None:
    data = make_file(tmp_path / "f", size)
    moved = Moved()
    result = await upload_file(engine, tmp_path / "f", bucket, "k", progress=moved)
    assert emulator.requests.snapshot() == {
        "CreateMultipartUpload": 1,
        "UploadPart": -(-size // MIB),
        "CompleteMultipartUpload": 1,
    }
    assert moved.total == size
    assert (result.size, result.crc64, result.verified) == (size, crc64(data), "crc64")
    assert stored(client, bucket, "k") == data


async def test_headers_arrive_either_way(
    engine: Engine, client: CosClient, bucket: str, tmp_path: Path
) -> None:
    headers = Headers(content_type="text/x-test", cache_control="no-store", metadata={"colour": "blue"})
    for size in (10, 4 * MIB):
        make_file(tmp_path / "f", size)
        await upload_file(engine, tmp_path / "f", bucket, "k", headers=headers)
        info = client.head_object(bucket, "k")
        assert info is not None
        assert info.headers is not None
        assert info.headers.content_type == "text/x-test"
        assert info.headers.cache_control == "no-store"
        assert info.headers.metadata["colour"] == "blue"


@pytest.mark.parametrize("size", [10, 4 * MIB])
async def test_forbidden_overwrite_leaves_the_object(
    engine: Engine, client: CosClient, bucket: str, tmp_path: Path, size: int
) -> None:
    client.put_object(bucket, "k", b"before")
    make_file(tmp_path / "f", size)
    with pytest.raises(AlreadyExistsError):
        await upload_file(engine, tmp_path / "f", bucket, "k", forbid_overwrite=True)
    assert stored(client, bucket, "k") == b"before"
    assert open_uploads(client, bucket) == []


async def test_files_that_say_nothing_about_their_size(
    engine: Engine, client: CosClient, bucket: str
) -> None:
    await upload_file(engine, "/proc/self/status", bucket, "k")
    assert stored(client, bucket, "k").startswith(b"Name:")


async def test_what_is_no_file_is_refused(engine: Engine, bucket: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo", Path("/dev/null")):
        with pytest.raises(UsageError):
            await upload_file(engine, path, bucket, "k")
    with pytest.raises(FileNotFoundError):
        await upload_file(engine, tmp_path / "nothing", bucket, "k")


async def test_missing_bucket(engine: Engine, tmp_path: Path) -> None:
    make_file(tmp_path / "f", 4 * MIB)
    with pytest.raises(BucketNotFoundError):
        await upload_file(engine, tmp_path / "f", "nowhere-1250000000", "k")


# --- faults


@pytest.mark.parametrize(
    "operation", ["PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"]
)
@pytest.mark.parametrize("after", [False, True])
async def test_reset_connections_are_got_over(
    engine: Engine,
    client: CosClient,
    bucket: str,
    emulator: Emulator,
    tmp_path: Path,
    operation: str,
    after: bool,
) -> None:
    data = make_file(tmp_path / "f", 2 * MIB if operation == "PutObject" else 5 * MIB)
    fault = emulator.faults.reset(operation, after=after)
    moved = Moved()
    result = await upload_file(engine, tmp_path / "f", bucket, "k", progress=moved)
    assert fault.struck == 1
    await trio.sleep(0.01)
    assert moved.total == len(data)
    assert result.crc64 == crc64(data)
    assert stored(client, bucket, "k") == data


async def test_busy_service_is_got_over(
    engine: Engine, client: CosClient, bucket: str, emulator: Emulator, tmp_path: Path
) -> None:
    data = make_file(tmp_path / "f", 6 * MIB)
    emulator.faults.error("UploadPart", "SlowDown", 503, count=2, every=2)
    await upload_file(engine, tmp_path / "f", bucket, "k")
    assert stored(client, bucket, "k") == data


async def test_failed_upload_is_aborted(
    engine: Engine, client: CosClient, bucket: str, emulator: Emulator, tmp_path: Path
) -> None:
    client.put_object(bucket, "k", b"before")
    make_file(tmp_path / "f", 6 * MIB)
    emulator.faults.error("UploadPart", "AccessDenied", 403, count=1)
    with pytest.raises(Exception, match="AccessDenied"):
        await upload_file(engine, tmp_path / "f", bucket, "k")
    assert open_uploads(client, bucket) == []
    assert stored(client, bucket, "k") == b"before"


@pytest.mark.parametrize("size", [2 * MIB, 5 * MIB])
async def test_damage_on_the_way_is_sent_again(
    engine: Engine, client: CosClient, bucket: str, emulator: Emulator, tmp_path: Path, size: int
) -> None:
    data = make_file(tmp_path / "f", size)
    emulator.faults.error("UploadPart", "BadDigest", 400, count=1)
    emulator.faults.error("PutObject", "BadDigest", 400, count=1)
    await upload_file(engine, tmp_path / "f", bucket, "k")
    assert stored(client, bucket, "k") == data


@pytest.mark.parametrize("size", [2 * MIB, 5 * MIB])
async def test_damage_that_stays_is_an_error(
    engine: Engine, client: CosClient, bucket: str, emulator: Emulator, tmp_path: Path, size: int
) -> None:
    make_file(tmp_path / "f", size)
    emulator.faults.error("UploadPart", "BadDigest", 400, count=0)
    emulator.faults.error("PutObject", "BadDigest", 400, count=0)
    moved = Moved()
    with pytest.raises(IntegrityError):
        await upload_file(engine, tmp_path / "f", bucket, "k", progress=moved)
    await trio.sleep(0.01)
    assert moved.total == 0
    assert client.list_objects(bucket).objects == []
    assert open_uploads(client, bucket) == []


CHECKED = [(2 * MIB, "put_object"), (5 * MIB, "upload_part"), (5 * MIB, "complete_upload")]


@pytest.mark.parametrize(("size", "operation"), CHECKED)
async def test_wrong_checksum_from_cos_is_tried_again(
    client: CosClient, bucket: str, tmp_path: Path, size: int, operation: str
) -> None:
    data = make_file(tmp_path / "f", size)
    moved = Moved()
    damaging: Any = Interfering(client, operation, damage, 1)
    async with Engine(damaging, SMALL_LIMITS) as engine:
        await upload_file(engine, tmp_path / "f", bucket, "k", progress=moved)
        await trio.sleep(0.01)
    assert moved.total == size
    assert stored(client, bucket, "k") == data
    assert open_uploads(client, bucket) == []


@pytest.mark.parametrize(("size", "operation"), CHECKED)
async def test_checksum_that_stays_wrong_is_an_error(
    client: CosClient, bucket: str, tmp_path: Path, size: int, operation: str
) -> None:
    make_file(tmp_path / "f", size)
    damaging: Any = Interfering(client, operation, damage, 1000)
    async with Engine(damaging, SMALL_LIMITS) as engine:
        with pytest.raises(IntegrityError, match="has not what was sent"):
            await upload_file(engine, tmp_path / "f", bucket, "k")
        await settled(engine)
    assert open_uploads(client, bucket) == []


# --- a source that changes


class Interfering:
    """A client that does something to the file each time a request of one kind is made."""

    def __init__(self, client: CosClient, operation: str, interfere: Any, times: int) -> None:
        self._client = client
        self._operation = operation
        self._interfere = interfere
        self._times = times

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if name == self._operation and self._times:

            def interfered(*args: Any, **kwargs: Any) -> Any:
                if self._times:
                    self._times -= 1
                    self._interfere()
                return method(*args, **kwargs)

            return interfered
        return method


def damage() -> None:
    raise IntegrityError("COS has not what was sent")


@pytest.mark.parametrize(("size", "operation"), [(2 * MIB, "put_object"), (5 * MIB, "upload_part")])
@pytest.mark.parametrize("how", ["appended", "shortened", "rewritten"])
async def test_source_that_changes_is_sent_again(
    client: CosClient, bucket: str, tmp_path: Path, size: int, operation: str, how: str
) -> None:
    path = tmp_path / "f"
    make_file(path, size)
    changed = {
        "appended": content(size + 1, 2),
        "shortened": content(size // 2, 2),
        "rewritten": content(size, 2),
    }[how]
    interfering: Any = Interfering(client, operation, lambda: path.write_bytes(changed), 1)
    async with Engine(interfering, SMALL_LIMITS) as engine:
        result = await upload_file(engine, path, bucket, "k")
    assert stored(client, bucket, "k") == changed
    assert result.attempts == 2
    assert open_uploads(client, bucket) == []


@pytest.mark.parametrize(("size", "operation"), [(2 * MIB, "put_object"), (5 * MIB, "upload_part")])
async def test_source_that_keeps_changing_fails(
    client: CosClient, bucket: str, tmp_path: Path, size: int, operation: str
) -> None:
    path = tmp_path / "f"
    make_file(path, size)

    def append() -> None:
        with path.open("ab") as file:
            file.write(b"more")

    interfering: Any = Interfering(client, operation, append, 1000)
    async with Engine(interfering, SMALL_LIMITS) as engine:
        with pytest.raises(SourceChangedError, match="changed while it was uploaded") as caught:
            await upload_file(engine, path, bucket, "k")
    assert caught.value.code == "changed-during-upload"
    assert open_uploads(client, bucket) == []


async def test_file_that_outgrew_one_request_goes_in_parts(
    engine: Engine, client: CosClient, bucket: str, emulator: Emulator, tmp_path: Path
) -> None:
    data = make_file(tmp_path / "f", 4 * MIB)
    await upload_file(engine, tmp_path / "f", bucket, "k", options=TransferOptions(part_size=2 * MIB))
    assert emulator.requests["UploadPart"] == 2
    assert stored(client, bucket, "k") == data


# --- cancelling


@pytest.mark.parametrize("operation", ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"])
async def test_cancelled_upload_leaves_nothing(
    client: CosClient, bucket: str, emulator: Emulator, tmp_path: Path, operation: str
) -> None:
    make_file(tmp_path / "f", 6 * MIB)
    held = emulator.faults.latency(HELD, operation)
    client.close()
    before = open_descriptors()
    async with Engine(client, SMALL_LIMITS) as engine:
        upload = partial(upload_file, engine, tmp_path / "f", bucket, "k")
        await cancelled(upload, lambda: held.struck, lambda: emulator.faults.release(held))
    await settled(engine)
    assert open_uploads(client, bucket) == []
    if operation != "CompleteMultipartUpload":
        assert client.list_objects(bucket).objects == []
    client.close()
    # The server, in this process, may take a moment to close its ends.
    with trio.fail_after(100):
        while open_descriptors() > before:  # noqa: ASYNC110
            await trio.sleep(0.01)


async def test_cancelled_small_upload_ends_at_once(client: CosClient, bucket: str, tmp_path: Path) -> None:
    make_file(tmp_path / "f", 100)
    holding: Any = Holding(client, "put_object")
    async with Engine(holding, SMALL_LIMITS) as engine:
        with trio.move_on_after(0.1) as scope:
            await upload_file(engine, tmp_path / "f", bucket, "k")
        assert scope.cancelled_caught and not holding.ended
        holding.release.set()


# --- multipart uploads as the mount uses them


async def test_parts_in_any_order(engine: Engine, client: CosClient, bucket: str) -> None:
    parts = {number: content(MIB, number) for number in range(1, 6)}
    upload = await MultipartUpload.create(engine, bucket, "k", Headers(content_type="a/b"))
    async with trio.open_nursery() as nursery:
        for number in (5, 3, 1, 2, 4):
            nursery.start_soon(upload.send, number, parts[number])
    await upload.send(3, content(MIB, 33))
    parts[3] = content(MIB, 33)
    result = await upload.complete()
    whole = b"".join(parts[number] for number in sorted(parts))
    assert upload.crc64() == crc64(whole) == result.crc64
    assert stored(client, bucket, "k") == whole


async def test_parts_sent_and_copied_together(engine: Engine, client: CosClient, bucket: str) -> None:
    old = content(4 * MIB)
    before = client.put_object(bucket, "old", old)
    upload = await MultipartUpload.create(engine, bucket, "old")
    await upload.copy(1, bucket, "old", 0, MIB, if_match=before.etag)
    await upload.send(2, content(MIB, 1))
    await upload.copy(3, bucket, "old", 2 * MIB, 4 * MIB, if_match=before.etag)
    await upload.complete()
    assert upload.crc64() is None
    assert stored(client, bucket, "old") == old[:MIB] + content(MIB, 1) + old[2 * MIB :]


async def test_descriptor_may_be_closed_when_a_part_was_cancelled(
    client: CosClient, bucket: str, emulator: Emulator, tmp_path: Path
) -> None:
    from cosfs.client.body import FileBody

    make_file(tmp_path / "f", 2 * MIB)
    other = tmp_path / "other"
    other.write_bytes(b"x")
    held = emulator.faults.latency(HELD, "UploadPart")
    async with Engine(client, SMALL_LIMITS) as engine:
        upload = await MultipartUpload.create(engine, bucket, "k")
        fd = os.open(tmp_path / "f", os.O_RDONLY)
        again = os.open(other, os.O_RDONLY)
        # Takes the same number: a thread that still read from it would get other bytes.
        send = partial(upload.send, 1, FileBody(fd, 0, 2 * MIB))
        await cancelled(send, lambda: held.struck, lambda: os.dup2(again, fd))
        emulator.faults.release(held)
        await upload.abort()
        await settled(engine)
        os.close(again)
        os.close(fd)
    assert open_uploads(client, bucket) == []


async def test_abort_never_raises(engine: Engine, bucket: str, emulator: Emulator) -> None:
    upload = await MultipartUpload.create(engine, bucket, "k")
    emulator.faults.error("AbortMultipartUpload", "AccessDenied", 403, count=1)
    await upload.abort()
    await upload.abort()
    await upload.abort()


# --- streams


class Pipe(io.RawIOBase):
    """A stream that delivers its bytes in odd pieces."""

    def __init__(self, data: bytes, piece: int = 70_001) -> None:
        self._data = io.BytesIO(data)
        self._piece = piece

    def readable(self) -> bool:
        return True

    def readinto(self, view: Any) -> int:
        data = self._data.read(min(self._piece, len(view)))
        view[: len(data)] = data
        return len(data)


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 5 * MIB, 20 * MIB + 7])
async def test_stream_of_unknown_length(
    engine: Engine, client: CosClient, bucket: str, emulator: Emulator, size: int
) -> None:
    data = content(size)
    moved = Moved()
    result = await upload_stream(engine, Pipe(data), bucket, "k", progress=moved)
    await trio.sleep(0.01)
    assert (result.size, result.crc64, moved.total) == (size, crc64(data), size)
    assert stored(client, bucket, "k") == data
    expected = {"PutObject": 1, "GetObject": 1}
    if size >= MIB:
        expected = {
            "CreateMultipartUpload": 1,
            "UploadPart": -(-size // MIB),
            "CompleteMultipartUpload": 1,
            "GetObject": 1,
        }
    assert emulator.requests.snapshot() == expected
    assert engine.buffers.used == 0


async def test_reader_without_readinto(engine: Engine, client: CosClient, bucket: str) -> None:
    class Reader:
        def __init__(self, data: bytes) -> None:
            self._data = io.BytesIO(data)

        def read(self, size: int) -> bytes:
            return self._data.read(size)

    await upload_stream(engine, Reader(content(2 * MIB)), bucket, "k")
    assert stored(client, bucket, "k") == content(2 * MIB)


async def test_large_parts_of_a_stream_wait_on_disk(
    client: CosClient, bucket: str, emulator: Emulator
) -> None:
    settings = TransferSettings(max_concurrent_requests=4, multipart_chunksize=MIB, max_buffer_memory=MIB)
    async with Engine(client, settings) as engine:
        for size in (MIB // 2, 5 * MIB + 3):
            await upload_stream(engine, Pipe(content(size)), bucket, "k")
            assert stored(client, bucket, "k") == content(size)
        assert engine.buffers.used == 0
    assert emulator.requests["UploadPart"] > 0


async def test_cancelled_stream_leaves_nothing(engine: Engine, client: CosClient, bucket: str) -> None:
    waiting, released = threading.Event(), threading.Event()

    class Stalling(Pipe):
        def readinto(self, view: Any) -> int:
            if not (count := super().readinto(view)):
                waiting.set()
                released.wait(100)
            return count

    async with trio.open_nursery() as nursery:
        nursery.start_soon(upload_stream, engine, Stalling(content(3 * MIB + 5)), bucket, "k")
        with trio.fail_after(100):
            while not waiting.is_set():  # noqa: ASYNC110 - set by a thread
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    released.set()
    await settled(engine)
    assert open_uploads(client, bucket) == []
    assert client.list_objects(bucket).objects == []


async def test_failing_reader_leaves_nothing(engine: Engine, client: CosClient, bucket: str) -> None:
    class Failing(Pipe):
        def readinto(self, view: Any) -> int:
            if not (count := super().readinto(view)):
                raise OSError("the other side is gone")
            return count

    with pytest.raises(OSError, match="other side"):
        await upload_stream(engine, Failing(content(3 * MIB + 5)), bucket, "k")
    assert open_uploads(client, bucket) == []


async def test_server_that_stays_broken(
    client: CosClient, bucket: str, emulator: Emulator, tmp_path: Path
) -> None:
    from dataclasses import replace

    make_file(tmp_path / "f", 4 * MIB)
    emulator.faults.error("UploadPart", "InternalError", 500, count=0)
    impatient = CosClient(replace(client.settings, max_retries=0), client.credentials)
    with impatient:
        async with Engine(impatient, SMALL_LIMITS) as engine:
            with pytest.raises(ServerError):
                await upload_file(engine, tmp_path / "f", bucket, "k")
    emulator.faults.clear()
    assert open_uploads(client, bucket) == []
