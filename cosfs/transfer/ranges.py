"""A large object to a local file: ranges of it, many at once, kept for later if they are interrupted."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import trio

from cosfs.client.model import ObjectInfo
from cosfs.client.url import CosUrl
from cosfs.errors import IntegrityError, PreconditionFailedError
from cosfs.transfer import parts
from cosfs.transfer.engine import LARGE, PARTS, SMALL, Engine, Flow, open_nursery
from cosfs.transfer.landing import check, describe, put_in_place, sink_for
from cosfs.transfer.model import TransferResult
from cosfs.transfer.paths import LocalTarget
from cosfs.transfer.receive import Received, Sink, Source, crc_of, receive, write_to
from cosfs.transfer.reopen import claim
from cosfs.transfer.resume import Record, can_be_resumed, saving
from cosfs.transfer.temporary import TemporaryFile
from cosfs.transfer.work import Meter, Progress, SharedFile

__all__ = ["download_ranges"]

log = logging.getLogger(__name__)

Range = tuple[int, int]


async def download_ranges(
    engine: Engine, source: Source, target: LocalTarget, progress: Progress | None
) -> TransferResult:
    """Download an object of any size; begun again once if it turns out to be another one meanwhile."""
    for attempt in (1, 2):
        moved = _Moved(progress)
        download = _Download(engine, source, target, moved, attempt)
        try:
            return await download.run()
        except (IntegrityError, PreconditionFailedError) as error:
            moved.take_back()
            if attempt == 2:
                raise
            log.info("%s is downloaded again: %s", source, error)
            source = replace(source, info=None)
    raise AssertionError("unreachable")


class _Moved:
    """Progress that can be taken back as a whole."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._total = 0
        self._open = True

    def __call__(self, count: int) -> None:
        if not self._open:
            # From a thread that was given up.
            return
        self._total += count
        if self._progress is not None:
            self._progress(count)

    def take_back(self) -> None:
        self(-self._total)
        self._open = False


class _Download:
    """One version of the object on its way into one temporary file."""

    def __init__(
        self, engine: Engine, source: Source, target: LocalTarget, moved: _Moved, attempt: int
    ) -> None:
        self._engine = engine
        self._source = source
        self._target = target
        self._moved = moved
        self._attempt = attempt
        self._pieces: dict[int, tuple[int, int]] = {}  # start -> crc64, length
        self._begun: dict[int, Received] = {}  # by start, of ranges under way; written by threads
        self._length = source.options.part_size or engine.part_size(source.options.traffic_limit)
        self._record: Record | None = None
        # Files that are gone on with may hold something where there shall be a hole.
        self._sink: Callable[[int], Sink] = partial(sink_for, source)

    async def run(self) -> TransferResult:
        info = self._source.info
        if info is None and self._was_begun():
            info = await self._engine.run(self._head)
        try:
            if info is not None:
                self._record = await self._claim(info)
                temporary = await self._reopened(info)
                if temporary is not None:
                    return await self._fetch_into(temporary, info)
            # Not cancellable, so that nobody loses the file that was created.
            temporary = await trio.to_thread.run_sync(TemporaryFile, self._target, self._engine.traces)
            return await self._fetch_into(temporary, info)
        finally:
            if self._record is not None:
                self._record.release()

    async def _fetch_into(self, temporary: TemporaryFile, info: ObjectInfo | None) -> TransferResult:
        try:
            try:
                info = await self._fetch_all(temporary, info)
                finish = partial(_finish, self._source, info, self._pieces, temporary, self._target)
                crc, verified = await trio.to_thread.run_sync(finish)
            except BaseException as error:
                await self._end(temporary, error)
                raise
            await self._end(temporary, None)
            return describe(self._source, info, crc, verified, self._attempt)
        finally:
            temporary.discard()

    # --- ranges

    async def _fetch_all(self, temporary: TemporaryFile, info: ObjectInfo | None) -> ObjectInfo:
        engine, source, moved = self._engine, self._source, self._moved
        known = 0
        if info is None:
            # The first range tells what there is; most objects end in it.
            first = await self._fetch_first(temporary)
            info, known = first.info, first.stop
            self._pieces[0] = first.crc64, first.stop
            self._record = await self._claim(info)
        length = parts.part_size(info.size, self._length)
        if not self._pieces or known:
            await trio.to_thread.run_sync(
                partial(temporary.allocate, info.size, sparse=source.options.sparse)
            )
        async with open_nursery() as nursery:
            changed = await self._begin_record(temporary, info, nursery)
            arrived = self._arrived
            fetch = partial(
                _fetch_range, engine, source, temporary.file, self._sink, info.etag, moved, arrived
            )

            def keep(piece: Range, got: Received | None, error: Exception | None) -> None:
                nonlocal info
                if error is not None:
                    raise error
                assert got is not None
                self._begun.pop(got.start, None)
                self._pieces[got.start] = got.crc64, got.stop - got.start
                # A listing does not tell the checksum of the object; every GET does.
                info = got.info
                changed(got.start, got.stop, got.crc64)

            async with Flow(engine, PARTS, keep, 2 * engine.limit) as flow:
                await flow.put_all(fetch, self._missing(known, info.size, length))
            nursery.cancel_scope.cancel()
        return info

    async def _fetch_first(self, temporary: TemporaryFile) -> Received:
        """Fetch the beginning of an object of which nothing is known yet."""
        engine, source = self._engine, self._source
        fetch = partial(_fetch_first, engine, source, temporary.file, self._sink, self._length, self._moved)
        try:
            return await engine.run(fetch, self._arrived, kind=SMALL)
        except BaseException:
            if 0 in self._begun:
                # Enough is known by now to go on with it later.
                info = self._begun[0].info
                with trio.CancelScope(shield=True):
                    self._record = await self._claim(info)
                    self._describe(temporary, info)
            raise

    def _arrived(self, got: Received) -> None:
        self._begun[got.start] = got

    def _missing(self, start: int, stop: int, length: int) -> Iterator[Range]:
        """Yield what lies between the pieces, cut at multiples of length."""
        position = start
        for begin, end in [
            *sorted((at, at + count) for at, (_, count) in self._pieces.items()),
            (stop, stop),
        ]:
            while position < begin:
                cut = min((position // length + 1) * length, begin)
                yield position, cut
                position = cut
            position = max(position, end)

    # --- the record

    def _ends(self) -> tuple[str, str]:
        source = self._source
        version = f"?versionId={source.version_id}" if source.version_id else ""
        return f"{CosUrl(source.bucket, source.key)}{version}", os.path.abspath(self._target.path)  # noqa: PTH100

    def _was_begun(self) -> bool:
        records = self._engine.records
        return records is not None and records.exists("download", *self._ends())

    def _head(self) -> ObjectInfo | None:
        source = self._source
        return self._engine.client.head_object(
            source.bucket, source.key, version_id=source.version_id, headers=source.options.key_headers
        )

    async def _claim(self, info: ObjectInfo) -> Record | None:
        if self._record is not None or not info.etag or self._source.options.verify == "none":
            return self._record
        return await claim(self._engine, "download", *self._ends(), info.size, self._source.options)

    async def _reopened(self, info: ObjectInfo) -> TemporaryFile | None:
        """Return the file of an earlier process, with what is good in it noted; None if there is none."""
        if self._record is None or not self._record.state.temporary:
            return None
        state = self._record.state
        same = (state.etag, state.size) == (info.etag, info.size)
        reopen = partial(TemporaryFile.reopen, self._target, state.temporary, state.file)
        temporary = await trio.to_thread.run_sync(reopen)
        if temporary is None or not same:
            if temporary is not None:
                log.info("%s is downloaded from its start: it has changed", self._source)
                temporary.discard()
            state.begin_again()
            return None
        self._sink = write_to
        try:
            await trio.to_thread.run_sync(partial(temporary.allocate, info.size, sparse=True))
            await self._keep_what_is_good(temporary)
        except BaseException:
            temporary.keep()
            raise
        return temporary

    async def _keep_what_is_good(self, temporary: TemporaryFile) -> None:
        """Read back what was done: after a loss of power it may not be on the disk."""
        assert self._record is not None
        done = self._record.state.done

        def look(item: tuple[str, list[int]]) -> bool:
            start, (stop, crc) = int(item[0]), item[1]
            with temporary.file as fd:
                return crc_of(fd, start, stop) == crc

        def looked(item: tuple[str, list[int]], good: bool | None, error: Exception | None) -> None:
            if error is not None:
                raise error
            start, (stop, crc) = int(item[0]), item[1]
            if good:
                self._pieces[start] = crc, stop - start
                self._moved(stop - start)
            else:
                del done[item[0]]

        await self._engine.run_many(look, list(done.items()), looked, kind=LARGE)

    async def _begin_record(
        self, temporary: TemporaryFile, info: ObjectInfo, nursery: trio.Nursery
    ) -> Callable[[int, int, int], None]:
        """Note what is downloaded where; return what notes each range."""
        record = self._record
        if record is None:
            return lambda start, stop, crc: None
        self._describe(temporary, info)
        done = record.state.done
        changed: Callable[[], None] = await nursery.start(partial(saving, record))
        changed()

        def note(start: int, stop: int, crc: int) -> None:
            done[str(start)] = [stop, crc]
            changed()

        return note

    def _describe(self, temporary: TemporaryFile, info: ObjectInfo) -> None:
        """Have the record say what is downloaded where."""
        if self._record is None:
            return
        state = self._record.state
        source = self._source
        state.bucket, state.key, state.version_id = source.bucket, source.key, source.version_id
        state.etag, state.size, state.crc64 = info.etag, info.size, info.crc64
        state.region = self._engine.client.known_region(source.bucket)
        state.part_size = parts.part_size(info.size, self._length)
        state.temporary, state.file = temporary.name, temporary.identity
        root = self._target.root
        state.root = os.path.abspath(root.path) if root is not None else ""  # noqa: PTH100
        state.keep_options(source.options)
        state.done = {str(start): [start + length, crc] for start, (crc, length) in self._pieces.items()}

    def _keep_what_arrived(self) -> None:
        """Count the beginnings of ranges that were interrupted as pieces of their own."""
        assert self._record is not None
        for start, got in list(self._begun.items()):
            if start not in self._pieces and got.stop > start:
                self._pieces[start] = got.crc64, got.stop - start
                self._record.state.done[str(start)] = [got.stop, got.crc64]

    async def _end(self, temporary: TemporaryFile, error: BaseException | None) -> None:
        """Keep the file and the record if the download can be resumed; else remove the record."""
        record, records = self._record, self._engine.records
        if record is None or records is None:
            return
        if error is not None:
            self._keep_what_arrived()
        wanted = error is not None and bool(self._pieces) and can_be_resumed(error) and temporary.is_there
        with trio.CancelScope(shield=True):
            if wanted and await trio.to_thread.run_sync(record.keep):
                temporary.keep()
                records.kept.append(record.id)
            else:
                await trio.to_thread.run_sync(record.remove)


def _fetch_first(
    engine: Engine,
    source: Source,
    file: SharedFile,
    sink: Callable[[int], Sink],
    length: int,
    progress: Progress,
    arrived: Callable[[Received], None],
) -> Received:
    """GET the first length bytes of an object nobody knows anything about."""
    meter = Meter(engine, progress)
    with file as fd:
        got = receive(engine, source, 0, length, sink(fd), meter, arrived=arrived)
    meter.flush()
    return got


def _fetch_range(
    engine: Engine,
    source: Source,
    file: SharedFile,
    sink: Callable[[int], Sink],
    etag: str,
    progress: Progress,
    arrived: Callable[[Received], None],
    piece: Range,
) -> Received:
    """GET one range into its place in the file."""
    start, stop = piece
    meter = Meter(engine, progress)
    with file as fd:
        got = engine.lend(_fetch_aside, source, sink, etag, piece, fd=fd)
        if got is not None:
            engine.client.stats.add(received=stop - start)
            meter.add(stop - start)
        else:
            begun = time.monotonic()
            got = receive(engine, source, start, stop, sink(fd), meter, if_match=etag, arrived=arrived)
            engine.note_speed(got.stop - start, time.monotonic() - begun)
    meter.flush()
    return _checked(source, got, stop)


def _fetch_aside(
    engine: Engine, source: Source, sink: Callable[[int], Sink], etag: str, piece: Range, fd: int
) -> Received:
    """GET one range into its place; in the second process, once."""
    start, stop = piece
    got = receive(engine, source, start, stop, sink(fd), Meter(engine, None), if_match=etag)
    return _checked(source, got, stop)


def _checked(source: Source, got: Received, stop: int) -> Received:
    if got.stop != stop:
        raise IntegrityError(f"{source}: bytes {got.stop} to {stop} did not arrive")
    return got


def _finish(
    source: Source,
    info: ObjectInfo,
    pieces: dict[int, tuple[int, int]],
    temporary: TemporaryFile,
    target: LocalTarget,
) -> tuple[int, str]:
    """Verify the whole file and put it in its place."""
    crc = parts.combine_crc64(pieces[start] for start in sorted(pieces))
    size = sum(length for _, length in pieces.values())
    with temporary.file as fd:
        verified = check(source, info, size, crc, fd)
    put_in_place(temporary, target, source, info)
    return crc, verified
