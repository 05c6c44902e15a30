"""What COS said about a file, taken over into its node."""

from __future__ import annotations

from dataclasses import replace

from cosfs.client.model import ObjectInfo
from cosfs.fs.inodes import FileNode, Node
from cosfs.transfer import attributes
from cosfs.transfer.attributes import Defaults


def local(node: Node) -> bool:
    """Whether our own state of the node is the truth, whatever COS lists."""
    if isinstance(node, FileNode):
        return node.changed or node.info is None or node.writers > 0 or node.being_sent
    return node.parent is None


def sent_after(node: Node, since: float) -> bool:
    """Whether a file was written here after COS was asked."""
    return isinstance(node, FileNode) and node.sent > since


def apply(node: FileNode, info: ObjectInfo, defaults: Defaults) -> None:
    """Take over what COS said about an unchanged file."""
    old = node.info
    if old is not None and same(old, info):
        if info.headers is not None and not node.known:
            set_info(node, info, defaults)
        return
    if old is None or (old.etag, old.size) != (info.etag, info.size):
        node.epoch += 1  # handles opened before this must not go on with the new bytes
    set_info(node, info, defaults)


def set_info(node: FileNode, info: ObjectInfo, defaults: Defaults) -> None:
    """Make a file what COS says it is."""
    node.info = info
    node.expected = info.etag
    node.known = info.headers is not None
    node.target = None
    node.attrs = attributes.decode(info, defaults, is_dir=False)


def learn(node: FileNode, info: ObjectInfo, defaults: Defaults) -> None:
    """Take over attributes that a HEAD showed by the way; what was set here since stays."""
    if node.known or info.headers is None or node.info is None or node.info.etag != info.etag:
        return
    shown = attributes.decode(node.info, defaults, is_dir=False)
    found = attributes.decode(info, defaults, is_dir=False)
    node.info = info
    node.known = True
    a = node.attrs
    node.attrs = replace(
        a,
        mode=found.mode if a.mode == shown.mode else a.mode,
        uid=found.uid if a.uid == shown.uid else a.uid,
        gid=found.gid if a.gid == shown.gid else a.gid,
        xattrs={**found.xattrs, **a.xattrs},
    )


def same(old: ObjectInfo, new: ObjectInfo) -> bool:
    """Whether both describe the same bytes and the same metadata.

    A metadata change keeps the etag but moves Last-Modified; a PUT's own date is only known to
    the second, and to within the time the request took.
    """
    return old.etag == new.etag and old.size == new.size and abs(old.last_modified - new.last_modified) < 2.0
