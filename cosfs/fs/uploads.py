"""Multipart uploads that are open, and those that may be: none is left behind in COS.

The journal has each from before it is asked for. An answer that was lost leaves an upload whose
id nobody knows; it is found in COS's list of open uploads, by its key and the time when it was
asked for. Uploads that somebody else began at another time are not touched.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import trio

from cosfs.client.model import Headers, PutResult, Upload
from cosfs.errors import BucketNotFoundError, COSError
from cosfs.fs.background import Background
from cosfs.fs.journal import Journal
from cosfs.fs.remote import Remote
from cosfs.transfer.engine import Engine
from cosfs.transfer.multipart import MultipartUpload

log = logging.getLogger(__name__)

BEFORE, AFTER = 60.0, 300.0  # seconds around our asking in which COS may say that an upload began
LOOK_DELAYS = (2.0, 10.0, 60.0)


class Uploads:
    """Opens multipart uploads, ends them, and looks for those whose answer was lost."""

    def __init__(self, remote: Remote, engine: Engine, journal: Journal, background: Background) -> None:
        self._remote = remote
        self._engine = engine
        self._journal = journal
        self._background = background
        self._records: dict[str, tuple[int, float]] = {}  # and when they were asked for
        self._unknown: dict[tuple[str, str], set[trio.Event]] = {}  # in use, but their ids not known here
        self._looks: set[trio.Event] = set()  # for lost ones, until COS was asked once

    async def open(
        self, bucket: str, key: str, headers: Headers, *, forbid_overwrite: bool = False
    ) -> MultipartUpload:
        with self._not_known(bucket, key):
            return await self._open(bucket, key, headers, forbid_overwrite=forbid_overwrite)

    @contextmanager
    def _not_known(self, bucket: str, key: str) -> Iterator[None]:
        """Whoever looks for lost uploads of a key waits until it is known which are in use."""
        known = trio.Event()
        events = self._unknown.setdefault((bucket, key), set())
        events.add(known)
        try:
            yield
        finally:
            known.set()
            events.discard(known)
            if not events:
                self._unknown.pop((bucket, key), None)

    async def _open(
        self, bucket: str, key: str, headers: Headers, *, forbid_overwrite: bool
    ) -> MultipartUpload:
        at, tries = time.time(), self._tries()
        record_id = self._journal.add("upload", bucket, key, {"upload_id": "", "at": at})
        try:
            await self._make_lasting()
            upload = await MultipartUpload.create(
                self._engine, bucket, key, headers, forbid_overwrite=forbid_overwrite
            )
        except BaseException as exc:
            if getattr(exc, "retryable", True):
                self._look_for(record_id, bucket, key, at)
            else:
                self._journal.remove(record_id)
            raise
        upload_id = upload.upload.upload_id
        self._records[upload_id] = record_id, at
        body = {"upload_id": upload_id, "at": at}
        try:
            if self._tries() - tries > 1:
                # Asked more than once: COS may have opened one that we were not told of.
                lost = self._journal.add("upload", bucket, key, {"upload_id": "", "at": at})
                self._look_for(lost, bucket, key, at)
            self._journal.replace(record_id, "upload", bucket, key, body)
        except BaseException:
            await self.abort(upload)
            raise
        return upload

    async def _make_lasting(self) -> None:
        """What COS is about to open costs money until it is ended: a loss of power must not hide it."""
        await trio.to_thread.run_sync(self._journal.sync)

    def _tries(self) -> int:
        return self._remote.client.stats.requests["CreateUpload"]

    async def complete(self, upload: MultipartUpload) -> PutResult:
        result = await upload.complete()
        self._over(upload)
        return result

    async def abort(self, upload: MultipartUpload) -> None:
        """Give an upload up; never raises, is not cancelled. What COS was not told now it is told later."""
        if await upload.abort():
            self._over(upload)
            return
        record_id, at = self._records.pop(upload.upload.upload_id, (0, 0.0))
        if record_id:
            self._look_for(record_id, upload.upload.bucket, upload.upload.key, at)

    def _over(self, upload: MultipartUpload) -> None:
        record_id, _ = self._records.pop(upload.upload.upload_id, (0, 0.0))
        if record_id:
            self._journal.remove(record_id)

    @asynccontextmanager
    async def intent(self, bucket: str, key: str) -> AsyncIterator[None]:
        """Somebody else opens uploads of a key inside, and ends them unless we are killed."""
        body = {"upload_id": "", "at": time.time()}
        record_id = self._journal.add("upload", bucket, key, body)
        try:
            await self._make_lasting()
            with self._not_known(bucket, key):
                yield
        finally:
            self._journal.remove(record_id)

    # Those nobody knows

    async def give_up(self, bucket: str, key: str, upload_id: str, at: float) -> int:
        """Abort an upload; without its id those that COS lists; return how many there were."""
        if upload_id:
            await self._remote.change(self._remote.client.abort_upload, Upload(bucket, key, upload_id))
            return 1
        found = await self._listed(bucket, key, at)
        for upload in found:
            log.info("giving up an upload of cos://%s/%s that nobody finished", bucket, key)
            await self._remote.change(self._remote.client.abort_upload, upload)
        return len(found)

    async def _listed(self, bucket: str, key: str, at: float) -> list[Upload]:
        """The open uploads of exactly this key that are not in use here and began when we asked."""
        found: list[Upload] = []
        key_marker = id_marker = ""
        while True:
            page = await self._remote.metadata(
                self._remote.client.list_uploads,
                bucket,
                prefix=key,
                key_marker=key_marker,
                upload_id_marker=id_marker,
            )
            for known in list(self._unknown.get((bucket, key), ())):
                await known.wait()  # its upload may be on this page already
            found += [
                upload
                for upload in page.uploads
                if upload.key == key
                and upload.upload_id not in self._records
                and at - BEFORE <= upload.initiated <= at + AFTER
            ]
            key_marker, id_marker = page.next_key_marker, page.next_upload_id_marker
            if not key_marker:
                return found

    async def settle(self) -> None:
        """Return when COS was asked once for each lost upload: who ends now leaves none."""
        for looked in list(self._looks):
            await looked.wait()

    def _look_for(self, record_id: int, bucket: str, key: str, at: float) -> None:
        looked = trio.Event()
        self._looks.add(looked)
        self._background.start_soon(self._look_again, looked, record_id, bucket, key, at)

    async def _look_again(self, looked: trio.Event, record_id: int, bucket: str, key: str, at: float) -> None:
        """Look for lost uploads until COS has answered; COS may begin one after we gave up waiting."""
        try:
            for delay in itertools.chain(LOOK_DELAYS, itertools.repeat(LOOK_DELAYS[-1])):
                await trio.sleep(delay)
                if await self._is_answered(bucket, key, at):
                    self._journal.remove(record_id)
                    return
                looked.set()
        finally:
            looked.set()
            self._looks.discard(looked)

    async def _is_answered(self, bucket: str, key: str, at: float) -> bool:
        """Give up lost uploads; whether COS could be asked for them."""
        try:
            await self.give_up(bucket, key, "", at)
        except BucketNotFoundError:
            return True
        except COSError as exc:
            log.debug("open uploads of cos://%s/%s: %s", bucket, key, exc)
            return False
        return True
