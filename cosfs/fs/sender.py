"""How the bytes of one file get to COS: whole, in parts, or as a copy made there.

Knows content, keys and headers; when to send and what it means for the tree is for commit.py.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import trio

from cosfs.client.body import CHUNK, FileBody, digest
from cosfs.client.model import Headers, ObjectInfo, PutResult
from cosfs.errors import COSError, NotFoundError, PreconditionFailedError
from cosfs.fs.background import together
from cosfs.fs.extents import MAX_COPY, PartPlan, plan_parts, plan_rest
from cosfs.fs.fetcher import Fetcher, Source
from cosfs.fs.inodes import FileNode
from cosfs.fs.remote import Remote
from cosfs.fs.settings import MIB, FsSettings
from cosfs.fs.staging import Staging
from cosfs.fs.stream import Stream
from cosfs.fs.uploads import Uploads
from cosfs.fs.zeros import PARALLEL, Zeros
from cosfs.transfer.copy import copy_object
from cosfs.transfer.engine import Engine
from cosfs.transfer.multipart import MultipartUpload

SNAPSHOT_MAX = 4 * MIB  # up to here a file is sent from memory and may be written meanwhile
SMALL_MAX = 64 * 1024  # up to here many files are sent by one thread
KEEP_MAX = 16 * MIB  # up to here our own bytes go into the block cache after they were sent
COPIED_PARTS = 8000  # of an object, at most: the others are left to what is sent
ONE_COPY_MAX = 5 * 1024 * MIB  # COS's limit for PUT Object - Copy


class GivenUp(Exception):
    """A large file on its way was removed or renamed: nothing of it is in COS."""


class RevokedError(COSError):
    """The rest of a body is not to be sent."""


class _RevocableBody(FileBody):
    """What is not all sent yet can be taken back: COS stores nothing of a body that breaks off."""

    __slots__ = ("_data", "revoked")

    def __init__(self, body: FileBody | bytes) -> None:
        if isinstance(body, FileBody):
            super().__init__(os.dup(body.fileno()), body.offset, body.length)
            self._owned = True
            self._data = None
        else:
            super().__init__(-1, 0, len(body))
            self._data = memoryview(body)
        self.revoked = False

    def chunks(self, size: int = CHUNK) -> Iterator[memoryview]:
        for chunk in super().chunks(size) if self._data is None else _slices(self._data, size):
            if self.revoked:
                raise RevokedError("given up")
            yield chunk


def _slices(data: memoryview, size: int) -> Iterator[memoryview]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


class _Put(NamedTuple):
    """A file that is to be sent whole, as put_whole() was told."""

    bucket: str
    key: str
    content: Staging
    headers: Headers
    forbid: bool
    about_to: Callable[[int], None]
    look_again: Callable[[], Awaitable[object]] | None


class Sender:
    """Sends the content of files. uploads keeps track of the multipart uploads that are open."""

    def __init__(
        self,
        remote: Remote,
        engine: Engine,
        fetcher: Fetcher,
        uploads: Uploads,
        zeros: Zeros,
        settings: FsSettings,
    ) -> None:
        self._remote = remote
        self._engine = engine
        self._fetcher = fetcher
        self._uploads = uploads
        self._zeros = zeros
        self._settings = settings
        self._scopes: dict[tuple[str, str], trio.CancelScope] = {}
        self._bodies: dict[tuple[str, str], _RevocableBody] = {}
        self._unwanted: set[tuple[str, str]] = set()

    def ended(self, bucket: str, key: str) -> None:
        """A file is no longer on its way to a key: that it was given up does not hold for the next one."""
        self._unwanted.discard((bucket, key))

    def give_up(self, bucket: str, key: str) -> None:
        """Send no more to a key: whoever sends it gets GivenUp. What is sent in one small piece arrives."""
        self._unwanted.add((bucket, key))
        body = self._bodies.get((bucket, key))
        if body is not None:
            body.revoked = True
        scope = self._scopes.get((bucket, key))
        if scope is not None:
            scope.cancel()

    @contextmanager
    def may_be_given_up(self, bucket: str, key: str) -> Iterator[None]:
        """Around what has no effect before it is completed."""
        if (bucket, key) in self._unwanted:
            raise GivenUp
        with trio.CancelScope() as scope:
            self._scopes[bucket, key] = scope
            try:
                yield
            finally:
                del self._scopes[bucket, key]
        if scope.cancelled_caught:
            raise GivenUp

    @contextmanager
    def _revocable(self, bucket: str, key: str, body: FileBody | bytes) -> Iterator[_RevocableBody]:
        """Around one request with a large body."""
        made = _RevocableBody(body)
        made.revoked = (bucket, key) in self._unwanted
        self._bodies[bucket, key] = made
        try:
            yield made
        except RevokedError as exc:
            raise GivenUp from exc
        finally:
            made.close()  # the request has ended: it is never abandoned
            del self._bodies[bucket, key]

    async def is_gone(self, base: Source | None) -> bool:
        """Whether the object that a file was opened on can no longer be read."""
        if base is None:
            return False
        try:
            found = await self._remote.metadata(self._remote.client.head_object, base.bucket, base.key)
        except NotFoundError:
            return True
        return found is not None and found.etag != base.etag

    async def put_whole(
        self,
        bucket: str,
        key: str,
        content: Staging,
        headers: Headers,
        *,
        forbid: bool,
        about_to: Callable[[int], None] = lambda size: None,
        look_again: Callable[[], Awaitable[object]] | None = None,
    ) -> tuple[PutResult, int]:
        """Send all of a file; about_to is called with the size that COS gets, just before.

        Where there are many requests, look_again is called before the one that puts the file in its place.
        """
        put = _Put(bucket, key, content, headers, forbid, about_to, look_again)
        while True:
            try:
                if content.size < self._settings.multipart_threshold:
                    return await self._put_once(put)
                return await self._put_parts(put)
            except (NotFoundError, PreconditionFailedError):
                if not await content.find_sent(self._fetcher):
                    raise

    async def _put_once(self, put: _Put) -> tuple[PutResult, int]:
        """Send a file with a single request."""
        bucket, key, content, headers, forbid = put[:5]
        await content.fill(self._fetcher)
        await content.settled()
        # From here on writers of a file that is not sent from memory wait (reads_staging).
        size = content.size
        put.about_to(size)
        request = self._remote.client.put_object
        if size > SMALL_MAX:
            data = content.body(0, size) if size > SNAPSHOT_MAX else content.snapshot()
            with self._revocable(bucket, key, data) as body:
                result = await self._remote.change(
                    request, bucket, key, body, headers=headers, forbid_overwrite=forbid
                )
            return result, size
        data = content.snapshot()
        # Where close() waits for it, a file at a time, nothing is gained.
        if forbid and self._settings.write_back == "async":
            call = (bucket, key, data), {"headers": headers, "forbid_overwrite": True}
            (made,) = await self._remote.create_aside(bucket, "put_object", [call], size)
            if made is not None:
                return made, size
        result = await self._remote.small_change(
            request, bucket, key, data, headers=headers, forbid_overwrite=forbid
        )
        return result, size

    def reads_staging(self, node: FileNode) -> bool:
        """Whether the staging file must not be changed, because it is being sent as it is on disk."""
        large = node.size > SNAPSHOT_MAX or node.size >= self._settings.multipart_threshold
        return large and node.being_sent

    async def _put_parts(self, put: _Put) -> tuple[PutResult, int]:
        content = put.content
        await content.settled()
        size, base = content.size, content.base
        put.about_to(size)
        plan = plan_parts(
            size,
            content.changed,
            content.base_limit,
            self._settings.part_size,
            align=self._fetcher.block_size,
            max_copy=self._max_copy(size),
            zeros=self._settings.part_size,
        )
        upload = await self._uploads.open(put.bucket, put.key, put.headers, forbid_overwrite=put.forbid)
        try:
            with self.may_be_given_up(put.bucket, put.key):
                await self._send_plan(upload, content, plan, base)
            if put.look_again is not None:
                await put.look_again()
            return await self._uploads.complete(upload), size
        except BaseException:
            await self._uploads.abort(upload)
            raise

    async def send_rest(self, stream: Stream, content: Staging) -> None:
        """Send what is missing of a file that went out while it was written; long holes are made in COS."""
        size, begun = content.size, stream.sent_end
        plan = plan_rest(
            stream.next_number,
            begun,
            size,
            content.changed,
            self._settings.part_size,
            max_copy=self._max_copy(size),
            zeros=self._settings.part_size,
        )
        if all(part.source == "send" for part in plan):
            await stream.send_rest(content)
        else:
            await self._send_plan(await stream.send_begun(content), content, plan, None, once=True)

    def _max_copy(self, size: int) -> int:
        """The longest part that is made in COS: of very large objects there would be too many else."""
        return min(MAX_COPY, max(self._settings.max_copy_part, -(-size // COPIED_PARTS)))

    async def _send_plan(
        self,
        upload: MultipartUpload,
        content: Staging,
        plan: Sequence[PartPlan],
        base: Source | None,
        *,
        once: bool = False,
    ) -> None:
        slots, copies = trio.CapacityLimiter(8), trio.CapacityLimiter(PARALLEL)

        async def copy(part: PartPlan) -> None:
            assert base is not None
            async with copies:
                await upload.copy(
                    part.number, base.bucket, base.key, part.start, part.stop, if_match=base.etag
                )

        async def send(part: PartPlan) -> None:
            async with slots:
                await content.fill(self._fetcher, part.start, part.stop)
                await upload.send(part.number, content.body(part.start, part.stop), once=once)

        async with together() as nursery:
            for part in plan:
                if part.source != "zeros":
                    nursery.start_soon(copy if part.source == "copy" else send, part)
            nursery.start_soon(self._make_holes, upload, [part for part in plan if part.source == "zeros"])

    async def _make_holes(self, upload: MultipartUpload, holes: Sequence[PartPlan]) -> None:
        if not holes:
            return
        slots = trio.CapacityLimiter(PARALLEL)
        longest = max(part.stop - part.start for part in holes)
        async with self._zeros.of(upload.upload.bucket, upload.upload.key, longest) as zeros:

            async def make(part: PartPlan) -> None:
                async with slots:
                    await upload.copy(
                        part.number,
                        zeros.bucket,
                        zeros.key,
                        0,
                        part.stop - part.start,
                        if_match=zeros.etag,
                    )

            async with together() as nursery:
                for part in holes:
                    nursery.start_soon(make, part)

    async def keep(self, source: Source, content: Staging, version: int) -> None:
        """Put our own bytes into the block cache: reading them back costs no request."""
        if not (0 < source.size <= KEEP_MAX and content.valid.covers(0, source.size)):
            return
        if content.version != version or content.is_closed:
            return  # these are other bytes by now
        if source.size <= self._fetcher.block_size:
            data = content.snapshot()
        else:
            data = await trio.to_thread.run_sync(content.snapshot)
        await content.settled()
        if content.version == version:
            self._fetcher.keep(source, data)

    async def copy_onto_itself(self, bucket: str, key: str, info: ObjectInfo, headers: Headers) -> PutResult:
        if info.size > ONE_COPY_MAX:
            async with self._uploads.intent(bucket, key):
                done = await copy_object(
                    self._engine,
                    bucket,
                    key,
                    bucket,
                    key,
                    info=info,
                    headers=headers,
                    storage_class=info.storage_class,
                )
            return PutResult(done.etag, done.crc64, done.version_id)
        return await self._remote.change(
            self._remote.client.copy_object,
            bucket, key, bucket, key,
            if_match=info.etag, headers=headers, storage_class=info.storage_class, size=info.size,
        )  # fmt: skip


async def is_same(content: Staging, headers: Headers, found: ObjectInfo) -> bool:
    """Whether COS has what is here already: it was sent, and the answer lost.

    Of a file that is not all here its metadata tells: our own mtime is exact to the nanosecond.
    """
    if found.size != content.size:
        return False
    if content.valid.covers(0, content.size):
        with content.body(0, content.size).with_own_file() as body:
            sums = await trio.to_thread.run_sync(digest, body)
        return found.crc64 == sums.crc64
    ours = dict(headers.metadata)
    return "mtime-ns" in ours and found.headers is not None and dict(found.headers.metadata) == ours
