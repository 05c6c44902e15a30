"""If-Match and its kin, and byte ranges: pure decisions from headers and what is stored."""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from functools import lru_cache

from cosfs.emulator.errors import CosError

_RANGE = re.compile(r"bytes=([0-9]{0,99})-([0-9]{0,99})")


def _matches(listed: str, etag: str) -> bool:
    tags = [tag.strip().removeprefix("W/").strip('"') for tag in listed.split(",")]
    return "*" in tags or etag in tags


@lru_cache(maxsize=256)
def _time(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, IndexError):
        return None


def failed(headers: Mapping[str, str], etag: str, modified: int, prefix: str = "") -> str:
    """Return the kind of condition that does not hold: 'match', 'none-match' or ''. ETags win over dates."""
    if f"{prefix}if-match" in headers:
        if not _matches(headers[f"{prefix}if-match"], etag):
            return "match"
    elif (until := _time(headers.get(f"{prefix}if-unmodified-since", ""))) is not None and modified > until:
        return "match"
    if f"{prefix}if-none-match" in headers:
        if _matches(headers[f"{prefix}if-none-match"], etag):
            return "none-match"
    elif (since := _time(headers.get(f"{prefix}if-modified-since", ""))) is not None and modified <= since:
        return "none-match"
    return ""


def byte_range(text: str, size: int) -> tuple[int, int] | None:
    """Return the half-open range of a Range header; None for the whole, also if malformed or several."""
    match = _RANGE.fullmatch(text.strip())
    if match is None or not any(match.groups()):
        return None
    first, last = match.groups()
    if not first:
        length = min(int(last), size)
        start, stop = size - length, size
    else:
        start = int(first)
        stop = min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return None
    if start >= size or start >= stop:
        raise CosError("InvalidRange", headers={"Content-Range": f"bytes */{size}"})
    return start, stop
