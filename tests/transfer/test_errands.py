"""Half of the parts of a large download are fetched by the second process; nothing depends on it."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cosfs.client.client import CosClient
from cosfs.emulator import Emulator

MIB = 1024 * 1024
PARTS = 24

# Downloads one object and prints how many parts were tried and done elsewhere. Every line is taken for a fast
# one, as it depends on the machine otherwise.
PROGRAM = """
import json, os, signal, sys
from pathlib import Path
import trio
from cosfs.client.client import CosClient
from cosfs.config import load_settings
from cosfs.errors import COSError
from cosfs.transfer import processors, side as side_module
from cosfs.transfer.download import download_file
from cosfs.transfer.engine import Engine
from cosfs.transfer.resume import Records

options, bucket, target, quick, then, after = (
    json.loads(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5], int(sys.argv[6])
)
settings = load_settings(options, environ={"HOME": "/nonexistent"})
side_module._QUICK = quick
processors.count = lambda: 2
moved, counts = [0], {"lent": 0, "done": 0}

async def main(client):
    records = Records(Path(target).parent / "records")
    async with Engine(client, settings.transfer, first=16, side=True, records=records) as engine:
        engine._parts.most = engine._parts.current  # a few at once, however slow the machine is
        side, scope = engine._side, trio.CancelScope()
        lend, end = side.lend, side.end_errand

        def counting_lend(*args):
            counts["lent"] += 1
            return lend(*args)

        def counting_end(number, result):
            counts["done"] += result is not None
            if counts["done"] == after and then == "kill":
                os.kill(side.pid, signal.SIGKILL)
            return end(number, result)

        def progress(size):
            moved[0] += size
            if counts["done"] >= after and then == "cancel":
                scope.cancel()
            if counts["done"] >= after and then == "replace" and not counts.get("replaced"):
                counts["replaced"] = True
                client.put_object(bucket, "large", b"another one")

        side.lend, side.end_errand = counting_lend, counting_end
        error = ""
        with scope:
            try:
                result = await download_file(engine, bucket, "large", target, progress=progress)
                counts["verified"] = result.verified
            except COSError as failed:
                error = repr(failed)
    report = {"moved": moved[0], "error": error, "kept": len(records.kept), "pid": side.pid}
    print(json.dumps({**counts, **report}))

trio.run(main, CosClient.from_settings(settings, options))
"""


@pytest.fixture(autouse=True)
def no_faults(emulator: Emulator) -> Iterator[None]:
    emulator.faults.clear()
    yield
    emulator.faults.clear()


@pytest.fixture
def large(client: CosClient, bucket: str) -> bytes:
    data = random.Random(5).randbytes(PARTS * MIB - 1000)
    client.put_object(bucket, "large", data)
    return data


def download(
    emulator: Emulator, bucket: str, target: Path, *, quick: int = 0, then: str = "", after: int = 0
) -> dict[str, Any]:
    options = {
        "endpoint_url": emulator.endpoint_url,
        "region": emulator.region,
        "secret_id": emulator.secret_id,
        "secret_key": emulator.secret_key,
        "multipart_chunksize": MIB,
        "multipart_threshold": MIB,
        "resume_threshold": MIB,
    }
    arguments = [json.dumps(options), bucket, str(target), str(quick), then, str(after)]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert not Path(f"/proc/{report['pid']}").exists()
    return report


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.name != "records")


def test_parts_are_shared_and_fetched_once(
    emulator: Emulator, bucket: str, tmp_path: Path, large: bytes
) -> None:
    emulator.requests.reset()
    report = download(emulator, bucket, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == large
    assert report["error"] == ""
    assert report["verified"] == "crc64"
    assert report["moved"] == len(large)
    assert 0 < report["lent"] == report["done"] < PARTS
    assert emulator.requests["GetObject"] == PARTS
    assert names(tmp_path) == ["file"]


def test_on_a_slow_line_all_are_fetched_here(
    emulator: Emulator, bucket: str, tmp_path: Path, large: bytes
) -> None:
    report = download(emulator, bucket, tmp_path / "file", quick=1 << 60)
    assert (tmp_path / "file").read_bytes() == large
    assert report["lent"] == 0


def test_when_it_is_killed_its_parts_are_fetched_here(
    emulator: Emulator, bucket: str, tmp_path: Path, large: bytes
) -> None:
    report = download(emulator, bucket, tmp_path / "file", then="kill", after=2)
    assert (tmp_path / "file").read_bytes() == large
    assert report["error"] == ""
    assert report["moved"] == len(large)
    assert 2 <= report["done"] < PARTS
    assert names(tmp_path) == ["file"]


def test_what_fails_there_is_fetched_here(
    emulator: Emulator, bucket: str, tmp_path: Path, large: bytes
) -> None:
    emulator.faults.error("GetObject", every=3, count=0)
    report = download(emulator, bucket, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == large
    assert report["error"] == ""
    assert report["moved"] == len(large)
    assert report["done"] < report["lent"]


def test_an_object_that_is_replaced_meanwhile_is_fetched_anew(
    emulator: Emulator, bucket: str, tmp_path: Path, large: bytes
) -> None:
    report = download(emulator, bucket, tmp_path / "file", then="replace", after=1)
    assert (tmp_path / "file").read_bytes() in (large, b"another one")
    assert report["error"] == ""
    assert report["moved"] == (tmp_path / "file").stat().st_size
    assert names(tmp_path) == ["file"]


def test_what_is_interrupted_is_gone_on_with(
    emulator: Emulator, bucket: str, tmp_path: Path, large: bytes
) -> None:
    emulator.faults.latency(0.05, "GetObject", count=0)
    report = download(emulator, bucket, tmp_path / "file", then="cancel", after=2)
    assert report["kept"] == 1
    assert "file" not in names(tmp_path)
    emulator.faults.clear()
    emulator.requests.reset()
    report = download(emulator, bucket, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == large
    assert emulator.requests["GetObject"] < PARTS
    assert names(tmp_path) == ["file"]
