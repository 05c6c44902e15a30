"""Buckets, object versions and their bytes: what is there, and how it changes all at once.

Every method that changes something is one transaction, so a reader or a crash sees it wholly or not at all.
Handlers decide what the user meant; the store knows the rules of versioning and who still needs which file.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from cosfs.emulator.auth import Credential
from cosfs.emulator.database import Database
from cosfs.emulator.digests import Digest, crc64_combine
from cosfs.emulator.errors import CosError
from cosfs.emulator.files import FileStore, Received
from cosfs.emulator.values import Content, Piece

NULL_VERSION = "null"
_LAST_VERSION = (1 << 64) - 1
_COLUMNS = (
    "id, bucket, key, version, live, marker, size, etag, crc64, modified, storage_class, headers, tags, acl, "
    "appendable, restored, expiry"
)
_INSERT_VERSION = f"INSERT INTO versions ({_COLUMNS}) VALUES ({', '.join('?' * 17)})"
_INSERT_PIECE = "INSERT INTO pieces (owner, position, length, file, start, data) VALUES (?, ?, ?, ?, ?, ?)"


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket; versioning is empty, Enabled or Suspended."""

    id: int
    name: str
    region: str
    created: int
    versioning: str
    acl: str
    maz: int


@dataclass(frozen=True, slots=True)
class Version:
    """A row of versions: an object version or a delete marker. headers, tags and acl are JSON or empty."""

    id: int
    bucket: int
    key: bytes
    version: str
    live: int
    marker: int
    size: int
    etag: str
    crc64: str
    modified: int
    storage_class: str
    headers: str
    tags: str
    acl: str
    appendable: int
    restored: int  # when a restored copy of an archived object is there; 0: never asked for
    expiry: int  # when that copy goes away


@dataclass(frozen=True, slots=True)
class Properties:
    """What a writer says about an object besides its bytes."""

    storage_class: str = "STANDARD"
    headers: str = "{}"
    tags: str = ""
    acl: str = ""


@dataclass(frozen=True, slots=True)
class Bytes:
    """The content of an object to be: its pieces in order and what COS tells about them."""

    pieces: Sequence[Piece]
    size: int
    etag: str
    crc64: str


def received_bytes(body: Received) -> Bytes:
    """Describe a body that arrived as one piece."""
    if not body.size:
        pieces: list[Piece] = []
    else:
        pieces = [Piece(body.size, body.data, body.file)]
    return Bytes(pieces, body.size, body.md5.hex(), str(body.crc64))


def inline_bytes(data: bytes) -> Bytes:
    """Describe content that is at hand and small."""
    digest = Digest()
    digest.update(data)
    return received_bytes(Received(digest.size, digest.md5, digest.crc64, data=data))


def version_text(number: int) -> str:
    """Write a version id as COS does: text of a decreasing number, so that the newest sorts first."""
    return base64.b64encode(str(_LAST_VERSION - number).encode()).decode().rstrip("=")


def version_number(text: str) -> int | None:
    """Read a version id back; None if it is none of ours."""
    try:
        number = _LAST_VERSION - int(base64.b64decode(text + "=" * (-len(text) % 4), validate=True))
    except ValueError:
        return None
    return number if 0 <= number < 1 << 63 else None


class Store:
    """The state of an emulator in a directory."""

    def __init__(self, root: Path, *, clock: Callable[[], float] = time.time) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.clock = clock
        self.db = Database(root / "metadata.sqlite")
        self.files = FileStore(root / "objects", self._is_referenced)
        self._last_id = (self.db.one("SELECT max(id) FROM versions") or (0,))[0] or 0
        self._buckets: dict[str, Bucket] = {}
        self._short: dict[str, list[str]] = {}
        self._credentials: dict[str, Credential] = {}
        self._load()
        rows = self.db.execute("SELECT DISTINCT file FROM pieces WHERE file IS NOT NULL")
        self.swept = self.files.sweep({row[0] for row in rows})

    def close(self) -> None:
        """Close everything; nothing is lost if this is never called."""
        self.files.close()
        self.db.close()

    def now(self) -> int:
        """Return the time in whole seconds, which is all that COS shows."""
        return int(self.clock())

    def _load(self) -> None:
        columns = "id, name, region, created, versioning, acl, maz"
        rows = self.db.execute(f"SELECT {columns} FROM buckets ORDER BY name")
        self._buckets = {row[1]: Bucket(*row) for row in rows}
        self._short = {}
        for name in self._buckets:
            self._short.setdefault(name.rpartition("-")[0], []).append(name)
        keys = self.db.execute("SELECT secret_id, secret_key, token, expires FROM credentials")
        self._credentials = {row[0]: Credential(*row) for row in keys}

    # Credentials

    def credential(self, secret_id: str) -> Credential | None:
        """Find a key pair."""
        return self._credentials.get(secret_id)

    def add_credential(self, credential: Credential) -> None:
        """Make a key pair known, for good."""
        values = (credential.secret_id, credential.secret_key, credential.token, credential.expires)
        self.db.execute("INSERT OR REPLACE INTO credentials VALUES (?, ?, ?, ?)", values)
        self._credentials[credential.secret_id] = credential

    # Buckets

    def buckets(self) -> list[Bucket]:
        """Return all buckets by name."""
        return list(self._buckets.values())

    def resolve(self, name: str) -> str:
        """Return the full name of a bucket given by full or unique short name, or '' if there is none."""
        if name in self._buckets:
            return name
        candidates = self._short.get(name, [])
        return candidates[0] if len(candidates) == 1 else ""

    def bucket(self, name: str) -> Bucket:
        """Return a bucket or say that it is not there."""
        try:
            return self._buckets[name]
        except KeyError:
            raise CosError("NoSuchBucket") from None

    def create_bucket(self, name: str, region: str, acl: str = "", maz: bool = False) -> None:
        """Add a bucket that must be new."""
        sql = "INSERT INTO buckets (name, region, created, acl, maz) VALUES (?, ?, ?, ?, ?)"
        self.db.execute(sql, (name, region, self.now(), acl, int(maz)))
        self._load()

    def update_bucket(self, bucket: Bucket, **changes: str) -> None:
        """Change versioning or acl of a bucket."""
        for column, value in changes.items():
            self.db.execute(f"UPDATE buckets SET {column} = ? WHERE id = ?", (value, bucket.id))
        self._load()

    def delete_bucket(self, bucket: Bucket) -> None:
        """Remove a bucket that holds no version, delete marker or unfinished upload."""
        with self.db.transaction():
            for table in ("versions", "uploads"):
                if self.db.one(f"SELECT 1 FROM {table} WHERE bucket = ? LIMIT 1", bucket.id):
                    raise CosError("BucketNotEmpty")
            self.db.execute("DELETE FROM settings WHERE bucket = ?", (bucket.id,))
            self.db.execute("DELETE FROM buckets WHERE id = ?", (bucket.id,))
        self._load()

    def setting(self, bucket: Bucket, name: str, id_: str = "") -> bytes | None:
        """Return a stored document."""
        sql = "SELECT document FROM settings WHERE bucket = ? AND name = ? AND id = ?"
        row = self.db.one(sql, bucket.id, name, id_)
        return row[0] if row else None

    def settings(self, bucket: Bucket, name: str) -> list[bytes]:
        """Return all documents of a setting that has ids."""
        sql = "SELECT document FROM settings WHERE bucket = ? AND name = ? ORDER BY id"
        return [row[0] for row in self.db.execute(sql, (bucket.id, name))]

    def put_setting(self, bucket: Bucket, name: str, id_: str, document: bytes) -> None:
        """Store a document."""
        self.db.execute(
            "INSERT OR REPLACE INTO settings VALUES (?, ?, ?, ?)", (bucket.id, name, id_, document)
        )

    def delete_setting(self, bucket: Bucket, name: str, id_: str = "") -> None:
        """Forget a document."""
        sql = "DELETE FROM settings WHERE bucket = ? AND name = ? AND id = ?"
        self.db.execute(sql, (bucket.id, name, id_))

    # Versions

    def newest(self, bucket: Bucket, key: str) -> Version | None:
        """Return the newest version of a key, which may be a delete marker."""
        sql = f"SELECT {_COLUMNS} FROM versions WHERE bucket = ? AND key = ? ORDER BY id DESC LIMIT 1"
        row = self.db.one(sql, bucket.id, key.encode())
        return Version(*row) if row else None

    def find(self, bucket: Bucket, key: str, version: str) -> Version | None:
        """Return one version of a key by its id."""
        sql = f"SELECT {_COLUMNS} FROM versions WHERE bucket = ? AND key = ? AND version = ?"
        row = self.db.one(sql, bucket.id, key.encode(), version)
        return Version(*row) if row else None

    def put(
        self, bucket: Bucket, key: str, content: Bytes, properties: Properties, *, appendable: int = 0
    ) -> Version:
        """Make a new version the current one, replacing what the bucket's versioning says."""
        gone: list[str] = []
        with self.db.transaction():
            created = self._put(bucket, key.encode(), content, properties, appendable, gone)
            gone = self.unreferenced(gone)
        self.remove_files(gone)
        return created

    def _put(
        self,
        bucket: Bucket,
        key: bytes,
        content: Bytes,
        properties: Properties,
        appendable: int,
        gone: list[str],
    ) -> Version:
        number, version = self._make_room(bucket, key, gone)
        created = Version(
            *(number, bucket.id, key, version, 1, 0, content.size, content.etag, content.crc64, self.now()),
            *(
                properties.storage_class,
                properties.headers,
                properties.tags,
                properties.acl,
                appendable,
                0,
                0,
            ),
        )
        self._insert(created, content.pieces)
        return created

    def put_many(self, bucket: Bucket, objects: Iterable[tuple[str, Bytes]], properties: Properties) -> int:
        """Store very many objects in one transaction, for tests at scale; return how many."""
        count, gone = 0, list[str]()
        with self.db.transaction():
            for key, content in objects:
                self._put(bucket, key.encode(), content, properties, 0, gone)
                count += 1
            gone = self.unreferenced(gone)
        self.remove_files(gone)
        return count

    def delete(self, bucket: Bucket, key: str) -> Version | None:
        """Delete without a version id: remove the object, or put a delete marker, which is returned."""
        encoded, gone, marker = key.encode(), list[str](), None
        with self.db.transaction():
            if bucket.versioning:
                number, version = self._make_room(bucket, encoded, gone)
                values = (
                    number,
                    bucket.id,
                    encoded,
                    version,
                    0,
                    1,
                    0,
                    "",
                    "",
                    self.now(),
                    "",
                    "{}",
                    "",
                    "",
                    0,
                    0,
                    0,
                )
                marker = Version(*values)
                self._insert(marker, ())
            else:
                self._erase_null(bucket.id, encoded, gone)
            gone = self.unreferenced(gone)
        self.remove_files(gone)
        return marker

    def delete_version(self, row: Version) -> None:
        """Erase one version for good; the next older one, if no delete marker, becomes current."""
        gone: list[str] = []
        with self.db.transaction():
            self._erase(row.id, gone)
            sql = "SELECT id, marker FROM versions WHERE bucket = ? AND key = ? ORDER BY id DESC LIMIT 1"
            newest = self.db.one(sql, row.bucket, row.key)
            if newest and not newest[1]:
                self.db.execute("UPDATE versions SET live = 1 WHERE id = ? AND live = 0", (newest[0],))
            gone = self.unreferenced(gone)
        self.remove_files(gone)

    def append(self, row: Version, body: Received, etag: str) -> Version:
        """Put bytes at the end of an appendable object."""
        crc = crc64_combine(int(row.crc64), body.crc64, body.size)
        grown = replace(row, size=row.size + body.size, crc64=str(crc), etag=etag, modified=self.now())
        with self.db.transaction():
            sql = "UPDATE versions SET size = ?, crc64 = ?, etag = ?, modified = ? WHERE id = ?"
            self.db.execute(sql, (grown.size, grown.crc64, grown.etag, grown.modified, row.id))
            self.put_pieces(row.id, received_bytes(body).pieces, row.size)
        return grown

    def update(self, row: Version, **changes: Any) -> None:
        """Change tags, acl or the restored times of a version in place."""
        for column, value in changes.items():
            self.db.execute(f"UPDATE versions SET {column} = ? WHERE id = ?", (value, row.id))

    def _make_room(self, bucket: Bucket, key: bytes, gone: list[str]) -> tuple[int, str]:
        """Let the current version step back, or go; return number and id of the version to come."""
        if bucket.versioning != "Enabled":
            self._erase_null(bucket.id, key, gone)
        if bucket.versioning:
            self.db.execute(
                "UPDATE versions SET live = 0 WHERE bucket = ? AND key = ? AND live = 1", (bucket.id, key)
            )
        # Microseconds: ids stay unique for good, also when the newest version was erased before a restart.
        number = self._last_id = max(self._last_id + 1, time.time_ns() // 1000)
        return number, version_text(number) if bucket.versioning == "Enabled" else NULL_VERSION

    def _erase_null(self, bucket: int, key: bytes, gone: list[str]) -> None:
        sql = "SELECT id FROM versions WHERE bucket = ? AND key = ? AND version = ?"
        for (number,) in self.db.execute(sql, (bucket, key, NULL_VERSION)).fetchall():
            self._erase(number, gone)

    def _erase(self, number: int, gone: list[str]) -> None:
        self.drop_pieces(number, gone)
        self.db.execute("DELETE FROM versions WHERE id = ?", (number,))

    def _insert(self, row: Version, pieces: Iterable[Piece]) -> None:
        values = (
            row.id,
            row.bucket,
            row.key,
            row.version,
            row.live,
            row.marker,
            row.size,
            row.etag,
            row.crc64,
        )
        more = (row.modified, row.storage_class, row.headers, row.tags, row.acl, row.appendable, row.restored)
        self.db.execute(_INSERT_VERSION, (*values, *more, row.expiry))
        self.put_pieces(row.id, pieces, 0)

    # Bytes

    def put_pieces(self, owner: int, pieces: Iterable[Piece], position: int = 0) -> None:
        """Give an owner pieces, one after the other from position. Inside a transaction."""
        rows = []
        for piece in pieces:
            data = None if piece.file else piece.data
            rows.append((owner, position, piece.length, piece.file or None, piece.start, data))
            position += piece.length
        self.db.executemany(_INSERT_PIECE, rows)

    def drop_pieces(self, owner: int, gone: list[str]) -> None:
        """Take an owner's pieces away and note the files. Inside a transaction."""
        sql = "SELECT file FROM pieces WHERE owner = ? AND file IS NOT NULL"
        gone += [row[0] for row in self.db.execute(sql, (owner,))]
        self.db.execute("DELETE FROM pieces WHERE owner = ?", (owner,))

    def unreferenced(self, files: Iterable[str]) -> list[str]:
        """Return those files that no piece names any more. Inside a transaction."""
        return [file for file in set(files) if not self._is_referenced(file)]

    def _is_referenced(self, file: str) -> bool:
        return self.db.one("SELECT 1 FROM pieces WHERE file = ? LIMIT 1", file) is not None

    def remove_files(self, files: Iterable[str]) -> None:
        """Unlink files that no piece names. After the transaction."""
        for file in files:
            self.files.remove(file)

    def pieces(self, owner: int, start: int, stop: int) -> list[Piece]:
        """Return the pieces that make up the bytes from start to before stop."""
        if stop <= start:
            return []
        sql = (
            "SELECT position, length, file, start, data FROM pieces "
            "WHERE owner = ?1 AND position < ?3 AND position >= "
            "(SELECT max(position) FROM pieces WHERE owner = ?1 AND position <= ?2) ORDER BY position"
        )
        found = []
        for position, length, file, offset, data in self.db.execute(sql, (owner, start, stop)):
            cut, end = max(start - position, 0), min(stop - position, length)
            if file:
                found.append(Piece(end - cut, b"", file, offset + cut))
            else:
                found.append(Piece(end - cut, data[cut:end]))
        return found

    def content(self, row: Version, start: int, stop: int) -> Content:
        """Return bytes of a version for sending; its files stay until the content is released."""
        pieces = self.pieces(row.id, start, stop)
        files = {piece.file for piece in pieces if piece.file}
        self.files.pin(files)
        return Content(pieces, partial(self.files.unpin, files))

    def all_bytes(self, row: Version) -> Bytes:
        """Describe the content of a version, to be shared by a copy."""
        return Bytes(self.pieces(row.id, 0, row.size), row.size, row.etag, row.crc64)
