"""Finding the version that a request means."""

from __future__ import annotations

from cosfs.emulator.addressing import check_key
from cosfs.emulator.context import Call
from cosfs.emulator.errors import CosError
from cosfs.emulator.store import Version


def find_object(call: Call) -> Version:
    """Return the version that a request means, or the answer that there is none."""
    bucket = call.bucket
    check_key(call.key)
    wanted = call.parameters.get("versionid", "")
    if wanted:
        row = call.store.find(bucket, call.key, wanted)
        if row is None:
            raise CosError("NoSuchVersion")
    else:
        row = call.store.newest(bucket, call.key)
        if row is None:
            raise CosError("NoSuchKey")
    if row.marker:
        found = {"x-cos-delete-marker": "true", "x-cos-version-id": row.version}
        if wanted:
            raise CosError(
                "MethodNotAllowed" if call.identity.scheme == "aws" else "NoSuchKey", headers=found
            )
        raise CosError("NoSuchKey", headers=found)
    return row
