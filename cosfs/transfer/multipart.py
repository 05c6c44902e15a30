"""One open multipart upload: parts sent or copied in any order, then completed or aborted."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import AsyncIterable, Callable, Iterable
from functools import partial
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

import trio

from cosfs.client.body import Body, FileBody, digest
from cosfs.client.model import Headers, Part, PutResult, Upload
from cosfs.errors import COSError, IntegrityError, ServiceError
from cosfs.transfer import opening
from cosfs.transfer.engine import LARGE, PARTS, Engine, Flow
from cosfs.transfer.model import Doubt
from cosfs.transfer.options import DEFAULTS, TransferOptions
from cosfs.transfer.parts import combine_crc64
from cosfs.transfer.scheduler import Queue
from cosfs.transfer.work import Meter, MeteredFile, Progress, SharedFile, SummedFile, metered

__all__ = ["MultipartUpload", "as_damage", "damaged_on_the_way"]

log = logging.getLogger(__name__)

# How long aborting may hold up whoever was cancelled.
_ABORT_TIME = 5.0
# How long it waits for parts under way, before and after the abort.
_QUIET_SOON = 0.3
_QUIET_LATE = 1.0

Piece = tuple[int, int, int]  # part number, start, stop
P = ParamSpec("P")
T = TypeVar("T")


def damaged_on_the_way(error: COSError) -> bool:
    """Whether COS got other bytes than those whose checksum we sent, or we think so."""
    return isinstance(error, IntegrityError) or (
        isinstance(error, ServiceError) and error.code in ("BadDigest", "InvalidDigest")
    )


def as_damage(error: COSError) -> IntegrityError:
    """Return the same as an IntegrityError."""
    return error if isinstance(error, IntegrityError) else IntegrityError(str(error))


class MultipartUpload:
    """Parts sent so far and the upload they belong to.

    As an async context manager it is aborted unless it was completed or is kept. Each upload is one share
    of the engine's slots, whoever calls `send`.
    """

    def __init__(
        self,
        engine: Engine,
        upload: Upload,
        *,
        forbid_overwrite: bool = False,
        options: TransferOptions = DEFAULTS,
    ) -> None:
        self.upload = upload
        self.options = options
        self.parts: dict[int, Part] = {}
        self.forbid_overwrite = forbid_overwrite
        self.completed = False
        self.kept = False  # to be resumed: left open when it is not completed
        self._aborted = False
        self._engine = engine
        self._queue: Queue[Any] = Queue(LARGE)
        self.sums_once = True  # until the server turns out not to tell the CRC-64 of a part
        # Calls in worker threads, abandoned ones too; only touched by atomic operations.
        self._working: set[object] = set()

    @classmethod
    async def create(
        cls,
        engine: Engine,
        bucket: str,
        key: str,
        headers: Headers | None = None,
        forbid_overwrite: bool = False,
        options: TransferOptions = DEFAULTS,
    ) -> MultipartUpload:
        """Open an upload; cancelled meanwhile, the upload COS may have opened is aborted."""
        create = partial(opening.create, engine, bucket, key, headers or Headers(), forbid_overwrite, options)
        doubt = Doubt(bucket, key, time.time())

        def discard(upload: Upload) -> None:
            opening.abort(engine, upload)
            if not upload.doubtful:
                engine.doubts.discard(doubt)

        # As long as the answer is not there: the process may be interrupted and end before.
        engine.doubts.add(doubt)
        try:
            upload = await engine.run(create, discard=discard)
        except COSError as error:
            doubt.until = time.time()
            if not error.uncertain:
                engine.doubts.discard(doubt)
            raise
        doubt.until, doubt.known = time.time(), upload.upload_id
        if not upload.doubtful:
            engine.doubts.discard(doubt)
        return cls(engine, upload, forbid_overwrite=forbid_overwrite, options=options)

    async def __aenter__(self) -> MultipartUpload:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.completed and not self.kept:
            await self.abort()

    async def send(
        self,
        number: int,
        body: Body,
        progress: Progress | None = None,
        *,
        once: bool = False,
        crc64: int | None = None,
    ) -> Part:
        """Send one part; its checksums are computed in the worker and compared.

        With once a file is read only once: its CRC-64 is computed while it is sent, and there is no MD5.
        With crc64 as well, what it is if the file has not been changed, it is not read here at all.
        number counts from 1; a part sent earlier under it is replaced. A FileBody's descriptor
        may be closed as soon as this returns or is cancelled; memory must stay unchanged until
        then. Nothing of a cancelled part counts.
        """
        part = await self._engine.run(
            self._tracked(_send_part),
            self._engine,
            self,
            number,
            _own(body),
            progress,
            once,
            crc64,
            queue=self._queue,
        )
        self.parts[number] = part
        return part

    async def copy(
        self,
        number: int,
        source_bucket: str,
        source_key: str,
        start: int,
        stop: int,
        *,
        if_match: str = "",
        source_version_id: str = "",
    ) -> Part:
        """Let the server copy bytes [start, stop) of another object into one part."""
        copy = self.copier(source_bucket, source_key, if_match=if_match, version_id=source_version_id)
        part = await self._engine.run(copy, (number, start, stop), queue=self._queue)
        self.parts[number] = part
        return part

    def copier(
        self, source_bucket: str, source_key: str, *, if_match: str = "", version_id: str = ""
    ) -> Callable[[Piece], Part]:
        """Return the blocking call that copies one (number, start, stop)."""

        def copy(piece: Piece) -> Part:
            number, start, stop = piece
            return self._engine.client.upload_part_copy(
                self.upload,
                number,
                source_bucket,
                source_key,
                start,
                stop,
                if_match=if_match,
                source_version_id=version_id,
                extra=self.options.copy_headers,
            )

        return self._tracked(copy)

    async def send_all(
        self,
        send: Callable[[Piece], Part],
        pieces: Iterable[Piece] | AsyncIterable[Piece],
        on_part: Callable[[Part], None] | None = None,
    ) -> None:
        """Call send((number, start, stop)) for many parts at once; the first failure ends it."""

        def keep(piece: Piece, part: Part | None, error: Exception | None) -> None:
            if error is not None:
                raise error
            assert part is not None
            self.parts[part.number] = part
            if on_part is not None:
                on_part(part)

        async with Flow(self._engine, PARTS, keep, 2 * self._engine.limit) as flow:
            await flow.put_all(send, pieces)

    def sender(self, file: SharedFile, progress: Progress | None) -> Callable[[Piece], Part]:
        """Return the blocking call that sends one (number, start, stop) of a file."""

        def send(piece: Piece) -> Part:
            number, start, stop = piece
            return _send_part(self._engine, self, number, (file, start, stop - start), progress)

        return self._tracked(send)

    def _tracked(self, call: Callable[P, T]) -> Callable[P, T]:
        def tracked(*args: P.args, **kwargs: P.kwargs) -> T:
            mark = object()
            self._working.add(mark)
            try:
                return call(*args, **kwargs)
            finally:
                self._working.discard(mark)

        return tracked

    async def complete(self) -> PutResult:
        """Make the object of the parts; compare its checksum with that of the parts, if all are known.

        Raises IntegrityError if it differs: the object is there, and is not what was sent.
        """
        parts = [self.parts[number] for number in sorted(self.parts)]
        complete = partial(opening.complete, self._engine, self.upload, parts, self.forbid_overwrite)
        result = await self._engine.run(complete)
        self.completed = True
        expected = self.crc64()
        if expected is not None and result.crc64 is not None and expected != result.crc64:
            raise IntegrityError(
                f"cos://{self.upload.bucket}/{self.upload.key}: the checksum of the completed upload "
                f"is {result.crc64}, that of its parts {expected}"
            )
        return result

    def crc64(self) -> int | None:
        """Return the checksum of all parts together; None if that of one is not known."""
        pieces = []
        for number in sorted(self.parts):
            part = self.parts[number]
            if part.crc64 is None:
                return None
            pieces.append((part.crc64, part.size))
        return combine_crc64(pieces)

    async def abort(self) -> bool:
        """Give the upload up; never raises, is not cancelled, takes a few seconds at most.

        Returns whether COS knows.
        """
        if self.completed or self._aborted:
            return True
        known = False
        self._engine.abandon(self._queue)
        with trio.move_on_after(_ABORT_TIME, shield=True) as scope:
            # A part that arrives after the abort would be kept, and billed: wait for those under
            # way, which end at their next piece, and look once more if one did not.
            quiet = await self._quiet(_QUIET_SOON)
            known = await self._abort_once()
            if not quiet and await self._quiet(_QUIET_LATE):
                known = await self._abort_once()
        if scope.cancelled_caught:
            log.warning("gave up aborting the upload of %r after %.0f s", self.upload.key, _ABORT_TIME)
        self._aborted = known and not scope.cancelled_caught
        return self._aborted

    async def _quiet(self, seconds: float) -> bool:
        """Wait until no thread works for this upload; return whether it came to that in time."""
        with trio.move_on_after(seconds):
            while self._working:  # noqa: ASYNC110 - changed by threads, rare and short
                await trio.sleep(0.01)
        return not self._working

    async def _abort_once(self) -> bool:
        try:
            await self._engine.run(opening.abort, self._engine, self.upload)
        except COSError as error:
            log.warning("could not abort the upload of %r: %s", self.upload.key, error)
            return False
        return True


def _own(body: Body) -> Body | tuple[SharedFile, int, int]:
    """Give a worker a descriptor of its own: the caller's may be closed when it is cancelled."""
    if isinstance(body, FileBody):
        return SharedFile(os.dup(body.fileno())), body.offset, body.length
    return body


def _send_part(
    engine: Engine,
    upload: MultipartUpload,
    number: int,
    body: Body | tuple[SharedFile, int, int],
    progress: Progress | None,
    once: bool = False,
    crc: int | None = None,
) -> Part:
    """Send one part in a worker thread; damaged on its way it is sent once more."""
    if isinstance(body, tuple):
        file, offset, length = body
        with file as fd:
            return _send_part(engine, upload, number, FileBody(fd, offset, length), progress, once, crc)
    meter = Meter(engine, progress)
    if crc is not None and once and upload.sums_once and isinstance(body, FileBody):
        sent = _send_unread(engine, upload, number, body, meter, crc)
        if sent is not None:
            return sent
    for attempt in (1, 2):
        try:
            if once and upload.sums_once and isinstance(body, FileBody):
                part = _send_once(engine, upload, number, body, meter)
            else:
                part = _send_summed(engine, upload, number, body, meter)
        except COSError as error:
            meter.rewind()
            meter.flush()
            upload.sums_once = False
            if not damaged_on_the_way(error):
                raise
            # What COS refused was sent again already; what it took and has wrong was not.
            if attempt == 2 or not isinstance(error, IntegrityError):
                raise as_damage(error) from error
            log.warning("part %d of %r is sent again: %s", number, upload.upload.key, error)
        else:
            meter.settle(part.size)
            return part
    raise AssertionError("unreachable")


def _send_summed(engine: Engine, upload: MultipartUpload, number: int, body: Body, meter: Meter) -> Part:
    sums = digest(body)
    return engine.client.upload_part(
        upload.upload,
        number,
        metered(body, meter),
        content_md5=sums.md5,
        crc64=sums.crc64,
        extra=upload.options.body_headers,
    )


def _send_unread(
    engine: Engine, upload: MultipartUpload, number: int, body: FileBody, meter: Meter, crc: int
) -> Part | None:
    """Send a part whose CRC-64 is known; None if that is not the one of what has arrived."""
    told = False

    def known() -> int:
        nonlocal told
        told = True
        return crc

    file = MeteredFile(body.fileno(), body.offset, body.length, meter)
    try:
        part = engine.client.upload_part(
            upload.upload, number, file, crc64=known, extra=upload.options.body_headers
        )
    except COSError as error:
        meter.rewind()
        meter.flush()
        if not isinstance(error, IntegrityError):
            raise
        # Most likely it was written again meanwhile.
        log.info("part %d of %r is sent again: %s", number, upload.upload.key, error)
        upload.sums_once = upload.sums_once and told
        return None
    meter.settle(part.size)
    return part


def _send_once(engine: Engine, upload: MultipartUpload, number: int, body: FileBody, meter: Meter) -> Part:
    summed = SummedFile(body.fileno(), body.offset, body.length, meter)
    return engine.client.upload_part(
        upload.upload, number, summed, crc64=summed.crc64, extra=upload.options.body_headers
    )
