"""The local state of a file that is being changed: new bytes here, the rest still in COS.

Invariants, with base the object the file was opened on:
- byte i of the file is scratch[i] if i is in `valid`; else base[i] if i < base_limit; else 0;
- `changed` is the part of `valid` that may differ from base;
- base_limit never grows: what was cut off stays cut off when the file grows again;
- `version` grows with every change, so that a commit can tell whether more came meanwhile;
- between begin_send() and sent(), what changes is noted apart: only that is sent again.
"""

from __future__ import annotations

import base64
import logging
import os
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import trio

from cosfs.client.body import FileBody
from cosfs.errors import NotFoundError, PreconditionFailedError
from cosfs.fs.extents import Extents
from cosfs.fs.fetcher import Fetcher, Source
from cosfs.fs.marks import Mark, is_one_of
from cosfs.fs.pace import SLOW, Pace
from cosfs.fs.scratch import Scratch, pwrite_all, pwrite_until, remove_file
from cosfs.fs.sums import Summing, Sums

INLINE = 64 * 1024  # smaller writes and reads cost less than the way to a thread and back
FILL_STEP = 8 * 1024 * 1024
log = logging.getLogger(__name__)


class Staging:
    """One file's changes. The staging file is made when they are more than fits into memory.

    remove gets a staging file that is of no use any more; a journal may still name it for a while.
    """

    def __init__(
        self,
        directory: Path,
        base: Source | None,
        *,
        path: Path | None = None,
        remove: Callable[[Path], None] = remove_file,
    ) -> None:
        self.base = base
        self.size = base.size if base is not None else 0
        self.base_limit = self.size
        self.valid = Extents()
        self.changed = Extents()
        self.dirty = False
        self.version = 0
        self._since = Extents()  # changed since begin_send()
        self._since_limit = 0  # what was not cut off since then
        self._writes = 0  # under way in threads
        self._quiet = trio.Event()
        self._sums: Sums | None = None
        self._pace = Pace()
        self._directory = directory
        self._remove = remove
        self._scratch = Scratch(directory, path)
        self._replaced: Staging | None = None
        # What was on its way when no answer came, or when we died: size and digest of the metadata.
        self.sending: list[Mark] = []
        self.replacing: list[Mark] = []  # the same of files whose name this one has taken over
        self.promised = 0  # version that close() or fsync() acknowledged and COS does not have
        # Whether the journal on disk may name the staging file for bytes that were promised once.
        self.is_recorded = False
        self._cut_at = -1  # where bytes begin that truncate() has left on disk
        # Size and end of what was written when all of it was forced to the local disk last.
        self._durable: tuple[int, int] | None = None
        self._forced = -1  # version that was forced to the local disk last
        # The file's mtime without the changes that nobody was promised, None if there are none.
        self.mtime_before: int | None = None

    @property
    def path(self) -> Path | None:
        """The staging file, made now if bytes are in memory only; None if there are none."""
        if self._scratch.memory:
            self.fileno()
        return self._scratch.path

    @property
    def on_disk(self) -> int:
        """Bytes of local disk in use (holes not counted)."""
        return self.valid.total

    def fileno(self) -> int:
        """The staging file's descriptor, opened or made when needed."""
        if not self.is_recorded or not self._scratch.memory:
            return self._scratch.fileno()
        # The journal has these bytes itself, and is about to name a file instead.
        fd = self._scratch.fileno()
        _sync(os.dup(fd), self._directory)
        self._durable = self.size, self._end
        return fd

    def promise(self) -> None:
        """What is here now is acknowledged, and the journal is about to say so."""
        self.promised = self.version
        self.mtime_before = None
        self.is_recorded = True

    def touch(self) -> None:
        """Mark as changed without writing (a new empty file)."""
        self.dirty = True
        self.version += 1

    async def write(self, offset: int, data: bytes) -> None:
        """Put data at offset; OSError (ENOSPC) leaves everything as it was."""
        stop = offset + len(data)
        if data == b"\0" and offset >= self.base_limit and not self.valid.overlap(offset, stop):
            # It is zero there. posix_fallocate() writes such a byte into each page of the file.
            self.cut_off()
            self.size = max(self.size, stop)
            self.touch()
            return
        self.cut_off()
        if self._sums is None:
            await self._put(data, offset)
        else:
            with self._sums.writing(offset, stop) as summing:
                await self._put(data, offset, summing)
        for ranges in (self.valid, self.changed, self._since):
            ranges.add(offset, stop)
        self.size = max(self.size, stop)
        self.touch()

    async def _put(self, data: bytes, offset: int, summing: Summing | None = None) -> None:
        done = self._put_now(data, offset)
        if done == len(data):
            if summing is not None:
                summing.add(data)
            return
        fd = self.fileno()
        if not self._writes:
            self._quiet = trio.Event()
        self._writes += 1
        try:
            await trio.to_thread.run_sync(_write, fd, data, offset, done, summing, self._pace)
        finally:
            self._writes -= 1
            if not self._writes:
                self._quiet.set()

    def _put_now(self, data: bytes, offset: int) -> int:
        """Write as much as nobody has to wait for; return how many bytes."""
        small = len(data) <= INLINE
        if small and self._scratch.fits(offset + len(data)):
            self._scratch.put(data, offset)
            return len(data)
        if self._pace.lags or not (small or self._pace.keeps_up):
            return 0
        fd, begun = self.fileno(), monotonic()
        done = pwrite_until(begun + SLOW, fd, data, offset)
        self._pace.note(monotonic() - begun)
        return done

    def sum_up(self) -> None:
        """Compute the CRC-64 of what is written from now on: it is about to be sent."""
        if self._sums is None:
            self._sums = Sums()

    def take_crc64(self, start: int, stop: int) -> int | None:
        """Return the CRC-64 of bytes as they were written, once; None if it is not known."""
        return self._sums.take(start, stop) if self._sums is not None else None

    async def settled(self) -> None:
        """Wait until no write is half done: the bytes on disk are those that `valid` tells of."""
        while self._writes:
            await self._quiet.wait()

    def truncate(self, size: int, note: Callable[[], None] = lambda: None) -> None:
        """Cut or grow to size; new bytes are zeros.

        note brings the journal up to date before bytes are cut off: were we killed in between, it would
        lead to bytes that are gone. What it has led to on disk stays until cut_off().
        """
        self.cut_off()
        is_cut = size < self.size
        if is_cut:
            for ranges in (self.valid, self.changed, self._since):
                ranges.truncate(size)
            self.base_limit = min(self.base_limit, size)
            self._since_limit = min(self._since_limit, size)
            if self._sums is not None:
                self._sums.cut(size, self.size)
            self._cut_at = size
            if self._durable is not None:
                self._durable = min(self._durable[0], size), min(self._durable[1], size)
        self.size = size
        self.touch()
        try:
            note()
        finally:
            if not self.is_recorded or self._scratch.memory is not None:
                self.cut_off()

    @property
    def is_cut(self) -> bool:
        """Whether there are bytes on disk that were cut off."""
        return self._cut_at >= 0

    def cut_off(self) -> None:
        """Remove the bytes that truncate() has left on disk; the journal there should know by now.

        Power could be lost when they are gone and the journal leads to them, and the file would count as
        damaged.
        """
        if self._cut_at >= 0:
            size, self._cut_at = self._cut_at, -1
            self._scratch.truncate(size)

    def emptied(self) -> Staging:
        """An empty file in the place of this one, whose bytes stay until let_go_replaced().

        Until then the journal leads to them: a crash must not take both the old and the new.
        """
        other = Staging(self._directory, None, remove=self._remove)
        other._replaced = self
        other.replacing = self.replacing
        other.sending = self.sending  # of one file: COS may have, or get, what was on its way
        other.touch()
        return other

    def let_go_replaced(self) -> None:
        """The journal, or COS, has what came in place of other bytes."""
        if self._replaced is not None:
            self._replaced.close()
            self._replaced = None

    @property
    def is_closed(self) -> bool:
        """Whether its bytes are gone: others have taken their place."""
        return self._scratch.is_closed

    @property
    def kept(self) -> Staging:
        """What gets to COS if we are killed now: these bytes, or those that they have not replaced yet."""
        if self._replaced is None or self.promised:
            return self
        kept = self._replaced.kept
        return kept if kept.dirty else self

    @property
    def is_replacing(self) -> bool:
        """Whether the journal still leads to other bytes than these."""
        return self._replaced is not None

    async def read(self, fetcher: Fetcher, offset: int, length: int) -> bytes | memoryview:
        """Return [offset, offset + length), cut at the end of the file."""
        while True:
            base = self.base
            try:
                return await self._read(fetcher, offset, length)
            except (NotFoundError, PreconditionFailedError):
                # If we have replaced or moved the object ourselves, the new one has it all.
                if self.base == base and not await self.find_sent(fetcher):
                    raise

    async def _read(self, fetcher: Fetcher, offset: int, length: int) -> bytes | memoryview:
        stop = min(self.size, offset + length)
        if offset >= stop:
            return b""
        if self.valid.covers(offset, stop):
            return self._scratch.get(stop - offset, offset)
        out = bytearray(stop - offset)
        base = self.base
        for start, end in self._from_base(offset, stop):
            assert base is not None
            out[start - offset : end - offset] = await fetcher.read(base, start, end - start)
        # Read our own bytes last: a write that came while we waited for COS wins.
        for start, end in self.valid.overlap(offset, stop):
            out[start - offset : end - offset] = self._scratch.get(end - start, start)
        return bytes(out)

    def _from_base(self, start: int, stop: int) -> list[tuple[int, int]]:
        stop = min(stop, self.base_limit)
        return self.valid.missing(start, stop) if start < stop else []

    async def fill(self, fetcher: Fetcher, start: int = 0, stop: int | None = None) -> None:
        """Fetch what is only in COS into the staging file."""
        end = self.size if stop is None else min(stop, self.size)
        while gaps := self._from_base(start, end):
            first, last = gaps[0]
            last = min(last, first + FILL_STEP)
            base = self.base
            assert base is not None
            try:
                data = await fetcher.read(base, first, last - first)
            except (NotFoundError, PreconditionFailedError):
                if self.base == base and not await self.find_sent(fetcher):
                    raise
                continue
            await self.settled()  # bytes on their way to the disk are newer than these
            for a, b in self._from_base(first, last):  # what was not written meanwhile
                if not self._scratch.fits(b):
                    self.fileno()
                self._scratch.put(data[a - first : b - first], a)
                self.valid.add(a, b)

    async def find_sent(self, fetcher: Fetcher) -> bool:
        """Go on with what was sent in the place of base without an answer, if COS has that now."""
        base = self.base
        if base is None or not self.sending:
            return False
        found = await fetcher.find(base)
        if found is None or found.etag == base.etag or not is_one_of(found, self.sending):
            return False
        if self.base == base:
            self.go_on_with(Source(base.bucket, base.key, found.etag, found.size))
        return True

    def go_on_with(self, base: Source) -> None:
        """Take what is not changed here from another object, an earlier version of this file."""
        self.base = base
        self.base_limit = min(self.base_limit, base.size)

    def body(self, start: int, stop: int) -> FileBody:
        """A window of the staging file; holes read as zeros. The range must have been filled.

        The descriptor may be closed as soon as anything else runs: who reads later has one of his own.
        """
        fd = self.fileno()
        if os.fstat(fd).st_size < stop:
            os.posix_fallocate(fd, stop - 1, 1)  # unlike ftruncate it cannot cut what is just being written
        return FileBody(fd, start, stop - start)

    def snapshot(self) -> bytes:
        """All bytes of a small, filled file."""
        if self.size == 0:
            return b""
        data = self._scratch.get(self.size, 0)
        self.rest()
        return data

    def rest(self) -> None:
        """Do without a descriptor while nobody writes, where many wait to be sent and few are left.

        Not before the bytes are on disk: make_durable() forces what was written through this one.
        """
        if self._forced == self.version and not self._writes:
            self._scratch.rest()

    async def rest_safely(self) -> None:
        """The same, with what has to be forced to disk before; a disk that fails has it stay open."""
        if not self._scratch.is_one_of_many:
            return
        try:
            await self.make_durable()
        except OSError as exc:
            log.warning("%s stays open: %s", self._scratch.path, exc)
        else:
            self.rest()

    def detach(self) -> None:
        """Everything is here: do without the object from now on."""
        self.base = None
        self.base_limit = 0
        self.changed = self.valid.copy()

    def without_base(self) -> Staging:
        """The same bytes as a file of their own, zeros where they were in the object."""
        self.cut_off()
        other = Staging(self._directory, None, remove=self._remove)
        other._scratch = self._scratch.share()
        other.size = self.size
        other.valid = self.valid.copy()
        other.changed = self.valid.copy()
        return other

    def begin_send(self) -> int:
        """Note what changes from now on; return the version that is about to be sent."""
        self._since.clear()
        self._since_limit = self.size
        return self.version

    def sent(self, base: Source, version: int) -> None:
        """COS now holds what this was at version, or a little later, as base."""
        self.let_go_replaced()
        self._sums = None
        self.sending.clear()
        self.replacing.clear()
        self.mtime_before = None
        self._durable = None
        if self.promised <= version:
            self.promised = 0
        self.base = base
        if self.version == version:
            self.base_limit = self.size
            self.changed.clear()
            self.dirty = False
        else:
            self.base_limit = min(self._since_limit, base.size)
            self.changed = self._since.copy()

    def let_go_sent(self) -> bool:
        """Do without the local bytes of what COS has, all of it; tells whether that frees any disk."""
        if self.dirty or self._writes or self.base is None or not self.valid or self._scratch.path is None:
            return False
        self._scratch.close(remove=self._remove)
        self._scratch = Scratch(self._directory)
        self.valid.clear()
        self.is_recorded = False
        self._cut_at = self._forced = -1
        return True

    def close(self, *, keep: bool = False) -> None:
        """Let go of the staging file; keep leaves it on disk for the journal."""
        if self._replaced is not None:
            self._replaced.close(keep=keep)
            self._replaced = None
        self._scratch.close(keep=keep, remove=self._remove)

    async def make_durable(self) -> None:
        """Force the staged bytes to the local disk; those in memory go there with the journal."""
        if self._scratch.is_open:
            fd = os.dup(self.fileno())
            state, version = (self.size, self._end), self.version
            await trio.to_thread.run_sync(_sync, fd, self._directory, abandon_on_cancel=True)
            self._durable = (
                min(self.size, state[0]),
                min(self.size, state[1]),
            )  # it may have been cut meanwhile
            self._forced = version

    @property
    def _end(self) -> int:
        """The end of what was written here."""
        return max((stop for _, stop in self.changed), default=0)

    def to_json(self) -> dict[str, Any]:
        """What the journal needs to build this again after a crash."""
        base = self.base
        memory, path = self._scratch.memory, self._scratch.path
        return {
            "path": path.name if path is not None else "",
            "data": base64.b64encode(memory).decode() if memory else "",
            "size": self.size,
            "base": [base.bucket, base.key, base.etag, base.size] if base is not None else None,
            "base_limit": self.base_limit,
            "sending": self.sending,
            "replacing": self.replacing,
            "changed": [list(pair) for pair in self.changed],
            "durable": self._durable,
        }

    @classmethod
    def from_json(
        cls, directory: Path, record: dict[str, Any], remove: Callable[[Path], None] = remove_file
    ) -> Staging:
        base = Source(*record["base"]) if record["base"] is not None else None
        path = directory / Path(record["path"]).name if record["path"] else None
        staging = cls(directory, base, path=path, remove=remove)
        if record.get("data"):
            staging._scratch.put(base64.b64decode(record["data"]), 0)
        staging.size = record["size"]
        staging._scratch.cut(staging.size)  # more was being written, or less was to be left
        staging.base_limit = record["base_limit"]
        staging.sending = [(size, digest) for size, digest in record.get("sending", ())]
        staging.replacing = [(size, digest) for size, digest in record.get("replacing", ())]
        staging.changed = Extents([(a, b) for a, b in record["changed"]])
        staging.is_recorded = True
        if record.get("durable"):
            staging._durable = record["durable"][0], record["durable"][1]
            staging._let_go_lost()
        staging.valid = staging.changed.copy()
        staging.touch()
        staging._forced = staging.version
        return staging

    def _let_go_lost(self) -> None:
        """Do without the end of what was written after it was all forced to disk, if power was lost since."""
        path = self._scratch.path
        assert self._durable is not None
        if path is None or not path.exists():
            return
        held, (size, end) = path.stat().st_size, self._durable
        if end <= held < self._end:
            self.size = max(size, held)
            self.changed.truncate(held)


def _write(fd: int, data: bytes, offset: int, done: int, summing: Summing | None, pace: Pace) -> None:
    begun = monotonic()
    pwrite_all(fd, memoryview(data)[done:], offset + done)
    pace.note(monotonic() - begun)
    if summing is not None:
        summing.add(data)


def _sync(fd: int, directory: Path) -> None:
    try:
        os.fdatasync(fd)
    finally:
        os.close(fd)
    directory_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory_fd)  # a file that no directory names is lost as well
    finally:
        os.close(directory_fd)
