"""How much of a filesystem the cache leaves to everybody else."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from cosfs.errors import UsageError
from cosfs.units import parse_size

__all__ = ["DEFAULT_RESERVE", "Reserve"]

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Reserve:
    """Space that stays free: size bytes or, with size None, a share of the filesystem.

    Without either 5 % stay free, at least 512 MiB; of small filesystems not over 10 %, of large ones 10 GiB.
    """

    size: int | None = None
    share: float | None = None

    def __str__(self) -> str:
        if self.size is not None:
            return str(self.size)
        return "default" if self.share is None else f"{self.share:.0%}"

    @classmethod
    def parse(cls, text: str) -> Reserve:
        """Read "2GB" or "10%"."""
        number = text.strip().removesuffix("%").strip()
        if number == text.strip():
            try:
                return cls(size=parse_size(text))
            except ValueError as error:
                raise UsageError(str(error)) from None
        try:
            share = float(number) / 100
        except ValueError:
            share = -1.0
        if not 0 <= share < 1:
            raise UsageError(f"{text!r} is no share of a filesystem", hint="Write a size or 0% to 99%")
        return cls(share=share)

    def of(self, total: int) -> int:
        """Bytes to leave free of a filesystem of total bytes."""
        if self.size is not None:
            return self.size
        if self.share is not None:
            return int(total * self.share)
        return min(max(total // 20, 512 * _MIB), total // 10, 10240 * _MIB)

    def spare(self, directory: str | Path) -> int:
        """Bytes that may still be written below a directory; negative if too many are taken already."""
        status = os.statvfs(directory)
        return status.f_bavail * status.f_frsize - self.of(status.f_blocks * status.f_frsize)


DEFAULT_RESERVE = Reserve()
