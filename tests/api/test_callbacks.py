"""What callbacks of a program may do, and where a session is used from: other threads, asyncio, trio."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import NoReturn

import pytest
import trio

import cosfs
from cosfs.emulator import Emulator
from cosfs.errors import CancelledError, UsageError
from cosfs.units import MIB

SIZE = 20 * MIB


@pytest.fixture
def file(tmp_path: Path) -> Path:
    with (tmp_path / "f").open("wb") as opened:
        opened.truncate(SIZE)
    return tmp_path / "f"


def raising(error: type[BaseException]) -> NoReturn:
    raise error("no more")


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, CancelledError])
def test_what_progress_raises_ends_its_call_alone(
    session: cosfs.Session, bucket: str, emulator: Emulator, file: Path, error: type[BaseException]
) -> None:
    emulator.faults.latency(0.3, "UploadPart")
    found: list[object] = []
    other = threading.Thread(target=lambda: found.append(session.upload(file, f"cos://{bucket}/other")))
    other.start()
    with pytest.raises(error, match="no more"):
        session.upload(file, f"cos://{bucket}/k", progress=lambda count: raising(error))
    other.join(timeout=150)
    assert isinstance(found[0], cosfs.TransferResult)
    assert [info.key for info in session.list(f"cos://{bucket}/")] == ["other"]
    assert session.client.list_uploads(bucket).uploads == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_on_event_raises_ends_its_sync_alone(
    session: cosfs.Session, bucket: str, tmp_path: Path, file: Path, error: type[BaseException]
) -> None:
    with pytest.raises(error, match="no more"):
        session.sync(tmp_path, f"cos://{bucket}/", on_event=lambda event: raising(error))
    assert session.sync(tmp_path, f"cos://{bucket}/").ok


def test_small_things_from_callbacks(session: cosfs.Session, bucket: str, file: Path) -> None:
    """What needs no engine can be asked for there; what does is refused, and ends the call."""
    seen: list[int] = []
    url = f"cos://{bucket}/k"
    session.write(f"{url}0", b"123")
    session.upload(file, url, progress=lambda count: seen.append(session.stat(f"{url}0").size))
    assert set(seen) == {3}
    with pytest.raises(UsageError, match="callback"):
        session.upload(file, url, progress=lambda count: seen.extend(session.read(f"{url}0")))


def test_in_asyncio(session: cosfs.Session, bucket: str, emulator: Emulator, file: Path) -> None:
    async def many() -> list[cosfs.TransferResult]:
        calls = [asyncio.to_thread(session.upload, file, f"cos://{bucket}/{number}") for number in range(4)]
        return await asyncio.gather(*calls)

    async def cancelled() -> None:
        cancellation = cosfs.Cancellation()
        call = asyncio.to_thread(session.upload, file, f"cos://{bucket}/no", cancellation=cancellation)
        task = asyncio.create_task(call)
        while not emulator.requests["UploadPart"]:  # noqa: ASYNC110 - counted by the server
            await asyncio.sleep(0.01)
        cancellation.cancel()
        await task

    assert [result.size for result in asyncio.run(many())] == [SIZE] * 4
    emulator.faults.latency(3600.0, "UploadPart")
    emulator.requests.reset()
    with pytest.raises(CancelledError):
        asyncio.run(cancelled())
    assert sorted(info.key for info in session.list(f"cos://{bucket}/")) == ["0", "1", "2", "3"]


async def test_in_trio(session: cosfs.Session, bucket: str, file: Path) -> None:
    done = await trio.to_thread.run_sync(session.upload, file, f"cos://{bucket}/k")
    assert done.size == SIZE
    assert session.stat(f"cos://{bucket}/k").size == SIZE


def test_mistakes_are_told(session: cosfs.Session, bucket: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no option 'secretid'"):
        cosfs.Session(secretid="x")
    with pytest.raises(UsageError, match="verify is"):
        cosfs.TransferOptions(verify="maybe")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="an address is a str, not list"):
        session.remove([f"cos://{bucket}/k"])  # type: ignore[arg-type]
    session.write(f"cos://{bucket}/k", b"1")
    with pytest.raises(UsageError, match="is a directory"):
        session.download(f"cos://{bucket}/k", f"{tmp_path}/new/")


def test_nothing_goes_on_in_a_closed_session(session: cosfs.Session, bucket: str) -> None:
    session.write(f"cos://{bucket}/k", b"1")
    session.close()
    for call in (
        lambda: session.stat(f"cos://{bucket}/k"),
        lambda: session.write(f"cos://{bucket}/k", b""),
        lambda: session.remove(f"cos://{bucket}/k"),
        lambda: list(session.list(f"cos://{bucket}/")),
        session.buckets,
    ):
        with pytest.raises(UsageError, match="closed"):
            call()


def test_lost_upload_is_told_at_the_end(
    session: cosfs.Session, bucket: str, emulator: Emulator, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    emulator.faults.reset("CreateMultipartUpload", after=True)
    session.upload(file, f"cos://{bucket}/k")
    (stray,) = session.client.list_uploads(bucket).uploads
    session.close()
    assert f"cos multipart abort cos://{bucket}/k --upload-id {stray.upload_id}" in caplog.text
