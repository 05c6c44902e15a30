"""The body of an object as it arrives."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from types import TracebackType

from cosfs.client.http import Response
from cosfs.client.model import ObjectInfo
from cosfs.errors import NetworkError
from cosfs.units import KIB

__all__ = ["ObjectStream"]


class ObjectStream:
    """The bytes [start, stop) of an object; info is about the whole object.

    A body that breaks off or ends early raises NetworkError: what was read is never silently
    short. Close it, or use it as a context manager; closing early costs only the connection.
    """

    __slots__ = ("_on_close", "_position", "_response", "info", "start", "stop")

    def __init__(
        self,
        info: ObjectInfo,
        start: int,
        stop: int,
        response: Response | None,
        on_close: Callable[[int], None] = lambda received: None,
    ) -> None:
        self.info = info
        self.start = start
        self.stop = stop
        self._position = start
        self._response = response  # None for an empty range
        self._on_close: Callable[[int], None] | None = on_close

    @property
    def position(self) -> int:
        """Where in the object the next byte comes from."""
        return self._position

    def read_into(self, buffer: memoryview) -> int:
        """Read some bytes, as many as are there; 0 at the end."""
        left = self.stop - self._position
        if left == 0 or self._response is None:
            return self._end()
        count = self._response.read_into(buffer[:left] if len(buffer) > left else buffer)
        if count == 0 and len(buffer):
            raise self._short()
        self._position += count
        return count

    def read_some(self, most: int = 256 * KIB) -> bytes:
        """Read some bytes, as many as are there; empty at the end."""
        left = self.stop - self._position
        if left == 0 or self._response is None:
            self._end()
            return b""
        data = self._response.read_some(min(most, left))
        if not data:
            raise self._short()
        self._position += len(data)
        return data

    def chunks(self, size: int = 256 * KIB) -> Iterator[bytes]:
        """Yield the rest in pieces of at most size bytes."""
        while data := self.read_some(size):
            yield data

    def limit_silence_only(self) -> None:
        """Let whoever reads decide how long that may take: only silence is an error."""
        if self._response is not None:
            self._response.limit_silence_only()

    @property
    def deadline(self) -> float:
        """Until when the next bytes must be here (time.monotonic); infinite if only silence is an error."""
        return self._response.deadline if self._response is not None else math.inf

    def _end(self) -> int:
        if self._response is not None and self._response.length is None:
            self._response.close()  # a chunked body may have its last, empty chunk to come
        self.close()
        return 0

    def _short(self) -> NetworkError:
        missing = self.stop - self._position
        self.close()
        return NetworkError(f"the answer broke off {missing} bytes before its end")

    def close(self) -> None:
        """Give up the rest; again is fine."""
        if self._response is not None:
            self._response.close()
        if self._on_close is not None:
            self._on_close(self._position - self.start)
            self._on_close = None

    def __enter__(self) -> ObjectStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
