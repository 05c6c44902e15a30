"""How headers are written in the journal."""

from __future__ import annotations

from typing import Any

from cosfs.client.model import Headers


def headers_to_json(headers: Headers) -> dict[str, Any]:
    return {
        "content_type": headers.content_type,
        "cache_control": headers.cache_control,
        "content_disposition": headers.content_disposition,
        "content_encoding": headers.content_encoding,
        "content_language": headers.content_language,
        "expires": headers.expires,
        "storage_class": headers.storage_class,
        "metadata": dict(headers.metadata),
        "extra": dict(headers.extra),
    }


def headers_from_json(record: dict[str, Any]) -> Headers:
    return Headers(**record)
