"""Whether COS has, or sent, what it should. Pure."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

from cosfs.client.body import Body, digest
from cosfs.client.crc64 import crc64_combine
from cosfs.client.headers import whole_size
from cosfs.client.http import Response
from cosfs.client.model import ObjectInfo, Part
from cosfs.errors import IntegrityError, NotCosError

__all__ = ["check_crc", "combined", "extent", "made_of", "sums"]


def sums(body: Body, content_md5: bytes | None, crc64: int | None) -> tuple[bytes, int]:
    """Return the checksums of a body; those that are not given are computed."""
    if content_md5 is not None and crc64 is not None:
        return content_md5, crc64
    computed = digest(body)
    return content_md5 or computed.md5, computed.crc64 if crc64 is None else crc64


def check_crc(stored: int | None, sent: int | None, target: str) -> None:
    """Raise IntegrityError if COS holds other bytes than were sent."""
    if stored is not None and sent is not None and stored != sent:
        raise IntegrityError(
            f"{target}: the checksum of what COS stored ({stored}) is not that of what was sent ({sent})",
            hint="Send it again",
        )


def combined(parts: Sequence[Part]) -> int | None:
    """Return the checksum of all parts together, None if one of them has none."""
    total = 0
    for part in parts:
        if part.crc64 is None:
            return None
        total = crc64_combine(total, part.crc64, part.size)
    return total


def made_of(stored: ObjectInfo, parts: Sequence[Part], crc: int | None) -> bool:
    """Return whether an object is what completing these parts would make."""
    if stored.size != sum(part.size for part in parts):
        return False
    if crc is not None and stored.crc64 is not None:
        return stored.crc64 == crc
    return stored.etag.endswith(f"-{len(parts)}") and stored.last_modified > time.time() - 3600


def extent(response: Response, ranged: bool, target: str) -> tuple[int, int, int]:
    """Return start and stop of the bytes an answer carries, and the size of the object."""
    if response.status == 206:
        match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", response.headers.get("content-range", ""))
        if match is None:
            raise NotCosError(f"{response.host} answered with a part of {target} and does not say which")
        first, last, size = (int(text) for text in match.groups())
        stop = last + 1
        length = response.headers.get("content-length")
        if not ranged or not first < stop <= size or (length and int(length) != stop - first):
            raise NotCosError(f"{response.host} answered with a range that makes no sense")
        return first, stop, size
    if response.status != 200:
        raise NotCosError(f"{response.host} answered a GET with HTTP {response.status}")
    size = whole_size(response.headers, target)
    return 0, size, size
