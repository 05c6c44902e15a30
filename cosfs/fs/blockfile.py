"""One block in one file: a header that names and sums it, then its bytes.

A file stands for itself, so that what is found in it never depends on the index of the files being right,
and the index can be made anew from the files. Whole pages begin at a page: they may be written past the
kernel's page cache, and are summed piece by piece, so that a little of them can be read and checked alone.
What is shorter follows the header at once.
"""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path
from typing import NamedTuple

from cosfs.client.crc64 import crc64
from cosfs.fs.buffers import Block, Buffers
from cosfs.fs.directwriter import PAGE, DirectWriter

__all__ = [
    "BlockHead",
    "DamagedBlock",
    "block_size_on_disk",
    "read_block",
    "read_head",
    "read_part",
    "write_block",
]

# magic, version, length of the data, CRC-64 of the data, digest of the block's key, length of the tag
_HEADER = struct.Struct("<4sIQQ16sI")
_MAGIC = b"COSB"
# Versions: the data follow the tag at once; or begin at the next page; or do that behind sums. A sum is the
# CRC-64 of all bytes up to the end of a piece: a piece is checked by going on from the sum before it.
_PACKED, _PAGED, _SUMMED = 2, 3, 4
_SUM = struct.Struct("<Q")
PIECE = 128 * 1024
_TAG_MAX = 16 * 1024
_LENGTH_MAX = 1 << 30  # of a block; a header that says more is damaged, and its sums are not looked for


class DamagedBlock(Exception):
    """The bytes of a block file are not what was written."""


class BlockHead(NamedTuple):
    """What a block file says of itself. The tag names the object, the digest the block."""

    digest: bytes
    tag: bytes
    length: int
    crc: int
    start: int  # where the data begin
    sums: bytes  # of its pieces, if it has them


def block_size_on_disk(tag: bytes, length: int) -> int:
    """What the filesystem needs for a block."""
    sums = 0 if length % PAGE else _sums_size(length)
    return _whole_pages(_HEADER.size + len(tag) + sums + length)


def _sums_size(length: int) -> int:
    return -(-length // PIECE) * _SUM.size


def _whole_pages(length: int) -> int:
    return -(-length // PAGE) * PAGE


def write_block(
    path: str, digest: bytes, tag: bytes, data: Block, direct: DirectWriter | None = None
) -> None:
    """Write a new block file; it must not exist. The directory it goes to is made if it is missing."""
    version = _PACKED if len(data) % PAGE else _SUMMED
    crc, sums = _summed(data) if version == _SUMMED else (crc64(data), b"")
    head = _HEADER.pack(_MAGIC, version, len(data), crc, digest, len(tag)) + tag + sums
    if version == _SUMMED:
        head = head.ljust(_whole_pages(len(head)), b"\0")
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
    try:
        fd = os.open(path, flags, 0o600)
    except FileNotFoundError:
        Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(path, flags, 0o600)
    try:
        if direct is None or not direct.write(fd, head, data):
            _write_all(fd, (head, data))
    finally:
        os.close(fd)


def _summed(data: Block) -> tuple[int, bytes]:
    crc, sums, view = 0, [], memoryview(data)
    for start in range(0, len(data), PIECE):
        crc = crc64(view[start : start + PIECE], crc)
        sums.append(_SUM.pack(crc))
    return crc, b"".join(sums)


def _write_all(fd: int, pieces: tuple[Block, ...]) -> None:
    done = os.writev(fd, pieces)
    rest = memoryview(b"".join(pieces))[done:] if done < sum(map(len, pieces)) else memoryview(b"")
    while rest:
        rest = rest[os.write(fd, rest) :]


def read_head(fd: int, nowait: bool = False) -> BlockHead:
    """Read the header of an open block file; DamagedBlock if it is none, or if the file is not all there.

    BlockingIOError if nowait and it is not in the kernel's page cache.
    """
    start = _pread(fd, PAGE, 0, nowait)
    if len(start) < _HEADER.size:
        raise DamagedBlock
    magic, version, length, crc, digest, tag_length = _HEADER.unpack_from(start)
    if magic != _MAGIC or version not in (_PACKED, _PAGED, _SUMMED) or tag_length > _TAG_MAX:
        raise DamagedBlock
    end = _HEADER.size + tag_length
    summed = _sums_size(min(length, _LENGTH_MAX)) if version == _SUMMED else 0
    if end + summed > len(start):
        start = _pread(fd, end + summed, 0, nowait)
    begin = end if version == _PACKED else _whole_pages(end + summed)
    tag, sums = start[_HEADER.size : end], start[end : end + summed]
    head = BlockHead(digest, tag, length, crc, begin, sums)
    if len(tag) != tag_length or len(sums) != summed or os.fstat(fd).st_size != head.start + length:
        raise DamagedBlock
    return head


def _pread(fd: int, length: int, offset: int, nowait: bool) -> bytes:
    """Read as much as there is. BlockingIOError if nowait and some of it would have to come from the disk."""
    if not nowait:
        return os.pread(fd, length, offset)
    data = bytearray(length)
    count = os.preadv(fd, [data], offset, os.RWF_NOWAIT)
    if count < length and offset + count < os.fstat(fd).st_size:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return bytes(data[:count])


def read_part(
    path: str, digest: bytes, start: int, stop: int, length: int, nowait: bool = False
) -> bytes | None:
    """Read and check [start, stop) of a block of a length, and little more than that.

    None if its file has no sums of its pieces, or if nowait and it is not in the kernel's page cache.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        head = read_head(fd, nowait)
        if head.digest != digest or head.length != length:
            raise DamagedBlock
        if not head.sums:
            return None
        first, last = start // PIECE, (stop - 1) // PIECE
        begin = first * PIECE
        data = _pread(fd, min((last + 1) * PIECE, length) - begin, head.start + begin, nowait)
    except OSError as error:
        if nowait and error.errno in (errno.EAGAIN, errno.EOPNOTSUPP):  # it would wait, or cannot tell
            return None
        raise
    finally:
        os.close(fd)
    before = _SUM.unpack_from(head.sums, (first - 1) * _SUM.size)[0] if first else 0
    if crc64(data, before) != _SUM.unpack_from(head.sums, last * _SUM.size)[0]:
        raise DamagedBlock
    return data[start - begin : stop - begin]


def read_block(
    path: str, digest: bytes | None, buffers: Buffers | None = None, nowait: bool = False
) -> Block | None:
    """Read and check a block file; None if nowait and it is not in the kernel's page cache.

    digest None takes any block. With buffers its memory comes from there.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if nowait and not _is_in_page_cache(fd):
            return None
        head = read_head(fd)
        if digest is not None and head.digest != digest:
            raise DamagedBlock
        data = _read_data(fd, head, buffers)
    finally:
        os.close(fd)
    if len(data) != head.length or crc64(data) != head.crc:
        raise DamagedBlock
    return data


def _read_data(fd: int, head: BlockHead, buffers: Buffers | None) -> Block:
    if buffers is None or head.length > buffers.size:
        return os.pread(fd, head.length, head.start)
    data = buffers.take(head.length)
    return data[: os.preadv(fd, [data], head.start)]


def _is_in_page_cache(fd: int) -> bool:
    """Whether reading would not wait; judged by both ends, as block files are written in one go."""
    one = bytearray(1)
    try:
        for offset in (0, max(0, os.fstat(fd).st_size - 1)):
            if os.preadv(fd, [one], offset, os.RWF_NOWAIT) != 1:
                return False
    except OSError as error:
        # EAGAIN: it would wait. EOPNOTSUPP: this filesystem cannot tell.
        if error.errno in (errno.EAGAIN, errno.EOPNOTSUPP):
            return False
        raise
    return True
