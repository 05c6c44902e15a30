"""The place of bytes that could not be brought to COS: `recovered/` in the cache directory.

Each file keeps a readable name, and LIST.txt says of each what it was, when and why it is here.
Nothing of it is ever removed by us.
"""

from __future__ import annotations

import logging
import os
import re
import time
from pathlib import Path

from cosfs.fs.staging import Staging

log = logging.getLogger(__name__)

LIST = "LIST.txt"
_HEAD = (
    "# Changes that could not be brought to COS. One a line: when, which object, why, where its bytes are.\n"
)
_UNSAFE = re.compile(r"[^\w.+=@-]+")


class Salvage:
    """Keeps bytes and tells of them, in the log and in the list."""

    def __init__(self, cache_dir: Path) -> None:
        self.directory = cache_dir / "recovered"

    @property
    def count(self) -> int:
        """How many files are kept here."""
        try:
            return sum(entry.name != LIST for entry in os.scandir(self.directory))
        except FileNotFoundError:
            return 0

    def keep(self, bucket: str, key: str, why: str, content: Staging) -> Path | None:
        """Take over the local bytes of a file; returns where they are, None if there were none."""
        source = content.path
        if source is None or not source.exists():
            content.close(keep=True)
            self.note(bucket, key, f"{why}; no bytes of it were left here")
            return None
        target = self._free_name(key)
        if content.base_limit and not content.valid.covers(0, min(content.base_limit, content.size)):
            ranges = ", ".join(f"{start}-{stop - 1}" for start, stop in content.changed)
            base = content.base
            rest = f"the object with the etag {base.etag}" if base is not None else "COS"
            why += f"; only the bytes {ranges or 'none'} were written here, the others are those of {rest}"
        if source.stat().st_size < content.size or source.stat().st_size > content.size:
            os.truncate(source, content.size)
        self.note(bucket, key, why, target)
        content.close(keep=True)
        source.rename(target)
        _force(target)  # the next mount removes what no record names, and power may be lost before
        _force(self.directory)
        return target

    def note(self, bucket: str, key: str, why: str, path: Path | None = None) -> None:
        """Write a line into the list."""
        self.directory.mkdir(mode=0o700, exist_ok=True)
        place = path.name if path is not None else "-"
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = "\t".join(_one_line(part) for part in (stamp, f"cos://{bucket}/{key}", why, place))
        with (self.directory / LIST).open("a", encoding="utf-8", errors="backslashreplace") as file:
            if not file.tell():
                file.write(_HEAD)
            file.write(f"{line}\n")
            file.flush()
            os.fsync(file.fileno())
        where = f"; its bytes are in {path}" if path is not None else ""
        log.error("cos://%s/%s: %s%s", bucket, key, why, where)

    def _free_name(self, key: str) -> Path:
        self.directory.mkdir(mode=0o700, exist_ok=True)
        name = _UNSAFE.sub("_", key.rpartition("/")[2])[-80:] or "file"
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        path = self.directory / f"{stamp}-{name}"
        number = 1
        while path.exists():
            number += 1
            path = self.directory / f"{stamp}-{number}-{name}"
        return path


def _force(path: Path) -> None:
    """Have a file, or the names in a directory, on disk."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
