"""The block cache: clean blocks that can be fetched again, in memory and on disk.

A block is known by bucket, key, etag and number, so a changed object misses by itself. Trouble with
the disk is a warning and then a miss, never an error for the reader.

The disk part is shared by all mounts of a user, whatever they mount: a block is also known by the service
it came from (realm), and each change is a transaction of the index.

Who runs where: everything public is called in the trio thread. Looking a block up costs 5-10 us
there (SQLite in WAL mode never waits for the writer), reading one that is still in the kernel's page
cache 0.4 ms a MiB, in a worker thread 0.6; what is not is read in worker threads. Writing, evicting
and dropping are gathered into batches, each one transaction in one worker thread at a time.

On disk, below the cache directory:

    lock        held, shared, by every process that uses the directory
    clean       there when the last user closed the cache: no file without an entry
    cache.db    diskcache's index of the blocks
    00/ f0/     one file a block, each with a header that names and sums it
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import trio

from cosfs.fs.blockfile import DamagedBlock, read_block, read_part
from cosfs.fs.blockmemory import ENTRY_COST, BlockKey, BlockMemory
from cosfs.fs.blockstore import STORE_ERRORS, BlockStore, NewBlock, is_corruption
from cosfs.fs.buffers import Block, Buffers
from cosfs.fs.reserve import DEFAULT_RESERVE, Reserve

__all__ = ["BlockCache", "BlockKey", "BlockStats", "object_tag"]

log = logging.getLogger(__name__)

MIB = 1 << 20
QUEUE_LIMIT = 32 * MIB  # bytes waiting to be written; what comes on top is not kept on disk
GATHER_SECONDS = 0.5  # small blocks share a transaction, and the opening of the index
ENOUGH = 4 * MIB  # so many bytes are written without gathering more
OFF_SECONDS = 60.0  # how long the disk is left alone after OFF_FAILURES failures in a row
OFF_FAILURES = 3
NOTES_LIMIT = 10_000  # objects to drop or hits to note for the next batch; more are forgotten
GIVE_WAY_MIN = 64 * MIB  # a writer who found the disk full will want more
FAST = 400 * MIB  # bytes a second; of what arrives faster the disk would have a part at best
TRIM_SECONDS = 30.0  # how often to look whether others have filled the filesystem


@dataclass(slots=True)
class BlockStats:
    """Counters since the start. Memory hits are of gets and get_hots, disk hits of gets."""

    hits_memory: int = 0
    hits_disk: int = 0
    misses: int = 0
    dropped: int = 0  # blocks not written to disk: queue full, disk full or switched off
    damaged: int = 0  # blocks whose bytes on disk were not what was written
    errors: int = 0  # operations on the disk that failed


@dataclass(slots=True)
class _Batch:
    """Work for the disk, in the order in which it is done."""

    forget: set[bytes] = field(default_factory=set)  # tags of dropped objects
    damaged: set[bytes] = field(default_factory=set)  # digests
    touched: set[bytes] = field(default_factory=set)  # digests
    blocks: BlockMemory = field(default_factory=lambda: BlockMemory(QUEUE_LIMIT))

    def __bool__(self) -> bool:
        return bool(self.forget or self.damaged or len(self.blocks))


class BlockCache:
    """Blocks of at most block_size bytes: memory_limit bytes in memory, size_limit on disk.

    directory is for blocks alone. size_limit 0 means memory only. realm says which service the blocks
    come from. run() has to run for blocks to reach the disk; close() writes what still waits.
    """

    def __init__(
        self,
        directory: Path,
        *,
        size_limit: int,
        block_size: int,
        memory_limit: int = 32 * MIB,
        reserve: Reserve = DEFAULT_RESERVE,
        realm: str = "",
    ) -> None:
        self.directory = directory
        self.size_limit = size_limit
        self.block_size = block_size
        self.reserve = reserve
        self.stats = BlockStats()
        self.buffers = Buffers(block_size)
        self._realm = realm
        self._hot = BlockMemory(memory_limit)
        self._queue_limit = min(QUEUE_LIMIT, size_limit // 4)
        self._queued = _Batch()
        self._writing = _Batch()
        self._wake = trio.Event()
        self._enough = trio.Event()  # set when there is no use in gathering more
        self._written = trio.Event()  # set after each batch
        self._expected = 0  # who waits for the disk
        self._arrived = 0  # bytes put since the last batch began, dropped ones as well
        self._parted: dict[BlockKey, None] = {}  # what a part was read of last
        self._readers = trio.CapacityLimiter(4)
        self._writer = trio.CapacityLimiter(1)
        self._store: BlockStore | None = None
        self._lock_fd = -1
        self._failures = 0
        self._off_until = 0.0
        self._is_corrupt = False
        self._is_swept = False  # no block files without an entry
        self._trimmed = 0.0
        self._given = 0  # how often give_way made room
        self._is_closed = False
        if size_limit > 0:
            self._attach()

    def get_hot(self, key: BlockKey) -> Block | None:
        """Return a block if it is in memory; takes about a microsecond."""
        data = self._hot.get(key)
        if data is None:
            data = self._queued.blocks.peek(key)
            if data is None:
                data = self._writing.blocks.peek(key)
                if data is None:
                    return None
        self.stats.hits_memory += 1
        return data

    def is_hot(self, key: BlockKey) -> bool:
        """Whether a block is in memory; neither a hit nor a use."""
        return self._hot.peek(key) is not None

    def has_in_memory(self, key: BlockKey) -> bool:
        """Whether get_hot() would return a block."""
        return self._hot.peek(key) is not None or self._waits(key)

    def _waits(self, key: BlockKey) -> bool:
        return self._queued.blocks.peek(key) is not None or self._writing.blocks.peek(key) is not None

    def done_with(self, key: BlockKey) -> None:
        """A sequential reader has passed this block: the kernel has its pages, and the disk may have it."""
        self._hot.remove(key)

    def leave_to_disk(self, key: BlockKey) -> None:
        """Nobody is known to want more of a block: once it is on disk it need not be in memory."""
        if self._waits(key):
            self._hot.remove(key)

    async def get(self, key: BlockKey, length: int | None = None) -> Block | None:
        """Return a block from memory or disk, None if it is in neither, or on disk with another length."""
        data = self.get_hot(key)
        if data is not None:
            return data
        data = await self._get_from_disk(key, length)
        if data is None:
            self.stats.misses += 1
            return None
        self.stats.hits_disk += 1
        self._failures = 0
        self._hot.put(key, data)
        return data

    def put(self, key: BlockKey, data: Block, *, used: bool = True) -> None:
        """Remember a block; it reaches the disk later, if the disk keeps up.

        What nobody has used yet is in memory until then and no longer: it shall not push out what is used.
        """
        if used:
            self._hot.put(key, data)
        if self.size_limit <= 0 or self._is_closed:
            return
        self._arrived += len(data)
        if not self._has_room(len(data)) or self._is_off():
            self.stats.dropped += 1
            return
        self._queued.blocks.put(key, data)
        self._wake.set()
        if self._queued.blocks.total >= ENOUGH:
            self._enough.set()

    def _has_room(self, length: int) -> bool:
        waiting = self._queued.blocks.total + self._writing.blocks.total
        return waiting + length + ENTRY_COST <= self._queue_limit

    async def room(self, length: int) -> bool:
        """Wait until length bytes can be put without being dropped; False if the disk takes none."""
        with self.filling():
            while self.size_limit > 0 and not self._is_closed and not self._is_off():
                if self._has_room(length):
                    return True
                if length + ENTRY_COST > self._queue_limit:
                    break
                await self._written.wait()
            return False

    @contextmanager
    def filling(self) -> Iterator[None]:
        """Inside, blocks are brought for the disk's sake: it is not spared."""
        self._expected += 1
        try:
            yield
        finally:
            self._expected -= 1

    async def room_for_more(self) -> bool:
        """Wait until there is room for what nobody waits for, and some is left; False as of room()."""
        return await self.room(self._queue_limit // 4)

    async def give_way(self, length: int) -> bool:
        """Leave a full filesystem length bytes and some more to who asks; False if there is nothing."""
        given = self._given
        if self._store is None or self._is_closed or self._is_off():
            return False
        await trio.to_thread.run_sync(self._give_way, length, given, limiter=self._writer)
        return self._given != given

    def _give_way(self, length: int, given: int) -> None:
        """Runs in a worker thread, as the only one that writes."""
        store = self._store
        if store is None or self._is_closed or self._given != given:
            return  # others who asked at the same time got enough for all
        try:
            if store.shrink(max(length, GIVE_WAY_MIN)):
                self._given += 1
        except STORE_ERRORS as error:
            self._note_failure("cannot be written", error)
        finally:
            store.close()

    def drop(self, bucket: str, key: str) -> None:
        """Forget all blocks of an object, whatever their etag."""
        self._hot.remove_object(bucket, key)
        self._queued.blocks.remove_object(bucket, key)
        # Blocks being written just now are dropped by the next batch. What does not fit in the
        # notes is only space lost until it is evicted: no other object has these keys.
        if self.size_limit > 0 and len(self._queued.forget) < NOTES_LIMIT:
            self._queued.forget.add(object_tag(bucket, key))
            self._wake.set()

    def volume(self) -> int:
        """How many bytes the cache takes on disk, 0 if that is not known."""
        if self._store is None:
            return 0
        try:
            return self._store.volume()
        except STORE_ERRORS:
            return 0

    def free(self) -> int:
        """How many bytes the disk part takes without letting go of others."""
        if self._store is None or self._is_off():
            return 0
        try:
            return min(self.size_limit - self._store.volume(), self.reserve.spare(self.directory))
        except STORE_ERRORS:
            return 0

    def has_on_disk(self, key: BlockKey) -> bool:
        """Whether a block is on disk or about to be; its bytes are not looked at."""
        return not self.missing([key])

    def missing(self, keys: Iterable[BlockKey]) -> list[BlockKey]:
        """Those of some blocks (a few hundred at most) that has_on_disk() is not true of."""
        wanted = {self._digest(key): key for key in keys if not self._waits(key)}
        if not wanted or self._store is None or self._is_off() or self._is_corrupt:
            return list(wanted.values())
        try:
            found = self._store.find_all(list(wanted))
            return [key for digest, key in wanted.items() if not _exists(found.get(digest, ""))]
        except STORE_ERRORS as error:
            self._note_failure("cannot be read", error)
            return list(wanted.values())

    async def run(self) -> None:
        """Write, evict and drop in the background until cancelled."""
        before = _now()
        while True:
            if self._store is not None and not self._is_swept:
                await trio.to_thread.run_sync(self._sweep, self._store, limiter=self._writer)
            with trio.move_on_after(TRIM_SECONDS) as waiting:
                await self._wake.wait()
                with trio.move_on_after(GATHER_SECONDS):
                    await self._enough.wait()
            if waiting.cancelled_caught:
                self.buffers.trim()
            arrived, self._arrived = self._arrived, 0
            before, since = _now(), before
            used = await self._write_queued()
            if not self._expected:
                await trio.sleep(_pause(used, arrived, before - since))

    def close(self) -> None:
        """Write what waits, close everything. run() must have ended."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._store is not None and not self._is_off():
            self._write(self._take())
        if self._store is not None:
            self._store.close()
            if self._is_swept and not self._failures and self._is_alone():
                _make_file(self.directory / "clean")
            self._store = None
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def _attach(self) -> None:
        """Open the disk part."""
        try:
            self._open()
        except STORE_ERRORS as error:
            self._note_failure("cannot be opened", error)
            self._off_until = _now() + OFF_SECONDS

    def _open(self) -> None:
        """Open the store, with a new index if the old one is damaged."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._lock_fd < 0:
            self._lock_fd = _lock(self.directory)
        clean = self.directory / "clean"
        index = self.directory / "cache.db"
        has_index = index.exists() and index.stat().st_size > 0
        self._is_swept = (clean.exists() and has_index) or not any(self.directory.glob("??"))
        clean.unlink(missing_ok=True)
        try:
            self._store = BlockStore(self.directory)
        except sqlite3.DatabaseError as error:
            if not is_corruption(error):
                raise
            self._reset(error)

    def _is_alone(self) -> bool:
        """Whether no other process uses the directory; nobody else's files may be taken for lost ones."""
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def _reset(self, error: Exception | None = None) -> None:
        """Make the index anew; the sweep gives it the blocks that are there."""
        log.warning("the index of the block cache in %s is damaged and made anew: %s", self.directory, error)
        self._is_corrupt = False
        if self._store is not None:
            self._store.close()
        BlockStore.replace_index(self.directory, self._store)
        self._is_swept = False
        self._store = BlockStore(self.directory)

    def _is_off(self) -> bool:
        return _now() < self._off_until

    def _note_failure(self, what: str, error: BaseException) -> None:
        self.stats.errors += 1
        self._failures += 1
        if is_corruption(error):
            self._is_corrupt = True
        if self._failures >= OFF_FAILURES:
            self._off_until = _now() + OFF_SECONDS
        if _is_round(self.stats.errors):
            log.warning(
                "the block cache in %s %s: %s (%d times)", self.directory, what, error, self.stats.errors
            )

    async def get_part(self, key: BlockKey, start: int, stop: int, length: int) -> Block | None:
        """Return [start, stop) of a block of that length from disk; None if that is not to be had alone.

        That is much less to read than the block. Who reads it again had better have it in memory: get().
        """
        if key in self._parted:
            return None
        self._parted[key] = None
        if len(self._parted) > self._hot.limit // self.block_size:
            del self._parted[next(iter(self._parted))]
        data = await self._read_from_disk(key, partial(read_part, start=start, stop=stop, length=length))
        if data is not None:
            self.stats.hits_disk += 1
            self._failures = 0
        return data

    async def _get_from_disk(self, key: BlockKey, length: int | None) -> Block | None:
        def read(path: str, digest: bytes, *, nowait: bool = False) -> Block | None:
            data = read_block(path, digest, self.buffers, nowait)
            if data is not None and length not in (None, len(data)):
                raise DamagedBlock
            return data

        return await self._read_from_disk(key, read)

    async def _read_from_disk(self, key: BlockKey, read: Callable[..., Block | None]) -> Block | None:
        """Call read(path, digest, nowait=True) here, or in a worker thread if it would have to wait."""
        if self._store is None or self._is_off() or self._is_corrupt:
            return None
        digest = self._digest(key)
        path = ""
        try:
            path = self._store.find(digest)
            if not path:
                return None
            data = read(path, digest, nowait=True)
            if data is None:
                data = await trio.to_thread.run_sync(read, path, digest, limiter=self._readers)
            else:
                await trio.lowlevel.checkpoint()  # many hits in a row must not hold up the others
        except FileNotFoundError:
            self._queued.damaged.add(digest)  # evicted just now, or lost with the machine's power
            return None
        except DamagedBlock:
            self._note_damage(digest, path)
            return None
        except STORE_ERRORS as error:
            self._note_failure("cannot be read", error)
            return None
        if data is not None and len(self._queued.touched) < NOTES_LIMIT:
            self._queued.touched.add(digest)
        return data

    def _note_damage(self, digest: bytes, path: str) -> None:
        self._queued.damaged.add(digest)
        self._wake.set()
        self.stats.damaged += 1
        if _is_round(self.stats.damaged):
            log.warning("a block in the cache is damaged: %s (%d so far)", path, self.stats.damaged)

    async def _write_queued(self) -> float:
        """Write what waits; return the seconds of a processor that it took."""
        self._wake, self._enough = trio.Event(), trio.Event()
        batch = self._take()
        self._writing = batch
        try:
            if self._is_off():
                self.stats.dropped += len(batch.blocks)
                return 0.0
            return await trio.to_thread.run_sync(self._write, batch, limiter=self._writer)
        finally:
            self._writing = _Batch()
            self._written.set()
            self._written = trio.Event()

    def _take(self) -> _Batch:
        batch, self._queued = self._queued, _Batch()
        return batch

    def _write(self, batch: _Batch) -> float:
        """Do a batch; runs in a worker thread. Returns what it took of a processor."""
        began = time.thread_time()
        store = None
        try:
            if self._is_corrupt:
                self._reset()
            elif self._store is None:
                self._open()
            elif not self._store.is_current:
                self._store.close()
                self._store = BlockStore(self.directory)  # another mount has made the index anew
            store = self._store
            if store is not None:
                self.stats.dropped += self._apply(store, batch)
                self._failures = 0
        except STORE_ERRORS as error:
            self.stats.dropped += len(batch.blocks)
            self._note_failure("cannot be written", error)
        finally:
            if store is not None and not self._is_closed:
                store.close()  # this thread's connection: the next batch may run in another one
        return time.thread_time() - began + (store.helped if store is not None else 0.0)

    def _apply(self, store: BlockStore, batch: _Batch) -> int:
        """Do a batch; return how many of its blocks there was no room for."""
        if not batch and _now() - self._trimmed >= TRIM_SECONDS:
            self._trimmed = _now()
            store.trim(self.size_limit, self.reserve)
        if not batch and not batch.touched:
            return 0
        blocks = [
            NewBlock(self._digest(key), object_tag(key.bucket, key.key), data)
            for key, data in batch.blocks.items()
        ]
        return store.apply(
            tags=batch.forget,
            digests=batch.damaged,
            touched=batch.touched,
            blocks=blocks,
            size_limit=self.size_limit,
            reserve=self.reserve,
        )

    def _sweep(self, store: BlockStore) -> None:
        """Set right what a crash or the loss of the index left; runs in a worker thread."""
        try:
            adopted = store.adopt()
            self._is_swept = True
            if adopted:
                log.info("%d blocks in %s have an entry again", adopted, self.directory)
        except STORE_ERRORS as error:
            self._note_failure("cannot be cleaned up", error)
        finally:
            store.close()

    def _digest(self, key: BlockKey) -> bytes:
        """The name of a block on disk: another block size is another block."""
        text = f"{self._realm}\0{self.block_size}\0{key.bucket}\0{key.key}\0{key.etag}\0{key.block_no}"
        return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()


def object_tag(bucket: str, key: str) -> bytes:
    """What all blocks of an object have in common; of all objects below a prefix it begins alike."""
    return f"{bucket}\0{key}".encode(errors="surrogatepass")


def _lock(directory: Path) -> int:
    """Say that this process uses the directory; return the descriptor that says it."""
    fd = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_SH)
    return fd


def _make_file(path: Path) -> None:
    try:
        path.touch(mode=0o600)
    except OSError:
        pass  # the next start looks for lost files, that is all


def _exists(path: str) -> bool:
    return bool(path) and Path(path).exists()


def _pause(used: float, arrived: int, seconds: float) -> float:
    """How long to leave the processors alone after a batch: a fast stream is worth more than a cached one.

    The disk has a third of one processor, and an eighth where more arrives than it could take anyway.
    """
    return (7 if arrived > FAST * seconds else 2) * used


def _now() -> float:
    return time.monotonic()


def _is_round(count: int) -> bool:
    """Whether to log the count-th time something went wrong: 1, 10, 100 …"""
    return str(count).strip("0") == "1"
