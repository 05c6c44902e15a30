"""Kill the emulator at random moments under concurrent writers, then look for what it promised to keep.

Every answered write must be there whole, in listings too, and nothing half-written may be seen; a bucket that
another is replicated to must end up with the same versions in the same order, each once. Then an object of
--large GiB goes in and out while the memory of the emulator is watched. Exit code 1 if a promise was broken.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import http.client
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from scripts.ending import end_tidily

TREE = Path(__file__).resolve().parent.parent

from tests.emulator.documents import replication  # noqa: E402
from tests.emulator.signed import Address, Signed  # noqa: E402

SERVE = """
import pathlib, sys
from cosfs.emulator import serve
def ready(info):
    print(info.endpoint_url, info.secret_id, info.secret_key, info.region, flush=True)
serve(pathlib.Path(sys.argv[1]), buckets=["plain", "kept", "copies"], ready=ready)
"""
PLAIN, KEPT, COPIES = "plain-1250000000", "kept-1250000000", "copies-1250000000"
WRITERS = 4
KEYS = 8  # of each writer in each bucket
PART = 1024 * 1024
BROKEN = (OSError, http.client.HTTPException)
PEAK_MIB = 150


class BrokenPromiseError(Exception):
    """The emulator lost, mixed up or half-showed something."""


class Server:
    """An emulator in a process of its own."""

    def __init__(self, data: Path) -> None:
        command = [sys.executable, "-c", SERVE, str(data)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=TREE)
        assert self.process.stdout is not None
        line = self.process.stdout.readline().split()
        if len(line) != 4:
            raise BrokenPromiseError("the emulator did not start again")
        self.address = Address(*line)

    def kill(self) -> None:
        """End it as no program wants to end."""
        self.process.kill()
        self.end()

    def end(self) -> None:
        """Wait for its end."""
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def peak(self) -> int:
        """Return the most memory it ever had, in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) >> 10


def digest(body: bytes) -> str:
    """Name a content."""
    return hashlib.blake2b(body, digest_size=12).hexdigest()


@dataclass
class Key:
    """What may be under a key: what was answered last, or what was under way at the kill; None is nothing."""

    now: str | None = None
    perhaps: list[str | None] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)  # answered ones, in the bucket with versioning


class Writer:
    """One client: it owns its keys, so it knows what must be there."""

    def __init__(self, number: int, seed: int) -> None:
        self.number = number
        self.random = random.Random(f"{seed}/{number}")
        self.keys = {(bucket, f"w{number}/k{n}"): Key() for bucket in (PLAIN, KEPT) for n in range(KEYS)}
        self.answered = 0

    def write(self, address: Address, stop: threading.Event) -> None:
        """Change keys until the emulator is gone."""
        wires = {bucket: Signed(address, bucket) for bucket in (PLAIN, KEPT)}
        try:
            while not stop.is_set():
                place = self.random.choice([*self.keys])
                with contextlib.suppress(*BROKEN):
                    self._change(wires[place[0]], *place)
                    continue
                return
        finally:
            for wire in wires.values():
                wire.close()

    def _change(self, wire: Signed, bucket: str, name: str) -> None:
        key = self.keys[bucket, name]
        kind = self.random.choices(["put", "large", "multipart", "copy", "delete"], [6, 2, 1, 2, 2])[0]
        if kind == "delete":
            key.perhaps.append(None)
            wire.ok("DELETE", f"/{name}")
            self._answered(key, None, "")
            return
        if kind == "copy":
            self._copy(wire, bucket, name, key)
            return
        size = {"put": 40_000, "large": 2_000_000, "multipart": 300_000}[kind]
        body = self.random.randbytes(self.random.randrange(1, size))
        if kind == "multipart":
            self._multipart(wire, name, key, [self.random.randbytes(PART), body])
            return
        key.perhaps.append(digest(body))
        answer = wire.ok("PUT", f"/{name}", body)
        self._answered(key, digest(body), answer.headers.get("x-cos-version-id", ""))

    def _copy(self, wire: Signed, bucket: str, name: str, key: Key) -> None:
        sources = [place for place, other in self.keys.items() if other.now and other is not key]
        if not sources:
            return
        source = self.random.choice(sources)
        content = self.keys[source].now
        key.perhaps.append(content)
        answer = wire.ok("PUT", f"/{name}", x_cos_copy_source=f"/{source[0]}/{source[1]}")
        self._answered(key, content, answer.headers.get("x-cos-version-id", ""))

    def _multipart(self, wire: Signed, name: str, key: Key, parts: list[bytes]) -> None:
        upload = wire.ok("POST", f"/{name}?uploads").texts("UploadId")[0]
        listed = ""
        for number, part in enumerate(parts, 1):
            etag = wire.ok("PUT", f"/{name}?partNumber={number}&uploadId={upload}", part).headers["ETag"]
            listed += f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
        content = digest(b"".join(parts))
        key.perhaps.append(content)
        document = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>"
        answer = wire.ok("POST", f"/{name}?uploadId={upload}", document)
        self._answered(key, content, answer.headers.get("x-cos-version-id", ""))

    def _answered(self, key: Key, content: str | None, version: str) -> None:
        key.now, key.perhaps = content, []
        if version and version != "null" and content is not None:
            key.versions[version] = content
        self.answered += 1

    def check(self, wires: dict[str, Signed], *, versions: bool) -> int:
        """Compare all keys with what may be there; what is found counts from now on."""
        checked = 0
        for (bucket, name), key in self.keys.items():
            answer = wires[bucket]("GET", f"/{name}")
            if answer.status not in (200, 404):
                raise BrokenPromiseError(f"{bucket}/{name}: status {answer.status}: {answer.body[:300]!r}")
            found = digest(answer.body) if answer.status == 200 else None
            if found != key.now and found not in key.perhaps:
                raise BrokenPromiseError(f"{bucket}/{name}: {found} instead of {key.now} or {key.perhaps}")
            key.now, key.perhaps = found, []
            checked += 1
            for version, content in key.versions.items() if versions else ():
                body = wires[bucket].ok("GET", f"/{name}?versionId={version}").body
                if digest(body) != content:
                    raise BrokenPromiseError(f"{bucket}/{name} version {version} is not what was written")
                checked += 1
        return checked


def check_listings(wires: dict[str, Signed], writers: list[Writer]) -> None:
    """Compare listings with what GET found."""
    for bucket, wire in wires.items():
        expected = sorted(
            name
            for writer in writers
            for (own, name), key in writer.keys.items()
            if own == bucket and key.now
        )
        if wire.listed() != expected:
            raise BrokenPromiseError(f"{bucket}: the listing is not what is there")


def _replicate(address: Address) -> None:
    """Let the bucket with versions be replicated."""
    for bucket in (COPIES, KEPT):
        wire = Signed(address, bucket)
        wire.versioning()
        if bucket == KEPT:
            wire.ok("PUT", "/?replication", replication(COPIES, region=address.region))
        wire.close()


def check_copies(address: Address, writers: list[Writer]) -> int:
    """Compare the versions of each key in both buckets, once nothing waits any more."""
    source, target = Signed(address, KEPT), Signed(address, COPIES)
    names = [name for writer in writers for bucket, name in writer.keys if bucket == KEPT]
    deadline, compared = time.monotonic() + 60, 0
    for name in names:
        while (wanted := _history(source, name)) != (found := _history(target, name)):
            if time.monotonic() > deadline:
                raise BrokenPromiseError(f"{name}: replicated as {found} instead of {wanted}")
            time.sleep(0.1)
        compared += len(wanted)
    source.close()
    target.close()
    return compared


def _history(wire: Signed, name: str) -> list[str]:
    tree = wire.ok("GET", f"/?versions&prefix={name}").tree
    return [node.findtext("ETag") or node.tag for node in tree if node.tag in ("Version", "DeleteMarker")]


def check_files(data: Path) -> int:
    """Compare the files with the rows that name them; what no row names must be gone after a start."""
    database = sqlite3.connect(data / "metadata.sqlite")
    named = {row[0] for row in database.execute("SELECT DISTINCT file FROM pieces WHERE file IS NOT NULL")}
    sizes = dict(
        database.execute("SELECT file, max(start + length) FROM pieces WHERE file IS NOT NULL GROUP BY file")
    )
    broken = database.execute("PRAGMA integrity_check").fetchone()[0]
    database.close()
    there = {path.name: path.stat().st_size for path in (data / "objects").glob("*/*")}
    if broken != "ok" or there.keys() != named or any(there[name] < size for name, size in sizes.items()):
        raise BrokenPromiseError(f"files and rows disagree: {len(there)} files, {len(named)} named, {broken}")
    return len(there)


def kill_often(data: Path, kills: int, seed: int, quiet: bool) -> None:
    """Kill and check, again and again."""
    chance, writers = random.Random(seed), [Writer(number, seed) for number in range(WRITERS)]
    server = Server(data)
    _replicate(server.address)
    for kill in range(1, kills + 1):
        stop = threading.Event()
        threads = [threading.Thread(target=writer.write, args=(server.address, stop)) for writer in writers]
        for thread in threads:
            thread.start()
        time.sleep(chance.uniform(0.02, 0.6))
        server.kill()
        stop.set()
        for thread in threads:
            thread.join()
        server = Server(data)
        try:
            with wires_of(server.address) as wires:
                last = kill == kills
                checked = sum(writer.check(wires, versions=last or kill % 20 == 0) for writer in writers)
                check_listings(wires, writers)
        except BaseException:
            server.kill()
            raise
        if not quiet or last:
            answered = sum(writer.answered for writer in writers)
            print(
                f"kill {kill}: {answered} writes answered so far, {checked} objects read back whole",
                flush=True,
            )
    print(f"{check_copies(server.address, writers)} versions were replicated, in order")
    server.end()
    print(f"{check_files(data)} files, each named by the database")


@contextlib.contextmanager
def wires_of(address: Address) -> Iterator[dict[str, Signed]]:
    """Open a connection for each bucket."""
    wires = {bucket: Signed(address, bucket) for bucket in (PLAIN, KEPT)}
    try:
        yield wires
    finally:
        for wire in wires.values():
            wire.close()


def move_large(data: Path, mib: int) -> None:
    """Upload an object in parts of 512 MiB at most, read it back, compare, and look at the memory."""
    server = Server(data)
    try:
        block = random.Random(1).randbytes(PART)
        with wires_of(server.address) as wires:
            wire = wires[PLAIN]
            began = time.perf_counter()
            _upload(wire, mib, block)
            middle = time.perf_counter()
            for number, found in enumerate(wire.stream("/large", PART)):
                if found != block[number % 251 :] + block[: number % 251]:
                    raise BrokenPromiseError(f"the large object differs at MiB {number}")
            if number + 1 != mib:
                raise BrokenPromiseError("the large object is shorter than what was written")
        in_, out = mib / (middle - began), mib / (time.perf_counter() - middle)
        print(f"{mib} MiB: {in_:.0f} MiB/s in, {out:.0f} MiB/s out, {server.peak()} MiB of memory at most")
        if server.peak() >= PEAK_MIB:
            raise BrokenPromiseError(f"the emulator took {server.peak()} MiB of memory")
    finally:
        server.end()


def _upload(wire: Signed, mib: int, block: bytes) -> None:
    upload = wire.ok("POST", "/large?uploads").texts("UploadId")[0]
    listed, each = "", 512
    for number, start in enumerate(range(0, mib, each), 1):
        numbers = range(start, min(start + each, mib))
        blocks = (block[n % 251 :] + block[: n % 251] for n in numbers)
        target = f"/large?partNumber={number}&uploadId={upload}"
        etag = wire.ok("PUT", target, blocks, content_length=str(len(numbers) * PART)).headers["ETag"]
        listed += f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
    document = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>"
    wire.ok("POST", f"/large?uploadId={upload}", document)


def main() -> int:
    """Run what was asked for."""
    end_tidily()
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[2])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument(
        "--large", type=float, default=10, metavar="GIB", help="needs as much free disk; 0: none"
    )
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--quiet", action="store_true", help="one line for all kills")
    options = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="cos-stress."))
    try:
        if options.kills:
            print(f"seed {options.seed}", flush=True)
            kill_often(scratch / "killed", options.kills, options.seed, options.quiet)
        if options.large:
            move_large(scratch / "large", round(options.large * 1024))
    except BrokenPromiseError as error:
        print(f"broken: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(scratch)
    return 0


if __name__ == "__main__":
    sys.exit(main())
