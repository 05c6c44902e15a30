"""Multipart uploads through CosClient, against the emulator."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from cosfs.client.client import CosClient
from cosfs.client.crc64 import crc64
from cosfs.client.model import Headers, Part, Upload
from cosfs.errors import (
    AlreadyExistsError,
    IntegrityError,
    NotFoundError,
    ObjectNotFoundError,
    PreconditionFailedError,
    ServiceError,
)
from tests.client.conftest import put

PART = 1 << 20


def test_multipart_upload(client: CosClient, bucket: str) -> None:
    data = random.randbytes(2 * PART + 12345)
    upload = client.create_upload(bucket, "k", headers=Headers(content_type="text/x", metadata={"m": "1"}))
    parts = {}
    for number in (3, 1, 2):
        parts[number] = client.upload_part(upload, number, data[(number - 1) * PART : number * PART])
    parts[2] = client.upload_part(upload, 2, data[PART : 2 * PART])
    listed = client.list_parts(upload)
    assert [(p.number, p.etag, p.size) for p in listed] == [
        (n, parts[n].etag, parts[n].size) for n in (1, 2, 3)
    ]
    (open_,) = client.list_uploads(bucket, prefix="k").uploads
    assert (open_.key, open_.upload_id) == ("k", upload.upload_id)
    assert open_.initiated > 0
    result = client.complete_upload(upload, list(parts.values()))
    assert result.crc64 == crc64(data)
    info, read = client.get_range(bucket, "k", 0, len(data))
    assert read == data
    assert info.etag == result.etag
    assert info.headers is not None
    assert (info.headers.content_type, dict(info.headers.metadata)) == ("text/x", {"m": "1"})
    assert client.list_uploads(bucket).uploads == []


def test_parts_can_be_copied_by_the_server(client: CosClient, bucket: str) -> None:
    data = random.randbytes(PART + 5000)
    stored = client.put_object(bucket, "source", data)
    upload = client.create_upload(bucket, "k")
    parts = [
        client.upload_part_copy(upload, 1, bucket, "source", 0, PART, if_match=stored.etag),
        client.upload_part_copy(upload, 2, bucket, "source", PART + 1, PART + 4001),
        client.upload_part(upload, 3, b"end"),
    ]
    assert [part.size for part in parts] == [PART, 4000, 3]
    with pytest.raises(ServiceError) as caught:
        client.complete_upload(upload, parts)
    assert caught.value.code == "EntityTooSmall"
    parts[1] = client.upload_part_copy(upload, 2, bucket, "source", 5000, PART + 5000)
    client.complete_upload(upload, parts)
    assert client.get_range(bucket, "k", 0, 3 * PART)[1] == data[:PART] + data[5000:] + b"end"
    put(client, bucket, "source", b"other")
    with pytest.raises(PreconditionFailedError):
        client.upload_part_copy(
            client.create_upload(bucket, "x"), 1, bucket, "source", 0, 1, if_match=stored.etag
        )


def test_abort_twice_is_fine(client: CosClient, bucket: str) -> None:
    upload = client.create_upload(bucket, "k")
    client.upload_part(upload, 1, b"x")
    client.abort_upload(upload)
    client.abort_upload(upload)
    with pytest.raises(NotFoundError) as caught:
        client.upload_part(upload, 1, b"x")
    assert caught.value.code == "NoSuchUpload"
    assert not isinstance(caught.value, ObjectNotFoundError)
    with pytest.raises(NotFoundError):
        client.list_parts(upload)
    with pytest.raises(NotFoundError):
        client.complete_upload(upload, [Part(1, "0" * 32, 1)])


def test_completing_can_be_forbidden_to_overwrite(client: CosClient, bucket: str) -> None:
    put(client, bucket, "k", b"mine")
    with pytest.raises(AlreadyExistsError):
        upload = client.create_upload(bucket, "k", forbid_overwrite=True)
        client.complete_upload(upload, [client.upload_part(upload, 1, b"x")], forbid_overwrite=True)
    assert client.get_range(bucket, "k", 0, 10)[1] == b"mine"


def test_wrong_crc_of_a_part_shows_when_completing(client: CosClient, bucket: str) -> None:
    upload = client.create_upload(bucket, "k")
    part = client.upload_part(upload, 1, b"data")
    with pytest.raises(IntegrityError):
        client.complete_upload(upload, [replace(part, crc64=(part.crc64 or 0) ^ 1)])


def test_unknown_upload(client: CosClient, bucket: str) -> None:
    with pytest.raises(NotFoundError):
        client.list_parts(Upload(bucket, "k", "1700000000" + "0" * 64))
