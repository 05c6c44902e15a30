"""cos sync with filters: what is left alone on both sides."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import Run
from tests.cli.trees import tree, write
from tests.objects import keys, put, stored

if TYPE_CHECKING:
    from cosfs.client.client import CosClient
    from cosfs.emulator import Emulator


def test_include_and_delete_leave_alone_what_does_not_match(
    run: Run, client: CosClient, bucket: str, tmp_path: Path
) -> None:
    put(client, bucket, "p/a.log", "p/b.log", "p/c.txt")
    write(tmp_path / "d", "a.log", "n.txt")
    run("sync", "d", f"cos://{bucket}/p", "--include", "*.log", "--delete")
    assert keys(client, bucket) == ["p/a.log", "p/c.txt"]


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("s/", "s/*"),
        ("/s/*", "s/*"),
        ("./s/*", "s/*"),
        ("*/s/", "*/s/*"),
        ("s/*", ""),
        ("*/", ""),
        (".s", ""),
    ],
)
def test_a_pattern_that_protects_nothing_is_told(
    run: Run, bucket: str, tmp_path: Path, pattern: str, meant: str
) -> None:
    write(tmp_path / "d", "a")
    (tmp_path / "patterns").write_bytes(b"\xef\xbb\xbf" + pattern.encode() + b"\r\n")  # as Windows has it
    for option in (("--exclude", pattern), ("--exclude-from", "patterns")):
        told = run("sync", "d", f"cos://{bucket}/p", "--delete", *option).err
        assert (f"--exclude {pattern!r} matches no file" in told) == bool(meant)
        assert (f"Did you mean {meant!r}?" in told) == bool(meant)


def test_delete_excluded(run: Run, client: CosClient, bucket: str, tmp_path: Path) -> None:
    put(client, bucket, "p/a.log", "p/b.log", "p/c.txt")
    write(tmp_path / "d", "a.log", "c.txt")
    run("sync", "d", f"cos://{bucket}/p", "--exclude", "*.txt", "--delete-excluded")
    assert keys(client, bucket) == ["p/a.log"]


def test_delete_excluded_looks_at_listed_names_only(
    run: Run, client: CosClient, bucket: str, tmp_path: Path
) -> None:
    put(client, bucket, "p/a.txt", "p/b.log", "p/c")
    write(tmp_path / "d", "a.txt", "b.log", "c")
    (tmp_path / "names").write_text("a.txt\nb.log\n")
    run("sync", "d", f"cos://{bucket}/p", "--files-from", "names", "--exclude", "*.txt", "--delete-excluded")
    assert keys(client, bucket) == ["p/b.log", "p/c"]


def test_what_is_too_large_is_neither_sent_nor_deleted(
    run: Run, client: CosClient, bucket: str, tmp_path: Path
) -> None:
    client.put_object(bucket, "p/big", b"0123456789")
    client.put_object(bucket, "p/huge-and-gone", b"0123456789")
    put(client, bucket, "p/x")
    write(tmp_path / "d", "big", text="9876543210!")
    write(tmp_path / "d", "small", text="s")
    run("sync", "d", f"cos://{bucket}/p", "--max-size", "5", "--delete")
    assert keys(client, bucket) == ["p/big", "p/huge-and-gone", "p/small"]
    assert stored(client, bucket, "p/big") == b"0123456789"


def test_excluded_trees_are_not_looked_at_on_either_side(
    run: Run, client: CosClient, bucket: str, tmp_path: Path, emulator: Emulator
) -> None:
    emulator.put_objects(bucket, ((f"p/big/{n // 100}/{n:05}", b"x") for n in range(5000)))
    put(client, bucket, "p/a", "p/z")
    write(tmp_path / "d", "a", text="p/a")
    write(tmp_path / "d", "z", text="p/z")
    (tmp_path / "d/big").mkdir()
    (tmp_path / "d/big/link").symlink_to("nowhere")
    emulator.requests.reset()
    result = run("sync", "d", f"cos://{bucket}/p", "--exclude", "big/*", "--delete")
    assert result.err == "" and result.out == ""
    # One page, perhaps one that was asked for ahead, and the one behind the excluded directory; not six.
    assert emulator.requests["ListObjects"] == emulator.requests.total <= 3


@pytest.mark.parametrize("way", ["up", "down"])
def test_files_from(
    run: Run, client: CosClient, bucket: str, tmp_path: Path, way: str, emulator: Emulator
) -> None:
    put(client, bucket, "p/a", "p/gone", "p/other")
    write(tmp_path / "d", "a", "new", "s/t", "s/u", text="longer")
    (tmp_path / "list").write_text("a\nnew\ns/t\n" if way == "up" else "a\n")
    places = ("d", f"cos://{bucket}/p") if way == "up" else (f"cos://{bucket}/p", "d")
    emulator.requests.reset()
    run("sync", *places, "--files-from", "list", "--checksum")
    assert emulator.requests["ListObjects"] == 0
    if way == "up":
        assert keys(client, bucket) == ["p/a", "p/gone", "p/new", "p/other", "p/s/t"]
    else:
        assert tree(tmp_path / "d")["a"] == "p/a"


def test_files_from_with_a_name_that_is_not_there(run: Run, bucket: str, tmp_path: Path) -> None:
    write(tmp_path / "d", "a")
    (tmp_path / "list").write_text("a\nmissing\n")
    result = run("sync", "d", f"cos://{bucket}/p", "--files-from", "list", code=1)
    assert "missing" in result.err and result.out.startswith("upload: d/a ")


@pytest.mark.parametrize("filters", [("--include", "*.txt"), ("--include", "s/*"), ("--exclude", "s")])
def test_filters_look_at_what_is_in_a_linked_directory(
    run: Run, client: CosClient, bucket: str, tmp_path: Path, filters: tuple[str, ...]
) -> None:
    """The link is no file that its name could leave out, and what is below it is not gone."""
    put(client, bucket, "p/s/a.txt", "p/s/gone.txt")
    write(tmp_path / "elsewhere", "a.txt", text="another size")
    write(tmp_path / "d", "s2/b.txt", "s3/c.txt")
    (tmp_path / "d/s").symlink_to("../elsewhere")
    run("sync", "d", f"cos://{bucket}/p", "--delete", *filters)
    assert keys(client, bucket, "p/s/") == ["p/s/a.txt"]
    assert stored(client, bucket, "p/s/a.txt") == b"another size"


def test_listed_names_in_a_linked_directory(run: Run, client: CosClient, bucket: str, tmp_path: Path) -> None:
    write(tmp_path / "d", "s/a")
    (tmp_path / "d/link").symlink_to("s")
    (tmp_path / "names").write_text("link/a\n")
    run("cp", "-r", "d", f"cos://{bucket}/p", "--files-from", "names")
    run("sync", "d", f"cos://{bucket}/q", "--files-from", "names")
    assert keys(client, bucket) == ["p/link/a", "q/link/a"]


def test_an_excluded_link_to_its_own_directory_is_not_told(
    run: Run, client: CosClient, bucket: str, tmp_path: Path
) -> None:
    write(tmp_path / "d", "a")
    (tmp_path / "d/loop").symlink_to(".")
    assert run("sync", "d", f"cos://{bucket}/p", "--exclude", "loop").err == ""
    assert "it lies in" in run("sync", "d", f"cos://{bucket}/p", code=2).err


def test_directories_that_filters_leave_out_or_keep_full_stay(
    run: Run, client: CosClient, bucket: str, tmp_path: Path
) -> None:
    put(client, bucket, "p/a.txt")
    write(tmp_path / "d", "full/x/kept.log", "full/gone.txt", "over/gone.txt", "over/in/gone.txt")
    for name in ("full/empty", "left out"):
        (tmp_path / "d" / name).mkdir()
    filters = ("--include", "*.txt", "--include", "full/*", "--include", "over/*", "--exclude", "*.log")
    args = ("sync", f"cos://{bucket}/p", "d", "--keep-dirs", "--delete", *filters)
    said = run(*args, "--dryrun").out
    gone = ("full/empty/", "full/gone.txt", "over/", "over/gone.txt", "over/in/", "over/in/gone.txt")
    assert sorted(line.rpartition(" d/")[2] for line in said.splitlines() if "delete" in line) == list(gone)
    run(*args)
    found = sorted(str(path.relative_to(tmp_path / "d")) for path in (tmp_path / "d").rglob("*"))
    assert found == ["a.txt", "full", "full/x", "full/x/kept.log", "left out"]
