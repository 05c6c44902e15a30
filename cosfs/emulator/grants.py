"""Access control lists: canned names, grant headers and documents, kept as one small JSON list."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from cosfs.emulator import messages
from cosfs.emulator.accounts import arn
from cosfs.emulator.errors import CosError

_ALL_USERS = "http://cam.qcloud.com/groups/global/AllUsers"
_AUTHENTICATED = "http://cam.qcloud.com/groups/global/AuthenticatedUsers"
_GROUPS = {"AllUsers": _ALL_USERS, "AuthenticatedUsers": _AUTHENTICATED}
_MOST = 100
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
    canned = headers.get("x-cos-acl", "")
    if canned and canned not in _CANNED:
        raise CosError("InvalidArgument", "The canned ACL is not valid.")
    grants, own = list(_CANNED.get(canned, ())), canned not in ("", "default")
    for permission in _PERMISSIONS:
        value = headers.get("x-cos-grant-" + permission.lower().replace("_", "-"))
        if not value:
            continue
        found = _GRANTEE.findall(value)
        if not found:
            raise CosError("InvalidArgument", f"The grant {value} is not valid.")
        grants += [(_grantee(kind, who), permission) for kind, who in found]
        own = True
    return _stored(grants) if own else ""


def _stored(grants: Grants) -> str:
    if len(grants) > _MOST:
        raise CosError("InvalidArgument", f"An ACL can have {_MOST} grants at most.")
    return json.dumps(grants)


def _grantee(kind: str, who: str) -> str:
    """Name a grantee: a uin, `<uin of the account>/<uin of the user>`, a name as ACLs show it, or a group."""
    if who.startswith("http") or kind == "uri":
        group = _GROUPS.get(who.rpartition("/")[2])  # S3 tools name the same groups at another host
        if group is None:
            raise CosError("InvalidArgument", f"There is no group {who}.")
        return group
    if who == "qcs::cam::anyone:anyone":
        return _ALL_USERS
    account, _, uin = who.partition("/")
    if account.isdigit() and (uin.isdigit() or not uin):
        return arn(account, uin)
    return who


def from_document(body: bytes, owner: str) -> str:
    """Read an AccessControlPolicy; the owner's own full control is implied and not kept."""
    tree = messages.parse(body, "AccessControlPolicy")
    grants: Grants = []
    for grant in tree.iterfind("AccessControlList/Grant"):
        permission = messages.text(grant, "Permission")
        group, who = grant.findtext("Grantee/URI") or "", grant.findtext("Grantee/ID") or ""
        if permission not in _PERMISSIONS or not (group or who):
            raise CosError("MalformedXML")
        who = _grantee("uri", group) if group else _grantee("id", who)
        if (who, permission) != (owner, "FULL_CONTROL"):
            grants.append((who, permission))
    return _stored(grants)


def to_document(stored: str, owner: str) -> bytes:
    """Write the document; the owner's grant is always there, as the Python SDK needs one."""
    grants = [*(json.loads(stored) if stored else []), (owner, "FULL_CONTROL")]
    rows = "".join(_grant(who, permission) for who, permission in grants)
    named = messages.element("ID", owner) + messages.element("DisplayName", owner)
    return messages.document(
        "AccessControlPolicy", f"<Owner>{named}</Owner><AccessControlList>{rows}</AccessControlList>"
    )


def _grant(who: str, permission: str) -> str:
    if who.startswith("http"):
        kind, inner = "Group", messages.element("URI", who)
    else:
        kind, inner = "CanonicalUser", messages.element("ID", who) + messages.element("DisplayName", who)
    grantee = f'<Grantee{_SCHEMA_INSTANCE} xsi:type="{kind}">{inner}</Grantee>'
    return f"<Grant>{grantee}{messages.element('Permission', permission)}</Grant>"


@lru_cache(maxsize=4096)
def _parsed(stored: str) -> tuple[tuple[str, str], ...]:
    return tuple((who, permission) for who, permission in json.loads(stored)) if stored else ()


def allows(stored: str, permission: str, names: Sequence[str]) -> bool:
    """Tell whether an ACL grants a permission to someone of these names; without a name it is anyone."""
    return any(
        given in (permission, "FULL_CONTROL")
        and (who == _ALL_USERS or (bool(names) and who == _AUTHENTICATED) or who in names)
        for who, given in _parsed(stored)
    )
