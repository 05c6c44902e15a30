"""cos sync --dryrun, and --backup-dir: what is replaced or deleted is kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.cli.conftest import Run
from tests.cli.trees import tree, write
from tests.objects import keys, put, stored

if TYPE_CHECKING:
    from cosfs.client.client import CosClient


def test_dryrun_changes_nothing(run: Run, client: CosClient, bucket: str, tmp_path: Path) -> None:
    put(client, bucket, "p/old")
    write(tmp_path / "d", "a")
    result = run(
        "sync", "d", f"cos://{bucket}/p", "--delete", "--dryrun", "--backup-dir", "old", "--snapshot", "s"
    )
    assert result.lines == [
        f"(dryrun) upload: d/a to cos://{bucket}/p/a",
        f"(dryrun) delete: cos://{bucket}/p/old",
    ]
    assert keys(client, bucket) == ["p/old"]
    run("sync", f"cos://{bucket}/p", "d", "--delete", "--dryrun")
    run("sync", f"cos://{bucket}/p", "new/er", "--delete", "--dryrun")
    assert tree(tmp_path) == {"d/a": "a"} and not (tmp_path / "new").exists()


def test_backup_of_objects(run: Run, client: CosClient, bucket: str, tmp_path: Path) -> None:
    put(client, bucket, "p/a", "p/s/gone", "p/same")
    write(tmp_path / "d", "a", text="new text")
    write(tmp_path / "d", "same", text="p/same")
    run("sync", "d", f"cos://{bucket}/p", "--delete", "--backup-dir", f"cos://{bucket}/old")
    assert keys(client, bucket) == ["old/a", "old/s/gone", "p/a", "p/same"]
    assert stored(client, bucket, "old/a") == b"p/a" and stored(client, bucket, "p/a") == b"new text"
    write(tmp_path / "d", "a", text="even newer")
    run("sync", "d", f"cos://{bucket}/p", "--backup-dir", "local-backup")
    assert tree(tmp_path / "local-backup") == {"a": "new text"}


def test_backup_of_files(run: Run, client: CosClient, bucket: str, tmp_path: Path) -> None:
    put(client, bucket, "p/a")
    write(tmp_path / "d", "a", text="mine")
    write(tmp_path / "d", "s/gone", text="lost?")
    run("sync", f"cos://{bucket}/p", "d", "--delete", "--backup-dir", "old")
    assert tree(tmp_path) == {"d/a": "p/a", "old/a": "mine", "old/s/gone": "lost?"}
    write(tmp_path / "d", "a", text="mine again")
    run("sync", f"cos://{bucket}/p", "d", "--backup-dir", f"cos://{bucket}/backup")
    assert stored(client, bucket, "backup/a") == b"mine again"


def test_what_cannot_be_backed_up_is_neither_replaced_nor_deleted(
    run: Run, client: CosClient, bucket: str, tmp_path: Path
) -> None:
    put(client, bucket, "p/a")
    write(tmp_path / "d", "a", text="mine")
    write(tmp_path / "d", "gone", text="lost?")
    (tmp_path / "old").write_text("a file, no directory")
    result = run("sync", f"cos://{bucket}/p", "d", "--delete", "--backup-dir", "old", code=1)
    assert "nothing was deleted" in result.err
    assert tree(tmp_path / "d") == {"a": "mine", "gone": "lost?"}
