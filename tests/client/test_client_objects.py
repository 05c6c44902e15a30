"""Objects and their keys through CosClient, against the emulator."""

from __future__ import annotations

import hashlib
import random
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

from cosfs.client.body import FileBody
from cosfs.client.client import CosClient
from cosfs.client.crc64 import crc64
from cosfs.client.model import Headers, ObjectId
from cosfs.emulator import Emulator
from cosfs.errors import (
    AlreadyExistsError,
    ArchivedError,
    IntegrityError,
    ObjectNotFoundError,
    PreconditionFailedError,
    ServiceError,
    UsageError,
)
from tests.client.conftest import put

HOSTILE = [
    "plain",
    "a b+c&d=e;f,g@h:i$j!k*l'm(n)",
    "percent%41%2F%",
    "question?x=1#fragment",
    "中文/路径/文件.txt",
    "emoji-😀",
    "é-composed",
    "é-decomposed",
    ".",
    "..",
    "../escape",
    "a/../b",
    "a/./b",
    "a/..",
    "./",
    "a//b",
    "//",
    "/leading",
    "//leading",
    "trailing/",
    "trailing//",
    "dir/.hidden",
    "...",
    "back\\slash",
    "line\nbreak",
    "carriage\rreturn",
    "tab\ttab",
    "control\x01\x02\x1f",
    "delete\x7f",
    "\ufffe-noncharacter",
    "<xml>&amp;\"'</xml>",
    "]]>",
    " leading and trailing ",
    "~tilde-_.",
    "uploads",
    "x" * 850,
]


@pytest.mark.parametrize("size", [0, 1, 4096, 100_000, 2_000_000])
def test_object_comes_back_as_it_was_put(client: CosClient, bucket: str, size: int) -> None:
    data = random.randbytes(size)
    result = client.put_object(bucket, "k", data)
    assert result.etag == hashlib.md5(data).hexdigest()
    assert result.crc64 == crc64(data)
    info, read = client.get_range(bucket, "k", 0, size + 10)
    assert read == data
    assert (info.size, info.etag, info.crc64) == (size, result.etag, result.crc64)
    with client.get_object(bucket, "k") as stream:
        assert b"".join(stream.chunks(1000)) == data
        assert stream.read_some() == b""


def test_file_is_put_without_being_loaded(client: CosClient, bucket: str, tmp_path: Path) -> None:
    data = random.randbytes(3_000_000)
    path = tmp_path / "file"
    path.write_bytes(data)
    with FileBody(path, 500_000, 2_000_000) as body:
        result = client.put_object(bucket, "k", body)
    assert result.crc64 == crc64(data[500_000:2_500_000])


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_every_kind_of_memory_can_be_put(client: CosClient, bucket: str, kind: type[bytearray]) -> None:
    for size in (100, 300_000):
        data = random.randbytes(size)
        client.put_object(bucket, "k", kind(data))
        assert client.get_range(bucket, "k", 0, size)[1] == data


def test_headers_and_metadata_come_back(client: CosClient, bucket: str) -> None:
    headers = Headers(
        content_type="text/x-test",
        cache_control="max-age=60",
        content_disposition='attachment; filename="a b.txt"',
        content_encoding="gzip",
        content_language="zh",
        expires="Sun, 06 Nov 1994 08:49:37 GMT",
        storage_class="STANDARD_IA",
        metadata={"Mode": "33188", "note": "per%20cent", "long": "x" * 500},
    )
    client.put_object(bucket, "k", b"not gzip at all", headers=headers)
    info = client.head_object(bucket, "k")
    assert info is not None and info.headers is not None
    expected = replace(headers, metadata={n.lower(): v for n, v in headers.metadata.items()})
    assert replace(info.headers, extra={}) == expected
    assert info.storage_class == "STANDARD_IA"
    # Stored encodings are the reader's business: the bytes come as they are.
    assert client.get_range(bucket, "k", 0, 100)[1] == b"not gzip at all"


@pytest.mark.parametrize("value", ["a\nb", "a\r\nx-cos-acl: public-read", "nul\0", "del\x7f"])
def test_metadata_with_control_characters_is_not_sent(client: CosClient, bucket: str, value: str) -> None:
    before = client.stats.snapshot()["requests"]
    with pytest.raises(UsageError, match="control character"):
        client.put_object(bucket, "k", b"", headers=Headers(metadata={"x": value}))
    with pytest.raises(UsageError, match="name of metadata"):
        client.put_object(bucket, "k", b"", headers=Headers(metadata={value: "x"}))
    assert client.stats.snapshot()["requests"].get("PutObject", 0) <= before.get("PutObject", 0) + 1


def test_metadata_that_is_not_ascii_survives(client: CosClient, bucket: str) -> None:
    client.put_object(bucket, "k", b"", headers=Headers(metadata={"name": "中文"}))
    info = client.head_object(bucket, "k")
    assert info is not None and info.headers is not None
    assert info.headers.metadata == {"name": "中文"}
    client.copy_object(bucket, "k2", bucket, "k", headers=info.headers)
    copied = client.head_object(bucket, "k2")
    assert copied is not None and copied.headers is not None
    assert copied.headers.metadata == {"name": "中文"}


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 1), (0, 1000), (10, 20), (999, 1000), (500, 5000), (0, 5000), (999, 5000)]
)
def test_ranges_are_half_open(client: CosClient, bucket: str, start: int, stop: int) -> None:
    data = random.randbytes(1000)
    put(client, bucket, "k", data)
    info, read = client.get_range(bucket, "k", start, stop)
    assert read == data[start:stop]
    assert info.size == 1000 and info.crc64 == crc64(data)
    with client.get_object(bucket, "k", start=start, stop=stop) as stream:
        buffer = bytearray(2000)
        filled = 0
        while count := stream.read_into(memoryview(buffer)[filled:]):
            filled += count
        assert buffer[:filled] == data[start:stop]
        assert (stream.start, stream.stop) == (start, min(stop, 1000))


def test_open_ended_and_empty_ranges(client: CosClient, bucket: str) -> None:
    put(client, bucket, "k", b"0123456789")
    put(client, bucket, "empty")
    with client.get_object(bucket, "k", start=7) as stream:
        assert stream.read_some() == b"789"
    for key, start, stop in (
        ("k", 0, 0),
        ("k", 5, 5),
        ("empty", 0, 0),
        ("empty", 0, None),
        ("empty", 0, 100),
    ):
        with client.get_object(bucket, key, start=start, stop=stop) as stream:
            assert stream.read_some() == b""
            assert stream.info.size == (10 if key == "k" else 0)
    assert client.get_range(bucket, "empty", 0, 100)[1] == b""
    assert client.get_range(bucket, "k", 3, 3)[1] == b""


@pytest.mark.parametrize(("start", "stop"), [(10, 20), (11, 20), (1000, None)])
def test_range_behind_the_end_is_an_error(
    client: CosClient, bucket: str, start: int, stop: int | None
) -> None:
    put(client, bucket, "k", b"0123456789")
    with pytest.raises(ServiceError) as caught:
        client.get_object(bucket, "k", start=start, stop=stop)
    assert (caught.value.status, caught.value.code) == (416, "InvalidRange")


@pytest.mark.parametrize(("start", "stop"), [(-1, 5), (5, 4)])
def test_range_that_makes_no_sense_is_not_sent(client: CosClient, bucket: str, start: int, stop: int) -> None:
    with pytest.raises(UsageError):
        client.get_object(bucket, "k", start=start, stop=stop)


def test_conditions(client: CosClient, bucket: str) -> None:
    etag = put(client, bucket, "k", b"one")
    assert client.head_object(bucket, "k", if_match=etag) is not None
    assert client.head_object(bucket, "k", if_none_match=etag) is None
    with client.get_object(bucket, "k", if_match=etag) as stream:
        assert stream.read_some() == b"one"
    with pytest.raises(ServiceError) as caught:
        client.get_object(bucket, "k", if_none_match=etag)
    assert (caught.value.status, caught.value.code) == (304, "NotModified")
    put(client, bucket, "k", b"two")
    for call in (
        lambda: client.head_object(bucket, "k", if_match=etag),
        lambda: client.get_object(bucket, "k", if_match=etag),
        lambda: client.get_range(bucket, "k", 0, 1, if_match=etag),
        lambda: client.copy_object(bucket, "c", bucket, "k", if_match=etag),
    ):
        with pytest.raises(PreconditionFailedError):
            call()


def test_missing_object_says_so(client: CosClient, bucket: str) -> None:
    for call in (
        lambda: client.head_object(bucket, "k"),
        lambda: client.get_object(bucket, "k"),
        lambda: client.get_range(bucket, "k", 0, 1),
        lambda: client.copy_object(bucket, "c", bucket, "k"),
    ):
        with pytest.raises(ObjectNotFoundError):
            call()
    client.delete_object(bucket, "k")


def test_missing_object_costs_one_head_once_the_bucket_is_known(
    client: CosClient, bucket: str, emulator: Emulator
) -> None:
    client.list_objects(bucket)
    before = client.stats.snapshot()["requests"]
    with pytest.raises(ObjectNotFoundError):
        client.head_object(bucket, "k")
    after = client.stats.snapshot()["requests"]
    assert after["HeadObject"] == before.get("HeadObject", 0) + 1
    assert after.get("GetObject", 0) == before.get("GetObject", 0)


def test_overwriting_can_be_forbidden(client: CosClient, bucket: str) -> None:
    client.put_object(bucket, "k", b"first", forbid_overwrite=True)
    with pytest.raises(AlreadyExistsError):
        client.put_object(bucket, "k", b"second", forbid_overwrite=True)
    with pytest.raises(AlreadyExistsError):
        client.copy_object(
            bucket, "k", bucket, "k2" if put(client, bucket, "k2") else "", forbid_overwrite=True
        )
    assert client.get_range(bucket, "k", 0, 10)[1] == b"first"


def test_wrong_checksum_of_the_caller_is_noticed(client: CosClient, bucket: str) -> None:
    with pytest.raises(IntegrityError, match="checksum"):
        client.put_object(bucket, "k", b"data", content_md5=hashlib.md5(b"data").digest(), crc64=1)
    with pytest.raises(ServiceError) as caught:
        client.put_object(bucket, "k", b"data", content_md5=hashlib.md5(b"other").digest(), crc64=1)
    assert caught.value.code == "BadDigest"


def test_copy_keeps_or_replaces_metadata(client: CosClient, bucket: str) -> None:
    headers = Headers(content_type="text/a", metadata={"a": "1"})
    stored = client.put_object(bucket, "k", b"data", headers=headers)
    kept = client.copy_object(bucket, "kept", bucket, "k", if_match=stored.etag)
    assert (kept.etag, kept.crc64) == (stored.etag, stored.crc64)
    client.copy_object(bucket, "k", bucket, "k", headers=Headers(content_type="text/b", metadata={"b": "2"}))
    client.copy_object(bucket, "ia", bucket, "kept", storage_class="STANDARD_IA")
    shown = {}
    for key in ("kept", "k", "ia"):
        info = client.head_object(bucket, key)
        assert info is not None and info.headers is not None
        shown[key] = (info.headers.content_type, dict(info.headers.metadata), info.storage_class)
    assert shown == {
        "kept": ("text/a", {"a": "1"}, "STANDARD"),
        "k": ("text/b", {"b": "2"}, "STANDARD"),
        "ia": ("text/a", {"a": "1"}, "STANDARD_IA"),
    }


def test_missing_object_has_the_same_code_whatever_was_asked_before(client: CosClient, bucket: str) -> None:
    for _ in range(2):
        with pytest.raises(ObjectNotFoundError) as caught:
            client.head_object(bucket, "missing")
        assert caught.value.code == "NoSuchKey"
        client.put_object(bucket, "there", b"")


def test_archived_object_must_be_restored(client: CosClient, bucket: str) -> None:
    client.put_object(bucket, "k", b"cold", headers=Headers(storage_class="ARCHIVE"))
    info = client.head_object(bucket, "k")
    assert info is not None and info.archived
    with pytest.raises(ArchivedError, match="cos restore"):
        client.get_object(bucket, "k")
    client.restore_object(bucket, "k", days=2, tier="Expedited")


@pytest.mark.parametrize("key", HOSTILE, ids=lambda key: repr(key[:30]))
def test_hostile_key_is_an_object_of_its_own(client: CosClient, bucket: str, key: str) -> None:
    data = key.encode()
    etag = put(client, bucket, key, data)
    put(client, bucket, "bystander", b"untouched")
    page = client.list_objects(bucket)
    assert {info.key for info in page.objects} == {key, "bystander"}
    assert client.list_objects(bucket, prefix=key).objects[0].key == key
    info = client.head_object(bucket, key)
    assert info is not None and info.etag == etag
    assert client.get_range(bucket, key, 0, 1000)[1] == data
    client.copy_object(bucket, "copy-of-it", bucket, key)
    client.delete_object(bucket, key)
    client.copy_object(bucket, key, bucket, "copy-of-it")
    upload = client.create_upload(bucket, key)
    assert [open_.key for open_ in client.list_uploads(bucket).uploads] == [key]
    client.complete_upload(upload, [client.upload_part(upload, 1, b"again")])
    with urllib.request.urlopen(client.presign("GET", bucket, key, expires=60)) as answer:
        assert answer.read() == b"again"
    assert client.delete_objects(bucket, [ObjectId(key), ObjectId("copy-of-it")]) == []
    assert [info.key for info in client.list_objects(bucket).objects] == ["bystander"]


def test_empty_key_never_means_the_bucket(client: CosClient, bucket: str) -> None:
    for call in (
        lambda: client.put_object(bucket, "", b""),
        lambda: client.delete_object(bucket, ""),
        lambda: client.head_object(bucket, ""),
        lambda: client.get_object(bucket, ""),
        lambda: client.create_upload(bucket, ""),
        lambda: client.copy_object(bucket, "k", bucket, ""),
        lambda: client.delete_objects(bucket, [ObjectId("")]),
        lambda: client.presign("DELETE", bucket, "", expires=1),
    ):
        with pytest.raises(UsageError):
            call()
    client.head_bucket(bucket)


def test_what_is_wrong_with_the_source_of_a_copy_is_said_of_the_source(
    client: CosClient, bucket: str
) -> None:
    client.put_object(bucket, "cold", b"x", headers=Headers(storage_class="ARCHIVE"))
    for source, kind in (("cold", ArchivedError), ("none", ObjectNotFoundError)):
        with pytest.raises(kind) as raised:
            client.copy_object(bucket, "copy", bucket, source)
        assert f"{bucket}/{source}:" in str(raised.value)
        assert f"{bucket}/copy" not in str(raised.value)
