"""Sending a new large file while it is still being written.

Once the head of a new file is longer than the multipart threshold, each full part goes out as
soon as it is complete. A part that is written again later is sent again; cutting the file off
before what was sent gives the upload up (the staging file still has every byte).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

import trio

from cosfs.client.model import Headers, PutResult
from cosfs.errors import COSError, IntegrityError
from cosfs.fs.background import Background, together
from cosfs.fs.staging import Staging
from cosfs.fs.uploads import Uploads
from cosfs.transfer.multipart import MultipartUpload

log = logging.getLogger(__name__)

PARTS_PER_SIZE = 1000  # the part size doubles after so many parts: 10,000 parts reach 8 TiB


def part_range(number: int, part_size: int) -> tuple[int, int]:
    """Bytes of one part (from 1) of a file whose size is not known yet."""
    start, size, left = 0, part_size, number - 1
    while left >= PARTS_PER_SIZE:
        start += PARTS_PER_SIZE * size
        size *= 2
        left -= PARTS_PER_SIZE
    return start + left * size, start + (left + 1) * size


class Stream:
    """One upload of a growing file. Parts run in background; errors are told by send_rest()."""

    def __init__(
        self,
        uploads: Uploads,
        background: Background,
        bucket: str,
        key: str,
        headers: Headers,
        part_size: int,
    ) -> None:
        self.bucket = bucket
        self.key = key
        self.headers = headers
        self._uploads = uploads
        self._background = background
        self._part_size = part_size
        self._next = 1  # number of the first part not yet started
        self._upload: MultipartUpload | None = None
        self._start_lock = trio.Lock()
        self._busy: dict[int, trio.Event] = {}
        self._stale: set[int] = set()  # to be sent again
        self._scopes: set[trio.CancelScope] = set()
        self._slots = trio.CapacityLimiter(4)  # parts of one file at a time, so that many files share

    def grew(self, staging: Staging) -> None:
        """Start the parts that are complete now."""
        staging.sum_up()
        while True:
            start, stop = part_range(self._next, self._part_size)
            if stop > staging.size or not staging.changed.covers(start, stop):
                return
            self._launch(self._next, staging, start, stop)
            self._next += 1

    def wrote(self, start: int, stop: int) -> None:
        """Bytes changed: parts already sent or on their way must go again."""
        if start >= self.sent_end:
            return
        for number in range(1, self._next):
            part_start, part_stop = part_range(number, self._part_size)
            if part_start < stop and start < part_stop:
                self._stale.add(number)

    @property
    def next_number(self) -> int:
        """The number of the first part that was not begun."""
        return self._next

    @property
    def sent_end(self) -> int:
        """Everything before this was sent or is being sent."""
        return part_range(self._next, self._part_size)[0]

    def _launch(self, number: int, staging: Staging, start: int, stop: int) -> None:
        self._stale.discard(number)
        self._busy[number] = trio.Event()
        self._background.start_soon(self._send, number, staging, start, stop)

    async def _send(self, number: int, staging: Staging, start: int, stop: int) -> None:
        try:
            with trio.CancelScope() as scope:
                self._scopes.add(scope)
                async with self._slots:
                    upload = await self._started()
                    await _send_part(upload, number, staging, start, stop)
        except (COSError, OSError) as exc:
            # send_rest() sends it again and reports what happens then. A body that changed while
            # it was read fails its checksum; it is in _stale already.
            log.debug("part %d of %r: %s", number, self.key, exc)
            self._stale.add(number)
        finally:
            self._scopes.discard(scope)
            self._busy.pop(number).set()

    async def _started(self) -> MultipartUpload:
        async with self._start_lock:
            if self._upload is None:
                self._upload = await self._uploads.open(self.bucket, self.key, self.headers)
            return self._upload

    async def send_rest(self, staging: Staging) -> None:
        """Send what is missing; there is no object before complete()."""
        number = self._next
        while part_range(number, self._part_size)[0] < staging.size:
            number += 1
        await self.send_begun(staging, range(self._next, number))

    async def send_begun(self, staging: Staging, more: Iterable[int] = ()) -> MultipartUpload:
        """Send what is missing of the parts that were begun, and more parts; return the upload."""
        await self._settle()
        upload, size = await self._started(), staging.size
        todo = [*sorted(self._stale), *more]
        self._stale.clear()
        async with together() as nursery:
            for n in todo:
                start, stop = part_range(n, self._part_size)
                nursery.start_soon(self._send_now, upload, n, staging, start, min(stop, size))
        return upload

    async def complete(self, *, forbid_overwrite: bool) -> PutResult:
        """Put the object together; everything must have been sent."""
        upload = await self._started()
        upload.forbid_overwrite = forbid_overwrite
        result = await self._uploads.complete(upload)
        if result.etag == "":
            raise IntegrityError(f"cos://{self.bucket}/{self.key}: COS gave no etag")
        return result

    async def _send_now(
        self, upload: MultipartUpload, number: int, staging: Staging, start: int, stop: int
    ) -> None:
        async with self._slots:
            await _send_part(upload, number, staging, start, stop)

    async def _settle(self) -> None:
        while self._busy:
            await next(iter(self._busy.values())).wait()

    async def abort(self) -> None:
        """Give the upload up and leave nothing in COS."""
        for scope in self._scopes:
            scope.cancel()
        with trio.CancelScope(shield=True):
            await self._settle()
            if self._upload is not None:
                await self._uploads.abort(self._upload)


async def _send_part(upload: MultipartUpload, number: int, staging: Staging, start: int, stop: int) -> None:
    crc = staging.take_crc64(start, stop)
    await upload.send(number, staging.body(start, stop), once=True, crc64=crc)
