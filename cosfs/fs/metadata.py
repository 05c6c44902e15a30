"""Changes of attributes: mode, owner, times, size, and the extended ones."""

from __future__ import annotations

import errno
import stat
import time
from dataclasses import dataclass, replace

from cosfs.client.model import ObjectVersion
from cosfs.errors import FilesystemError
from cosfs.fs import xattrs
from cosfs.fs.inodes import DirNode, FileNode, Node
from cosfs.fs.openfiles import OpenFiles
from cosfs.transfer import attributes


@dataclass(frozen=True, slots=True)
class Change:
    """What setattr is to change; None leaves it."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None


class Metadata(OpenFiles):
    """Calls that read or change what is known about a file beside its bytes."""

    async def setattr(self, ino: int, change: Change) -> Node:
        self._writable()
        node = self._present(ino)
        if change == Change(size=change.size):
            await self.tree.ensure_stored(node)
        else:
            await self._about_to_change(node)
        await self._may_write(node)
        if change.size is not None:
            await self._truncate(self._file(ino), change.size)
        self._change_attributes(node, change)
        return node

    async def _about_to_change(self, node: Node) -> None:
        """Know all that is stored of a node; refuse what COS cannot copy onto itself."""
        await self.tree.ensure_stored(node)
        if not isinstance(node, FileNode) or self.tree.local(node):
            return
        if node.info is not None and node.info.archived:
            await self._check_restored(node)

    def _change_attributes(self, node: Node, change: Change) -> None:
        before = node.attrs
        mode = before.mode if change.mode is None else stat.S_IFMT(before.mode) | (change.mode & 0o7777)
        after = replace(
            before,
            mode=mode,
            uid=before.uid if change.uid is None else change.uid,
            gid=before.gid if change.gid is None else change.gid,
            mtime_ns=before.mtime_ns if change.mtime_ns is None else change.mtime_ns,
            atime_ns=before.atime_ns if change.atime_ns is None else change.atime_ns,
        )
        if after == before and change.mode is None and change.uid is None and change.gid is None:
            return
        only_atime = replace(after, atime_ns=before.atime_ns) == before and change.atime_ns is not None
        node.attrs = replace(after, ctime_ns=time.time_ns())
        if node.unlinked or only_atime:
            return  # the time of reading is not worth a request
        if isinstance(node, FileNode):
            if change.mtime_ns is not None and node.content is not None and node.dirty:
                node.content.mtime_before = change.mtime_ns
            if node.dirty:
                self._goes_with_bytes(node)
            else:
                self.committer.attributes_changed(node)
        elif isinstance(node, DirNode) and node.parent is not None and not node.is_bucket:
            self.committer.attributes_changed(node)

    def _goes_with_bytes(self, node: FileNode) -> None:
        """The attributes of a changed file have changed too; what the journal has of it follows."""
        node.attrs_dirty = True
        if node.pending_id or node.info is not None:
            self.committer.note(node)

    async def getxattr(self, ino: int, name: bytes) -> bytes:
        text = xattrs.check_name(name)
        node = self._node(ino)
        found: bytes | None
        if text == xattrs.VERSIONS:
            found = await self._versions(node)
        elif text.startswith(xattrs.COS):
            if text in xattrs.ASKED and isinstance(node, FileNode):
                await self._ask_for_all(node)
            await self.tree.ensure_known(node)
            found = xattrs.virtual(node).get(text)
        else:
            await self.tree.ensure_known(node)
            found = node.attrs.xattrs.get(text)
        if found is None:
            raise FilesystemError(errno.ENODATA)
        return found

    async def _ask_for_all(self, node: FileNode) -> None:
        """Have what only a HEAD tells, or what changes without a trace in a listing."""
        info = node.info
        if info is None or self.tree.local(node) or (info.crc64 is not None and not info.archived):
            return
        found = await self.tree.heads.ask(node.bucket, node.key)
        if found is not None and node.info is info and found.etag == info.etag:
            node.info = replace(
                info, crc64=found.crc64, version_id=found.version_id, restore=found.restore,
                storage_class=found.storage_class,
            )  # fmt: skip

    async def _versions(self, node: Node) -> bytes:
        """All versions of an object; with a bucket that keeps none, the one there is."""
        bucket, key = node.bucket, node.key
        found: list[ObjectVersion] = []
        key_marker = version_marker = ""
        while key and len(found) < xattrs.VERSIONS_SHOWN:
            page = await self.remote.metadata(
                self.remote.client.list_versions, bucket, prefix=key,
                key_marker=key_marker, version_id_marker=version_marker,
            )  # fmt: skip
            ours = [version for version in page.versions if version.key == key]
            found += ours
            key_marker, version_marker = page.next_key_marker, page.next_version_id_marker
            if not key_marker or len(ours) < len(page.versions):
                break  # keys that only begin like ours come after it
        return xattrs.versions(found[: xattrs.VERSIONS_SHOWN])

    async def listxattr(self, ino: int) -> list[bytes]:
        node = self._node(ino)
        await self.tree.ensure_known(node)
        # What COS says is not listed: `cp -a` and `rsync -X` would try to set it on the copy.
        return [n.encode() for n in node.attrs.xattrs]

    async def setxattr(self, ino: int, name: bytes, value: bytes) -> None:
        node = self._present(ino)
        if name == xattrs.RESTORE.encode() and isinstance(node, FileNode):
            self._writable()
            await self._restore(node, value)
            return
        await self._change_xattrs(ino, name, value)

    async def removexattr(self, ino: int, name: bytes) -> None:
        await self._change_xattrs(ino, name, None)

    async def _change_xattrs(self, ino: int, name: bytes, value: bytes | None) -> None:
        self._writable()
        text = xattrs.check_name(name)
        xattrs.check_writable(text)
        node = self._present(ino)
        await self._about_to_change(node)
        await self._may_write(node)
        found = dict(node.attrs.xattrs)
        if value is None:
            if text not in found:
                raise FilesystemError(errno.ENODATA)
            del found[text]
        else:
            found[text] = value
        attrs = replace(node.attrs, xattrs=found, ctime_ns=time.time_ns())
        info = node.info if isinstance(node, FileNode) else node.marker if isinstance(node, DirNode) else None
        attributes.encode(attrs, info.headers if info is not None else None)  # ENOSPC now, not later
        node.attrs = attrs
        if isinstance(node, FileNode) and node.dirty:
            self._goes_with_bytes(node)
        elif isinstance(node, FileNode) or (isinstance(node, DirNode) and node.parent is not None):
            self.committer.attributes_changed(node)

    async def _restore(self, node: FileNode, value: bytes) -> None:
        days, tier = xattrs.parse_restore(value)
        if node.info is None:
            raise FilesystemError(errno.EINVAL, f"{node.url} is not in COS yet")
        client = self.remote.client
        await self.remote.change(client.restore_object, node.bucket, node.key, days=days, tier=tier)
