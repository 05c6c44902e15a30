"""cos-python-sdk-v5: objects, through an address and through a proxy."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from qcloud_cos import CosS3Client
from qcloud_cos.cos_exception import CosServiceError

from cosfs.emulator import Emulator
from tests.emulator.clients.conftest import REGION, proxied

CLIENTS = ("cos-python-sdk-v5",)


def raised(call: Any, **arguments: Any) -> tuple[int, str]:
    with pytest.raises(CosServiceError) as caught:
        call(**arguments)
    return caught.value.get_status_code(), caught.value.get_error_code()


def content(sdk: CosS3Client, bucket: str, key: str, **arguments: Any) -> bytes:
    return bytes(sdk.get_object(Bucket=bucket, Key=key, **arguments)["Body"].get_raw_stream().read())


@pytest.mark.parametrize("key", ["dir/中 文+a&b.txt", "a//b", "x/../a", "100%", "q?a=b#c", "new\nline", "a"])
def test_every_name(sdk: CosS3Client, bucket: str, key: str) -> None:
    put = sdk.put_object(Bucket=bucket, Key=key, Body=b"hello", Metadata={"x-cos-meta-mode": "33188"})
    assert put["ETag"] == '"5d41402abc4b2a76b9719d911017c592"'
    got = sdk.get_object(Bucket=bucket, Key=key, Range="bytes=1-3")
    assert got["Body"].get_raw_stream().read() == b"ell"
    assert (got["x-cos-meta-mode"], got["Content-Range"]) == ("33188", "bytes 1-3/5")
    assert sdk.head_object(Bucket=bucket, Key=key)["Content-Length"] == "5"
    assert [entry["Key"] for entry in sdk.list_objects(Bucket=bucket)["Contents"]] == [key]
    sdk.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": key, "Region": REGION})
    assert content(sdk, bucket, "copy") == b"hello"
    sdk.delete_object(Bucket=bucket, Key=key)
    assert not sdk.object_exists(Bucket=bucket, Key=key)
    sdk.delete_object(Bucket=bucket, Key=key)  # what is missing is deleted already


def test_headers_are_kept_and_overridden(sdk: CosS3Client, bucket: str) -> None:
    sdk.put_object(
        Bucket=bucket, Key="k", Body=io.BytesIO(b"x" * 1000), EnableMD5=True, ContentType="text/x-test",
        CacheControl="max-age=5", ContentDisposition="attachment", ContentEncoding="x-none",
        ContentLanguage="zh", Expires="Thu, 01 Dec 2033 16:00:00 GMT", StorageClass="STANDARD_IA",
        Metadata={"x-cos-meta-a": "1"}, TrafficLimit="819200",
    )  # fmt: skip
    head = sdk.head_object(Bucket=bucket, Key="k")
    kept = {
        "Content-Type": "text/x-test", "Cache-Control": "max-age=5", "Content-Disposition": "attachment",
        "Content-Encoding": "x-none", "Content-Language": "zh", "Expires": "Thu, 01 Dec 2033 16:00:00 GMT",
        "x-cos-storage-class": "STANDARD_IA", "x-cos-meta-a": "1", "Content-Length": "1000",
    }  # fmt: skip
    assert {name: head[name] for name in kept} == kept
    got = sdk.get_object(
        Bucket=bucket, Key="k", ResponseContentType="a/b", ResponseCacheControl="no-cache",
        ResponseContentDisposition="inline", ResponseContentEncoding="identity",
    )  # fmt: skip
    assert (got["Content-Type"], got["Cache-Control"]) == ("a/b", "no-cache")
    assert (got["Content-Disposition"], got["Content-Encoding"]) == ("inline", "identity")


def test_reading_a_body_in_every_way(sdk: CosS3Client, bucket: str, tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000
    sdk.put_object(Bucket=bucket, Key="k", Body=data)
    assert b"".join(sdk.get_object(Bucket=bucket, Key="k")["Body"].get_stream(4096)) == data
    assert sdk.get_object(Bucket=bucket, Key="k")["Body"].read(100) == data[:100]
    sdk.get_object(Bucket=bucket, Key="k")["Body"].get_stream_to_file(str(tmp_path / "got"))
    assert (tmp_path / "got").read_bytes() == data


def test_a_file_and_a_stream_of_unknown_length(sdk: CosS3Client, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"from a file")
    sdk.put_object_from_local_file(Bucket=bucket, LocalFilePath=str(tmp_path / "f"), Key="f")
    assert content(sdk, bucket, "f") == b"from a file"
    sdk.put_object(Bucket=bucket, Key="chunked", Body=iter([b"one", b"two"]))
    assert content(sdk, bucket, "chunked") == b"onetwo"


def test_conditions(sdk: CosS3Client, bucket: str) -> None:
    etag = sdk.put_object(Bucket=bucket, Key="k", Body=b"x")["ETag"]
    assert content(sdk, bucket, "k", IfMatch=etag) == b"x"
    assert raised(sdk.get_object, Bucket=bucket, Key="k", IfMatch='"other"') == (412, "PreconditionFailed")
    assert sdk.head_object(Bucket=bucket, Key="k", IfNoneMatch=etag)["ETag"] == etag  # 304 is an answer to it
    assert raised(sdk.get_object, Bucket=bucket, Key="k", Range="bytes=9-") == (416, "InvalidRange")
    forbid = {"x-cos-forbid-overwrite": "true"}
    assert raised(sdk.put_object, Bucket=bucket, Key="k", Body=b"y", Metadata=forbid) == (
        409,
        "FileAlreadyExists",
    )


def test_errors_reach_it_whole(sdk: CosS3Client, bucket: str) -> None:
    with pytest.raises(CosServiceError) as caught:
        sdk.get_object(Bucket=bucket, Key="missing")
    error = caught.value
    assert (error.get_status_code(), error.get_error_code()) == (404, "NoSuchKey")
    assert error.get_error_msg() == "The specified key does not exist."
    assert error.get_request_id() and error.get_trace_id() and error.get_resource_location()
    assert raised(sdk.head_object, Bucket=bucket, Key="missing") == (404, "NoSuchResource")
    assert raised(sdk.get_object, Bucket="none-1250000000", Key="k") == (404, "NoSuchBucket")


def test_copies(sdk: CosS3Client, bucket: str) -> None:
    source = {"Bucket": bucket, "Key": "目 录/a", "Region": REGION}
    sdk.put_object(Bucket=bucket, Key="目 录/a", Body=b"x", Metadata={"x-cos-meta-a": "1"})
    copied = sdk.copy_object(Bucket=bucket, Key="kept", CopySource=source)
    assert copied["ETag"] == sdk.head_object(Bucket=bucket, Key="kept")["ETag"]
    assert sdk.head_object(Bucket=bucket, Key="kept")["x-cos-meta-a"] == "1"
    sdk.copy_object(
        Bucket=bucket, Key="new", CopySource=source, CopyStatus="Replaced", Metadata={"x-cos-meta-b": "2"}
    )
    head = sdk.head_object(Bucket=bucket, Key="new")
    assert "x-cos-meta-a" not in head
    assert head["x-cos-meta-b"] == "2"
    assert raised(
        sdk.copy_object, Bucket=bucket, Key="no", CopySource=source, CopySourceIfMatch='"other"'
    ) == (412, "PreconditionFailed")
    missing = {**source, "Key": "missing"}
    assert raised(sdk.copy_object, Bucket=bucket, Key="no", CopySource=missing)[0] == 404


def test_the_copy_that_asks_the_source_first(emulator: Emulator, bucket: str) -> None:
    """Only through a proxy: its HEAD goes to the source's host name, whatever address it was told."""
    sdk = proxied(emulator)
    sdk.get_conf().set_copy_part_threshold_size(3 << 20)
    data = bytes(range(256)) * 20_000
    sdk.put_object(Bucket=bucket, Key="a", Body=data, StorageClass="STANDARD_IA")
    emulator.requests.reset()
    source = {"Bucket": bucket, "Key": "a", "Region": REGION}
    sdk.copy(Bucket=bucket, Key="b", CopySource=source, PartSize=2)
    assert content(sdk, bucket, "b") == data
    assert emulator.requests["UploadPartCopy"] == 3


def test_metadata_and_classes_change_in_place(sdk: CosS3Client, bucket: str) -> None:
    sdk.put_object(Bucket=bucket, Key="k", Body=b"x")
    sdk.update_object_meta(Bucket=bucket, Key="k", Metadata={"x-cos-meta-a": "1"})
    assert sdk.head_object(Bucket=bucket, Key="k")["x-cos-meta-a"] == "1"
    sdk.change_object_storage_class(Bucket=bucket, Key="k", StorageClass="ARCHIVE")
    assert raised(sdk.get_object, Bucket=bucket, Key="k") == (403, "InvalidObjectState")
    request = {"Days": 1, "CASJobParameters": {"Tier": "Expedited"}}
    sdk.restore_object(Bucket=bucket, Key="k", RestoreRequest=request)
    assert 'ongoing-request="false"' in sdk.head_object(Bucket=bucket, Key="k")["x-cos-restore"]
    assert content(sdk, bucket, "k") == b"x"
    sdk.put_object(Bucket=bucket, Key="plain", Body=b"x")
    refused = raised(sdk.restore_object, Bucket=bucket, Key="plain", RestoreRequest=request)
    assert refused == (405, "RestoreNonArchiveObject")


def test_appending(sdk: CosS3Client, bucket: str) -> None:
    first = sdk.append_object(Bucket=bucket, Key="log", Position=0, Data=b"one")
    position = first["x-cos-next-append-position"]
    sdk.append_object(Bucket=bucket, Key="log", Position=position, Data=b"two")
    assert content(sdk, bucket, "log") == b"onetwo"
    assert sdk.head_object(Bucket=bucket, Key="log")["x-cos-object-type"] == "appendable"
    again = raised(sdk.append_object, Bucket=bucket, Key="log", Position=0, Data=b"x")
    assert again == (409, "AppendPositionErr")


def test_tags_and_access_lists(sdk: CosS3Client, bucket: str) -> None:
    sdk.put_object(Bucket=bucket, Key="k", Body=b"x", Tagging="a=1&b=%20")
    read = sdk.get_object_tagging(Bucket=bucket, Key="k")["TagSet"]["Tag"]
    assert read == [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": " "}]
    tags = {"TagSet": {"Tag": [{"Key": "c", "Value": "3"}]}}
    sdk.put_object_tagging(Bucket=bucket, Key="k", Tagging=tags)
    assert sdk.get_object_tagging(Bucket=bucket, Key="k")["TagSet"]["Tag"] == tags["TagSet"]["Tag"]
    sdk.delete_object_tagging(Bucket=bucket, Key="k")
    assert not (sdk.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] or {}).get("Tag")
    assert sdk.get_object_acl(Bucket=bucket, Key="k")["CannedACL"] == "default"
    sdk.put_object_acl(Bucket=bucket, Key="k", ACL="public-read")
    assert sdk.get_object_acl(Bucket=bucket, Key="k")["CannedACL"] == "public-read"


def test_listing_in_pages(sdk: CosS3Client, bucket: str) -> None:
    for key in ("a/1", "a/2", "b", "c/1", "中/ d", "e+f"):
        sdk.put_object(Bucket=bucket, Key=key, Body=b"x")
    seen, marker, pages = [], "", 0
    while True:
        page = sdk.list_objects(Bucket=bucket, Delimiter="/", Marker=marker, MaxKeys=2)
        seen += [entry["Prefix"] for entry in page.get("CommonPrefixes", [])]
        seen += [entry["Key"] for entry in page.get("Contents", [])]
        pages += 1
        if page["IsTruncated"] == "false":
            break
        marker = page["NextMarker"]
    assert sorted(seen) == ["a/", "b", "c/", "e+f", "中/"]
    assert pages == 3
    assert [e["Key"] for e in sdk.list_objects(Bucket=bucket, Prefix="中/ ")["Contents"]] == ["中/ d"]
    encoded = sdk.list_objects(Bucket=bucket, Prefix="e", EncodingType="url")
    assert encoded["Contents"][0]["Key"] == "e%2Bf"


def test_many_are_deleted_at_once(sdk: CosS3Client, bucket: str) -> None:
    for key in ("a", "b &<"):
        sdk.put_object(Bucket=bucket, Key=key, Body=b"x")
    deleted = sdk.delete_objects(Bucket=bucket, Delete={"Object": [{"Key": "a"}, {"Key": "b &<"}]})
    assert [entry["Key"] for entry in deleted["Deleted"]] == ["a", "b &<"]
    quiet = sdk.delete_objects(Bucket=bucket, Delete={"Object": [{"Key": "a"}], "Quiet": "true"})
    assert "Deleted" not in quiet
    assert "Contents" not in sdk.list_objects(Bucket=bucket)


def test_versions(sdk: CosS3Client, bucket: str) -> None:
    sdk.put_bucket_versioning(Bucket=bucket, Status="Enabled")
    assert sdk.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    first = sdk.put_object(Bucket=bucket, Key="k", Body=b"1")["x-cos-version-id"]
    second = sdk.put_object(Bucket=bucket, Key="k", Body=b"2")["x-cos-version-id"]
    marker = sdk.delete_object(Bucket=bucket, Key="k")
    assert marker["x-cos-delete-marker"] == "true"
    listed = sdk.list_objects_versions(Bucket=bucket)
    assert [entry["VersionId"] for entry in listed["Version"]] == [second, first]
    assert listed["DeleteMarker"][0]["IsLatest"] == "true"
    assert content(sdk, bucket, "k", VersionId=first) == b"1"
    assert sdk.head_object(Bucket=bucket, Key="k", VersionId=second)["x-cos-version-id"] == second
    source = {"Bucket": bucket, "Key": "k", "Region": REGION, "VersionId": first}
    sdk.copy_object(Bucket=bucket, Key="back", CopySource=source)
    assert content(sdk, bucket, "back") == b"1"
    sdk.delete_object(Bucket=bucket, Key="k", VersionId=marker["x-cos-version-id"])
    assert content(sdk, bucket, "k") == b"2"
    gone = {"Object": [{"Key": "k", "VersionId": version} for version in (first, second)]}
    assert len(sdk.delete_objects(Bucket=bucket, Delete=gone)["Deleted"]) == 2
    assert raised(sdk.get_object, Bucket=bucket, Key="k")[0] == 404


def test_symbolic_links(sdk: CosS3Client, bucket: str) -> None:
    sdk.put_object(Bucket=bucket, Key="dir/target", Body=b"x", Metadata={"x-cos-meta-a": "1"})
    assert sdk.put_symlink(Bucket=bucket, SymlinkName="link", SymlinkTarget="dir/target")["ETag"]
    assert sdk.get_symlink(Bucket=bucket, SymlinkName="link")["x-cos-symlink-target"] == "dir/target"
    assert content(sdk, bucket, "link") == b"x"
    assert sdk.head_object(Bucket=bucket, Key="link")["x-cos-meta-a"] == "1"
    sdk.delete_object(Bucket=bucket, Key="link")
    assert content(sdk, bucket, "dir/target") == b"x"
