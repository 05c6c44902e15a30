"""The index of the block files. All diskcache is here.

Any number of processes use one store at once: each change is a transaction of SQLite, and block files are
written inside one. So whoever is inside a transaction can tell a file that a crash left without an entry
from one whose entry is about to come.

Blocking calls; writing for one thread of a process at a time, looking up for any.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import diskcache

from cosfs.fs.blockfile import DamagedBlock, block_size_on_disk, read_block, read_head, write_block
from cosfs.fs.buffers import Block
from cosfs.fs.directwriter import PAGE, DirectWriter
from cosfs.fs.reserve import Reserve

__all__ = ["STORE_ERRORS", "BlockStore", "BucketShare", "NewBlock", "is_corruption"]

# Timeout is what diskcache makes of any OperationalError at the start of a transaction.
STORE_ERRORS = (OSError, sqlite3.Error, diskcache.Timeout, ValueError)

LOOKUP_WAITS = 0.5  # seconds; looking up never waits for writers, and the trio thread must not hang here
WRITER_WAITS = 10_000  # milliseconds; other mounts write for some 50 ms at a time
_HAS = "SELECT 1 FROM Cache WHERE key = ? AND raw = 1"
_INSERT = (
    "INSERT INTO Cache (key, raw, store_time, access_time, tag, size, mode, filename)"
    " VALUES (?, 1, ?, ?, ?, ?, ?, ?)"
)
MANY = 2 << 20  # bytes from which on more threads than one are worth having
THREADS = 3
BATCH = 256  # entries a transaction, where nobody waits for the whole


class NewBlock(NamedTuple):
    """A block to write: digest is its name (16 bytes), tag its object's."""

    digest: bytes
    tag: bytes
    data: Block


class BucketShare(NamedTuple):
    """What one bucket takes of the store."""

    bucket: str
    blocks: int
    size: int


class _BlockDisk(diskcache.Disk):  # type: ignore[misc]
    """Block files. diskcache's own would split a block at each newline and make 65,536 folders."""

    def __init__(self, directory: str, **settings: Any) -> None:
        super().__init__(directory, **settings)
        self.written: list[str] = []  # by the open transaction
        self.helped = 0.0  # seconds of a processor, likewise, in other threads
        self._direct = [DirectWriter() for _ in range(THREADS)]

    def store_all(self, blocks: Sequence[NewBlock]) -> list[tuple[NewBlock, str]]:
        """Write new files; return their names. Some threads do large ones: one sums while the disk works."""
        todo = iter(blocks)
        done: list[tuple[NewBlock, str]] = []
        if sum(len(block.data) for block in blocks) < MANY:
            self._store_some(todo, done, self._direct[0])
            return done
        spent: list[float] = []

        def help_with(direct: DirectWriter) -> None:
            began = time.thread_time()
            try:
                self._store_some(todo, done, direct)
            finally:
                spent.append(time.thread_time() - began)

        try:
            with ThreadPoolExecutor(THREADS - 1) as pool:
                helpers = [pool.submit(help_with, direct) for direct in self._direct[1:]]
                self._store_some(todo, done, self._direct[0])
                for helper in helpers:
                    helper.result()
        finally:
            self.helped = sum(spent)
        return done

    def _store_some(
        self, todo: Iterator[NewBlock], done: list[tuple[NewBlock, str]], direct: DirectWriter
    ) -> None:
        for block in todo:
            name, path = self.filename()
            self.written.append(name)
            write_block(path, block.digest, block.tag, block.data, direct)
            done.append((block, name))

    def fetch(self, mode: int, filename: str, value: Any, read: bool) -> str:
        """Return the path only: the file is read elsewhere."""
        return f"{self._directory}/{filename}"

    def filename(self, key: Any = None, value: Any = None) -> tuple[str, str]:
        # Not more folders: each that is new costs as much as writing several blocks.
        digits = os.urandom(16).hex()
        name = f"{digits[0]}0/{digits[1:]}"
        return name, f"{self._directory}/{name}"

    def remove(self, file_path: str) -> None:
        try:
            Path(self._directory, file_path).unlink()
        except OSError:
            pass


class BlockStore(diskcache.Cache):  # type: ignore[misc]
    """The entries of the block files. Connections are per thread; close() closes the caller's."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, exist_ok=True)
        super().__init__(
            str(directory),
            timeout=LOOKUP_WAITS,
            disk=_BlockDisk,
            eviction_policy="least-recently-used",
            size_limit=1 << 62,  # evicted by apply, before writing and not after
            cull_limit=0,
            tag_index=1,
            sqlite_auto_vacuum=0,
            sqlite_cache_size=256,  # pages a connection; the kernel caches the rest
            sqlite_mmap_size=0,
            sqlite_synchronous=0,  # after a power cut the index may have to be made anew
        )
        # In this process only: get would open a write transaction for each hit. Hits are noted
        # in batches instead.
        self.eviction_policy = "none"
        self._index = directory / "cache.db"
        self._opened = _identity(self._index)

    @property
    def is_current(self) -> bool:
        """Whether the index is still the one that was opened; another process may have made it anew."""
        return _identity(self._index) == self._opened

    @property
    def helped(self) -> float:
        """Seconds of a processor that the last transaction used in other threads than its own."""
        return float(self._disk.helped)

    def find(self, digest: bytes) -> str:
        """Return the path of a block's file, empty if there is none."""
        return str(self.get(digest, ""))

    def find_all(self, digests: Sequence[bytes]) -> dict[bytes, str]:
        """Return the paths of those blocks that there are."""
        marks = ", ".join("?" * len(digests))
        rows = self._sql(f"SELECT key, filename FROM Cache WHERE raw = 1 AND key IN ({marks})", digests)
        return {bytes(digest): f"{self.directory}/{name}" for digest, name in rows}

    def volume(self) -> int:
        """Bytes of all block files and of the index."""
        return self._index_volume() + int(self.reset("size"))

    def _index_volume(self) -> int:
        """Bytes of the database, without pages it will use again."""
        ((pages,),) = self._sql("PRAGMA page_count").fetchall()
        ((free,),) = self._sql("PRAGMA freelist_count").fetchall()
        return int(self._page_size * (pages - free))

    def shares(self) -> list[BucketShare]:
        """How many blocks and bytes each bucket has, the largest first."""
        rows = self._sql(
            "SELECT substr(tag, 1, instr(tag, x'00') - 1) AS bucket, count(*), sum(size) FROM Cache"
            " GROUP BY bucket ORDER BY sum(size) DESC"
        )
        return [BucketShare(os.fsdecode(bucket or b""), count, size) for bucket, count, size in rows]

    # Changing it

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """A transaction; files written in one that fails are removed."""
        self._sql(f"PRAGMA busy_timeout = {WRITER_WAITS}")
        self._disk.written.clear()
        self._disk.helped = 0.0
        try:
            with self.transact():
                yield
        except BaseException:
            for name in self._disk.written:
                self._disk.remove(name)
            raise

    def apply(
        self,
        *,
        tags: Iterable[bytes],
        digests: Iterable[bytes],
        touched: Iterable[bytes],
        blocks: Sequence[NewBlock],
        size_limit: int,
        reserve: Reserve,
    ) -> int:
        """In one transaction forget tags and digests, note which blocks were read, write new ones.

        Returns how many of the new ones there was no room for: they would be more than size_limit, or the
        filesystem is too full.
        """
        with self._writing():
            for tag in tags:
                self.evict(tag)
            for digest in digests:
                self.delete(digest)
            self._touch(touched)
            return self._write(blocks, size_limit, reserve)

    def trim(self, size_limit: int, reserve: Reserve) -> None:
        """Make room if the filesystem became too full, or the limit smaller, without our doing."""
        if self.volume() > min(size_limit, self.volume() + reserve.spare(self.directory)):
            with self._writing():
                self._write((), size_limit, reserve)

    def shrink(self, length: int) -> bool:
        """Remove the least recently used blocks, length bytes of them; tells whether there were any.

        The files go first: on a full filesystem the index can only be written when they are gone.
        """
        rows = []
        for row in self._sql("SELECT rowid, size, filename FROM Cache ORDER BY access_time"):
            if length <= 0:
                break
            rows.append(row)
            length -= row[1]
        for _, _, name in rows:
            self._disk.remove(name)
        for start in range(0, len(rows), BATCH):
            with self._writing(), self._transact() as (sql, _):
                for rowid, _, name in rows[start : start + BATCH]:
                    sql("DELETE FROM Cache WHERE rowid = ? AND filename = ?", (rowid, name))
        return bool(rows)

    def clear_below(self, prefix: bytes) -> tuple[int, int]:
        """Forget the blocks of all tags that begin with prefix; return how many, and their bytes."""
        count = size = 0
        while rows := self._clear_some(prefix):
            count += len(rows)
            size += sum(rows)
        return count, size

    def count_below(self, prefix: bytes) -> tuple[int, int]:
        """How many blocks clear_below would forget, and their bytes."""
        where, values = _where(prefix)
        query = f"SELECT count(*), coalesce(sum(size), 0) FROM Cache WHERE {where}"
        ((count, size),) = self._sql(query, values).fetchall()
        return count, size

    def _clear_some(self, prefix: bytes) -> list[int]:
        """One short transaction: running mounts write in between."""
        where, values = _where(prefix)
        query = f"SELECT rowid, size, filename FROM Cache WHERE {where} LIMIT {BATCH}"
        with self._writing(), self._transact() as (sql, cleanup):
            rows = sql(query, values).fetchall()
            for rowid, _, name in rows:
                sql("DELETE FROM Cache WHERE rowid = ?", (rowid,))
                cleanup(name)
        return [size for _, size, _ in rows]

    def _touch(self, digests: Iterable[bytes]) -> None:
        now = time.time()
        for digest in digests:
            self._sql("UPDATE Cache SET access_time = ? WHERE key = ? AND raw = 1", (now, digest))

    def _write(self, blocks: Sequence[NewBlock], size_limit: int, reserve: Reserve) -> int:
        limit = min(size_limit, self.volume() + reserve.spare(self.directory))
        fitting, need = _that_fit(blocks, limit - self._index_volume())
        self._evict_down_to(limit - need)
        sql, disk, now = self._sql, self._disk, time.time()
        # Another mount may have had them too.
        new = [block for block in fitting if not sql(_HAS, (block.digest,)).fetchall()]
        for block, name in disk.store_all(new):
            size = block_size_on_disk(block.tag, len(block.data))
            # By diskcache's own set() a small block costs three times as much.
            sql(_INSERT, (block.digest, now, now, block.tag, size, diskcache.core.MODE_BINARY, name))
        return len(blocks) - len(fitting)

    def _evict_down_to(self, limit: int) -> None:
        """Remove the least recently used blocks until the volume is at most limit."""
        while (excess := self.volume() - limit) > 0:
            with self._transact() as (sql, cleanup):
                oldest = f"SELECT rowid, size, filename FROM Cache ORDER BY access_time LIMIT {BATCH}"
                rows = sql(oldest).fetchall()
                if not rows:
                    return
                for rowid, size, name in rows:
                    sql("DELETE FROM Cache WHERE rowid = ?", (rowid,))
                    cleanup(name)
                    excess -= size
                    if excess <= 0:
                        break

    # Setting it right

    def adopt(self) -> int:
        """Give files without an entry one, remove those that are no whole blocks; return how many it adopted.

        A crash leaves files without entries, and after the loss of the index all are.
        """
        known = {name for (name,) in self._sql("SELECT filename FROM Cache")}
        found = (name for name in self._files() if name not in known)
        adopted = 0
        while names := list(islice(found, BATCH)):
            with self._writing():
                adopted += sum(map(self._adopt, names))
        return adopted

    def _files(self) -> Iterator[str]:
        for folder in Path(self.directory).iterdir():
            if folder.is_dir() and len(folder.name) == 2:
                for path in folder.iterdir():
                    yield f"{folder.name}/{path.name}"

    def _adopt(self, name: str) -> bool:
        path = Path(self.directory, name)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            head = read_head(fd)
            used = os.fstat(fd).st_mtime
        except DamagedBlock:
            path.unlink(missing_ok=True)
            return False
        finally:
            os.close(fd)
        entry = self.find(head.digest)
        if entry:
            if entry != f"{self.directory}/{name}":  # else its writer has finished since we looked
                path.unlink(missing_ok=True)  # fetched again since
            return False
        self._sql(
            _INSERT,
            (
                head.digest, used, used, head.tag, block_size_on_disk(head.tag, head.length),
                diskcache.core.MODE_BINARY, name,
            ),
        )  # fmt: skip
        return True

    def verify(self) -> Iterator[tuple[int, bool]]:
        """Read and check all blocks, removing the bad; yields the size of each and whether it was good."""
        last = 0
        query = f"SELECT rowid, key, size, filename FROM Cache WHERE rowid > ? ORDER BY rowid LIMIT {BATCH}"
        while rows := self._sql(query, (last,)).fetchall():
            for rowid, digest, size, name in rows:
                last = rowid
                try:
                    read_block(f"{self.directory}/{name}", digest)
                except (DamagedBlock, OSError):
                    if self._is_still(rowid, name):  # not evicted while we looked
                        with self._writing():
                            self.delete(bytes(digest))
                        yield size, False
                else:
                    yield size, True

    def _is_still(self, rowid: int, name: str) -> bool:
        return bool(
            self._sql("SELECT 1 FROM Cache WHERE rowid = ? AND filename = ?", (rowid, name)).fetchall()
        )

    @staticmethod
    def replace_index(directory: Path, damaged: BlockStore | None) -> None:
        """Remove a damaged index, unless another process has done so since it was opened."""
        with (directory / "index.lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if damaged is not None and not damaged.is_current and _identity(damaged._index) != (0, 0):
                return
            for path in directory.glob("cache.db*"):
                path.unlink(missing_ok=True)


def _identity(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_dev, status.st_ino


def _that_fit(blocks: Sequence[NewBlock], limit: int) -> tuple[list[NewBlock], int]:
    """The last blocks that need no more than limit, and how much they need.

    Had they come one by one, these would have pushed the others out.
    """
    fitting: list[NewBlock] = []
    need = 0
    for block in reversed(blocks):
        size = block_size_on_disk(block.tag, len(block.data)) + PAGE
        if need + size > limit:
            break
        fitting.append(block)
        need += size
    return fitting[::-1], need


def _where(prefix: bytes) -> tuple[str, tuple[bytes, ...]]:
    """Of an object: its own blocks and those of what is below it as if it were a directory; of "" all."""
    if not prefix:
        return "1", ()
    if prefix.endswith((b"/", b"\0")):
        return "tag >= ? AND tag < ?", (prefix, _next_prefix(prefix))
    below = prefix + b"/"
    return "tag = ? OR (tag >= ? AND tag < ?)", (prefix, below, _next_prefix(below))


def _next_prefix(prefix: bytes) -> bytes:
    """The first text that sorts behind all that begin with prefix; empty if there is none."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else b""


def is_corruption(error: BaseException | None) -> bool:
    """Whether an error, or the one that led to it, says that the database is damaged or gone."""
    if error is None:
        return False
    # Its subclasses are about the disk, the lock or the statement.
    if type(error) is sqlite3.DatabaseError or "no such table" in str(error):
        return True
    return is_corruption(error.__context__)
