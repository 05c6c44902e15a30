"""The vendor's own SDK, over the socket: what it sends is understood, what it reads is there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import requests
from qcloud_cos import CosS3Client
from qcloud_cos.cos_exception import CosServiceError

from cosfs.emulator import Credential, Emulator
from tests.emulator.conftest import sdk_for

REGION = "ap-guangzhou"


def raised(call: Any, **arguments: Any) -> tuple[int, str]:
    with pytest.raises(CosServiceError) as caught:
        call(**arguments)
    return caught.value.get_status_code(), caught.value.get_error_code()


def test_buckets(sdk: CosS3Client) -> None:
    sdk.create_bucket(Bucket="sdk-1250000000", ACL="private")
    assert sdk.bucket_exists(Bucket="sdk-1250000000")
    assert not sdk.bucket_exists(Bucket="none-1250000000")
    assert "sdk-1250000000" in [bucket["Name"] for bucket in sdk.list_buckets()["Buckets"]["Bucket"]]
    assert sdk.get_bucket_location(Bucket="sdk-1250000000") == {"LocationConstraint": REGION}
    sdk.delete_bucket(Bucket="sdk-1250000000")
    assert raised(sdk.delete_bucket, Bucket="sdk-1250000000") == (404, "NoSuchBucket")


@pytest.mark.parametrize(
    "key", ["plain", "dir/中 文+a&b.txt", "a//b", "x/../a", "100%", "q?a=b#c", "new\nline"]
)
def test_objects_by_every_name(sdk: CosS3Client, bucket: str, key: str) -> None:
    put = sdk.put_object(Bucket=bucket, Key=key, Body=b"hello", Metadata={"x-cos-meta-mode": "33188"})
    assert put["ETag"] == '"5d41402abc4b2a76b9719d911017c592"'
    got = sdk.get_object(Bucket=bucket, Key=key, Range="bytes=1-3")
    assert got["Body"].get_raw_stream().read() == b"ell"
    assert got["x-cos-meta-mode"] == "33188"
    assert sdk.head_object(Bucket=bucket, Key=key)["Content-Length"] == "5"
    assert [entry["Key"] for entry in sdk.list_objects(Bucket=bucket)["Contents"]] == [key]
    sdk.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": key, "Region": REGION})
    assert sdk.get_object(Bucket=bucket, Key="copy")["Body"].get_raw_stream().read() == b"hello"
    sdk.delete_object(Bucket=bucket, Key=key)
    assert not sdk.object_exists(Bucket=bucket, Key=key)


def test_errors_reach_the_sdk_whole(sdk: CosS3Client, bucket: str) -> None:
    with pytest.raises(CosServiceError) as caught:
        sdk.get_object(Bucket=bucket, Key="missing")
    error = caught.value
    assert (error.get_status_code(), error.get_error_code()) == (404, "NoSuchKey")
    assert error.get_error_msg() == "The specified key does not exist."
    assert error.get_request_id() and error.get_trace_id() and error.get_resource_location()
    assert raised(sdk.head_object, Bucket=bucket, Key="missing") == (404, "NoSuchResource")


def test_uploads_and_downloads_of_files(sdk: CosS3Client, bucket: str, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(5_500_000))
    done = sdk.upload_file(Bucket=bucket, Key="big", LocalFilePath=str(source), PartSize=1, EnableMD5=True)
    assert done["ETag"].endswith('-6"')
    sdk.download_file(Bucket=bucket, Key="big", DestFilePath=str(target), EnableCRC=True, PartSize=1)
    assert target.read_bytes() == source.read_bytes()


def test_an_interrupted_upload_is_resumed(
    sdk: CosS3Client, bucket: str, served: Emulator, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(3_500_000))
    upload = sdk.create_multipart_upload(Bucket=bucket, Key="big")["UploadId"]
    first = source.read_bytes()[: 1 << 20]
    sdk.upload_part(Bucket=bucket, Key="big", UploadId=upload, PartNumber=1, Body=first)
    served.requests.reset()
    sdk.upload_file(Bucket=bucket, Key="big", LocalFilePath=str(source), PartSize=1)
    assert served.requests["UploadPart"] == 3
    assert served.requests["CreateMultipartUpload"] == 0
    assert sdk.list_multipart_uploads(Bucket=bucket).get("Upload") is None


def test_multipart_calls(sdk: CosS3Client, bucket: str) -> None:
    sdk.put_object(Bucket=bucket, Key="source", Body=b"0123456789" * 200)
    upload = sdk.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    copied = sdk.upload_part_copy(
        Bucket=bucket, Key="k", PartNumber=1, UploadId=upload, CopySourceRange="bytes=0-1023",
        CopySource={"Bucket": bucket, "Key": "source", "Region": REGION},
    )  # fmt: skip
    sent = sdk.upload_part(Bucket=bucket, Key="k", PartNumber=2, UploadId=upload, Body=b"tail")
    listed = sdk.list_parts(Bucket=bucket, Key="k", UploadId=upload)["Part"]
    assert [(part["PartNumber"], part["ETag"]) for part in listed] == [
        ("1", copied["ETag"]),
        ("2", sent["ETag"]),
    ]
    parts = {"Part": [{"PartNumber": part["PartNumber"], "ETag": part["ETag"]} for part in listed]}
    assert sdk.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload=parts)[
        "ETag"
    ]
    body = sdk.get_object(Bucket=bucket, Key="k")["Body"].get_raw_stream().read()
    assert body == (b"0123456789" * 200)[:1024] + b"tail"
    other = sdk.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    sdk.abort_multipart_upload(Bucket=bucket, Key="k", UploadId=other)
    assert raised(sdk.list_parts, Bucket=bucket, Key="k", UploadId=other) == (404, "NoSuchUpload")


def test_listing_with_prefixes_and_pages(sdk: CosS3Client, bucket: str) -> None:
    for key in ("a/1", "a/2", "b", "c/1", "d"):
        sdk.put_object(Bucket=bucket, Key=key, Body=b"x")
    seen, marker = [], ""
    while True:
        page = sdk.list_objects(Bucket=bucket, Delimiter="/", Marker=marker, MaxKeys=2)
        seen += [entry["Prefix"] for entry in page.get("CommonPrefixes", [])]
        seen += [entry["Key"] for entry in page.get("Contents", [])]
        if page["IsTruncated"] == "false":
            break
        marker = page["NextMarker"]
    assert sorted(seen) == ["a/", "b", "c/", "d"]


def test_many_objects_are_deleted_at_once(sdk: CosS3Client, bucket: str) -> None:
    for key in ("a", "b &<"):
        sdk.put_object(Bucket=bucket, Key=key, Body=b"x")
    deleted = sdk.delete_objects(Bucket=bucket, Delete={"Object": [{"Key": "a"}, {"Key": "b &<"}]})
    assert [entry["Key"] for entry in deleted["Deleted"]] == ["a", "b &<"]
    assert "Contents" not in sdk.list_objects(Bucket=bucket)


def test_append_and_metadata(sdk: CosS3Client, bucket: str) -> None:
    told = sdk.append_object(Bucket=bucket, Key="log", Position=0, Data=b"one")
    told = sdk.append_object(
        Bucket=bucket, Key="log", Position=told["x-cos-next-append-position"], Data=b"two"
    )
    assert told["x-cos-next-append-position"] == "6"
    sdk.put_object(Bucket=bucket, Key="k", Body=b"x")
    sdk.update_object_meta(Bucket=bucket, Key="k", Metadata={"x-cos-meta-a": "1"})
    assert sdk.head_object(Bucket=bucket, Key="k")["x-cos-meta-a"] == "1"
    sdk.change_object_storage_class(Bucket=bucket, Key="k", StorageClass="ARCHIVE")
    assert raised(sdk.get_object, Bucket=bucket, Key="k") == (403, "InvalidObjectState")
    request = {"Days": 1, "CASJobParameters": {"Tier": "Expedited"}}
    sdk.restore_object(Bucket=bucket, Key="k", RestoreRequest=request)
    assert sdk.get_object(Bucket=bucket, Key="k")["Body"].get_raw_stream().read() == b"x"


def test_versions(sdk: CosS3Client, bucket: str) -> None:
    sdk.put_bucket_versioning(Bucket=bucket, Status="Enabled")
    assert sdk.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    first = sdk.put_object(Bucket=bucket, Key="k", Body=b"1")["x-cos-version-id"]
    sdk.delete_object(Bucket=bucket, Key="k")
    listed = sdk.list_objects_versions(Bucket=bucket)
    assert [entry["VersionId"] for entry in listed["Version"]] == [first]
    assert listed["DeleteMarker"][0]["IsLatest"] == "true"
    got = sdk.get_object(Bucket=bucket, Key="k", VersionId=first)
    assert got["Body"].get_raw_stream().read() == b"1"


def test_settings(sdk: CosS3Client, bucket: str) -> None:
    rule = {
        "ID": "r", "Status": "Enabled", "Filter": {"Prefix": "x/"}, "Expiration": {"Days": "1"},
    }  # fmt: skip
    assert raised(sdk.get_bucket_lifecycle, Bucket=bucket) == (404, "NoSuchLifecycleConfiguration")
    sdk.put_bucket_lifecycle(Bucket=bucket, LifecycleConfiguration={"Rule": [rule]})
    assert sdk.get_bucket_lifecycle(Bucket=bucket)["Rule"][0]["Expiration"] == {"Days": "1"}
    cors = {"CORSRule": [{"AllowedOrigin": ["*"], "AllowedMethod": ["GET"], "MaxAgeSeconds": "5"}]}
    sdk.put_bucket_cors(Bucket=bucket, CORSConfiguration=cors)
    assert sdk.get_bucket_cors(Bucket=bucket)["CORSRule"][0]["AllowedMethod"] == ["GET"]
    sdk.put_bucket_policy(Bucket=bucket, Policy={"version": "2.0", "statement": []})
    assert '"statement"' in sdk.get_bucket_policy(Bucket=bucket)["Policy"]
    tags = {"TagSet": {"Tag": [{"Key": "a", "Value": "b"}]}}
    sdk.put_bucket_tagging(Bucket=bucket, Tagging=tags)
    assert sdk.get_bucket_tagging(Bucket=bucket)["TagSet"]["Tag"] == [{"Key": "a", "Value": "b"}]
    sdk.put_bucket_acl(Bucket=bucket, ACL="public-read")
    assert sdk.get_bucket_acl(Bucket=bucket)["CannedACL"] == "public-read"
    assert sdk.get_bucket_meta(Bucket=bucket)["CORS"]["CORSRule"]


def test_presigned_urls(sdk: CosS3Client, served: Emulator, bucket: str) -> None:
    sdk.put_object(Bucket=bucket, Key="中 文", Body=b"x")
    proxies = {"http": served.endpoint_url}
    proxied = sdk_for(served, IP=None, Port=None, Proxies=proxies)  # with an IP its URLs lack the bucket
    url = proxied.get_presigned_url(Bucket=bucket, Key="中 文", Method="GET", Expired=60)
    answer = requests.get(url, proxies=proxies, timeout=10)
    assert (answer.status_code, answer.content) == (200, b"x")
    assert (
        requests.get(url.replace("q-signature=", "q-signature=0"), proxies=proxies, timeout=10).status_code
        == 403
    )


def test_proxy_form_reaches_everything(served: Emulator, bucket: str) -> None:
    proxied = sdk_for(served, IP=None, Port=None, ServiceDomain=None, Proxies={"http": served.endpoint_url})
    assert bucket in [entry["Name"] for entry in proxied.list_buckets()["Buckets"]["Bucket"]]
    proxied.put_object(Bucket=bucket, Key="k", Body=b"x" * 100)
    source = {"Bucket": bucket, "Key": "k", "Region": REGION}
    proxied.copy(Bucket=bucket, Key="copy", CopySource=source)
    assert proxied.object_exists(Bucket=bucket, Key="copy")


def test_path_style_signs_the_key_alone(served: Emulator, bucket: str) -> None:
    address = served.endpoint_url.removeprefix("http://")
    direct = sdk_for(served, IP=None, Port=None, Domain=f"{address}/{bucket}")
    direct.put_object(Bucket=bucket, Key="a b", Body=b"x")
    assert direct.get_object(Bucket=bucket, Key="a b")["Body"].get_raw_stream().read() == b"x"


def test_temporary_keys(served: Emulator, bucket: str) -> None:
    served.add_credential(Credential("AKIDtemporary", "secret", "token==", 4e9))
    served.add_credential(Credential("AKIDended", "secret", "token==", 1.0))
    good = sdk_for(served, SecretId="AKIDtemporary", SecretKey="secret", Token="token==")
    good.put_object(Bucket=bucket, Key="k", Body=b"x")
    ended = sdk_for(served, SecretId="AKIDended", SecretKey="secret", Token="token==")
    assert raised(ended.get_object, Bucket=bucket, Key="k") == (400, "ExpiredToken")
    wrong = sdk_for(served, SecretKey="wrong")
    assert raised(wrong.get_object, Bucket=bucket, Key="k") == (403, "SignatureDoesNotMatch")
