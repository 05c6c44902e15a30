"""Connections to COS: kept, handed out; one request out, one answer in.

`dial` makes the connections; what travels on them is in `wire`. No retries here, no redirects, no
decoding. Knows nothing of COS.
"""

from __future__ import annotations

import math
import os
import ssl
import threading
import time
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import NoReturn

from cosfs.client.body import Body
from cosfs.client.dial import Dialer
from cosfs.client.endpoint import Address
from cosfs.client.proxy import Proxies
from cosfs.client.waiting import current_hub
from cosfs.client.wire import (
    Connection,
    Key,
    Limits,
    StaleConnectionError,
    encode_head,
    make_reader,
    parse_head,
)
from cosfs.config import ClientSettings
from cosfs.errors import NetworkError, NetworkTimeoutError, NotCosError
from cosfs.units import KIB

__all__ = ["Limits", "Response", "StaleConnectionError", "Transport"]

_RECV = 64 * KIB
_PIECE = 256 * KIB


class Response:
    """An answer whose head has arrived. Read the body to its end, or close it."""

    __slots__ = ("_connection", "_limits", "_reader", "_transport", "headers", "host", "status")

    def __init__(
        self,
        status: int,
        headers: dict[str, str],
        connection: Connection,
        transport: Transport,
        limits: Limits,
        bodiless: bool,
    ) -> None:
        self.status = status
        self.headers = headers  # names in lower case
        self.host = connection.host
        self._connection: Connection | None = connection
        self._transport = transport
        self._limits = limits
        self._reader = make_reader(status, headers, connection, bodiless)
        if self._reader.left == 0:
            self._release()

    @property
    def length(self) -> int | None:
        """How many bytes of the body are still to come, None if the server did not say."""
        return self._reader.left

    def read_into(self, buffer: memoryview) -> int:
        """Read some bytes of the body; 0 at its end. A body that breaks off raises NetworkError."""
        if self._connection is None:
            return 0
        try:
            self._limits.resume()
            count = self._reader.read_into(buffer, self._limits)
            self._transport.hear(self._connection)
            if self._reader.left != 0:
                self._limits.received(count)
        except BaseException as error:
            self.close()
            self._transport.reraise(error, self.host, "while the answer was read")
        if self._reader.left == 0:
            self._release()
        return count

    def read_some(self, most: int) -> bytes:
        """Read some bytes of the body; empty at its end. A body that breaks off raises NetworkError."""
        if self._connection is None:
            return b""
        try:
            self._limits.resume()
            data = self._reader.read_some(most, self._limits)
            self._transport.hear(self._connection)
            if self._reader.left != 0:
                self._limits.received(len(data))
        except BaseException as error:
            self.close()
            self._transport.reraise(error, self.host, "while the answer was read")
        if self._reader.left == 0:
            self._release()
        return data

    def read(self, most: int = 256 * 1024 * KIB) -> bytes:
        """Read the rest of the body, which must not be longer than most."""
        first = self.read_some(_RECV)
        if self._connection is None:
            return first
        pieces, size = [first], len(first)
        while piece := self.read_some(_PIECE):
            size += len(piece)
            if size > most:
                self.close()
                raise NotCosError(f"{self.host} answered with more than {most} bytes")
            pieces.append(piece)
        return b"".join(pieces)

    def limit_silence_only(self) -> None:
        """Let the rest of the body take as long as it wants, as long as it goes on."""
        if not self._limits.stall:
            self._limits.deadline = math.inf

    @property
    def deadline(self) -> float:
        """Until when the next bytes must be here (time.monotonic)."""
        return self._limits.deadline

    def close(self) -> None:
        """Give up the rest of the body. The connection goes with it: the rest would be in the way."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._transport.discard(connection)

    def _release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._transport.give_back(connection, self.headers)

    def __enter__(self) -> Response:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Transport:
    """Keep connections open per host and send requests over them. Thread-safe."""

    def __init__(self, settings: ClientSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._idle: dict[Key, deque[Connection]] = {}
        self._busy: set[Connection] = set()
        self._closed = 0  # how often: what was handed out before is not kept afterwards
        self.proxies = Proxies(settings.proxy)
        self._dialer = Dialer(settings, self.proxies)
        self._pid = os.getpid()
        self.cancelled = threading.Event()
        self._heard: dict[
            tuple[str, int], float
        ] = {}  # when the last bytes of an answer came, by host and port

    def send(
        self,
        method: str,
        address: Address,
        target: str,
        headers: Mapping[str, str],
        body: Body | None,
        limits: Limits,
    ) -> Response:
        """Send one request and return the answer as soon as its head is here.

        target goes out verbatim. Raises NetworkError and its children, nothing else of the network.
        """
        proxied = self.proxies.forward(address)
        if proxied is not None:
            target = f"{address.origin}{target}"
            headers = {**headers, **proxied.headers}
        head = encode_head(method, target, headers)
        connection = self.take(address, limits)
        try:
            lines = self._exchange(connection, head, body, limits)
            status, fields = parse_head(lines, address.host_header)
            self.hear(connection)
            while status < 200:  # 100 Continue, 103 Early Hints
                status, fields = parse_head(connection.read_head(limits), address.host_header)
            return Response(status, fields, connection, self, limits, method == "HEAD")
        except BaseException as error:
            self.discard(connection)
            self.reraise(error, address.host_header, "", stale=connection.reused)

    def _exchange(self, connection: Connection, head: bytes, body: Body | None, limits: Limits) -> list[str]:
        try:
            connection.send(head, body, limits)
        except (BrokenPipeError, ConnectionResetError):
            # The server may refuse a long body early: its answer is there to be read, and says why.
            try:
                lines = connection.read_head(limits)
            except (OSError, NetworkError):
                lines = []
            if not lines:
                raise
            connection.since = -1.0  # half a request is on the wire
            return [*lines, "connection: close"]
        return connection.read_head(limits)

    def hear(self, connection: Connection) -> None:
        """Note that bytes have arrived."""
        self._heard[connection.key[1:]] = time.monotonic()

    def hear_of(self, address: Address) -> None:
        """The same of another process."""
        self._heard[address.host, address.port] = time.monotonic()

    def last_heard(self, address: Address) -> float:
        """When the last bytes of any answer of a host arrived (time.monotonic); 0 if none ever did."""
        return self._heard.get((address.host, address.port), 0.0)

    @property
    def in_flight(self) -> int:
        """How many requests are being sent or answered."""
        return len(self._busy)

    def cancel(self) -> None:
        """Make requests in flight and all later ones fail."""
        self.cancelled.set()
        with self._lock:
            # After a fork the sockets are the parent's too.
            busy = list(self._busy) if self._pid == os.getpid() else []
        for connection in busy:
            connection.shut_down()

    def close(self) -> None:
        """Close the connections that are not in use, and those that are when they are given back."""
        with self._lock:
            self._closed += 1
        self.forget_idle()

    def forget_idle(self) -> None:
        """Close kept connections: one was stale or fell silent, so the others probably are as dead."""
        with self._lock:
            idle, self._idle = self._idle, {}
        for connections in idle.values():
            for connection in connections:
                connection.close()

    def take(self, address: Address, limits: Limits) -> Connection:
        """Return a connection, kept or new; give_back() or discard() it afterwards."""
        key = (address.scheme, address.host, address.port)
        closed = self._closed
        with self._lock:
            if self._pid != os.getpid():
                # After a fork the sockets are the parent's too.
                self._pid, self._idle, self._busy = os.getpid(), {}, set()
            idle = self._idle.get(key)
            while idle:
                connection = idle.pop()  # the youngest: the others may age and go
                if connection.is_usable():
                    connection.reused = True
                    self._busy.add(connection)
                    break
                connection.close()
            else:
                connection = None
        if connection is None:
            connection = self._connect(address, key, limits)
            with self._lock:
                self._busy.add(connection)
        connection.handed_out = closed
        connection.wait_by(current_hub())
        if self.cancelled.is_set():
            self.discard(connection)
            raise NetworkError("cancelled")
        return connection

    def _connect(self, address: Address, key: Key, limits: Limits) -> Connection:
        if self.cancelled.is_set():
            raise NetworkError("cancelled")
        timeout = max(0.001, min(self._settings.connect_timeout, limits.deadline - time.monotonic()))
        return Connection(self._dialer.connect(address, timeout), key, address.host_header)

    def give_back(self, connection: Connection, headers: Mapping[str, str]) -> None:
        """Keep a connection whose answer was read to its end."""
        keep = "close" not in headers.get("connection", "").lower() and connection.since >= 0
        with self._lock:
            self._busy.discard(connection)
            idle = self._idle.setdefault(connection.key, deque())
            keep = keep and connection.handed_out == self._closed
            if keep and len(idle) < self._settings.max_connections and not self.cancelled.is_set():
                connection.rest()
                idle.append(connection)
                return
        connection.close()

    def discard(self, connection: Connection) -> None:
        """Close a connection that cannot be used again."""
        with self._lock:
            self._busy.discard(connection)
        connection.close()

    def reraise(self, error: BaseException, host: str, doing: str, *, stale: bool = False) -> NoReturn:
        """Raise an error of the network in our own words, anything else as it is."""
        if self.cancelled.is_set() and isinstance(error, (OSError, NetworkError)):
            raise NetworkError("cancelled") from error
        if isinstance(error, TimeoutError):
            self.forget_idle()
        if isinstance(error, OSError):
            raise _exchange_error(error, host, doing, stale) from error
        raise error


def _exchange_error(error: OSError, host: str, doing: str, stale: bool) -> NetworkError:
    """Return what went wrong on an open connection, in words."""
    if stale and isinstance(error, (BrokenPipeError, ConnectionResetError)):
        return StaleConnectionError(f"{host} closed the connection")
    where = f" {doing}" if doing else ""
    if isinstance(error, TimeoutError):
        return NetworkTimeoutError(
            f"{host} did not answer in time{where}",
            hint="Check the network; --read-timeout makes it wait longer",
        )
    if isinstance(error, ssl.SSLError):
        return NetworkError(f"the encrypted connection to {host} broke off{where}")
    reason = error.strerror or str(error) or type(error).__name__
    return NetworkError(f"the connection to {host} broke off{where}: {reason}", hint="Check the network")
