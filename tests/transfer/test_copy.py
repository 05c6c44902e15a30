"""Copies made by the server: verified, with everything the source says about itself."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from cosfs.client.client import CosClient
from cosfs.client.model import Headers, ObjectInfo
from cosfs.emulator import Emulator
from cosfs.errors import AlreadyExistsError, IntegrityError, ObjectNotFoundError, PreconditionFailedError
from cosfs.transfer.copy import copy_object
from cosfs.transfer.engine import Engine
from cosfs.transfer.options import TransferOptions
from cosfs.transfer.parts import part_size
from cosfs.units import MIB
from tests.objects import keys, stored
from tests.transfer.support import (
    HELD,
    SMALL_LIMITS,
    Moved,
    cancelled,
    content,
    open_uploads,
    settled,
)

HEADERS = Headers(
    content_type="text/x-test", cache_control="no-store", content_language="de", metadata={"colour": "blue"}
)
PARTS: Any = {"options": TransferOptions(part_threshold=2 * MIB)}


def put(client: CosClient, bucket: str, size: int, seed: int = 0) -> bytes:
    data = content(size, seed)
    client.put_object(bucket, "from", data, headers=HEADERS)
    return data


def listed(client: CosClient, bucket: str) -> ObjectInfo:
    return next(info for info in client.list_objects(bucket).objects if info.key == "from")


def headers_of(client: CosClient, bucket: str, key: str) -> Headers:
    info = client.head_object(bucket, key)
    assert info is not None
    assert info.headers is not None
    return info.headers


@pytest.mark.parametrize("size", [0, 10, 3 * MIB])
async def test_small_copy_is_one_request(
    engine: Engine, client: CosClient, bucket: str, emulator: Emulator, size: int
) -> None:
    data = put(client, bucket, size)
    info = listed(client, bucket)
    emulator.requests.reset()
    moved = Moved()
    result = await copy_object(engine, bucket, "from", bucket, "to", info=info, progress=moved)
    assert emulator.requests.snapshot() == {"CopyObject": 1}
    assert (result.size, moved.total) == (size, size)
    assert result.verified == "md5"
    assert stored(client, bucket, "to") == data
    assert headers_of(client, bucket, "to") == headers_of(client, bucket, "from")


async def test_large_copy_is_made_of_parts(
    engine: Engine, client: CosClient, bucket: str, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cosfs.transfer.copy._COPY_PART_SIZE", MIB)
    data = put(client, bucket, 5 * MIB + 1)
    info = listed(client, bucket)
    emulator.requests.reset()
    moved = Moved()
    result = await copy_object(engine, bucket, "from", bucket, "to", info=info, progress=moved, **PARTS)
    requests = emulator.requests.snapshot()
    assert part_size(info.size, MIB) == MIB
    assert requests.pop("UploadPartCopy") == 6
    assert requests.pop("HeadObject") <= 2
    assert requests == {"CreateMultipartUpload": 1, "CompleteMultipartUpload": 1, "GetObjectTagging": 1}
    assert result.verified == "crc64"
    assert moved.total == info.size
    assert stored(client, bucket, "to") == data
    assert headers_of(client, bucket, "to") == headers_of(client, bucket, "from")


@pytest.mark.parametrize("size", [10, 3 * MIB])
async def test_headers_and_class_can_be_replaced(
    engine: Engine, client: CosClient, bucket: str, size: int
) -> None:
    put(client, bucket, size)
    new = Headers(content_type="a/b", metadata={"taste": "sour"})
    await copy_object(engine, bucket, "from", bucket, "to", headers=new, storage_class="STANDARD_IA", **PARTS)
    info = client.head_object(bucket, "to")
    assert info is not None
    assert info.headers is not None
    assert info.storage_class == "STANDARD_IA"
    assert (info.headers.content_type, dict(info.headers.metadata)) == ("a/b", {"taste": "sour"})


@pytest.mark.parametrize("size", [10, 3 * MIB])
async def test_nothing_is_known_about_the_source(
    engine: Engine, client: CosClient, bucket: str, size: int
) -> None:
    data = put(client, bucket, size)
    await copy_object(engine, bucket, "from", bucket, "to", **PARTS)
    assert stored(client, bucket, "to") == data
    with pytest.raises(ObjectNotFoundError):
        await copy_object(engine, bucket, "nothing", bucket, "to", **PARTS)


@pytest.mark.parametrize("size", [10, 3 * MIB])
async def test_source_replaced_since_it_was_listed(
    engine: Engine, client: CosClient, bucket: str, size: int
) -> None:
    put(client, bucket, size)
    info = listed(client, bucket)
    data = put(client, bucket, size + 1, 1)
    result = await copy_object(engine, bucket, "from", bucket, "to", info=info, **PARTS)
    assert result.attempts == (2 if size == 10 else result.attempts)
    assert stored(client, bucket, "to") == data


@pytest.mark.parametrize("size", [10, 3 * MIB])
async def test_existing_object_can_be_kept(engine: Engine, client: CosClient, bucket: str, size: int) -> None:
    put(client, bucket, size)
    client.put_object(bucket, "to", b"before")
    with pytest.raises(AlreadyExistsError):
        await copy_object(engine, bucket, "from", bucket, "to", forbid_overwrite=True, **PARTS)
    assert stored(client, bucket, "to") == b"before"
    assert open_uploads(client, bucket) == []


@pytest.mark.parametrize("size", [10, 3 * MIB])
@pytest.mark.parametrize("operation", ["CopyObject", "UploadPartCopy", "CompleteMultipartUpload"])
async def test_errors_inside_of_a_success_are_got_over(
    engine: Engine, client: CosClient, bucket: str, emulator: Emulator, size: int, operation: str
) -> None:
    data = put(client, bucket, size)
    emulator.faults.error(operation, "InternalError", 200)
    await copy_object(engine, bucket, "from", bucket, "to", **PARTS)
    assert stored(client, bucket, "to") == data


class Lying:
    """A client whose copies have another checksum and no MD5."""

    def __init__(self, client: CosClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        from dataclasses import replace

        method = getattr(self._client, name)
        if name not in ("copy_object", "complete_upload"):
            return method

        def lie(*args: Any, **kwargs: Any) -> Any:
            return replace(method(*args, **kwargs), etag="x-1", crc64=1)

        return lie


@pytest.mark.parametrize("size", [10, 3 * MIB])
async def test_wrong_copy_is_noticed(client: CosClient, bucket: str, size: int) -> None:
    put(client, bucket, size)
    lying: Any = Lying(client)
    async with Engine(lying, SMALL_LIMITS) as engine:
        with pytest.raises(IntegrityError, match="checksum of the copy"):
            await copy_object(engine, bucket, "from", bucket, "to", **PARTS)
        await settled(engine)


async def test_copy_to_another_bucket(
    engine: Engine, client: CosClient, bucket: str, emulator: Emulator
) -> None:
    data = put(client, bucket, 3 * MIB)
    other = bucket.replace("test-", "other-")
    client.create_bucket(other)
    for threshold in (2 * MIB, 5 * MIB):
        await copy_object(
            engine, bucket, "from", other, "to", options=TransferOptions(part_threshold=threshold)
        )
        assert stored(client, other, "to") == data


async def test_source_that_keeps_changing_fails(client: CosClient, bucket: str) -> None:
    put(client, bucket, 3 * MIB)
    seeds = iter(range(1, 100))

    class Changing:
        def __getattr__(self, name: str) -> Any:
            if name == "upload_part_copy":
                client.put_object(bucket, "from", content(3 * MIB, next(seeds)))
            return getattr(client, name)

    changing: Any = Changing()
    async with Engine(changing, SMALL_LIMITS) as engine:
        with pytest.raises(PreconditionFailedError):
            await copy_object(engine, bucket, "from", bucket, "to", **PARTS)
        await settled(engine)
    assert open_uploads(client, bucket) == []


async def test_what_was_cancelled_is_not_asked_for_again(
    engine: Engine, client: CosClient, bucket: str, emulator: Emulator
) -> None:
    """Whoever cancelled it may have stored something else there since."""
    put(client, bucket, 10)
    info = listed(client, bucket)
    held = emulator.faults.latency(HELD, "CopyObject")
    emulator.faults.error("CopyObject", "SlowDown", 503)
    copy = partial(copy_object, engine, bucket, "from", bucket, "to", info=info)
    await cancelled(copy, lambda: held.struck)
    emulator.faults.release(held)
    await settled(engine)
    assert keys(client, bucket) == ["from"]
