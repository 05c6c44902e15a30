"""Somebody else changed an object that was changed here: both are kept, and it is told.

The other's version stays under its name; ours goes beside it under a name that says what it is.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import time

from cosfs.client.model import Headers, ObjectInfo
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
        other, version = conflict_key(key), -1
        while content.version != version:  # somebody may open it meanwhile, and write
            node.epoch += 1  # from here on writers are refused
            await content.settled()
            version = content.version
            info = await self._keep(bucket, key, other, content, headers)
            await content.settled()
        told = FilesystemError(
            errno.ESTALE,
            f"cos://{bucket}/{key} was {_done(info)} by somebody else while it was open here",
            hint=f"Your version is kept as cos://{bucket}/{other}",
        )
        if node.content is not content:
            return told  # emptied meanwhile: what comes in its place meets the other's version as well
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
        return told

    async def keep_recovered(self, bucket: str, key: str, content: Staging, headers: Headers) -> str:
        """Send a version that an earlier mount left; return its key."""
        self.count += 1
        other = conflict_key(key)
        await self._keep(bucket, key, other, content, headers)
        return other

    async def _keep(
        self, bucket: str, key: str, other: str, content: Staging, headers: Headers
    ) -> ObjectInfo | None:
        """Put our version beside the object under another key; return the object if there is one."""
        what = await self._put_beside(bucket, other, content, headers)
        try:
            info = await self._remote.metadata(self._remote.client.head_object, bucket, key)
        except NotFoundError:
            info = None
        both = "" if info is None else "both are kept: the other's under its name, "
        log.error(
            "cos://%s/%s was %s by somebody else while it was open here; %s%s is kept as cos://%s/%s",
            bucket, key, _done(info), both, what, bucket, other,
        )  # fmt: skip
        return info

    async def _put_beside(self, bucket: str, other: str, content: Staging, headers: Headers) -> str:
        """Send our version of a file under another name, as much of it as can be had; return how much."""
        try:
            await self._sender.put_whole(bucket, other, content, headers, forbid=False)
        except (NotFoundError, PreconditionFailedError):
            if not await self._sender.is_gone(content.base):
                raise
            # What was not changed here was only in the object that is no more.
            part = content.without_base()
            try:
                await self._sender.put_whole(bucket, other, part, headers, forbid=False)
            finally:
                part.close(keep=True)
            return f"what was written here (bytes {_shown(content.changed)}, and zeros elsewhere)"
        return "what was written here"


def _done(info: ObjectInfo | None) -> str:
    """What somebody did to an object of which COS says this now."""
    return "changed" if info is not None else "removed"


def conflict_key(key: str) -> str:
    """A name beside key that says when and where the other version came from."""
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    suffix = f".conflict-{socket.gethostname().split('.')[0][:40]}-{stamp}-{os.urandom(4).hex()}"
    room = names.KEY_MAX - len(suffix.encode(errors="replace"))
    return key.encode(errors="surrogatepass")[:room].decode(errors="ignore") + suffix


def _shown(ranges: Extents) -> str:
    """Some byte ranges for a message."""
    first = ", ".join(f"{start}-{stop - 1}" for start, stop in list(ranges)[:5])
    return f"{first}, ..." if len(ranges) > 5 else first
