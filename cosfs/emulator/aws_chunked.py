"""The bodies that Amazon calls aws-chunked: framing, signatures of chunks, trailers."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import zlib
from collections.abc import Callable
from typing import Protocol

from cosfs.emulator.errors import CosError

_V4 = "AWS4-HMAC-SHA256"
_EMPTY_HASH = hashlib.sha256(b"").hexdigest()
_SIZE = re.compile(r"[0-9a-fA-F]{1,12}")
_LONGEST_LINE = 8192
_SIGNATURE = "x-amz-trailer-signature"


class Sum(Protocol):
    """A checksum on its way."""

    def update(self, data: bytes, /) -> None:
        """Take more bytes."""

    def digest(self) -> bytes:
        """Return the sum."""


class _Crc32:
    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes) -> None:
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


# What a trailer can announce and is compared; other sums are read over.
_SUMS: dict[str, Callable[[], Sum]] = {
    "x-amz-checksum-crc32": _Crc32,
    "x-amz-checksum-sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "x-amz-checksum-sha256": hashlib.sha256,
}


def _malformed() -> CosError:
    return CosError("InvalidRequest", "The aws-chunked body is malformed.")


class ChunkDecoder:
    """Unwrap an aws-chunked body piece by piece, checking the signature of each chunk and of the trailer.

    Without a first signature (STREAMING-UNSIGNED-PAYLOAD-TRAILER) chunks carry none. trailer is the header
    x-amz-trailer of a body that ends in one, None for a body without.
    """

    def __init__(self, key: bytes, date: str, scope: str, signature: str, trailer: str | None = None) -> None:
        self._key = key
        self._stamp = f"{date}\n{scope}"
        self._signature = signature
        self._with_trailer = trailer is not None
        names = [name.strip().lower() for name in (trailer or "").split(",")]
        self._sums = {name: _SUMS[name]() for name in names if name in _SUMS}
        self._buffer = bytearray()
        self._left = -1  # bytes of the chunk still to come; -1: a chunk header is next
        self._hash = hashlib.sha256()
        self._declared = ""
        self._last = False
        self.finished = False

    def feed(self, data: bytes) -> bytes:
        """Take bytes of the wire, return bytes of the object."""
        self._buffer += data
        out: list[bytes] = []
        while not self.finished and self._step(out):
            pass
        return b"".join(out)

    def _step(self, out: list[bytes]) -> bool:
        if self._last:
            return self._trailer()
        if self._left < 0:
            return self._header()
        if self._left:
            piece = bytes(self._buffer[: self._left])
            del self._buffer[: len(piece)]
            self._left -= len(piece)
            self._digest(piece)
            out.append(piece)
            return bool(piece)
        if len(self._buffer) < 2:
            return False
        if not self._buffer.startswith(b"\r\n"):
            raise _malformed()
        del self._buffer[:2]
        self._end_chunk()
        return True

    def _digest(self, piece: bytes) -> None:
        if self._signature:
            self._hash.update(piece)
        for sum_ in self._sums.values():
            sum_.update(piece)

    def _header(self) -> bool:
        end = self._buffer.find(b"\r\n")
        if end < 0:
            if len(self._buffer) > _LONGEST_LINE:
                raise _malformed()
            return False
        size, _, rest = self._buffer[:end].decode("latin-1").partition(";")
        del self._buffer[: end + 2]
        if not _SIZE.fullmatch(size):
            raise _malformed()
        self._left = int(size, 16)
        self._declared = rest.partition("chunk-signature=")[2]
        self._hash = hashlib.sha256()
        if not self._left:
            self._last = True
            self._end_chunk()
        return True

    def _end_chunk(self) -> None:
        self._left = -1
        if self._signature:
            self._advance("PAYLOAD", f"{_EMPTY_HASH}\n{self._hash.hexdigest()}", self._declared)

    def _advance(self, kind: str, hashes: str, declared: str) -> None:
        text = f"{_V4}-{kind}\n{self._stamp}\n{self._signature}\n{hashes}"
        self._signature = hmac.digest(self._key, text.encode(), "sha256").hex()
        if not hmac.compare_digest(self._signature.encode(), declared.encode()):
            raise CosError("SignatureDoesNotMatch", "The signature of a chunk is wrong.")

    def _trailer(self) -> bool:
        """Read the lines after the last chunk; they end with an empty one."""
        end = 0 if self._buffer.startswith(b"\r\n") else self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > _LONGEST_LINE:
                raise _malformed()
            return False
        lines = self._buffer[:end].decode("latin-1").split("\r\n") if end else []
        fields = {
            name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
        }
        if self._signature and self._with_trailer:
            signed = "".join(f"{line}\n" for line in lines if not line.lower().startswith(_SIGNATURE))
            digest = hashlib.sha256(signed.encode("latin-1")).hexdigest()
            self._advance("TRAILER", digest, fields.get(_SIGNATURE, ""))
        for name, sum_ in self._sums.items():
            if fields.get(name) != base64.b64encode(sum_.digest()).decode():
                raise CosError("BadDigest", f"{name} in the trailer does not match the body.")
        self.finished = True
        return False
