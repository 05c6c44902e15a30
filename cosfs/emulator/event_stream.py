"""The framing of SELECT answers: messages with typed headers and two checksums.

uint32 total length, uint32 header length, uint32 CRC32 of those eight bytes, headers, payload, uint32 CRC32
of everything before. Big-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from zlib import crc32

_TEXT = 7  # the type of all header values here
_OVERHEAD = 16


def message(headers: Mapping[str, str], payload: bytes = b"") -> bytes:
    """Frame one message."""
    head = b"".join(_header(name, value) for name, value in headers.items())
    prelude = struct.pack(">II", len(head) + len(payload) + _OVERHEAD, len(head))
    framed = prelude + struct.pack(">I", crc32(prelude)) + head + payload
    return framed + struct.pack(">I", crc32(framed))


def _header(name: str, value: str) -> bytes:
    encoded = value.encode()[:65_535]
    return struct.pack(">B", len(name)) + name.encode() + struct.pack(">BH", _TEXT, len(encoded)) + encoded


def records(payload: bytes) -> bytes:
    """Frame a piece of the result."""
    headers = {":event-type": "Records", ":content-type": "application/octet-stream"}
    return message({":message-type": "event", **headers}, payload)


def progress(kind: str, scanned: int, processed: int, returned: int) -> bytes:
    """Frame how far it is: kind is Progress or Stats."""
    counts = {"BytesScanned": scanned, "BytesProcessed": processed, "BytesReturned": returned}
    inner = "".join(f"<{name}>{count}</{name}>" for name, count in counts.items())
    body = f'<?xml version="1.0" encoding="UTF-8"?><{kind}>{inner}</{kind}>'
    headers = {":message-type": "event", ":event-type": kind, ":content-type": "text/xml"}
    return message(headers, body.encode())


def continuation() -> bytes:
    """Frame a sign of life."""
    return message({":message-type": "event", ":event-type": "Cont"})


def end() -> bytes:
    """Frame the end of a complete result."""
    return message({":message-type": "event", ":event-type": "End"})


def failure(code: str, text: str) -> bytes:
    """Frame an error; nothing follows it."""
    return message({":message-type": "error", ":error-code": code, ":error-message": text})
