"""No call hangs for longer than it may, whatever keeps it waiting; and none that moves is cut.

Each fault lasts for an hour or for ever, so a call that ends was ended by the mount.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cosfs.client.client import CosClient
from cosfs.emulator import Emulator
from tests.fuse.support import until
from tests.line import Line
from tests.mounting import Mounted
from tests.objects import keys, stored

pytestmark = pytest.mark.fuse
KIB = 1024
MIB = 1024 * KIB
LONG = 3600.0
ENDS_WITHIN = 150.0  # of a fault that lasts for an hour; usually it is 5
OLD = b"old" * 100_000

Start = Callable[..., Mounted]


@dataclass
class Case:
    """What goes wrong with requests for a key, and the call that waits for it."""

    fault: Callable[[Emulator, str], object]
    call: Callable[[Path], object]
    writes: bytes | None = None  # what is in COS when it works again


def read(path: Path) -> None:
    path.read_bytes()


def write(data: bytes) -> Callable[[Path], None]:
    def call(path: Path) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            os.write(fd, data)
        except OSError:
            os.close(fd)
            raise
        os.close(fd)

    return call


def write_large(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for start in range(0, len(LARGE), MIB):
            file.write(LARGE[start : start + MIB])


SMALL, MIDDLE, LARGE = b"small", b"m" * 300_000, b"L" * (18 * MIB)
READS = {
    "read-no-answer": Case(lambda e, k: e.faults.latency(LONG, "GetObject", key=k), read),
    "read-stalled": Case(lambda e, k: e.faults.stall(LONG, "GetObject", 1000, key=k, count=0), read),
    "read-drip": Case(lambda e, k: e.faults.slow(20, "GetObject", key=k), read),
    "read-slow-down": Case(lambda e, k: e.faults.error("GetObject", "SlowDown", 503, key=k, count=0), read),
    "read-5xx": Case(lambda e, k: e.faults.error("GetObject", "InternalError", 500, key=k, count=0), read),
}
WRITES = {
    "write-no-answer": Case(lambda e, k: e.faults.latency(LONG, "PutObject", key=k), write(SMALL), SMALL),
    "write-stalled": Case(
        lambda e, k: e.faults.stall_request(LONG, "PutObject", 0, key=k, count=0), write(MIDDLE), MIDDLE
    ),
    "write-answer-stalled": Case(
        lambda e, k: e.faults.latency(LONG, "CompleteMultipartUpload", key=k), write_large, LARGE
    ),
    "write-slow-down": Case(
        lambda e, k: e.faults.error("PutObject", "SlowDown", 503, key=k, count=0), write(SMALL), SMALL
    ),
    "write-5xx": Case(
        lambda e, k: e.faults.error("PutObject", "InternalError", 500, key=k, count=0), write(MIDDLE), MIDDLE
    ),
    "parts-stalled": Case(
        lambda e, k: e.faults.stall_request(LONG, "UploadPart", 300_000, key=k, count=0), write_large, LARGE
    ),
    "parts-5xx": Case(
        lambda e, k: e.faults.error("UploadPart", "InternalError", 503, key=k, count=0), write_large, LARGE
    ),
    # In a directory of its own: the kernel lets nobody else change that meanwhile.
    "dir/rename": Case(
        lambda e, k: e.faults.latency(LONG, "CopyObject", key=f"{k}.new"),
        lambda path: path.rename(f"{path}.new"),
    ),
    "mkdir": Case(
        lambda e, k: e.faults.latency(LONG, "PutObject", key=f"{k}.d/"), lambda p: Path(f"{p}.d").mkdir()
    ),
}


@pytest.fixture
def start(mount: Start, emulator: Emulator, bucket: str) -> Iterator[Start]:
    def make(*options: str) -> Mounted:
        # As often as may be: the time alone ends it.
        brief = ("--io-timeout", "4s", "--metadata-ttl", "30s", "--max-retries", "50")
        return mount(f"cos://{bucket}", *brief, *options)

    yield make
    emulator.faults.clear()


def ended(mounted: Mounted, calls: dict[str, Callable[[Path], object]]) -> dict[str, int]:
    """Make calls on files of these names at the same time; return the errors they ended with."""
    errors: dict[str, int] = {}

    def run(name: str, call: Callable[[Path], object]) -> None:
        began = time.monotonic()
        try:
            call(mounted.path / name)
        except OSError as error:
            errors[name] = error.errno or -1
        else:
            errors[name] = 0
        print(f"{name}: {time.monotonic() - began:.1f} s, {errno.errorcode.get(errors[name])}")

    threads = [threading.Thread(target=run, args=item, daemon=True) for item in calls.items()]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + ENDS_WITHIN
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return dict(errors)


def complaints(mounted: Mounted, name: str) -> list[str]:
    """The lines of the log about calls on a file."""
    lines = mounted.log_text().splitlines()
    return [line for line in lines if " cosfs.fuse.operations " in line and f"/{name}" in line]


def test_calls_end_and_say_why_and_nothing_written_is_lost(
    start: Start, client: CosClient, bucket: str, emulator: Emulator
) -> None:
    cases = READS | WRITES
    for name in [*READS, "dir/rename"]:
        client.put_object(bucket, name, OLD)
    mounted = start()
    for name in [*READS, "dir/rename"]:
        (mounted.path / name).stat()
    for name, case in cases.items():
        case.fault(emulator, name)
    errors = ended(mounted, {name: case.call for name, case in cases.items()})
    assert errors.keys() == cases.keys()
    assert set(errors.values()) <= {errno.EIO, errno.ETIMEDOUT}, errors
    for name in cases:
        # The kernel reads again what it could not read ahead; a failure of a moment ago is not told twice.
        most = 2 if name in READS else 1
        assert 1 <= len(complaints(mounted, name)) <= most, mounted.log_text()
    for name, case in cases.items():
        if case.writes is not None:
            assert (mounted.path / name).read_bytes() == case.writes
    emulator.faults.clear()
    wanted = {name: case.writes for name, case in cases.items() if case.writes is not None}
    until(lambda: wanted.keys() <= set(keys(client, bucket)), "what was written is sent")
    assert {name: stored(client, bucket, name) for name in wanted} == wanted


def test_listings_end(start: Start, bucket: str, emulator: Emulator) -> None:
    """Of an answer that comes in drips, or stops."""
    emulator.put_objects(bucket, [(f"{name}/{number:03}", b"x") for name in "ab" for number in range(200)])
    mounted = start("--attributes", "listing")
    assert sorted(path.name for path in mounted.path.iterdir()) == ["a", "b"]
    for name in "ab":
        if name == "a":
            emulator.faults.slow(20, "ListObjects")
        else:
            emulator.faults.stall(LONG, "ListObjects", 50, count=0)
        errors = ended(mounted, {name: lambda path: list(path.iterdir())})
        assert set(errors.values()) <= {errno.EIO, errno.ETIMEDOUT}
        assert len(errors) == len(complaints(mounted, name)) == 1
        emulator.faults.clear()
        assert len(list((mounted.path / name).iterdir())) == 200


def test_many_stuck_calls_end_as_few_do(start: Start, bucket: str, emulator: Emulator) -> None:
    """Only some of them are sent at once; the others do not wait for one time-out after the other."""
    names = [f"{number:03}" for number in range(250)]
    emulator.put_objects(bucket, [(name, OLD) for name in names])
    # As many as are sent at once would take eight of these, longer than is waited for them.
    mounted = start("--attributes", "listing", "--io-timeout", f"{ENDS_WITHIN / 7:.0f}s")
    assert len(list(mounted.path.iterdir())) == len(names)
    emulator.faults.latency(LONG, "GetObject")
    errors = ended(mounted, dict.fromkeys(names, read))
    assert errors == dict.fromkeys(names, errno.ETIMEDOUT)


def test_who_waits_for_a_stuck_call_ends_as_well(
    start: Start, client: CosClient, bucket: str, emulator: Emulator
) -> None:
    """All of these need the lock that the first close() holds."""
    mounted = start()
    path = mounted.path / "file"
    path.write_bytes(b"before")
    emulator.faults.latency(LONG, "PutObject", key="file")
    emulator.faults.stall_request(LONG, "*Upload*", 0, key="file", count=0)
    calls: dict[str, Callable[[Path], object]] = {
        "file": write(MIDDLE),
        "./file": lambda path: os.truncate(path, 10),
        ".//file": write(SMALL),
        "././file": lambda path: path.rename(mounted.path / "renamed"),
    }
    errors = ended(mounted, calls)
    assert errors.keys() == calls.keys()
    # The rename may be the first of them all; then there is nothing to truncate.
    assert set(errors.values()) <= {errno.EIO, errno.ETIMEDOUT, errno.ENOENT, 0}
    emulator.faults.clear()
    until(lambda: len(keys(client, bucket)) == 1, "one name is left")


def test_a_slow_line_is_waited_for(mount: Start, client: CosClient, bucket: str, emulator: Emulator) -> None:
    """Both take longer than --io-timeout, for which no machine stands still; something moves all the time."""
    data = os.urandom(288 * KIB)
    client.put_object(bucket, "down", data)
    line = Line(int(emulator.endpoint_url.rpartition(":")[2]), rate=32 * KIB)
    try:
        url = f"http://127.0.0.1:{line.port}"
        mounted = mount(f"cos://{bucket}", "--io-timeout", "8s", env={"COS_ENDPOINT_URL": url})
        assert ended(mounted, {"down": read, "up": write(data)}) == {"down": 0, "up": 0}
        assert stored(client, bucket, "up") == data
    finally:
        line.close()
