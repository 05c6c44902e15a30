"""cos sync --delete: what is deleted, and when nothing is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import Run
from tests.cli.trees import tree, write
from tests.objects import keys, put

if TYPE_CHECKING:
    from cosfs.client.client import CosClient
    from cosfs.emulator import Emulator


def test_delete(run: Run, client: CosClient, bucket: str, tmp_path: Path) -> None:
    put(client, bucket, "p/a", "p/b", "p/s/c", "q")
    write(tmp_path / "d", "a", text="p/a")
    assert run("sync", "d", f"cos://{bucket}/p").out == ""
    result = run("sync", "d", f"cos://{bucket}/p", "--delete")
    assert result.lines == [f"delete: cos://{bucket}/p/b", f"delete: cos://{bucket}/p/s/c"]
    assert keys(client, bucket) == ["p/a", "q"]


def test_delete_files_and_the_directories_that_become_empty(
    run: Run, client: CosClient, bucket: str, tmp_path: Path
) -> None:
    put(client, bucket, "p/a", "p/kept/x")
    client.put_object(bucket, "p/marked/", b"")
    write(tmp_path / "d", "b", "s/t/c", "s/t/d", "kept/y", "marked/z")
    (tmp_path / "d/empty").mkdir()
    result = run("sync", f"cos://{bucket}/p", "d", "--delete")
    assert sorted(result.lines)[:5] == [
        f"delete: d/{name}" for name in ("b", "kept/y", "marked/z", "s/t/c", "s/t/d")
    ]
    names = sorted(str(path.relative_to(tmp_path / "d")) for path in (tmp_path / "d").rglob("*"))
    assert names == ["a", "empty", "kept", "kept/x", "marked"]


def test_a_mistyped_source_deletes_nothing(
    run: Run, client: CosClient, bucket: str, tmp_path: Path, emulator: Emulator
) -> None:
    put(client, bucket, "p/a")
    emulator.requests.reset()
    assert "no such directory" in run("sync", "mistyped", f"cos://{bucket}/p", "--delete", code=252).err
    assert emulator.requests.total == 0
    (tmp_path / "empty").mkdir()
    result = run("sync", "empty", f"cos://{bucket}/p", "--delete", code=1)
    assert "--allow-empty-source" in result.err
    write(tmp_path / "d", "a")
    result = run("sync", f"cos://{bucket}/mistyped", "d", "--delete", code=1)
    assert "--allow-empty-source" in result.err
    assert keys(client, bucket) == ["p/a"] and tree(tmp_path / "d") == {"a": "a"}
    run("sync", "empty", f"cos://{bucket}/p", "--delete", "--allow-empty-source")
    run("sync", f"cos://{bucket}/mistyped", "d", "--delete", "--allow-empty-source")
    assert keys(client, bucket) == [] and tree(tmp_path / "d") == {}


def test_nothing_is_deleted_after_a_failure(
    run: Run, client: CosClient, bucket: str, tmp_path: Path, emulator: Emulator
) -> None:
    put(client, bucket, "p/old")
    write(tmp_path / "d", "a", "b")
    emulator.faults.error("PutObject", "AccessDenied", 403, key="p/a")
    result = run("sync", "d", f"cos://{bucket}/p", "--delete", code=1)
    assert "nothing was deleted" in result.err and "AccessDenied" in result.err
    assert keys(client, bucket) == ["p/b", "p/old"]


@pytest.mark.parametrize("prefix", ["p", "s"])
def test_nothing_is_deleted_after_a_listing_broke_off(
    run: Run, client: CosClient, bucket: str, tmp_path: Path, emulator: Emulator, prefix: str
) -> None:
    """Neither when the destination was not seen whole nor when the source was not."""
    emulator.put_objects(bucket, ((f"{side}/{number:04}", b"x") for side in "ps" for number in range(1500)))
    emulator.faults.error("ListObjects", "AccessDenied", 403, key="*", every=2, count=1)
    result = run("sync", f"cos://{bucket}/s", "d", "--delete", code=1) if prefix == "s" else None
    if result is None:
        write(tmp_path / "d", "0000")
        result = run("sync", "d", f"cos://{bucket}/p", "--delete", code=1)
        assert len(keys(client, bucket, "p/")) == 1500
    assert "AccessDenied" in result.err


def test_unreadable_sources_are_not_taken_for_gone(
    run: Run, client: CosClient, bucket: str, tmp_path: Path
) -> None:
    put(client, bucket, "p/a", "p/link", "p/old")
    write(tmp_path / "d", "a", text="p/a")
    (tmp_path / "d/link").symlink_to("nowhere")
    result = run("sync", "d", f"cos://{bucket}/p", "--delete", code=2)
    assert result.out == f"delete: cos://{bucket}/p/old\n"
    assert keys(client, bucket) == ["p/a", "p/link"]


@pytest.mark.parametrize(("limit", "code"), [("1", 1), ("2", 0), ("49%", 1), ("50%", 0)])
def test_max_delete(run: Run, client: CosClient, bucket: str, tmp_path: Path, limit: str, code: int) -> None:
    put(client, bucket, "p/a", "p/b", "p/c", "p/d")
    write(tmp_path / "d", "a", text="p/a")
    write(tmp_path / "d", "b", text="p/b")
    result = run("sync", "d", f"cos://{bucket}/p", "--delete", "--max-delete", limit, code=code)
    assert keys(client, bucket) == ["p/a", "p/b", *(["p/c", "p/d"] if code else [])]
    assert ("2 of 4 would go" in result.err) == bool(code)


def test_deletions_go_out_by_the_thousand(
    run: Run, client: CosClient, bucket: str, tmp_path: Path, emulator: Emulator
) -> None:
    emulator.put_objects(bucket, ((f"p/{number:04}", b"x") for number in range(1500)))
    write(tmp_path / "d", "0000", text="x")
    emulator.requests.reset()
    run("sync", "d", f"cos://{bucket}/p", "--delete", "--quiet")
    assert emulator.requests.snapshot() == {"ListObjects": 2, "DeleteObjects": 2}
    assert keys(client, bucket) == ["p/0000"]


def test_a_failed_deletion_is_a_failure(
    run: Run, client: CosClient, bucket: str, tmp_path: Path, emulator: Emulator
) -> None:
    put(client, bucket, "p/a", "p/b")
    write(tmp_path / "d", "a", text="p/a")
    emulator.faults.error("DeleteObjects", "AccessDenied", 403)
    result = run("sync", "d", f"cos://{bucket}/p", "--delete", code=1)
    assert f"delete failed: cos://{bucket}/p/b: AccessDenied" in result.err
