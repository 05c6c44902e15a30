"""Buckets, object versions and their bytes: what is there, and how it changes all at once.

Every method that changes something is one transaction, so a reader or a crash sees it wholly or not at all.
Handlers decide what the user meant; the store knows the rules of versioning and who still needs which file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import astuple, fields, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

from cosfs.emulator.auth import Credential
from cosfs.emulator.buckets import BucketStore
from cosfs.emulator.clock import Clock
from cosfs.emulator.database import Database
from cosfs.emulator.digests import crc64_combine
from cosfs.emulator.files import FileStore, Received
from cosfs.emulator.history import History
from cosfs.emulator.locks import LockStore
from cosfs.emulator.pieces import PieceStore
from cosfs.emulator.records import (
    NULL_VERSION,
    Bucket,
    Bytes,
    Properties,
    Version,
    inline_bytes,
    received_bytes,
    version_number,
    version_text,
)
from cosfs.emulator.replication_rules import read_replication
from cosfs.emulator.values import Piece

__all__ = [
    "NULL_VERSION",
    "Bucket",
    "Bytes",
    "Properties",
    "Store",
    "Version",
    "inline_bytes",
    "received_bytes",
    "version_number",
    "version_text",
]

_KEY_COLUMNS = "secret_id, secret_key, token, expires, user, session"
_FIELDS = [field.name for field in fields(Version)]
COLUMNS = ", ".join(_FIELDS)
LISTED = "key, modified, etag, size, storage_class, restored"  # what a listing shows of an object
_INSERT_VERSION = f"INSERT INTO versions ({COLUMNS}) VALUES ({', '.join('?' * len(_FIELDS))})"

_values = attrgetter(*_FIELDS)


class Store(BucketStore, LockStore, PieceStore):
    """The state of an emulator in a directory."""

    def __init__(self, root: Path, *, clock: Callable[[], float] = time.time) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.clock = clock if isinstance(clock, Clock) else Clock(clock)
        self.db = Database(root / "metadata.sqlite")
        self.files = FileStore(root / "objects", self.is_referenced)
        self.history = History(self.clock)
        self.on_work: Callable[[], None] = lambda: None  # told that there is work for the jobs
        self._last_id = (self.db.one("SELECT max(id) FROM versions") or (0,))[0] or 0
        self._credentials: dict[str, Credential] = {}
        BucketStore.__init__(self)
        LockStore.__init__(self)
        self._load_credentials()
        rows = self.db.execute("SELECT DISTINCT file FROM pieces WHERE file IS NOT NULL")
        self.swept = self.files.sweep({row[0] for row in rows})

    def close(self) -> None:
        """Close everything; nothing is lost if this is never called."""
        self.files.close()
        self.db.close()

    def now(self) -> int:
        """Return the time in whole seconds, which is all that COS shows."""
        return int(self.clock())

    def _load_credentials(self) -> None:
        keys = self.db.execute(f"SELECT {_KEY_COLUMNS} FROM credentials")
        self._credentials = {row[0]: Credential(*row) for row in keys}

    # Credentials

    def credential(self, secret_id: str) -> Credential | None:
        """Find a key pair."""
        return self._credentials.get(secret_id)

    def add_credential(self, credential: Credential) -> None:
        """Make a key pair known, for good."""
        sql = f"INSERT OR REPLACE INTO credentials ({_KEY_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)"
        self.db.execute(sql, astuple(credential))
        self._credentials[credential.secret_id] = credential

    def drop_credentials(self, before: float) -> None:
        """Forget temporary keys that ended before a time."""
        ended = [key for key, kept in self._credentials.items() if 0 < kept.expires < before]
        self.db.executemany("DELETE FROM credentials WHERE secret_id = ?", [(key,) for key in ended])
        for key in ended:
            del self._credentials[key]

    # Versions

    def newest(self, bucket: Bucket, key: str) -> Version | None:
        """Return the newest version of a key, which may be a delete marker."""
        sql = f"SELECT {COLUMNS} FROM versions WHERE bucket = ? AND key = ? ORDER BY id DESC LIMIT 1"
        row = self.db.one(sql, bucket.id, key.encode())
        return Version(*row) if row else None

    def find(self, bucket: Bucket, key: str, version: str) -> Version | None:
        """Return one version of a key by its id."""
        if version == NULL_VERSION:
            sql = f"SELECT {COLUMNS} FROM versions WHERE bucket = ? AND key = ? AND version = ?"
            row = self.db.one(sql, bucket.id, key.encode(), version)
            return Version(*row) if row else None
        found = self.by_number(version_number(version) or 0)  # a key may have very many versions
        wanted = (bucket.id, key.encode(), version)
        return found if found is not None and (found.bucket, found.key, found.version) == wanted else None

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
        if self.configured(bucket, "object-lock"):
            self.refuse_locked_newest(bucket, key)
        number, version = self._make_room(bucket, key, gone)
        created = Version(
            *(number, bucket.id, key, version, 1, 0, content.size, content.etag, content.crc64, self.now()),
            *(properties.storage_class, properties.headers, properties.tags, properties.acl, appendable),
            *(0, 0, self._replicate(bucket, key, number)),
        )
        self._insert(created, content.pieces)
        if self.configured(bucket, "object-lock"):
            self.lock_new(bucket, number)
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

    def delete(self, bucket: Bucket, key: str, *, replicated: bool = True) -> Version | None:
        """Delete without a version id: remove the object, or put a delete marker, which is returned."""
        encoded, gone, marker = key.encode(), list[str](), None
        with self.db.transaction():
            if bucket.versioning:
                number, version = self._make_room(bucket, encoded, gone)
                status = self._replicate(bucket, encoded, number, marker=True) if replicated else ""
                marker = Version(
                    *(number, bucket.id, encoded, version, 0, 1, 0, "", "", self.now()),
                    *("", "{}", "", "", 0, 0, 0, status),
                )
                self._insert(marker, ())
            else:
                self._note(bucket.id, encoded)
                self._erase_null(bucket.id, encoded, gone)
            gone = self.unreferenced(gone)
        self.remove_files(gone)
        return marker

    def delete_version(self, row: Version) -> None:
        """Erase one version for good; the next older one, if no delete marker, becomes current."""
        gone: list[str] = []
        with self.db.transaction():
            self._note(row.bucket, row.key)
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
            self._note(row.bucket, row.key)
            sql = "UPDATE versions SET size = ?, crc64 = ?, etag = ?, modified = ? WHERE id = ?"
            self.db.execute(sql, (grown.size, grown.crc64, grown.etag, grown.modified, row.id))
            self.put_pieces(row.id, received_bytes(body).pieces, row.size)
        return grown

    def update(self, row: Version, **changes: Any) -> None:
        """Change tags, acl or the restored times of a version in place."""
        columns = ", ".join(f"{column} = ?" for column in changes)
        self.db.execute(f"UPDATE versions SET {columns} WHERE id = ?", (*changes.values(), row.id))

    def _make_room(self, bucket: Bucket, key: bytes, gone: list[str]) -> tuple[int, str]:
        """Let the current version step back, or go; return number and id of the version to come."""
        self._note(bucket.id, key)
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
        self.refuse_locked(number)
        self.drop_pieces(number, gone)
        self.db.execute("DELETE FROM versions WHERE id = ?", (number,))

    def _insert(self, row: Version, pieces: Iterable[Piece]) -> None:
        self.db.execute(_INSERT_VERSION, _values(row))
        self.put_pieces(row.id, pieces, 0)

    def _note(self, bucket: int, key: bytes) -> None:
        """Keep how a listing showed a key, if somebody wants listings to lag behind."""
        if self.history.kept:
            sql = f"SELECT {LISTED} FROM versions WHERE bucket = ? AND key = ? AND live = 1"
            self.history.note(bucket, key, self.db.one(sql, bucket, key))

    # Replication

    def _replicate(self, bucket: Bucket, key: bytes, number: int, *, marker: bool = False) -> str:
        """Let a new version wait for its replication, if a rule wants one; return its status."""
        rules = self.derived(bucket, "replication", read_replication)
        if not rules or bucket.versioning != "Enabled":
            return ""
        if not any(rule.takes(key, marker=marker) for rule in rules):
            return ""
        self.db.execute("INSERT INTO replications (bucket, version) VALUES (?, ?)", (bucket.id, number))
        self.on_work()
        return "PENDING"

    def by_number(self, number: int) -> Version | None:
        """Return a version by the number of its row."""
        row = self.db.one(f"SELECT {COLUMNS} FROM versions WHERE id = ?", number)
        return Version(*row) if row else None

    def put_replica(self, bucket: Bucket, row: Version, storage_class: str) -> None:
        """Put a copy of a version, or of a delete marker, into another bucket. Inside a transaction.

        The bucket has versioning, so nothing there goes away.
        """
        number, version = self._make_room(bucket, row.key, [])
        replica = replace(
            row, id=number, bucket=bucket.id, version=version, live=1 - row.marker,
            storage_class=storage_class, replication="REPLICA", restored=0, expiry=0,
        )  # fmt: skip
        self._insert(replica, self.pieces(row.id, 0, row.size))
        if self.configured(bucket, "object-lock") and not row.marker:
            self.lock_new(bucket, number)
