"""Archived objects: restored by tier and by the clock. Classes of several zones, intelligent tiering."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from qcloud_cos import CosS3Client

from cosfs.emulator import Emulator, Limits
from tests.emulator.asking import Asker, code
from tests.emulator.signed import Signed


@pytest.fixture(scope="module")
def _slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    data = tmp_path_factory.mktemp("slow")
    with Emulator(data, buckets=["b"], limits=Limits(restore_tiers=True)) as emulator:
        yield emulator


@pytest.fixture
def slow(_slow: Emulator) -> Iterator[Signed]:
    """A bucket of an emulator whose restores take their time."""
    connection = Signed(_slow, "b-1250000000")
    yield connection
    connection.close()
    _slow.clock.reset()


def days(wire: Signed, count: float) -> None:
    wire.emulator.clock.advance(count * 86_400)


def request(days: int = 1, tier: str = "") -> bytes:
    job = f"<CASJobParameters><Tier>{tier}</Tier></CASJobParameters>" if tier else ""
    return f"<RestoreRequest><Days>{days}</Days>{job}</RestoreRequest>".encode()


@pytest.mark.parametrize(
    ("storage_class", "tier", "hours"),
    [
        ("ARCHIVE", "Expedited", 1 / 12), ("ARCHIVE", "Standard", 5), ("ARCHIVE", "", 5),
        ("ARCHIVE", "Bulk", 12),
        ("DEEP_ARCHIVE", "Standard", 24), ("DEEP_ARCHIVE", "Bulk", 48),
    ],
)  # fmt: skip
def test_a_restore_takes_its_time(slow: Signed, storage_class: str, tier: str, hours: float) -> None:
    slow("PUT", "/k", b"cold", x_cos_storage_class=storage_class)
    assert slow("HEAD", "/k").headers["x-cos-storage-class"] == storage_class
    assert code(slow("GET", "/k")) == (403, "InvalidObjectState")
    assert slow("POST", "/k?restore", request(2, tier)).status == 202
    assert code(slow("POST", "/k?restore", request(2, tier))) == (409, "RestoreAlreadyInProgress")
    days(slow, hours / 24 - 0.001)
    assert slow("HEAD", "/k").headers["x-cos-restore"] == 'ongoing-request="true"'
    assert slow("HEAD", "/k").headers["x-cos-restore-status"] == "ongoing"
    for answer in (slow("GET", "/k"), slow("PUT", "/c", x_cos_copy_source=f"{slow.host}/k")):
        assert code(answer) == (403, "InvalidObjectState")
    days(slow, 0.001)
    assert slow("GET", "/k").body == b"cold"
    assert slow("PUT", "/c", x_cos_copy_source=f"{slow.host}/k").status == 200
    head = slow("HEAD", "/k").headers
    assert head["x-cos-restore"].startswith('ongoing-request="false", expiry-date="')
    days(slow, 1.999)
    assert slow("GET", "/k").status == 200
    days(slow, 0.002)
    assert code(slow("GET", "/k")) == (403, "InvalidObjectState")
    assert "x-cos-restore" not in slow("HEAD", "/k").headers
    assert slow("POST", "/k?restore", request(1, tier)).status == 202


def test_restoring_again_moves_the_end(slow: Signed) -> None:
    slow("PUT", "/k", b"cold", x_cos_storage_class="ARCHIVE")
    slow("POST", "/k?restore", request(1, "Expedited"))
    days(slow, 0.5)
    assert slow("POST", "/k?restore", request(3)).status == 200
    days(slow, 2.5)
    assert slow("GET", "/k").status == 200
    days(slow, 0.5)
    assert slow("GET", "/k").status == 403


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (request(0), "InvalidArgument"), (request(40_000), "InvalidArgument"), (request(-1), "MalformedXML"),
        (request(1, "Expedited"), "InvalidArgument"), (request(1, "Now"), "InvalidArgument"),
        (b"<Other/>", "MalformedXML"),
        (b"", "MissingRequestBodyError"),
    ],
)  # fmt: skip
def test_requests_are_checked(wire: Signed, body: bytes, wanted: str) -> None:
    wire("PUT", "/k", b"cold", x_cos_storage_class="DEEP_ARCHIVE")
    assert code(wire("POST", "/k?restore", body)) == (400, wanted)
    wire("PUT", "/warm", b"x")
    assert code(wire("POST", "/warm?restore", request())) == (405, "RestoreNonArchiveObject")


def test_a_restore_is_at_once_unless_time_is_wanted(ask: Asker) -> None:
    ask("PUT", "/k", b"cold", x_cos_storage_class="DEEP_ARCHIVE")
    assert ask("POST", "/k?restore", request(1, "Bulk")).status == 202
    assert ask.get("k") == b"cold"


def test_archived_objects_are_not_appended_to(wire: Signed) -> None:
    assert code(wire("POST", "/k?append&position=0", b"x", x_cos_storage_class="ARCHIVE")) == (
        400,
        "InvalidRequest",
    )
    assert wire("POST", "/k?append&position=0", b"x", x_cos_storage_class="STANDARD_IA").status == 200


def test_classes_of_several_zones_belong_to_their_buckets(ask: Asker) -> None:
    several = "maz-1250000000"
    ask.store.create_bucket(several, "ap-guangzhou", maz=True)
    host = f"{several}.cos.ap-guangzhou.myqcloud.com"
    put = ask("PUT", "/k", b"x", x_cos_storage_class="MAZ_STANDARD")
    assert code(put) == (400, "MAZOperationNotSupportOnOAZBucket")
    put = ask("PUT", "/k", b"x", host=host, x_cos_storage_class="STANDARD_IA")
    assert code(put) == (400, "OAZOperationNotSupportOnMAZBucket")
    assert ask("PUT", "/k", b"x", host=host).status == 200
    assert ask("HEAD", "/k", host=host).headers["x-cos-storage-class"] == "MAZ_STANDARD"
    assert ask("PUT", "/k", b"x", host=host, x_cos_storage_class="maz_archive").status == 200
    assert ask("POST", "/a?append&position=0", b"x", host=host).status == 400


def test_the_tier_of_intelligent_tiering_is_told(wire: Signed) -> None:
    wire("PUT", "/k", b"x", x_cos_storage_class="INTELLIGENT_TIERING")
    days(wire, 100)
    assert wire("HEAD", "/k").headers["x-cos-storage-tier"] == "FREQUENT"
    rule = b"<Status>Enabled</Status><Transition><Days>30</Days></Transition>"
    root = b"IntelligentTieringConfiguration"
    wire("PUT", "/?intelligenttiering", b"<%s>%s</%s>" % (root, rule, root))
    assert wire("HEAD", "/k").headers["x-cos-storage-tier"] == "INFREQUENT"
    assert wire("GET", "/k").headers["x-cos-storage-tier"] == "INFREQUENT"
    assert wire("HEAD", "/k").headers["x-cos-storage-tier"] == "FREQUENT"  # since it was read
    days(wire, 31)
    assert wire("HEAD", "/k").headers["x-cos-storage-tier"] == "INFREQUENT"
    wire("PUT", "/k", b"x", x_cos_storage_class="INTELLIGENT_TIERING")
    assert wire("GET", "/k").headers["x-cos-storage-tier"] == "FREQUENT"
    wire("PUT", "/k", b"x")
    assert "x-cos-storage-tier" not in wire("HEAD", "/k").headers


def test_the_sdk_restores(sdk: CosS3Client, bucket: str) -> None:
    sdk.put_object(Bucket=bucket, Key="k", Body=b"cold", StorageClass="ARCHIVE")
    wanted = {"Days": 1, "CASJobParameters": {"Tier": "Bulk"}}
    sdk.restore_object(Bucket=bucket, Key="k", RestoreRequest=wanted)
    assert 'ongoing-request="false"' in sdk.head_object(Bucket=bucket, Key="k")["x-cos-restore"]
