"""Intelligent tiering: which tier an object is in, counted from its last change.

Reads are not recorded, so unlike on COS they do not bring an object back to the frequent tier.
"""

from __future__ import annotations

from cosfs.emulator import messages
from cosfs.emulator.context import Call
from cosfs.emulator.store import Version


def tier(call: Call, row: Version) -> str:
    """Return the value of x-cos-storage-tier."""
    bucket = call.bucket
    days = call.store.derived(bucket, "intelligenttiering", _days)
    return "INFREQUENT" if days and call.store.now() - row.modified >= days * 86_400 else "FREQUENT"


def _days(document: bytes) -> int:
    tree = messages.parse(document, "IntelligentTieringConfiguration")
    if messages.text(tree, "Status") != "Enabled":
        return 0
    days = (tree.findtext("Transition/Days") or "").strip()
    return int(days) if days.isdigit() else 0
