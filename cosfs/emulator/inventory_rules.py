"""What an inventory document says: what to list, which fields, when, and where to put it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cosfs.emulator import messages
from cosfs.emulator.reading import Node, choice, invalid, malformed, needed, number, single, tags, value
from cosfs.emulator.replication_rules import split_target

MAX_INVENTORIES = 1000
ONCE = "inventory-once"  # the setting under which one-off inventories wait
FIELDS = (
    *("Size", "LastModifiedDate", "ETag", "StorageClass", "IsMultipartUploaded", "ReplicationStatus"),
    *("Tag", "Crc64", "x-cos-meta-*"),
)
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class InventoryRules:
    """One inventory; a one-off has no frequency."""

    id: str
    enabled: bool
    frequency: str
    month_day: int
    region: str
    target: str
    target_prefix: str
    prefix: bytes
    tags: tuple[tuple[str, str], ...]
    all_versions: bool
    fields: Sequence[str]

    def next_run(self, last: int) -> int:
        """Return when the list after the one of a time is due: at midnight UTC, weekly ones on Mondays."""
        day = datetime.fromtimestamp(last, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        day += timedelta(days=1)
        while not self._on(day):
            day += timedelta(days=1)
        return int(day.timestamp())

    def _on(self, day: datetime) -> bool:
        if self.frequency == "Weekly":
            return day.weekday() == 0
        return self.frequency == "Daily" or day.day == self.month_day


def read_inventory(document: bytes, *, once: bool = False) -> InventoryRules:
    """Read and check a document; that of a one-off has neither IsEnabled nor Schedule."""
    tree = messages.parse(document, "InventoryConfiguration")
    target = single(tree, "Destination/COSBucketDestination")
    choice(target, "Format", ("CSV",))
    place = split_target(needed(target, "Bucket"))
    if place is None:
        raise invalid("Bucket must be written qcs::cos:<region>::<bucket>.")
    frequency, month_day = "", 1
    if once and (tree.find("IsEnabled") is not None or tree.find("Schedule") is not None):
        raise malformed("A one-off inventory takes neither IsEnabled nor Schedule.")
    if not once:
        frequency = choice(tree, "Schedule/Frequency", ("Daily", "Weekly", "Monthly"))
        month_day = number(tree, "Schedule/MonthlyDate", 1, 28) or 1
    id_ = needed(tree, "Id")
    if not _ID.fullmatch(id_):
        raise invalid("Id takes letters, digits, hyphens, underscores and dots.")
    prefix, filtered = _filter(tree)
    fields = [(node.text or "").strip() for node in tree.iterfind("OptionalFields/Field")]
    if any(field not in FIELDS for field in fields):
        raise malformed(f"Field must be one of {', '.join(FIELDS)}.")
    return InventoryRules(
        id_, once or choice(tree, "IsEnabled", ("true", "false")) == "true", frequency, month_day, *place,
        value(target, "Prefix"), prefix, filtered,
        choice(tree, "IncludedObjectVersions", ("All", "Current")) == "All",
        [field for field in FIELDS if field in fields],
    )  # fmt: skip


def _filter(tree: Node) -> tuple[bytes, tuple[tuple[str, str], ...]]:
    both = tree.find("Filter/And")
    inner = both if both is not None else tree.find("Filter")
    if inner is None:
        return b"", ()
    return (inner.findtext("Prefix") or "").encode(), tags(inner)
