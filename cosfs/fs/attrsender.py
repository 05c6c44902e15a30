"""Attributes alone: a file's are a copy of its object onto itself, a directory's are in its marker."""

from __future__ import annotations

import time
from dataclasses import replace

from cosfs.client.model import Headers, ObjectInfo
from cosfs.errors import PreconditionFailedError
from cosfs.fs.deleter import Deleter
from cosfs.fs.fetcher import Source
from cosfs.fs.inodes import DirNode, FileNode
from cosfs.fs.records import Records
from cosfs.fs.remote import Remote
from cosfs.fs.sender import Sender
from cosfs.fs.tree import Tree
from cosfs.transfer import attributes


class AttributeSender:
    """Writes modes, owners, times and xattrs of files and directories that are otherwise unchanged."""

    def __init__(
        self, tree: Tree, remote: Remote, sender: Sender, deleter: Deleter, records: Records
    ) -> None:
        self._tree = tree
        self._remote = remote
        self._sender = sender
        self._deleter = deleter
        self._records = records

    async def send_file(self, node: FileNode) -> None:
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
        self._records.write(node)

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
                self._records.remove(node)
                return
            attrs = node.attrs
            await self.put_marker(node, attrs)
            node.attrs_dirty = node.attrs != attrs
            self._records.write(node)

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
        self._tree.heads.writes.note(bucket, key)
        node.marker = ObjectInfo(
            key, size, result.etag, result.last_modified or time.time(), crc64=result.crc64, headers=headers
        )
        if node.listing is not None:
            node.listing.marker = node.marker
        parent = node.parent
        entry = parent.listing.get(node.name) if parent is not None and parent.listing is not None else None
        if entry is not None and entry.is_dir:
            entry.info = node.marker  # should the node be forgotten and made again from this
        await self._deleter.replaced_for_good(bucket, {key: result.etag})
