"""What tells an object as one that was sent from here, though no answer came."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from cosfs.client.model import Headers, ObjectInfo

__all__ = ["Mark", "is_one_of", "mark_of"]

Mark = tuple[int, str]  # size, digest of the metadata


def mark_of(size: int, headers: Headers) -> Mark:
    """Tells versions of one file apart: our times are exact to the nanosecond."""
    text = repr(sorted(headers.metadata.items()))
    return size, hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()


def is_one_of(found: ObjectInfo, marks: Iterable[Mark]) -> bool:
    """Whether an object is what one of these marks was made of."""
    return found.headers is not None and mark_of(found.size, found.headers) in marks
