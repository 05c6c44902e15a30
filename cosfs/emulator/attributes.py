"""What a writer says about an object besides its bytes: headers, storage class, tags, ACL, encryption."""

from __future__ import annotations

import json

from cosfs.emulator import encryption, grants
from cosfs.emulator.addressing import without_port
from cosfs.emulator.context import Call
from cosfs.emulator.errors import CosError
from cosfs.emulator.handlers_bucket import parse_tags
from cosfs.emulator.messages import url_encode
from cosfs.emulator.store import Bucket, Properties, Version

_STORED = (
    "Content-Type",
    "Cache-Control",
    "Content-Disposition",
    "Content-Encoding",
    "Content-Language",
    "Expires",
)
_META = "x-cos-meta-"
_CLASSES = frozenset(
    {"STANDARD", "STANDARD_IA", "INTELLIGENT_TIERING", "ARCHIVE", "DEEP_ARCHIVE", "REDUCED_REDUNDANCY"}
)
_MAZ_CLASSES = frozenset({"MAZ_STANDARD", "MAZ_STANDARD_IA", "MAZ_INTELLIGENT_TIERING", "MAZ_ARCHIVE"})


def stored_headers(call: Call) -> dict[str, str]:
    """Take the headers that are kept with an object, in the spelling in which they are given back."""
    headers = {name: call.headers[name.lower()] for name in _STORED if call.headers.get(name.lower())}
    headers.setdefault("Content-Type", "application/octet-stream")
    encoding = headers.get("Content-Encoding", "")
    if "aws-chunked" in encoding:  # how the body travelled, not what it is
        kept = [item.strip() for item in encoding.split(",") if item.strip() not in ("", "aws-chunked")]
        headers.pop("Content-Encoding")
        if kept:
            headers["Content-Encoding"] = ",".join(kept)
    total, limit = 0, call.emulation.limits.metadata
    for name, value in call.headers.items():
        if name.startswith(_META):
            headers[name] = value
            total += len(name) - len(_META) + len(value)
    if total > limit:
        raise CosError("KeyTooLong", "Your metadata headers exceed the maximum allowed metadata size.")
    return headers


def storage_class(call: Call, bucket: Bucket) -> str:
    """Read the storage class in any case; classes of several zones belong in buckets of several zones."""
    name = call.headers.get("x-cos-storage-class", "").upper()
    if not name:
        return "MAZ_STANDARD" if bucket.maz else "STANDARD"
    if name not in _CLASSES and name not in _MAZ_CLASSES:
        raise CosError("NotSupportedStorageClass")
    if bucket.maz and name in _CLASSES:
        raise CosError("OAZOperationNotSupportOnMAZBucket")
    if not bucket.maz and name in _MAZ_CLASSES:
        raise CosError("MAZOperationNotSupportOnOAZBucket")
    return name


def tags_of_header(call: Call) -> str:
    """Read x-cos-tagging as JSON, empty if it is not there."""
    text = call.headers.get("x-cos-tagging", "")
    return json.dumps(parse_tags(text, 10)) if text else ""


def properties(call: Call, bucket: Bucket) -> tuple[Properties, dict[str, str]]:
    """Read all that a writer says about an object; return also the headers of encryption to be echoed."""
    echoed = encryption.written(call, bucket)
    headers = json.dumps({**stored_headers(call), **echoed})
    made = Properties(
        storage_class(call, bucket), headers, tags_of_header(call), grants.from_headers(call.headers)
    )
    return made, echoed


def check_overwrite(call: Call, bucket: Bucket) -> None:
    """Honour x-cos-forbid-overwrite, which means nothing once versioning was ever enabled."""
    if call.headers.get("x-cos-forbid-overwrite", "").lower() != "true" or bucket.versioning:
        return
    if call.store.newest(bucket, call.key) is not None:
        raise CosError("FileAlreadyExists")


def version_header(bucket: Bucket, row: Version) -> dict[str, str]:
    """Tell the version id of what was written: only where versioning is enabled."""
    return {"x-cos-version-id": row.version} if bucket.versioning == "Enabled" else {}


def object_url(call: Call) -> str:
    """Return the address that COS tells of an object that was just made."""
    if call.place.path_style:
        host = f"{call.name}.cos.{call.bucket.region}.myqcloud.com"
    else:
        host = without_port(call.host)
    return f"http://{host}/{url_encode(call.key)}"
