"""A directory that rclone has synced is unchanged for `cos sync` and `cos check`, and the reverse."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cosfs.emulator import Emulator
from tests.conftest import Cos
from tests.emulator.clients.test_rclone import make_tree, rclone_for

CLIENTS = ("rclone",)
SENDING = ("PutObject", "UploadPart", "CopyObject", "DeleteObject", "DeleteObjects")


def sent(emulator: Emulator) -> dict[str, int]:
    return {name: number for name, number in emulator.requests.snapshot().items() if name in SENDING}


@pytest.mark.parametrize("form", ["TencentCOS", "Other"])
def test_synced_by_rclone(cos: Cos, emulator: Emulator, bucket: str, tmp_path: Path, form: str) -> None:
    rclone = rclone_for(emulator, form, tmp_path)
    tree, there = make_tree(tmp_path / "tree"), f"cos://{bucket}/dir"
    rclone("sync", tree, f"cos:{bucket}/dir")
    os.utime(tree / "big")  # in parts, and newer than its object
    os.utime(tree / "a")
    for options in ((), ("--checksum", "--delete")):
        emulator.requests.reset()
        done = cos("sync", tree, there, *options, check=True)
        assert (done.stdout, sent(emulator)) == ("", {}), options
    assert cos("check", tree, there, check=True).stdout == ""
    # What rclone puts into metadata does not make it download again either.
    cos("sync", there, tmp_path / "back", check=True)
    assert cos("sync", there, tmp_path / "back", "--checksum", "--delete", check=True).stdout == ""


@pytest.mark.parametrize("form", ["TencentCOS", "Other"])
def test_synced_for_rclone(cos: Cos, emulator: Emulator, bucket: str, tmp_path: Path, form: str) -> None:
    rclone = rclone_for(emulator, form, tmp_path)
    tree = make_tree(tmp_path / "tree")
    cos("sync", tree, f"cos://{bucket}/dir", check=True)
    emulator.requests.reset()
    rclone("sync", "--checksum", tree, f"cos:{bucket}/dir")
    assert sent(emulator) == {}
    assert "0 differences found" in rclone("check", "-v", "--download", tree, f"cos:{bucket}/dir")
