"""The plain values that go through the emulator: a request, an answer, the bytes of an object to be sent."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Peer:
    """Where a request came from: an address, and the version of TLS, empty without."""

    address: str = "127.0.0.1"
    tls: str = ""


LOCAL = Peer()


@dataclass(slots=True)
class Request:
    """One HTTP request. Header names are lower case; values are the bytes of the wire read as Latin-1."""

    method: str
    target: bytes
    headers: Mapping[str, str]
    body: bytes = b""  # only for callers without a socket; the server feeds bodies piece by piece
    peer: Peer = LOCAL


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of bytes of a stored object: in memory, or a window of a file of the store."""

    length: int
    data: bytes = b""
    file: str = ""
    start: int = 0


@dataclass(slots=True)
class Content:
    """The body of an answer that is read while it is sent. `release` must be called exactly once."""

    pieces: list[Piece]
    release: Callable[[], None]

    @property
    def length(self) -> int:
        """Return the bytes to be sent."""
        return sum(piece.length for piece in self.pieces)


@dataclass(slots=True)
class Response:
    """One HTTP answer. Header names have wire spelling: the COS SDKs tell `ETag` from `etag`."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    content: Content | None = None
    stream: Generator[bytes, None, None] | None = None  # a body that is made, of content, while it is sent
    chunked: bool = False  # COS sends the answer of Complete this way


@dataclass(slots=True)
class Later:
    """An answer that needs long work first: work touches no state of the store and may run in any thread."""

    work: Callable[[], Any]
    then: Callable[[Any], Response]
