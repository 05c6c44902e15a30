"""Who may do what with an object, as headers that give another object the same access."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cosfs.client.client import CosClient

_HEADERS = {
    "READ": "x-cos-grant-read",
    "WRITE": "x-cos-grant-write",
    "READ_ACP": "x-cos-grant-read-acp",
    "WRITE_ACP": "x-cos-grant-write-acp",
    "FULL_CONTROL": "x-cos-grant-full-control",
}
_CANNED = {"AllUsers": "public-read", "AuthenticatedUsers": "authenticated-read"}
_ANYBODY = "qcs::cam::anyone:anyone"


def access_headers(client: CosClient, bucket: str, key: str) -> dict[str, str]:
    """Return the headers that give a copy the access its source has; empty if that is the default."""
    from cosfs.client.control import ControlPlane

    answer = ControlPlane(client).call("get_object_acl", Bucket=bucket, Key=key)
    owner = answer.get("Owner", {}).get("ID", "")
    people: dict[str, list[str]] = {}
    canned = ""
    for grant in _as_list((answer.get("AccessControlList") or {}).get("Grant")):
        permission, grantee = grant.get("Permission", ""), grant.get("Grantee") or {}
        who, group = grantee.get("ID", ""), grantee.get("URI", "").rpartition("/")[2]
        if who == _ANYBODY:
            group = "AllUsers"
        if group in _CANNED and permission == "READ":
            canned = _CANNED[group]
        elif who and who != owner and permission in _HEADERS:
            people.setdefault(_HEADERS[permission], []).append(who)
    headers = {name: ",".join(f'id="{_uin(who)}"' for who in found) for name, found in people.items()}
    return {**headers, "x-cos-acl": canned} if canned else headers


def _uin(who: str) -> str:
    """Return the account number of qcs::cam::uin/1:uin/2, which is what the headers take."""
    return who.rpartition("uin/")[2]


def _as_list(found: Any) -> list[dict[str, Any]]:
    return found if isinstance(found, list) else [found] if found else []
