"""Files that a command writes for itself are no part of the tree it works on."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import Run
from tests.cli.trees import files_below, write
from tests.objects import keys, put

if TYPE_CHECKING:
    from cosfs.client.client import CosClient

_SNAPSHOT = ("snap", "snap-shm", "snap-wal")


@pytest.mark.parametrize("root", [".", "../d", "link"])
def test_a_snapshot_and_a_report_in_the_tree_are_not_sent(
    run: Run, client: CosClient, bucket: str, tmp_path: Path, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "d", "a", "s/b")
    monkeypatch.chdir(tmp_path / "d")
    (tmp_path / "link").symlink_to("d")
    source = str(tmp_path / "link") if root == "link" else root
    for command in (
        ["sync", "--snapshot", "snap"],
        ["sync", "--snapshot", "snap"],
        ["cp", "-r", "--exclude", "snap"],
    ):
        run(*command, source, f"cos://{bucket}/p", "--report", "s/report.jsonl")
        assert keys(client, bucket) == ["p/a", "p/s/b"]
    assert not run("check", source, f"cos://{bucket}/p", "--exclude", "s*p*", "--report", "differences").out


def test_a_snapshot_and_a_report_outlive_a_sync_that_deletes(
    run: Run, client: CosClient, bucket: str, tmp_path: Path
) -> None:
    put(client, bucket, "a", "report", *_SNAPSHOT)
    write(tmp_path / "d", "a", "gone")
    for _ in range(2):
        run(
            "sync",
            f"cos://{bucket}",
            "d",
            "--delete-excluded",
            "--snapshot",
            "d/snap",
            "--report",
            "d/report",
        )
        assert files_below(tmp_path / "d") == ["a", "report", "snap"]
        assert (tmp_path / "d/snap").read_bytes().startswith(b"SQLite")
        assert json.loads((tmp_path / "d/report").read_text().splitlines()[-1])["type"] == "summary"


def test_a_report_in_a_tree_that_is_moved_stays(
    run: Run, client: CosClient, bucket: str, tmp_path: Path
) -> None:
    write(tmp_path / "d", "a%20b")
    run("mv", "-r", "d", f"cos://{bucket}", "--key-policy", "encode", "--report", "d/re%70ort")
    assert keys(client, bucket) == ["a b"]
    assert files_below(tmp_path / "d") == ["re%70ort"]


def test_the_report_of_a_run_is_no_part_of_what_its_lines_send(
    run: Run, client: CosClient, bucket: str, tmp_path: Path
) -> None:
    write(tmp_path / "d", "a")
    write(tmp_path, "lines", text=f"sync d cos://{bucket}\ncp -r d cos://{bucket}/p\n")
    run("run", "lines", "--report", "d/report")
    assert keys(client, bucket) == ["a", "p/a"]


def test_an_object_of_the_name_of_the_report_does_not_replace_it(
    run: Run, client: CosClient, bucket: str, tmp_path: Path
) -> None:
    put(client, bucket, "p/a", "p/report")
    (tmp_path / "d").mkdir()
    for source in (("-r", f"cos://{bucket}/p/"), (f"cos://{bucket}/p/**",)):
        run("cp", *source, "d", "--report", "d/report")
        assert files_below(tmp_path / "d") == ["a", "report"]
        assert json.loads((tmp_path / "d/report").read_text().splitlines()[-1])["type"] == "summary"


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/stderr", "/proc/self/fd/1", "link"])
def test_report_to_a_stream_of_the_command_goes_behind_what_is_there(
    cos_environment: dict[str, str], bucket: str, tmp_path: Path, name: str
) -> None:
    (tmp_path / "f").write_text("f")
    (tmp_path / "link").symlink_to("/dev/stdout")
    with (tmp_path / "log").open("w") as log:
        log.write("earlier\n")
        log.flush()
        args = ["cos", "cp", "f", f"cos://{bucket}/k", "--report", name, "--only-show-errors"]
        subprocess.run(args, env=cos_environment, cwd=tmp_path, check=True, stdout=log, stderr=log)
        log.write("later\n")
    first, *events, last = (tmp_path / "log").read_text().splitlines()
    assert (first, last) == ("earlier", "later")
    assert [json.loads(event)["type"] for event in events] == ["command", "transfer", "summary"]
    assert (tmp_path / "link").is_symlink()


def test_report_and_results_in_one_stream_are_whole_lines(
    cos_environment: dict[str, str], bucket: str, tmp_path: Path
) -> None:
    (tmp_path / "d").mkdir()
    for number in range(300):
        (tmp_path / "d" / str(number)).write_text("x")
    with (tmp_path / "log").open("w") as log:
        args = ["cos", "cp", "-r", "d", f"cos://{bucket}/", "--report", "/dev/stdout"]
        subprocess.run(args, env=cos_environment, cwd=tmp_path, check=True, stdout=log)
    lines = (tmp_path / "log").read_text().splitlines()
    assert sum(line.startswith("upload: ") for line in lines) == 300
    events = [json.loads(line) for line in lines if not line.startswith("upload: ")]
    assert len(events) == 302


def test_report_to_a_fifo(cos_environment: dict[str, str], bucket: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("f")
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(
        ["cos", "cp", "f", f"cos://{bucket}/k", "--report", "pipe"], env=cos_environment, cwd=tmp_path
    ) as process:
        events = [json.loads(line)["type"] for line in (tmp_path / "pipe").read_text().splitlines()]
    assert (process.returncode, events) == (0, ["command", "transfer", "summary"])
