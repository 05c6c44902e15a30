"""What a replication document says: which keys go to which bucket, and how."""

from __future__ import annotations

import re
from dataclasses import dataclass
from xml.etree import ElementTree

from cosfs.emulator import messages

_TARGET = re.compile(r"qcs::cos:([a-z0-9-]+)::([a-z0-9-]+)")


@dataclass(frozen=True, slots=True)
class ReplicationRule:
    """One enabled rule. An empty storage class keeps that of the object."""

    id: str
    prefix: bytes
    region: str
    target: str
    storage_class: str
    markers: bool

    def takes(self, key: bytes, *, marker: bool) -> bool:
        """Tell whether the rule is about a version, or about a delete marker, of a key."""
        return key.startswith(self.prefix) and (self.markers or not marker)


def split_target(text: str) -> tuple[str, str] | None:
    """Return region and bucket of `qcs::cos:<region>::<bucket>`, None if it is something else."""
    match = _TARGET.fullmatch(text.strip())
    return (match[1], match[2]) if match else None


def read_replication(document: bytes) -> tuple[ReplicationRule, ...]:
    """Read the enabled rules of a document that was checked when it was stored."""
    tree = messages.parse(document, "ReplicationConfiguration")
    rules = (_rule(node) for node in tree.iterfind("Rule") if messages.text(node, "Status") == "Enabled")
    return tuple(rules)


def _rule(node: ElementTree.Element) -> ReplicationRule:
    region, target = split_target(node.findtext("Destination/Bucket") or "") or ("", "")
    return ReplicationRule(
        messages.text(node, "ID"),
        (node.findtext("Filter/Prefix") or messages.text(node, "Prefix")).encode(),
        region,
        target,
        (node.findtext("Destination/StorageClass") or "").upper(),
        node.findtext("DeleteMarkerReplication/Status") != "Disabled",
    )
