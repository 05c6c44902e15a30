"""Whether a call may happen: who asks, what is asked for, and what has been granted."""

from __future__ import annotations

from cosfs.emulator import grants
from cosfs.emulator.context import Call
from cosfs.emulator.errors import CosError

# Calls that check for themselves: a preflight needs no signature, a form carries its own.
_ELSEWHERE = frozenset({"OptionsObject", "PostObject"})
# What an anonymous request needs; whatever is not here is for the owner alone.
_PERMISSIONS = {
    "GetObject": "READ",
    "HeadObject": "READ",
    "ListObjects": "READ",
    "HeadBucket": "READ",
    "ListObjectVersions": "READ",
    "ListMultipartUploads": "READ",
    **dict.fromkeys(
        (
            *("PutObject", "CopyObject", "AppendObject", "DeleteObject", "DeleteObjects", "PostObject"),
            *("UploadPart", "UploadPartCopy", "CompleteMultipartUpload", "AbortMultipartUpload"),
            "CreateMultipartUpload",
        ),
        "WRITE",
    ),
}


def authorize(call: Call) -> None:
    """Refuse a call that its identity may not make, before its body is read."""
    if call.operation not in _ELSEWHERE:
        require(call, call.operation, call.key)


def require(call: Call, operation: str, key: str) -> None:
    """Refuse an operation on a key of the call's bucket, in the name of the call's identity.

    For handlers that learn from the body what is asked for: set `call.identity` first if the body tells it.
    """
    if not call.identity.anonymous:
        return
    permission = _PERMISSIONS.get(operation, "")
    if not call.place.bucket or not permission:
        raise CosError("AccessDenied")
    acl = call.bucket.acl
    if operation in ("GetObject", "HeadObject"):
        row = call.store.newest(call.bucket, key)
        acl = row.acl if row is not None and row.acl else acl
    if not grants.allows_anyone(acl, permission):
        raise CosError("AccessDenied")
