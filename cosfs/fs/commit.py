"""Making COS hold what the mount holds: when, how, and what if somebody else was faster.

A file is sent under its lock, so it is sent once however many ask. How it is sent depends on
what changed: a small file goes in one PUT with all its attributes; a large new one was streamed
as parts while it was written; of a large changed one only the changed parts go, COS copies the
rest from the old object; changed attributes alone are a copy of the object onto itself.

What could not be sent stays: the error is told to whoever waits, the journal keeps the bytes,
and the outbox tries again until it works or the file is removed.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import trio

from cosfs.client.model import ARCHIVED_CLASSES, STANDARD, Headers, ObjectInfo, PutResult
from cosfs.errors import (
    AlreadyExistsError,
    COSError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionFailedError,
)
from cosfs.fs.attrsender import AttributeSender
from cosfs.fs.background import Background
from cosfs.fs.conflicts import Conflicts
from cosfs.fs.deleter import Deleter
from cosfs.fs.fetcher import Fetcher, Source
from cosfs.fs.inodes import DirNode, FileNode
from cosfs.fs.journal import Journal
from cosfs.fs.leavings import Leavings, marks_of
from cosfs.fs.marks import is_one_of, mark_of
from cosfs.fs.outbox import Changed, Outbox
from cosfs.fs.records import Records
from cosfs.fs.remote import Remote
from cosfs.fs.rights import ASK_WITHIN, Action, Rights
from cosfs.fs.sender import GivenUp, Sender, is_same
from cosfs.fs.settings import FsSettings
from cosfs.fs.staging import Staging
from cosfs.fs.stream import Stream
from cosfs.fs.tree import Tree
from cosfs.fs.uploads import Uploads
from cosfs.fs.zeros import Zeros
from cosfs.transfer import attributes
from cosfs.transfer.engine import Engine

NOTE_INTERVAL = 1.0  # seconds; what was written since is not found after a crash, unless it was acknowledged
SENDING_KEPT = 8
GIVEN_UP_PAUSE = 0.02  # seconds until it is seen whether a file is to be sent under another name
log = logging.getLogger(__name__)

ATTRIBUTE_DELAY = 0.2  # chmod, chown and utimens of one file within this time are one copy


class Committer:
    """Sends files and attributes. background runs the parts of files still being written."""

    def __init__(
        self,
        tree: Tree,
        remote: Remote,
        engine: Engine,
        fetcher: Fetcher,
        deleter: Deleter,
        journal: Journal,
        rights: Rights,
        settings: FsSettings,
        background: Background,
    ) -> None:
        self._tree = tree
        self._remote = remote
        self.deleter = deleter
        self._journal = journal
        self._rights = rights
        self._settings = settings
        self._background = background
        self.uploads = Uploads(remote, engine, journal, background)
        self._records = Records(journal, self._headers)
        self._unnoted: dict[FileNode, int] = {}  # being written; the version that the journal has
        self._streams: dict[int, Stream] = {}
        self._going: Counter[int] = Counter()  # files whose names are about to change
        self.leavings = Leavings(tree, fetcher, deleter, journal, self._records)
        zeros = Zeros(
            remote, self.uploads, deleter, self.leavings, journal, settings.part_size, settings.extra
        )
        self.sender = Sender(remote, engine, fetcher, self.uploads, zeros, settings)
        self.conflicts = Conflicts(tree, remote, self.sender, self._records, self.leavings)
        self._attributes = AttributeSender(tree, remote, self.sender, deleter, self._records)
        self.outbox = Outbox(self._send_any, self._settle, settings.retry_max)
        self.failures = 0

    # While a file is written

    def wrote(self, node: FileNode, start: int, stop: int) -> None:
        """Bytes were written: stream out what has become whole."""
        content = node.content
        assert content is not None
        self._unnoted.setdefault(node, 0)
        stream = self._streams.get(node.ino)
        if stream is None:
            if (
                content.size < self._settings.multipart_threshold
                or content.base_limit
                or not content.changed.covers(0, self._settings.multipart_threshold)
                or node.unlinked
            ):
                return
            headers = self._headers(node, streamed=True)
            stream = Stream(
                self.uploads, self._background, node.bucket, node.key, headers, self._settings.part_size
            )
            self._streams[node.ino] = stream
        stream.wrote(start, stop)
        stream.grew(content)

    async def truncated(self, node: FileNode) -> None:
        """A file was cut: parts beyond its end cannot be taken back one by one."""
        stream = self._streams.get(node.ino)
        if stream is not None and node.size < stream.sent_end:
            del self._streams[node.ino]
            await stream.abort()

    async def stop(self, node: FileNode) -> None:
        """Give up what is on its way of a file that is about to be removed."""
        stream = self._streams.pop(node.ino, None)
        if stream is not None:
            await stream.abort()

    def drop(self, node: FileNode) -> None:
        """Forget unsent changes: the file was removed."""
        self.outbox.forget(node)
        node.attrs_dirty = False
        self._records.remove(node)

    async def note_open_files(self) -> None:
        """Note what is being written, again and again: if we are killed, the bytes are found."""
        while True:
            await trio.sleep(NOTE_INTERVAL)
            for node, noted in list(self._unnoted.items()):
                content = node.content
                if content is None or not node.dirty or node.unlinked:
                    del self._unnoted[node]
                elif content.version != noted and not content.promised:
                    self._unnoted[node] = content.version
                    self._records.write(node)

    # Sending

    async def flush(self, node: FileNode) -> None:
        """Return when COS holds the file as it was when we were called; raise if it cannot."""
        await self._flush(node, unasked=False)

    async def _flush(self, node: FileNode, *, unasked: bool, only: Staging | None = None) -> None:
        """Unasked a file is not sent that is just being written in the place of what was closed before.

        With only, nothing is that comes in the place of these bytes: GivenUp.
        """
        if not node.changed:
            return
        while node.changed and not node.unlinked:
            try:
                await self._flush_now(node, unasked=unasked, only=only)
                break
            except GivenUp:
                if only is not None and node.content is not only:
                    raise
                await trio.sleep(GIVEN_UP_PAUSE)  # it will have another name, or none
        self.outbox.sent(node)
        self._release_content(node)

    @contextmanager
    def about_to_go(self, node: FileNode) -> Iterator[None]:
        """Inside, a file is removed, replaced, or gets another name, under its lock.

        That does not wait for gigabytes: who sends the file gives up, and nobody begins before it is done.
        """
        self._going[node.ino] += 1
        if node.being_sent:
            self.sender.give_up(node.bucket, node.key)
        try:
            yield
        finally:
            self._going[node.ino] -= 1
            if not self._going[node.ino]:
                del self._going[node.ino]

    async def _flush_now(self, node: FileNode, *, unasked: bool, only: Staging | None = None) -> None:
        # Not of its directory: while this waits for the lock the file may get into another one.
        async with self._tree.moves.change(node), node.lock:
            if node.unlinked or not node.changed:
                return
            if node.ino in self._going or (only is not None and node.content is not only):
                raise GivenUp
            content = node.content
            if content is not None and content.is_replacing:
                if unasked and node.writers:
                    return
                # Were COS to have these bytes and the journal still those before them, both would be kept.
                await content.make_durable()
                self._records.promise(node)
            place = (node.bucket, node.key)
            try:
                if node.dirty:
                    await self._send(node)
                elif node.attrs_dirty:
                    await self._attributes.send_file(node)
            except (COSError, OSError) as exc:
                if content is not node.content and node.dirty:
                    raise GivenUp from exc  # emptied meanwhile: what was on its way is of no use
                self.failures += 1
                if isinstance(exc, PermissionDeniedError):
                    self._rights.was_refused(Action.WRITE, *place, exc)
                self._records.promise(node, str(exc))
                if content is not None:
                    await content.rest_safely()  # an outage can last longer than there are descriptors
                raise
            finally:
                self.sender.ended(*place)
            self._rights.worked(Action.WRITE, *place)
            node.error = None

    def is_streaming(self, node: FileNode) -> bool:
        """Whether parts of a file go out while it is being written."""
        return node.ino in self._streams

    def flush_soon(self, node: FileNode, done: Callable[[], None]) -> None:
        """Flush beside the caller; done is called if it works. What fails is tried again when it is due."""
        content = node.content

        async def flush() -> None:
            if await self._flush_behind(node, content) is None:
                done()

        self._background.start_soon(flush)

    async def flush_and_hear(self, node: FileNode) -> None:
        """Flush beside the caller; raise if COS refuses it soon. Other failures are tried again when due."""
        content, ended = node.content, trio.Event()
        error: Exception | None = None

        async def flush() -> None:
            nonlocal error
            error = await self._flush_behind(node, content)
            ended.set()

        self._background.start_soon(flush)
        with trio.move_on_after(ASK_WITHIN):
            await ended.wait()
        if isinstance(error, PermissionDeniedError):
            raise error

    async def _flush_behind(self, node: FileNode, content: Staging | None) -> Exception | None:
        """Send these bytes of a file, but nothing that is written in their place; return what failed.

        Of that nobody was promised anything, and a crash must not leave a part of it.
        """
        try:
            if content is not None:  # else COS has them by now
                await self._flush(node, unasked=False, only=content)
        except (COSError, OSError, GivenUp) as exc:
            log.debug("%s is not sent yet: %s", node.url, exc)
            return exc
        return None

    async def flush_dir(self, node: DirNode) -> None:
        """Return when COS has a directory's attributes."""
        place = (node.bucket, node.prefix)
        try:
            await self._attributes.flush_dir(node)
        except (COSError, OSError) as exc:
            self.failures += 1
            if isinstance(exc, PermissionDeniedError):
                self._rights.was_refused(Action.WRITE, *place, exc)
            raise

    async def put_marker(self, node: DirNode, attrs: attributes.Attributes) -> None:
        """Make (or make again) the object that stands for a directory."""
        await self._attributes.put_marker(node, attrs)

    async def _send_any(self, node: Changed) -> None:
        if isinstance(node, DirNode):
            await self.flush_dir(node)
        else:
            await self._flush(node, unasked=True)

    async def _send(self, node: FileNode) -> None:
        content = node.content
        assert content is not None
        bucket, key = node.bucket, node.key
        removed = self.deleter.expected(bucket, key)
        if await self.leavings.take(bucket, key) and node.expected == "":
            node.expected = removed  # the object that was removed here is still in COS
        await content.settled()  # what is being written now is either sent or comes after
        version, attrs = content.begin_send(), node.attrs
        done = await self._check(node, content, bucket, key)
        stream = self._streams.pop(node.ino, None)
        if stream is not None and (done is not None or (stream.bucket, stream.key) != (bucket, key)):
            await stream.abort()  # renamed since: an upload cannot change its key
            stream = None
        if stream is None:
            attrs = node.attrs
        headers = stream.headers if stream is not None else self._headers(node)
        if done is None:
            self._note_sending(node, content, headers, content.size)
            result, size, done = await self._put(node, content, stream, headers)
        else:
            result, size = _as_result(done), done.size
        if done is not None:
            headers = done.headers or headers
        await self.deleter.replaced_for_good(bucket, {key: result.etag})
        info = ObjectInfo(
            key=key,
            size=size,
            etag=result.etag,
            last_modified=result.last_modified or time.time(),
            storage_class=headers.storage_class or STANDARD,
            crc64=result.crc64,
            version_id=result.version_id,
            headers=headers,
        )
        source = Source(bucket, key, info.etag, size)
        await self.sender.keep(source, content, version)
        marks = marks_of(content)
        content.sent(source, version)
        with self._journal.together():
            self.leavings.abandon_former(node, marks)
            self._after_send(node, info, attrs, streamed=stream is not None or done is not None)

    def _after_send(
        self, node: FileNode, info: ObjectInfo, attrs: attributes.Attributes, *, streamed: bool
    ) -> None:
        """Note a successful send. A streamed object carries the attributes it began with, and one
        that was there already, its answer lost, those of that time.
        """
        node.cached_etag = info.etag  # the kernel's pages are the bytes we have just sent
        self._tree.committed(node, info)
        self.deleter.replaced(node.bucket, info.key)
        if streamed:
            self._adopt_streamed(node, info)
        else:
            node.attrs_dirty = node.attrs != attrs
        if node.pending_id and node.dirty:
            self._records.write(node)  # written meanwhile: what is left to send starts from the new object
        elif node.attrs_dirty and not node.dirty:
            self.attributes_changed(node)
        else:
            self._records.remove(node)

    def _adopt_streamed(self, node: FileNode, info: ObjectInfo) -> None:
        """The upload was opened before the last write, so it could not carry its time.

        COS's own Last-Modified stands in; only attributes that somebody set on purpose need
        the copy that writes them.
        """
        stored = attributes.decode(info, self._settings.defaults, is_dir=False)
        a = node.attrs
        chosen = (a.mode, a.uid, a.gid, a.rdev, dict(a.xattrs))
        if node.attrs_dirty or chosen != (
            stored.mode,
            stored.uid,
            stored.gid,
            stored.rdev,
            dict(stored.xattrs),
        ):
            node.attrs_dirty = True
        else:
            node.attrs = replace(a, mtime_ns=stored.mtime_ns, ctime_ns=stored.ctime_ns)

    async def _check(self, node: FileNode, content: Staging, bucket: str, key: str) -> ObjectInfo | None:
        """Refuse to replace an object that is not the one this file was opened on.

        COS has no condition for that. Whoever writes between this and the next request is overwritten, so it
        is asked before the first byte of a file is sent, and before the last of many requests.
        Returns the object if it is what is about to be sent: an answer that was lost.
        """
        if not node.expected:
            return None
        try:
            found = await self._remote.metadata(self._remote.client.head_object, bucket, key)
        except NotFoundError:
            return None  # removed by somebody: nothing is lost by writing it again
        if found is None or found.etag == node.expected:
            if found is not None:
                self._tree.learn(node, found)
            return None
        if await is_same(content, self._headers(node), found):
            return found
        if self._is_ours(node, content, found):
            return None
        raise await self._conflict(node, content, bucket, key)

    async def _put(
        self, node: FileNode, content: Staging, stream: Stream | None, headers: Headers
    ) -> tuple[PutResult, int, ObjectInfo | None]:
        """Send everything; return the size as it was sent as well, and the object if it was there already."""
        forbid = node.expected == ""
        bucket, key, base = node.bucket, node.key, content.base
        # What has been written since this began may go with it.
        put_whole = partial(
            self.sender.put_whole,
            about_to=partial(self._note_sending, node, content, headers),
            look_again=partial(self._check, node, content, bucket, key),
        )
        try:
            if stream is not None:
                size = content.size
                with self.sender.may_be_given_up(bucket, key):
                    await self.sender.send_rest(stream, content)
                await self._check(node, content, bucket, key)
                return await stream.complete(forbid_overwrite=forbid), size, None
            return *await put_whole(bucket, key, content, headers, forbid=forbid), None
        except AlreadyExistsError:
            if stream is not None:
                await stream.abort()
            found = await self._remote.metadata(self._remote.client.head_object, bucket, key)
            if found is not None and await is_same(content, headers, found):
                return _as_result(found), found.size, found
            if found is not None and self._is_ours(node, content, found):
                return *await put_whole(bucket, key, content, headers, forbid=False), None
            raise await self._conflict(node, content, bucket, key) from None
        except (NotFoundError, PreconditionFailedError):
            if stream is None and content.base != base:
                # Its object was about to be replaced by another file: all bytes are here now.
                return *await put_whole(bucket, key, content, headers, forbid=forbid), None
            if stream is not None:
                await stream.abort()
            if await self.sender.is_gone(content.base):
                raise await self._conflict(node, content, bucket, key) from None
            raise
        except BaseException:
            if stream is not None:
                await stream.abort()
            raise

    def _note_sending(self, node: FileNode, content: Staging, headers: Headers, size: int) -> None:
        """Note what is about to be sent: if no answer comes, and more is written, we know it again."""
        mark = mark_of(size, headers)
        if mark not in content.sending:
            content.sending.append(mark)
            del content.sending[:-SENDING_KEPT]
            self.record(node)

    @staticmethod
    def _is_ours(node: FileNode, content: Staging, found: ObjectInfo) -> bool:
        """Whether COS has what was sent from here without an answer: an earlier version of the file, or one
        whose name it has taken over.
        """
        if is_one_of(found, content.replacing):
            node.expected = found.etag
            return True
        if not is_one_of(found, content.sending):
            return False
        node.expected = found.etag
        if content.base is not None:
            content.go_on_with(Source(node.bucket, node.key, found.etag, found.size))
        return True

    async def _conflict(self, node: FileNode, content: Staging, bucket: str, key: str) -> COSError:
        stream = self._streams.pop(node.ino, None)
        if stream is not None:
            await stream.abort()
        return await self.conflicts.keep_both(node, content, bucket, key, self._headers(node))

    def _headers(self, node: FileNode, *, streamed: bool = False) -> Headers:
        base = node.info.headers if node.info is not None else None
        if base is None:
            name = node.component.rpartition("/")[2]
            base = Headers(content_type=attributes.content_type(name, node.attrs.mode))
        if self._settings.extra:
            base = replace(base, extra={**self._settings.extra, **base.extra})
        if node.info is not None and node.info.storage_class != STANDARD:
            # New bytes of an archived file can be read; they are not what was put away.
            kept = "" if node.info.storage_class in ARCHIVED_CLASSES else node.info.storage_class
            base = replace(base, storage_class=kept)
        headers = attributes.encode(node.attrs, base)
        if streamed:
            timeless = {k: v for k, v in headers.metadata.items() if k not in attributes.TIME_KEYS}
            headers = replace(headers, metadata=timeless)
        return headers

    def reads_staging(self, node: FileNode) -> bool:
        """Whether the staging file must not be changed, because it is being sent as it is on disk."""
        return self.sender.reads_staging(node)

    # In the background

    def attributes_changed(self, node: FileNode | DirNode) -> None:
        """Send changed attributes soon; more changes until then go with them."""
        node.attrs_dirty = True
        self.outbox.schedule(node, ATTRIBUTE_DELAY)  # first: the journal's disk may be full
        self._records.write(node)

    def record(self, node: FileNode | DirNode) -> None:
        """Bring what the journal says of a node up to date."""
        if node.pending_id:
            self._records.write(node)

    def promise(self, node: FileNode) -> None:
        """Write to the journal that a file's bytes are to get to COS whatever happens."""
        self._records.promise(node)

    def note(self, node: FileNode) -> None:
        """Write to the journal what is known of a file that is still being written."""
        self._records.write(node)

    async def wait_for_room(self) -> None:
        """Wait while more is closed and not sent than there shall be; files being written do not count."""
        while self.too_much():
            await self.outbox.progress()

    def too_much(self) -> list[FileNode]:
        """The files that are closed and not sent, if they are more than there shall be."""
        waiting = [node for node, _ in self.outbox.waiting if isinstance(node, FileNode)]
        closed = [node for node in waiting if node.dirty and not node.writers]
        return closed if sum(node.size for node in closed) > self._settings.max_pending else []

    def send_later(self, node: FileNode, delay: float = 0.0) -> None:
        """Send a file whose state is in the journal; nobody waits for it."""
        self.outbox.schedule(node, delay)

    def _settle(self, node: Changed) -> None:
        self.record(node)
        if isinstance(node, FileNode):
            self._release_content(node)
        else:
            self._tree.table.drop_if_idle(node)

    def _release_content(self, node: FileNode) -> None:
        """Free the staging file of a closed file that COS has."""
        if node.opens == 0 and node.content is not None and not node.content.dirty:
            node.content.close()
            node.content = None
        self._tree.table.drop_if_idle(node)

    def closed(self, node: FileNode) -> None:
        """The last handle of a file is gone."""
        self._release_content(node)

    async def drain(self) -> None:
        """Send everything now; returns when nothing is left or all of it has failed once more."""
        await self.outbox.drain(lambda: list(self.changed()))

    def changed(self) -> Iterator[Changed]:
        """Everything that COS does not have as it is here."""
        for node in list(self._tree.table.nodes.values()):
            if node.unlinked:
                continue
            assert isinstance(node, FileNode | DirNode)
            if node.changed if isinstance(node, FileNode) else node.attrs_dirty:
                yield node


def _as_result(info: ObjectInfo) -> PutResult:
    return PutResult(info.etag, info.crc64, info.version_id, info.last_modified)
