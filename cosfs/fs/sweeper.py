"""Keeping memory bounded by settings, not by how many objects somebody has walked past.

Two things grow with a walk: listings, which are dropped once nobody may believe them any more,
and nodes, which live as long as the kernel remembers them. The kernel has more memory than we
may use, so above a limit it is asked to forget the names that nothing depends on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from operator import itemgetter

import trio

from cosfs.fs import facts
from cosfs.fs.inodes import ROOT_INO, DirNode, Ino, Node
from cosfs.fs.tree import Tree

PERIOD = 10.0
PAUSE = 0.2  # seconds in which the kernel may answer by forgetting
NODES_MAX = 64_000  # names the kernel may remember, some 1,000 bytes each here
ENTRIES_MAX = 100_000  # names of all listings together, some 550 bytes each
STALE_MAX = 50_000  # the same where some are too old: they are of use while COS cannot be reached
SLACK = 0.1  # of the limit is asked to be forgotten beyond the excess


class Sweeper:
    """Drops what is stale. evict(parent_ino, name) asks the kernel to forget a name; it may not wait."""

    def __init__(
        self, tree: Tree, evict: Callable[[int, bytes], None], *, max_nodes: int = NODES_MAX
    ) -> None:
        self._tree = tree
        self._evict = evict
        self._max_nodes = max_nodes
        self._asked: set[Ino] = set()  # of these the kernel was asked to forget the name
        self._asked_since = 0.0

    async def run(self) -> None:
        """Sweep until cancelled."""
        table = self._tree.table
        table.limit = self._max_nodes
        while True:
            with trio.move_on_after(PERIOD):
                await table.excess.wait()
            table.excess = trio.Event()
            self.drop_listings()
            if self.forget_nodes():
                await trio.sleep(PAUSE)

    def drop_listings(self) -> int:
        """Drop the oldest of too many listings, earlier where they are stale; returns how many."""
        now = trio.current_time()
        age_limit = max(self._tree.settings.metadata_ttl, self._tree.settings.grace)
        found: list[tuple[float, DirNode, int]] = []
        for node in self._tree.table.nodes.values():
            if not isinstance(node, DirNode) or node.listing is None or node.opens:
                continue
            if all(until < now for until in node.recent.values()):
                found.append((node.listing.started, node, len(node.listing.entries) + 1))
        entries = sum(count for _, _, count in found)
        dropped = 0
        for started, node, count in sorted(found, key=itemgetter(0)):
            if entries <= (STALE_MAX if started + age_limit < now else ENTRIES_MAX):
                break
            node.listing, node.listed = None, False
            dropped += 1
            entries -= count
        return dropped

    def forget_nodes(self) -> int:
        """Ask the kernel to forget names while there are more nodes than there may be."""
        nodes = self._tree.table.nodes
        self._asked &= nodes.keys()
        excess = len(nodes) - len(self._asked) - self._max_nodes
        if excess <= 0:
            return 0
        now = trio.current_time()
        if self._asked_since + PERIOD < now:
            self._asked, self._asked_since = set(), now  # whoever had a use for it then may have none now
        wanted = excess + int(self._max_nodes * SLACK)
        asked = list(islice(self._idle(), wanted))
        self._asked.update(node.ino for node in asked)
        for node in asked:
            assert node.parent is not None
            self._evict(node.parent.ino, node.name)
        return len(asked)

    def _idle(self) -> Iterator[Node]:
        """Nodes that only the kernel keeps, in the order in which they came: files, then directories.

        Somebody may have made a directory his own, which nothing tells us and forgetting its name disturbs.
        """
        for wants_directories in (False, True):
            for node in self._tree.table.nodes.values():
                if (
                    node.is_dir is wants_directories
                    and node.ino != ROOT_INO
                    and node.ino not in self._asked
                    and node.idle
                    and not node.unlinked
                    and not facts.local(node)
                ):
                    yield node
