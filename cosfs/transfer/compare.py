"""Whether what is at the destination has to be replaced by what is at the source. Pure.

`compare` asks in this order; the first line that fits decides:

    nothing at the destination, existing      skip      not-at-destination
    nothing at the destination                transfer  new
    no_overwrite                              skip      exists
    update, and the destination is newer      skip      newer-at-destination
    sizes differ                              transfer  size
    size_only, or both are empty              skip      same
    a snapshot has seen both as they are      skip      same
    checksum                                  compare   content
    a snapshot has seen one of them otherwise compare   changed
    the source is newer                       compare   time
    the times of two objects are equal        compare   time
    a download, made within the second of the
      Last-Modified that both have            compare   time
    exact_timestamps, a download, times differ compare  time
    none of these                             skip      same

Times alone never send anything of equal size: with `compare` contents decide, mostly by the ETag of the
listing and an MD5 of the local file. A build that touches every file, or a fresh checkout, sends nothing.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from cosfs.client.model import ObjectInfo
from cosfs.records import dataclass

__all__ = ["Rules", "Side", "Verdict", "compare", "is_md5", "object_side"]

_MD5 = re.compile(r"[0-9a-f]{32}", re.ASCII | re.IGNORECASE)
_SECOND = 1_000_000_000


class Side(NamedTuple):
    """What is known of a file or an object without reading it.

    mtime_ns of an object is its Last-Modified, in whole seconds as downloads set it; etag of a file is None,
    and ctime_ns when it was made or changed on this machine, whatever time it was given then.
    """

    size: int
    mtime_ns: int
    etag: str | None = None
    ctime_ns: int = 0

    @property
    def is_object(self) -> bool:
        return self.etag is not None


def object_side(info: ObjectInfo) -> Side:
    """Return what a listing says of an object."""
    # Some servers list fractions of a second which the header of a GET, and so a download, does not have.
    return Side(info.size, int(info.last_modified) * _SECOND, info.etag)


@dataclass(frozen=True, slots=True)
class Rules:
    """What the user wants compared; each is an option of the same name."""

    size_only: bool = False
    exact_timestamps: bool = False
    checksum: bool = False
    update: bool = False
    no_overwrite: bool = False
    existing: bool = False


class Verdict(NamedTuple):
    """What to do, and why. `compare` means: transfer for this reason unless the contents are the same."""

    action: Literal["transfer", "skip", "compare"]
    reason: str


NEW = Verdict("transfer", "new")
SAME = Verdict("skip", "same")
_NOT_THERE = Verdict("skip", "not-at-destination")
_EXISTS = Verdict("skip", "exists")
_NEWER = Verdict("skip", "newer-at-destination")
_SIZE = Verdict("transfer", "size")
_CONTENT = Verdict("compare", "content")
_CHANGED = Verdict("compare", "changed")
_TIME = Verdict("compare", "time")


def compare(rules: Rules, source: Side, destination: Side | None, recorded: bool | None = None) -> Verdict:
    """Decide for one name; recorded: whether a snapshot has both as they are, None if neither."""
    if destination is None:
        return _NOT_THERE if rules.existing else NEW
    if rules.no_overwrite:
        return _EXISTS
    if rules.update and destination.mtime_ns > source.mtime_ns:
        return _NEWER
    if source.size != destination.size:
        return _SIZE
    if rules.size_only or not source.size or recorded:
        return SAME
    if rules.checksum:
        return _CONTENT
    if recorded is False:
        return _CHANGED
    return _TIME if _is_older(rules, source, destination) else SAME


def _is_older(rules: Rules, source: Side, destination: Side) -> bool:
    """Whether times allow that the destination is not what the source is now."""
    if source.mtime_ns != destination.mtime_ns:
        is_download = source.is_object and not destination.is_object
        return source.mtime_ns > destination.mtime_ns or (rules.exact_timestamps and is_download)
    if destination.is_object:
        # Two objects may have changed one after the other within a second; their ETags tell.
        return source.is_object
    # So may an object after it was downloaded: only what was made later is sure to be the latest.
    return destination.ctime_ns < source.mtime_ns + _SECOND


def is_md5(etag: str) -> bool:
    """Whether an ETag is the MD5 of the content, as it is of what was stored by one request."""
    return _MD5.fullmatch(etag) is not None
