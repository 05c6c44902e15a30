"""Parts of which the checksum is known before they are sent."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from cosfs.client import uploads
from cosfs.client.body import FileBody
from cosfs.client.client import CosClient
from cosfs.client.crc64 import crc64
from cosfs.client.headers import put_result
from cosfs.client.model import PutResult
from cosfs.emulator import Emulator
from cosfs.transfer.engine import Engine
from cosfs.transfer.multipart import MultipartUpload
from cosfs.units import MIB
from tests.objects import stored

DATA = os.urandom(2 * MIB)


@pytest.fixture
def body(tmp_path: Path) -> FileBody:
    path = tmp_path / "file"
    path.write_bytes(b"before" + DATA + b"after")
    return FileBody(path, 6, len(DATA))


async def send(engine: Engine, bucket: str, body: FileBody, crc: int) -> MultipartUpload:
    upload = await MultipartUpload.create(engine, bucket, "k")
    with body:
        part = await upload.send(1, body, once=True, crc64=crc)
    assert part.crc64 == crc64(DATA)
    await upload.complete()
    return upload


async def test_a_part_is_sent_without_being_read(
    engine: Engine,
    client: CosClient,
    bucket: str,
    emulator: Emulator,
    body: FileBody,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(FileBody, "chunks")
    await send(engine, bucket, body, crc64(DATA))
    assert emulator.requests["UploadPart"] == 1
    assert stored(client, bucket, "k") == DATA


async def test_a_part_that_is_another_one_by_now_is_sent_again(
    engine: Engine, client: CosClient, bucket: str, emulator: Emulator, body: FileBody
) -> None:
    upload = await send(engine, bucket, body, crc64(DATA) ^ 1)
    assert emulator.requests["UploadPart"] == 2
    assert upload.sums_once  # nothing is wrong with the server
    assert stored(client, bucket, "k") == DATA


async def test_a_server_that_tells_no_checksum_gets_each_part_but_one_once(
    engine: Engine,
    client: CosClient,
    bucket: str,
    emulator: Emulator,
    body: FileBody,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def silent(headers: Mapping[str, str]) -> PutResult:
        return replace(put_result(headers), crc64=None)

    monkeypatch.setattr(uploads, "put_result", silent)
    upload = await send(engine, bucket, body, crc64(DATA))
    assert emulator.requests["UploadPart"] == 2
    assert not upload.sums_once
    assert stored(client, bucket, "k") == DATA
