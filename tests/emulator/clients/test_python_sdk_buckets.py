"""cos-python-sdk-v5: buckets and what is set on them, through an address and through a proxy."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from qcloud_cos import CosS3Client

from tests.emulator.clients.conftest import REGION
from tests.emulator.clients.test_python_sdk_objects import raised

CLIENTS = ("cos-python-sdk-v5",)
Sdk = CosS3Client


def test_buckets(sdk: Sdk, bucket: str) -> None:
    name = bucket.replace("client", "made")
    sdk.create_bucket(Bucket=name, ACL="public-read")
    assert sdk.bucket_exists(Bucket=name)
    assert not sdk.bucket_exists(Bucket="none-1250000000")
    assert raised(sdk.create_bucket, Bucket=name) == (409, "BucketAlreadyOwnedByYou")
    listed = sdk.list_buckets(Region=REGION)["Buckets"]["Bucket"]
    assert {"Name": name, "Location": REGION}.items() <= next(e for e in listed if e["Name"] == name).items()
    page = sdk.list_buckets(MaxKeys=1)
    assert (len(page["Buckets"]["Bucket"]), page["IsTruncated"]) == (1, "true")
    assert sdk.list_buckets(MaxKeys=1, Marker=page["NextMarker"])["Buckets"] != page["Buckets"]
    assert sdk.head_bucket(Bucket=name)["x-cos-bucket-region"] == REGION
    assert sdk.get_bucket_location(Bucket=name) == {"LocationConstraint": REGION}
    assert sdk.get_bucket_acl(Bucket=name)["CannedACL"] == "public-read"
    sdk.put_object(Bucket=name, Key="k", Body=b"x")
    assert raised(sdk.delete_bucket, Bucket=name) == (409, "BucketNotEmpty")
    sdk.delete_object(Bucket=name, Key="k")
    sdk.delete_bucket(Bucket=name)
    assert raised(sdk.delete_bucket, Bucket=name) == (404, "NoSuchBucket")


def test_grants(sdk: Sdk, bucket: str) -> None:
    everyone = "http://cam.qcloud.com/groups/global/AllUsers"
    sdk.put_bucket_acl(Bucket=bucket, GrantRead='id="qcs::cam::uin/2832742109:uin/2832742109"')
    grants = sdk.get_bucket_acl(Bucket=bucket)["AccessControlList"]["Grant"]
    assert "READ" in [grant["Permission"] for grant in grants]
    owner = sdk.get_bucket_acl(Bucket=bucket)["Owner"]
    granted = {"Grantee": {"Type": "Group", "URI": everyone}, "Permission": "READ"}
    policy = {"Owner": owner, "AccessControlList": {"Grant": [granted]}}
    sdk.put_bucket_acl(Bucket=bucket, AccessControlPolicy=policy)
    assert sdk.get_bucket_acl(Bucket=bucket)["CannedACL"] == "public-read"


# Each: how it is put, how it is read, what of it must come back, how it is removed, what reading says then.


@dataclass(frozen=True)
class Setting:
    put: Callable[[Sdk, str], Any]
    get: Callable[[Sdk, str], Any]
    expected: dict[str, Any]
    delete: Callable[[Sdk, str], Any] | None = None
    none: str = ""  # the error code when nothing is set; empty: an answer without the expected keys


CORS = {
    "CORSRule": [
        {
            "ID": "r", "AllowedOrigin": ["http://a", "http://b"], "AllowedMethod": ["GET", "PUT"],
            "AllowedHeader": ["*"], "ExposeHeader": ["ETag"], "MaxAgeSeconds": "5",
        },
    ]
}  # fmt: skip
TAG_LIST = [{"Key": "a", "Value": "b"}, {"Key": "中", "Value": "文"}]
LIFECYCLE = {
    "Rule": [
        {
            "ID": "logs", "Status": "Enabled",
            "Filter": {"And": {"Prefix": "logs/", "Tag": TAG_LIST}},
            "Transition": [{"Days": "30", "StorageClass": "STANDARD_IA"}],
            "Expiration": {"Days": "365"},
        },
        {
            "ID": "parts", "Status": "Disabled", "Filter": {"Prefix": "tmp/"},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": "1"},
        },
    ]
}  # fmt: skip
WEBSITE = {
    "IndexDocument": {"Suffix": "index.html"},
    "ErrorDocument": {"Key": "error.html"},
    "RoutingRules": [
        {"Condition": {"HttpErrorCodeReturnedEquals": "404"}, "Redirect": {"ReplaceKeyWith": "404.html"}},
        {"Condition": {"KeyPrefixEquals": "old/"}, "Redirect": {"ReplaceKeyPrefixWith": "new/"}},
    ],
}
REFERER = {
    "Status": "Enabled", "RefererType": "White-List", "EmptyReferConfiguration": "Allow",
    "DomainList": {"Domain": ["*.example.com", "example.org"]},
}  # fmt: skip
ORIGIN = {
    "OriginRule": [
        {
            "OriginType": "Mirror",
            "OriginCondition": {"HTTPStatusCode": "404", "Prefix": "x"},
            "OriginParameter": {"Protocol": "HTTP"},
            "OriginInfo": {"HostInfo": {"HostName": "example.com"}},
        }
    ]
}
DOMAIN = {"DomainRule": [{"Name": "www.example.com", "Type": "REST", "Status": "ENABLED"}]}
ENCRYPTION = {"Rule": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}
RESPONSES = {"ControlParamList": {"Param": ["response-content-type", "response-expires"]}}
TAGS = {"TagSet": {"Tag": TAG_LIST}}

SETTINGS = {
    "cors": Setting(
        lambda sdk, b: sdk.put_bucket_cors(Bucket=b, CORSConfiguration=CORS),
        lambda sdk, b: sdk.get_bucket_cors(Bucket=b),
        CORS,
        lambda sdk, b: sdk.delete_bucket_cors(Bucket=b),
        "NoSuchCORSConfiguration",
    ),
    "lifecycle": Setting(
        lambda sdk, b: sdk.put_bucket_lifecycle(Bucket=b, LifecycleConfiguration=LIFECYCLE),
        lambda sdk, b: sdk.get_bucket_lifecycle(Bucket=b),
        {"Rule": LIFECYCLE["Rule"]},
        lambda sdk, b: sdk.delete_bucket_lifecycle(Bucket=b),
        "NoSuchLifecycleConfiguration",
    ),
    "website": Setting(
        lambda sdk, b: sdk.put_bucket_website(Bucket=b, WebsiteConfiguration=json.loads(json.dumps(WEBSITE))),
        lambda sdk, b: sdk.get_bucket_website(Bucket=b),
        WEBSITE,
        lambda sdk, b: sdk.delete_bucket_website(Bucket=b),
        "NoSuchWebsiteConfiguration",
    ),
    "tagging": Setting(
        lambda sdk, b: sdk.put_bucket_tagging(Bucket=b, Tagging=TAGS),
        lambda sdk, b: sdk.get_bucket_tagging(Bucket=b),
        TAGS,
        lambda sdk, b: sdk.delete_bucket_tagging(Bucket=b),
        "NoSuchTagSet",
    ),
    "referer": Setting(
        lambda sdk, b: sdk.put_bucket_referer(Bucket=b, RefererConfiguration=REFERER),
        lambda sdk, b: sdk.get_bucket_referer(Bucket=b),
        REFERER,
        lambda sdk, b: sdk.delete_bucket_referer(Bucket=b),
    ),
    "encryption": Setting(
        lambda sdk, b: sdk.put_bucket_encryption(Bucket=b, ServerSideEncryptionConfiguration=ENCRYPTION),
        lambda sdk, b: sdk.get_bucket_encryption(Bucket=b),
        ENCRYPTION,
        lambda sdk, b: sdk.delete_bucket_encryption(Bucket=b),
        "NoSuchEncryptionConfiguration",
    ),
    "origin": Setting(
        lambda sdk, b: sdk.put_bucket_origin(Bucket=b, OriginConfiguration=ORIGIN),
        lambda sdk, b: sdk.get_bucket_origin(Bucket=b),
        ORIGIN,
        lambda sdk, b: sdk.delete_bucket_origin(Bucket=b),
        "OriginConfigurationNotFoundError",
    ),
    "domain": Setting(
        lambda sdk, b: sdk.put_bucket_domain(Bucket=b, DomainConfiguration=DOMAIN),
        lambda sdk, b: sdk.get_bucket_domain(Bucket=b),
        DOMAIN,
        lambda sdk, b: sdk.delete_bucket_domain(Bucket=b),
    ),
    "response-control": Setting(
        lambda sdk, b: sdk.put_bucket_response_control(Bucket=b, ResponseControlConfiguration=RESPONSES),
        lambda sdk, b: sdk.get_bucket_response_control(Bucket=b),
        RESPONSES,
        lambda sdk, b: sdk.delete_bucket_response_control(Bucket=b),
    ),
    "intelligenttiering": Setting(
        lambda sdk, b: sdk.put_bucket_intelligenttiering(
            Bucket=b,
            IntelligentTieringConfiguration={
                "Status": "Enabled",
                "Transition": {"Days": "30", "RequestFrequent": "1"},
            },
        ),
        lambda sdk, b: sdk.get_bucket_intelligenttiering(Bucket=b),
        {"Status": "Enabled", "Transition": {"Days": "30", "RequestFrequent": "1"}},
    ),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_comes_back_and_goes(sdk: Sdk, bucket: str, name: str) -> None:
    setting = SETTINGS[name]

    def is_none() -> None:
        if setting.none:
            assert raised(setting.get, sdk=sdk, b=bucket) == (404, setting.none)
        else:
            assert not set(setting.expected) & set(setting.get(sdk, bucket) or {})

    is_none()
    setting.put(sdk, bucket)
    read = setting.get(sdk, bucket)
    assert {key: read.get(key) for key in setting.expected} == setting.expected
    if setting.delete is not None:
        setting.delete(sdk, bucket)
        is_none()
        setting.delete(sdk, bucket)


def test_versioning_and_what_needs_it(sdk: Sdk, bucket: str) -> None:
    assert not (sdk.get_bucket_versioning(Bucket=bucket) or {}).get("Status")
    target = bucket.replace("client", "target")
    sdk.create_bucket(Bucket=target)
    rule = {
        "ID": "r", "Status": "Enabled", "Prefix": "a",
        "Destination": {"Bucket": f"qcs::cos:{REGION}::{target}"},
    }  # fmt: skip
    rules = {"Role": "qcs::cam::uin/1250000000:uin/1250000000", "Rule": [rule]}
    missing = raised(sdk.get_bucket_replication, Bucket=bucket)
    assert missing == (404, "ReplicationConfigurationNotFoundError")
    for name in (bucket, target):
        sdk.put_bucket_versioning(Bucket=name, Status="Enabled")
    sdk.put_bucket_replication(Bucket=bucket, ReplicationConfiguration=rules)
    assert sdk.get_bucket_replication(Bucket=bucket)["Rule"] == [rule]
    sdk.delete_bucket_replication(Bucket=bucket)
    assert raised(sdk.get_bucket_replication, Bucket=bucket) == missing
    sdk.put_bucket_versioning(Bucket=bucket, Status="Suspended")
    assert sdk.get_bucket_versioning(Bucket=bucket)["Status"] == "Suspended"


def test_object_lock(sdk: Sdk, bucket: str) -> None:
    assert raised(sdk.get_bucket_object_lock, Bucket=bucket) == (404, "NoSuchObjectLockConfiguration")
    sdk.put_bucket_versioning(Bucket=bucket, Status="Enabled")
    lock = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Days": "1"}}}
    sdk.put_bucket_object_lock(Bucket=bucket, ObjectLockConfiguration=lock)
    assert sdk.get_bucket_object_lock(Bucket=bucket) == lock


def test_logging(sdk: Sdk, bucket: str) -> None:
    assert not (sdk.get_bucket_logging(Bucket=bucket) or {}).get("LoggingEnabled")
    enabled = {"LoggingEnabled": {"TargetBucket": bucket, "TargetPrefix": "logs/"}}
    sdk.put_bucket_logging(Bucket=bucket, BucketLoggingStatus=enabled)
    assert sdk.get_bucket_logging(Bucket=bucket)["LoggingEnabled"] == enabled["LoggingEnabled"]
    sdk.put_bucket_logging(Bucket=bucket, BucketLoggingStatus={})
    assert not (sdk.get_bucket_logging(Bucket=bucket) or {}).get("LoggingEnabled")


def test_policy(sdk: Sdk, bucket: str) -> None:
    policy = {
        "version": "2.0",
        "statement": [
            {
                "effect": "allow",
                "principal": {"qcs": ["qcs::cam::anonymous:anonymous"]},
                "action": ["name/cos:GetObject"],
                "resource": [f"qcs::cos:{REGION}:uid/1250000000:{bucket}/public/*"],
            }
        ],
    }
    assert raised(sdk.get_bucket_policy, Bucket=bucket)[0] == 404
    sdk.put_bucket_policy(Bucket=bucket, Policy=policy)
    read = json.loads(sdk.get_bucket_policy(Bucket=bucket)["Policy"])
    assert read["statement"][0]["action"] == ["name/cos:GetObject"]
    sdk.delete_bucket_policy(Bucket=bucket)
    assert raised(sdk.get_bucket_policy, Bucket=bucket)[0] == 404


def inventory(bucket: str, schedule: bool = True) -> dict[str, Any]:
    destination = {
        "AccountId": "1250000000", "Bucket": f"qcs::cos:{REGION}::{bucket}", "Format": "CSV",
        "Prefix": "list",
    }  # fmt: skip
    made: dict[str, Any] = {
        "Destination": {"COSBucketDestination": destination},
        "IncludedObjectVersions": "All",
        "OptionalFields": {"Field": ["Size", "ETag"]},
    }
    return {**made, "IsEnabled": "true", "Schedule": {"Frequency": "Daily"}} if schedule else made


def test_inventories(sdk: Sdk, bucket: str) -> None:
    missing = raised(sdk.get_bucket_inventory, Bucket=bucket, Id="a")
    assert missing == (404, "InventoryConfigurationNotFoundError")
    for name in ("a", "b"):
        sdk.put_bucket_inventory(Bucket=bucket, Id=name, InventoryConfiguration=inventory(bucket))
    read = sdk.get_bucket_inventory(Bucket=bucket, Id="a")
    assert (read["Id"], read["OptionalFields"]["Field"]) == ("a", ["Size", "ETag"])
    listed = sdk.list_bucket_inventory_configurations(Bucket=bucket)
    assert [each["Id"] for each in listed["InventoryConfiguration"]] == ["a", "b"]
    assert listed["IsTruncated"] == "false"
    sdk.delete_bucket_inventory(Bucket=bucket, Id="a")
    assert raised(sdk.get_bucket_inventory, Bucket=bucket, Id="a") == missing


def test_tiering_by_id(sdk: Sdk, bucket: str) -> None:
    tiering = {
        "Id": "default",
        "Status": "Enabled",
        "Tiering": [{"AccessTier": "INFREQUENT", "Days": "30", "RequestFrequent": "1"}],
    }
    sdk.put_bucket_intelligenttiering_v2(Bucket=bucket, Id="default", IntelligentTieringConfiguration=tiering)
    assert sdk.get_bucket_intelligenttiering_v2(Bucket=bucket, Id="default")["Status"] == "Enabled"
    listed = sdk.list_bucket_intelligenttiering_configurations(Bucket=bucket)
    assert "default" in str(listed)


def test_certificates_of_domains(sdk: Sdk, bucket: str) -> None:
    certificate = {
        "CertificateInfo": {
            "CertType": "CustomCert",
            "CustomCert": {"Cert": "-----BEGIN CERTIFICATE-----", "PrivateKey": "-----BEGIN"},
        },
        "DomainList": {"DomainName": ["www.example.com"]},
    }
    sdk.put_bucket_domain_certificate(Bucket=bucket, DomainCertificateConfiguration=certificate)
    assert sdk.get_bucket_domain_certificate(Bucket=bucket, DomainName="www.example.com")
    sdk.delete_bucket_domain_certificate(Bucket=bucket, DomainName="www.example.com")


def test_everything_at_once(sdk: Sdk, bucket: str) -> None:
    sdk.put_bucket_cors(Bucket=bucket, CORSConfiguration=CORS)
    sdk.put_bucket_tagging(Bucket=bucket, Tagging=TAGS)
    meta = sdk.get_bucket_meta(Bucket=bucket)
    assert (meta["Location"], meta["OFS"], meta["MAZ"]) == (REGION, False, False)
    assert meta["CORS"]["CORSRule"][0]["ID"] == "r"
    assert meta["Tagging"]["TagSet"] == TAGS["TagSet"]
    assert meta["ACL"]["CannedACL"] == "private"
    assert meta["Website"] is None
