"""Access logs: what a record says, where files go and when."""

from __future__ import annotations

from pathlib import Path

from cosfs.emulator import Emulator
from cosfs.emulator.access_log import FIELDS
from tests.emulator.signed import Signed


def switch_on(wire: Signed, target: str, prefix: str = "log/") -> None:
    enabled = f"<TargetBucket>{target}</TargetBucket><TargetPrefix>{prefix}</TargetPrefix>"
    wire.ok(
        "PUT",
        "/?logging",
        f"<BucketLoggingStatus><LoggingEnabled>{enabled}</LoggingEnabled></BucketLoggingStatus>",
    )


def records(target: Signed) -> list[dict[str, str]]:
    """Return all records that were delivered, by the names of their fields."""
    lines = [
        line for key in target.listed() for line in target.ok("GET", f"/{key}").body.decode().splitlines()
    ]
    return [dict(zip(FIELDS, line.split(" "), strict=True)) for line in lines]


def test_records_say_who_asked_for_what(timed: Emulator, wire: Signed) -> None:
    target = wire.other()
    timed.clock.set(1_900_000_210)  # not at the end of the five minutes of a file
    switch_on(wire, target.bucket)
    wire.ok("PUT", "/dir/a b", b"12345", user_agent="tester 1.0")
    wire.ok("GET", "/dir/a b", referer="http://example.com/x y")
    assert wire("GET", "/nothing").status == 404
    timed.run_jobs()
    assert target.listed() == []  # five minutes are not over
    timed.clock.advance(300)
    timed.run_jobs()
    found = {(each["eventName"], each["reqPath"]): each for each in records(target)}
    put = found["PutObject", "/dir/a%20b"]
    assert (put["eventVersion"], put["bucketName"], put["qcsRegion"]) == ("1.0", wire.bucket, "ap-guangzhou")
    assert (put["userSecretKeyId"], put["remoteIp"], put["reqMethod"]) == (
        timed.secret_id,
        "127.0.0.1",
        "put",
    )
    assert (put["accountId"], put["requester"]) == ("100000000001", "100000000001:100000000001")
    assert (put["reqBytesSent"], put["deltaDataSize"], put["objectSize"]) == ("5", "5", "5")
    assert (put["resHttpCode"], put["resErrorCode"], put["userAgent"]) == ("200", "-", "tester%201.0")
    get = found["GetObject", "/dir/a%20b"]
    assert (get["resBytesSent"], get["referer"]) == ("5", "http://example.com/x%20y")
    missing = found["GetObject", "/nothing"]
    assert (missing["resHttpCode"], missing["resErrorCode"]) == ("404", "NoSuchKey")
    target.close()


def test_files_are_named_by_the_time_and_hold_five_minutes(timed: Emulator, wire: Signed) -> None:
    target = wire.other()
    timed.clock.set(1_900_000_200)  # 2030-03-17T17:50:00Z
    switch_on(wire, target.bucket, "log-")
    for _ in range(2):
        wire.ok("HEAD", "/")
        timed.clock.advance(300)
    wire.ok("HEAD", "/")
    timed.run_jobs()
    assert [key[:30] for key in target.listed()] == [
        "log-2030/03/17/20300317175000_", "log-2030/03/17/20300317175500_",
    ]  # fmt: skip
    switch_off = "<BucketLoggingStatus></BucketLoggingStatus>"
    wire.ok("PUT", "/?logging", switch_off)
    timed.clock.advance(600)
    timed.run_jobs()
    assert len(target.listed()) == 2
    target.close()


def test_records_in_memory_are_written_at_the_end(tmp_path: Path) -> None:
    with Emulator(tmp_path / "data", buckets=["a", "b"], jobs_interval=0) as emulator:
        wire, target = (Signed(emulator, f"{name}-{emulator.appid}") for name in "ab")
        switch_on(wire, target.bucket)
        for number in range(300):
            wire.ok("PUT", f"/{number}", b"x")
        wire.close()
        emulator.stop()
        emulator.start()
        target.close()
        target = Signed(emulator, target.bucket)
        assert sum(each["eventName"] == "PutObject" for each in records(target)) == 300
        target.close()


def test_targets_that_do_not_fit(timed: Emulator, wire: Signed) -> None:
    far = wire.other("ap-tokyo")
    document = (
        "<BucketLoggingStatus><LoggingEnabled><TargetBucket>{}</TargetBucket><TargetPrefix>{}</TargetPrefix>"
        "</LoggingEnabled></BucketLoggingStatus>"
    )
    for target in ("nowhere-1250000000", far.bucket):
        refused = wire("PUT", "/?logging", document.format(target, "p"))
        assert refused.code == (400, "InvalidTargetBucketForLogging")
    assert wire("PUT", "/?logging", document.format("", "p")).code == (400, "MalformedXML")
    assert wire("PUT", "/?logging", document.format(wire.bucket, "/p")).code == (400, "LoggingPrefixInvalid")
    far.close()


def test_buckets_without_logging_leave_no_records(timed: Emulator, wire: Signed) -> None:
    wire.ok("PUT", "/a", b"x")
    timed.clock.advance(900)
    timed.run_jobs()
    assert wire.listed() == ["a"]


def test_requests_about_no_bucket_are_answered(timed: Emulator, wire: Signed) -> None:
    target = wire.other()
    switch_on(wire, target.bucket)
    assert target("GET", "/", host="service.cos.myqcloud.com").status == 200
    target.ok("DELETE", "/")
    assert target("HEAD", "/").status == 404
    target.close()
