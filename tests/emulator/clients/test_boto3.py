"""boto3: Amazon's signatures 2 and 4 in header and URL, buckets by path and by host name, chunked bodies."""

from __future__ import annotations

import io
import os
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

from cosfs.emulator import Credential, Emulator
from tests.emulator.clients.conftest import REGION

CLIENTS = ("boto3", "botocore")
SERVICE = f"http://cos.{REGION}.myqcloud.com"
FORMS = ["s3v4-path", "s3v4-virtual", "s3-path", "s3-virtual"]
MIB = 1 << 20


@pytest.fixture(scope="module")
def session() -> Any:
    """One session, as each reads the descriptions of all services anew."""
    return boto3.session.Session()


@pytest.fixture
def s3_for(session: Any, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Make a client: by path it is told the address, with virtual hosts the emulator is its proxy."""
    for name in ("AWS_PROFILE", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)

    def make(form: str, **options: Any) -> Any:
        signature, style = form.split("-")
        keys = {"aws_access_key_id": emulator.secret_id, "aws_secret_access_key": emulator.secret_key}
        keys |= {name: options.pop(name) for name in list(options) if name.startswith("aws_")}
        config = Config(
            signature_version=signature,
            s3={"addressing_style": style},
            retries={"total_max_attempts": 1},
            proxies={"http": emulator.endpoint_url} if style == "virtual" else None,
            **options,
        )
        url = SERVICE if style == "virtual" else emulator.endpoint_url
        return session.client("s3", endpoint_url=url, region_name=REGION, config=config, **keys)

    return make


@pytest.fixture(params=FORMS)
def s3(s3_for: Callable[..., Any], request: pytest.FixtureRequest) -> Any:
    return s3_for(request.param)


@pytest.fixture
def s3v4(s3_for: Callable[..., Any]) -> Any:
    return s3_for("s3v4-path")


def refused(call: Callable[..., Any], **arguments: Any) -> tuple[int, str]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    answer = caught.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


def fetched(
    emulator: Emulator, url: str, method: str = "GET", body: bytes | None = None
) -> tuple[int, bytes]:
    """Ask a URL as written, with the emulator as proxy for host names that are not its own."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": emulator.endpoint_url}))
    request = urllib.request.Request(url, body, {"Content-Type": ""} if body else {}, method=method)
    try:
        with opener.open(request, timeout=90) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


@pytest.mark.parametrize("key", ["a", "dir/中 文+a&b.txt", "a//b", "100%", "q?a=b#c"])
def test_every_name(s3: Any, bucket: str, key: str) -> None:
    put = s3.put_object(Bucket=bucket, Key=key, Body=b"hello", Metadata={"a": "1"}, ContentType="a/b")
    assert put["ETag"] == '"5d41402abc4b2a76b9719d911017c592"'
    got = s3.get_object(Bucket=bucket, Key=key, Range="bytes=1-3")
    assert (got["Body"].read(), got["ContentRange"]) == (b"ell", "bytes 1-3/5")
    head = s3.head_object(Bucket=bucket, Key=key)
    assert (head["ContentLength"], head["ContentType"], head["Metadata"]) == (5, "a/b", {"a": "1"})
    assert [each["Key"] for each in s3.list_objects_v2(Bucket=bucket)["Contents"]] == [key]
    s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": key})
    assert s3.get_object(Bucket=bucket, Key="copy")["Body"].read() == b"hello"
    s3.delete_object(Bucket=bucket, Key=key)
    assert refused(s3.head_object, Bucket=bucket, Key=key) == (404, "404")
    assert refused(s3.get_object, Bucket=bucket, Key=key) == (404, "NoSuchKey")


@pytest.mark.parametrize("form", ["s3v4-path", "s3-path"])
def test_dots_in_names(s3_for: Callable[..., Any], bucket: str, form: str) -> None:
    """Only without a proxy: with one, urllib3 folds the dots of what botocore has signed."""
    s3 = s3_for(form)
    s3.put_object(Bucket=bucket, Key="x/../a", Body=b"hello")
    assert [each["Key"] for each in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["x/../a"]


def test_buckets(s3: Any, bucket: str) -> None:
    name = bucket.replace("client", "aws")
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    assert {bucket, name} <= {each["Name"] for each in s3.list_buckets()["Buckets"]}
    assert s3.head_bucket(Bucket=name)["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert s3.get_bucket_location(Bucket=name)["LocationConstraint"] == REGION
    s3.delete_bucket(Bucket=name)
    assert refused(s3.head_bucket, Bucket=name) == (404, "404")


@pytest.mark.parametrize("form", FORMS)
def test_presigned_urls(s3_for: Callable[..., Any], emulator: Emulator, bucket: str, form: str) -> None:
    s3 = s3_for(form)
    there = {"Bucket": bucket, "Key": "目 录/k+"}
    put = s3.generate_presigned_url("put_object", Params=there, ExpiresIn=60)
    assert fetched(emulator, put, "PUT", b"x")[0] == 200
    params = {**there, "ResponseContentType": "a/b"}
    url = s3.generate_presigned_url("get_object", Params=params, ExpiresIn=60)
    assert fetched(emulator, url) == (200, b"x")
    assert fetched(emulator, url.replace("a%2Fb", "c%2Fd"))[0] == 403
    assert fetched(emulator, url, "DELETE")[0] == 403
    ended = s3.generate_presigned_url("get_object", Params=there, ExpiresIn=-30)
    status, text = fetched(emulator, ended)
    assert (status, b"AccessDenied" in text) == (403, True)


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA256", "SHA1"])
@pytest.mark.parametrize("form", ["s3v4-path", "s3v4-virtual"])
def test_bodies_with_trailing_checksums(
    s3_for: Callable[..., Any], bucket: str, form: str, algorithm: str
) -> None:
    """Streams are sent as aws-chunked with the checksum behind them."""
    s3 = s3_for(form)
    data = os.urandom(200_000)
    s3.put_object(Bucket=bucket, Key="k", Body=io.BytesIO(data), ChecksumAlgorithm=algorithm)
    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["Body"].read() == data
    assert "ContentEncoding" not in got


def test_without_checksums_and_with_unsigned_bodies(s3_for: Callable[..., Any], bucket: str) -> None:
    plain = s3_for("s3v4-path", request_checksum_calculation="when_required")
    plain.put_object(Bucket=bucket, Key="k", Body=b"x")
    assert plain.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"


def test_files_in_parts(s3: Any, bucket: str) -> None:
    data = os.urandom(12 * MIB + 5)
    config = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB)
    extra = {"Metadata": {"a": "1"}, "ContentType": "a/b"}
    s3.upload_fileobj(io.BytesIO(data), bucket, "big", ExtraArgs=extra, Config=config)
    head = s3.head_object(Bucket=bucket, Key="big")
    assert (head["ETag"][-3:], head["Metadata"]) == ('-3"', {"a": "1"})
    got = io.BytesIO()
    s3.download_fileobj(bucket, "big", got, Config=config)
    assert got.getvalue() == data
    s3.copy({"Bucket": bucket, "Key": "big"}, bucket, "copied", Config=config)
    assert s3.get_object(Bucket=bucket, Key="copied")["Body"].read() == data


def test_each_call_of_an_upload(s3: Any, bucket: str) -> None:
    there = {"Bucket": bucket, "Key": "k"}
    upload = s3.create_multipart_upload(**there)["UploadId"]
    assert [each["UploadId"] for each in s3.list_multipart_uploads(Bucket=bucket)["Uploads"]] == [upload]
    first = s3.upload_part(**there, UploadId=upload, PartNumber=1, Body=b"1" * MIB)["ETag"]
    s3.put_object(Bucket=bucket, Key="source", Body=b"0123456789")
    second = s3.upload_part_copy(
        **there, UploadId=upload, PartNumber=2, CopySource=f"{bucket}/source", CopySourceRange="bytes=2-5"
    )["CopyPartResult"]["ETag"]
    listed = [part["ETag"] for part in s3.list_parts(**there, UploadId=upload)["Parts"]]
    assert listed == [first, second]
    parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(listed, 1)]
    s3.complete_multipart_upload(**there, UploadId=upload, MultipartUpload={"Parts": parts})
    assert s3.get_object(**there)["Body"].read() == b"1" * MIB + b"2345"
    other = s3.create_multipart_upload(**there)["UploadId"]
    s3.abort_multipart_upload(**there, UploadId=other)
    assert refused(s3.list_parts, **there, UploadId=other) == (404, "NoSuchUpload")


@pytest.mark.parametrize("call", ["list_objects", "list_objects_v2"])
def test_pages(s3: Any, emulator: Emulator, bucket: str, call: str) -> None:
    names = [f"dir/{number:03} 中" for number in range(25)] + ["other/x", "z"]
    emulator.put_objects(bucket, ((name, b"x") for name in names))
    pages = list(s3.get_paginator(call).paginate(Bucket=bucket, PaginationConfig={"PageSize": 10}))
    assert len(pages) == 3
    assert [each["Key"] for page in pages for each in page["Contents"]] == names
    folded = list(
        s3.get_paginator(call).paginate(Bucket=bucket, Delimiter="/", PaginationConfig={"PageSize": 2})
    )
    assert [each["Prefix"] for page in folded for each in page.get("CommonPrefixes", [])] == [
        "dir/",
        "other/",
    ]
    assert [each["Key"] for page in folded for each in page.get("Contents", [])] == ["z"]
    if call == "list_objects_v2":
        after = s3.list_objects_v2(Bucket=bucket, StartAfter="other/x", FetchOwner=True)
        assert (after["KeyCount"], after["Contents"][0]["Key"]) == (1, "z")
        assert after["Contents"][0]["Owner"]["ID"]


def test_many_are_deleted_at_once(s3: Any, bucket: str) -> None:
    for key in ("a", "b &<", "中"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    deleted = s3.delete_objects(
        Bucket=bucket, Delete={"Objects": [{"Key": "a"}, {"Key": "b &<"}, {"Key": "中"}]}
    )
    assert [each["Key"] for each in deleted["Deleted"]] == ["a", "b &<", "中"]
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_versions(s3: Any, bucket: str) -> None:
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    first, second = (s3.put_object(Bucket=bucket, Key="k", Body=body)["VersionId"] for body in (b"1", b"2"))
    marker = s3.delete_object(Bucket=bucket, Key="k")
    assert marker["DeleteMarker"]
    listed = s3.list_object_versions(Bucket=bucket)
    assert [each["VersionId"] for each in listed["Versions"]] == [second, first]
    assert [each["VersionId"] for each in listed["DeleteMarkers"]] == [marker["VersionId"]]
    assert s3.get_object(Bucket=bucket, Key="k", VersionId=first)["Body"].read() == b"1"
    s3.delete_object(Bucket=bucket, Key="k", VersionId=marker["VersionId"])
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"2"
    gone = [{"Key": "k", "VersionId": version} for version in (first, second)]
    assert len(s3.delete_objects(Bucket=bucket, Delete={"Objects": gone})["Deleted"]) == 2
    assert "Versions" not in s3.list_object_versions(Bucket=bucket)


def test_conditions(s3: Any, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"x")["ETag"]
    there = {"Bucket": bucket, "Key": "k"}
    assert s3.get_object(**there, IfMatch=etag)["Body"].read() == b"x"
    assert refused(s3.get_object, **there, IfMatch='"other"') == (412, "PreconditionFailed")
    assert refused(s3.get_object, **there, IfNoneMatch=etag)[0] == 304
    assert refused(s3.get_object, **there, Range="bytes=5-")[0] == 416
    source = {"CopySource": there, "Bucket": bucket, "Key": "c"}
    assert refused(s3.copy_object, **source, CopySourceIfMatch='"other"') == (412, "PreconditionFailed")


def test_metadata_is_replaced_by_a_copy(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Metadata={"a": "1"}, StorageClass="STANDARD_IA")
    there = {"Bucket": bucket, "Key": "k"}
    s3.copy_object(**there, CopySource=there, MetadataDirective="REPLACE", Metadata={"b": "2"})
    assert s3.head_object(**there)["Metadata"] == {"b": "2"}


def test_tags_and_access_lists(s3: Any, emulator: Emulator, bucket: str) -> None:
    there = {"Bucket": bucket, "Key": "k"}
    s3.put_object(**there, Body=b"x", Tagging="a=1")
    assert s3.get_object_tagging(**there)["TagSet"] == [{"Key": "a", "Value": "1"}]
    s3.put_object_tagging(**there, Tagging={"TagSet": [{"Key": "中", "Value": "文"}]})
    assert s3.get_object_tagging(**there)["TagSet"] == [{"Key": "中", "Value": "文"}]
    s3.delete_object_tagging(**there)
    assert s3.get_object_tagging(**there)["TagSet"] == []
    s3.put_object_acl(**there, ACL="public-read")
    assert "READ" in [grant["Permission"] for grant in s3.get_object_acl(**there)["Grants"]]
    assert fetched(emulator, f"{emulator.endpoint_url}/{bucket}/k") == (200, b"x")
    s3.put_bucket_acl(Bucket=bucket, ACL="private")
    assert [grant["Permission"] for grant in s3.get_bucket_acl(Bucket=bucket)["Grants"]] == ["FULL_CONTROL"]


def test_settings(s3: Any, bucket: str) -> None:
    rule = {"AllowedOrigins": ["*"], "AllowedMethods": ["GET"], "MaxAgeSeconds": 5}
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [rule]})
    assert s3.get_bucket_cors(Bucket=bucket)["CORSRules"] == [rule]
    expiry = {"ID": "r", "Status": "Enabled", "Filter": {"Prefix": "x/"}, "Expiration": {"Days": 1}}
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [expiry]})
    assert s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"] == [expiry]
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    assert s3.get_bucket_tagging(Bucket=bucket)["TagSet"] == [{"Key": "a", "Value": "b"}]
    s3.delete_bucket_tagging(Bucket=bucket)
    assert refused(s3.get_bucket_tagging, Bucket=bucket) == (404, "NoSuchTagSet")


def test_keys(s3_for: Callable[..., Any], emulator: Emulator, bucket: str) -> None:
    emulator.add_credential(Credential("AKIDaws", "secret", "token==", 4e9))
    emulator.add_credential(Credential("AKIDawsended", "secret", "token==", 1.0))
    for form in FORMS:
        good, ended = (
            s3_for(form, aws_access_key_id=name, aws_secret_access_key="secret", aws_session_token="token==")
            for name in ("AKIDaws", "AKIDawsended")
        )
        good.put_object(Bucket=bucket, Key="k", Body=b"x")
        assert refused(ended.get_object, Bucket=bucket, Key="k") == (400, "ExpiredToken")
        wrong = s3_for(form, aws_secret_access_key="wrong")
        assert refused(wrong.get_object, Bucket=bucket, Key="k") == (403, "SignatureDoesNotMatch")
        unknown = s3_for(form, aws_access_key_id="AKIDnobody")
        assert refused(unknown.get_object, Bucket=bucket, Key="k") == (403, "InvalidAccessKeyId")


@pytest.mark.parametrize("form", FORMS)
def test_forms(s3_for: Callable[..., Any], emulator: Emulator, bucket: str, form: str) -> None:
    made = s3_for(form).generate_presigned_post(
        bucket, "up/${filename}", Fields={"x-amz-meta-a": "1", "success_action_status": "201"},
        Conditions=[
            ["starts-with", "$x-amz-meta-a", ""], {"success_action_status": "201"},
            ["content-length-range", 1, 10],
        ],
    )  # fmt: skip
    proxies = {"http": emulator.endpoint_url} if form.endswith("virtual") else {}

    def send(body: bytes) -> int:
        files = {"file": ("中 name.txt", body)}
        return requests.post(
            made["url"], made["fields"], files=files, proxies=proxies, timeout=90
        ).status_code

    assert send(b"hello") == 201
    assert send(b"much too long") == 400
    head = s3_for(form).head_object(Bucket=bucket, Key="up/中 name.txt")
    assert (head["ContentLength"], head["Metadata"]) == (5, {"a": "1"})


def test_https_and_a_key_of_ones_own(session: Any, tmp_path: Path) -> None:
    """A key of the customer's own is only sent over TLS; the certificate is the emulator's."""
    with Emulator(tmp_path / "data", buckets=["tls"], https=True) as emulator:
        s3 = session.client(
            "s3", endpoint_url=emulator.info.https_url, region_name=REGION,
            verify=str(emulator.info.ca_file), config=Config(s3={"addressing_style": "path"}),
            aws_access_key_id=emulator.secret_id, aws_secret_access_key=emulator.secret_key,
        )  # fmt: skip
        mine = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": b"0123456789abcdef0123456789abcdef"}
        there = {"Bucket": "tls-1250000000", "Key": "k"}
        s3.put_object(**there, Body=b"x", **mine)
        assert s3.get_object(**there, **mine)["Body"].read() == b"x"
        assert refused(s3.get_object, **there)[0] == 400


def test_selecting_from_an_object(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k.csv", Body=b"a,1\nb,2\n")
    events = s3.select_object_content(
        Bucket=bucket, Key="k.csv", ExpressionType="SQL",
        Expression="SELECT _1 FROM S3Object WHERE _2 = '2'",
        InputSerialization={"CSV": {}}, OutputSerialization={"CSV": {}},
    )["Payload"]  # fmt: skip
    records = b"".join(event["Records"]["Payload"] for event in events if "Records" in event)
    assert records.strip() == b"b"
