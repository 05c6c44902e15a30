"""Digests of ranges that are copied into parts, each read once however often it is copied.

The holes of a large file are copies of one range of zeros, hundreds of them; the MD5 of a gigabyte takes two
seconds of a processor.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from cosfs.emulator.values import Piece

MOST = 64  # ranges that are remembered


class RangeDigests:
    """ETag and CRC-64 of ranges of files of the store, which never change. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[bytes, Future[tuple[str, str]]] = OrderedDict()

    def of(self, pieces: Sequence[Piece], read: Callable[[], tuple[str, str]]) -> tuple[str, str]:
        """Return what read() returns of these pieces; it is called once for all who ask for the same."""
        if not all(piece.file for piece in pieces):
            return read()
        places = "".join(f"{piece.file} {piece.start} {piece.length}\n" for piece in pieces)
        name = hashlib.blake2b(places.encode(), digest_size=16).digest()
        with self._lock:
            found = self._known.get(name)
            if found is None:
                mine = self._known[name] = Future()
                if len(self._known) > MOST:
                    self._known.popitem(last=False)
            else:
                self._known.move_to_end(name)
        if found is not None:
            return found.result()
        try:
            mine.set_result(read())
        except BaseException as error:
            with self._lock:
                self._known.pop(name, None)
            mine.set_exception(error)
            raise
        return mine.result()
