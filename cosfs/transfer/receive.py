"""Bytes of an object as they arrive: one GET, continued where it broke off, and their checksum."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections.abc import Callable

from cosfs.client.crc64 import crc64
from cosfs.client.model import ObjectInfo
from cosfs.client.stream import ObjectStream
from cosfs.client.waiting import current_hub
from cosfs.errors import IntegrityError, NetworkError
from cosfs.records import dataclass
from cosfs.transfer.engine import Engine
from cosfs.transfer.options import DEFAULTS, TransferOptions
from cosfs.transfer.work import CHUNK, Meter, checkpoint, pause

__all__ = [
    "WRITE_PIECE",
    "Received",
    "Sink",
    "Source",
    "crc_of",
    "md5_of",
    "receive",
    "tells_md5",
    "verify",
    "write_sparse_to",
    "write_to",
]

log = logging.getLogger(__name__)

# A body that breaks off is continued; given up after so many times without a single byte.
_FRUITLESS_TRIES = 5
# Written at once. The kernel takes memory for the page cache in blocks as long as a write: small ones it has
# at hand, large ones may have to come from the host of a virtual machine.
WRITE_PIECE = 32 * 1024
# Zeros of this length, at a multiple of it, become a hole of a sparse file.
_HOLE = 64 * 1024
_ZEROS = bytes(_HOLE)


@dataclass(frozen=True, slots=True)
class Source:
    """What is downloaded; info is what a listing or a HEAD said about it, None if nobody asked."""

    bucket: str
    key: str
    info: ObjectInfo | None = None
    version_id: str = ""
    options: TransferOptions = DEFAULTS

    def __str__(self) -> str:
        return f"cos://{self.bucket}/{self.key}"


@dataclass(slots=True)
class Received:
    """What one GET brought: the object it came from, where it ended, the checksum of its bytes."""

    info: ObjectInfo
    start: int
    stop: int
    crc64: int


class _Buffer(threading.local):
    """The piece a thread reads into; one a thread is all the memory downloads to files need."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(CHUNK))


_buffer = _Buffer()


def _view(size: int) -> memoryview:
    """Return what so many bytes are read into, piece by piece."""
    if current_hub() is None:
        return _buffer.view
    # Many calls share this thread.
    return memoryview(bytearray(max(1, min(size, CHUNK))))


Sink = Callable[[memoryview, int], None]  # bytes and their offset in the object


def receive(
    engine: Engine,
    source: Source,
    start: int,
    stop: int | None,
    sink: Sink,
    meter: Meter,
    *,
    if_match: str = "",
    arrived: Callable[[Received], None] | None = None,
) -> Received:
    """GET bytes [start, stop) in a worker thread; a body that breaks off is continued where it did.

    arrived hears of each piece that is in the sink, with all before it. What comes after a break is the
    same object, by If-Match, or PreconditionFailedError.
    """
    position, crc, tries = start, 0, 0
    summed = source.options.verify != "none"
    info: ObjectInfo | None = None
    while True:
        before = position
        try:
            with engine.client.get_object(
                source.bucket,
                source.key,
                start=position,
                stop=stop,
                if_match=if_match,
                version_id=source.version_id,
                headers=source.options.body_headers,
            ) as stream:
                if info is None:
                    info = stream.info
                    if_match = info.etag
                view = _view(stream.stop - position)
                while count := _fill(stream, view):
                    meter.before(count)
                    piece = view[:count]
                    sink(piece, position)
                    if summed:
                        crc = crc64(piece, crc)
                    position += count
                    meter.add(count)
                    if arrived is not None:
                        arrived(Received(info, start, position, crc))
            return Received(info, start, position, crc)
        except NetworkError as error:
            # Without an ETag nobody could tell whether the rest is of the same object.
            if not error.retryable or info is None or not info.etag:
                raise
            tries = 0 if position > before else tries + 1
            if tries >= _FRUITLESS_TRIES:
                raise
            if position >= min(info.size, info.size if stop is None else stop):
                return Received(info, start, position, crc)
            log.info("%s: continued at byte %d: %s", source, position, error)
            pause(0.2 * tries)


def _fill(stream: ObjectStream, view: memoryview) -> int:
    """Read until view is full or the body ends: sockets deliver small pieces, each costs the same."""
    count = stream.read_into(view)
    while 0 < count < len(view):
        checkpoint()
        more = stream.read_into(view[count:])
        if not more:
            break
        count += more
    return count


def write_to(fd: int) -> Sink:
    """Return a sink that writes into a file."""

    def write(piece: memoryview, position: int) -> None:
        while piece:
            count = os.pwrite(fd, piece[:WRITE_PIECE], position)
            piece, position = piece[count:], position + count

    return write


def write_sparse_to(fd: int) -> Sink:
    """Return a sink for a new file that leaves out long zeros."""
    write = write_to(fd)

    def write_data(piece: memoryview, position: int) -> None:
        while piece:
            length = min(len(piece), _HOLE - position % _HOLE)
            if length < _HOLE or piece[:length] != _ZEROS:
                write(piece[:length], position)
            piece, position = piece[length:], position + length

    return write_data


def verify(source: Source, info: ObjectInfo, size: int, crc: int, md5: Callable[[], str]) -> str:
    """Compare what arrived with what COS says it holds; return by what."""
    if size != info.size:
        raise IntegrityError(f"{source}: {size} bytes arrived instead of {info.size}")
    if source.options.verify == "none":
        return "size"
    if info.crc64 is not None:
        if crc != info.crc64:
            raise IntegrityError(f"{source}: the checksum of what arrived is {crc}, COS has {info.crc64}")
        return "crc64"
    if tells_md5(source, info):
        if md5() != info.etag.lower():
            raise IntegrityError(f"{source}: the MD5 of what arrived differs from the ETag")
        return "md5"
    return "size"


def md5_of(fd: int) -> str:
    """Read a file back and return its MD5."""
    md5 = hashlib.md5(usedforsecurity=False)
    view = _buffer.view
    position = 0
    while count := os.preadv(fd, [view], position):
        checkpoint()
        md5.update(view[:count])
        position += count
    return md5.hexdigest()


def tells_md5(source: Source, info: ObjectInfo) -> bool:
    """Whether the ETag is the MD5: the object was not made of parts, and not encrypted with a key."""
    encryption = info.headers.extra.get("x-cos-server-side-encryption", "") if info.headers else ""
    plain = source.options.customer_key is None and encryption != "cos/kms"
    return plain and len(info.etag) == 32 and "-" not in info.etag


def crc_of(fd: int, start: int, stop: int) -> int:
    """Read bytes [start, stop) of a file back and return their checksum; they may end before."""
    crc, view = 0, _buffer.view
    while start < stop and (count := os.preadv(fd, [view[: stop - start]], start)):
        checkpoint()
        crc = crc64(view[:count], crc)
        start += count
    return crc
