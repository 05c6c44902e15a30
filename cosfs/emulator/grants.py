"""Access control lists: canned names, grant headers and documents, kept as one small JSON list."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from cosfs.emulator import messages
from cosfs.emulator.context import OWNER_ID
from cosfs.emulator.errors import CosError

_ALL_USERS = "http://cam.qcloud.com/groups/global/AllUsers"
_AUTHENTICATED = "http://cam.qcloud.com/groups/global/AuthenticatedUsers"
_CANNED: dict[str, list[tuple[str, str]]] = {
    "private": [],
    "default": [],
    "public-read": [(_ALL_USERS, "READ")],
    "public-read-write": [(_ALL_USERS, "READ"), (_ALL_USERS, "WRITE")],
    "authenticated-read": [(_AUTHENTICATED, "READ")],
    "bucket-owner-read": [],
    "bucket-owner-full-control": [],
}
_PERMISSIONS = ("READ", "WRITE", "READ_ACP", "WRITE_ACP", "FULL_CONTROL")
_GRANTEE = re.compile(r'(\w+)="([^"]*)"')
_SCHEMA_INSTANCE = ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'

Grants = list[tuple[str, str]]


def from_headers(headers: Mapping[str, str]) -> str:
    """Read x-cos-acl and x-cos-grant-*; return JSON, empty if neither is there or the ACL is `default`."""
    grants: Grants = []
    canned = headers.get("x-cos-acl", "")
    if canned:
        if canned not in _CANNED:
            raise CosError("InvalidArgument", "The canned ACL is not valid.")
        grants += _CANNED[canned]
    for permission in _PERMISSIONS:
        value = headers.get("x-cos-grant-" + permission.lower().replace("_", "-"))
        if value:
            grants += [(_grantee(kind, who), permission) for kind, who in _GRANTEE.findall(value)]
            canned = canned or "grants"
    return "" if canned in ("", "default") else json.dumps(grants)


def _grantee(kind: str, who: str) -> str:
    return f"qcs::cam::uin/{who}:uin/{who}" if kind in ("id", "uin") and who.isdigit() else who


def from_document(body: bytes) -> str:
    """Read an AccessControlPolicy; the owner's own full control is implied and not kept."""
    tree = messages.parse(body, "AccessControlPolicy")
    grants: Grants = []
    for grant in tree.iterfind("AccessControlList/Grant"):
        permission = messages.text(grant, "Permission")
        who = grant.findtext("Grantee/URI") or grant.findtext("Grantee/ID") or ""
        if permission not in _PERMISSIONS or not who:
            raise CosError("MalformedXML")
        if (who, permission) != (OWNER_ID, "FULL_CONTROL"):
            grants.append((who, permission))
    return json.dumps(grants)


def to_document(stored: str) -> bytes:
    """Write the document; the owner's grant is always there, as the Python SDK needs one."""
    grants = [*(json.loads(stored) if stored else []), (OWNER_ID, "FULL_CONTROL")]
    rows = "".join(_grant(who, permission) for who, permission in grants)
    owner = messages.element("ID", OWNER_ID) + messages.element("DisplayName", OWNER_ID)
    return messages.document(
        "AccessControlPolicy", f"<Owner>{owner}</Owner><AccessControlList>{rows}</AccessControlList>"
    )


def _grant(who: str, permission: str) -> str:
    if who.startswith("http"):
        kind, inner = "Group", messages.element("URI", who)
    else:
        kind, inner = "CanonicalUser", messages.element("ID", who) + messages.element("DisplayName", who)
    grantee = f'<Grantee{_SCHEMA_INSTANCE} xsi:type="{kind}">{inner}</Grantee>'
    return f"<Grant>{grantee}{messages.element('Permission', permission)}</Grant>"


def allows_anyone(stored: str, permission: str) -> bool:
    """Tell whether an anonymous request may do this."""
    if not stored:
        return False
    return any(
        who == _ALL_USERS and given in (permission, "FULL_CONTROL") for who, given in json.loads(stored)
    )
