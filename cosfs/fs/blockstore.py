"""Blocks on disk. All diskcache is here.

One file a block, with a header that names and sums it, and diskcache's database of them. Blocking
calls, for one process at a time; writing for one thread at a time, looking up for any.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import struct
import time
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import diskcache

from cosfs.client.crc64 import crc64

__all__ = ["STORE_ERRORS", "BlockStore", "DamagedBlock", "NewBlock", "is_corruption", "read_block"]

# Timeout is what diskcache makes of any OperationalError at the start of a transaction.
STORE_ERRORS = (OSError, sqlite3.Error, diskcache.Timeout, ValueError)

_MIB = 1 << 20
_PAGE = 4096
_HEADER = struct.Struct("<4sIQQ16s")  # magic, version, length, CRC-64, digest of the block's key
_MAGIC = b"COSB"
_VERSION = 1


class DamagedBlock(Exception):
    """The bytes of a block file are not what was written."""


class NewBlock(NamedTuple):
    """A block to write: digest is its name (16 bytes), tag its object's."""

    digest: bytes
    tag: bytes
    data: bytes


class _BlockDisk(diskcache.Disk):  # type: ignore[misc]
    """Block files. diskcache's own would split a block at each newline and make 65,536 folders."""

    def __init__(self, directory: str, **settings: Any) -> None:
        super().__init__(directory, **settings)
        self.written: list[str] = []  # by the open transaction

    def store(self, value: tuple[bytes, bytes], read: bool, key: Any = None) -> tuple[int, int, str, None]:
        """Write header and data to a new file; return the row diskcache keeps of it."""
        name, path = self.filename()
        self.written.append(name)
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        try:
            fd = os.open(path, flags, 0o600)
        except FileNotFoundError:
            Path(path).parent.mkdir(mode=0o700, exist_ok=True)
            fd = os.open(path, flags, 0o600)
        try:
            _write_all(fd, value)
        except OSError:
            self.remove(name)
            raise
        finally:
            os.close(fd)
        size = -(-sum(map(len, value)) // _PAGE) * _PAGE  # what the filesystem needs for it
        return size, diskcache.core.MODE_BINARY, name, None

    def fetch(self, mode: int, filename: str, value: Any, read: bool) -> str:
        """Return the path only: the file is read elsewhere."""
        return f"{self._directory}/{filename}"

    def filename(self, key: Any = None, value: Any = None) -> tuple[str, str]:
        digits = os.urandom(16).hex()
        name = f"{digits[:2]}/{digits[2:]}"
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
            timeout=0.5,  # nobody else writes; the trio thread must not hang here
            disk=_BlockDisk,
            eviction_policy="least-recently-used",
            size_limit=1 << 62,  # evicted by apply, before writing and not after
            cull_limit=0,
            tag_index=1,
            sqlite_auto_vacuum=0,
            sqlite_cache_size=256,  # pages a connection; the kernel caches the rest
            sqlite_mmap_size=0,
            sqlite_synchronous=0,  # after a power cut the cache may start empty
        )
        # In this process only: get would open a write transaction for each hit. Hits are noted
        # in batches instead.
        self.eviction_policy = "none"

    def find(self, digest: bytes) -> str:
        """Return the path of a block's file, empty if there is none."""
        return str(self.get(digest, ""))

    def volume(self) -> int:
        """Bytes of all block files and of the database, without pages it will use again."""
        ((pages,),) = self._sql("PRAGMA page_count").fetchall()
        ((free,),) = self._sql("PRAGMA freelist_count").fetchall()
        return int(self._page_size * (pages - free) + self.reset("size"))

    def apply(
        self,
        *,
        tags: Iterable[bytes],
        digests: Iterable[bytes],
        touched: Iterable[bytes],
        blocks: Sequence[NewBlock],
        size_limit: int,
    ) -> bool:
        """In one transaction forget tags and digests, note which blocks were read, write new ones.

        False if there was no room for the new ones: they would be more than size_limit, or the
        filesystem is too full.
        """
        self._disk.written.clear()
        try:
            with self.transact():
                for tag in tags:
                    self.evict(tag)
                for digest in digests:
                    self.delete(digest)
                self._touch(touched)
                return self._write(blocks, size_limit)
        except BaseException:
            for name in self._disk.written:
                self._disk.remove(name)
            raise

    def sweep(self) -> None:
        """Remove files that have no entry. The only caller is alone with the store."""
        known = {name for (name,) in self._sql("SELECT filename FROM Cache")}
        for folder in Path(self.directory).iterdir():
            if folder.is_dir():
                for path in folder.iterdir():
                    if f"{folder.name}/{path.name}" not in known:
                        path.unlink()

    def _touch(self, digests: Iterable[bytes]) -> None:
        now = time.time()
        for digest in digests:
            self._sql("UPDATE Cache SET access_time = ? WHERE key = ? AND raw = 1", (now, digest))

    def _write(self, blocks: Collection[NewBlock], size_limit: int) -> bool:
        need = sum(len(block.data) + _HEADER.size + _PAGE for block in blocks)
        limit = min(size_limit, self.volume() + _spare_space(self.directory))
        if need > limit:
            self._evict_down_to(limit)
            return False
        self._evict_down_to(limit - need)
        for digest, tag, data in blocks:
            header = _HEADER.pack(_MAGIC, _VERSION, len(data), crc64(data), digest)
            self.set(digest, (header, data), tag=tag)
        return True

    def _evict_down_to(self, limit: int) -> None:
        """Remove the least recently used blocks until the volume is at most limit."""
        while (excess := self.volume() - limit) > 0:
            with self._transact() as (sql, cleanup):
                oldest = "SELECT rowid, size, filename FROM Cache ORDER BY access_time LIMIT 256"
                rows = sql(oldest).fetchall()
                if not rows:
                    return
                for rowid, size, name in rows:
                    sql("DELETE FROM Cache WHERE rowid = ?", (rowid,))
                    cleanup(name)
                    excess -= size
                    if excess <= 0:
                        break


def read_block(path: str, digest: bytes, nowait: bool = False) -> bytes | None:
    """Read and check a block file; None if nowait and it is not in the kernel's page cache."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if nowait and not _is_in_page_cache(fd):
            return None
        header = os.pread(fd, _HEADER.size, 0)
        if len(header) < _HEADER.size:
            raise DamagedBlock
        magic, version, length, crc, name = _HEADER.unpack(header)
        if (magic, version, name) != (_MAGIC, _VERSION, digest) or length != _length(fd):
            raise DamagedBlock
        data = os.pread(fd, length, _HEADER.size)
    finally:
        os.close(fd)
    if len(data) != length or crc64(data) != crc:
        raise DamagedBlock
    return data


def _length(fd: int) -> int:
    return os.fstat(fd).st_size - _HEADER.size


def _is_in_page_cache(fd: int) -> bool:
    """Whether reading would not wait; judged by both ends, as block files are written in one go."""
    one = bytearray(1)
    try:
        for offset in (0, max(0, os.fstat(fd).st_size - 1)):
            if os.preadv(fd, [one], offset, os.RWF_NOWAIT) != 1:
                return False
    except OSError as error:
        # EAGAIN: it would wait. EOPNOTSUPP: this filesystem cannot tell.
        if error.errno in (errno.EAGAIN, errno.EOPNOTSUPP):
            return False
        raise
    return True


def _write_all(fd: int, pieces: tuple[bytes, ...]) -> None:
    done = os.writev(fd, pieces)
    rest = memoryview(b"".join(pieces))[done:] if done < sum(map(len, pieces)) else memoryview(b"")
    while rest:
        rest = rest[os.write(fd, rest) :]


def _spare_space(directory: str) -> int:
    """Bytes that may still be written to a filesystem; negative if it is fuller than it should be.

    5 % of it, at least 512 MiB, stay free; of small ones not over 10 %, of large ones 10 GiB.
    """
    status = os.statvfs(directory)
    size = status.f_blocks * status.f_frsize
    reserve = min(max(size // 20, 512 * _MIB), size // 10, 10240 * _MIB)
    return status.f_bavail * status.f_frsize - reserve


def is_corruption(error: BaseException | None) -> bool:
    """Whether an error, or the one that led to it, says that the database is damaged or gone."""
    if error is None:
        return False
    # Its subclasses are about the disk, the lock or the statement.
    if type(error) is sqlite3.DatabaseError or "no such table" in str(error):
        return True
    return is_corruption(error.__context__)
