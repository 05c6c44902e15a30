"""Ports where nobody answers, and nobody else can come to."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager


def held(port: int = 0) -> socket.socket:
    """Take a port without listening: who connects is refused, and no other program is given it.

    A port that is closed again is free for anybody's next connection or server.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # so that we can listen beside it
    holder.bind(("127.0.0.1", port))
    return holder


@contextmanager
def refusing() -> Iterator[int]:
    """A port that refuses connections."""
    with held() as holder:
        yield holder.getsockname()[1]
