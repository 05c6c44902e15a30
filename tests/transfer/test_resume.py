"""Transfers that were interrupted go on where they stopped, and only if nothing has changed."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from cosfs.client.client import CosClient
from cosfs.client.model import Headers
from cosfs.emulator import Emulator
from cosfs.errors import PermissionDeniedError
from cosfs.transfer import resume
from cosfs.transfer.copy import copy_object
from cosfs.transfer.download import download_file
from cosfs.transfer.engine import Engine
from cosfs.transfer.options import TransferOptions
from cosfs.transfer.paths import DestinationRoot
from cosfs.transfer.resume import Records, State
from cosfs.transfer.upload import upload_file
from cosfs.units import MIB
from tests.objects import stored
from tests.transfer.support import (
    SMALL_LIMITS,
    Moved,
    arrived,
    content,
    make_file,
    open_uploads,
    settled,
)

# One request at a time, so that a test knows which parts are done.
LIMITS = replace(SMALL_LIMITS, max_concurrent_requests=1, resume_threshold=4 * MIB)
SIZE = 8 * MIB + 5
COPY = TransferOptions(part_threshold=2 * MIB, part_size=MIB)


@pytest.fixture
def records(tmp_path_factory: pytest.TempPathFactory) -> Records:
    return Records(tmp_path_factory.mktemp("home") / "resume")


@pytest.fixture
async def engine(
    client: CosClient, bucket: str, emulator: Emulator, records: Records
) -> AsyncIterator[Engine]:
    async with Engine(client, LIMITS, records=records) as running:
        emulator.requests.reset()
        yield running
        await settled(running)


def deny(emulator: Emulator, operation: str, after: int) -> None:
    """Refuse all requests of an operation but the first few."""
    fault = emulator.faults.error(operation, "AccessDenied", 403, count=0)
    fault.skip = after


def left(records: Records) -> list[str]:
    """Return what is kept beyond the end of a transfer."""
    found = sorted(path.name for path in records.directory.glob("*"))
    return [name for name in found if not name.endswith((".files", ".uploads"))]  # those go with the engine


def below(directory: Path) -> list[Path]:
    return sorted(directory.iterdir())


async def interrupted_upload(engine: Engine, emulator: Emulator, path: Path, bucket: str) -> str:
    deny(emulator, "UploadPart", 4)
    with pytest.raises(PermissionDeniedError):
        await upload_file(engine, path, bucket, "k")
    await arrived(engine, bucket)
    emulator.faults.clear()
    emulator.requests.reset()
    assert engine.records is not None
    return engine.records.kept[-1]


async def test_upload_goes_on(
    engine: Engine, client: CosClient, bucket: str, emulator: Emulator, tmp_path: Path, records: Records
) -> None:
    data = make_file(tmp_path / "f", SIZE)
    record_id = await interrupted_upload(engine, emulator, tmp_path / "f", bucket)
    assert open_uploads(client, bucket) == ["k"]
    state = records.get(record_id)
    assert state is not None
    assert (state.op, state.destination, state.done_bytes) == ("upload", f"cos://{bucket}/k", 4 * MIB)
    assert left(records) == [f"{record_id}.json", f"{record_id}.lock"]
    assert (records.directory / f"{record_id}.json").stat().st_mode & 0o777 == 0o600
    emulator.requests.reset()
    moved = Moved()
    result = await upload_file(engine, tmp_path / "f", bucket, "k", progress=moved)
    assert (emulator.requests["UploadPart"], emulator.requests["CreateMultipartUpload"]) == (5, 0)
    assert (result.size, result.verified, moved.total) == (SIZE, "crc64", SIZE)
    assert stored(client, bucket, "k") == data
    assert left(records) == []


async def test_upload_of_a_changed_file_begins_again(
    engine: Engine, client: CosClient, bucket: str, emulator: Emulator, tmp_path: Path, records: Records
) -> None:
    make_file(tmp_path / "f", SIZE)
    await interrupted_upload(engine, emulator, tmp_path / "f", bucket)
    data = make_file(tmp_path / "f", SIZE, seed=1)
    await upload_file(engine, tmp_path / "f", bucket, "k")
    assert emulator.requests["UploadPart"] == 9
    assert emulator.requests["AbortMultipartUpload"] == 1
    assert stored(client, bucket, "k") == data
    assert (open_uploads(client, bucket), left(records)) == ([], [])


async def test_upload_with_other_headers_begins_again(
    engine: Engine, client: CosClient, bucket: str, emulator: Emulator, tmp_path: Path
) -> None:
    make_file(tmp_path / "f", SIZE)
    await interrupted_upload(engine, emulator, tmp_path / "f", bucket)
    await upload_file(engine, tmp_path / "f", bucket, "k", headers=Headers(cache_control="no-store"))
    info = client.head_object(bucket, "k")
    assert info is not None and info.headers is not None
    assert info.headers.cache_control == "no-store"
    assert open_uploads(client, bucket) == []


async def test_upload_that_somebody_aborted_begins_again(
    engine: Engine, client: CosClient, bucket: str, emulator: Emulator, tmp_path: Path
) -> None:
    data = make_file(tmp_path / "f", SIZE)
    await interrupted_upload(engine, emulator, tmp_path / "f", bucket)
    client.abort_upload(client.list_uploads(bucket).uploads[0])
    await upload_file(engine, tmp_path / "f", bucket, "k")
    assert emulator.requests["UploadPart"] == 9
    assert stored(client, bucket, "k") == data


async def test_parts_that_are_not_ours_are_sent_again(
    engine: Engine, client: CosClient, bucket: str, emulator: Emulator, tmp_path: Path
) -> None:
    data = make_file(tmp_path / "f", SIZE)
    await interrupted_upload(engine, emulator, tmp_path / "f", bucket)
    upload = client.list_uploads(bucket).uploads[0]
    client.upload_part(upload, 2, content(MIB, seed=9))
    emulator.requests.reset()
    await upload_file(engine, tmp_path / "f", bucket, "k")
    assert emulator.requests["UploadPart"] == 6
    assert stored(client, bucket, "k") == data


async def test_second_process_does_not_share_the_upload(
    engine: Engine, client: CosClient, bucket: str, emulator: Emulator, tmp_path: Path, records: Records
) -> None:
    data = make_file(tmp_path / "f", SIZE)
    record_id = await interrupted_upload(engine, emulator, tmp_path / "f", bucket)
    held = records.open(record_id)
    assert held is not None
    assert records.is_running(record_id)
    # As another process sees it.
    assert Records(records.directory).open(record_id) is None
    await upload_file(engine, tmp_path / "f", bucket, "k")
    assert emulator.requests["ListParts"] == 0
    assert stored(client, bucket, "k") == data
    assert open_uploads(client, bucket) == ["k"]
    held.release()
    assert not records.is_running(record_id)


@pytest.mark.parametrize("options", [TransferOptions(resume=False), None])
async def test_what_shall_not_be_resumed_leaves_nothing(
    engine: Engine, client: CosClient, bucket: str, emulator: Emulator, tmp_path: Path,
    records: Records, options: TransferOptions | None,
) -> None:  # fmt: skip
    make_file(tmp_path / "f", SIZE if options else 4 * MIB - 1)
    client.put_object(bucket, "d", content(SIZE if options else 4 * MIB - 1))
    deny(emulator, "UploadPart", 2)
    deny(emulator, "GetObject", 2)
    (tmp_path / "down").mkdir()
    with pytest.raises(PermissionDeniedError):
        await upload_file(engine, tmp_path / "f", bucket, "k", options=options or TransferOptions())
    with pytest.raises(PermissionDeniedError):
        await download_file(engine, bucket, "d", tmp_path / "down/f", options=options or TransferOptions())
    assert (open_uploads(client, bucket), left(records), records.kept) == ([], [], [])
    assert below(tmp_path / "down") == []


async def test_nothing_done_is_nothing_to_resume(
    engine: Engine, client: CosClient, bucket: str, emulator: Emulator, tmp_path: Path, records: Records
) -> None:
    make_file(tmp_path / "f", SIZE)
    deny(emulator, "UploadPart", 0)
    with pytest.raises(PermissionDeniedError):
        await upload_file(engine, tmp_path / "f", bucket, "k")
    assert (open_uploads(client, bucket), left(records), records.kept) == ([], [], [])


async def test_what_could_not_be_given_up_stays_known(
    engine: Engine, client: CosClient, bucket: str, emulator: Emulator, tmp_path: Path, records: Records
) -> None:
    """As when the process is killed between the two: the upload goes before its record."""
    data = make_file(tmp_path / "f", SIZE)
    deny(emulator, "UploadPart", 0)
    deny(emulator, "AbortMultipartUpload", 0)
    with pytest.raises(PermissionDeniedError):
        await upload_file(engine, tmp_path / "f", bucket, "k")
    assert open_uploads(client, bucket) == ["k"]
    assert [state.upload_id != "" for _, state in records.all()] == [True]
    emulator.faults.clear()
    await upload_file(engine, tmp_path / "f", bucket, "k")
    assert (open_uploads(client, bucket), left(records)) == ([], [])
    assert stored(client, bucket, "k") == data


async def test_cancelled_upload_goes_on(
    engine: Engine, client: CosClient, bucket: str, emulator: Emulator, tmp_path: Path, records: Records
) -> None:
    data = make_file(tmp_path / "f", SIZE)
    with trio.CancelScope() as scope:

        def cancel(count: int) -> None:
            if emulator.requests["UploadPart"] >= 4:
                scope.cancel()

        await upload_file(engine, tmp_path / "f", bucket, "k", progress=cancel)
    assert scope.cancelled_caught
    assert len(records.kept) == 1
    await arrived(engine, bucket)
    emulator.requests.reset()
    await upload_file(engine, tmp_path / "f", bucket, "k")
    assert emulator.requests["UploadPart"] <= 7
    assert stored(client, bucket, "k") == data


async def interrupted_download(
    engine: Engine, client: CosClient, emulator: Emulator, bucket: str, target: Path
) -> bytes:
    data = content(SIZE)
    client.put_object(bucket, "k", data)
    deny(emulator, "GetObject", 4)
    with pytest.raises(PermissionDeniedError):
        await download_file(engine, bucket, "k", target, info=client.head_object(bucket, "k"))
    await arrived(engine, bucket)
    emulator.faults.clear()
    emulator.requests.reset()
    return data


@pytest.mark.parametrize("known", [True, False])
async def test_download_goes_on(
    engine: Engine, client: CosClient, bucket: str, emulator: Emulator, tmp_path: Path,
    records: Records, known: bool,
) -> None:  # fmt: skip
    data = await interrupted_download(engine, client, emulator, bucket, tmp_path / "f")
    [temporary] = below(tmp_path)
    assert temporary.name.startswith(".cos-")
    state = records.get(records.kept[-1])
    assert state is not None and (state.temporary, state.done_bytes) == (temporary.name, 4 * MIB)
    info = client.head_object(bucket, "k") if known else None
    emulator.requests.reset()
    moved = Moved()
    await download_file(engine, bucket, "k", tmp_path / "f", info=info, progress=moved)
    assert emulator.requests["GetObject"] == 5
    assert (tmp_path / "f").read_bytes() == data
    assert below(tmp_path) == [tmp_path / "f"]
    assert (left(records), moved.total) == ([], SIZE)


async def test_download_of_a_changed_object_begins_again(
    engine: Engine, client: CosClient, bucket: str, emulator: Emulator, tmp_path: Path, records: Records
) -> None:
    await interrupted_download(engine, client, emulator, bucket, tmp_path / "f")
    data = content(SIZE, seed=3)
    client.put_object(bucket, "k", data)
    emulator.requests.reset()
    await download_file(engine, bucket, "k", tmp_path / "f")
    assert emulator.requests["GetObject"] == 9
    assert (tmp_path / "f").read_bytes() == data
    assert below(tmp_path) == [tmp_path / "f"]


async def test_bytes_that_never_reached_the_disk_are_fetched_again(
    engine: Engine, client: CosClient, bucket: str, emulator: Emulator, tmp_path: Path
) -> None:
    data = await interrupted_download(engine, client, emulator, bucket, tmp_path / "f")
    [temporary] = below(tmp_path)
    with temporary.open("r+b") as file:
        file.seek(MIB)
        file.write(bytes(1000))
    await download_file(engine, bucket, "k", tmp_path / "f")
    assert emulator.requests["GetObject"] == 6
    assert (tmp_path / "f").read_bytes() == data


async def test_what_was_added_behind_the_end_is_cut_off(
    engine: Engine, client: CosClient, bucket: str, emulator: Emulator, tmp_path: Path
) -> None:
    data = await interrupted_download(engine, client, emulator, bucket, tmp_path / "g")
    [temporary] = below(tmp_path)
    with temporary.open("ab") as file:
        file.write(b"more")
    await download_file(engine, bucket, "k", tmp_path / "g")
    assert (tmp_path / "g").read_bytes() == data


async def test_another_file_in_the_place_of_the_temporary_one_is_left_alone(
    engine: Engine, client: CosClient, bucket: str, emulator: Emulator, tmp_path: Path
) -> None:
    data = await interrupted_download(engine, client, emulator, bucket, tmp_path / "f")
    [temporary] = below(tmp_path)
    (tmp_path / "mine").write_bytes(b"mine")
    (tmp_path / "mine").rename(temporary)
    await download_file(engine, bucket, "k", tmp_path / "f")
    assert emulator.requests["GetObject"] == 9
    assert (tmp_path / "f").read_bytes() == data
    assert temporary.read_bytes() == b"mine"


async def test_download_below_a_root_and_with_holes_goes_on(
    engine: Engine, client: CosClient, bucket: str, emulator: Emulator, tmp_path: Path
) -> None:
    data = content(MIB) + bytes(6 * MIB) + content(MIB, seed=1)
    client.put_object(bucket, "k", data)
    options = TransferOptions(sparse=True)
    for fails in (True, False):
        with DestinationRoot(tmp_path) as root:
            if fails:
                deny(emulator, "GetObject", 5)
                with pytest.raises(PermissionDeniedError):
                    await download_file(engine, bucket, "k", root.target("a/b"), options=options)
                emulator.faults.clear()
                emulator.requests.reset()
            else:
                await download_file(engine, bucket, "k", root.target("a/b"), options=options)
    assert emulator.requests["GetObject"] == 3
    assert (tmp_path / "a/b").read_bytes() == data


async def test_copy_goes_on_and_begins_again_if_the_source_has_changed(
    engine: Engine, client: CosClient, bucket: str, emulator: Emulator, records: Records
) -> None:
    for changed in (False, True):
        client.put_object(bucket, "k", content(SIZE))
        deny(emulator, "UploadPartCopy", 4)
        with pytest.raises(PermissionDeniedError):
            await copy_object(engine, bucket, "k", bucket, "l", options=COPY)
        await arrived(engine, bucket)
        emulator.faults.clear()
        if changed:
            client.put_object(bucket, "k", content(SIZE, seed=5))
        emulator.requests.reset()
        await copy_object(engine, bucket, "k", bucket, "l", options=COPY)
        assert emulator.requests["UploadPartCopy"] == (9 if changed else 5)
        assert stored(client, bucket, "l") == content(SIZE, seed=5 if changed else 0)
        assert (open_uploads(client, bucket), left(records)) == ([], [])


async def test_trouble_with_records_does_not_end_a_transfer(
    client: CosClient, bucket: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    data = make_file(tmp_path / "f", SIZE)
    async with Engine(client, LIMITS, records=Records(tmp_path / "file/resume")) as engine:
        await upload_file(engine, tmp_path / "f", bucket, "k")
        await download_file(engine, bucket, "k", tmp_path / "g")
    assert (tmp_path / "g").read_bytes() == data


@pytest.mark.parametrize("refused", [False, True], ids=["done", "refused"])
@pytest.mark.parametrize("op", ["upload", "download", "copy"])
async def test_records_lost_on_the_way_change_nothing_about_how_a_transfer_ends(
    engine: Engine,
    client: CosClient,
    bucket: str,
    emulator: Emulator,
    records: Records,
    tmp_path: Path,
    op: str,
    refused: bool,
) -> None:
    data = make_file(tmp_path / "f", SIZE)
    client.put_object(bucket, "k", data)

    def lose(_: int) -> None:
        # As when the disk is full or the home directory has gone: no file can be written, read or removed.
        if records.directory.is_dir():
            shutil.rmtree(records.directory)
            records.directory.write_bytes(b"")

    async def transfer() -> None:
        if op == "upload":
            await upload_file(engine, tmp_path / "f", bucket, "l", progress=lose)
        elif op == "copy":
            await copy_object(engine, bucket, "k", bucket, "l", options=COPY, progress=lose)
        else:
            await download_file(engine, bucket, "k", tmp_path / "g", progress=lose)

    if refused:
        deny(emulator, {"upload": "UploadPart", "copy": "UploadPartCopy", "download": "GetObject"}[op], 4)
        with pytest.raises(PermissionDeniedError):
            await transfer()
    else:
        await transfer()
        assert (tmp_path / "g").read_bytes() == data if op == "download" else stored(client, bucket, "l")
    assert records.directory.is_file() and not records.kept
    assert open_uploads(client, bucket) == []
    assert {path.name for path in below(tmp_path)} <= {"f", "g"}


@pytest.mark.parametrize(
    "damage",
    [
        {"done": []},
        {"done": {"1": None}},
        {"done": {"one": ["e", "m", 1]}},
        {"done": {"1": ["e", "m"]}},
        {"done": {"1": ["e", "m", "1"]}},
        {"upload_id": 5},
        {"part_size": "1"},
        {"file": ["x"]},
        {"options": None},
        {"op": "unload"},
    ],
    ids=str,
)
async def test_a_damaged_record_is_begun_again(
    engine: Engine,
    client: CosClient,
    bucket: str,
    emulator: Emulator,
    tmp_path: Path,
    damage: dict[str, object],
) -> None:
    data = make_file(tmp_path / "f", SIZE)
    record_id = await interrupted_upload(engine, emulator, tmp_path / "f", bucket)
    assert engine.records is not None
    path = engine.records.directory / f"{record_id}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | damage))
    assert [*engine.records.all()] == []
    await upload_file(engine, tmp_path / "f", bucket, "k")
    assert stored(client, bucket, "k") == data


def test_records_that_cannot_be_read_are_begun_again(records: Records) -> None:
    for text in ("", "{", "[]", json.dumps({"v": 2, "op": "upload"}), json.dumps({"v": 1, "other": 3})):
        record = records.claim("upload", "/f", "cos://b-1/k")
        assert record is not None
        record.write(text)
        record.release()
        assert records.get(record.id) is None
        again = records.claim("upload", "/f", "cos://b-1/k")
        assert again is not None and again.state == State("upload", "/f", "cos://b-1/k")
        again.remove()


def test_a_lock_whose_name_is_gone_keeps_nobody_out(records: Records) -> None:
    first = records.claim("upload", "/f", "cos://b-1/k")
    assert first is not None
    stale = os.open(records.directory / f"{first.id}.lock", os.O_RDWR)
    first.remove()
    second = records.claim("upload", "/f", "cos://b-1/k")
    assert second is not None
    assert records.claim("upload", "/f", "cos://b-1/k") is None
    os.close(stale)
    second.release()


def test_names_of_any_kind_are_kept(records: Records) -> None:
    name = os.fsdecode(b"/d/\xff\xfe\n")
    record = records.claim("upload", name, "cos://b-1/k")
    assert record is not None
    record.save()
    record.release()
    state = records.get(record.id)
    assert state is not None and state.source == name


def test_records_that_cannot_be_written_are_told_of_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(resume, "_told", set())
    for _ in range(3):
        resume.tell_unsaved(OSError(errno.ENOSPC, "No space left on device", "/x"))
    said = [record.getMessage() for record in caplog.records if record.name == resume.__name__]
    assert len(said) == 1 and "(No space left on device)" in said[0] and "Errno" not in said[0]
