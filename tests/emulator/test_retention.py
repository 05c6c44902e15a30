"""Object lock: what is locked stays as it is until the clock has passed the date."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import pytest
from qcloud_cos import CosS3Client
from qcloud_cos.cos_exception import CosServiceError

from cosfs.emulator import Emulator
from tests.emulator.asking import Asker, code, texts
from tests.emulator.documents import replication
from tests.emulator.signed import Signed

VERSIONED = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
SUSPENDED = VERSIONED.replace(b"Enabled", b"Suspended")


def lock(days: str = "") -> bytes:
    rule = f"<Rule><DefaultRetention><Days>{days}</Days></DefaultRetention></Rule>" if days else ""
    inner = f"<ObjectLockEnabled>Enabled</ObjectLockEnabled>{rule}"
    return f"<ObjectLockConfiguration>{inner}</ObjectLockConfiguration>".encode()


def md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data).digest()).decode()


def until(text: str) -> bytes:
    return f"<Retention><RetainUntilDate>{text}</RetainUntilDate></Retention>".encode()


def days(wire: Signed, count: float) -> None:
    wire.emulator.clock.advance(count * 86_400)


@pytest.fixture(autouse=True)
def _november(timed: Emulator) -> None:
    timed.clock.set(datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC))


def lock_for_two_days(wire: Signed) -> None:
    wire.versioning()
    assert wire("PUT", "/?object-lock", lock("2")).status == 200


def test_new_objects_are_locked_until_the_clock_has_passed(wire: Signed) -> None:
    lock_for_two_days(wire)
    version = wire("PUT", "/k", b"kept").headers["x-cos-version-id"]
    written = parsedate_to_datetime(wire("HEAD", "/k").headers["Last-Modified"])
    ends = f"{written + timedelta(days=2):%Y-%m-%dT%H:%M:%S.000Z}"
    assert texts(wire("GET", "/k?retention"), "RetainUntilDate") == [ends]
    assert code(wire("DELETE", f"/k?versionId={version}")) == (409, "ObjectLocked")
    assert code(wire("PUT", "/k", b"other")) == (409, "ObjectLocked")
    source = f"{wire.host}/k"
    for directive in ("Copy", "Replaced"):
        headers = {
            "x_cos_copy_source": source,
            "x_cos_metadata_directive": directive,
            "x_cos_storage_class": "ARCHIVE",
        }
        assert code(wire("PUT", "/k", **headers)) == (409, "ObjectLocked")
    assert wire("PUT", "/copy", x_cos_copy_source=source).status == 200
    assert wire("GET", "/k").body == b"kept"
    days(wire, 2)
    assert wire("PUT", "/k", b"other").status == 200
    assert wire("DELETE", f"/k?versionId={version}").status == 204
    assert wire("GET", "/k").body == b"other"


def test_uploads_do_not_end_on_a_locked_object(wire: Signed) -> None:
    lock_for_two_days(wire)
    wire("PUT", "/k", b"kept")
    upload = texts(wire("POST", "/k?uploads"), "UploadId")[0]
    etag = wire("PUT", f"/k?partNumber=1&uploadId={upload}", b"new").headers["ETag"]
    parts = f"<Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part>"
    body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
    assert code(wire("POST", f"/k?uploadId={upload}", body)) == (409, "ObjectLocked")
    days(wire, 2)
    assert wire("POST", f"/k?uploadId={upload}", body).status == 200
    assert wire("GET", "/k").body == b"new"


def test_a_delete_marker_hides_a_locked_object_and_loses_nothing(wire: Signed) -> None:
    lock_for_two_days(wire)
    version = wire("PUT", "/k", b"kept").headers["x-cos-version-id"]
    marker = wire("DELETE", "/k").headers
    assert marker["x-cos-delete-marker"] == "true"
    assert wire("PUT", "/k", b"new").status == 200
    assert wire("DELETE", f"/k?versionId={marker['x-cos-version-id']}").status == 204
    assert wire("GET", f"/k?versionId={version}").body == b"kept"


def test_deleting_many_tells_which_are_locked(wire: Signed) -> None:
    lock_for_two_days(wire)
    version = wire("PUT", "/k", b"kept").headers["x-cos-version-id"]
    locked_one = f"<Object><Key>k</Key><VersionId>{version}</VersionId></Object>"
    body = f"<Delete>{locked_one}<Object><Key>a</Key></Object></Delete>".encode()
    answer = wire("POST", "/?delete", body, Content_MD5=md5(body))
    assert (texts(answer, "Error/Code"), texts(answer, "Deleted/Key")) == (["ObjectLocked"], ["a"])


def test_a_retention_can_only_grow(wire: Signed) -> None:
    wire("PUT", "/k", b"x")
    assert code(wire("PUT", "/k?retention", until("2023-11-20T00:00:00Z"))) == (
        404,
        "NoSuchObjectLockConfiguration",
    )
    wire("PUT", "/?versioning", VERSIONED)
    wire("PUT", "/?object-lock", lock())
    assert code(wire("GET", "/k?retention")) == (404, "NoSuchObjectLockConfiguration")
    assert wire("PUT", "/k?retention", until("2023-11-20T00:00:00.000Z")).status == 200
    assert texts(wire("GET", "/k?retention"), "RetainUntilDate") == ["2023-11-20T00:00:00.000Z"]
    assert code(wire("DELETE", "/k?versionId=null")) == (409, "ObjectLocked")
    for wrong in ("2023-11-19T00:00:00Z", "2023-11-01T00:00:00Z", "2323-11-01T00:00:00Z"):
        assert code(wire("PUT", "/k?retention", until(wrong))) == (409, "InvalidLockedTime")
    assert wire("PUT", "/k?retention", until("2023-11-21T00:00:00+00:00")).status == 200
    for malformed in ("soon", "", "2023-11-21T00:00:00"):
        assert code(wire("PUT", "/k?retention", until(malformed))) == (400, "MalformedXML")
    assert code(wire("PUT", "/missing?retention", until("2023-11-21T00:00:00Z"))) == (404, "NoSuchKey")
    days(wire, 7)
    assert wire("DELETE", "/k?versionId=null").status == 204


def test_the_configuration_is_checked(wire: Signed) -> None:
    assert code(wire("PUT", "/?object-lock", lock("1"))) == (409, "InvalidBucketState")
    wire("PUT", "/?versioning", VERSIONED)
    assert code(wire("PUT", "/?object-lock", lock("many"))) == (400, "MalformedXML")
    for days in ("0", "36501"):
        assert code(wire("PUT", "/?object-lock", lock(days))) == (400, "InvalidArgument")
    assert code(wire("PUT", "/?object-lock", b"<ObjectLockConfiguration/>")) == (400, "MalformedXML")
    assert wire("PUT", "/?object-lock", lock("36500")).status == 200
    assert code(wire("PUT", "/?versioning", SUSPENDED)) == (409, "InvalidBucketState")


def test_replicas_are_locked_as_their_bucket_says(timed: Emulator, wire: Signed) -> None:
    other = wire.other("ap-shanghai")
    wire.versioning()
    lock_for_two_days(other)
    wire.ok("PUT", "/?replication", replication(other.bucket, region="ap-shanghai"))
    wire.ok("PUT", "/k", b"1")
    wire.ok("PUT", "/k", b"2")
    timed.run_jobs()
    version = other.ok("GET", "/k").headers["x-cos-version-id"]
    assert code(other("DELETE", f"/k?versionId={version}")) == (409, "ObjectLocked")
    assert other("GET", "/k").body == b"2"
    other.close()


def test_locks_survive_a_restart(ask: Asker) -> None:
    ask("PUT", "/?versioning", VERSIONED)
    ask("PUT", "/?object-lock", lock("1"))
    version = ask("PUT", "/k", b"x").headers["x-cos-version-id"]
    ask.close()
    ask.open()
    assert code(ask("DELETE", f"/k?versionId={version}")) == (409, "ObjectLocked")
    ask.now += 86_400
    assert ask("DELETE", f"/k?versionId={version}").status == 204


def test_the_sdk_locks(sdk: CosS3Client, bucket: str) -> None:
    sdk.put_bucket_versioning(Bucket=bucket, Status="Enabled")
    configuration = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Days": 1}}}
    sdk.put_bucket_object_lock(Bucket=bucket, ObjectLockConfiguration=configuration)
    assert sdk.get_bucket_object_lock(Bucket=bucket)["Rule"]["DefaultRetention"] == {"Days": "1"}
    version = sdk.put_object(Bucket=bucket, Key="k", Body=b"x")["x-cos-version-id"]
    with pytest.raises(CosServiceError) as caught:
        sdk.delete_object(Bucket=bucket, Key="k", VersionId=version)
    assert (caught.value.get_status_code(), caught.value.get_error_code()) == (409, "ObjectLocked")
