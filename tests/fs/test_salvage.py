"""Bytes that could not be brought to COS."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cosfs.fs.salvage import Salvage
from cosfs.fs.scratch import MEMORY_MAX
from cosfs.fs.staging import Staging


async def test_what_is_kept_is_on_disk_before_its_record_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged = Staging(tmp_path, None)
    await staged.write(0, b"x" * 2 * MEMORY_MAX)
    forced: list[str] = []
    fsync = os.fsync

    def force(fd: int) -> None:
        forced.append(os.readlink(f"/proc/self/fd/{fd}"))  # noqa: PTH115
        fsync(fd)

    monkeypatch.setattr(os, "fsync", force)
    kept = Salvage(tmp_path).keep("bucket", "key", "refused", staged)
    assert kept is not None
    # Under the name that it has now: a file in staging/ without a record is removed by the next mount.
    assert forced[-2:] == [str(kept), str(kept.parent)]
