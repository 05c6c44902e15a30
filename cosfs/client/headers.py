"""HTTP headers to values of `model` and back. Pure."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

from cosfs.client.dates import parse_http_date
from cosfs.client.model import STANDARD, Headers, ObjectInfo, PutResult
from cosfs.errors import NotCosError, UsageError

__all__ = ["object_info", "put_headers", "put_result", "whole_size"]

META = "x-cos-meta-"
_FIELDS = {
    "Content-Type": "content_type",
    "Cache-Control": "cache_control",
    "Content-Disposition": "content_disposition",
    "Content-Encoding": "content_encoding",
    "Content-Language": "content_language",
    "Expires": "expires",
    "x-cos-storage-class": "storage_class",
}
_WIRE_FIELDS = [(name.lower(), field) for name, field in _FIELDS.items() if field != "storage_class"]
_SUFFIX = re.compile(r"[A-Za-z0-9!#$%&'*+.^`|~_-]+")
# What an answer tells about an object beyond the fields above, and a later write must say again.
_KEPT = ("x-cos-server-side-encryption", "x-cos-server-side-encryption-cos-kms-key-id")


def put_headers(headers: Headers) -> dict[str, str]:
    """Return the request headers that give an object its own."""
    sent = {name: value for name, field in _FIELDS.items() if (value := getattr(headers, field))}
    for suffix, value in headers.metadata.items():
        if not _SUFFIX.fullmatch(suffix):
            raise UsageError(
                f"{suffix!r} cannot be the name of metadata", hint="Use letters, digits and hyphens"
            )
        sent[f"{META}{suffix.lower()}"] = value
    sent.update(headers.extra)
    return sent


def object_info(key: str, answer: Mapping[str, str], size: int) -> ObjectInfo:
    """Return what the headers of a HEAD or GET answer say about an object."""
    metadata = {name[len(META) :]: value for name, value in answer.items() if name.startswith(META)}
    storage_class = answer.get("x-cos-storage-class", "")
    known = {field: answer[name] for name, field in _WIRE_FIELDS if name in answer}
    headers = Headers(
        storage_class=storage_class,
        metadata=metadata,
        extra={name: answer[name] for name in _KEPT if name in answer},
        **known,
    )
    return ObjectInfo(
        key=key,
        size=size,
        etag=_etag(answer),
        last_modified=parse_http_date(answer.get("last-modified", "")),
        storage_class=storage_class or STANDARD,
        crc64=_crc(answer),
        version_id=answer.get("x-cos-version-id", ""),
        headers=headers,
        restore=answer.get("x-cos-restore", ""),
    )


def put_result(answer: Mapping[str, str]) -> PutResult:
    """Return what the headers of the answer to a write say."""
    modified = parse_http_date(answer.get("last-modified", "")) or parse_http_date(answer.get("date", ""))
    return PutResult(_etag(answer), _crc(answer), answer.get("x-cos-version-id", ""), modified or time.time())


def whole_size(answer: Mapping[str, str], target: str) -> int:
    """Return the size of an object from the answer to a HEAD or a GET of all of it."""
    length = answer.get("content-length", "")
    if not (length.isascii() and length.isdigit()):
        raise NotCosError(
            f"the answer does not say how large {target} is", hint="Check endpoint_url and the proxy"
        )
    return int(length)


def _etag(answer: Mapping[str, str]) -> str:
    return answer.get("etag", "").strip('"')


def _crc(answer: Mapping[str, str]) -> int | None:
    text = answer.get("x-cos-hash-crc64ecma", "")
    return int(text) if text.isascii() and text.isdigit() else None
