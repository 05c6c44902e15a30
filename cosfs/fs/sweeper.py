"""Keeping memory bounded by settings, not by how many objects somebody has walked past.

Two things grow with a walk: listings, which are dropped once nobody may believe them any more,
and nodes, which live as long as the kernel remembers them. The kernel has more memory than we
may use, so above a limit it is asked to forget the names that nothing depends on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import trio

from cosfs.fs.inodes import ROOT_INO, DirNode, Node
from cosfs.fs.tree import Tree

PERIOD = 10.0
BATCH = 20_000  # names the kernel is asked to forget in one period


class Sweeper:
    """Drops what is stale. evict(parent_ino, name) asks the kernel to forget a name; it may not wait."""

    def __init__(self, tree: Tree, evict: Callable[[int, bytes], None], *, max_nodes: int = 100_000) -> None:
        self._tree = tree
        self._evict = evict
        self._max_nodes = max_nodes

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            await trio.sleep(PERIOD)
            self.drop_listings()
            self.forget_nodes()

    def drop_listings(self) -> int:
        """Drop the listings that are too old to answer anything; returns how many."""
        now = trio.current_time()
        dropped = 0
        for node in self._tree.table.nodes.values():
            if not isinstance(node, DirNode) or node.listing is None or node.opens:
                continue
            age_limit = max(self._tree.settings.metadata_ttl, self._tree.settings.grace)
            if node.listing.started + age_limit < now and all(until < now for until in node.recent.values()):
                node.listing = None
                dropped += 1
        return dropped

    def forget_nodes(self) -> int:
        """Ask the kernel to forget names while there are more nodes than there may be."""
        excess = len(self._tree.table.nodes) - self._max_nodes
        asked = 0
        for node in self._idle():
            if asked >= min(excess, BATCH):
                break
            assert node.parent is not None
            self._evict(node.parent.ino, node.name)
            asked += 1
        return asked

    def _idle(self) -> Iterator[Node]:
        """Nodes that only the kernel keeps, in the order in which they came."""
        now = trio.current_time()
        for node in list(self._tree.table.nodes.values()):
            if node.ino != ROOT_INO and node.idle and not node.unlinked and node.expires < now:
                yield node
