"""Multipart uploads: parts in any order, put together by moving rows and combining CRCs, not bytes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cosfs.emulator.digests import crc64_combine
from cosfs.emulator.errors import CosError
from cosfs.emulator.store import Bucket, Bytes, Properties, Store, Version
from cosfs.emulator.values import Piece

MAX_PART_NUMBER = 10_000


@dataclass(frozen=True, slots=True)
class Upload:
    """An unfinished upload."""

    id: str
    key: str
    initiated: int
    properties: Properties


@dataclass(frozen=True, slots=True)
class Part:
    """A part that arrived. id is its row, minus which owns its pieces."""

    id: int
    number: int
    size: int
    etag: str
    crc64: str
    modified: int


class Uploads:
    """The uploads of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._db = store.db

    def create(self, bucket: Bucket, key: str, properties: Properties) -> Upload:
        """Open an upload. Its id sorts by time, since the Python SDK resumes the last one listed."""
        now = self._store.clock()
        id_ = f"{int(now):010d}{int(now % 1 * 1e6):06x}{os.urandom(29).hex()}"
        values = (id_, bucket.id, key.encode(), int(now), properties.storage_class)
        sql = "INSERT INTO uploads (id, bucket, key, initiated, storage_class, headers, tags, acl)"
        self._db.execute(
            f"{sql} VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (*values, properties.headers, properties.tags, properties.acl),
        )
        return Upload(id_, key, int(now), properties)

    def get(self, bucket: Bucket, key: str, id_: str) -> Upload:
        """Return an open upload of a key or say that there is none."""
        columns = "initiated, storage_class, headers, tags, acl"
        sql = f"SELECT {columns} FROM uploads WHERE id = ? AND bucket = ? AND key = ?"
        row = self._db.one(sql, id_, bucket.id, key.encode())
        if row is None:
            raise CosError("NoSuchUpload")
        return Upload(id_, key, row[0], Properties(*row[1:]))

    def put_part(self, upload: Upload, number: int, content: Bytes) -> Part:
        """Store a part, in place of an earlier one with this number."""
        gone: list[str] = []
        with self._db.transaction():
            self._drop_part(upload.id, number, gone)
            now = self._store.now()
            sql = "INSERT INTO parts (upload, number, size, etag, crc64, modified) VALUES (?, ?, ?, ?, ?, ?)"
            values = (upload.id, number, content.size, content.etag, content.crc64, now)
            id_ = self._db.execute(sql, values).lastrowid or 0
            self._store.put_pieces(-id_, content.pieces)
            gone = self._store.unreferenced(gone)
        self._store.remove_files(gone)
        return Part(id_, number, content.size, content.etag, content.crc64, now)

    def _drop_part(self, upload: str, number: int, gone: list[str]) -> None:
        row = self._db.one("SELECT id FROM parts WHERE upload = ? AND number = ?", upload, number)
        if row is not None:
            self._store.drop_pieces(-row[0], gone)
            self._db.execute("DELETE FROM parts WHERE id = ?", row)

    def parts(self, upload: Upload, after: int = 0, limit: int = MAX_PART_NUMBER) -> list[Part]:
        """Return parts by number, from the one after `after`."""
        sql = (
            "SELECT id, number, size, etag, crc64, modified FROM parts "
            "WHERE upload = ? AND number > ? ORDER BY number LIMIT ?"
        )
        return [Part(*row) for row in self._db.execute(sql, (upload.id, after, limit))]

    def complete(self, bucket: Bucket, upload: Upload, chosen: Sequence[Part]) -> Version:
        """Make an object of the chosen parts; the others are dropped."""
        pieces = list(self._pieces(chosen))
        size, crc = 0, 0
        digest = hashlib.md5(upload.id.encode(), usedforsecurity=False)
        for part in chosen:
            crc = crc64_combine(crc, int(part.crc64), part.size)
            size += part.size
            digest.update(part.etag.encode())
        # COS's ETag is no function of the content alone (the same part gave two values); so is ours.
        content = Bytes(pieces, size, f"{digest.hexdigest()}-{len(chosen)}", str(crc))
        # Two transactions: a crash between them leaves the object complete and the upload open, to be
        # completed again. The pieces share the files, so the parts can go afterwards.
        version = self._store.put(bucket, upload.key, content, upload.properties)
        self.abort(upload)
        return version

    def _pieces(self, chosen: Sequence[Part]) -> Iterator[Piece]:
        for part in chosen:
            yield from self._store.pieces(-part.id, 0, part.size)

    def abort(self, upload: Upload) -> None:
        """Forget an upload and its parts."""
        gone: list[str] = []
        with self._db.transaction():
            for (id_,) in self._db.execute("SELECT id FROM parts WHERE upload = ?", (upload.id,)).fetchall():
                self._store.drop_pieces(-id_, gone)
            self._db.execute("DELETE FROM parts WHERE upload = ?", (upload.id,))
            self._db.execute("DELETE FROM uploads WHERE id = ?", (upload.id,))
            gone = self._store.unreferenced(gone)
        self._store.remove_files(gone)
