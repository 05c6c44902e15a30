"""Somebody else changed an object that was changed here: both are kept, and it is told.

The other's version stays under its name; ours goes beside it under a name that says what it is.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import time

from cosfs.client.model import Headers
from cosfs.errors import FilesystemError, NotFoundError, PreconditionFailedError
from cosfs.fs import names
from cosfs.fs.extents import Extents
from cosfs.fs.inodes import FileNode
from cosfs.fs.leavings import Leavings
from cosfs.fs.records import Records
from cosfs.fs.remote import Remote
from cosfs.fs.sender import Sender
from cosfs.fs.staging import Staging
from cosfs.fs.tree import Tree

log = logging.getLogger(__name__)


class Conflicts:
    """Puts our versions beside the others'. count is how many there were."""

    def __init__(
        self, tree: Tree, remote: Remote, sender: Sender, records: Records, leavings: Leavings
    ) -> None:
        self._tree = tree
        self._remote = remote
        self._sender = sender
        self._records = records
        self._leavings = leavings
        self.count = 0

    async def keep_both(
        self, node: FileNode, content: Staging, bucket: str, key: str, headers: Headers
    ) -> FilesystemError:
        """Send an open file's version beside the object, go on with the latter; return what to raise."""
        self.count += 1
        other = conflict_key(key)
        node.epoch += 1  # from here on writers are refused
        await content.settled()
        await self.put_beside(bucket, key, other, content, headers)
        try:
            info = await self._remote.metadata(self._remote.client.head_object, bucket, key)
        except NotFoundError:
            info = None
        self._records.remove(node)
        content.close()
        node.content = None
        node.attrs_dirty = False
        self._leavings.abandon_former(node)
        if info is not None:
            self._tree.apply(node, info)
        else:
            self._tree.lose(node)
        if node.parent is not None:
            node.parent.listing = None
        return FilesystemError(
            errno.ESTALE,
            f"cos://{bucket}/{key} was changed by somebody else while it was open here",
            hint=f"Your version is kept as cos://{bucket}/{other}",
        )

    async def keep_recovered(self, bucket: str, key: str, content: Staging, headers: Headers) -> str:
        """Send a version that an earlier mount left; return its key."""
        self.count += 1
        other = conflict_key(key)
        await self.put_beside(bucket, key, other, content, headers)
        return other

    async def put_beside(self, bucket: str, key: str, other: str, content: Staging, headers: Headers) -> None:
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


def conflict_key(key: str) -> str:
    """A name beside key that says when and where the other version came from."""
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    suffix = f".conflict-{socket.gethostname().split('.')[0][:40]}-{stamp}-{os.urandom(2).hex()}"
    room = names.KEY_MAX - len(suffix.encode(errors="replace"))
    return key.encode(errors="surrogatepass")[:room].decode(errors="ignore") + suffix


def _shown(ranges: Extents) -> str:
    """Some byte ranges for a message."""
    first = ", ".join(f"{start}-{stop - 1}" for start, stop in list(ranges)[:5])
    return f"{first}, ..." if len(ranges) > 5 else first
