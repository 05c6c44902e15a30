"""Every operation of CosClient against the emulator, over a socket."""

from __future__ import annotations

import hashlib
import random
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.error import HTTPError

import pytest

from cosfs.client.auth import Credentials, StaticCredentials
from cosfs.client.body import FileBody
from cosfs.client.client import CosClient
from cosfs.client.crc64 import crc64
from cosfs.client.model import Headers, ObjectId, Part, Upload
from cosfs.config import Settings
from cosfs.emulator import Emulator
from cosfs.errors import (
    AlreadyExistsError,
    ArchivedError,
    AuthenticationError,
    BucketNotEmptyError,
    BucketNotFoundError,
    IntegrityError,
    NotFoundError,
    ObjectNotFoundError,
    PermissionDeniedError,
    PreconditionFailedError,
    ServiceError,
    UsageError,
)

MISSING = "missing-1250000000"
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


def put(client: CosClient, bucket: str, key: str, data: bytes = b"") -> str:
    return client.put_object(bucket, key, data).etag


# --- buckets


def test_buckets_are_made_listed_and_removed(client: CosClient) -> None:
    name = "lifetime-1250000000"
    client.create_bucket(name)
    try:
        assert name in {bucket.name for bucket in client.list_buckets()}
        assert client.head_bucket(name).region == "ap-guangzhou"
        with pytest.raises(AlreadyExistsError):
            client.create_bucket(name)
    finally:
        client.delete_bucket(name)
    assert name not in {bucket.name for bucket in client.list_buckets()}
    with pytest.raises(BucketNotFoundError, match=f"cos://{name}: the bucket does not exist"):
        client.head_bucket(name)


def test_bucket_with_a_canned_acl_can_be_read_unsigned(client: CosClient, settings: Settings) -> None:
    name = "public-1250000000"
    client.create_bucket(name, acl="public-read")
    put(client, name, "k", b"seen by all")
    with CosClient(settings.client, None) as unsigned:
        assert unsigned.get_range(name, "k", 0, 100)[1] == b"seen by all"
        with pytest.raises(PermissionDeniedError):
            unsigned.put_object(name, "k", b"no")


def test_bucket_that_is_not_empty_stays(client: CosClient, bucket: str) -> None:
    put(client, bucket, "k")
    with pytest.raises(BucketNotEmptyError):
        client.delete_bucket(bucket)


def test_short_names_are_completed(client: CosClient, bucket: str, settings: Settings) -> None:
    short = bucket.removesuffix("-1250000000")
    assert client.resolve_bucket(bucket) == bucket
    assert client.resolve_bucket(short) == bucket
    assert client.resolve_bucket("nobody-has-this") == "nobody-has-this"
    with CosClient(replace(settings.client, appid="1234567890"), client.credentials) as other:
        assert other.resolve_bucket("any") == "any-1234567890"


def test_region_of_a_bucket(client: CosClient, bucket: str, settings: Settings) -> None:
    assert client.region_of(bucket) == "ap-guangzhou"
    with CosClient(replace(settings.client, region=""), client.credentials) as nowhere:
        assert nowhere.region_of(bucket) == "ap-guangzhou"
        assert nowhere.region_of(MISSING) == ""


def test_missing_bucket_says_so(client: CosClient) -> None:
    with pytest.raises(BucketNotFoundError) as caught:
        client.list_objects(MISSING)
    assert caught.value.code == "NoSuchBucket"
    assert caught.value.request_id
    with pytest.raises(BucketNotFoundError):
        client.put_object(MISSING, "k", b"")
    # HEAD has no body that could tell a missing bucket from a missing object.
    with pytest.raises(BucketNotFoundError):
        client.head_object(MISSING, "k")


# --- objects


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


# --- keys


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


# --- listings


def test_listing_pages_in_byte_order(client: CosClient, bucket: str) -> None:
    keys = ["a", "a-b", "a/1", "a/2", "a0", "b/x/y", "中", "😀"]
    for key in keys:
        put(client, bucket, key)
    seen, marker = [], ""
    while True:
        page = client.list_objects(bucket, marker=marker, max_keys=3)
        seen += [info.key for info in page.objects]
        marker = page.next_marker
        if not page.truncated:
            break
    assert seen == sorted(keys, key=str.encode)
    page = client.list_objects(bucket, delimiter="/")
    assert [info.key for info in page.objects] == ["a", "a-b", "a0", "中", "😀"]
    assert list(page.prefixes) == ["a/", "b/"]
    first = client.list_objects(bucket, delimiter="/", max_keys=3)
    rest = client.list_objects(bucket, delimiter="/", marker=first.next_marker)
    assert len(first.objects) + len(first.prefixes) == 3
    assert [*first.prefixes, *rest.prefixes] == ["a/", "b/"]


def test_listing_says_what_it_knows(client: CosClient, bucket: str) -> None:
    stored = client.put_object(bucket, "k", b"data", headers=Headers(storage_class="STANDARD_IA"))
    (info,) = client.list_objects(bucket).objects
    assert (info.size, info.etag, info.storage_class) == (4, stored.etag, "STANDARD_IA")
    assert abs(info.last_modified - stored.last_modified) < 5
    assert info.headers is None


def test_versions(client: CosClient, bucket: str) -> None:
    from cosfs.client.control import ControlPlane

    ControlPlane(client).call("put_bucket_versioning", Bucket=bucket, Status="Enabled")
    first = client.put_object(bucket, "k", b"one")
    second = client.put_object(bucket, "k", b"two")
    assert first.version_id and second.version_id != first.version_id
    client.delete_object(bucket, "k")
    page = client.list_versions(bucket)
    assert [(v.is_delete_marker, v.is_latest, v.size) for v in page.versions] == [
        (True, True, 0),
        (False, False, 3),
        (False, False, 3),
    ]
    with client.get_object(bucket, "k", version_id=first.version_id) as stream:
        assert stream.read_some() == b"one"
    info = client.head_object(bucket, "k", version_id=second.version_id)
    assert info is not None and info.version_id == second.version_id
    client.copy_object(bucket, "k2", bucket, "k", source_version_id=first.version_id)
    assert client.get_range(bucket, "k2", 0, 10)[1] == b"one"
    small = client.list_versions(bucket, max_keys=2)
    rest = client.list_versions(
        bucket, key_marker=small.next_key_marker, version_id_marker=small.next_version_id_marker
    )
    assert len(small.versions) + len(rest.versions) == 4
    everything = [ObjectId(v.key, v.version_id) for v in client.list_versions(bucket).versions]
    assert client.delete_objects(bucket, everything) == []
    assert client.list_versions(bucket).versions == []
    with pytest.raises(NotFoundError):
        client.get_object(bucket, "k", version_id=first.version_id)


def test_many_are_deleted_at_once(client: CosClient, bucket: str, emulator: Emulator) -> None:
    keys = [f"k{number}" for number in range(50)]
    for key in keys:
        put(client, bucket, key)
    before = client.stats.snapshot()["requests"].get("DeleteObjects", 0)
    assert client.delete_objects(bucket, [ObjectId(key) for key in [*keys, "never-there"]]) == []
    assert client.stats.snapshot()["requests"]["DeleteObjects"] == before + 1
    assert client.list_objects(bucket).objects == []
    assert client.delete_objects(bucket, []) == []
    with pytest.raises(UsageError, match="1,000"):
        client.delete_objects(bucket, [ObjectId("k")] * 1001)


# --- multipart uploads

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


# --- presigned URLs


def test_presigned_urls(client: CosClient, bucket: str) -> None:
    put(client, bucket, "a b/中.txt", b"data")
    url = client.presign("GET", bucket, "a b/中.txt", expires=60, params={"response-content-type": "text/x"})
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == b"data"
        assert answer.headers["Content-Type"] == "text/x"
    url = client.presign("PUT", bucket, "new", expires=60, headers={"Content-Type": "text/y"})
    request = urllib.request.Request(url, b"body", {"Content-Type": "text/y"}, method="PUT")
    urllib.request.urlopen(request).close()
    with pytest.raises(HTTPError) as caught:
        urllib.request.urlopen(urllib.request.Request(url, b"body", {"Content-Type": "text/z"}, method="PUT"))
    assert caught.value.code == 403
    caught.value.close()


# --- who is asking


@pytest.fixture
def impostor(settings: Settings, emulator: Emulator) -> Iterator[CosClient]:
    wrong = StaticCredentials(Credentials(emulator.secret_id, "not-the-key"))
    with CosClient(settings.client, wrong) as made:
        yield made


def test_wrong_secret_key(impostor: CosClient, bucket: str) -> None:
    with pytest.raises(AuthenticationError, match="does not belong to this SecretId") as caught:
        impostor.list_objects(bucket)
    assert caught.value.code == "SignatureDoesNotMatch"
    assert "COS_SECRET_KEY" in caught.value.hint
    # HEAD answers say 403 and no more: the reason is asked for.
    with pytest.raises(AuthenticationError, match="does not belong"):
        impostor.head_object(bucket, "k")


def test_unknown_secret_id(settings: Settings, bucket: str) -> None:
    unknown = StaticCredentials(Credentials("AKID" + "0" * 32, "x"))
    with (
        CosClient(settings.client, unknown) as made,
        pytest.raises(AuthenticationError, match="does not know this SecretId"),
    ):
        made.list_objects(bucket)


def test_virtual_hosts_through_a_proxy(settings: Settings, client: CosClient, bucket: str) -> None:
    # The emulator answers as a forward proxy would: real host names without a resolver.
    real = replace(
        settings.client,
        endpoint_url="http://cos.ap-guangzhou.myqcloud.com",
        proxy=settings.client.endpoint_url,
    )
    with CosClient(real, client.credentials) as made:
        made.put_object(bucket, "a/../b", b"virtual")
        assert made.get_range(bucket, "a/../b", 0, 10)[1] == b"virtual"
        assert [info.key for info in made.list_objects(bucket).objects] == ["a/../b"]
        made.copy_object(bucket, "//c", bucket, "a/../b")
    assert client.get_range(bucket, "//c", 0, 10)[1] == b"virtual"
