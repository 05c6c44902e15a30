"""cos sync --snapshot: what was alike at the end of a run is not looked at by the next."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cli.conftest import Run
from tests.cli.trees import FUTURE, PAST, tree, write
from tests.objects import put, stored

if TYPE_CHECKING:
    from cosfs.client.client import CosClient
    from cosfs.emulator import Emulator


def test_snapshot(run: Run, client: CosClient, bucket: str, tmp_path: Path, emulator: Emulator) -> None:
    """Nothing is read that is recorded on both sides; what changed on either is noticed."""
    names = [f"f{number}" for number in range(5)]
    write(tmp_path / "d", *names, mtime=FUTURE)
    places = "d", f"cos://{bucket}/p"
    run("sync", *places, "--snapshot", "s.db")
    for name in names:
        os.chmod(tmp_path / "d" / name, 0)  # noqa: PTH101
    # chmod changes the ctime, so the record no longer fits; as root the files are still readable.
    assert run("sync", *places, "--snapshot", "s.db").out == ""
    # The same size, the same time, and another content: seen by ctime.
    write(tmp_path / "d", "f1", text="xx", mtime=FUTURE)
    # Older by far, as when a backup is restored: times alone would say that nothing is to be done.
    write(tmp_path / "d", "f2", text="yy", mtime=PAST)
    client.put_object(bucket, "p/f3", b"zz")
    result = run("sync", *places, "--snapshot", "s.db")
    assert sorted(line.split()[1] for line in result.lines) == ["d/f1", "d/f2", "d/f3"]
    assert stored(client, bucket, "p/f3") == b"f3"
    assert run("sync", *places, "--snapshot", "s.db").out == ""


def test_snapshot_of_downloads(run: Run, client: CosClient, bucket: str, tmp_path: Path) -> None:
    put(client, bucket, "p/a", "p/b")
    places = f"cos://{bucket}/p", "d"
    run("sync", *places, "--snapshot", "s.db")
    # Replaced within the same second, in the same size.
    client.put_object(bucket, "p/a", b"P/A")
    run("sync", *places, "--snapshot", "s.db")
    assert tree(tmp_path / "d") == {"a": "P/A", "b": "p/b"}


def test_snapshot_of_another_pair_is_refused(run: Run, bucket: str, tmp_path: Path) -> None:
    write(tmp_path / "d", "a")
    run("sync", "d", f"cos://{bucket}/p", "--snapshot", "s.db")
    assert "another sync" in run("sync", "d", f"cos://{bucket}/q", "--snapshot", "s.db", code=252).err
    (tmp_path / "text").write_text("no database, but long enough to be looked at" * 100)
    assert "snapshot" in run("sync", "d", f"cos://{bucket}/p", "--snapshot", "text", code=252).err
