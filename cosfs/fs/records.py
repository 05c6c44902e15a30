"""What the journal says of files and directories that COS does not have as they are here.

One record a node, rewritten as the node changes, removed when COS has everything. What its
close() or fsync() acknowledged ("file") is told from bytes that nobody was promised ("open").
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from cosfs.client.model import Headers
from cosfs.fs.inodes import DirNode, FileNode
from cosfs.fs.journal import Journal
from cosfs.transfer.attributes import Attributes


class Records:
    """Keeps the records of nodes. headers(node) are those a file would be sent with now."""

    def __init__(self, journal: Journal, headers: Callable[[FileNode], Headers]) -> None:
        self._journal = journal
        self._headers = headers

    def promise(self, node: FileNode, error: str = "") -> None:
        """Write that a file's bytes, as they are now, are to get to COS whatever happens."""
        if node.content is not None and node.dirty:
            node.content.promise()
            self.write(node, error)
            node.content.let_go_replaced()

    def write(self, node: FileNode | DirNode, error: str = "") -> None:
        """Write what COS does not have of a node; remove the record if that is nothing."""
        if node.unlinked:
            return
        kind, body = self._describe(node)
        if not kind:
            self.remove(node)
            return
        if error:
            body["error"] = error
        if node.pending_id:
            self._journal.replace(node.pending_id, kind, node.bucket, node.key, body)
        else:
            node.pending_id = self._journal.add(kind, node.bucket, node.key, body)

    def remove(self, node: FileNode | DirNode) -> None:
        if node.pending_id:
            self._journal.remove(node.pending_id)
            node.pending_id = 0

    def _describe(self, node: FileNode | DirNode) -> tuple[str, dict[str, Any]]:
        body: dict[str, Any] = {"attributes": attributes_to_json(node.attrs)}
        if isinstance(node, DirNode):
            return ("attributes" if node.attrs_dirty else ""), body
        if node.content is not None and node.dirty:
            kept = node.content.kept
            body |= {
                "content": kept.to_json(),
                "headers": headers_to_json(self._headers(node)),
                "expected": node.expected,
                "obsolete": node.obsolete,
            }
            if kept is not node.content and node.content.mtime_before is not None:
                body["attributes"]["mtime_ns"] = node.content.mtime_before
            if kept.promised:
                return "file", body
            # The attributes of the object were set all the same.
            body["set"] = node.attrs_dirty and node.info is not None
            body["etag"] = node.info.etag if node.info is not None else ""
            if node.content.mtime_before is not None:
                body["attributes"]["mtime_ns"] = node.content.mtime_before
            return "open", body
        if not node.attrs_dirty or node.info is None:
            return "", body
        body["etag"] = node.info.etag
        return "attributes", body


def headers_to_json(headers: Headers) -> dict[str, Any]:
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


def attributes_to_json(attrs: Attributes) -> dict[str, Any]:
    return {
        "mode": attrs.mode,
        "uid": attrs.uid,
        "gid": attrs.gid,
        "mtime_ns": attrs.mtime_ns,
        "atime_ns": attrs.atime_ns,
        "ctime_ns": attrs.ctime_ns,
        "rdev": attrs.rdev,
        "xattrs": {name: base64.b64encode(value).decode() for name, value in attrs.xattrs.items()},
    }


def attributes_from_json(record: dict[str, Any]) -> Attributes:
    xattrs = {name: base64.b64decode(value) for name, value in record["xattrs"].items()}
    return Attributes(**{**record, "xattrs": xattrs})
