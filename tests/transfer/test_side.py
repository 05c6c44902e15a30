"""The second process for very small objects: it helps, and nothing depends on it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cosfs.client.client import CosClient
from cosfs.emulator import Emulator
from tests.objects import options_of, stored
from tests.transfer.support import make_file
from tests.waiting import until

COUNT = 300

# Prints what the second process did. The first line says which process it is.
PROGRAM = """
import json, os, signal, sys
from pathlib import Path
import trio
from cosfs.client.client import CosClient
from cosfs.config import load_settings
from cosfs.transfer.bulk import CopyJob, DownloadJob, UploadJob, transfer_many
from cosfs.transfer.engine import Engine
from cosfs.transfer.paths import DestinationRoot

what, options, bucket, path, kill_after = (
    sys.argv[1], json.loads(sys.argv[2]), sys.argv[3], Path(sys.argv[4]), int(sys.argv[5])
)
settings = load_settings(options, environ={"HOME": "/nonexistent"})
sizes, errors, moved = [], [], [0]

def jobs(client, root):
    if what == "upload":
        for file in sorted(path.glob("f*")):
            yield UploadJob(str(file), file.stat().st_size, bucket, "up/" + file.name)
    elif what == "once":
        for file in sorted(path.glob("f*")):
            yield UploadJob(str(file), file.stat().st_size, bucket, "up/" + file.name, forbid_overwrite=True)
    elif what == "copy":
        for info in client.list_objects(bucket, prefix="f").objects:
            yield CopyJob(bucket, info, bucket, "up/" + info.key)
    else:
        for info in client.list_objects(bucket, prefix="f").objects:
            yield DownloadJob(bucket, info, root.target(info.key))

async def main(client):
    async with Engine(client, settings.transfer, side=True) as engine:
        side = engine._side
        print(json.dumps(side.pid), flush=True)

        def done(job, result, error):
            (errors.append(repr(error)) if error else sizes.append(result.size))
            if len(sizes) == kill_after:
                os.kill(side.pid, signal.SIGKILL)

        def count(size):
            moved[0] += size

        with DestinationRoot(path / "down") as root:
            await transfer_many(engine, jobs(client, root), on_result=done, progress=count)
    print(json.dumps({
        "done": side._done, "failed": side._failed, "sizes": sum(sizes), "count": len(sizes),
        "errors": errors, "moved": moved[0],
    }))

trio.run(main, CosClient.from_settings(settings, options))
"""


def start(
    emulator: Emulator, bucket: str, path: Path, what: str, *, kill_after: int = 0
) -> subprocess.Popen[str]:
    options = options_of(emulator)
    arguments = [what, json.dumps(options), bucket, str(path), str(kill_after)]
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments], stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    pid, report = map(json.loads, out.splitlines())
    assert not Path(f"/proc/{pid}").exists()
    assert isinstance(report, dict)
    return report


@pytest.fixture
def files(tmp_path: Path) -> dict[str, bytes]:
    return {f"f{number:03}": make_file(tmp_path / f"f{number:03}", number, number) for number in range(COUNT)}


@pytest.fixture
def objects(client: CosClient, bucket: str, files: dict[str, bytes]) -> dict[str, bytes]:
    for name, data in files.items():
        client.put_object(bucket, name, data)
    return files


@pytest.fixture(autouse=True)
def slow_enough(emulator: Emulator) -> Iterator[None]:
    """As a server far away, or one process would have done everything before the other is asked."""
    emulator.faults.clear()
    emulator.faults.latency(0.005, count=0)
    yield
    emulator.faults.clear()


def uploaded(client: CosClient, bucket: str) -> dict[str, bytes]:
    keys = [info.key for info in client.list_objects(bucket, prefix="up/").objects]
    return {key.removeprefix("up/"): stored(client, bucket, key) for key in keys}


def downloaded(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (path / "down").iterdir()}


def check_report(report: dict[str, Any], files: dict[str, bytes]) -> None:
    assert report["errors"] == []
    assert report["count"] == len(files)
    assert report["sizes"] == report["moved"] == sum(map(len, files.values()))


def test_uploads_are_shared_and_sent_once(
    emulator: Emulator, client: CosClient, bucket: str, tmp_path: Path, files: dict[str, bytes]
) -> None:
    emulator.requests.reset()
    report = finish(start(emulator, bucket, tmp_path, "upload"))
    assert emulator.requests.total == COUNT
    check_report(report, files)
    assert report["done"] > COUNT / 10
    assert report["failed"] == 0
    emulator.faults.clear()
    assert uploaded(client, bucket) == files


def test_downloads_are_shared(
    emulator: Emulator, bucket: str, tmp_path: Path, objects: dict[str, bytes]
) -> None:
    report = finish(start(emulator, bucket, tmp_path, "download"))
    check_report(report, objects)
    assert report["done"] > COUNT / 10
    assert report["failed"] == 0
    assert downloaded(tmp_path) == objects


def test_copies_are_shared(
    emulator: Emulator, client: CosClient, bucket: str, tmp_path: Path, objects: dict[str, bytes]
) -> None:
    report = finish(start(emulator, bucket, tmp_path, "copy"))
    check_report(report, objects)
    assert report["done"] > COUNT / 10
    emulator.faults.clear()
    assert uploaded(client, bucket) == objects


def test_what_must_not_be_done_twice_is_not_tried_there(
    emulator: Emulator, bucket: str, tmp_path: Path, files: dict[str, bytes]
) -> None:
    report = finish(start(emulator, bucket, tmp_path, "once"))
    check_report(report, files)
    assert report["done"] == 0


@pytest.mark.parametrize("what", ["upload", "download"])
def test_when_it_is_killed_its_calls_are_made_here(
    emulator: Emulator, client: CosClient, bucket: str, tmp_path: Path, objects: dict[str, bytes], what: str
) -> None:
    report = finish(start(emulator, bucket, tmp_path, what, kill_after=100))
    check_report(report, objects)
    assert report["done"] < COUNT
    emulator.faults.clear()
    if what == "upload":
        assert uploaded(client, bucket) == objects
    else:
        assert downloaded(tmp_path) == objects  # and nothing of what it was writing


def test_what_fails_there_is_repeated_here(
    emulator: Emulator, client: CosClient, bucket: str, tmp_path: Path, files: dict[str, bytes]
) -> None:
    emulator.faults.error("PutObject", every=9, count=0)
    report = finish(start(emulator, bucket, tmp_path, "upload"))
    check_report(report, files)
    assert report["failed"] > 0
    emulator.faults.clear()
    assert uploaded(client, bucket) == files


def wait_until_gone(pid: int) -> None:
    until(lambda: state_of(pid) in ("", "Z"), f"process {pid} has ended")


def state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


@pytest.mark.usefixtures("objects")
def test_it_ends_with_the_first_process_and_leaves_nothing(
    emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    emulator.faults.clear()
    emulator.faults.latency(0.2, "GetObject", count=0)
    process = start(emulator, bucket, tmp_path, "download")
    assert process.stdout is not None
    pid = json.loads(process.stdout.readline())
    down = tmp_path / "down"
    until(lambda: down.is_dir() and len(list(down.iterdir())) >= 100, "a third is there")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    wait_until_gone(pid)
    emulator.faults.clear()
    # What is left is the first process's, which had no time to remove it.
    left = [file for file in down.iterdir() if file.name.startswith(".cos-")]
    assert len(left) <= 128
