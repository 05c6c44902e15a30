"""What people do with files, done in a directory that a program of others has mounted."""

from __future__ import annotations

import shutil
from pathlib import Path

MIB = 1 << 20


def work(root: Path, big: bytes) -> dict[str, bytes]:
    """Write, read, rename, list and remove files; return what must be in the bucket in the end."""
    (root / "dir" / "sub").mkdir(parents=True)
    small = root / "dir" / "中 a+b.txt"
    small.write_text("hello\n")
    with small.open("a") as file:
        file.write("world\n")
    assert small.read_text() == "hello\nworld\n"
    assert small.stat().st_size == 12
    small.rename(root / "dir" / "sub" / "renamed")
    assert not small.exists()
    (root / "empty").touch()
    (root / "gone").write_text("x")
    (root / "gone").unlink()
    whole = root / "big"
    whole.write_bytes(big)
    assert whole.stat().st_size == len(big)
    with whole.open("rb") as file:
        file.seek(len(big) - 10)
        assert file.read() == big[-10:]
    shutil.copyfile(whole, root / "dir" / "copy")
    assert names(root) == ["big", "dir", "empty"]
    assert names(root / "dir") == ["copy", "sub"]
    # Contents only: rclone answers EIO when it is asked for extended attributes.
    shutil.copytree(root / "dir", root / "tree", copy_function=shutil.copyfile)
    shutil.rmtree(root / "tree")
    return {"big": big, "dir/copy": big, "dir/sub/renamed": b"hello\nworld\n", "empty": b""}


def names(directory: Path) -> list[str]:
    """Names in a directory, sorted."""
    return sorted(path.name for path in directory.iterdir())
