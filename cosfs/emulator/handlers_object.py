"""Handlers of single objects: write, read, append, delete, tags, ACL."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from xml.etree import ElementTree

from cosfs.emulator import access, archive, conditions, encryption, grants, messages, symlink, tiering
from cosfs.emulator.accounts import arn
from cosfs.emulator.addressing import check_key
from cosfs.emulator.attributes import check_overwrite, properties, version_header
from cosfs.emulator.context import Call
from cosfs.emulator.errors import CosError
from cosfs.emulator.finding import find_object
from cosfs.emulator.handlers_bucket import read_acl, read_tags, tags_document, xml
from cosfs.emulator.messages import document, elements, http_time
from cosfs.emulator.store import Version, received_bytes
from cosfs.emulator.values import Response

_OVERRIDES = {
    "response-content-type": "Content-Type",
    "response-content-language": "Content-Language",
    "response-content-encoding": "Content-Encoding",
    "response-content-disposition": "Content-Disposition",
    "response-cache-control": "Cache-Control",
    "response-expires": "Expires",
}


# Reading


def describe(call: Call, row: Version) -> dict[str, str]:
    """Build the headers that GET and HEAD tell about an object."""
    headers: dict[str, str] = json.loads(row.headers)
    headers["ETag"] = f'"{row.etag}"'
    headers["Last-Modified"] = http_time(row.modified)
    headers["Accept-Ranges"] = "bytes"
    headers["x-cos-hash-crc64ecma"] = row.crc64
    headers["x-cos-object-type"] = "appendable" if row.appendable else "normal"
    if row.storage_class != "STANDARD":
        headers["x-cos-storage-class"] = row.storage_class
    if call.bucket.versioning:
        headers["x-cos-version-id"] = row.version
    if row.tags:
        headers["x-cos-tagging-count"] = str(len(json.loads(row.tags)))
    if row.replication:
        headers["x-cos-replication-status"] = row.replication
    if row.restored:
        headers.update(archive.headers(call, row))
    if row.storage_class.endswith("INTELLIGENT_TIERING"):
        headers["x-cos-storage-tier"] = tiering.tier(call, row)
    return headers


def get_object(call: Call) -> Response:
    """Answer an object or a range of it; HEAD differs only in having no body."""
    row = symlink.follow(call, find_object(call))
    encryption.check_key(call, row)
    kind = conditions.failed(call.headers, row.etag, row.modified)
    if kind == "match":
        raise CosError("PreconditionFailed")
    headers = describe(call, row)
    if kind:
        kept = ("ETag", "Last-Modified", "x-cos-version-id", "x-cos-hash-crc64ecma")
        return Response(304, {name: headers[name] for name in kept if name in headers})
    _override(call, headers)
    head = call.method == "HEAD"
    if not head:
        archive.check_restored(call, row)
    window = conditions.byte_range(call.headers.get("range", ""), row.size)
    start, stop = window or (0, row.size)
    headers["Content-Length"] = str(stop - start)
    if window:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{row.size}"
    status = 206 if window else 200
    if head:
        return Response(status, headers)
    if row.storage_class.endswith("INTELLIGENT_TIERING"):
        tiering.note_read(call, row)
    return Response(status, headers, content=call.store.content(row, start, stop))


def _override(call: Call, headers: dict[str, str]) -> None:
    wanted = {name: call.parameters[name] for name in _OVERRIDES if call.parameters.get(name)}
    if not wanted:
        return
    if call.identity.anonymous:
        raise CosError("InvalidRequest", "Request specific response headers need a signed request.")
    for name, value in wanted.items():
        if not value.isprintable():
            raise CosError("InvalidArgument", f"{name} is not valid.")
        headers[_OVERRIDES[name]] = value.encode().decode("latin-1")


# Writing


def put_object(call: Call) -> Response:
    """Store an object."""
    bucket = call.bucket
    check_overwrite(call, bucket)
    made, echoed = properties(call, bucket)
    content = received_bytes(call.body)
    if echoed:
        content = replace(content, etag=encryption.etag_of(content, echoed))
    row = call.store.put(bucket, call.key, content, made)
    headers = {"ETag": f'"{row.etag}"', "x-cos-hash-crc64ecma": row.crc64, **echoed}
    return Response(200, {**headers, **version_header(bucket, row)})


def append_object(call: Call) -> Response:
    """Add bytes at the end of an appendable object, or begin one."""
    bucket = call.bucket
    position = call.number("position", 0)
    if bucket.versioning:
        raise CosError("InvalidRequest", "Append is not supported in a bucket with versioning.")
    if bucket.maz:
        raise CosError(
            "MAZOperationNotSupportOnOAZBucket", "Append is not supported in a bucket of several zones."
        )
    row = call.store.newest(bucket, call.key)
    if row is not None and not row.appendable:
        raise CosError("ObjectNotAppendable")
    if position != (row.size if row else 0):
        raise CosError(
            "AppendPositionErr", headers={"x-cos-next-append-position": str(row.size if row else 0)}
        )
    if position + call.body.size > call.emulation.limits.object_size:
        raise CosError("EntityTooLarge")
    made, echoed = properties(call, bucket)
    if (row or made).storage_class in archive.ARCHIVES:
        raise CosError("InvalidRequest", "Append is not supported for archived objects.")
    if row is None:
        row = call.store.put(bucket, call.key, received_bytes(call.body), made, appendable=1)
    else:
        # The MD5 of the whole would need all bytes again: any 32 hex digits that change with the content do.
        etag = hashlib.md5(row.etag.encode() + call.body.md5, usedforsecurity=False).hexdigest()
        row = call.store.append(row, call.body, etag)
    headers = {
        "ETag": f'"{row.etag}"',
        "x-cos-next-append-position": str(row.size),
        "x-cos-content-sha1": call.body.md5.hex(),  # the Go SDK compares the MD5 under this name
        "x-cos-hash-crc64ecma": row.crc64,
    }
    return Response(200, {**headers, **echoed})


def delete_object(call: Call) -> Response:
    """Delete an object or one version; a missing one is no error."""
    headers = _delete(call, call.key, call.parameters.get("versionid", ""))
    return Response(204, {name: value for name, value in headers.items() if value})


def _delete(call: Call, key: str, version: str) -> dict[str, str]:
    """Delete; return the headers that tell of version ids and delete markers."""
    bucket = call.bucket
    if version:
        row = call.store.find(bucket, key, version)
        if row is None:
            return {"x-cos-version-id": version if bucket.versioning else ""}
        call.store.delete_version(row)
        return {"x-cos-version-id": row.version, "x-cos-delete-marker": "true" if row.marker else ""}
    marker = call.store.delete(bucket, key)
    return {"x-cos-delete-marker": "true", "x-cos-version-id": marker.version} if marker else {}


def delete_objects(call: Call) -> Response:
    """Delete up to 1,000 objects, each with its own result."""
    if "content-md5" not in call.headers and call.identity.scheme != "aws":
        raise CosError("InvalidRequest", "Missing required header for this request: Content-MD5")
    tree = messages.parse(call.body.data, "Delete")
    wanted = tree.findall("Object")
    if not wanted or len(wanted) > 1000:
        raise CosError("MalformedXML")
    quiet = messages.text(tree, "Quiet").strip().lower() == "true"
    _ = call.bucket  # the bucket missing is an error of the request, not of each key
    access.require_deletion(call, [messages.text(item, "Key") for item in wanted])
    results = [_delete_one(call, item, quiet) for item in wanted]
    return xml(document("DeleteResult", "".join(results)))


def _delete_one(call: Call, item: ElementTree.Element, quiet: bool) -> str:
    key, version = messages.text(item, "Key"), messages.text(item, "VersionId")
    named = {"Key": key, "VersionId": version or None}
    try:
        check_key(key)
        access.require(call, "DeleteObject", key, version)
        told = _delete(call, key, version)
    except CosError as error:
        return f"<Error>{elements({**named, 'Code': error.code, 'Message': error.message})}</Error>"
    if quiet:
        return ""
    marker = bool(told.get("x-cos-delete-marker"))
    more = {"DeleteMarker": True, "DeleteMarkerVersionId": told["x-cos-version-id"]} if marker else {}
    return f"<Deleted>{elements({**named, **more})}</Deleted>"


# Tags, ACL


def get_tags(call: Call) -> Response:
    """Answer an object's tags, an empty set if it has none."""
    row = find_object(call)
    return xml(tags_document(json.loads(row.tags) if row.tags else []))


def put_tags(call: Call) -> Response:
    """Replace an object's tags."""
    row = find_object(call)
    call.store.update(row, tags=json.dumps(read_tags(call.body.data, 10)))
    return Response()


def delete_tags(call: Call) -> Response:
    """Remove an object's tags."""
    call.store.update(find_object(call), tags="")
    return Response(204)


def get_acl(call: Call) -> Response:
    """Answer an object's ACL; `default` means that the bucket's counts."""
    row = find_object(call)
    return xml(
        grants.to_document(row.acl, arn(call.owner.uin)), **({} if row.acl else {"x-cos-acl": "default"})
    )


def put_acl(call: Call) -> Response:
    """Replace an object's ACL."""
    call.store.update(find_object(call), acl=read_acl(call))
    return Response()


HANDLERS: dict[str, Callable[[Call], Response]] = {
    "PutObject": put_object,
    "GetObject": get_object,
    "HeadObject": get_object,
    "AppendObject": append_object,
    "DeleteObject": delete_object,
    "DeleteObjects": delete_objects,
    "GetObjectTagging": get_tags,
    "PutObjectTagging": put_tags,
    "DeleteObjectTagging": delete_tags,
    "GetObjectACL": get_acl,
    "PutObjectACL": put_acl,
}
