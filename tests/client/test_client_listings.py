"""Listings and deletions of many through CosClient, against the emulator."""

from __future__ import annotations

import pytest

from cosfs.client.client import CosClient
from cosfs.client.model import Headers, ObjectId
from cosfs.emulator import Emulator
from cosfs.errors import (
    NotFoundError,
    UsageError,
)
from tests.client.conftest import put


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
    assert abs(info.last_modified - stored.last_modified) < 600  # no time zone is between them
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
