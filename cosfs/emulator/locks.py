"""Object lock: what a bucket's configuration and a retention document say, and which versions are locked."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from xml.etree import ElementTree

from cosfs.emulator import messages
from cosfs.emulator.clock import Clock
from cosfs.emulator.database import Database
from cosfs.emulator.errors import CosError
from cosfs.emulator.numerals import whole
from cosfs.emulator.records import Bucket

MAX_DAYS = 36_500


def check_configuration(tree: ElementTree.Element) -> None:
    """Refuse an ObjectLockConfiguration that means nothing."""
    if messages.text(tree, "ObjectLockEnabled") != "Enabled":
        raise CosError("MalformedXML")
    if tree.find("Rule") is None:
        return
    days = whole((tree.findtext("Rule/DefaultRetention/Days") or "").strip())
    if days is None:
        raise CosError("MalformedXML")
    if not 1 <= days <= MAX_DAYS:
        raise CosError("InvalidArgument", f"The retention must be 1 to {MAX_DAYS} days.")


def default_days(document: bytes) -> int:
    """Return for how many days new objects of a bucket are locked; 0 if the configuration says nothing."""
    return int(
        messages.parse(document, "ObjectLockConfiguration").findtext("Rule/DefaultRetention/Days") or 0
    )


def retain_until(body: bytes) -> int:
    """Read a Retention document; return its date in Unix seconds."""
    text = messages.text(messages.parse(body, "Retention"), "RetainUntilDate").strip()
    try:
        # Three digits at most are read after the seconds, as COS writes them; a fraction is cut off.
        moment = datetime.fromisoformat(re.sub(r"\.\d+", "", text).replace("Z", "+00:00"))
    except ValueError as error:
        raise CosError("MalformedXML") from error
    if moment.tzinfo is None:
        raise CosError("MalformedXML")
    return int(moment.timestamp())


class LockStore:
    """Which versions are locked. Whoever asks for it, a locked version is neither erased nor overwritten."""

    db: Database
    clock: Clock

    def __init__(self) -> None:
        self._locking = self.db.one("SELECT 1 FROM locks LIMIT 1") is not None

    def derived(self, bucket: Bucket, name: str, make: Callable[[bytes], int]) -> int | None:
        """Return what make reads from a stored document."""
        raise NotImplementedError

    def locked_until(self, version: int) -> int:
        """Return until when a version must not be erased; 0 if it was never locked."""
        row = self.db.one("SELECT until FROM locks WHERE version = ?", version) if self._locking else None
        return row[0] if row else 0

    def lock(self, version: int, until: int) -> None:
        """Keep a version from being erased until a time."""
        self.db.execute("INSERT OR REPLACE INTO locks VALUES (?, ?)", (version, until))
        self._locking = True

    def refuse_locked(self, version: int) -> None:
        """Raise ObjectLocked for a version that is to be erased; forget a lock that is over."""
        if not self._locking:
            return
        if self.locked_until(version) > self.clock():
            raise CosError("ObjectLocked")
        self.db.execute("DELETE FROM locks WHERE version = ?", (version,))

    def refuse_locked_newest(self, bucket: Bucket, key: bytes) -> None:
        """Raise ObjectLocked for a key that is to be overwritten."""
        sql = "SELECT id FROM versions WHERE bucket = ? AND key = ? ORDER BY id DESC LIMIT 1"
        newest = self.db.one(sql, bucket.id, key)
        if newest is not None and self.locked_until(newest[0]) > self.clock():
            raise CosError("ObjectLocked")

    def lock_new(self, bucket: Bucket, version: int) -> None:
        """Lock a version that was just made for as long as its bucket says."""
        days = self.derived(bucket, "object-lock", default_days)
        if days:
            self.lock(version, int(self.clock()) + days * 86_400)
