"""Trees of files that commands send and fetch."""

from __future__ import annotations

import os
from pathlib import Path

PAST = 1_600_000_000
FUTURE = 4_000_000_000


def write(root: Path, *names: str, text: str | None = None, mtime: float = PAST) -> None:
    """Write files below a directory; what is in them is their name, unless told otherwise."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name if text is None else text)
        os.utime(path, (mtime, mtime))


def tree(root: Path) -> dict[str, str]:
    """Return the files below a directory and what is in them."""
    return {
        str(path.relative_to(root)): path.read_text() for path in sorted(root.rglob("*")) if path.is_file()
    }


def files_below(root: Path) -> list[str]:
    """Return the paths of the files below a directory."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
