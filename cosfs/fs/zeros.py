"""Objects of zeros, from which COS makes the holes of a file: they need not be sent.

COS makes a part of bytes that an object has. So a few megabytes of zeros become an object beside the file,
if need be that becomes a larger one inside COS, the holes are copied from it, and it goes. The journal has
its removal before it is made: nothing stays if we are killed.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from cosfs.client.model import Headers
from cosfs.errors import COSError
from cosfs.fs.background import together
from cosfs.fs.deleter import Deleter
from cosfs.fs.fetcher import Source
from cosfs.fs.helpers import new_helper
from cosfs.fs.journal import Journal
from cosfs.fs.leavings import Leavings
from cosfs.fs.marks import mark_of
from cosfs.fs.remote import Remote
from cosfs.fs.uploads import Uploads

__all__ = ["PARALLEL", "Zeros"]

log = logging.getLogger(__name__)

PARALLEL = 16  # copies of one file at a time: COS works, not we, but others want requests as well


class Zeros:
    """Makes and removes such objects. piece: bytes that are sent, at most."""

    def __init__(
        self,
        remote: Remote,
        uploads: Uploads,
        deleter: Deleter,
        leavings: Leavings,
        journal: Journal,
        piece: int,
        extra: dict[str, str],
    ) -> None:
        self._remote = remote
        self._uploads = uploads
        self._deleter = deleter
        self._leavings = leavings
        self._journal = journal
        self._piece = piece
        self._extra = {k: v for k, v in extra.items() if k.lower() != "x-cos-storage-class"}

    @asynccontextmanager
    async def of(self, bucket: str, beside: str, length: int) -> AsyncIterator[Source]:
        """An object of length zeros beside another one, as long as the block lasts."""
        key, token = new_helper(beside)
        headers = Headers(
            content_type="application/octet-stream", metadata={"zeros": token}, extra=self._extra
        )
        first = min(length, self._piece)
        marks = [mark_of(size, headers) for size in {first, length}]
        intent = self._journal.add("delete", bucket, key, {"etag": "", "sent": marks})
        self._leavings.helpers.add((bucket, key))
        versions: list[str] = []
        try:
            source = await self._put(bucket, key, headers, first, versions)
            if first < length:
                source = await self._grow(source, headers, length, versions)
            yield source
        finally:
            with trio.CancelScope(shield=True):
                await self._remove(bucket, key, versions)
            with self._journal.together():
                self._deleter.schedule(bucket, key, careful=True, marks=marks)
                self._journal.remove(intent)
            self._leavings.helpers.discard((bucket, key))

    async def _put(self, bucket: str, key: str, headers: Headers, length: int, versions: list[str]) -> Source:
        result = await self._remote.change(
            self._remote.client.put_object, bucket, key, bytes(length), headers=headers
        )
        versions.append(result.version_id)
        return Source(bucket, key, result.etag, length)

    async def _grow(self, source: Source, headers: Headers, length: int, versions: list[str]) -> Source:
        upload = await self._uploads.open(source.bucket, source.key, headers)
        slots = trio.CapacityLimiter(PARALLEL)
        count = length // source.size  # the last one takes what is left over: no part may be short

        async def copy(number: int, start: int, stop: int) -> None:
            async with slots:
                await upload.copy(number, source.bucket, source.key, start, stop, if_match=source.etag)

        try:
            async with together() as nursery:
                for number in range(1, count + 1):
                    nursery.start_soon(copy, number, 0, source.size)
                if rest := length - count * source.size:
                    nursery.start_soon(copy, count + 1, 0, rest)
            result = await self._uploads.complete(upload)
        except BaseException:
            await self._uploads.abort(upload)
            raise
        versions.append(result.version_id)
        return Source(source.bucket, source.key, result.etag, length)

    async def _remove(self, bucket: str, key: str, versions: list[str]) -> None:
        """Remove the versions that a bucket with versioning would keep, and bill."""
        for version in filter(None, versions):
            try:
                await self._remote.change(self._remote.client.delete_object, bucket, key, version_id=version)
            except COSError as exc:
                log.warning("version %s of cos://%s/%s cannot be removed: %s", version, bucket, key, exc)
