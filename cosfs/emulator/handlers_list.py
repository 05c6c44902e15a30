"""Handlers of the three listings of a bucket."""

from __future__ import annotations

import base64
from collections.abc import Callable

from cosfs.emulator.accounts import arn
from cosfs.emulator.context import Call
from cosfs.emulator.errors import CosError
from cosfs.emulator.handlers_bucket import owner, xml
from cosfs.emulator.listing import Page, Row, list_objects, list_uploads, list_versions
from cosfs.emulator.messages import document, elements, escape, iso_time, url_encode
from cosfs.emulator.values import Response

_MOST = 1000


def _encoder(call: Call) -> Callable[[str], str]:
    encoding = call.parameters.get("encoding-type", "")
    if encoding not in ("", "url"):
        raise CosError("InvalidArgument", "encoding-type is not valid.")
    return url_encode if encoding else str


def _delimiter(call: Call) -> str:
    delimiter = call.parameters.get("delimiter", "")
    if len(delimiter) > 1:
        raise CosError("InvalidDelimiter")
    return delimiter


def _prefixes(page: Page, encode: Callable[[str], str]) -> str:
    return "".join(
        f"<CommonPrefixes><Prefix>{escape(encode(prefix))}</Prefix></CommonPrefixes>"
        for prefix in page.prefixes
    )


def _contents(page: Page, encode: Callable[[str], str], owned: str) -> str:
    return "".join(
        f"<Contents><Key>{escape(encode(key.decode()))}</Key><LastModified>{iso_time(modified)}</LastModified>"
        f"<ETag>&quot;{etag}&quot;</ETag><Size>{size}</Size>{owned}<StorageClass>{storage}</StorageClass></Contents>"
        for key, modified, etag, size, storage, _ in page.rows
    )


def objects(call: Call) -> Response:
    """Answer a page of objects, in version 1 or, for S3 tools, version 2."""
    bucket = call.bucket
    if call.parameters.get("list-type") == "2":
        return _objects_v2(call)
    prefix, marker = call.parameters.get("prefix", ""), call.parameters.get("marker", "")
    delimiter, encode = _delimiter(call), _encoder(call)
    limit = call.number("max-keys", _MOST, 0, _MOST)
    page = list_objects(call.store, bucket, prefix, delimiter, marker, limit, call.stale)
    head = elements(
        {
            "Name": bucket.name,
            "EncodingType": call.parameters.get("encoding-type") or None,
            "Prefix": encode(prefix),
            "Marker": encode(marker),
            "MaxKeys": limit,
            "Delimiter": encode(delimiter) if delimiter else None,
            "IsTruncated": page.truncated,
            "NextMarker": encode(page.next_marker) if page.truncated else None,
        }
    )
    body = head + _prefixes(page, encode) + _contents(page, encode, owner(call.owner.appid))
    return xml(document("ListBucketResult", body), **{"x-cos-bucket-region": bucket.region})


def _objects_v2(call: Call) -> Response:
    values = call.parameters
    prefix, after, token = (
        values.get("prefix", ""),
        values.get("start-after", ""),
        values.get("continuation-token"),
    )
    delimiter, encode = _delimiter(call), _encoder(call)
    limit = call.number("max-keys", _MOST, 0, _MOST)
    marker = _open_token(token) if token else after
    page = list_objects(call.store, call.bucket, prefix, delimiter, marker, limit, call.stale)
    following = base64.urlsafe_b64encode(page.next_marker.encode()).decode()
    head = elements(
        {
            "Name": call.bucket.name,
            "EncodingType": values.get("encoding-type") or None,
            "Prefix": encode(prefix),
            "StartAfter": encode(after) if after else None,
            "ContinuationToken": token,
            "MaxKeys": limit,
            "KeyCount": len(page.rows) + len(page.prefixes),
            "Delimiter": encode(delimiter) if delimiter else None,
            "IsTruncated": page.truncated,
            "NextContinuationToken": following if page.truncated else None,
        }
    )
    owned = owner(call.owner.appid) if values.get("fetch-owner") == "true" else ""
    body = head + _contents(page, encode, owned) + _prefixes(page, encode)
    return xml(document("ListBucketResult", body), **{"x-cos-bucket-region": call.bucket.region})


def _open_token(token: str) -> str:
    try:
        return base64.b64decode(token, b"-_", validate=True).decode()
    except ValueError as error:
        raise CosError("InvalidArgument", "The continuation token provided is incorrect.") from error


def versions(call: Call) -> Response:
    """Answer a page of versions and delete markers."""
    values, bucket = call.parameters, call.bucket
    prefix, delimiter, encode = values.get("prefix", ""), _delimiter(call), _encoder(call)
    limit = call.number("max-keys", _MOST, 0, _MOST)
    key_marker = values.get("key-marker", "")
    version_marker = values.get("version-id-marker", "") if key_marker else ""
    page = list_versions(call.store, bucket, prefix, delimiter, (key_marker, version_marker), limit)
    last = page.last_row[1] if page.last_row and not page.last_prefix else None
    head = elements(
        {
            "EncodingType": values.get("encoding-type") or None,
            "Name": bucket.name,
            "Prefix": encode(prefix),
            "KeyMarker": encode(key_marker),
            "VersionIdMarker": version_marker,
            "MaxKeys": limit,
            "IsTruncated": page.truncated,
            "NextKeyMarker": encode(page.next_marker) if page.truncated else None,
            "NextVersionIdMarker": last if page.truncated else None,
            "Delimiter": encode(delimiter) if delimiter else None,
        }
    )
    owned = owner(call.owner.appid)
    rows = "".join(_version(row, encode, owned, bool(bucket.versioning)) for row in page.rows)
    return xml(document("ListVersionsResult", head + _prefixes(page, encode) + rows))


def _version(row: Row, encode: Callable[[str], str], owned: str, versioned: bool) -> str:
    key, version, latest, marker, modified, etag, size, storage = row
    common = elements(
        {
            "Key": encode(key.decode()),
            "VersionId": version if versioned else "",  # empty in a bucket that never had versioning
            "IsLatest": latest,
            "LastModified": iso_time(modified),
        }
    )
    if marker:
        return f"<DeleteMarker>{common}{owned}</DeleteMarker>"
    more = elements({"ETag": f'"{etag}"', "Size": size, "StorageClass": storage})
    return f"<Version>{common}{more}{owned}</Version>"


def uploads(call: Call) -> Response:
    """Answer a page of unfinished uploads."""
    values, bucket = call.parameters, call.bucket
    prefix, delimiter, encode = values.get("prefix", ""), _delimiter(call), _encoder(call)
    limit = call.number("max-uploads", _MOST, 0, _MOST)
    key_marker = values.get("key-marker", "")
    id_marker = values.get("upload-id-marker", "") if key_marker else ""
    page = list_uploads(call.store, bucket, prefix, delimiter, (key_marker, id_marker), limit)
    last = page.last_row[1] if page.last_row and not page.last_prefix else ""
    head = elements(
        {
            "Bucket": bucket.name,
            "EncodingType": values.get("encoding-type") or None,
            "KeyMarker": encode(key_marker),
            "UploadIdMarker": id_marker,
            "NextKeyMarker": encode(page.next_marker) if page.truncated else None,
            "NextUploadIdMarker": last if page.truncated else None,
            "MaxUploads": limit,
            "IsTruncated": page.truncated,
            "Prefix": encode(prefix),
            "Delimiter": encode(delimiter) if delimiter else None,
        }
    )
    people = owner(arn(call.owner.uin), "Initiator") + owner(arn(call.owner.uin))
    rows = "".join(
        "<Upload>"
        + elements({"Key": encode(key.decode()), "UploadId": id_, "StorageClass": storage})
        + people
        + elements({"Initiated": iso_time(initiated)})
        + "</Upload>"
        for key, id_, initiated, storage in page.rows
    )
    return xml(document("ListMultipartUploadsResult", head + rows + _prefixes(page, encode)))


HANDLERS: dict[str, Callable[[Call], Response]] = {
    "ListObjects": objects,
    "ListObjectVersions": versions,
    "ListMultipartUploads": uploads,
}
