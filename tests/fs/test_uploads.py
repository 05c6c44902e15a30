"""Multipart uploads that nobody finished, and those that are just being opened."""

from __future__ import annotations

import time

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
