"""Replication between buckets: what arrives, in which order, and what a crash does not break."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cosfs.emulator import Emulator
from tests.emulator.documents import replication
from tests.emulator.signed import Signed
from tests.waiting import until

STATUS = "x-cos-replication-status"


@pytest.fixture
def copy(wire: Signed) -> Iterator[Signed]:
    """A bucket of another region that `wire` is replicated to."""
    other = wire.other("ap-shanghai")
    wire.versioning()
    other.versioning()
    wire.ok("PUT", "/?replication", replication(other.bucket, region="ap-shanghai"))
    yield other
    other.close()


def test_objects_arrive_with_all_that_belongs_to_them(timed: Emulator, wire: Signed, copy: Signed) -> None:
    body = bytes(range(256)) * 200  # beyond what is kept in rows
    wire.ok(
        "PUT", "/dir/a", body, x_cos_meta_color="red", content_type="text/x-test", x_cos_tagging="a=1",
        x_cos_storage_class="STANDARD_IA", x_cos_acl="public-read",
    )  # fmt: skip
    source = wire.ok("HEAD", "/dir/a")
    assert source.headers[STATUS] == "PENDING"
    assert copy("HEAD", "/dir/a").status == 404
    timed.run_jobs()
    assert wire.ok("HEAD", "/dir/a").headers[STATUS] == "COMPLETED"
    arrived = copy.ok("GET", "/dir/a")
    assert arrived.body == body
    for name in ("ETag", "Content-Type", "x-cos-meta-color", "x-cos-storage-class", "Last-Modified"):
        assert arrived.headers[name] == source.headers[name]
    assert arrived.headers[STATUS] == "REPLICA"
    assert copy.ok("GET", "/dir/a?tagging").texts("TagSet/Tag/Key") == ["a"]
    wire.ok("DELETE", f"/dir/a?versionId={source.headers['x-cos-version-id']}")
    assert copy.ok("GET", "/dir/a").body == body  # deletes of versions stay where they are


def test_versions_and_delete_markers_come_in_order(timed: Emulator, wire: Signed, copy: Signed) -> None:
    for number in range(25):
        wire.ok("PUT", "/a", f"{number}")
    wire.ok("DELETE", "/a")
    timed.run_jobs()
    assert [(kind, latest) for kind, _, _, latest in copy.versions()] == [
        ("DeleteMarker", True), *(("Version", False) for _ in range(25)),
    ]  # fmt: skip
    versions = [id_ for kind, _, id_, _ in copy.versions() if kind == "Version"]
    assert [copy.ok("GET", f"/a?versionId={id_}").body for id_ in versions] == [
        f"{number}".encode() for number in reversed(range(25))
    ]


def test_multipart_objects_and_copies_are_replicated(timed: Emulator, wire: Signed, copy: Signed) -> None:
    upload = wire.ok("POST", "/big?uploads").texts("UploadId")[0]
    etag = wire.ok("PUT", f"/big?partNumber=1&uploadId={upload}", b"p" * 2000).headers["ETag"]
    part = f"<Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part>"
    wire.ok("POST", f"/big?uploadId={upload}", f"<CompleteMultipartUpload>{part}</CompleteMultipartUpload>")
    wire.ok("PUT", "/copied", x_cos_copy_source=f"/{wire.bucket}/big")
    timed.run_jobs()
    assert copy.listed() == ["big", "copied"]
    assert copy.ok("GET", "/copied").body == b"p" * 2000


def test_rules_choose_by_prefix_class_and_markers(timed: Emulator, wire: Signed) -> None:
    other = wire.other()
    wire.versioning()
    other.versioning()
    quiet = "<Prefix>a/</Prefix><DeleteMarkerReplication><Status>Disabled</Status></DeleteMarkerReplication>"
    document = replication(other.bucket, quiet, "<Prefix>b/</Prefix>").replace(
        "</Bucket></Destination>", "</Bucket><StorageClass>Standard_IA</StorageClass></Destination>", 1
    )
    wire.ok("PUT", "/?replication", document)
    for key in ("a/1", "b/1", "c/1"):
        wire.ok("PUT", f"/{key}", b"data")
    for key in ("a/1", "b/1"):
        wire.ok("DELETE", f"/{key}")
    timed.run_jobs()
    assert other.listed() == ["a/1"]  # the marker of b/1 came along
    assert other.ok("HEAD", "/a/1").headers["x-cos-storage-class"] == "STANDARD_IA"
    assert STATUS not in wire.ok("HEAD", "/c/1").headers
    other.close()


def test_two_buckets_that_replicate_each_other_end(timed: Emulator, wire: Signed, copy: Signed) -> None:
    copy.ok("PUT", "/?replication", replication(wire.bucket))
    wire.ok("PUT", "/a", b"1")
    copy.ok("PUT", "/b", b"2")
    for _ in range(3):
        timed.run_jobs()
    assert wire.listed() == copy.listed() == ["a", "b"]
    assert len(wire.versions()) == len(copy.versions()) == 2


def test_objects_of_before_and_replicas_are_not_copied(timed: Emulator, wire: Signed) -> None:
    wire.versioning()
    wire.ok("PUT", "/old", b"1")
    other = wire.other()
    other.versioning()
    wire.ok("PUT", "/?replication", replication(other.bucket))
    timed.run_jobs()
    assert other.listed() == []
    other.close()


def test_target_that_went_away_means_failed(timed: Emulator, wire: Signed, copy: Signed) -> None:
    copy.ok("DELETE", "/")
    wire.ok("PUT", "/a", b"1")
    timed.run_jobs()
    assert wire.ok("HEAD", "/a").headers[STATUS] == "FAILED"


def test_documents_that_cannot_work(timed: Emulator, wire: Signed) -> None:
    other = wire.other()
    good = replication(other.bucket)
    assert wire("PUT", "/?replication", good).code == (400, "BucketVersionNotOpen")
    wire.versioning()
    assert wire("PUT", "/?replication", good).code == (400, "BucketVersionNotOpen")
    other.versioning()
    refused = {
        replication("nowhere-1250000000"): "TargetBucketNameInvalid",
        replication(other.bucket, region="ap-tokyo"): "TargetBucketNameInvalid",
        replication(wire.bucket): "InvalidRequest",
        good.replace("Enabled", "On"): "MalformedXML",
        "<ReplicationConfiguration></ReplicationConfiguration>": "MalformedXML",
        good.replace("</Bucket>", "</Bucket><StorageClass>FROZEN</StorageClass>"): "InvalidArgument",
    }
    for document, code in refused.items():
        assert wire("PUT", "/?replication", document).code == (400, code)
    wire.ok("PUT", "/?replication", good)
    suspend = "<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>"
    assert wire("PUT", "/?versioning", suspend).code == (409, "InvalidBucketState")
    other.close()


def test_what_waits_survives_a_restart_and_is_copied_by_itself(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Emulator(data, buckets=["a", "b"], jobs_interval=0) as emulator:
        source, target = (Signed(emulator, f"{name}-{emulator.appid}") for name in "ab")
        source.versioning()
        target.versioning()
        source.ok("PUT", "/?replication", replication(target.bucket))
        source.ok("PUT", "/key", b"data")
        source.close()
        target.close()
    with Emulator(data, jobs_interval=30) as emulator:  # replication does not wait for the interval
        target = Signed(emulator, f"b-{emulator.appid}")
        until(target.listed, "it has arrived")
        assert target.ok("GET", "/key").body == b"data"
        target.close()
