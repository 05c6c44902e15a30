"""What --dryrun says of downloads is what the run does, obstacles at the destination included."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from cosfs.client.client import CosClient
from tests.cli.conftest import Result, Run
from tests.cli.trees import write

KEYS = ("d", "f/x", "h/i", "l/y", "m/n", "ok", "w/")


def obstacles(tmp_path: Path) -> None:
    """Make a destination where a directory, a file or a link is in the way of every key but `ok`."""
    shutil.rmtree(tmp_path / "t", ignore_errors=True)
    write(tmp_path / "t", "d/keep.ex", "f", "m/n/q/z", "w")
    (tmp_path / "t/h/i/e").mkdir(parents=True)  # directories alone
    (tmp_path / "t/l").symlink_to("../other")


def told(result: Result) -> tuple[int, list[str]]:
    lines = (result.out + result.err).replace("(dryrun) ", "").splitlines()
    return result.code, sorted(lines)


@pytest.mark.parametrize(
    "command",
    [
        "sync SRC t",
        "sync SRC t --exclude *.ex --exclude f",
        "sync SRC t --delete",
        "sync SRC t --delete --exclude *.ex",
        "sync SRC t --delete --exclude f",
        "sync SRC t --delete --keep-dirs",
        "sync SRC t --delete --max-delete 1",
        "cp -r SRC t",
        "mv -r SRC t",
        "cp SRC/d t",
        "cp SRC/d t/d",
        "cp SRC/d t/h/i",
        "cp SRC/d t/h",
        "cp SRC/ok t/f/x",
        "cp SRC/ok t/f/",
        "mv SRC/ok t/f/x/y/z",
        "cp SRC/ok t/l/y",
        "cp SRC/ok t/new/y",
    ],
)
def test_obstacles(run: Run, client: CosClient, bucket: str, tmp_path: Path, command: str) -> None:
    (tmp_path / "other").mkdir()
    for key in KEYS:
        client.put_object(bucket, f"s/{key}", b"" if key.endswith("/") else key.encode())
    args = command.replace("SRC", f"cos://{bucket}/s").split()
    obstacles(tmp_path)
    before = sorted(os.walk(tmp_path))
    planned = run(*args, "--dryrun", code=None)
    assert sorted(os.walk(tmp_path)) == before
    assert told(planned) == told(run(*args, code=None))
