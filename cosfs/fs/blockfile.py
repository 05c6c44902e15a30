"""One block in one file: a header that names and sums it, then its bytes.

A file stands for itself, so that what is found in it never depends on the index of the files being right,
and the index can be made anew from the files.
"""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path
from typing import NamedTuple

from cosfs.client.crc64 import crc64
from cosfs.fs.buffers import Block, Buffers

__all__ = ["BlockHead", "DamagedBlock", "block_size_on_disk", "read_block", "read_head", "write_block"]

PAGE = 4096
# magic, version, length of the data, CRC-64 of the data, digest of the block's key, length of the tag
_HEADER = struct.Struct("<4sIQQ16sI")
_MAGIC = b"COSB"
_VERSION = 2
_TAG_MAX = 16 * 1024


class DamagedBlock(Exception):
    """The bytes of a block file are not what was written."""


class BlockHead(NamedTuple):
    """What a block file says of itself. The tag names the object, the digest the block."""

    digest: bytes
    tag: bytes
    length: int
    crc: int

    @property
    def start(self) -> int:
        """Where the data begin."""
        return _HEADER.size + len(self.tag)


def block_size_on_disk(tag: bytes, length: int) -> int:
    """What the filesystem needs for a block."""
    return -(-(_HEADER.size + len(tag) + length) // PAGE) * PAGE


def write_block(path: str, digest: bytes, tag: bytes, data: Block) -> None:
    """Write a new block file; it must not exist. The directory it goes to is made if it is missing."""
    head = _HEADER.pack(_MAGIC, _VERSION, len(data), crc64(data), digest, len(tag))
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
    try:
        fd = os.open(path, flags, 0o600)
    except FileNotFoundError:
        Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(path, flags, 0o600)
    try:
        _write_all(fd, (head + tag, data))
    finally:
        os.close(fd)


def _write_all(fd: int, pieces: tuple[Block, ...]) -> None:
    done = os.writev(fd, pieces)
    rest = memoryview(b"".join(pieces))[done:] if done < sum(map(len, pieces)) else memoryview(b"")
    while rest:
        rest = rest[os.write(fd, rest) :]


def read_head(fd: int) -> BlockHead:
    """Read the header of an open block file; DamagedBlock if it is none, or if the file is not all there."""
    start = os.pread(fd, PAGE, 0)
    if len(start) < _HEADER.size:
        raise DamagedBlock
    magic, version, length, crc, digest, tag_length = _HEADER.unpack_from(start)
    if (magic, version) != (_MAGIC, _VERSION) or tag_length > _TAG_MAX:
        raise DamagedBlock
    if _HEADER.size + tag_length > len(start):
        start = os.pread(fd, _HEADER.size + tag_length, 0)
    head = BlockHead(digest, start[_HEADER.size : _HEADER.size + tag_length], length, crc)
    if len(head.tag) != tag_length or os.fstat(fd).st_size != head.start + length:
        raise DamagedBlock
    return head


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
    if buffers is None or head.length != buffers.size:
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
