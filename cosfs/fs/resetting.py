"""Attributes that were set before a crash and not yet written to COS are set again."""

from __future__ import annotations

import errno

from cosfs.client.model import ObjectInfo
from cosfs.errors import FilesystemError, NotFoundError
from cosfs.fs import names
from cosfs.fs.adoption import find_place
from cosfs.fs.filesystem import Filesystem
from cosfs.fs.inodes import DirNode, FileNode
from cosfs.fs.journal import Record
from cosfs.fs.records import attributes_from_json
from cosfs.fs.salvage import Salvage
from cosfs.transfer import attributes


async def reset_attributes(fs: Filesystem, record: Record, salvage: Salvage) -> FileNode | DirNode | None:
    """Set what a record says, to be sent like any change; None if there is nothing left to do."""
    place = find_place(fs, record.bucket, record.key.removesuffix("/"))
    if place is None:
        return None
    parent, component = place
    parent.nlookup += 1  # or it goes while we wait, and the file would be in a directory that is no more
    try:
        return await _reset(fs, record, parent, component, salvage)
    finally:
        fs.tree.table.forget(parent.ino, 1)


async def _reset(
    fs: Filesystem, record: Record, parent: DirNode, component: str, salvage: Salvage
) -> FileNode | DirNode | None:
    attrs = attributes_from_json(record.body["attributes"])
    node = await _find(fs, record, parent, component)
    if node is None:
        return None  # removed since: its attributes went with it
    if isinstance(node, FileNode):
        if node.changed:
            return None  # changed here since
        found = await fs.remote.metadata(fs.remote.client.head_object, node.bucket, node.key)
        assert found is not None
        if _says(fs, found, attrs) or _is_newer(fs, found, attrs):
            return None
        if found.etag != record.body["etag"]:
            why = f"was replaced since its mode ({attrs.mode & 0o7777:o}), owner or time was set here"
            salvage.note(record.bucket, record.key, why)
            return None
        fs.tree.apply(node, found)
    elif node.attrs_dirty:
        return None
    node.attrs = attrs
    node.known = True
    node.pending_id = record.id
    fs.tree.kernel.forget_inode(node.ino)  # where COS could not be asked before anybody looked
    fs.committer.attributes_changed(node)
    return node


def _says(fs: Filesystem, info: ObjectInfo, attrs: attributes.Attributes) -> bool:
    """Whether COS has them already: only the answer was lost."""
    there = attributes.decode(info, fs.settings.defaults, is_dir=False)
    chosen = ("mode", "uid", "gid", "mtime_ns", "rdev")
    same = all(getattr(there, name) == getattr(attrs, name) for name in chosen)
    return same and dict(there.xattrs) == dict(attrs.xattrs)


def _is_newer(fs: Filesystem, info: ObjectInfo, attrs: attributes.Attributes) -> bool:
    """Whether they were set again since: copying an object onto itself leaves its etag as it is."""
    if info.headers is None or "ctime" not in info.headers.metadata:
        return False
    return attributes.decode(info, fs.settings.defaults, is_dir=False).ctime_ns > attrs.ctime_ns


async def _find(fs: Filesystem, record: Record, parent: DirNode, component: str) -> FileNode | DirNode | None:
    """The file or directory of a record, None if COS no longer has it."""
    is_dir = record.key.endswith("/")
    try:
        node = await fs.tree.lookup(parent, names.to_name(component))
    except (FilesystemError, NotFoundError) as exc:
        if exc.errno == errno.ENOENT:
            return None
        raise
    if not isinstance(node, DirNode if is_dir else FileNode):
        return None
    assert isinstance(node, FileNode | DirNode)
    return node
