"""Intelligent tiering: which tier an object is in, counted from when it was last read or changed."""

from __future__ import annotations

from cosfs.emulator import messages
from cosfs.emulator.context import Call
from cosfs.emulator.numerals import whole
from cosfs.emulator.store import Version

_DAY = 86_400


def tier(call: Call, row: Version) -> str:
    """Return the value of x-cos-storage-tier."""
    bucket = call.bucket
    days = call.store.derived(bucket, "intelligenttiering", _days)
    return "INFREQUENT" if days and _unused(call, row) >= days * _DAY else "FREQUENT"


def note_read(call: Call, row: Version) -> None:
    """Bring an object that is read back to the frequent tier. To note it once a day is enough."""
    if _unused(call, row) >= _DAY and call.store.configured(call.bucket, "intelligenttiering"):
        call.store.update(row, accessed=call.store.now())


def _unused(call: Call, row: Version) -> int:
    return call.store.now() - max(row.modified, row.accessed)


def _days(document: bytes) -> int:
    tree = messages.parse(document, "IntelligentTieringConfiguration")
    if messages.text(tree, "Status") != "Enabled":
        return 0
    return whole((tree.findtext("Transition/Days") or "").strip()) or 0
