"""An upload that COS opened although its answer was lost is found again, and nobody else's is touched."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from cosfs.client.client import CosClient
from cosfs.client.model import Upload
from cosfs.emulator import Emulator
from cosfs.errors import COSError
from cosfs.transfer import lost
from cosfs.transfer.engine import Engine
from cosfs.transfer.jobs import discard
from cosfs.transfer.lost import settle
from cosfs.transfer.resume import Records
from cosfs.transfer.upload import upload_file
from cosfs.units import MIB
from tests.objects import stored
from tests.transfer.support import SMALL_LIMITS, content, make_file, open_uploads

SIZE = 4 * MIB


@pytest.fixture
def file(tmp_path: Path) -> Path:
    make_file(tmp_path / "f", SIZE)
    return tmp_path / "f"


def lose_answers(emulator: Emulator, count: int = 1) -> None:
    emulator.faults.reset("CreateMultipartUpload", count=count, after=True)


def hour_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lost, "_ABANDONED", -lost._SKEW - 1)


async def test_idle_stray_is_aborted(
    engine: Engine, client: CosClient, bucket: str, emulator: Emulator, file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    lose_answers(emulator)
    await upload_file(engine, file, bucket, "k")
    assert open_uploads(client, bucket) == ["k"]
    hour_later(monkeypatch)
    assert await settle(engine) == []
    assert open_uploads(client, bucket) == []
    assert stored(client, bucket, "k") == content(SIZE)


async def test_young_stray_is_told(
    engine: Engine, client: CosClient, bucket: str, emulator: Emulator, file: Path
) -> None:
    lose_answers(emulator)
    await upload_file(engine, file, bucket, "k")
    (stray,) = await settle(engine)
    assert stray.upload is not None
    assert [stray.upload] == list(client.list_uploads(bucket).uploads)
    assert await settle(engine) == []  # told once


async def test_uploads_of_others_are_left(
    engine: Engine, client: CosClient, bucket: str, emulator: Emulator, file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    busy = client.create_upload(bucket, "k")
    client.upload_part(busy, 1, b"theirs")
    longer = client.create_upload(bucket, "k2")
    lose_answers(emulator)
    await upload_file(engine, file, bucket, "k")
    hour_later(monkeypatch)
    assert await settle(engine) == []
    assert {busy.upload_id, longer.upload_id} == {
        each.upload_id for each in client.list_uploads(bucket).uploads
    }


async def test_recorded_upload_of_another_process_is_left(
    client: CosClient, bucket: str, emulator: Emulator, file: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    records = Records(tmp_path / "resume")
    other = client.create_upload(bucket, "k")
    record = records.claim("upload", "elsewhere", f"cos://{bucket}/k")
    assert record is not None
    record.state.upload_id = other.upload_id
    record.save()
    hour_later(monkeypatch)
    async with Engine(client, SMALL_LIMITS, records=records) as engine:
        lose_answers(emulator)
        await upload_file(engine, file, bucket, "k")
        assert await settle(engine) == []
    record.release()
    assert list(client.list_uploads(bucket).uploads) == [replace(other, initiated=_initiated(client, other))]


def _initiated(client: CosClient, upload: Upload) -> float:
    return client.list_uploads(upload.bucket).uploads[0].initiated


async def test_failed_upload(
    engine: Engine, client: CosClient, bucket: str, emulator: Emulator, file: Path
) -> None:
    # The first answer is lost, the second says no: the stray is there all the same.
    lose_answers(emulator)
    denied = emulator.faults.error("CreateMultipartUpload", "AccessDenied", 403, count=1)
    denied.skip = 1
    with pytest.raises(COSError):
        await upload_file(engine, file, bucket, "k")
    assert len(await settle(engine)) == 1
    assert open_uploads(client, bucket) == ["k"]


async def test_no_question_without_doubt(
    engine: Engine, client: CosClient, bucket: str, emulator: Emulator, file: Path
) -> None:
    emulator.faults.error("CreateMultipartUpload", "AccessDenied", 403, count=1)
    with pytest.raises(COSError):
        await upload_file(engine, file, bucket, "k")
    await upload_file(engine, file, bucket, "k")
    emulator.requests.reset()
    assert await settle(engine) == []
    assert emulator.requests.total == 0


async def test_dead_server_is_told(
    engine: Engine, client: CosClient, bucket: str, emulator: Emulator, file: Path
) -> None:
    lose_answers(emulator)
    await upload_file(engine, file, bucket, "k")
    emulator.faults.error("ListMultipartUploads", "AccessDenied", 403, count=0)
    (stray,) = await settle(engine)
    assert (stray.key, stray.upload) == ("k", None)


@pytest.fixture
async def recording(client: CosClient, tmp_path: Path) -> AsyncIterator[Engine]:
    limits = replace(SMALL_LIMITS, resume_threshold=3 * MIB)
    async with Engine(client, limits, records=Records(tmp_path / "resume")) as running:
        yield running


async def killed_while_asking(engine: Engine, client: CosClient, bucket: str, file: Path) -> str:
    """Leave what a process leaves that was killed after COS had opened an upload, before it heard so."""
    records = engine.records
    assert records is not None
    record = records.claim("upload", str(file), f"cos://{bucket}/k")
    assert record is not None
    record.state.bucket, record.state.key, record.state.asked = bucket, "k", time.time()
    record.save()
    record.release()
    await trio.to_thread.run_sync(client.create_upload, bucket, "k")
    return record.id


@pytest.mark.parametrize("again", [True, False], ids=["run again", "cleaned"])
async def test_killed_while_asking(
    recording: Engine, client: CosClient, bucket: str, file: Path, monkeypatch: pytest.MonkeyPatch,
    again: bool,
) -> None:  # fmt: skip
    record_id = await killed_while_asking(recording, client, bucket, file)
    hour_later(monkeypatch)
    if again:
        await upload_file(recording, file, bucket, "k")
    else:
        await discard(recording, record_id)
    assert await settle(recording) == []
    assert open_uploads(client, bucket) == []
    assert recording.records is not None
    assert list(recording.records.all()) == []
