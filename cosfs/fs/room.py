"""Room on the local disk for what is written, made where that is full.

What goes first is only a copy: blocks of the cache, and staged bytes that COS has. Then writers wait for
files that are closed and not sent yet. At last the open file with the most bytes here is sent as fsync()
would, and what it had here is read from COS from then on: so a file can be larger than the disk.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVarTuple

import trio

from cosfs.client.movement import Place
from cosfs.errors import COSError, NetworkError
from cosfs.fs.commit import Committer
from cosfs.fs.fetcher import Fetcher
from cosfs.fs.inodes import FileNode, InodeTable
from cosfs.fs.journal import Journal
from cosfs.fs.locks import Lock
from cosfs.fs.patience import Patience

__all__ = ["Room"]

log = logging.getLogger(__name__)

Args = TypeVarTuple("Args")

LOW = 256 * 1024 * 1024  # bytes of free disk at which it is time to send; of small disks LOW_SHARE
LOW_SHARE = 16
LOOK_EVERY = 16 * 1024 * 1024  # bytes written from one look at the disk to the next; of small disks less
WORTH = 16 * 1024 * 1024  # bytes; fewer of an open file are not sent for room
WORTH_SHARE = 64  # nor less than this part of it, as COS has to put together all of it each time


class Room:
    """Makes room below a directory. Everybody who writes shares it."""

    def __init__(
        self, table: InodeTable, committer: Committer, fetcher: Fetcher, journal: Journal, patience: Patience
    ) -> None:
        self._table = table
        self._committer = committer
        self._fetcher = fetcher
        self._journal = journal
        self._patience = patience
        self._lock = Lock()
        self._made = 0  # how often
        self._unseen = LOOK_EVERY  # bytes written since the disk was looked at
        self._look_every = LOOK_EVERY

    async def have(self, length: int, write: Callable[[*Args], Awaitable[None]], *args: *Args) -> None:
        """Run write(*args), which takes up to length bytes of the disk; if that is full, copies give way."""
        while True:
            try:
                await write(*args)
                return
            except (COSError, OSError) as exc:
                if exc.errno != errno.ENOSPC or not await self._remove_copies(length):
                    raise

    def is_short(self, length: int) -> bool:
        """Whether the disk is nearly full; it is looked at now and then, as length bytes more are written."""
        self._unseen += length
        if self._unseen < self._look_every:
            return False
        self._unseen = 0
        try:
            free, size = self._disk()
        except OSError:
            return False  # who writes is told
        low = min(LOW, size // LOW_SHARE)
        self._look_every = min(LOOK_EVERY, low // 4)
        return free < low

    def _disk(self) -> tuple[int, int]:
        """Bytes that are free, and all."""
        disk = os.statvfs(self._journal.staging)
        return disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize

    async def make(self, place: Place, length: int) -> bool:
        """Make room for who writes length bytes to place, and holds no locks; False if nothing helps.

        Waits for COS if it must. EINTR for a caller who is killed.
        """
        made = self._made
        try:
            await self._patience.acquire(self._lock, place)
        except NetworkError:
            return False  # another writer waits for it as well
        try:
            if made != self._made:
                return True  # others who asked at the same time got some for all
            is_made = await self._remove_copies(length) or await self._await_one() or await self._send_one()
            self._made += is_made
            return is_made
        finally:
            self._lock.release()

    async def _remove_copies(self, length: int) -> bool:
        """Remove from the disk what COS has as well; tells whether there was anything."""
        if self._journal.has_retired:
            await trio.to_thread.run_sync(self._journal.free_retired)
            return True
        return await self._fetcher.cache.give_way(length) or await self._let_go(self._table.files())

    async def _let_go(self, nodes: Iterable[FileNode]) -> bool:
        """Remove the staged bytes of files of which COS has all."""
        done = [node for node in nodes if _let_go_now(node)]
        if done:
            await trio.to_thread.run_sync(self._journal.free_retired)
        return bool(done)

    async def _await_one(self) -> bool:
        """Wait until one of the closed files is sent; False if there are none that COS is likely to take."""
        outbox = self._committer.outbox

        def waits(node: FileNode) -> bool:
            return node.dirty and not node.unlinked and not node.writers and outbox.is_hopeful(node)

        waiting = [node for node, _ in outbox.waiting if isinstance(node, FileNode) and waits(node)]

        async def one_left() -> None:
            while all(map(waits, waiting)):
                await outbox.progress()

        if waiting:
            try:
                await self._patience.wait([(node.bucket, node.key) for node in waiting], one_left)
            except NetworkError as exc:
                log.debug("nothing of what waits gets to COS: %s", exc)
        return any(node.unlinked or not node.dirty for node in waiting)

    async def _send_one(self) -> bool:
        """Send the open file that has the most bytes on the disk, and remove these; False if none helps."""
        node = max(self._table.files(), key=_worth, default=None)
        if node is None or _worth(node) <= self._disk()[0]:
            return False  # where others leave little room, that would be sent again and again
        try:
            await self._patience.patiently([(node.bucket, node.key)], self._committer.flush, node)
        except (COSError, OSError) as exc:
            if exc.errno == errno.EINTR:
                raise
            log.warning("the local disk is full, and %s cannot be sent as it is: %s", node.url, exc)
            return False
        log.info("the local disk is full: %s was sent as it is", node.url)
        return await self._let_go([node])


def _let_go_now(node: FileNode) -> bool:
    if node.content is None or node.unlinked or node.lock.locked():
        return False
    return node.content.let_go_sent()


def _worth(node: FileNode) -> int:
    """How many bytes of room are made by sending a file, 0 if that costs too much."""
    if node.content is None or node.unlinked or not node.dirty or not node.writers:
        return 0
    here = node.content.on_disk
    return here if here >= max(WORTH, node.size // WORTH_SHARE) else 0
