"""Every operation of CosClient against the emulator, over a socket."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from urllib.error import HTTPError

import pytest

from cosfs.client.auth import Credentials, StaticCredentials
from cosfs.client.client import CosClient
from cosfs.config import Settings
from cosfs.emulator import Emulator
from cosfs.errors import (
    AlreadyExistsError,
    AuthenticationError,
    BucketNotEmptyError,
    BucketNotFoundError,
    PermissionDeniedError,
)
from tests.client.conftest import put

MISSING = "missing-1250000000"


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
