"""What a request can send: bytes in memory or a window of a file, both readable again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from cosfs.client.crc64 import crc64
from cosfs.errors import COSError, IntegrityError
from cosfs.records import dataclass
from cosfs.units import KIB

__all__ = ["Body", "Digest", "FileBody", "as_chunks", "body_length", "digest"]

CHUNK = 256 * KIB


class FileBody:
    """A window of a file, read with pread so that many windows share one descriptor.

    Given a path it opens the file itself (close it, or use it as a context manager); a
    descriptor stays the caller's. A file that has become shorter meanwhile raises IntegrityError.
    """

    __slots__ = ("_fd", "_owned", "length", "offset")

    def __init__(self, file: int | str | Path, offset: int, length: int) -> None:
        self._owned = not isinstance(file, int)
        self._fd = file if isinstance(file, int) else os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        self.offset = offset
        self.length = length

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        """Close the file if it was opened here; again is fine."""
        if self._owned and self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def with_own_file(self) -> FileBody:
        """The same window with a descriptor of its own, which the caller closes."""
        made = FileBody(os.dup(self._fd), self.offset, self.length)
        made._owned = True
        return made

    def __enter__(self) -> FileBody:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return self.length

    def windows(self, size: int) -> Iterator[tuple[int, int]] | None:
        """Return (offset, length) of what the kernel may send; None: what is sent has to be read."""
        return None

    def chunks(self, size: int = CHUNK) -> Iterator[memoryview]:
        """Read the window from its start. A chunk is overwritten by the next one."""
        buffer = memoryview(bytearray(min(size, self.length)))
        position, end = self.offset, self.offset + self.length
        while position < end:
            try:
                count = os.preadv(self._fd, [buffer[: end - position]], position)
            except OSError as error:
                # Not to be taken for trouble of the network by whoever sends it.
                raise COSError(f"the file cannot be read: {error.strerror}") from error
            if count == 0:
                raise IntegrityError(
                    f"the file became shorter while it was read: {end - position} bytes are missing",
                    hint="Repeat this when nothing writes to the file any more",
                )
            yield buffer[:count]
            position += count


Body = bytes | bytearray | memoryview | FileBody


@dataclass(frozen=True, slots=True)
class Digest:
    """Checksums of a body; md5 is the 16 raw bytes."""

    md5: bytes
    crc64: int
    length: int


def body_length(body: Body) -> int:
    """Return how many bytes a body has."""
    return body.nbytes if isinstance(body, memoryview) else len(body)


def as_chunks(body: Body) -> Iterator[bytes | bytearray | memoryview]:
    """Yield the bytes of a body from its start; memory in one piece, a file in chunks."""
    if isinstance(body, FileBody):
        yield from body.chunks()
    elif body_length(body):
        yield body


def digest(body: Body) -> Digest:
    """Compute the checksums of a body in one pass; long ones without the interpreter lock."""
    md5 = hashlib.md5(usedforsecurity=False)
    crc = 0
    for chunk in as_chunks(body):
        # Pieces that stay in the CPU's cache between the two sums.
        view = memoryview(chunk).cast("B")
        for start in range(0, view.nbytes, CHUNK):
            piece = view[start : start + CHUNK] if view.nbytes > CHUNK else chunk
            md5.update(piece)
            crc = crc64(piece, crc)
    return Digest(md5.digest(), crc, body_length(body))
