"""Changes below a directory, and moving all of it: one waits for the other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from cosfs.fs.inodes import DirNode

__all__ = ["Moves", "is_inside"]


class Moves:
    """Keeps changes out of a directory while it is copied to another name.

    Whoever writes keys below a directory does it inside change(); move() waits for those who are
    at it and holds up newcomers. Inside change() nobody waits for another change().
    """

    def __init__(self) -> None:
        self._moving: dict[DirNode, trio.Event] = {}
        self._changing: dict[DirNode, int] = {}  # by how many
        self._left = trio.Event()

    @property
    def any(self) -> bool:
        """Whether any directory is being moved."""
        return bool(self._moving)

    def change(self, *directories: DirNode) -> _Change:
        """Write keys in some directories; waits while one of them is being moved."""
        return _Change(self, directories)

    async def enter(self, directories: tuple[DirNode, ...]) -> None:
        """Begin a change."""
        while (over := self._in_the_way(directories)) is not None:
            await over.wait()
        for directory in directories:
            self._changing[directory] = self._changing.get(directory, 0) + 1

    def leave(self, directories: tuple[DirNode, ...]) -> None:
        """End a change."""
        for directory in directories:
            self._changing[directory] -= 1
            if not self._changing[directory]:
                del self._changing[directory]
        if self._moving:
            self._left.set()
            self._left = trio.Event()

    @asynccontextmanager
    async def move(self, node: DirNode) -> AsyncIterator[None]:
        """Copy what is below a directory; nobody changes it meanwhile."""
        self._moving[node] = over = trio.Event()
        try:
            while any(is_inside(directory, node) for directory in self._changing):
                await self._left.wait()
            yield
        finally:
            del self._moving[node]
            over.set()

    def _in_the_way(self, directories: tuple[DirNode, ...]) -> trio.Event | None:
        for node, over in self._moving.items():
            if any(is_inside(directory, node) for directory in directories):
                return over
        return None


class _Change:
    """Around one change; a class because every file that is sent or removed is one."""

    __slots__ = ("_directories", "_moves")

    def __init__(self, moves: Moves, directories: tuple[DirNode, ...]) -> None:
        self._moves = moves
        self._directories = directories

    async def __aenter__(self) -> None:
        await self._moves.enter(self._directories)

    async def __aexit__(self, *_: object) -> None:
        self._moves.leave(self._directories)


def is_inside(node: DirNode | None, directory: DirNode) -> bool:
    """Whether node is a directory or below it."""
    while node is not None:
        if node is directory:
            return True
        node = node.parent
    return False
