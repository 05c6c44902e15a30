"""Open files: opening, reading, writing, and what close() promises."""

from __future__ import annotations

import errno
import logging
import os
import time
from dataclasses import replace
from functools import partial

import trio

from cosfs.client.model import ObjectInfo
from cosfs.errors import COSError, FilesystemError, NotFoundError, PreconditionFailedError
from cosfs.fs import descriptors, xattrs
from cosfs.fs.calls import Calls, FileHandle
from cosfs.fs.fetcher import Source
from cosfs.fs.inodes import FileNode
from cosfs.fs.readahead import Readahead
from cosfs.fs.staging import Staging
from cosfs.transfer.attributes import Attributes

log = logging.getLogger(__name__)

ASYNC_DELAY = 0.1  # a file renamed, changed or removed within this time is sent once or not at all
SETTLED_WITHIN = 5.0  # seconds; an emptied file waits no longer for what is on its way of it
CUT_WITHIN = 5.0  # seconds; truncate() of a path waits no longer for COS
FILE_MAX = 9_000 * 5 * 1024**3  # COS's limit for one object, and some parts to spare


class OpenFiles(Calls):
    """Calls on files and their handles."""

    async def open(self, ino: int, flags: int, pid: int = 0) -> int:
        node = self._file(ino)
        writing = flags & os.O_ACCMODE != os.O_RDONLY
        if writing:
            self._writable()
        if not node.opens:
            await self.tree.refresh(node)
        if writing:
            await self.tree.ensure_stored(node)  # the new bytes take its mode along, after a crash as well
            await self._may_write(node)
        self._present(ino)
        if flags & getattr(os, "O_DIRECT", 0) and not self.tree.local(node):
            await self._ask_again(node)
        if node.info is not None and node.info.archived and not (writing and flags & os.O_TRUNC):
            await self._check_restored(node)
        fh = self._open_handle(node, flags, pid)
        if writing and flags & os.O_TRUNC:
            try:
                await self._empty(node)
            except BaseException:
                await self.release(fh)
                raise
        return fh

    async def _check_restored(self, node: FileNode) -> None:
        """Refuse what an archived object must be read for, unless it was restored lately."""
        try:
            info = await self.remote.metadata(self.remote.client.head_object, node.bucket, node.key)
        except NotFoundError as exc:
            raise FilesystemError(errno.ESTALE) from exc
        if info is not None and node.info is not None and not self.tree.local(node):
            self._take(node, info)
            node.info = replace(node.info, restore=info.restore)
        if node.info is not None and node.info.archived:
            log.error(
                "%s is archived (%s): restore it first: setfattr -n %s -v DAYS FILE",
                node.url, node.info.storage_class, xattrs.RESTORE,
            )  # fmt: skip
            raise FilesystemError(errno.EIO, f"{node.url} is archived")

    async def _ask_again(self, node: FileNode) -> None:
        try:
            info = await self.remote.metadata(self.remote.client.head_object, node.bucket, node.key)
        except NotFoundError as exc:
            raise FilesystemError(errno.ESTALE) from exc
        if info is not None:
            self._take(node, info)

    def _take(self, node: FileNode, info: ObjectInfo) -> None:
        """Take over what COS says; ESTALE has the kernel look the name up again and find another node."""
        if not self.tree.take(node, info):
            if node.parent is not None:
                node.parent.listing = None
            raise FilesystemError(errno.ESTALE, f"{node.url} was replaced while it is open")

    def _open_handle(self, node: FileNode, flags: int, pid: int) -> int:
        handle = FileHandle(node, flags, Readahead(), node.epoch, pid)
        node.opens += 1
        if handle.writable:
            node.writers += 1
            self._content(node)
        return self._add_handle(self._files, handle)

    def keep_cache(self, fh: int) -> bool:
        """Whether the kernel's pages of the file are still its bytes; asked once per open."""
        node = self._files[fh].node
        if node.info is None or node.dirty:
            return True  # every byte went through the kernel
        same = node.cached_etag == node.info.etag
        node.cached_etag = node.info.etag
        return same

    def bypasses_pages(self, fh: int) -> bool:
        """Whether reads of this handle shall not be limited by the size the kernel remembers.

        O_DIRECT promises what COS has now; the kernel would stop at the size it saw last.
        """
        handle = self._files[fh]
        direct = handle.flags & getattr(os, "O_DIRECT", 0)
        return bool(direct) and not handle.writable and not self.tree.local(handle.node)

    async def read(self, fh: int, offset: int, length: int) -> bytes | memoryview:
        handle = self._files[fh]
        node = handle.node
        try:
            if node.content is not None:
                return await node.content.read(self.fetcher, offset, length)
            if node.info is None:
                return b""
            if handle.epoch != node.epoch:
                raise FilesystemError(errno.ESTALE)
            source = self._source(node)
            if not offset:
                self.small_files.reading(node)
            if handle.readahead.advance(self.fetcher, source, offset, length, self.readahead):
                return await self.prefetcher.read(node, source, offset, length)
            return await self.fetcher.read(source, offset, length)
        except (PreconditionFailedError, NotFoundError) as exc:
            # Replaced or removed by somebody: what was read before and what comes now would
            # not belong together.
            node.expires = 0.0
            if node.parent is not None:
                node.parent.listing = None
            raise FilesystemError(errno.ESTALE, str(exc)) from exc

    async def write(self, fh: int, offset: int, data: bytes) -> int:
        handle = self._files[fh]
        node = handle.node
        if self.settings.max_pending and self.settings.write_back == "async":
            await self._wait_for_room()
        place = (node.bucket, node.key)
        if self.room.is_short(len(data)):
            await self.room.make(place, len(data))
        while True:
            try:
                return await self._write_now(handle, offset, data)
            except (COSError, OSError) as exc:
                if exc.errno != errno.ENOSPC or not await self.room.make(place, len(data)):
                    raise

    async def _write_now(self, handle: FileHandle, offset: int, data: bytes) -> int:
        node = handle.node
        await self._wait_for_commit(node)
        if handle.epoch != node.epoch:
            raise FilesystemError(errno.ESTALE, f"{node.url} was changed by somebody else")
        content = self._content(node)
        if handle.flags & os.O_APPEND:
            offset = content.size
        if offset + len(data) > FILE_MAX:
            raise FilesystemError(errno.EFBIG)
        await self.room.have(len(data), content.write, offset, data)
        self._wrote(node)
        if not node.unlinked:
            self.committer.wrote(node, offset, offset + len(data))
        return len(data)

    async def _wait_for_commit(self, node: FileNode) -> None:
        """A large file is not changed while it is being read for sending.

        Who returns from here changes it before anything else is awaited. Only once: the next who waits
        has the lock as soon as it is released, so two of them would find it taken for ever.
        """
        if self.committer.reads_staging(node):
            await self.remote.patience.acquire(node.lock, (node.bucket, node.key))
            node.lock.release()

    async def _wait_for_room(self) -> None:
        """Wait while too much is closed and not sent, as long as any of it gets to COS."""
        waiting = self.committer.too_much()
        if waiting:
            places = [(node.bucket, node.key) for node in waiting]
            await self.remote.patience.wait(places, self.committer.wait_for_room)

    async def flush(self, fh: int) -> None:
        """close() of one descriptor: COS has the file, or (write-back async) the journal."""
        handle = self._files[fh]
        node = handle.node
        if node.unlinked:
            return
        if not handle.writable and (node.writers or not node.dirty or node.pending_id):
            return  # a reader; but a file made for reading only is sent as well
        self._tell(node)
        if self._is_unwritten(handle):
            return
        if self.settings.write_back == "async" and node.dirty:
            if self.committer.is_streaming(node):
                await self._keep_safe_or_send(node)
            else:
                await self.room.have(0, self._keep_safe, node)
            if not self.rights.has_written(node.bucket, node.key):
                await self.committer.flush_and_hear(node)
            return
        await self._send(node)

    async def _send(self, node: FileNode) -> None:
        """Return when COS has the file; it stays ours if COS is out of reach for too long."""
        if node.changed:
            patiently = partial(self.remote.patience.patiently, [(node.bucket, node.key)])
            needed = node.content.on_disk if node.content is not None else 0  # what is written: not its holes
            await self.room.have(needed, patiently, self.committer.flush, node)

    def _is_unwritten(self, handle: FileHandle) -> bool:
        """Whether a new or emptied file still waits for its bytes, and another close() will come.

        For `echo x > f` a shell opens f, duplicates the descriptor and closes the first one.
        Sending the empty file then would be a request for nothing, and take the old content
        away before the new one is there.
        """
        node = handle.node
        return (
            handle.writable
            and node.dirty
            and not node.size
            and handle.pid > 0
            and descriptors.may_write(handle.pid, node.ino, self.device)
        )

    @staticmethod
    def _tell(node: FileNode) -> None:
        """Raise what went wrong in the background and cannot be set right by trying again."""
        error, node.error = node.error, None
        if error is not None and not node.changed:
            raise error

    async def _keep_safe_or_send(self, node: FileNode) -> None:
        """Return when the local disk has a file, or COS: most of its parts are there already."""
        with trio.CancelScope() as scope:
            self.committer.flush_soon(node, scope.cancel)
            await self._keep_safe(node)

    async def _keep_safe(self, node: FileNode) -> None:
        """Bring a changed file's bytes and the intent to send them onto the local disk."""
        while (content := node.content) is not None and content.dirty:
            version = content.version
            await content.make_durable()
            if node.content is content and content.version == version:
                self.committer.promise(node)
                self.committer.send_later(node, ASYNC_DELAY)
                await trio.to_thread.run_sync(self.journal.sync)
                content.rest()
                return

    async def fsync(self, fh: int) -> None:
        """Return when COS has the file."""
        node = self._files[fh].node
        if not node.unlinked:
            self._tell(node)
            await self._send(node)

    async def release(self, fh: int) -> None:
        """The last descriptor of one open is gone; errors can no longer be told to anybody."""
        handle = self._files.pop(fh)
        self.readahead.leave(handle.readahead)
        node = handle.node
        node.opens -= 1
        if handle.writable:
            node.writers -= 1
        if node.dirty and not node.writers and not node.unlinked:
            # Written through a mapping after close, or close failed: keep trying.
            self.committer.send_later(node, 0.0 if self.settings.write_back == "close" else ASYNC_DELAY)
            if node.content is None or node.content.promised != node.content.version:
                self._promise(node)
        if node.opens:
            return
        if node.content is not None:
            node.content.rest()  # somebody may have read what waits to be sent
        node.error = None  # there is nobody left to tell
        self.prefetcher.closed(node)
        if node.unlinked:
            await self.committer.stop(node)
            self.committer.drop(node)
            if not node.opens:
                self.committer.leavings.bury(node)
            return
        self.committer.closed(node)

    def _promise(self, node: FileNode) -> None:
        try:
            self.committer.promise(node)
        except (COSError, OSError) as exc:
            log.error("%s is not in COS yet, and would be lost if this process was killed: %s", node.url, exc)

    async def _empty(self, node: FileNode) -> None:
        """O_TRUNC: what the journal keeps of the file stays until something has taken its place."""
        await self._wait_for_commit(node)
        if node.being_sent:
            # Its old bytes are safe when COS has them, or when nobody reads them any longer.
            with trio.move_on_after(SETTLED_WITHIN):
                async with node.lock:
                    pass
        content = node.content
        if content is None or not content.size or not node.pending_id:
            await self._truncate(node, 0)
            return
        node.content = content.emptied()
        self._wrote(node)
        await self.committer.truncated(node)

    async def _truncate(self, node: FileNode, size: int) -> None:
        if not node.is_regular:
            raise FilesystemError(errno.EINVAL)
        if size > FILE_MAX:
            raise FilesystemError(errno.EFBIG)
        await self._wait_for_commit(node)
        content = self._content(node)
        if content.size == size and not content.dirty and node.info is not None:
            self._wrote(node)  # the same bytes, but POSIX wants a new time
            content.mtime_before = None
            if not node.unlinked:
                self.committer.attributes_changed(node)
            return
        self._wrote(node)
        content.truncate(size, partial(self._note_size, node))
        if content.is_cut:
            await trio.to_thread.run_sync(self.journal.sync)
            content.cut_off()
        await self.committer.truncated(node)
        if not node.writers and not node.unlinked:
            await self._flush_or_try_later(node)

    def _note_size(self, node: FileNode) -> None:
        assert node.content is not None
        if node.content.promised:
            self.committer.promise(node)  # what the journal says of the old size must not come back
        self.committer.record(node)

    async def _flush_or_try_later(self, node: FileNode) -> None:
        """Send a file that nobody has open; what fails is told, and tried again.

        The kernel holds the file until truncate() is answered, and whoever then removes it holds its
        directory too: what takes long goes on behind, as in the other way of writing back.
        """
        if self.settings.write_back == "close":
            with trio.move_on_after(CUT_WITHIN):
                try:
                    await self._send(node)
                    return
                except (COSError, OSError):
                    if node.dirty:
                        self.committer.send_later(node)
                        self.committer.promise(node)
                    raise
        await self.room.have(0, self._keep_safe, node)

    def _content(self, node: FileNode) -> Staging:
        """The file's local state, made when it is first needed."""
        if node.content is None:
            node.content = Staging(
                self.journal.staging,
                self._source(node) if node.info is not None else None,
                remove=self.journal.retire,
            )
        return node.content

    def _source(self, node: FileNode) -> Source:
        assert node.info is not None
        return Source(node.bucket, node.info.key, node.info.etag, node.info.size)

    @staticmethod
    def _wrote(node: FileNode) -> None:
        now = time.time_ns()
        a = node.attrs
        if node.content is not None and node.content.mtime_before is None:
            node.content.mtime_before = a.mtime_ns
        node.attrs = Attributes(a.mode, a.uid, a.gid, now, a.atime_ns, now, a.rdev, a.xattrs)
