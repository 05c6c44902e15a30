"""The body of a request on its way in: unwrapped, digested, bounded, checked against what was declared."""

from __future__ import annotations

import base64
import binascii

from cosfs.emulator.aws import Payload
from cosfs.emulator.context import Call
from cosfs.emulator.errors import CosError
from cosfs.emulator.files import INLINE_LIMIT, Received
from cosfs.emulator.numerals import whole
from cosfs.emulator.routing import takes_data, takes_document

# Bytes that a body may stay in memory. Parts and appended pieces always get a file: an object of many of them
# must not fill the memory when it is read.
_IN_MEMORY = {"PutObject": INLINE_LIMIT}


class Incoming:
    """One body. `feed` may run in a worker thread, one call at a time."""

    rate = 0  # a header's or query's traffic limit is known before; forms have a field

    def __init__(self, call: Call, payload: Payload) -> None:
        headers, limits = call.headers, call.emulation.limits
        self._md5 = declared_md5(headers.get("content-md5", ""))
        self._payload = payload
        self._document = takes_document(call.operation)
        self._limit = limits.document if self._document else limits.object_size
        length = headers.get("x-cos-decoded-content-length") or headers.get("content-length")
        self._length = whole(length or "")
        if takes_data(call.operation) and self._length is None and "transfer-encoding" not in headers:
            raise CosError("MissingContentLength")
        self._check_size(self._length or 0)
        memory = limits.document if self._document else _IN_MEMORY.get(call.operation, 0)
        self._receiver = call.store.files.receive(limit=memory, with_sha256=bool(payload.sha256))

    @property
    def length(self) -> int | None:
        """Return the declared length, if any."""
        return self._length

    def _check_size(self, size: int) -> None:
        if size > self._limit:
            raise CosError("XMLSizeLimit" if self._document else "EntityTooLarge")

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the wire."""
        if self._payload.decoder is not None:
            data = self._payload.decoder.feed(data)
        if data:
            self._check_size(self._receiver.size + len(data))
            self._receiver.write(data)

    def finish(self) -> Received:
        """End the body and compare it with what the request declared."""
        received = self._receiver.finish()
        if self._payload.decoder is not None and not self._payload.decoder.finished:
            raise CosError("IncompleteBody")
        if self._length is not None and received.size != self._length:
            raise CosError("IncompleteBody" if received.size < self._length else "EntitySizeNotMatch")
        if self._md5 and self._md5 != received.md5:
            raise CosError("BadDigest")
        if self._payload.sha256 and self._payload.sha256 != received.sha256:
            raise CosError("XAmzContentSHA256Mismatch")
        return received

    def discard(self) -> None:
        """Forget the body."""
        self._receiver.discard()


def declared_md5(text: str) -> bytes:
    """Read a Content-MD5 header."""
    if not text:
        return b""
    try:
        digest = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise CosError("InvalidDigest") from error
    if len(digest) != 16:
        raise CosError("InvalidDigest")
    return digest
