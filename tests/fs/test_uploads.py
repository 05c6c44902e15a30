"""Multipart uploads that nobody finished, and those that are just being opened."""

from __future__ import annotations

import time

import pytest
import trio

from cosfs.client.client import CosClient
from cosfs.client.model import Headers
from cosfs.emulator import Emulator, Fault
from tests.fs.support import Files, until


async def listed(files: Files, client: CosClient) -> list[str]:
    page = await trio.to_thread.run_sync(client.list_uploads, files.bucket)
    return [upload.upload_id for upload in page.uploads]


async def release_later(emulator: Emulator, fault: Fault) -> None:
    """Let an answer come while somebody waits for it."""
    await trio.sleep(0.3)
    emulator.faults.release(fault)


async def test_an_upload_that_is_just_being_opened_is_not_taken_for_a_lost_one(
    files: Files, client: CosClient, emulator: Emulator
) -> None:
    uploads = files.fs.committer.uploads
    answer = emulator.faults.stall(3600.0, "CreateMultipartUpload", 10)
    opened = []

    async def open_one() -> None:
        opened.append(await uploads.open(files.bucket, "big", Headers()))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(open_one)
        await until(lambda: emulator.requests["CreateMultipartUpload"])
        while not await listed(files, client):  # noqa: ASYNC110
            await trio.sleep(0.01)
        assert not opened
        nursery.start_soon(release_later, emulator, answer)
        assert await uploads.give_up(files.bucket, "big", "", time.time()) == 0
    assert await listed(files, client) == [opened[0].upload.upload_id]
    await uploads.abort(opened[0])
    assert await listed(files, client) == []


async def test_uploads_of_somebody_who_opens_them_himself_are_not_lost_while_he_does(
    files: Files, client: CosClient
) -> None:
    uploads = files.fs.committer.uploads
    found = []

    async def look() -> None:
        found.append(await uploads.give_up(files.bucket, "big", "", time.time()))

    async with trio.open_nursery() as nursery, uploads.intent(files.bucket, "big"):
        upload = await trio.to_thread.run_sync(client.create_upload, files.bucket, "big")
        nursery.start_soon(look)
        await trio.sleep(0.3)
        assert await listed(files, client) == [upload.upload_id]
        await trio.to_thread.run_sync(client.abort_upload, upload)
    assert await listed(files, client) == []
    assert len(found) == 1


async def test_an_upload_is_on_disk_before_cos_is_asked_for_it(
    files: Files, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upload that nobody knows of after a loss of power would cost money for ever."""
    uploads, journal = files.fs.committer.uploads, files.journal
    forced = []
    before = emulator.requests["CreateMultipartUpload"]
    sync = journal.sync

    def noted() -> None:
        sync()
        asked = emulator.requests["CreateMultipartUpload"] - before
        forced.append((asked, [record.kind for record in journal.records()]))

    monkeypatch.setattr(journal, "sync", noted)
    opened = await uploads.open(files.bucket, "big", Headers())
    assert forced == [(0, ["upload"])]
    await uploads.abort(opened)
    forced.clear()
    async with uploads.intent(files.bucket, "big"):
        assert forced == [(1, ["upload"])]


async def test_a_renamed_directory_is_on_disk_before_cos_is_asked_to_move_it(
    files: Files, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    await files.mkdir("d")
    await files.put("d/a", b"x")
    forced = []
    before = emulator.requests["CopyObject"]
    sync = files.journal.sync

    def noted() -> None:
        sync()
        asked = emulator.requests["CopyObject"] - before
        forced.append((asked, [record.kind for record in files.journal.records()]))

    monkeypatch.setattr(files.journal, "sync", noted)
    await files.rename("d", "e")
    assert forced[0] == (0, ["rename"])
    assert await files.stored("e/a") == b"x"
