"""`cos jobs`: interrupted transfers are listed, gone on with, cleaned up; kill -9 included."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from cosfs.client.client import CosClient
from cosfs.emulator import Emulator
from cosfs.emulator.faults import Fault
from cosfs.transfer.resume import Records
from cosfs.units import MIB
from tests.cli.conftest import Run, Terminal
from tests.conftest import Cos
from tests.objects import stored

SIZE = 12 * MIB + 3
HELD = 3600.0  # seconds that a request takes which is not to be answered


@pytest.fixture(autouse=True)
def small_limits(cos_environment: dict[str, str], emulator: Emulator) -> Iterator[None]:
    """Let 4 MiB be large, in parts of 1 MiB; no fault of one test strikes another."""
    folder = Path(cos_environment["HOME"]) / ".cos"
    folder.mkdir(mode=0o700)
    settings = "resume_threshold = 4MB\n  multipart_threshold = 2MB\n  multipart_chunksize = 1MB"
    (folder / "config").write_text(f"[default]\ncos =\n  {settings}\n  max_concurrent_requests = 2\n")
    yield
    emulator.faults.clear()


def make(path: Path) -> bytes:
    data = Random(1).randbytes(SIZE)
    path.write_bytes(data)
    return data


def killed(cos: Cos, emulator: Emulator, operation: str, *args: object) -> None:
    """Run a command that needs many requests of an operation; kill it when its record tells of some.

    And when it has sent all that it can: what came later would be counted with the next command.
    """
    emulator.requests.reset()
    emulator.faults.latency(HELD, operation, skip=5)
    records = Path(cos.environment["HOME"]) / ".cos/resume"
    process = subprocess.Popen(["cos", *map(str, args)], env=cos.environment, cwd=cos.directory)
    end = time.monotonic() + 90
    while emulator.requests[operation] < 5 + 2 or not any(
        json.loads(path.read_text())["done"] for path in records.glob("*.json")
    ):
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    emulator.faults.clear()
    emulator.requests.reset()


def test_upload_survives_kill_9(
    cos: Cos, run: Run, client: CosClient, emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    data = make(tmp_path / "f")
    killed(cos, emulator, "UploadPart", "cp", "f", f"cos://{bucket}/k")
    [job] = run("jobs", "list", "--output", "json").json["Jobs"]
    assert (job["Kind"], job["State"], job["Size"]) == ("upload", "interrupted", SIZE)
    assert 0 < job["Done"] < SIZE
    emulator.requests.reset()
    run("jobs", "resume", job["Id"][:8])
    assert emulator.requests["CreateMultipartUpload"] == 0
    assert emulator.requests["UploadPart"] == 13 - job["Done"] // MIB
    assert stored(client, bucket, "k") == data
    assert run("jobs", "list", "--output", "json").json == {"Jobs": []}
    assert client.list_uploads(bucket).uploads == []


def test_download_survives_kill_9(
    cos: Cos, run: Run, client: CosClient, emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    data = make(tmp_path / "f")
    (tmp_path / "d").mkdir()
    client.put_object(bucket, "p/k", data)
    killed(cos, emulator, "GetObject", "cp", "-r", f"cos://{bucket}/p/", "d")
    assert [path.name[:5] for path in (tmp_path / "d").iterdir()] == [".cos-"]
    [job] = run("jobs", "list", "--output", "json").json["Jobs"]
    emulator.requests.reset()
    run("cp", "-r", f"cos://{bucket}/p/", "d")
    assert emulator.requests["GetObject"] == 13 - job["Done"] // MIB < 13
    assert (tmp_path / "d/k").read_bytes() == data
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["k"]


@pytest.mark.parametrize("tree", [False, True])
def test_what_is_small_by_now_leaves_nothing_of_the_large_upload(
    cos: Cos, run: Run, client: CosClient, emulator: Emulator, bucket: str, tmp_path: Path, tree: bool
) -> None:
    (tmp_path / "d").mkdir()
    make(tmp_path / "d/f")
    args = ("cp", "-r", "d", f"cos://{bucket}/") if tree else ("cp", "d/f", f"cos://{bucket}/f")
    killed(cos, emulator, "UploadPart", *args)
    assert len(client.list_uploads(bucket).uploads) == 1
    (tmp_path / "d/f").write_text("small")
    run(*args)
    assert stored(client, bucket, "f") == b"small"
    assert client.list_uploads(bucket).uploads == []
    assert run("jobs", "list", "--output", "json").json == {"Jobs": []}


def test_what_is_small_by_now_leaves_nothing_of_the_large_download(
    cos: Cos, run: Run, client: CosClient, emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    data = make(tmp_path / "f")
    (tmp_path / "d").mkdir()
    client.put_object(bucket, "k", data)
    killed(cos, emulator, "GetObject", "cp", f"cos://{bucket}/k", "d/k")
    client.put_object(bucket, "k", b"small")
    run("cp", f"cos://{bucket}/k", "d/k")
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["k"]
    assert run("jobs", "list", "--output", "json").json == {"Jobs": []}


@pytest.mark.parametrize("way", ["upload", "download"])
def test_failure_says_how_to_go_on(
    run: Run, client: CosClient, emulator: Emulator, bucket: str, tmp_path: Path, way: str
) -> None:
    data = make(tmp_path / "f")
    client.put_object(bucket, "d", data)
    operation = "UploadPart" if way == "upload" else "GetObject"
    fault = emulator.faults.error(operation, "AccessDenied", 403, count=0)
    fault.skip = 5
    ends = ("f", f"cos://{bucket}/k") if way == "upload" else (f"cos://{bucket}/d", "g")
    failed = run("cp", *ends, code=1)
    hint = failed.err.splitlines()[-1]
    assert hint.startswith("resume with: cos jobs resume ")
    emulator.faults.clear()
    run("jobs", "show", hint.split()[-1])
    done = run("jobs", "resume", hint.split()[-1])
    assert done.out.startswith(f"{way}: ")
    assert (stored(client, bucket, "k") if way == "upload" else (tmp_path / "g").read_bytes()) == data


def test_clean_leaves_nothing(
    run: Run, client: CosClient, emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    client.put_object(bucket, "d", make(tmp_path / "f"))
    for operation, *ends in (
        ("UploadPart", "f", f"cos://{bucket}/k"),
        ("GetObject", f"cos://{bucket}/d", "g/h"),
    ):
        fault = emulator.faults.error(operation, "AccessDenied", 403, count=0)
        fault.skip = 5
        run("cp", *ends, code=1)
        emulator.faults.clear()
    assert len(run("jobs", "list", "--output", "jsonl").lines) == 2
    assert "younger jobs left alone: 2" in run("jobs", "clean").err
    assert len(run("jobs", "list").lines) == 2
    assert run("jobs", "clean", "--older-than", "0s", "--dryrun").out.count("(dryrun) delete: ") == 2
    assert len(client.list_uploads(bucket).uploads) == 1
    run("jobs", "clean", "--older-than", "0s")
    assert run("jobs", "list").out == ""
    assert client.list_uploads(bucket).uploads == []
    assert list((tmp_path / "g").iterdir()) == []


def test_ctrl_c_keeps_what_is_done(
    terminal: Callable[..., Terminal], run: Run, client: CosClient, emulator: Emulator, bucket: str,
    tmp_path: Path,
) -> None:  # fmt: skip
    data = make(tmp_path / "f")
    emulator.requests.reset()
    emulator.faults.latency(HELD, "UploadPart", skip=5)
    shown = terminal("cp", "f", f"cos://{bucket}/k")
    while emulator.requests["UploadPart"] < 7:
        shown._read_some()
    shown.interrupt()
    assert shown.finish() == 130
    assert "resume with: cos jobs resume " in shown.text
    emulator.faults.clear()
    emulator.requests.reset()
    run("cp", "f", f"cos://{bucket}/k")
    assert emulator.requests["UploadPart"] < 13
    assert stored(client, bucket, "k") == data


def test_jobs_that_do_not_exist(run: Run) -> None:
    assert "there is no job" in run("jobs", "show", "abc", code=252).err
    assert "there is no job" in run("jobs", "resume", "../x", code=252).err
    assert run("jobs", "list", "--output", "json").json == {"Jobs": []}
    nothing = run("jobs", "list", "--output", "table")
    assert not nothing.out and nothing.err == "nothing was interrupted\n"
    run("jobs", "clean", "x", "--older-than", "1d", code=252)


def test_records_are_for_their_owner_only(
    run: Run, emulator: Emulator, bucket: str, tmp_path: Path, cos_environment: dict[str, str]
) -> None:
    make(tmp_path / "f")
    fault = emulator.faults.error("UploadPart", "AccessDenied", 403, count=0)
    fault.skip = 5
    run("cp", "f", f"cos://{bucket}/k", code=1)
    folder = Path(cos_environment["HOME"]) / ".cos/resume"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {os.stat(path).st_mode & 0o777 for path in folder.iterdir()} == {0o600}  # noqa: PTH116


def test_files_of_a_killed_download(
    cos: Cos, run: Run, client: CosClient, emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    """Objects too small to be resumed: what is left of them is listed, cleaned, and never synced."""
    for name in "ab":
        client.put_object(bucket, f"p/{name}", bytes(100_000))
    emulator.faults.add(Fault(kind="stall", operation="GetObject", seconds=HELD, count=0, offset=50_000))
    process = subprocess.Popen(
        ["cos", "cp", "-r", f"cos://{bucket}/p/", "d"], env=cos.environment, cwd=cos.directory
    )
    end = time.monotonic() + 90
    while len(list(tmp_path.glob("d/.cos-*"))) < 2:
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    emulator.faults.clear()

    run("sync", "d", f"cos://{bucket}/q/", "--allow-empty-source", "--delete")
    assert not client.list_objects(bucket, prefix="q/").objects
    [job] = run("jobs", "list", "--output", "json").json["Jobs"]
    assert (job["Kind"], job["State"], job["Destination"]) == ("files", "killed", str(tmp_path / "d"))
    assert "files" in run("jobs", "list", "--output", "table").out
    run("jobs", "show", job["Id"][:6])
    assert "jobs clean" in run("jobs", "resume", job["Id"][:6], code=252).err
    run("jobs", "clean", job["Id"][:6], "--dryrun")
    assert len(list(tmp_path.glob("d/.cos-*"))) == 2
    run("jobs", "clean", "--older-than", "0s")
    assert list(tmp_path.glob("d/*")) == list(tmp_path.glob("d/.*")) == []
    assert run("jobs", "list", "--output", "json").json == {"Jobs": []}


def test_unfinished_downloads_are_no_extras(run: Run, client: CosClient, bucket: str, tmp_path: Path) -> None:
    client.put_object(bucket, "p/a", b"a")
    client.put_object(bucket, "p/.cos-0000000b.tmp", b"uploaded by another tool")
    (tmp_path / "d").mkdir()
    running = tmp_path / "d/.cos-0000000a.tmp"
    running.write_bytes(b"of another process")
    result = run("sync", f"cos://{bucket}/p/", "d", "--delete", code=2)
    assert "unfinished download" in result.err
    assert running.exists()
    assert sorted(path.name for path in (tmp_path / "d").iterdir()) == [running.name, "a"]
    run("sync", f"cos://{bucket}/p/", "d", "--delete", "--key-policy", "encode")
    assert (tmp_path / "d/%2Ecos-0000000b.tmp").read_bytes() == b"uploaded by another tool"
    run("sync", "d", f"cos://{bucket}/r/", "--key-policy", "encode")
    assert [info.key for info in client.list_objects(bucket, prefix="r/").objects] == [
        "r/.cos-0000000b.tmp",
        "r/a",
    ]


def test_job_that_runs_is_not_resumed_beside_it(
    run: Run, emulator: Emulator, bucket: str, tmp_path: Path, cos_environment: dict[str, str]
) -> None:
    make(tmp_path / "f")
    emulator.faults.error("UploadPart", "AccessDenied", 403, count=0).skip = 5
    run("cp", "f", f"cos://{bucket}/k", code=1)
    emulator.faults.clear()
    [job] = run("jobs", "list", "--output", "json").json["Jobs"]
    records = Records(Path(cos_environment["HOME"]) / ".cos/resume")
    working = records.open(job["Id"])
    assert working is not None
    emulator.requests.reset()
    assert "a process works on this job now" in run("jobs", "resume", job["Id"], code=1).err
    # A part that the first command had under way when it failed may arrive late.
    assert set(emulator.requests.snapshot()) <= {"UploadPart"}
    working.release()
    run("jobs", "resume", job["Id"], job["Id"][:8])


def killed_midway(cos: Cos, emulator: Emulator, operation: str, count: int, *args: object) -> None:
    """Run a command, kill it when count requests of an operation that are not answered have come."""
    emulator.requests.reset()
    emulator.faults.latency(HELD, operation)
    process = subprocess.Popen(["cos", *map(str, args)], env=cos.environment, cwd=cos.directory)
    end = time.monotonic() + 90
    while emulator.requests[operation] < count:
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    emulator.faults.clear()


def test_uploads_in_parts_of_a_killed_command_are_known(
    cos: Cos, run: Run, client: CosClient, emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    """Files that go in parts, too small to be gone on with."""
    (tmp_path / "d").mkdir()
    for name in "ab":
        (tmp_path / "d" / name).write_bytes(bytes(3 * MIB))
    killed_midway(cos, emulator, "UploadPart", 2, "cp", "-r", "d", f"cos://{bucket}/p/")
    opened = client.list_uploads(bucket).uploads
    assert opened
    [job] = run("jobs", "list", "--output", "json").json["Jobs"]
    assert (job["Kind"], job["State"]) == ("uploads", "interrupted")
    assert job["Destination"].startswith(f"cos://{bucket}/p/")
    assert "uploads" in run("jobs", "list", "--output", "table").out
    run("jobs", "show", job["Id"][:6])
    assert "jobs clean" in run("jobs", "resume", job["Id"][:6], code=252).err
    run("jobs", "clean", job["Id"][:6], "--dryrun")
    assert client.list_uploads(bucket).uploads == opened
    run("jobs", "clean", "--older-than", "0s")
    assert client.list_uploads(bucket).uploads == []
    assert run("jobs", "list", "--output", "json").json == {"Jobs": []}


def test_the_same_command_gives_up_what_a_killed_one_left_open(
    cos: Cos, run: Run, client: CosClient, emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    (tmp_path / "f").write_bytes(bytes(3 * MIB))
    killed_midway(cos, emulator, "UploadPart", 1, "cp", "f", f"cos://{bucket}/k")
    assert len(client.list_uploads(bucket).uploads) == 1
    run("cp", "f", f"cos://{bucket}/k")
    assert client.list_uploads(bucket).uploads == []
    assert run("jobs", "list", "--output", "json").json == {"Jobs": []}


def test_an_upload_that_was_asked_for_by_a_killed_command_is_looked_for(
    cos: Cos, run: Run, emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    (tmp_path / "f").write_bytes(bytes(3 * MIB))
    killed_midway(cos, emulator, "CreateMultipartUpload", 1, "cp", "f", f"cos://{bucket}/k")
    [job] = run("jobs", "list", "--output", "json").json["Jobs"]
    assert (job["Kind"], job["Destination"]) == ("uploads", f"cos://{bucket}/k")
    emulator.requests.reset()
    run("jobs", "clean", job["Id"], code=None)
    assert emulator.requests["ListMultipartUploads"] == 1
    assert run("jobs", "list", "--output", "json").json == {"Jobs": []}


def test_uploads_that_are_over_leave_no_note(run: Run, bucket: str, tmp_path: Path, cos: Cos) -> None:
    (tmp_path / "f").write_bytes(bytes(3 * MIB))
    run("cp", "f", f"cos://{bucket}/k")
    assert list((Path(cos.environment["HOME"]) / ".cos/resume").iterdir()) == []
