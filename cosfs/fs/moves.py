"""Changes below a directory, and moving all of it: one waits for the other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from cosfs.fs.inodes import DirNode, Node

__all__ = ["Moves", "is_inside"]


class Moves:
    """Keeps changes out of a directory while it is copied to another name.

    Whoever writes keys below a directory, or the key of a file, does it inside change(); move() waits for
    those who are at it and holds up newcomers. Inside change() nobody waits for another change().
    """

    def __init__(self) -> None:
        self._moving: dict[DirNode, trio.Event] = {}
        self._changing: dict[Node, int] = {}  # by how many
        self._left = trio.Event()

    @property
    def any(self) -> bool:
        """Whether any directory is being moved."""
        return bool(self._moving)

    def change(self, *nodes: Node) -> _Change:
        """Write keys in some directories, or of files; waits while one of them is being moved.

        A file is what it is about also if it gets into another directory meanwhile.
        """
        return _Change(self, nodes)

    async def enter(self, nodes: tuple[Node, ...]) -> None:
        """Begin a change."""
        while (over := self._in_the_way(nodes)) is not None:
            await over.wait()
        for node in nodes:
            self._changing[node] = self._changing.get(node, 0) + 1

    def leave(self, nodes: tuple[Node, ...]) -> None:
        """End a change."""
        for node in nodes:
            self._changing[node] -= 1
            if not self._changing[node]:
                del self._changing[node]
        if self._moving:
            self._left.set()
            self._left = trio.Event()

    @asynccontextmanager
    async def move(self, node: DirNode) -> AsyncIterator[None]:
        """Copy what is below a directory; nobody changes it meanwhile."""
        self._moving[node] = over = trio.Event()
        try:
            while any(is_inside(changing, node) for changing in self._changing):
                await self._left.wait()
            yield
        finally:
            del self._moving[node]
            over.set()

    def _in_the_way(self, nodes: tuple[Node, ...]) -> trio.Event | None:
        for moving, over in self._moving.items():
            if any(is_inside(node, moving) for node in nodes):
                return over
        return None


class _Change:
    """Around one change; a class because every file that is sent or removed is one."""

    __slots__ = ("_moves", "_nodes")

    def __init__(self, moves: Moves, nodes: tuple[Node, ...]) -> None:
        self._moves = moves
        self._nodes = nodes

    async def __aenter__(self) -> None:
        await self._moves.enter(self._nodes)

    async def __aexit__(self, *_: object) -> None:
        self._moves.leave(self._nodes)


def is_inside(node: Node | None, directory: DirNode) -> bool:
    """Whether node is a directory or below it."""
    while node is not None:
        if node is directory:
            return True
        node = node.parent
    return False
