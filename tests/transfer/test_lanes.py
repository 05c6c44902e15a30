"""Very small objects: hundreds at once, in few threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import trio

from cosfs.client.client import CosClient
from cosfs.client.waiting import current_hub
from cosfs.config import TransferSettings
from cosfs.emulator import Emulator
from cosfs.errors import IntegrityError, ObjectNotFoundError
from cosfs.transfer.bulk import DownloadJob, UploadJob, transfer_many
from cosfs.transfer.engine import TINY, Engine
from cosfs.transfer.lanes import Window
from cosfs.transfer.paths import DestinationRoot
from cosfs.transfer.scan import list_objects
from cosfs.transfer.work import checkpoint, pause
from tests.objects import stored
from tests.transfer.support import make_file, settled
from tests.transfer.test_bulk import Results

# --- the window ---


def answers(window: Window, count: int, *, start: float, idle: float, trouble: int = 0) -> None:
    for number in range(count):
        window.answered(start + number / 1000, idle, trouble)


def test_window_doubles_while_there_is_time_to_spare() -> None:
    window = Window(256)
    sizes = []
    for turn in range(6):
        sizes.append(window.size)
        answers(window, window.size, start=1 + turn, idle=turn * 0.9)
    assert sizes == [32, 32, 64, 128, 256, 256]  # the first round only sets the marks


def test_window_grows_after_the_first_answers_if_they_were_waited_for() -> None:
    window = Window(256)
    answers(window, 32, start=1, idle=0.02)
    assert window.size == 64


def test_window_stays_when_the_thread_is_busy_all_the_time() -> None:
    window = Window(256)
    for turn in range(6):
        answers(window, window.size, start=1 + turn, idle=0.0)
    assert window.size == 32


def test_window_is_halved_by_trouble_and_grows_slowly_afterwards() -> None:
    window = Window(256)
    answers(window, 32, start=1, idle=0)
    answers(window, 32, start=2, idle=0.9, trouble=3)
    assert window.size == 16
    answers(window, 16, start=3, idle=1.8, trouble=3)
    assert window.size == 19
    for turn in range(12):
        answers(window, window.size, start=4 + turn, idle=1.8, trouble=4 + turn)
    assert window.size == 1


def test_window_is_never_wider_than_it_may_be() -> None:
    assert Window(4).size == 4


# --- transfers ---


@pytest.fixture
async def engine(client: CosClient, bucket: str) -> Engine:
    return Engine(client, TransferSettings())


async def upload(engine: Engine, root: Path, bucket: str, count: int) -> Results:
    results = Results()
    jobs = [
        UploadJob(str(root / f"f{n}"), (root / f"f{n}").stat().st_size, bucket, f"f{n}") for n in range(count)
    ]
    await transfer_many(engine, jobs, on_result=results)
    return results


@pytest.fixture
def files(tmp_path: Path) -> Iterator[list[bytes]]:
    yield [make_file(tmp_path / f"f{n}", n * 13, n) for n in range(300)]


async def test_small_files_need_few_threads(
    engine: Engine, client: CosClient, bucket: str, files: list[bytes], tmp_path: Path, emulator: Emulator
) -> None:
    before = set(threading.enumerate())  # not their numbers: those of ended threads are given again
    seen: set[str] = set()
    latency = emulator.faults.latency(0.05, "PutObject")
    try:
        async with engine, trio.open_nursery() as nursery:

            async def watch() -> None:
                while True:
                    seen.update(t.name for t in threading.enumerate() if t not in before)
                    await trio.sleep(0.005)

            nursery.start_soon(watch)
            results = await upload(engine, tmp_path, bucket, 300)
            nursery.cancel_scope.cancel()
    finally:
        emulator.faults.remove(latency)
    assert len(results.done) == 300 and not results.failed
    assert all(result.verified == "crc64" for result in results.done.values())
    assert "cos-lane" in seen and not {
        name for name in seen if name.startswith("cos-") and name[4:].isdigit()
    }
    assert [stored(client, bucket, f"f{n}") for n in (0, 1, 299)] == [files[0], files[1], files[299]]


async def test_one_request_per_object_and_faults_are_repeated(
    engine: Engine, bucket: str, files: list[bytes], tmp_path: Path, emulator: Emulator
) -> None:
    emulator.requests.reset()
    fault = emulator.faults.error("PutObject", "SlowDown", count=20, every=3)
    lost = emulator.faults.reset("PutObject", after=True, count=10, every=7)
    try:
        async with engine:
            results = await upload(engine, tmp_path, bucket, 300)
    finally:
        emulator.faults.remove(fault)
        emulator.faults.remove(lost)
    assert len(results.done) == 300
    assert emulator.requests["PutObject"] == 300 + engine.client.stats.retries >= 320


async def test_damaged_downloads_are_made_again_and_missing_objects_told(
    engine: Engine, client: CosClient, bucket: str, emulator: Emulator, tmp_path: Path
) -> None:
    emulator.put_objects(bucket, [(f"d/k{n}", str(n).encode() * 50) for n in range(300)])
    results = Results()
    damage = emulator.faults.corrupt("GetObject", offset=3, count=20, every=5)
    cut = emulator.faults.truncate("GetObject", offset=10, count=20, every=4)
    try:
        async with engine:
            async with list_objects(engine, bucket, "d/") as listing:
                infos = [info async for info in listing]
            client.delete_object(bucket, "d/k7")
            with DestinationRoot(tmp_path / "down") as root:
                jobs = [DownloadJob(bucket, info, root.target(info.key)) for info in infos]  # type: ignore[arg-type, union-attr]
                await transfer_many(engine, jobs, on_result=results)
    finally:
        emulator.faults.remove(damage)
        emulator.faults.remove(cut)
    assert isinstance(results.failed.pop("d/k7"), ObjectNotFoundError)
    # Damaged twice in a row: told, and no file.
    assert all(isinstance(error, IntegrityError) for error in results.failed.values())
    lost = {"d/k7", *results.failed}
    found = {path.name: path.read_bytes() for path in (tmp_path / "down/d").iterdir()}
    assert found == {f"k{n}": str(n).encode() * 50 for n in range(300) if f"d/k{n}" not in lost}


def open_below(directory: Path) -> list[Path]:
    """Return the files below a directory that this process has open."""
    held = []
    for path in sorted(Path("/proc/self/fd").iterdir()):
        with suppress(FileNotFoundError):  # closed by another thread meanwhile
            held.append(path.readlink())
    return [path for path in held if path.is_relative_to(directory)]


async def test_cancelled_downloads_leave_no_temporary_file(
    engine: Engine, bucket: str, emulator: Emulator, tmp_path: Path
) -> None:
    emulator.put_objects(bucket, [(f"d/k{n}", b"x" * 5000) for n in range(200)])
    (tmp_path / "down").mkdir()
    stall = emulator.faults.stall(0.5, "GetObject", offset=100, count=0)
    try:
        async with engine:
            async with list_objects(engine, bucket, "d/") as listing:
                infos = [info async for info in listing]
            with trio.move_on_after(0.3), DestinationRoot(tmp_path / "down") as root:
                jobs = [DownloadJob(bucket, info, root.target(info.key)) for info in infos]  # type: ignore[arg-type, union-attr]
                await transfer_many(engine, jobs, on_result=Results())
            assert not list((tmp_path / "down").rglob(".cos-*"))
            await settled(engine)
    finally:
        emulator.faults.remove(stall)
    engine.client.close()
    assert not list((tmp_path / "down").rglob(".cos-*"))
    assert not open_below(tmp_path)


async def test_calls_that_were_given_up_notice_it(engine: Engine) -> None:
    begun: list[int] = []
    noticed: list[int] = []

    def work(number: int) -> None:
        begun.append(number)
        try:
            pause(100)
        finally:
            noticed.append(number)

    async with engine:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(engine.run_many, work, range(10), lambda *_: None, kind=TINY))
            with trio.fail_after(100):
                while len(begun) < 10:  # noqa: ASYNC110 - changed by a thread
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        await settled(engine)
    assert sorted(noticed) == list(range(10))


async def test_calls_know_themselves_apart(engine: Engine) -> None:
    """Each call is told about its own abandoning, although all run in one thread."""
    ended: list[str] = []

    def work(name: str, seconds: float) -> str:
        pause(seconds)
        checkpoint()
        ended.append(name)
        return name

    async with engine:
        kept = engine.start(work, "kept", 0.3, kind=TINY)
        dropped = engine.start(work, "dropped", 100, kind=TINY)
        await trio.sleep(0.05)
        dropped.cancel()
        assert await kept.wait() == "kept"
        await settled(engine)
    assert ended == ["kept"]


def break_hub() -> None:
    hub = current_hub()
    assert hub is not None
    hub._epoll.close()
    pause(60)


async def test_a_lane_that_breaks_is_told_and_nobody_waits_for_ever(engine: Engine) -> None:
    with trio.fail_after(100), pytest.raises(RuntimeError, match="a thread of the engine has ended"):
        async with engine:
            await engine.run_many(lambda fn: fn(), [break_hub, lambda: None] * 20, lambda *_: None, kind=TINY)


def open_descriptors() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


async def lanes_ended() -> None:
    with trio.fail_after(100):
        while any(thread.name == "cos-lane" for thread in threading.enumerate()):  # noqa: ASYNC110
            await trio.sleep(0.01)


async def test_engines_leave_no_descriptors(client: CosClient, bucket: str, tmp_path: Path) -> None:
    make_file(tmp_path / "f0", 10)
    found = []
    for _ in range(8):
        async with Engine(client, TransferSettings()) as engine:
            await upload(engine, tmp_path, bucket, 1)
            await settled(engine)
        await lanes_ended()
        client.close()
        found.append(open_descriptors())
    # The emulator runs in this process, too, and may not have closed its end yet.
    with trio.fail_after(100):
        while open_descriptors() > found[0] + 2:  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.01)


async def test_connections_of_calls_that_were_given_up_are_closed_with_the_client(
    client: CosClient, bucket: str, emulator: Emulator, tmp_path: Path
) -> None:
    emulator.put_objects(bucket, [(f"d/k{n}", b"x" * 50) for n in range(60)])
    before = open_descriptors()
    latency = emulator.faults.latency(0.5, "GetObject")
    async with Engine(client, TransferSettings()) as engine:
        async with list_objects(engine, bucket, "d/") as listing:
            infos = [info async for info in listing]
        with trio.move_on_after(0.2), DestinationRoot(tmp_path / "down") as root:
            jobs = [DownloadJob(bucket, info, root.target(info.key)) for info in infos]  # type: ignore[arg-type, union-attr]
            await transfer_many(engine, jobs, on_result=Results())
        client.close()  # while the answers are still to come
        emulator.faults.remove(latency)
        await settled(engine)
    await lanes_ended()
    # The emulator runs in this process, too, and holds the other ends.
    with trio.fail_after(100):
        while open_descriptors() > before:  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.01)
