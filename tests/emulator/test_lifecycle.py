"""Lifecycle rules as the clock passes by, and the documents that are refused."""

from __future__ import annotations

import threading
import time

import pytest

from cosfs.emulator import Emulator
from tests.emulator.signed import Signed
from tests.waiting import until

DAY = 86400
EXPIRES = "<Expiration><Days>10</Days></Expiration>"


def rule(actions: str, filtered: str = "<Prefix></Prefix>", id_: str = "r", status: str = "Enabled") -> str:
    return f"<Rule><ID>{id_}</ID><Filter>{filtered}</Filter><Status>{status}</Status>{actions}</Rule>"


def document(*rules: str) -> str:
    return f"<LifecycleConfiguration>{''.join(rules)}</LifecycleConfiguration>"


def days_later(emulator: Emulator, days: float) -> None:
    emulator.clock.advance(days * DAY)
    emulator.run_jobs()


def move(days: int, storage_class: str) -> str:
    return f"<Transition><Days>{days}</Days><StorageClass>{storage_class}</StorageClass></Transition>"


# --- what rules do


def test_objects_below_the_prefix_expire(timed: Emulator, wire: Signed) -> None:
    wire.ok("PUT", "/?lifecycle", document(rule(EXPIRES, "<Prefix>tmp/</Prefix>")))
    for key in ("tmp/a", "tmp/b", "tmpx", "kept"):
        wire.ok("PUT", f"/{key}", b"data")
    days_later(timed, 9.9)
    assert len(wire.listed()) == 4
    wire.ok("PUT", "/tmp/b", b"written again")
    days_later(timed, 0.2)
    assert wire.listed() == ["kept", "tmp/b", "tmpx"]


def test_filters_by_tags(timed: Emulator, wire: Signed) -> None:
    tags = "".join(f"<Tag><Key>{key}</Key><Value>{value}</Value></Tag>" for key, value in ("a1", "b2"))
    both = f"<And><Prefix>t/</Prefix>{tags}</And>"
    wire.ok("PUT", "/?lifecycle", document(rule(EXPIRES, both)))
    wire.ok("PUT", "/t/both", b"", x_cos_tagging="a=1&b=2&c=3")
    wire.ok("PUT", "/t/one", b"", x_cos_tagging="a=1")
    wire.ok("PUT", "/u/both", b"", x_cos_tagging="a=1&b=2")
    days_later(timed, 11)
    assert wire.listed() == ["t/one", "u/both"]


def test_disabled_rules_and_removed_documents_do_nothing(timed: Emulator, wire: Signed) -> None:
    wire.ok("PUT", "/a", b"data")
    wire.ok("PUT", "/?lifecycle", document(rule(EXPIRES, status="Disabled")))
    days_later(timed, 11)
    wire.ok("PUT", "/?lifecycle", document(rule(EXPIRES)))
    wire.ok("DELETE", "/?lifecycle")
    days_later(timed, 1)
    assert wire.listed() == ["a"]


def test_date_expires_what_was_written_before_it(timed: Emulator, wire: Signed) -> None:
    date = time.strftime("%Y-%m-%dT00:00:00+08:00", time.gmtime(time.time() + 5 * DAY))
    wire.ok("PUT", "/?lifecycle", document(rule(f"<Expiration><Date>{date}</Date></Expiration>")))
    wire.ok("PUT", "/old", b"data")
    days_later(timed, 3)
    assert wire.listed() == ["old"]
    timed.clock.advance(4 * DAY)
    wire.ok("PUT", "/new", b"data")
    timed.run_jobs()
    assert wire.listed() == ["new"]


def test_objects_move_down_the_ladder(timed: Emulator, wire: Signed) -> None:
    moves = move(3, "STANDARD_IA") + move(10, "ARCHIVE") + "<Expiration><Days>100</Days></Expiration>"
    wire.ok("PUT", "/?lifecycle", document(rule(moves)))
    wire.ok("PUT", "/a", b"data")
    wire.ok("PUT", "/cold", b"data", x_cos_storage_class="DEEP_ARCHIVE")
    modified = wire.ok("HEAD", "/a").headers["Last-Modified"]
    for days, expected in ((2, None), (2, "STANDARD_IA"), (7, "ARCHIVE")):
        days_later(timed, days)
        assert wire.ok("HEAD", "/a").headers.get("x-cos-storage-class") == expected
    assert wire.ok("HEAD", "/a").headers["Last-Modified"] == modified
    assert wire("GET", "/a").code == (403, "InvalidObjectState")
    assert wire.ok("HEAD", "/cold").headers["x-cos-storage-class"] == "DEEP_ARCHIVE"
    days_later(timed, 100)
    assert wire.listed() == []


def test_expiry_in_a_versioned_bucket_leaves_a_delete_marker(timed: Emulator, wire: Signed) -> None:
    wire.versioning()
    version = wire.ok("PUT", "/a", b"data").headers["x-cos-version-id"]
    wire.ok("PUT", "/?lifecycle", document(rule(EXPIRES)))
    days_later(timed, 11)
    assert wire("HEAD", "/a").status == 404
    assert wire.ok("GET", f"/a?versionId={version}").body == b"data"
    assert [(kind, latest) for kind, _, _, latest in wire.versions()] == [
        ("DeleteMarker", True),
        ("Version", False),
    ]


def test_noncurrent_versions_move_and_expire_by_when_they_were_replaced(
    timed: Emulator, wire: Signed
) -> None:
    wire.versioning()
    wire.ok(
        "PUT", "/?lifecycle",
        document(rule(
            "<NoncurrentVersionTransition><NoncurrentDays>5</NoncurrentDays><StorageClass>STANDARD_IA</StorageClass>"
            "</NoncurrentVersionTransition>"
            "<NoncurrentVersionExpiration><NoncurrentDays>20</NoncurrentDays></NoncurrentVersionExpiration>"
        )),
    )  # fmt: skip
    first = wire.ok("PUT", "/a", b"1").headers["x-cos-version-id"]
    timed.clock.advance(100 * DAY)
    wire.ok("PUT", "/a", b"2")
    days_later(timed, 4)
    assert "x-cos-storage-class" not in wire.ok("HEAD", f"/a?versionId={first}").headers
    days_later(timed, 2)
    assert wire.ok("HEAD", f"/a?versionId={first}").headers["x-cos-storage-class"] == "STANDARD_IA"
    assert "x-cos-storage-class" not in wire.ok("HEAD", "/a").headers
    days_later(timed, 15)
    assert wire("HEAD", f"/a?versionId={first}").status == 404
    assert wire.ok("GET", "/a").body == b"2"


def test_lone_delete_markers_go(timed: Emulator, wire: Signed) -> None:
    wire.versioning()
    marker = "<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>"
    old = "<NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays></NoncurrentVersionExpiration>"
    for key in ("a", "b"):
        wire.ok("PUT", f"/{key}", b"1")
        wire.ok("DELETE", f"/{key}")
    wire.ok("PUT", "/?lifecycle", document(rule(marker, "<Prefix>a</Prefix>")))
    timed.run_jobs()
    assert len(wire.versions()) == 4  # they still hide something
    wire.ok("PUT", "/?lifecycle", document(rule(marker + old, "<Prefix>a</Prefix>")))
    days_later(timed, 2)
    assert [(kind, key) for kind, key, _, _ in wire.versions()] == [("DeleteMarker", "b"), ("Version", "b")]


def test_locked_versions_stay_until_their_time_is_over(timed: Emulator, wire: Signed) -> None:
    wire.versioning()
    lock = "<Rule><DefaultRetention><Days>30</Days></DefaultRetention></Rule>"
    enabled = f"<ObjectLockEnabled>Enabled</ObjectLockEnabled>{lock}"
    wire.ok("PUT", "/?object-lock", f"<ObjectLockConfiguration>{enabled}</ObjectLockConfiguration>")
    old = "<NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays></NoncurrentVersionExpiration>"
    wire.ok("PUT", "/?lifecycle", document(rule(old)))
    locked = wire.ok("PUT", "/a", b"1").headers["x-cos-version-id"]
    wire.ok("DELETE", "/a")
    days_later(timed, 20)
    assert wire.ok("GET", f"/a?versionId={locked}").body == b"1"
    days_later(timed, 20)
    assert wire("GET", f"/a?versionId={locked}").status == 404


def test_unfinished_uploads_are_aborted(timed: Emulator, wire: Signed) -> None:
    days = "<DaysAfterInitiation>3</DaysAfterInitiation>"
    abort = f"<AbortIncompleteMultipartUpload>{days}</AbortIncompleteMultipartUpload>"
    wire.ok("PUT", "/?lifecycle", document(rule(abort, "<Prefix>up/</Prefix>")))
    for key in ("up/a", "other"):
        wire.ok("POST", f"/{key}?uploads")
    days_later(timed, 2)
    assert wire.ok("GET", "/?uploads").texts("Upload/Key") == ["other", "up/a"]
    days_later(timed, 2)
    assert wire.ok("GET", "/?uploads").texts("Upload/Key") == ["other"]


def test_many_objects_expire_while_requests_are_answered(
    timed: Emulator, wire: Signed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cosfs.emulator.scan._PAUSE", 0.003)  # so that there is time for some requests
    timed.put_objects(wire.bucket, ((f"many/{n:05}", b"x") for n in range(3000)))
    timed.put_objects(wire.bucket, ((f"other/{n:05}", b"x") for n in range(700)))
    wire.ok("PUT", "/?lifecycle", document(rule(EXPIRES, "<Prefix>many/</Prefix>")))
    timed.clock.advance(11 * DAY)
    worker = threading.Thread(target=timed.run_jobs)
    worker.start()
    between = set()
    while worker.is_alive():
        between.add(len(wire.listed("prefix=many/&max-keys=1000&marker=many/01999")))
    worker.join()
    assert len(between) > 2  # it went away bit by bit, with answers in between
    assert wire.listed("prefix=many/") == []
    assert len(wire.listed("prefix=other/")) == 700


def test_background_does_it_without_being_asked() -> None:
    with Emulator(buckets=["b"], jobs_interval=0.05) as emulator:
        wire = Signed(emulator, emulator.create_bucket("b"))
        wire.ok("PUT", "/a", b"data")
        wire.ok("PUT", "/?lifecycle", document(rule(EXPIRES)))
        emulator.clock.advance(11 * DAY)
        until(lambda: not wire.listed(), "it has expired")
        wire.close()


# --- documents


MALFORMED = {
    "no rule": document(),
    "no filter": document(f"<Rule><Status>Enabled</Status>{EXPIRES}</Rule>"),
    "status": document(rule(EXPIRES, status="enabled")),
    "no action": document(rule("")),
    "two in expiration": document(rule("<Expiration><Days>1</Days><Date>2030-01-01</Date></Expiration>")),
    "empty expiration": document(rule("<Expiration></Expiration>")),
    "two filters": document(rule(EXPIRES, "<Prefix>a</Prefix><Tag><Key>a</Key><Value>b</Value></Tag>")),
    "transition without a time": document(
        rule("<Transition><StorageClass>ARCHIVE</StorageClass></Transition>")
    ),
    "noncurrent without days": document(
        rule(
            "<NoncurrentVersionTransition><StorageClass>ARCHIVE</StorageClass></NoncurrentVersionTransition>"
        )
    ),
    "1001 rules": document(*(rule(EXPIRES, f"<Prefix>{n}</Prefix>", str(n)) for n in range(1001))),
    "another root": "<Lifecycle></Lifecycle>",
}
INVALID = {
    "days of zero": document(rule("<Expiration><Days>0</Days></Expiration>")),
    "days not a number": document(rule("<Expiration><Days>soon</Days></Expiration>")),
    "date": document(rule("<Expiration><Date>tomorrow</Date></Expiration>")),
    "class": document(rule(move(1, "FROZEN"))),
    "up the ladder": document(rule(move(1, "STANDARD"))),
    "colder before warmer": document(rule(move(30, "STANDARD_IA") + move(10, "ARCHIVE"))),
    "same day": document(rule(move(10, "STANDARD_IA") + move(10, "ARCHIVE"))),
    "class twice": document(rule(move(10, "ARCHIVE") + move(20, "ARCHIVE"))),
    "expires before it moves": document(rule(move(10, "ARCHIVE") + EXPIRES)),
    "days and date": document(
        rule(move(10, "ARCHIVE") + "<Expiration><Date>2030-01-01T00:00:00Z</Date></Expiration>")
    ),
    "same id": document(rule(EXPIRES, "<Prefix>a</Prefix>"), rule(EXPIRES, "<Prefix>b</Prefix>")),
    "same action": document(rule(EXPIRES, id_="1"), rule(EXPIRES, id_="2")),
    "markers by tag": document(
        rule(
            "<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>",
            "<Tag><Key>a</Key><Value>b</Value></Tag>",
        )
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_documents(wire: Signed, name: str) -> None:
    assert wire("PUT", "/?lifecycle", MALFORMED[name]).code == (400, "MalformedXML")
    assert wire("GET", "/?lifecycle").code == (404, "NoSuchLifecycleConfiguration")


@pytest.mark.parametrize("name", INVALID)
def test_documents_with_invalid_values(wire: Signed, name: str) -> None:
    assert wire("PUT", "/?lifecycle", INVALID[name]).code == (400, "InvalidArgument")


def test_a_thousand_rules_are_taken_and_returned_unchanged(timed: Emulator, wire: Signed) -> None:
    many = document(*(rule(EXPIRES, f"<Prefix>{n:04}/</Prefix>", str(n)) for n in range(1000)))
    wire.ok("PUT", "/?lifecycle", many)
    assert wire.ok("GET", "/?lifecycle").body == many.encode()
    wire.ok("PUT", "/0999/a", b"")
    days_later(timed, 11)
    assert wire.listed() == []
