"""Commands against a COS that fails at random: what they say they did is done, and nothing else shows.

Used by the tests for a few seeds and by scripts/stress-transfer for hundreds. When the answer to the request
that opens an upload is lost, another one may stay open; then the command must name it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cosfs.client.client import CosClient
from cosfs.emulator import Emulator
from cosfs.emulator.faults import Fault
from cosfs.units import KIB, MIB

Run = Callable[..., tuple[int, str]]  # exit code, what it wrote to stderr

# What goes into ~/.cos/config: large files are small here, and nobody waits long.
CONFIG = """\
[default]
read_timeout = 0.4s
max_retries = 2
cos =
  multipart_threshold = 2MB
  multipart_chunksize = 1MB
  resume_threshold = 3MB
"""
# Without faults only a machine that stands still could be in the way.
_PATIENT = ("--read-timeout", "60s", "--max-retries", "10")
_WORK = ("PutObject", "UploadPart", "UploadPartCopy", "CopyObject", "CompleteMultipartUpload", "GetObject")
_ASKS = ("HeadObject", "ListObjects", "CreateMultipartUpload", "ListParts", "AbortMultipartUpload")
_SIZES = (0, 1, 5 * KIB, 70 * KIB, 300 * KIB, 3 * MIB + 1, 5 * MIB)


@dataclass
class Faulty:
    """One bucket, one place on disk, and what went wrong so far."""

    run: Run
    emulator: Emulator
    client: CosClient
    bucket: str
    home: Path  # whose .cos/resume the commands use
    place: Path
    failed: int = 0
    strays: int = 0

    def exercise(self, seed: int) -> None:
        """Run one command that moves a tree one way; raise AssertionError if anything is not as it says."""
        chance = random.Random(seed)
        tree = _make_tree(chance, self.place / "from")
        way = chance.choice(("upload", "download", "copy"))
        name = chance.choice(("cp", "sync"))
        source, target = self._ends(way, f"{seed}", tree)
        report = self.place / "report"
        options = ["--report", str(report), "--only-show-errors"]
        options += ["-r"] if name == "cp" else []
        options += ["--no-resume"] if chance.random() < 0.5 else []
        with self._faults(chance):
            code, told = self.run(name, source, target, *options)
        events = [json.loads(line) for line in report.read_text().splitlines()]
        assert code in (0, 1), f"exit code {code}"
        done, failed = _outcomes(events)
        assert bool(code) == bool(failed or any(e["type"] == "error" for e in events)), f"{code}: {events}"
        self._check(way, f"{seed}", tree, done, complete=not code)
        self.failed += code
        if code:
            again, more = self.run(name, source, target, *options, *_PATIENT)
            assert again == 0, "not even without faults"
            told += more
            self._check(way, f"{seed}", tree, set(tree), complete=True)
        self._end_strays(told)
        self.run("jobs", "clean", "--older-than", "0s", "--only-show-errors")
        assert self._temporary() == [], "a temporary file is left"

    def _ends(self, way: str, seed: str, tree: dict[str, bytes]) -> tuple[str, str]:
        """Return source and target of a command; what a download or copy needs is there already."""
        local, remote = str(self.place / "from"), f"cos://{self.bucket}/{seed}"
        if way == "upload":
            return local, f"{remote}/to/"
        for name, data in tree.items():
            self.client.put_object(self.bucket, f"{seed}/from/{name}", data)
        return f"{remote}/from/", f"{remote}/to/" if way == "copy" else str(self.place / "to")

    @contextmanager
    def _faults(self, chance: random.Random) -> Iterator[None]:
        faults = self.emulator.faults
        share = chance.choice((0.02, 0.05, 0.25))
        for operation in (*_WORK, *_ASKS):
            seed = chance.randrange(1 << 30)
            for kind in ("error", "reset"):
                faults.add(Fault(kind=kind, operation=operation, count=0, share=share, seed=seed))
                if operation in (*_WORK, "CreateMultipartUpload"):
                    after = Fault(kind=kind, operation=operation, count=0, share=share, seed=seed + 1)
                    after.after = True
                    faults.add(after)
        for kind, operation in (
            ("truncate", "GetObject"),
            ("corrupt", "GetObject"),
            ("truncate", "ListObjects"),
        ):
            seed, offset = chance.randrange(1 << 30), chance.choice((0, 1, 100, 4000, 500_000))
            faults.add(Fault(kind=kind, operation=operation, count=0, share=0.05, seed=seed, offset=offset))
        for kind in ("stall", "stall-request"):
            seed = chance.randrange(1 << 30)
            faults.add(Fault(kind=kind, count=2, share=0.05, seed=seed, seconds=1.0, offset=1000))
        try:
            yield
        finally:
            faults.clear()

    def _check(self, way: str, seed: str, tree: dict[str, bytes], done: set[str], *, complete: bool) -> None:
        """Compare all that shows at the target with the source."""
        found = self._downloaded() if way == "download" else self._stored(f"{seed}/to/")
        for name, data in found.items():
            assert name in tree, f"{name} is there and was never sent"
            assert data == tree[name], f"{name} has {len(data)} bytes, not the {len(tree[name])} it should"
        missing = (set(tree) if complete else done) - set(found)
        assert not missing, f"{missing} were told to be done and are not there"

    def _stored(self, prefix: str) -> dict[str, bytes]:
        found = {}
        for info in self.client.list_objects(self.bucket, prefix=prefix).objects:
            with self.client.get_object(self.bucket, info.key) as stream:
                found[info.key.removeprefix(prefix)] = b"".join(stream.chunks())
        return found

    def _downloaded(self) -> dict[str, bytes]:
        root = self.place / "to"
        files = [path for path in root.rglob("*") if path.is_file() and not path.name.startswith(".cos-")]
        return {str(path.relative_to(root)): path.read_bytes() for path in files}

    def _end_strays(self, told: str) -> None:
        """Abort the open uploads that no record knows of; each must have been told."""
        known = {json.loads(path.read_text())["upload_id"] for path in self._records()}
        for upload in self.client.list_uploads(self.bucket).uploads:
            if upload.upload_id not in known:
                name = f"cos://{self.bucket}/{upload.key}"
                assert upload.upload_id in told or f"multipart ls {name}" in told, f"{name} is left open"
                self.client.abort_upload(upload)
                self.strays += 1

    def _records(self) -> list[Path]:
        return sorted((self.home / ".cos/resume").glob("*.json"))

    def _temporary(self) -> list[Path]:
        return sorted(self.place.rglob(".cos-*"))


def _make_tree(chance: random.Random, root: Path) -> dict[str, bytes]:
    tree = {}
    for number in range(chance.randrange(1, 25)):
        name = f"{chance.choice('abc')}/{number}"
        size = chance.choice(_SIZES[: 5 if number > 3 else 7])
        tree[name] = chance.randbytes(size) if chance.random() < 0.9 else bytes(size)
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(tree[name])
    return tree


def _outcomes(events: list[dict[str, str]]) -> tuple[set[str], set[str]]:
    """Return the names below the source that a report calls done, and those it calls failed."""
    done, failed = set(), set()
    for event in events:
        if event["type"] == "transfer":
            name = event["src"].partition("/from/")[2]
            (done if event["status"] in ("ok", "unchanged") else failed).add(name)
    return done, failed
