"""The local walk: order, symlinks, what is left out and what is said about it."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cosfs.transfer.scan import LocalEntry, _Tree, walk


async def collect(root: Path, **options: object) -> tuple[list[LocalEntry], dict[str, str]]:
    warnings: dict[str, str] = {}

    def warned(path: str, reason: str) -> None:
        warnings[os.path.relpath(path, root)] = reason

    entries = [entry async for entry in walk(root, on_warning=warned, **options)]  # type: ignore[arg-type]
    return entries, warnings


async def names(root: Path, **options: object) -> list[str]:
    return [entry.relative for entry in (await collect(root, **options))[0]]


def make(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)


async def test_order_is_that_of_keys(tmp_path: Path) -> None:
    paths = ["a/b", "a-b", "a.txt", "a/c/d", "a0", "b", "é/x", "z/1", "z", "𐀀", "￿", "Z", "a/b-/x", "a/b0"]
    paths.remove("z")
    make(tmp_path, *paths)
    assert await names(tmp_path) == sorted(paths, key=str.encode)


async def test_entries_say_what_stat_says(tmp_path: Path) -> None:
    make(tmp_path, "d/file")
    (entry,), _ = await collect(tmp_path)
    info = (tmp_path / "d/file").stat()
    assert entry.path == str(tmp_path / "d/file")
    assert (entry.size, entry.mtime_ns, entry.inode) == (6, info.st_mtime_ns, info.st_ino)


async def test_more_than_one_batch(tmp_path: Path) -> None:
    expected = [f"{number:05}" for number in range(2500)]
    for name in expected:
        (tmp_path / name).touch()
    assert await names(tmp_path) == expected


async def test_the_first_entry_comes_before_all_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(200):
        (tmp_path / f"f{number:03}").write_bytes(b"")
    look = _Tree._look_at
    seen: list[str] = []

    def look_at(self: _Tree, path: str, relative: str) -> LocalEntry | None:
        seen.append(relative)
        return look(self, path, relative)

    monkeypatch.setattr(_Tree, "_look_at", look_at)
    entries = walk(str(tmp_path))
    assert (await anext(entries)).relative == "f000"
    assert len(seen) < 50
    assert len([entry async for entry in entries]) == 199


async def test_symlinks_are_followed_and_cycles_cut(tmp_path: Path) -> None:
    make(tmp_path, "real/file", "other")
    (tmp_path / "real/loop").symlink_to("../real")
    (tmp_path / "linked").symlink_to("real")
    (tmp_path / "file").symlink_to("other")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "itself").symlink_to("itself")
    entries, warnings = await collect(tmp_path)
    assert [entry.relative for entry in entries] == ["file", "linked/file", "other", "real/file"]
    assert "points to nothing" in warnings.pop("dangling")
    assert "symbolic links" in warnings.pop("itself")
    assert set(warnings) == {"real/loop", "linked/loop"}
    assert all("lies in" in reason for reason in warnings.values())


async def test_symlinks_can_be_skipped_or_kept(tmp_path: Path) -> None:
    make(tmp_path, "real/file")
    (tmp_path / "linked").symlink_to("real")
    (tmp_path / "dangling").symlink_to("nowhere")
    entries, warnings = await collect(tmp_path, symlinks="skip")
    assert [entry.relative for entry in entries] == ["real/file"]
    assert warnings == {}
    entries, warnings = await collect(tmp_path, symlinks="keep")
    assert {entry.relative: entry.link_target for entry in entries} == {
        "dangling": "nowhere",
        "linked": "real",
        "real/file": "",
    }


async def test_special_files_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path, "file")
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")  # a path must not have more than 107 bytes here
        entries, warnings = await collect(tmp_path)
    assert [entry.relative for entry in entries] == ["file"]
    assert warnings == {"fifo": "is a FIFO", "socket": "is a socket"}


async def test_names_that_are_not_utf8_are_told_or_encoded(tmp_path: Path) -> None:
    make(tmp_path, "file", "%2E%2E")
    (tmp_path / os.fsdecode(b"caf\xe9")).touch()
    entries, warnings = await collect(tmp_path)
    assert [entry.relative for entry in entries] == ["%2E%2E", "file"]
    assert list(warnings.values()) == ["its name is not UTF-8; --key-policy encode takes it"]
    entries, warnings = await collect(tmp_path, encoded_names=True)
    assert [entry.relative for entry in entries] == ["..", "caf%E9", "file"]
    assert warnings == {}


async def test_what_is_not_wanted_is_not_looked_at(tmp_path: Path) -> None:
    make(tmp_path, "keep/file", "drop/file", "keep/other")
    (tmp_path / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "drop/fifo")
    asked: list[str] = []

    def keep(relative: str) -> bool:
        asked.append(relative)
        return relative not in ("drop/", "dangling", "keep/other")

    entries, warnings = await collect(tmp_path, keep=keep)
    assert [entry.relative for entry in entries] == ["keep/file"]
    assert warnings == {}
    assert "drop/file" not in asked


async def test_directories_on_request(tmp_path: Path) -> None:
    make(tmp_path, "a/b/file")
    (tmp_path / "empty").mkdir()
    assert await names(tmp_path, directories=True) == ["a/", "a/b/", "a/b/file", "empty/"]
    assert await names(tmp_path) == ["a/b/file"]


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that users other than ours can reach."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.fixture
def nobody() -> Iterator[None]:
    """Root may read everything: be somebody else."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    yield
    os.seteuid(before)


async def test_unreadable_files_are_told(open_directory: Path, nobody: None) -> None:
    before = os.geteuid()
    os.seteuid(os.getuid())
    make(open_directory, "file", "d/file", "readable")
    (open_directory / "file").chmod(0)
    (open_directory / "d").chmod(0)
    os.seteuid(before)
    entries, warnings = await collect(open_directory)
    os.seteuid(os.getuid())
    (open_directory / "d").chmod(0o755)
    assert [entry.relative for entry in entries] == ["readable"]
    assert set(warnings) == {"file", "d"}


async def test_missing_root_raises(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await names(tmp_path / "nothing")
