"""What is to be sent without anybody waiting for it: when, and when again.

Knows times and tries, not how anything is sent: that is for commit.py.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

import trio

from cosfs.errors import COSError, FilesystemError, NotFoundError, UnreachableError
from cosfs.fs.background import together
from cosfs.fs.inodes import DirNode, FileNode

log = logging.getLogger(__name__)

RETRY_DELAYS = (2.0, 5.0, 15.0, 30.0, 60.0)
REFUSED_DELAY = 300.0  # what COS refuses is tried again for ever as well, but rarely
PARALLEL = 16
PARALLEL_SMALL = 64  # of those that are sent in one small request
SMALL = 64 * 1024  # bytes
ROUNDING = 0.01  # seconds; what is due within them is looked for in one go

Changed = FileNode | DirNode


@dataclass(slots=True)
class Due:
    """When a file or directory is to be sent."""

    node: Changed
    at: float
    since: float  # it has been waiting
    tries: int = 0
    cause: COSError | None = None  # why the last try failed


def is_due(node: Changed) -> bool:
    """Whether a node is to be sent though nobody waits for it."""
    if isinstance(node, DirNode):
        return node.attrs_dirty and not node.unlinked
    # A file that is being written is sent when it is closed.
    return node.changed and not node.unlinked and not (node.dirty and node.writers)


def _is_unpromised(node: Changed) -> bool:
    """Whether a file is just being written, and nobody was promised any of what is not in COS."""
    if not isinstance(node, FileNode) or node.content is None:
        return False
    return bool(node.dirty and node.writers and not node.content.promised)


class Outbox:
    """Sends what is due, with send, until it works; settled is told of each node that was sent."""

    def __init__(
        self,
        send: Callable[[Changed], Awaitable[None]],
        settled: Callable[[Changed], None],
        longest: float = REFUSED_DELAY,
    ) -> None:
        self._send = send
        self._settled = settled
        self._longest = longest  # seconds between two tries
        self._due: dict[int, Due] = {}
        self._wake = trio.Event()
        self._progress = trio.Event()  # the next time that something leaves
        self._limit = trio.CapacityLimiter(PARALLEL)
        self._small = trio.CapacityLimiter(PARALLEL_SMALL)
        self._next = 0.0  # when the due ones are looked at without being woken

    def schedule(self, node: Changed, delay: float) -> None:
        """Send a node after some seconds, or earlier if it is due earlier."""
        due = self._due.get(node.ino)
        if due is None:
            now = trio.current_time()
            due = self._due[node.ino] = Due(node, now + delay, now)
        if due.at < self._next:
            self._wake.set()

    def sent(self, node: Changed) -> None:
        """Somebody has sent a node himself."""
        if not is_due(node):
            self._due.pop(node.ino, None)
            self._note_progress()

    def forget(self, node: Changed) -> None:
        self._due.pop(node.ino, None)
        self._note_progress()

    def trouble(self, node: Changed) -> Due | None:
        """How it goes with a node that is to be sent."""
        return self._due.get(node.ino)

    def is_hopeful(self, node: Changed) -> bool:
        """Whether a node is to be sent and no try has failed yet."""
        due = self._due.get(node.ino)
        return due is not None and due.cause is None

    @property
    def waiting(self) -> list[tuple[Changed, float]]:
        """What waits to be sent, and since when."""
        return [(due.node, due.since) for due in self._due.values()]

    def hurry(self) -> None:
        """Send everything that waits now: what was in the way is gone."""
        now = trio.current_time()
        for due in self._due.values():
            due.at = min(due.at, now)
        self._wake.set()

    async def progress(self) -> None:
        """Wait until anything was sent, or given up."""
        await self._progress.wait()

    def _note_progress(self) -> None:
        self._progress.set()
        self._progress = trio.Event()

    async def run(self) -> None:
        """Send what is due until cancelled."""
        async with trio.open_nursery() as nursery:
            running: set[int] = set()
            while True:
                now = trio.current_time()
                waits = []
                for ino, due in list(self._due.items()):
                    if ino in running:
                        continue
                    if due.at <= now:
                        running.add(ino)
                        nursery.start_soon(self._send_due, due, running)
                    else:
                        waits.append(due.at - now)
                pause = min(waits, default=60.0) + ROUNDING
                self._next = now + pause
                with trio.move_on_after(pause):
                    await self._wake.wait()
                self._wake = trio.Event()

    async def _send_due(self, due: Due, running: set[int]) -> None:
        node = due.node
        if _is_unpromised(node):
            # It was due for its attributes: they go with the bytes when it is closed.
            running.discard(node.ino)
            self._due.pop(node.ino, None)
            self._note_progress()
            return
        try:
            is_small = isinstance(node, DirNode) or node.size <= SMALL
            async with self._small if is_small else self._limit:
                await self._send(node)
            if self._due.get(node.ino) is due and not is_due(node):
                del self._due[node.ino]
            if not node.unlinked:
                self._settled(node)
        except COSError as exc:
            self._failed(due, exc)
        except OSError as exc:
            self._failed(due, FilesystemError(exc.errno or errno.EIO, str(exc)))
        except Exception as exc:
            log.exception("sending %s", node.url)
            self._failed(due, FilesystemError(errno.EIO, str(exc)))
        finally:
            running.discard(node.ino)
            if node.ino in self._due:
                self._wake.set()
            self._wake.set()
            self._note_progress()

    def _failed(self, due: Due, exc: COSError) -> None:
        delay = self._delay(due.tries, exc)
        due.tries += 1
        due.cause = exc
        due.at = trio.current_time() + delay
        node = due.node
        if isinstance(node, FileNode):
            node.error = exc if node.opens else None  # told at the next close or fsync
            if not node.changed:
                self._due.pop(node.ino, None)  # a conflict was resolved by keeping both
                return
            if isinstance(exc, NotFoundError) and not node.dirty:
                log.error("the attributes of %s cannot be changed: %s", node.url, exc)
                node.attrs_dirty = False
                self._due.pop(node.ino, None)
                self._settled(node)
                return
        self._due[node.ino] = due
        level = logging.WARNING if exc.may_pass else logging.ERROR
        if isinstance(exc, UnreachableError):
            level = logging.DEBUG  # that has been told once for all
        bytes_wait = isinstance(node, FileNode) and node.dirty
        what = f"{node.url} is" if bytes_wait else f"the attributes of {node.url} are"
        log.log(level, "%s not in COS yet, next try in %.0f s: %s", what, delay, exc)

    def _note_failure(self, node: Changed, exc: COSError | OSError) -> None:
        self.schedule(node, RETRY_DELAYS[0])
        due = self._due[node.ino]
        due.tries += 1
        due.cause = exc if isinstance(exc, COSError) else FilesystemError(exc.errno or errno.EIO, str(exc))

    def _delay(self, tries: int, exc: COSError) -> float:
        delay = RETRY_DELAYS[min(tries, len(RETRY_DELAYS) - 1)]
        if tries >= len(RETRY_DELAYS) and not exc.may_pass:
            delay = REFUSED_DELAY
        return min(delay, self._longest)

    async def drain(self, changed: Callable[[], Iterable[Changed]]) -> None:
        """Send everything now; returns when all that is left has failed once more, or is being written."""
        tried: set[int] = set()

        async def one(node: Changed) -> None:
            try:
                async with self._limit:
                    await self._send(node)
                if isinstance(node, FileNode) and node.changed and not is_due(node):
                    tried.add(node.ino)  # what is still written to it goes when it is closed
            except (COSError, OSError) as exc:
                tried.add(node.ino)
                self._note_failure(node, exc)
                if isinstance(node, FileNode) and isinstance(exc, COSError):
                    node.error = exc if node.opens else None
                log.error("%s could not be sent: %s", node.url, exc)

        while nodes := [n for n in changed() if n.ino not in tried]:
            async with together() as nursery:
                for node in nodes:
                    nursery.start_soon(one, node)
