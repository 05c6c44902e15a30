"""Whether two files or objects of equal size hold the same bytes, by the cheapest means that tells it.

The functions block: they are for the engine's worker threads, where many files are hashed at once.
"""

from __future__ import annotations

import binascii
import hashlib
import io
import os
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field
from typing import Any

from cosfs.client.client import CosClient
from cosfs.client.crc64 import crc64
from cosfs.client.model import ObjectInfo
from cosfs.records import dataclass
from cosfs.transfer.compare import is_md5
from cosfs.transfer.work import checkpoint

__all__ = ["FileContent", "ObjectContent", "crc64_of", "md5_of", "same_by_etag", "same_bytes", "same_content"]

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class FileContent:
    """A local file, by its path; or a symbolic link that stands for itself, whose content is its target."""

    path: str
    link_target: str = ""

    @property
    def md5(self) -> str:
        """Its MD5, in hex."""
        if self.link_target:
            return hashlib.md5(os.fsencode(self.link_target), usedforsecurity=False).hexdigest()
        return md5_of(self.path)

    @property
    def crc64(self) -> int:
        """Its CRC-64/XZ."""
        return crc64(os.fsencode(self.link_target), 0) if self.link_target else crc64_of(self.path)


@dataclass(frozen=True, slots=True)
class ObjectContent:
    """An object, by what a listing or a HEAD said of it; headers are what requests about it need (a key)."""

    bucket: str
    info: ObjectInfo
    headers: Mapping[str, str] = field(default_factory=dict)


Content = FileContent | ObjectContent


def same_content(
    client: CosClient, first: Content, second: Content, *, ask: bool = True, trust_etags: bool = False
) -> bool | None:
    """Compare two contents of equal size; None means that nothing tells.

    Where ETags do not decide, a HEAD asks for the CRC64 that COS keeps, or for the MD5 that an uploader
    left as metadata. An ETag that differs may be that of an encrypted object, which is no MD5 of its
    content: a HEAD tells that, too, unless trust_etags. Without ask no request is made.
    """
    if isinstance(first, FileContent) and isinstance(second, FileContent):
        return first.md5 == second.md5
    if isinstance(first, ObjectContent) and isinstance(second, ObjectContent):
        same = same_by_etag(first.info, second.info)
        return same if same or _decided(same, ask, trust_etags) else _same_objects(client, first, second)
    file, stored = (first, second) if isinstance(first, FileContent) else (second, first)
    assert isinstance(file, FileContent) and isinstance(stored, ObjectContent)
    same = file.md5 == stored.info.etag.lower() if is_md5(stored.info.etag) else None
    return same if same or _decided(same, ask, trust_etags) else _same_as_file(client, file, stored, same)


def _decided(same: bool | None, ask: bool, trust_etags: bool) -> bool:
    return not ask or (same is False and trust_etags)


def same_by_etag(first: object, second: object) -> bool | None:
    """Compare two objects by what a listing says of them; None if that does not tell, or for files."""
    if not (isinstance(first, ObjectInfo) and isinstance(second, ObjectInfo)):
        return None
    if first.etag and first.etag == second.etag:
        return True
    return False if is_md5(first.etag) and is_md5(second.etag) else None


def _same_objects(client: CosClient, first: ObjectContent, second: ObjectContent) -> bool | None:
    one, two = _head(client, first), _head(client, second)
    if one.crc64 is not None and two.crc64 is not None:
        return one.crc64 == two.crc64
    digest, other_digest = _md5_known(first, one), _md5_known(second, two)
    return digest == other_digest if digest and other_digest else None


def _same_as_file(
    client: CosClient, file: FileContent, stored: ObjectContent, by_etag: bool | None
) -> bool | None:
    head = _head(client, stored)
    if by_etag is False and not _is_sealed(stored, head):
        return False  # the file need not be read once more
    if head.crc64 is not None:
        return file.crc64 == head.crc64
    digest = _md5_known(stored, head)
    return file.md5 == digest if digest else None


def same_bytes(client: CosClient, first: Content, second: Content) -> bool:
    """Read both contents and compare them byte by byte. PreconditionFailedError: an object was replaced."""
    with _opened(client, first) as one, _opened(client, second) as other:
        pieces, others = _Pieces(one), _Pieces(other)
        while True:
            checkpoint()
            count = min(pieces.fill(), others.fill())
            if not count:
                return pieces.fill() == others.fill()
            if pieces.take(count) != others.take(count):
                return False


@contextmanager
def _opened(client: CosClient, content: Content) -> Iterator[Callable[[memoryview], int]]:
    """Open a content; the function given reads some of it, 0 at its end."""
    if isinstance(content, FileContent) and content.link_target:
        target = io.BytesIO(os.fsencode(content.link_target))
        yield target.readinto
        return
    if isinstance(content, FileContent):
        fd = _open(content.path)
        try:
            yield lambda buffer: os.readv(fd, [buffer])
        finally:
            os.close(fd)
        return
    info = content.info
    with client.get_object(content.bucket, info.key, if_match=info.etag, headers=content.headers) as stream:
        yield stream.read_into


class _Pieces:
    """What was read of one content and not compared yet."""

    def __init__(self, read: Callable[[memoryview], int]) -> None:
        self._read = read
        self._buffer = memoryview(bytearray(_CHUNK))
        self._start = self._end = 0

    def fill(self) -> int:
        """Return how many bytes are there, reading some if there are none; 0 at the end."""
        if self._start == self._end:
            self._start, self._end = 0, self._read(self._buffer)
        return self._end - self._start

    def take(self, count: int) -> memoryview:
        """Return the next bytes of those that are there."""
        self._start += count
        return self._buffer[self._start - count : self._start]


def _head(client: CosClient, stored: ObjectContent) -> ObjectInfo:
    if stored.info.headers is not None:
        return stored.info
    found = client.head_object(stored.bucket, stored.info.key, headers=stored.headers)
    assert found is not None
    return found


def _is_sealed(stored: ObjectContent, head: ObjectInfo) -> bool:
    """Whether an object is encrypted with a key of the user's own or of KMS: its ETag is no MD5 then."""
    extra = head.headers.extra if head.headers is not None else {}
    return bool(stored.headers) or extra.get("x-cos-server-side-encryption") == "cos/kms"


def _md5_known(stored: ObjectContent, head: ObjectInfo) -> str:
    """Return the MD5 of an object in hex, empty if nobody says it."""
    if is_md5(head.etag) and not _is_sealed(stored, head):
        return head.etag.lower()
    metadata = head.headers.metadata if head.headers is not None else {}
    # The second name, in base64, is what rclone writes beside what it uploads in parts.
    for name in ("md5", "md5chksum"):
        digest = _hex(metadata.get(name, ""))
        if digest:
            return digest
    return ""


def _hex(text: str) -> str:
    if is_md5(text):
        return text.lower()
    try:
        raw = b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return ""
    return raw.hex() if len(raw) == 16 else ""


def md5_of(path: str) -> str:
    """Return the MD5 of a file, in hex."""
    digest = hashlib.md5(usedforsecurity=False)
    _read(path, digest.update)
    return digest.hexdigest()


def crc64_of(path: str) -> int:
    """Return the CRC-64/XZ of a file."""
    value = 0

    def add(piece: memoryview) -> None:
        nonlocal value
        value = crc64(piece, value)

    _read(path, add)
    return value


def _open(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)


def _read(path: str, take: Callable[[memoryview], Any]) -> None:
    """Give the bytes of a file to take, piece by piece; give up when nobody waits any more."""
    fd = _open(path)
    try:
        size = os.fstat(fd).st_size
        buffer = memoryview(bytearray(max(1, min(size, _CHUNK))))
        while count := os.readv(fd, [buffer]):
            take(buffer[:count])
            checkpoint()
    finally:
        os.close(fd)
