"""Bytes of objects as they are in COS: blocks, each fetched once however many ask.

Lookup order of a block: memory, a fetch under way, disk, a ranged GET with If-Match. One GET
brings many blocks; each is handed to its waiters as soon as it is whole.
"""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass

import trio

from cosfs.client.model import ObjectInfo
from cosfs.client.stream import ObjectStream
from cosfs.errors import (
    COSError,
    FilesystemError,
    IntegrityError,
    NetworkTimeoutError,
    NotFoundError,
    ServiceError,
    UnreachableError,
)
from cosfs.fs.background import Background, together
from cosfs.fs.blocks import BlockCache, BlockKey
from cosfs.fs.buffers import Block
from cosfs.fs.line import Line
from cosfs.fs.remote import Remote

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Source:
    """One immutable state of one object."""

    bucket: str
    key: str
    etag: str
    size: int

    def block(self, block_no: int) -> BlockKey:
        return BlockKey(self.bucket, self.key, self.etag, block_no)


# Seconds for which a block that could not be read is not asked for again. When a read fails that went ahead,
# the kernel reads a part of it once more before it tells the program: that would be as long again.
FAILED_FOR = 1.0
SLOW_FAILURE = 0.2  # seconds; what fails sooner may be asked for again


APART = 4  # of a block on disk a part is read alone if it is at most a quarter


class _Flight:
    """A block on its way here."""

    __slots__ = ("asked", "data", "done", "elsewhere", "error")

    def __init__(self, *, elsewhere: bool = False) -> None:
        self.done = trio.Event()
        self.asked = False  # COS, as it is not on disk
        self.elsewhere = elsewhere  # somebody else brings it
        self.data: Block | None = None
        self.error: BaseException | None = None

    def land(self, data: Block | None, error: BaseException | None = None) -> None:
        self.data, self.error = data, error
        self.done.set()

    async def landing(self) -> Block | None:
        """Wait for the block; None if the fetch was given up before it was here."""
        await self.done.wait()
        if self.error is not None and not isinstance(self.error, _Abandoned):
            raise self.error
        return self.data


class Fetcher:
    """Serves blocks. background owns the fetches, so that a cancelled reader does not stop them."""

    def __init__(
        self, remote: Remote, cache: BlockCache, background: Background, *, block_size: int, fetch_size: int
    ) -> None:
        self.cache = cache
        self.block_size = block_size
        self.fetch_blocks = max(1, fetch_size // block_size)
        self.in_flight = 0  # bytes asked for and not yet here
        self.line = Line()
        self._remote = remote
        self._background = background
        self._flights: dict[BlockKey, _Flight] = {}
        self._failures: dict[BlockKey, tuple[float, COSError]] = {}  # lately; until when they count
        self._token = trio.lowlevel.current_trio_token()

    def hot(self, source: Source, block_no: int) -> Block | None:
        """The block if it is in memory; no waiting."""
        return self.cache.get_hot(source.block(block_no))

    async def block(
        self, source: Source, block_no: int, on_miss: Callable[[float], None] | None = None
    ) -> Block:
        """Return one block; the last one of an object is short.

        on_miss hears how long it took if COS had to be asked.
        """
        for _ in range(3):
            data = self.cache.get_hot(source.block(block_no))
            if data is not None:
                return data
            flight = self._flights.get(source.block(block_no))
            if flight is None:
                self._check_failed(source.block(block_no))
                self.fetch(source, block_no, block_no + 1)
                flight = self._flights[source.block(block_no)]
            began = trio.current_time()
            try:
                if flight.elsewhere:
                    await self._expected(source, flight)
                data = await flight.landing()
            finally:
                if on_miss is not None and flight.asked and flight.done.is_set():
                    on_miss(trio.current_time() - began)
            if data is not None:
                return data
        raise FilesystemError(5, f"{source.key}: block {block_no} could not be read")

    async def _expected(self, source: Source, flight: _Flight) -> None:
        """Wait for a block that goes ahead; give it up where COS is slow: others' questions come first."""
        with trio.move_on_after(self._remote.patience.io_timeout / 4):
            await flight.done.wait()
        if not flight.done.is_set():
            self.give_up(source)

    async def blocks(self, source: Source, run: list[int], *, urgent: bool) -> AsyncGenerator[Block, None]:
        """Bring consecutive blocks, each once; yields them in order, even what memory has let go of since.

        What is not urgent was looked for on disk already.
        """
        self.fetch(source, run[0], run[-1] + 1, urgent=urgent)
        flights = [self._flights.get(source.block(block_no)) for block_no in run]
        if not urgent and (last := flights[-1]) is not None:
            await last.done.wait()  # once for all: nobody wants one of them now
        for number, block_no in enumerate(run):
            flight, flights[number] = flights[number], None
            data = await flight.landing() if flight is not None else None
            yield await self.block(source, block_no) if data is None else data

    def forget_failures(self) -> None:
        """COS is back."""
        self._failures.clear()

    def _check_failed(self, key: BlockKey) -> None:
        """Fail as a moment ago."""
        if self._failures:
            until, error = self._failures.pop(key, (0.0, None))
            if error is not None and trio.current_time() < until:
                self._failures[key] = until, error
                again = copy.copy(error)
                again.repeated = True
                raise again

    def wanted(self, source: Source, block_no: int) -> bool:
        """Whether a block is neither in memory nor on its way."""
        key = source.block(block_no)
        return key not in self._flights and not self.cache.is_hot(key)

    def fetch(self, source: Source, first: int, stop: int, *, urgent: bool = True) -> None:
        """Start bringing blocks [first, stop) into memory; returns at once.

        What is not urgent lets bytes pass that are.
        """
        run: list[int] = []
        for block_no in range(first, stop):
            if self.wanted(source, block_no):
                run.append(block_no)
                continue
            self._start(source, run, urgent)
            run = []
        self._start(source, run, urgent)

    def expect(self, source: Source) -> None:
        """Somebody else brings the one block of a small object; it is wanted, and arrives or is given up."""
        self._flights[source.block(0)] = _Flight(elsewhere=True)
        self.in_flight += self.block_size

    def arrived(self, source: Source, data: Block) -> None:
        """The block that was expected is here."""
        self._arrived(source, 0, data, True)

    def give_up(self, source: Source) -> None:
        """The block that was expected does not come; who waits for it fetches it himself."""
        self._drop(source, 0, _Abandoned())

    def _start(self, source: Source, run: list[int], urgent: bool) -> None:
        if not run:
            return
        for block_no in run:
            self._flights[source.block(block_no)] = _Flight()
            self.in_flight += self.block_size
        self._background.start_soon(self._bring, source, run, urgent)

    async def _bring(self, source: Source, run: list[int], urgent: bool) -> None:
        """Land every block of a run: from disk where it is there, the rest by GETs."""
        missing = [] if urgent else run
        try:
            for block_no in run if urgent else ():
                # A short block in the middle of a file would become zeros in the kernel.
                data = await self.cache.get(source.block(block_no), self._length(source, block_no))
                if data is not None:
                    self._land(source, block_no, data)
                else:
                    missing.append(block_no)
            async with together() as nursery:
                for first, stop in _runs(missing):
                    nursery.start_soon(self._get, source, first, stop, urgent)
        finally:
            for block_no in run:
                self._drop(source, block_no, _Abandoned())

    def _length(self, source: Source, block_no: int) -> int:
        return min(self.block_size, source.size - block_no * self.block_size)

    async def _get(self, source: Source, first: int, stop: int, urgent: bool) -> None:
        began = trio.current_time()
        for block_no in range(first, stop):
            flight = self._flights.get(source.block(block_no))
            if flight is not None:
                flight.asked = True
        try:
            await self._remote.data(self._read_blocks, source, first, stop, urgent)
        except Exception as exc:
            slow = trio.current_time() - began >= SLOW_FAILURE
            if not isinstance(exc, COSError):
                log.exception("reading %r", source.key)
            for block_no in range(first, stop):
                if slow and source.block(block_no) in self._flights:
                    self._note_failure(source.block(block_no), exc)
                self._drop(source, block_no, exc)

    def _note_failure(self, key: BlockKey, error: Exception) -> None:
        if isinstance(error, UnreachableError) or not isinstance(error, ServiceError | NetworkTimeoutError):
            return  # those are found out at once
        if not error.retryable:
            return
        now = trio.current_time()
        while self._failures and next(iter(self._failures.values()))[0] < now:
            del self._failures[next(iter(self._failures))]
        self._failures.pop(key, None)
        self._failures[key] = now + FAILED_FOR, copy.copy(error)  # without the frames it came from

    def _read_blocks(self, source: Source, first: int, stop: int, urgent: bool) -> None:
        """Read [first, stop) with as few GETs as possible. Runs in a worker thread."""
        size = self.block_size
        start, end = first * size, min(stop * size, source.size)
        next_no = first
        tries, deadline = 0, math.inf
        while start < end:
            # Not inside the try: a request that was not answered has been repeated already.
            stream = self._remote.client.get_object(
                source.bucket, source.key, start=start, stop=end, if_match=source.etag, deadline=deadline
            )
            try:
                with stream, self.line.receiving(urgent=urgent):
                    if stream.info.size != source.size:
                        raise IntegrityError(f"cos://{source.bucket}/{source.key} changed its size under way")
                    while start < end:
                        if not urgent:
                            self.line.give_way()
                        want = min(size, end - start)
                        data = self.cache.buffers.take(want)
                        fill(stream, data)
                        self.line.received(want)
                        self._token.run_sync_soon(self._arrived, source, next_no, data, urgent)
                        start += want
                        next_no += 1
            except COSError as exc:
                # A connection that broke off half-way: go on behind the last whole block.
                tries, deadline = tries + 1, stream.deadline
                if not exc.retryable or tries > 4 or time.monotonic() >= deadline:
                    raise

    def _arrived(self, source: Source, block_no: int, data: Block, urgent: bool) -> None:
        self.cache.put(source.block(block_no), data, used=urgent)
        self._land(source, block_no, data)

    def _land(self, source: Source, block_no: int, data: Block) -> None:
        flight = self._flights.pop(source.block(block_no), None)
        if flight is not None:
            self.in_flight -= self.block_size
            flight.land(data)

    def _drop(self, source: Source, block_no: int, error: BaseException) -> None:
        flight = self._flights.pop(source.block(block_no), None)
        if flight is not None:
            self.in_flight -= self.block_size
            flight.land(None, error)

    async def find(self, source: Source) -> ObjectInfo | None:
        """What COS has now in the place of an object."""
        try:
            return await self._remote.metadata(self._remote.client.head_object, source.bucket, source.key)
        except NotFoundError:
            return None

    async def read_apart(
        self, source: Source, offset: int, length: int, on_miss: Callable[[float], None] | None = None
    ) -> Block:
        """As read(), of bytes whose neighbours nobody is known to want.

        Of a block on disk only they are read, and it is not kept in memory for them.
        """
        length = min(length, source.size - offset)
        block_no, begin = divmod(offset, self.block_size)
        whole, key = self._length(source, block_no), source.block(block_no)
        if not 0 < length <= whole // APART or begin + length > whole:
            return await self.read(source, offset, length, on_miss)
        if key not in self._flights and not self.cache.has_in_memory(key):
            part = await self.cache.get_part(key, begin, begin + length, whole)
            if part is not None:
                return part
            data = await self.block(source, block_no, on_miss)
            self.cache.leave_to_disk(key)
            return memoryview(data)[begin : begin + length]
        return await self.read(source, offset, length, on_miss)

    async def read(
        self, source: Source, offset: int, length: int, on_miss: Callable[[float], None] | None = None
    ) -> Block:
        """Return [offset, offset + length), cut at the end of the object; on_miss as of block()."""
        length = max(0, min(length, source.size - offset))
        if length == 0:
            return b""
        size = self.block_size
        first, last = offset // size, (offset + length - 1) // size
        if first == last:
            data = self.hot(source, first)
            if data is None:
                data = await self.block(source, first, on_miss)
            begin = offset - first * size
            return memoryview(data)[begin : begin + length]
        if any(self.hot(source, no) is None for no in range(first, last + 1)):
            self.fetch(source, first, last + 1)
        pieces = []
        for block_no in range(first, last + 1):
            data = self.hot(source, block_no)
            if data is None:
                data = await self.block(source, block_no, on_miss)
            begin = max(0, offset - block_no * size)
            stop = min(len(data), offset + length - block_no * size)
            pieces.append(memoryview(data)[begin:stop])
        return b"".join(pieces)

    def keep(self, source: Source, data: bytes) -> None:
        """Remember the bytes of a small object that we have written ourselves."""
        for block_no in range((len(data) + self.block_size - 1) // self.block_size):
            start = block_no * self.block_size
            self.cache.put(source.block(block_no), data[start : start + self.block_size])


class _Abandoned(Exception):
    """The fetch was cancelled before this block arrived."""


def fill(stream: ObjectStream, data: memoryview) -> None:
    """Read as many bytes of a stream as data holds; IntegrityError if it has fewer."""
    done = 0
    while done < len(data):
        count = stream.read_into(data[done:])
        if count == 0:
            raise IntegrityError(f"{done} of {len(data)} bytes arrived")
        done += count


def _runs(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Consecutive numbers as half-open ranges."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and found[-1][1] == number:
            found[-1] = (found[-1][0], number + 1)
        else:
            found.append((number, number + 1))
    return found
