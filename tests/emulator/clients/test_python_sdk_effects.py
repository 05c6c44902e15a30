"""cos-python-sdk-v5 and the STS of tencentcloud-sdk-python: what settings, policies and temporary keys do."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest
import requests
from qcloud_cos import CosS3Client
from tencentcloud.common import credential
from tencentcloud.common.profile.client_profile import ClientProfile
from tencentcloud.common.profile.http_profile import HttpProfile
from tencentcloud.sts.v20180813 import models, sts_client

from cosfs.emulator import Emulator
from tests.emulator.clients.conftest import REGION, proxied
from tests.emulator.clients.test_python_sdk_buckets import inventory
from tests.emulator.clients.test_python_sdk_objects import content, raised

CLIENTS = ("cos-python-sdk-v5", "tencentcloud-sdk-python-sts")


def reading(bucket: str, prefix: str) -> dict[str, Any]:
    place = f"qcs::cos:{REGION}:uid/1250000000:{bucket}/{prefix}*"
    return {
        "version": "2.0",
        "statement": [{"effect": "allow", "action": ["name/cos:GetObject"], "resource": [place]}],
    }


def test_temporary_keys_are_limited_by_their_policy(emulator: Emulator, bucket: str) -> None:
    sdk = proxied(emulator)
    sdk.put_object(Bucket=bucket, Key="docs/a", Body=b"x")
    sdk.put_object(Bucket=bucket, Key="secret", Body=b"x")
    address = HttpProfile(protocol="http", endpoint=emulator.endpoint_url.removeprefix("http://"))
    keys = credential.Credential(emulator.secret_id, emulator.secret_key)
    sts = sts_client.StsClient(keys, REGION, ClientProfile(httpProfile=address))
    asked = models.GetFederationTokenRequest()
    asked.Name, asked.Policy = "tester", quote(json.dumps(reading(bucket, "docs/")))
    given = sts.GetFederationToken(asked).Credentials
    theirs = proxied(emulator, SecretId=given.TmpSecretId, SecretKey=given.TmpSecretKey, Token=given.Token)
    assert content(theirs, bucket, "docs/a") == b"x"
    assert raised(theirs.get_object, Bucket=bucket, Key="secret") == (403, "AccessDenied")
    assert raised(theirs.put_object, Bucket=bucket, Key="docs/a", Body=b"y") == (403, "AccessDenied")
    assert raised(theirs.list_objects, Bucket=bucket) == (403, "AccessDenied")
    url = theirs.get_presigned_url(
        Bucket=bucket, Key="docs/a", Method="GET", Params={"x-cos-security-token": given.Token}
    )
    proxies = {"http": emulator.endpoint_url}
    assert requests.get(url, proxies=proxies, timeout=90).content == b"x"


def test_the_policy_of_a_bucket(sdk: CosS3Client, emulator: Emulator, bucket: str) -> None:
    user = emulator.add_user(policies=[])
    theirs = proxied(emulator, SecretId=user.secret_id, SecretKey=user.secret_key)
    sdk.put_object(Bucket=bucket, Key="docs/a", Body=b"x")
    assert raised(theirs.get_object, Bucket=bucket, Key="docs/a") == (403, "AccessDenied")
    policy = reading(bucket, "docs/")
    policy["statement"][0]["principal"] = {"qcs": [user.arn]}
    sdk.put_bucket_policy(Bucket=bucket, Policy=policy)
    assert content(theirs, bucket, "docs/a") == b"x"
    assert raised(theirs.delete_object, Bucket=bucket, Key="docs/a") == (403, "AccessDenied")


def test_a_website(sdk: CosS3Client, emulator: Emulator, bucket: str) -> None:
    pages = {"IndexDocument": {"Suffix": "index.html"}, "ErrorDocument": {"Key": "error.html"}}
    sdk.put_bucket_website(Bucket=bucket, WebsiteConfiguration=pages)
    sdk.put_bucket_acl(Bucket=bucket, ACL="public-read")
    for key in ("index.html", "dir/index.html", "error.html"):
        sdk.put_object(Bucket=bucket, Key=key, Body=key.encode(), ContentType="text/html")
    site, proxies = f"http://{bucket}.cos-website.{REGION}.myqcloud.com", {"http": emulator.endpoint_url}
    assert requests.get(f"{site}/", proxies=proxies, timeout=90).text == "index.html"
    assert requests.get(f"{site}/dir/", proxies=proxies, timeout=90).text == "dir/index.html"
    missing = requests.get(f"{site}/nothing", proxies=proxies, timeout=90)
    assert (missing.status_code, missing.text) == (404, "error.html")


def test_cross_origin_requests(sdk: CosS3Client, emulator: Emulator, bucket: str) -> None:
    rule = {"AllowedOrigin": ["http://a.example"], "AllowedMethod": ["GET"], "ExposeHeader": ["ETag"]}
    sdk.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRule": [rule]})
    sdk.put_object(Bucket=bucket, Key="k", Body=b"x", ACL="public-read")
    url, proxies = f"http://{bucket}.cos.{REGION}.myqcloud.com/k", {"http": emulator.endpoint_url}
    for origin, allowed in (("http://a.example", "http://a.example"), ("http://b.example", None)):
        answer = requests.get(url, headers={"Origin": origin}, proxies=proxies, timeout=90)
        assert answer.status_code == 200
        assert answer.headers.get("Access-Control-Allow-Origin") == allowed


def test_locked_versions_stay(sdk: CosS3Client, bucket: str) -> None:
    sdk.put_bucket_versioning(Bucket=bucket, Status="Enabled")
    lock = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Days": "1"}}}
    sdk.put_bucket_object_lock(Bucket=bucket, ObjectLockConfiguration=lock)
    version = sdk.put_object(Bucket=bucket, Key="k", Body=b"x")["x-cos-version-id"]
    refused = raised(sdk.delete_object, Bucket=bucket, Key="k", VersionId=version)
    assert refused == (409, "ObjectLocked")
    assert content(sdk, bucket, "k", VersionId=version) == b"x"


def test_an_inventory_at_once(sdk: CosS3Client, emulator: Emulator, bucket: str) -> None:
    sdk.put_object(Bucket=bucket, Key="data", Body=b"x")
    once = inventory(bucket, schedule=False)
    sdk.post_bucket_inventory(Bucket=bucket, Id="once", InventoryConfiguration=once)
    emulator.run_jobs()
    keys = [entry["Key"] for entry in sdk.list_objects(Bucket=bucket, Prefix="list")["Contents"]]
    assert any(key.endswith("manifest.json") for key in keys)
    assert any(key.endswith(".csv.gz") for key in keys)


@pytest.mark.parametrize("algorithm", ["AES256", "cos/kms"])
def test_encryption_is_told(sdk: CosS3Client, bucket: str, algorithm: str) -> None:
    put = sdk.put_object(Bucket=bucket, Key="k", Body=b"x", ServerSideEncryption=algorithm)
    assert put["x-cos-server-side-encryption"] == algorithm
    assert sdk.head_object(Bucket=bucket, Key="k")["x-cos-server-side-encryption"] == algorithm


def test_selecting_from_an_object(sdk: CosS3Client, bucket: str) -> None:
    sdk.put_object(Bucket=bucket, Key="k.csv", Body="name,size\na,1\n中,20\nc,3\n".encode())
    answer = sdk.select_object_content(
        Bucket=bucket, Key="k.csv", ExpressionType="SQL",
        Expression="SELECT s.name FROM COSObject s WHERE CAST(s.size AS INT) > 2",
        InputSerialization={"CompressionType": "NONE", "CSV": {"FileHeaderInfo": "USE"}},
        OutputSerialization={"JSON": {"RecordDelimiter": "\n"}},
    )  # fmt: skip
    events = list(answer["Payload"])
    records = b"".join(event["Records"]["Payload"] for event in events if "Records" in event)
    assert [json.loads(line) for line in records.splitlines()] == [{"name": "中"}, {"name": "c"}]
    stats = next(event["Stats"] for event in events if "Stats" in event)
    assert int(stats["Details"]["BytesScanned"]) == 25
    assert "End" in events[-1]
