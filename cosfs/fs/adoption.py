"""Files of an earlier mount that are not in COS yet become files of this one.

They are seen, read, renamed and removed like any other from the first moment on, and sent like
any other. Only places in the tree are needed for that, no requests.
"""

from __future__ import annotations

from dataclasses import replace

from cosfs.client.model import STANDARD, ObjectInfo
from cosfs.fs import names
from cosfs.fs.filesystem import Filesystem
from cosfs.fs.inodes import DirNode, FileNode
from cosfs.fs.journal import Record
from cosfs.fs.listing import Entry
from cosfs.fs.records import attributes_from_json, headers_from_json
from cosfs.fs.staging import Staging


def adopt_file(fs: Filesystem, record: Record, content: Staging) -> FileNode | None:
    """Put a file into the tree and send it soon; None if it has no place here."""
    place = find_place(fs, record.bucket, record.key)
    if place is None or "attributes" not in record.body:
        return None
    parent, component = place
    name = names.to_name(component)
    if not component or name in parent.children:
        return None
    body = record.body
    node = fs.tree.add_file(parent, name, component, attributes_from_json(body["attributes"]))
    node.content = content
    content.promised = content.version
    node.pending_id = record.id
    node.expected = expected(fs, record)
    node.attrs_dirty = True
    node.obsolete = [(bucket, key, etag) for bucket, key, etag in body["obsolete"]]
    node.info = _object_before(record, content)
    fs.committer.leavings.adopt(node)
    fs.committer.send_later(node)
    return node


def expected(fs: Filesystem, record: Record) -> str:
    """The etag that an object may have which a recovered file takes the place of, "" if there may be none.

    After a loss of power the record may be one of before, and what COS has have come later.
    """
    etag: str | None = record.body["expected"]
    return etag if etag is not None else fs.deleter.expected(record.bucket, record.key) or ""


def _object_before(record: Record, content: Staging) -> ObjectInfo | None:
    """What COS had under the key when the file was opened, as far as the record tells."""
    etag = record.body["expected"]
    if not etag:
        return None
    headers = headers_from_json(record.body["headers"])
    size = content.base.size if content.base is not None else 0
    info = ObjectInfo(record.key, size, etag, record.written, headers=headers)
    return replace(info, storage_class=headers.storage_class or STANDARD)


def find_place(fs: Filesystem, bucket: str, key: str) -> tuple[DirNode, str] | None:
    """The directory of a key, made known without asking COS, and the rest of the key."""
    parent = fs.tree.root
    if parent.is_buckets:
        found = _directory(fs, parent, bucket, bucket.encode())
        if found is None:
            return None
        parent = found
    elif parent.bucket != bucket or not key.startswith(parent.prefix):
        return None
    *directories, last = key[len(parent.prefix) :].split("/")
    for component in directories:
        found = _directory(fs, parent, component, names.to_name(component))
        if found is None:
            return None
        parent = found
    return parent, last


def _directory(fs: Filesystem, parent: DirNode, component: str, name: bytes) -> DirNode | None:
    node = parent.children.get(name)
    if node is None:
        node = fs.tree.node_for(parent, Entry(name, component, True, None))
    return node if isinstance(node, DirNode) else None
