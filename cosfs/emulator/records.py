"""What the store keeps, as plain values: buckets, versions, what a writer says, the bytes of an object."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from cosfs.emulator.digests import Digest
from cosfs.emulator.files import Received
from cosfs.emulator.values import Piece

NULL_VERSION = "null"
_LAST_VERSION = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket; versioning is empty, Enabled or Suspended."""

    id: int
    name: str
    region: str
    created: int
    versioning: str
    acl: str
    maz: int


@dataclass(frozen=True, slots=True)
class Version:
    """A row of versions: an object version or a delete marker. headers, tags and acl are JSON or empty."""

    id: int
    bucket: int
    key: bytes
    version: str
    live: int
    marker: int
    size: int
    etag: str
    crc64: str
    modified: int
    storage_class: str
    headers: str
    tags: str
    acl: str
    appendable: int
    restored: int  # when a restored copy of an archived object is there; 0: never asked for
    expiry: int  # when that copy goes away
    replication: str = ""  # PENDING, COMPLETED or FAILED at the source, REPLICA at the target
    accessed: int = 0  # when an object of intelligent tiering was last read


@dataclass(frozen=True, slots=True)
class Properties:
    """What a writer says about an object besides its bytes."""

    storage_class: str = "STANDARD"
    headers: str = "{}"
    tags: str = ""
    acl: str = ""


@dataclass(frozen=True, slots=True)
class Bytes:
    """The content of an object to be: its pieces in order and what COS tells about them."""

    pieces: Sequence[Piece]
    size: int
    etag: str
    crc64: str


def received_bytes(body: Received) -> Bytes:
    """Describe a body that arrived as one piece."""
    if not body.size:
        pieces: list[Piece] = []
    else:
        pieces = [Piece(body.size, body.data, body.file)]
    return Bytes(pieces, body.size, body.md5.hex(), str(body.crc64))


def inline_bytes(data: bytes) -> Bytes:
    """Describe content that is at hand and small."""
    digest = Digest()
    digest.update(data)
    return received_bytes(Received(digest.size, digest.md5, digest.crc64, data=data))


def version_text(number: int) -> str:
    """Write a version id as COS does: text of a decreasing number, so that the newest sorts first."""
    return base64.b64encode(str(_LAST_VERSION - number).encode()).decode().rstrip("=")


def version_number(text: str) -> int | None:
    """Read a version id back; None if it is none of ours."""
    try:
        number = _LAST_VERSION - int(base64.b64decode(text + "=" * (-len(text) % 4), validate=True))
    except ValueError:
        return None
    return number if 0 <= number < 1 << 63 else None
