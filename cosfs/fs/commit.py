"""Making COS hold what the mount holds: when, how, and what if somebody else was faster.

A file is sent under its lock, so it is sent once however many ask. How it is sent depends on
what changed: a small file goes in one PUT with all its attributes; a large new one was streamed
as parts while it was written; of a large changed one only the changed parts go, COS copies the
rest from the old object; changed attributes alone are a copy of the object onto itself.

What could not be sent stays: the error is told to whoever waits, the journal keeps the bytes,
and run() tries again until it works or the file is removed.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import time
from dataclasses import dataclass, replace
from typing import Any

import trio

from cosfs.client.model import ARCHIVED_CLASSES, STANDARD, Headers, ObjectInfo, PutResult
from cosfs.errors import (
    AlreadyExistsError,
    COSError,
    FilesystemError,
    NotFoundError,
    PreconditionFailedError,
)
from cosfs.fs import names
from cosfs.fs.background import Background, together
from cosfs.fs.deleter import Deleter
from cosfs.fs.extents import Extents
from cosfs.fs.fetcher import Fetcher, Source
from cosfs.fs.inodes import DirNode, FileNode
from cosfs.fs.journal import Journal, Record
from cosfs.fs.leavings import Leavings
from cosfs.fs.remote import Remote
from cosfs.fs.sender import Sender, is_same
from cosfs.fs.settings import FsSettings
from cosfs.fs.staging import Staging
from cosfs.fs.stream import Stream, Uploads
from cosfs.fs.tree import Tree
from cosfs.transfer import attributes
from cosfs.transfer.engine import Engine

log = logging.getLogger(__name__)

ATTRIBUTE_DELAY = 0.2  # chmod, chown and utimens of one file within this time are one copy
RETRY_DELAYS = (2.0, 5.0, 15.0, 30.0, 60.0)


@dataclass(slots=True)
class _Due:
    """When a file is to be sent without anybody waiting for it."""

    node: FileNode | DirNode
    at: float
    tries: int = 0
    error: str = ""  # of the last try


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
        settings: FsSettings,
        background: Background,
    ) -> None:
        self._tree = tree
        self._remote = remote
        self._engine = engine
        self._fetcher = fetcher
        self._deleter = deleter
        self._journal = journal
        self._settings = settings
        self._background = background
        self._uploads = Uploads(engine, journal)
        self._sender = Sender(remote, engine, fetcher, self._uploads, settings)
        self._streams: dict[int, Stream] = {}
        self._due: dict[int, _Due] = {}
        self._wake = trio.Event()
        self._limit = trio.CapacityLimiter(16)
        self.leavings = Leavings(tree, fetcher, deleter, journal, self.record)
        self.failures = 0
        self.conflicts = 0

    # While a file is written

    def wrote(self, node: FileNode, start: int, stop: int) -> None:
        """Bytes were written: stream out what has become whole."""
        content = node.content
        assert content is not None
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
                self._uploads, self._background, node.bucket, node.key, headers, self._settings.part_size
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

    async def drop(self, node: FileNode) -> None:
        """Forget unsent changes: the file was removed."""
        stream = self._streams.pop(node.ino, None)
        if stream is not None:
            await stream.abort()
        self._due.pop(node.ino, None)
        node.attrs_dirty = False
        if node.pending_id:
            self._journal.remove(node.pending_id)
            node.pending_id = 0

    # Sending

    async def flush(self, node: FileNode) -> None:
        """Return when COS holds the file as it was when we were called; raise if it cannot."""
        if not node.changed:
            return
        assert node.parent is not None
        async with self._tree.moves.change(node.parent), node.lock:
            if node.unlinked or not node.changed:
                return
            try:
                if node.dirty:
                    await self._send(node)
                elif node.attrs_dirty:
                    await self._send_attributes(node)
            except (COSError, OSError) as exc:
                self.failures += 1
                if node.dirty:
                    self.record(node, str(exc))
                raise
            node.error = None
        if not self._is_due(node):
            self._due.pop(node.ino, None)
        self._release_content(node)

    @staticmethod
    def _is_due(node: FileNode | DirNode) -> bool:
        """Whether a node is to be sent though nobody waits for it."""
        if isinstance(node, DirNode):
            return node.attrs_dirty and not node.unlinked
        # A file that is being written is sent when it is closed.
        return node.changed and not node.unlinked and not (node.dirty and node.writers)

    async def _send(self, node: FileNode) -> None:
        content = node.content
        assert content is not None
        bucket, key = node.bucket, node.key
        if await self.leavings.take(bucket, key) and node.expected == "":
            node.expected = None  # the object that was removed here is still in COS
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
            result, size = await self._put(node, content, stream, headers)
        else:
            result, size, headers = _as_result(done), done.size, done.headers or headers
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
        await self._sender.keep(source, content, version)
        content.sent(source, version)
        self._after_send(node, info, attrs, streamed=stream is not None)

    def _after_send(
        self, node: FileNode, info: ObjectInfo, attrs: attributes.Attributes, *, streamed: bool
    ) -> None:
        """Note a successful send. A streamed object carries the attributes it began with."""
        node.cached_etag = info.etag  # the kernel's pages are the bytes we have just sent
        self._tree.committed(node, info)
        self.leavings.abandon_former(node)
        if node.pending_id and node.dirty:
            self.record(node)  # written meanwhile: what is left to send starts from the new object
        elif node.pending_id:
            self._journal.remove(node.pending_id)
            node.pending_id = 0
        if streamed:
            self._adopt_streamed(node, info)
        else:
            node.attrs_dirty = node.attrs != attrs
        if node.attrs_dirty and not node.dirty:
            self.attributes_changed(node)

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
        await self._conflict(node, content, bucket, key)
        raise AssertionError("unreachable")

    async def _put(
        self, node: FileNode, content: Staging, stream: Stream | None, headers: Headers
    ) -> tuple[PutResult, int]:
        """Send everything; return the size as it was sent as well."""
        forbid = node.expected == ""
        bucket, key, base = node.bucket, node.key, content.base
        try:
            if stream is not None:
                size = content.size
                return await stream.finish(content, forbid_overwrite=forbid), size
            return await self._sender.put_whole(bucket, key, content, headers, forbid=forbid)
        except AlreadyExistsError:
            if stream is not None:
                await stream.abort()
            found = await self._remote.metadata(self._remote.client.head_object, bucket, key)
            if found is not None and await is_same(content, headers, found):
                return _as_result(found), found.size
            await self._conflict(node, content, bucket, key)
            raise
        except (NotFoundError, PreconditionFailedError):
            if stream is None and content.base != base:
                # Its object was about to be replaced by another file: all bytes are here now.
                return await self._sender.put_whole(bucket, key, content, headers, forbid=forbid)
            if stream is not None:
                await stream.abort()
            if await self._sender.is_gone(content.base):
                await self._conflict(node, content, bucket, key)
            raise
        except BaseException:
            if stream is not None:
                await stream.abort()
            raise

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
        return self._sender.reads_staging(node)

    # Somebody else changed the object

    async def _conflict(self, node: FileNode, content: Staging, bucket: str, key: str) -> None:
        """Keep both: ours goes beside the other one under a name that says what it is."""
        other = _conflict_key(key)
        self.conflicts += 1
        stream = self._streams.pop(node.ino, None)
        if stream is not None:
            await stream.abort()
        node.epoch += 1  # from here on writers are refused
        await content.settled()
        await self._put_beside(bucket, key, other, content, self._headers(node))
        try:
            info = await self._remote.metadata(self._remote.client.head_object, bucket, key)
        except NotFoundError:
            info = None
        if node.pending_id:
            self._journal.remove(node.pending_id)
            node.pending_id = 0
        content.close()
        node.content = None
        node.attrs_dirty = False
        self.leavings.abandon_former(node)
        if info is not None:
            self._tree.apply(node, info)
        else:
            self._tree.lose(node)
        if node.parent is not None:
            node.parent.listing = None
        raise FilesystemError(
            errno.ESTALE,
            f"cos://{bucket}/{key} was changed by somebody else while it was open here",
            hint=f"Your version is kept as cos://{bucket}/{other}",
        )

    async def _put_beside(
        self, bucket: str, key: str, other: str, content: Staging, headers: Headers
    ) -> None:
        """Send our version of a file under another name, as much of it as can be had."""
        what = "ours"
        try:
            await self._sender.put_whole(bucket, other, content, headers, forbid=False)
        except (NotFoundError, PreconditionFailedError):
            if not await self._sender.is_gone(content.base):
                raise
            # What was not changed here was only in the object that is no more.
            what = f"what was written here (bytes {_shown(content.changed)})"
            part = content.without_base()
            try:
                await self._sender.put_whole(bucket, other, part, headers, forbid=False)
            finally:
                part.close(keep=True)
        log.error(
            "cos://%s/%s was changed by somebody else while it was open here; "
            "both are kept: the other's under its name, %s as cos://%s/%s",
            bucket, key, what, bucket, other,
        )  # fmt: skip

    # Attributes alone

    def attributes_changed(self, node: FileNode | DirNode) -> None:
        """Send changed attributes soon; more changes until then go with them."""
        node.attrs_dirty = True
        self._schedule(node, ATTRIBUTE_DELAY)

    async def _send_attributes(self, node: FileNode) -> None:
        info = node.info
        assert info is not None
        bucket, key, attrs = node.bucket, node.key, node.attrs
        for attempt in (1, 2):
            if info.headers is None or attempt == 2:
                found = await self._remote.metadata(self._remote.client.head_object, bucket, key)
                assert found is not None
                if node.dirty:
                    return  # written meanwhile: the attributes go with the bytes
                self._tree.learn(node, found)
                attrs = node.attrs
                if found.etag != info.etag:
                    self._adopt_foreign(node, found, attrs)
                info = found
            headers = attributes.encode(attrs, info.headers)
            try:
                result = await self._sender.copy_onto_itself(bucket, key, info, headers)
                break
            except PreconditionFailedError:
                if attempt == 2:
                    raise
        new = replace(
            info,
            etag=result.etag or info.etag,
            last_modified=result.last_modified or time.time(),
            headers=headers,
            version_id=result.version_id,
        )
        if node.cached_etag == info.etag:
            node.cached_etag = new.etag
        if node.content is not None and node.content.base is not None and node.content.base.etag == info.etag:
            node.content.base = Source(bucket, key, new.etag, new.size)
        self._tree.committed(node, new)
        node.attrs_dirty = node.attrs != attrs

    def _adopt_foreign(self, node: FileNode, info: ObjectInfo, attrs: attributes.Attributes) -> None:
        """Go on with what somebody else has put in the place of a file that is not changed here."""
        if node.content is not None:
            node.content.close()
            node.content = None
        self._tree.apply(node, info)
        node.attrs = attrs

    async def flush_dir(self, node: DirNode) -> None:
        """Write a directory's attributes to its marker."""
        async with self._tree.moves.change(node), node.attrs_lock:
            if not node.attrs_dirty or node.unlinked or not node.prefix:
                node.attrs_dirty = False
                return
            attrs = node.attrs
            await self.put_marker(node, attrs)
            node.attrs_dirty = node.attrs != attrs

    async def put_marker(self, node: DirNode, attrs: attributes.Attributes) -> None:
        """Make (or make again) the object that stands for a directory."""
        bucket, key, marker = node.bucket, node.prefix, node.marker
        await self._deleter.claim(bucket, key)
        base = marker.headers if marker is not None else None
        headers = attributes.encode(attrs, base or Headers(content_type=attributes.DIRECTORY_TYPE))
        if marker is not None and marker.size:
            result = await self._sender.copy_onto_itself(bucket, key, marker, headers)
            size = marker.size
        else:
            result = await self._remote.change(
                self._remote.client.put_object, bucket, key, b"", headers=headers
            )
            size = 0
        node.marker = ObjectInfo(
            key, size, result.etag, result.last_modified or time.time(), crc64=result.crc64, headers=headers
        )
        if node.listing is not None:
            node.listing.marker = node.marker

    # In the background

    def record(self, node: FileNode, error: str = "") -> None:
        """Write a file's unsent state to the journal."""
        content = node.content
        if content is None or not content.dirty or node.unlinked:
            return
        headers = self._headers(node)
        body: dict[str, Any] = {
            "content": content.to_json(),
            "headers": _headers_json(headers),
            "expected": node.expected,
            "obsolete": node.obsolete,
            "error": error,
        }
        if node.pending_id:
            self._journal.replace(node.pending_id, node.bucket, node.key, body)
        else:
            node.pending_id = self._journal.add("file", node.bucket, node.key, body)

    async def send_recovered(self, record: Record, content: Staging) -> None:
        """Send a file that an earlier mount could not; both are kept if somebody was faster."""
        bucket, key, expected = record.bucket, record.key, record.body["expected"]
        headers = headers_from_json(record.body["headers"])
        if await self._deleter.claim(bucket, key):
            expected = None  # removed before this was written
        found: ObjectInfo | None
        try:
            found = await self._remote.metadata(self._remote.client.head_object, bucket, key)
        except NotFoundError:
            found = None
        if found is not None and expected is not None and found.etag != expected:
            if not await is_same(content, headers, found):
                self.conflicts += 1
                await self._put_beside(bucket, key, _conflict_key(key), content, headers)
        else:
            await self._put_recovered(bucket, key, content, headers)
        self._tree.ask_again(bucket, key)
        for old_bucket, old_key, etag in record.body["obsolete"]:
            self._deleter.schedule(old_bucket, old_key, etag, careful=True)

    async def _put_recovered(self, bucket: str, key: str, content: Staging, headers: Headers) -> None:
        try:
            await self._sender.put_whole(bucket, key, content, headers, forbid=False)
        except (NotFoundError, PreconditionFailedError):
            if not await self._sender.is_gone(content.base):
                raise
            await self._put_beside(bucket, key, _conflict_key(key), content, headers)

    def send_later(self, node: FileNode, delay: float = 0.0) -> None:
        """Send a file whose state is in the journal; nobody waits for it."""
        self._schedule(node, delay)

    def _schedule(self, node: FileNode | DirNode, delay: float) -> None:
        due = self._due.get(node.ino)
        if due is None:
            self._due[node.ino] = _Due(node, trio.current_time() + delay)
        self._wake.set()

    def trouble(self, node: FileNode) -> str:
        """Why a file is not in COS yet, if it was tried in vain."""
        due = self._due.get(node.ino)
        return due.error if due is not None else ""

    @property
    def pending(self) -> list[FileNode | DirNode]:
        """What waits to be sent."""
        return [due.node for due in self._due.values()]

    async def run(self) -> None:
        """Send what is due until cancelled."""
        async with trio.open_nursery() as nursery:
            running: set[int] = set()
            while True:
                now = trio.current_time()
                waits = []
                for ino, due in list(self._due.items()):
                    if ino in running:
                        continue
                    if due.at <= now:
                        running.add(ino)
                        nursery.start_soon(self._send_due, due, running)
                    else:
                        waits.append(due.at - now)
                with trio.move_on_after(min(waits, default=60.0)):
                    await self._wake.wait()
                self._wake = trio.Event()

    async def _send_due(self, due: _Due, running: set[int]) -> None:
        node = due.node
        try:
            async with self._limit:
                if isinstance(node, DirNode):
                    await self.flush_dir(node)
                else:
                    await self.flush(node)
            if self._due.get(node.ino) is due and not self._is_due(node):
                del self._due[node.ino]
            if node.unlinked:
                return
            if isinstance(node, DirNode):
                self._tree.table.drop_if_idle(node)
            else:
                self._release_content(node)
        except COSError as exc:
            self._failed(due, exc)
        except OSError as exc:
            self._failed(due, FilesystemError(exc.errno or errno.EIO, str(exc)))
        except Exception as exc:
            log.exception("sending %s", node.url)
            self._failed(due, FilesystemError(errno.EIO, str(exc)))
        finally:
            running.discard(node.ino)
            self._wake.set()

    def _failed(self, due: _Due, exc: COSError) -> None:
        delay = RETRY_DELAYS[min(due.tries, len(RETRY_DELAYS) - 1)]
        due.tries += 1
        due.error = str(exc)
        due.at = trio.current_time() + delay
        node = due.node
        if isinstance(node, FileNode):
            node.error = exc if node.opens else None  # told at the next close or fsync
            if not node.changed:
                self._due.pop(node.ino, None)  # a conflict was resolved by keeping both
                return
            if isinstance(exc, NotFoundError) and not node.dirty:
                log.error("the attributes of %s cannot be changed: %s", node.url, exc)
                node.attrs_dirty = False
                self._due.pop(node.ino, None)
                return
        self._due[node.ino] = due
        level = logging.WARNING if exc.retryable else logging.ERROR
        log.log(level, "%s is not in COS yet, next try in %.0f s: %s", node.url, delay, exc)

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
        failed: set[int] = set()

        async def one(node: FileNode | DirNode) -> None:
            try:
                async with self._limit:
                    if isinstance(node, DirNode):
                        await self.flush_dir(node)
                    else:
                        await self.flush(node)
            except (COSError, OSError) as exc:
                failed.add(node.ino)
                if isinstance(node, FileNode) and isinstance(exc, COSError):
                    node.error = exc if node.opens else None
                log.error("%s could not be sent: %s", node.url, exc)

        while nodes := [n for n in self._changed() if n.ino not in failed]:
            async with together() as nursery:
                for node in nodes:
                    nursery.start_soon(one, node)

    def _changed(self) -> list[FileNode | DirNode]:
        found: list[FileNode | DirNode] = []
        for node in self._tree.table.nodes.values():
            if node.unlinked:
                continue
            assert isinstance(node, FileNode | DirNode)
            if node.changed if isinstance(node, FileNode) else node.attrs_dirty:
                found.append(node)
        return found


def _conflict_key(key: str) -> str:
    """A name beside key that says when and where the other version came from."""
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    suffix = f".conflict-{socket.gethostname().split('.')[0][:40]}-{stamp}-{os.urandom(2).hex()}"
    room = names.KEY_MAX - len(suffix.encode(errors="replace"))
    return key.encode(errors="surrogatepass")[:room].decode(errors="ignore") + suffix


def _shown(ranges: Extents) -> str:
    """Some byte ranges for a message."""
    first = ", ".join(f"{start}-{stop - 1}" for start, stop in list(ranges)[:5])
    return f"{first}, ..." if len(ranges) > 5 else first


def _as_result(info: ObjectInfo) -> PutResult:
    return PutResult(info.etag, info.crc64, info.version_id, info.last_modified)


def _headers_json(headers: Headers) -> dict[str, Any]:
    return {
        "content_type": headers.content_type,
        "cache_control": headers.cache_control,
        "content_disposition": headers.content_disposition,
        "content_encoding": headers.content_encoding,
        "content_language": headers.content_language,
        "expires": headers.expires,
        "storage_class": headers.storage_class,
        "metadata": dict(headers.metadata),
        "extra": dict(headers.extra),
    }


def headers_from_json(record: dict[str, Any]) -> Headers:
    return Headers(**record)
