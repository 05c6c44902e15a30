"""Buckets and their settings. What every request asks for is kept in memory as well."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import TypeVar

from cosfs.emulator.database import Database
from cosfs.emulator.errors import CosError
from cosfs.emulator.records import Bucket

Made = TypeVar("Made")

_COLUMNS = ", ".join(field.name for field in fields(Bucket))


class BucketStore:
    """Which buckets there are and how they are set up."""

    db: Database

    def __init__(self) -> None:
        self._buckets: dict[str, Bucket] = {}
        self._short: dict[str, list[str]] = {}
        self._configured: set[tuple[int, str]] = set()
        self._names: set[str] = set()
        self._derived: dict[tuple[int, str], object] = {}
        self.settings_version = 0  # grows with every change of a setting
        self._load_buckets()
        self._load_settings()

    def now(self) -> int:
        """Return the time in whole seconds, which is all that COS shows."""
        raise NotImplementedError

    def _load_buckets(self) -> None:
        rows = self.db.execute(f"SELECT {_COLUMNS} FROM buckets ORDER BY name")
        self._buckets = {bucket.name: bucket for bucket in (Bucket(*row) for row in rows)}
        self._short = {}
        for name in self._buckets:
            self._short.setdefault(name.rpartition("-")[0], []).append(name)

    def _load_settings(self) -> None:
        self._configured = set(self.db.execute("SELECT DISTINCT bucket, name FROM settings"))
        self._names = {name for _, name in self._configured}
        self._derived.clear()
        self.settings_version += 1

    # Buckets

    def buckets(self) -> list[Bucket]:
        """Return all buckets by name."""
        return list(self._buckets.values())

    def resolve(self, name: str, appid: str = "") -> str:
        """Return the full name of a bucket given by full or unique short name, or '' if there is none.

        With an APPID a short name means a bucket that ends in it and no other.
        """
        if name in self._buckets:
            return name
        if appid:
            return f"{name}-{appid}" if f"{name}-{appid}" in self._buckets else ""
        candidates = self._short.get(name, [])
        return candidates[0] if len(candidates) == 1 else ""

    def bucket(self, name: str) -> Bucket:
        """Return a bucket or say that it is not there."""
        try:
            return self._buckets[name]
        except KeyError:
            raise CosError("NoSuchBucket") from None

    def bucket_of(self, id_: int) -> Bucket | None:
        """Return the bucket with a number, if it is still there."""
        return next((bucket for bucket in self._buckets.values() if bucket.id == id_), None)

    def create_bucket(self, name: str, region: str, acl: str = "", maz: bool = False) -> None:
        """Add a bucket that must be new."""
        sql = "INSERT INTO buckets (name, region, created, acl, maz) VALUES (?, ?, ?, ?, ?)"
        self.db.execute(sql, (name, region, self.now(), acl, int(maz)))
        self._load_buckets()

    def update_bucket(self, bucket: Bucket, **changes: str) -> None:
        """Change versioning or acl of a bucket."""
        for column, value in changes.items():
            self.db.execute(f"UPDATE buckets SET {column} = ? WHERE id = ?", (value, bucket.id))
        self._load_buckets()

    def delete_bucket(self, bucket: Bucket) -> None:
        """Remove a bucket that holds no version, delete marker or unfinished upload."""
        with self.db.transaction():
            for table in ("versions", "uploads"):
                if self.db.one(f"SELECT 1 FROM {table} WHERE bucket = ? LIMIT 1", bucket.id):
                    raise CosError("BucketNotEmpty")
            for table in ("settings", "replications", "job_runs"):
                self.db.execute(f"DELETE FROM {table} WHERE bucket = ?", (bucket.id,))
            self.db.execute("DELETE FROM buckets WHERE id = ?", (bucket.id,))
        self._load_buckets()
        self._load_settings()

    # Settings

    def configured(self, bucket: Bucket, name: str) -> bool:
        """Tell whether a bucket has a setting, without a look at the disk."""
        return (bucket.id, name) in self._configured

    def any_configured(self, name: str) -> bool:
        """Tell whether any bucket has a setting."""
        return name in self._names

    def configured_buckets(self, name: str) -> list[Bucket]:
        """Return the buckets that have a setting."""
        ids = {id_ for id_, setting in self._configured if setting == name}
        return [bucket for bucket in self._buckets.values() if bucket.id in ids] if ids else []

    def setting(self, bucket: Bucket, name: str, id_: str = "") -> bytes | None:
        """Return a stored document."""
        if (bucket.id, name) not in self._configured:
            return None
        sql = "SELECT document FROM settings WHERE bucket = ? AND name = ? AND id = ?"
        row = self.db.one(sql, bucket.id, name, id_)
        return row[0] if row else None

    def settings(self, bucket: Bucket, name: str) -> list[bytes]:
        """Return all documents of a setting that has ids."""
        sql = "SELECT document FROM settings WHERE bucket = ? AND name = ? ORDER BY id"
        return [row[0] for row in self.db.execute(sql, (bucket.id, name))]

    def derived(self, bucket: Bucket, name: str, make: Callable[[bytes], Made]) -> Made | None:
        """Return what make reads from a stored document, kept until the document changes; None without one.

        One setting must always be read with the same make.
        """
        place = (bucket.id, name)
        if place not in self._configured:
            return None
        if place not in self._derived:
            stored = self.setting(bucket, name)
            if stored is None:  # it has ids only
                return None
            self._derived[place] = make(stored)
        return self._derived[place]  # type: ignore[return-value]

    def put_setting(self, bucket: Bucket, name: str, id_: str, document: bytes) -> None:
        """Store a document."""
        self.db.execute(
            "INSERT OR REPLACE INTO settings VALUES (?, ?, ?, ?)", (bucket.id, name, id_, document)
        )
        self._load_settings()

    def delete_setting(self, bucket: Bucket, name: str, id_: str = "") -> None:
        """Forget a document."""
        sql = "DELETE FROM settings WHERE bucket = ? AND name = ? AND id = ?"
        self.db.execute(sql, (bucket.id, name, id_))
        self._load_settings()

    # What happens by the clock

    def last_run(self, bucket: Bucket, name: str, id_: str = "") -> int | None:
        """Return when a job last ran for a bucket."""
        sql = "SELECT time FROM job_runs WHERE bucket = ? AND name = ? AND id = ?"
        row = self.db.one(sql, bucket.id, name, id_)
        return row[0] if row else None

    def set_run(self, bucket: Bucket, name: str, id_: str = "") -> None:
        """Note that a job ran for a bucket just now."""
        sql = "INSERT OR REPLACE INTO job_runs VALUES (?, ?, ?, ?)"
        self.db.execute(sql, (bucket.id, name, id_, self.now()))
