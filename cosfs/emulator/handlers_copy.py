"""Copying inside the emulator: where the source is, what goes along, and that no bytes are moved."""

from __future__ import annotations

import json
from collections.abc import Callable

from cosfs.emulator import archive, conditions, encryption, grants, symlink
from cosfs.emulator.attributes import (
    check_overwrite,
    storage_class,
    stored_headers,
    tags_of_header,
    version_header,
)
from cosfs.emulator.context import Call
from cosfs.emulator.copy_source import copy_source
from cosfs.emulator.errors import CosError
from cosfs.emulator.handlers_bucket import xml
from cosfs.emulator.messages import document, elements, iso_time
from cosfs.emulator.store import Bucket, Properties, Version
from cosfs.emulator.values import Response


def find_source(call: Call) -> tuple[Bucket, Version]:
    """Return the version to be copied after checking the conditions put on it."""
    place, version = copy_source(call.headers["x-cos-copy-source"], call.resolve)
    bucket = call.store.bucket(place.bucket)
    row = call.store.find(bucket, place.key, version) if version else call.store.newest(bucket, place.key)
    if row is None or row.marker:
        raise CosError("NoSuchVersion" if version and row is None else "NoSuchKey")
    if conditions.failed(call.headers, row.etag, row.modified, "x-cos-copy-source-"):
        raise CosError("PreconditionFailed")  # never 304 here
    archive.check_restored(call, row)
    encryption.check_source_key(call, row)
    return bucket, row


def _replaces(call: Call, name: str) -> bool:
    directive = call.headers.get(name, "Copy").lower()
    if directive not in ("copy", "replaced", "replace"):
        raise CosError("InvalidArgument", f"{name} is not valid.")
    return directive != "copy"


def _properties(call: Call, bucket: Bucket, row: Version) -> tuple[Properties, dict[str, str]]:
    """Take metadata from source or request; storage class, ACL and encryption never from the source."""
    if _replaces(call, "x-cos-metadata-directive"):
        headers = stored_headers(call)
    else:
        stored = json.loads(row.headers)
        headers = {name: value for name, value in stored.items() if "server-side-encryption" not in name}
    if symlink.target_of(row):
        headers[symlink.TARGET] = symlink.target_of(row)
    tags = tags_of_header(call) if _replaces(call, "x-cos-tagging-directive") else row.tags
    echoed = encryption.written(call, bucket)
    headers.update(echoed)
    grants_given = grants.from_headers(call.headers)
    return Properties(storage_class(call, bucket), json.dumps(headers), tags, grants_given), echoed


def copy_object(call: Call) -> Response:
    """Make an object that shares the bytes of another."""
    bucket = call.bucket
    source, row = find_source(call)
    if row.size > call.emulation.limits.object_size:
        raise CosError("EntityTooLarge", "The copy source is larger than the maximum allowed size.")
    check_overwrite(call, bucket)
    made, echoed = _properties(call, bucket, row)
    same = row.bucket == bucket.id and row.key == call.key.encode() and not call.parameters.get("versionid")
    current = same and row.live
    if (
        current
        and not _replaces(call, "x-cos-metadata-directive")
        and made.storage_class == row.storage_class
    ):
        raise CosError("InvalidRequest", "This copy request is illegal: it would change nothing.")
    created = call.store.put(bucket, call.key, call.store.all_bytes(row), made)
    headers = {**version_header(bucket, created), **echoed}
    if source.versioning:
        headers["x-cos-copy-source-version-id"] = row.version
    result = {
        "ETag": f'"{created.etag}"',
        "CRC64": created.crc64,
        "LastModified": iso_time(created.modified),
        "VersionId": headers.get("x-cos-version-id"),
    }
    return xml(document("CopyObjectResult", elements(result)), **headers)


HANDLERS: dict[str, Callable[[Call], Response]] = {"CopyObject": copy_object}
