"""Very many transfers at once."""

from __future__ import annotations

import random
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from cosfs.client.client import CosClient
from cosfs.client.model import ObjectInfo
from cosfs.config import TransferSettings
from cosfs.emulator import Emulator
from cosfs.errors import COSError, TransferError
from cosfs.transfer.bulk import CopyJob, DownloadJob, Job, UploadJob, transfer_many
from cosfs.transfer.engine import Engine
from cosfs.transfer.model import TransferResult
from cosfs.transfer.paths import DestinationRoot
from cosfs.transfer.scan import list_objects, walk
from cosfs.transfer.upload import upload_file
from cosfs.units import MIB
from tests.objects import stored
from tests.transfer.support import SMALL_LIMITS, Moved, make_file, open_uploads, settled


class Results:
    def __init__(self) -> None:
        self.done: dict[str, TransferResult] = {}
        self.failed: dict[str, Exception] = {}

    def __call__(self, job: Job, result: TransferResult | None, error: Exception | None) -> None:
        name = job.info.key if isinstance(job, DownloadJob) else job.key
        if error is not None:
            self.failed[name] = error
        else:
            assert result is not None
            self.done[name] = result


def make_tree(root: Path, small: int, large: int) -> dict[str, bytes]:
    """Small and large files, mixed."""
    tree = {}
    for number in range(small):
        name = f"d{number % 7}/s{number:04}"
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        tree[name] = make_file(root / name, number * 37 % 5000, number)
    for number in range(large):
        name = f"d{number % 7}/l{number}"
        tree[name] = make_file(root / name, 3 * MIB + number * 100_000, number)
    return tree


async def uploads(root: Path, bucket: str, prefix: str = "") -> AsyncIterator[Job]:
    async for entry in walk(root):
        yield UploadJob(entry.path, entry.size, bucket, prefix + entry.relative)


async def test_tree_up_across_and_down(
    engine: Engine, client: CosClient, bucket: str, emulator: Emulator, tmp_path: Path
) -> None:
    tree = make_tree(tmp_path / "up", 300, 3)
    size = sum(map(len, tree.values()))
    results, moved = Results(), Moved()
    await transfer_many(engine, uploads(tmp_path / "up", bucket), on_result=results, progress=moved)
    assert (set(results.done), results.failed) == (set(tree), {})
    assert moved.total == size
    assert emulator.requests["PutObject"] == 300

    async def copies() -> AsyncIterator[Job]:
        async with list_objects(engine, bucket, "d") as listing:
            async for info in listing:
                assert isinstance(info, ObjectInfo)
                yield CopyJob(bucket, info, bucket, "copy/" + info.key)

    results, moved = Results(), Moved()
    emulator.requests.reset()
    await transfer_many(engine, copies(), on_result=results, progress=moved)
    assert len(results.done) == len(tree)
    assert moved.total == size
    assert emulator.requests["CopyObject"] == len(tree)

    results, moved = Results(), Moved()
    emulator.requests.reset()
    started: list[Job] = []
    with DestinationRoot(tmp_path / "down") as root:

        async def downloads() -> AsyncIterator[Job]:
            async with list_objects(engine, bucket, "copy/") as listing:
                async for info in listing:
                    assert isinstance(info, ObjectInfo)
                    yield DownloadJob(bucket, info, root.target(info.key.removeprefix("copy/")))

        await transfer_many(engine, downloads(), on_result=results, on_start=started.append, progress=moved)
    assert results.failed == {}
    assert moved.total == size
    assert len(started) == len(tree)
    assert "HeadObject" not in emulator.requests.snapshot()
    assert {name: (tmp_path / "down" / name).read_bytes() for name in tree} == tree
    assert len([path for path in (tmp_path / "down").rglob("*") if path.is_file()]) == len(tree)


async def test_one_failure_does_not_stop_the_others(
    engine: Engine, client: CosClient, bucket: str, emulator: Emulator, tmp_path: Path
) -> None:
    tree = make_tree(tmp_path, 20, 2)
    emulator.faults.error("PutObject", "AccessDenied", 403, key="*s0007", count=0)
    emulator.faults.error("UploadPart", "AccessDenied", 403, key="*l1", count=0)
    jobs: list[Job] = [
        UploadJob(str(tmp_path / name), len(data), bucket, name) for name, data in tree.items()
    ]
    jobs.append(UploadJob(str(tmp_path / "vanished"), 5, bucket, "vanished"))
    results = Results()
    await transfer_many(engine, jobs, on_result=results)
    assert set(results.failed) == {"d0/s0007", "d1/l1", "vanished"}
    assert isinstance(results.failed["vanished"], FileNotFoundError)
    assert isinstance(results.failed["d1/l1"], COSError)
    assert len(results.done) == len(tree) - 2
    assert open_uploads(client, bucket) == []


async def test_file_that_has_grown_since_it_was_listed(
    engine: Engine, client: CosClient, bucket: str, emulator: Emulator, tmp_path: Path
) -> None:
    data = make_file(tmp_path / "f", 4 * MIB)
    results = Results()
    await transfer_many(engine, [UploadJob(str(tmp_path / "f"), 10, bucket, "f")], on_result=results)
    assert results.done["f"].size == len(data)
    assert emulator.requests["UploadPart"] == 4
    assert stored(client, bucket, "f") == data


async def test_small_files_do_not_wait_for_a_large_one(
    client: CosClient, bucket: str, tmp_path: Path
) -> None:
    make_file(tmp_path / "large", 20 * MIB)
    jobs: list[Job] = [UploadJob(str(tmp_path / "large"), 20 * MIB, bucket, "large")]
    for number in range(40):
        make_file(tmp_path / f"s{number}", 10)
        jobs.append(UploadJob(str(tmp_path / f"s{number}"), 10, bucket, f"s{number}"))
    small = threading.Event()
    order: list[str] = []

    class Waiting:
        """A client whose parts do not arrive before all small files are there."""

        def __getattr__(self, name: str) -> Any:
            if name == "upload_part":
                assert small.wait(60)
            return getattr(client, name)

    def done(job: Job, *_: object) -> None:
        order.append(job.key)
        if len(order) == 40:
            small.set()

    waiting: Any = Waiting()
    async with Engine(waiting, SMALL_LIMITS) as engine:
        await transfer_many(engine, jobs, on_result=done)
    assert order[-1] == "large"


async def test_failing_callback_ends_everything(
    engine: Engine, client: CosClient, bucket: str, tmp_path: Path
) -> None:
    make_tree(tmp_path, 200, 2)

    def stop(*_: object) -> None:
        raise TransferError("enough")

    with pytest.raises(TransferError, match="enough"):
        await transfer_many(engine, uploads(tmp_path, bucket), on_result=stop)
    # An upload that was just being opened is aborted by the thread that opened it.
    await settled(engine)
    assert open_uploads(client, bucket) == []


async def test_cancelled_bulk_leaves_nothing_behind(
    client: CosClient, bucket: str, emulator: Emulator, tmp_path: Path
) -> None:
    tree = make_tree(tmp_path / "up", 60, 3)
    async with Engine(client, SMALL_LIMITS) as engine:
        await transfer_many(engine, uploads(tmp_path / "up", bucket), on_result=Results())
    emulator.faults.stall(0.6, offset=100, count=0)
    results = Results()
    async with Engine(client, SMALL_LIMITS) as engine:
        infos = client.list_objects(bucket).objects
        with DestinationRoot(tmp_path / "down") as root:
            jobs = [DownloadJob(bucket, info, root.target(info.key)) for info in infos]
            with trio.move_on_after(0.3) as scope:
                await transfer_many(engine, jobs, on_result=results)
        assert scope.cancelled_caught
    # Left: nothing may come from threads that have not found out.
    assert not [path for path in (tmp_path / "down").rglob("*") if path.name.startswith(".cos-")]
    emulator.faults.clear()
    await settled(engine)
    for path in (tmp_path / "down").rglob("*"):
        if path.is_file():
            assert path.read_bytes() == tree[str(path.relative_to(tmp_path / "down"))]


async def test_bandwidth_is_kept(client: CosClient, bucket: str, tmp_path: Path) -> None:
    rate = 4 * MIB
    make_file(tmp_path / "large", 4 * MIB)
    make_file(tmp_path / "small", 2 * MIB)
    jobs: list[Job] = [
        UploadJob(str(tmp_path / name), size, bucket, name)
        for name, size in (("large", 4 * MIB), ("small", 2 * MIB))
    ]
    async with Engine(client, replace(SMALL_LIMITS, max_bandwidth=rate)) as engine:
        started = trio.current_time()
        await transfer_many(engine, jobs, on_result=Results())
        took_up = trio.current_time() - started
        started = trio.current_time()
        with DestinationRoot(tmp_path / "down") as root:
            infos = client.list_objects(bucket).objects
            await transfer_many(
                engine,
                [DownloadJob(bucket, info, root.target(info.key)) for info in infos],
                on_result=Results(),
            )
        took_down = trio.current_time() - started
    # Six MiB at four a second, of which the first may go at once.
    assert min(took_up, took_down) > 1.1


async def test_parts_do_not_all_crawl_when_the_bandwidth_is_small(
    client: CosClient, bucket: str, tmp_path: Path
) -> None:
    settings = TransferSettings(max_bandwidth=2_000_000)
    make_file(tmp_path / "f", 64 * MIB)
    async with Engine(client, settings) as engine, trio.open_nursery() as nursery:
        most = 0
        nursery.start_soon(upload_file, engine, tmp_path / "f", bucket, "k")
        with trio.fail_after(100):
            while engine.running < 2:  # noqa: ASYNC110 - changed by threads
                await trio.sleep(0.01)
        with trio.move_on_after(0.5):
            while True:
                most = max(most, engine.running)
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    # Two parts of 8 MiB take eight seconds, all eight at once would all end after half a minute.
    assert most == 2


async def test_random_cancelling_never_loses_a_slot(client: CosClient, bucket: str, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "up", 20, 2)
    chance = random.Random(7)
    async with Engine(client, SMALL_LIMITS) as engine:
        await transfer_many(engine, uploads(tmp_path / "up", bucket), on_result=Results())
        infos = client.list_objects(bucket).objects
        for _ in range(25):
            with DestinationRoot(tmp_path / "down") as root:
                jobs: list[Job] = [DownloadJob(bucket, info, root.target(info.key)) for info in infos]
                jobs += [job async for job in uploads(tmp_path / "up", bucket, "again/")]
                chance.shuffle(jobs)
                with trio.move_on_after(chance.random() * 0.15):
                    await transfer_many(engine, jobs, on_result=Results())
            await settled(engine)
            await trio.sleep(0.01)
            assert not [path for path in (tmp_path / "down").rglob("*") if path.name.startswith(".cos-")]
            assert engine.running == 0
            assert engine.buffers.used == 0
    for path in (tmp_path / "down").rglob("*"):
        if path.is_file():
            assert path.read_bytes() == tree[str(path.relative_to(tmp_path / "down"))]
    assert open_uploads(client, bucket) == []
