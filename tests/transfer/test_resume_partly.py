"""Interrupted early, or gone on with under other settings: what has arrived is not moved again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import trio

from cosfs.client.client import CosClient
from cosfs.emulator import Emulator
from cosfs.errors import PermissionDeniedError
from cosfs.transfer.download import download_file
from cosfs.transfer.engine import LARGE, PARTS, Engine
from cosfs.transfer.resume import Records
from cosfs.transfer.upload import upload_file
from cosfs.units import KIB, MIB
from tests.objects import stored
from tests.transfer.support import SMALL_LIMITS, Moved, arrived, content, make_file, settled

LIMITS = replace(SMALL_LIMITS, max_concurrent_requests=1, resume_threshold=4 * MIB)
SIZE = 8 * MIB + 5


@pytest.fixture
def records(tmp_path_factory: pytest.TempPathFactory) -> Records:
    return Records(tmp_path_factory.mktemp("home") / "resume")


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """One for these tests, whose requests hang there long after them."""
    with Emulator(tmp_path_factory.mktemp("hanging")) as running:
        yield running


def begun(directory: Path) -> bool:
    """Whether the first piece has arrived."""
    for path in directory.glob(".cos-*"):
        with path.open("rb") as file:
            file.seek(256 * KIB - 16)
            return file.read(16).strip(b"\0") != b""
    return False


@pytest.mark.parametrize("known", [True, False], ids=["size known", "nothing known"])
async def test_first_range_is_kept_in_part(
    client: CosClient, bucket: str, emulator: Emulator, tmp_path: Path, records: Records, known: bool
) -> None:
    data = content(SIZE)
    client.put_object(bucket, "k", data)
    info = client.head_object(bucket, "k") if known else None
    emulator.faults.stall(100, offset=600 * KIB)
    first = CosClient(client.settings, client.credentials)
    async with Engine(first, LIMITS, records=records) as engine:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(download_file, engine, bucket, "k", tmp_path / "f", info=info))
            with trio.fail_after(100):
                while not begun(tmp_path):  # noqa: ASYNC110 - changed by a thread
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        first.cancel()  # or its thread would wait for the rest
        await settled(engine)
    first.close()
    [record_id] = records.kept
    state = records.get(record_id)
    assert state is not None
    assert 256 * KIB <= state.done_bytes <= 600 * KIB
    emulator.faults.clear()
    emulator.requests.reset()
    async with Engine(client, LIMITS, records=records) as engine:
        moved = Moved()
        await download_file(engine, bucket, "k", tmp_path / "f", progress=moved)
    assert moved.calls[0] == state.done_bytes
    assert emulator.requests["GetObject"] == 9  # one of them for less than a range
    assert (tmp_path / "f").read_bytes() == data
    assert not begun(tmp_path)


async def test_a_download_whose_directory_was_removed_meanwhile_is_not_kept(
    client: CosClient, bucket: str, emulator: Emulator, tmp_path: Path, records: Records
) -> None:
    client.put_object(bucket, "k", content(SIZE))
    directory = tmp_path / "d"
    directory.mkdir()
    emulator.faults.error("GetObject", "AccessDenied", 403, skip=3, count=0)
    info = client.head_object(bucket, "k")

    def removed(done: int) -> None:
        shutil.rmtree(directory, ignore_errors=True)

    async with Engine(client, LIMITS, records=records) as engine:
        with pytest.raises(PermissionDeniedError):
            await download_file(engine, bucket, "k", directory / "f", info=info, progress=removed)
    assert records.kept == [] and records.ids() == []


async def test_parts_of_another_size_are_gone_on_with(
    client: CosClient, bucket: str, emulator: Emulator, tmp_path: Path, records: Records
) -> None:
    data = make_file(tmp_path / "f", SIZE)
    client.put_object(bucket, "k", data)
    for operation in ("UploadPart", "GetObject"):
        emulator.faults.error(operation, "AccessDenied", 403, count=0).skip = 4
    info = client.head_object(bucket, "k")
    async with Engine(client, LIMITS, records=records) as engine:
        with pytest.raises(PermissionDeniedError):
            await upload_file(engine, tmp_path / "f", bucket, "u")
        with pytest.raises(PermissionDeniedError):
            await download_file(engine, bucket, "k", tmp_path / "d", info=info)
        await arrived(engine, bucket)
    emulator.faults.clear()
    emulator.requests.reset()
    async with Engine(client, replace(LIMITS, multipart_chunksize=3 * MIB), records=records) as engine:
        await upload_file(engine, tmp_path / "f", bucket, "u")
        await download_file(engine, bucket, "k", tmp_path / "d")
    assert (emulator.requests["CreateMultipartUpload"], emulator.requests["UploadPart"]) == (0, 5)
    assert emulator.requests["GetObject"] == 2  # from 4 MiB to 6 MiB, and what is behind
    assert stored(client, bucket, "u") == (tmp_path / "d").read_bytes() == data


def test_parts_are_small_where_the_bandwidth_is(client: CosClient) -> None:
    """A part that is interrupted is lost: none takes longer than some seconds if it can be helped."""
    limits = replace(LIMITS, multipart_chunksize=8 * MIB)
    sizes = {
        rate: Engine(client, replace(limits, max_bandwidth=rate)).part_size()
        for rate in (0, 100 * KIB, 2 * MIB, 100 * MIB)
    }
    assert sizes == {0: 8 * MIB, 100 * KIB: MIB, 2 * MIB: 2 * MIB, 100 * MIB: 8 * MIB}
    assert Engine(client, limits).part_size(3 * MIB) == 3 * MIB
    assert Engine(client, replace(limits, max_bandwidth=MIB))._part_limit() == {LARGE: 2, PARTS: 2}
