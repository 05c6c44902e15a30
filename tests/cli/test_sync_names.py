"""cos sync where names and kinds are in each other's way."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from cosfs.client.model import Headers
from tests.cli.conftest import Run
from tests.cli.trees import PAST, tree, write
from tests.objects import keys, put, stored

if TYPE_CHECKING:
    from cosfs.client.client import CosClient


def test_a_file_becomes_a_directory_and_back(
    run: Run, client: CosClient, bucket: str, tmp_path: Path
) -> None:
    put(client, bucket, "p/a", "p/b/c", "p/b/d")
    run("sync", f"cos://{bucket}/p", "d")
    for key in ("p/a", "p/b/c", "p/b/d"):
        client.delete_object(bucket, key)
    put(client, bucket, "p/a/x", "p/a-", "p/b")
    result = run("sync", f"cos://{bucket}/p", "d", code=1)
    assert "is a file here" in result.err and "directory of this name" in result.err
    run("sync", f"cos://{bucket}/p", "d", "--delete")
    assert tree(tmp_path / "d") == {"a-": "p/a-", "a/x": "p/a/x", "b": "p/b"}
    assert run("sync", f"cos://{bucket}/p", "d", "--delete").out == ""


def test_keys_that_collide(run: Run, client: CosClient, bucket: str, tmp_path: Path) -> None:
    put(client, bucket, "p/f", "p/f.txt", "p/f/child")
    write(tmp_path / "d", "old")
    result = run("sync", f"cos://{bucket}/p", "d", "--delete", code=1)
    assert "p/f/child" in result.err and "nothing was deleted" in result.err
    assert tree(tmp_path / "d") == {"f": "p/f", "f.txt": "p/f.txt", "old": "old"}


def test_keys_no_path_can_have(run: Run, client: CosClient, bucket: str, tmp_path: Path) -> None:
    put(client, bucket, "p/a", "p/x//b", "p/t/../../evil.txt")
    result = run("sync", f"cos://{bucket}/p", "d", code=2)
    assert result.err.count("skipped") == 2 and tree(tmp_path) == {"d/a": "p/a"}
    run("sync", f"cos://{bucket}/p", "d", "--key-policy", "error", code=1)
    run("sync", f"cos://{bucket}/p", "d", "--key-policy", "encode")
    assert run("sync", f"cos://{bucket}/p", "d", "--key-policy", "encode", "--delete").out == ""
    run("sync", "d", f"cos://{bucket}/q", "--key-policy", "encode")
    assert keys(client, bucket, "q/") == ["q/a", "q/t/../../evil.txt", "q/x//b"]
    assert run("sync", "d", f"cos://{bucket}/q", "--key-policy", "encode", "--delete").out == ""


def test_an_object_named_like_a_directory_survives_a_round_trip(
    run: Run, client: CosClient, bucket: str, tmp_path: Path
) -> None:
    client.put_object(bucket, "p/x/", b"content")
    put(client, bucket, "p/x/y")
    run("sync", f"cos://{bucket}/p", "d", "--key-policy", "encode")
    assert tree(tmp_path / "d") == {"x%2F": "content", "x/y": "p/x/y"}
    result = run("sync", "d", f"cos://{bucket}/p", "--key-policy", "encode", "--delete")
    assert result.out == "" and keys(client, bucket) == ["p/x/", "p/x/y"]


def test_a_symlink_in_the_destination_redirects_nothing(
    run: Run, client: CosClient, bucket: str, tmp_path: Path
) -> None:
    put(client, bucket, "p/s/a", "p/f")
    (tmp_path / "outside").mkdir()
    write(tmp_path / "outside", "precious")
    (tmp_path / "d").mkdir()
    (tmp_path / "d/s").symlink_to(tmp_path / "outside")
    (tmp_path / "d/f").symlink_to(tmp_path / "outside/precious")
    run("sync", f"cos://{bucket}/p", "d", code=1)
    assert tree(tmp_path / "outside") == {"precious": "precious"}
    # The link itself is what only the destination has.
    run("sync", f"cos://{bucket}/p", "d", "--delete")
    assert tree(tmp_path / "outside") == {"precious": "precious"}
    assert tree(tmp_path / "d") == {"f": "p/f", "s/a": "p/s/a"} and not (tmp_path / "d/f").is_symlink()


def test_empty_directories(run: Run, client: CosClient, bucket: str, tmp_path: Path) -> None:
    write(tmp_path / "d", "full/a")
    (tmp_path / "d/empty/deep").mkdir(parents=True)
    client.put_object(bucket, "p/full/", b"")
    client.put_object(bucket, "p/gone/", b"")
    # Directories are not compared unless asked for: their markers stay.
    run("sync", "d", f"cos://{bucket}/p", "--delete")
    assert keys(client, bucket) == ["p/full/", "p/full/a", "p/gone/"]
    run("sync", "d", f"cos://{bucket}/p", "--delete", "--keep-dirs")
    assert keys(client, bucket) == ["p/empty/deep/", "p/full/", "p/full/a"]
    assert run("sync", "d", f"cos://{bucket}/p", "--delete", "--keep-dirs").out == ""
    (tmp_path / "e/only/here").mkdir(parents=True)
    run("sync", f"cos://{bucket}/p", "e", "--delete", "--keep-dirs")
    names = sorted(str(path.relative_to(tmp_path / "e")) for path in (tmp_path / "e").rglob("*"))
    assert names == ["empty", "empty/deep", "full", "full/a"]
    # What is there already is no file that a marker could not replace.
    assert run("sync", f"cos://{bucket}/p", "e", "--delete", "--keep-dirs").out == ""


def test_keys_that_differ_in_case_alone(run: Run, client: CosClient, bucket: str, tmp_path: Path) -> None:
    put(client, bucket, "p/File", "p/file", "p/e\u0301", "p/\u00e9")
    run("sync", f"cos://{bucket}/p", "d")
    assert len(tree(tmp_path / "d")) == 4
    result = run("sync", f"cos://{bucket}/p", "e", "--case-conflict", "error", code=1)
    assert "p/file to e/file: its name differs from another one in case alone" in result.err
    assert len(tree(tmp_path / "e")) == 2
    copied = run("cp", "-r", f"cos://{bucket}/p", "f", "--case-conflict", "error", code=1)
    assert "p/file to f/file: its name differs" in copied.err
    assert run("sync", f"cos://{bucket}/p", "e", "--case-conflict", "skip", code=2).out == ""


def test_symbolic_links(run: Run, client: CosClient, bucket: str, tmp_path: Path) -> None:
    write(tmp_path / "d", "a", "s/b")
    (tmp_path / "d/link").symlink_to("a")
    (tmp_path / "d/dir").symlink_to("s")
    run("sync", "d", f"cos://{bucket}/p")
    assert keys(client, bucket) == ["p/a", "p/dir/b", "p/link", "p/s/b"]
    run("sync", "d", f"cos://{bucket}/q", "--no-follow-symlinks")
    assert keys(client, bucket, "q/") == ["q/a", "q/s/b"]
    run("sync", "d", f"cos://{bucket}/r", "--preserve-symlinks")
    assert stored(client, bucket, "r/link") == b"a"
    assert run("sync", "d", f"cos://{bucket}/r", "--preserve-symlinks", "--checksum", "--delete").out == ""
    run("sync", f"cos://{bucket}/r", "e", "--preserve-symlinks")
    assert os.readlink(tmp_path / "e/link") == "a" and os.readlink(tmp_path / "e/dir") == "s"  # noqa: PTH115
    assert run("sync", f"cos://{bucket}/r", "e", "--preserve-symlinks", "--checksum", "--delete").out == ""


def test_preserved_attributes(run: Run, client: CosClient, bucket: str, tmp_path: Path) -> None:
    write(tmp_path / "d", "a")
    (tmp_path / "d/a").chmod(0o741)
    run("sync", "d", f"cos://{bucket}/p", "--preserve")
    run("sync", f"cos://{bucket}/p", "e", "--preserve")
    found = (tmp_path / "e/a").stat()
    assert (found.st_mode & 0o777, found.st_mtime) == (0o741, PAST)
    assert run("sync", f"cos://{bucket}/p", "e", "--preserve").out == ""


def test_archived_objects_are_left_and_told(run: Run, client: CosClient, bucket: str, tmp_path: Path) -> None:
    put(client, bucket, "p/a")
    client.put_object(bucket, "p/b", b"cold", headers=Headers(storage_class="ARCHIVE"))
    assert "archived" in run("sync", f"cos://{bucket}/p", "d", code=2).err
    assert tree(tmp_path / "d") == {"a": "p/a"}
    run("sync", f"cos://{bucket}/p", "d", "--ignore-archive-warnings", "--delete")
