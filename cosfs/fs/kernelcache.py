"""What the kernel remembers, and how it is told that this is no longer so."""

from __future__ import annotations

from typing import Protocol


class KernelCache(Protocol):
    """Names, attributes and pages in the kernel. Methods may be called anywhere and do not wait."""

    def forget_name(self, parent: int, name: bytes) -> None:
        """Have a name looked up again, be it there or absent."""

    def forget_inode(self, ino: int) -> None:
        """Have the attributes asked for and the pages read again."""


class NoKernel:
    """Nobody remembers anything."""

    def forget_name(self, parent: int, name: bytes) -> None:
        pass

    def forget_inode(self, ino: int) -> None:
        pass
