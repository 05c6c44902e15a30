"""Extended attributes: user.* travel with the object, user.cos.* tell what COS knows of it."""

from __future__ import annotations

import errno
import json
from collections.abc import Sequence
from datetime import UTC, datetime

from cosfs.client.model import ObjectInfo, ObjectVersion
from cosfs.errors import FilesystemError
from cosfs.fs.inodes import FileNode, Node

USER = "user."
COS = "user.cos."
RESTORE = "user.cos.restore"  # setting it has an archived object restored
VERSIONS = "user.cos.versions"  # JSON, the newest first
ASKED = frozenset(
    {"user.cos.crc64", "user.cos.version-id", RESTORE}
)  # not in a listing, or changing silently
VERSIONS_SHOWN = 300  # the kernel takes 64 KiB
RESTORE_TIERS = ("Expedited", "Standard", "Bulk")


def check_name(name: bytes) -> str:
    """The attribute's name as text; only the user namespace can be kept in object metadata."""
    try:
        text = name.decode()
    except UnicodeDecodeError as exc:
        raise FilesystemError(errno.EILSEQ) from exc
    if not text.startswith(USER):
        raise FilesystemError(errno.ENOTSUP)
    if text == USER:
        raise FilesystemError(errno.EINVAL, f"{USER} lacks a name")
    return text


def check_writable(name: str) -> None:
    if name.startswith(COS):
        raise FilesystemError(errno.EPERM, f"{name} is what COS says and cannot be set")


def parse_restore(value: bytes) -> tuple[int, str]:
    """Read what restores an archived object: days, or days:tier as in `7:Bulk`."""
    days, _, tier = value.decode("ascii", "replace").strip().partition(":")
    tier = tier.capitalize() or "Standard"
    if not days.isdigit() or int(days) < 1 or tier not in RESTORE_TIERS:
        raise FilesystemError(errno.EINVAL, f"{value!r} is not a number of days, or days:tier")
    return int(days), tier


def virtual(node: Node) -> dict[str, bytes]:
    """The read-only attributes of a node; only files that COS holds have them all."""
    found = {"user.cos.url": node.url.encode()}
    if not isinstance(node, FileNode) or node.info is None:
        return found
    info: ObjectInfo = node.info
    found["user.cos.etag"] = info.etag.encode()
    found["user.cos.storage-class"] = info.storage_class.encode()
    if info.crc64 is not None:
        found["user.cos.crc64"] = str(info.crc64).encode()
    if info.version_id:
        found["user.cos.version-id"] = info.version_id.encode()
    if info.archived or info.restore:
        found[RESTORE] = (info.restore or "archived; restore it first").encode()
    return found


def versions(found: Sequence[ObjectVersion]) -> bytes:
    """The versions of one object as JSON; removed marks the times when it was removed."""
    records = [
        {
            "id": version.version_id,
            "time": datetime.fromtimestamp(version.last_modified, UTC).isoformat().replace("+00:00", "Z"),
            "size": version.size,
            "etag": version.etag,
            "latest": version.is_latest,
            "removed": version.is_delete_marker,
        }
        for version in found
    ]
    return json.dumps(records, separators=(",", ":")).encode()
