"""What COS said about a file, taken over into its node."""

from __future__ import annotations

from dataclasses import replace

from cosfs.client.model import ObjectInfo
from cosfs.errors import COSError, NetworkError
from cosfs.fs.inodes import DirNode, FileNode, Node
from cosfs.transfer import attributes
from cosfs.transfer.attributes import Defaults


def tells_nothing(error: BaseException) -> bool:
    """Whether an error leaves open what was asked: no answer, COS in trouble, or no keys to ask with."""
    return isinstance(error, NetworkError) or (isinstance(error, COSError) and error.may_pass)


def local(node: Node) -> bool:
    """Whether our own state of the node is the truth, whatever COS lists."""
    if isinstance(node, FileNode):
        return node.changed or node.info is None or node.writers > 0 or node.being_sent
    return node.parent is None


def sent_after(node: Node, since: float) -> bool:
    """Whether a file was written here after COS was asked."""
    return isinstance(node, FileNode) and node.sent > since


def holds_changes(node: DirNode) -> bool:
    """Whether anything known below a directory is changed here and not in COS yet."""
    return any(
        holds_changes(child) if isinstance(child, DirNode) else local(child)
        for child in node.children.values()
    )


def replaced(node: FileNode, info: ObjectInfo) -> bool:
    """Whether COS has other bytes than the node knows of."""
    return node.info is None or (node.info.etag, node.info.size) != (info.etag, info.size)


def apply(node: FileNode, info: ObjectInfo, defaults: Defaults) -> bool:
    """Take over what COS said about an unchanged file; returns whether it was something new."""
    if node.info is not None and same(node.info, info, exactly=node.dated):
        if info.headers is not None and not node.known:
            set_info(node, info, defaults)
        elif not node.dated:
            node.info, node.dated = replace(node.info, last_modified=info.last_modified), True
        return False
    if replaced(node, info):
        node.epoch += 1  # handles opened before this must not go on with the new bytes
    set_info(node, info, defaults)
    return True


def set_info(node: FileNode, info: ObjectInfo, defaults: Defaults) -> None:
    """Make a file what COS says it is."""
    node.info = info
    node.expected = info.etag
    node.dated = True
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
        mtime_ns=found.mtime_ns if a.mtime_ns == shown.mtime_ns else a.mtime_ns,
        atime_ns=found.atime_ns if a.atime_ns == shown.atime_ns else a.atime_ns,
        rdev=found.rdev,
        xattrs={**found.xattrs, **a.xattrs},
    )


def same(old: ObjectInfo, new: ObjectInfo, *, exactly: bool = True) -> bool:
    """Whether both describe the same bytes and the same metadata.

    A metadata change keeps the etag but moves Last-Modified, which HEAD tells in whole seconds. When old is
    what our own PUT answered, its date is only known to within the time the request took: not exactly.
    """
    if old.etag != new.etag or old.size != new.size:
        return False
    if exactly:
        return int(old.last_modified) == int(new.last_modified)
    return abs(old.last_modified - new.last_modified) < PUT_TAKES


PUT_TAKES = 2.0  # seconds between the date of the answer and that of the object
