"""Blocks in memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

from cosfs.fs.buffers import Block

__all__ = ["ENTRY_COST", "BlockKey", "BlockMemory"]

ENTRY_COST = 700  # bytes; what one block takes in memory besides its own (measured)


class BlockKey(NamedTuple):
    """A block of one state of one object."""

    bucket: str
    key: str
    etag: str
    block_no: int


class BlockMemory:
    """Blocks in memory, the least recently used first, at most limit bytes with overhead."""

    __slots__ = ("_blocks", "_objects", "limit", "total")

    def __init__(self, limit: int) -> None:
        self.total = 0
        self.limit = limit
        self._blocks: OrderedDict[BlockKey, Block] = OrderedDict()
        self._objects: dict[tuple[str, str], set[BlockKey]] = {}

    def get(self, key: BlockKey) -> Block | None:
        data = self._blocks.get(key)
        if data is not None:
            self._blocks.move_to_end(key)
        return data

    def peek(self, key: BlockKey) -> Block | None:
        return self._blocks.get(key)

    def put(self, key: BlockKey, data: Block) -> None:
        self.remove(key)
        if len(data) + ENTRY_COST > self.limit:
            return
        self._blocks[key] = data
        self._objects.setdefault(key[:2], set()).add(key)
        self.total += len(data) + ENTRY_COST
        while self.total > self.limit:
            self.remove(next(iter(self._blocks)))

    def remove_object(self, bucket: str, key: str) -> None:
        for block in self._objects.pop((bucket, key), ()):
            self.total -= len(self._blocks.pop(block)) + ENTRY_COST

    def items(self) -> Iterable[tuple[BlockKey, Block]]:
        return self._blocks.items()

    def __len__(self) -> int:
        return len(self._blocks)

    def remove(self, key: BlockKey) -> None:
        data = self._blocks.pop(key, None)
        if data is None:
            return
        self.total -= len(data) + ENTRY_COST
        blocks = self._objects[key[:2]]
        blocks.discard(key)
        if not blocks:
            del self._objects[key[:2]]
