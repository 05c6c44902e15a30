"""HEADs of many objects, each tried once, with as little work for each as can be.

For who asks for thousands and has somebody else ask again where this does not simply work: there are no
retries here, no reasons, no statistics. One of these keeps one connection; it is not thread-safe.
"""

from __future__ import annotations

import time

from cosfs.client import failures
from cosfs.client.endpoint import Address
from cosfs.client.headers import object_info, whole_size
from cosfs.client.model import ObjectInfo
from cosfs.client.session import NOTHING, Session
from cosfs.client.wire import Connection, Limits, encode_head, parse_head

__all__ = ["Looks"]


class Looks:
    """Looks at objects over one connection."""

    def __init__(self, session: Session, patience: float) -> None:
        self._session = session
        self._patience = patience
        self._connection: Connection | None = None

    def look(self, bucket: str, key: str) -> tuple[int, ObjectInfo | None]:
        """Return the status of the answer, and what it says of the object if that is 200."""
        session = self._session
        address = session.endpoint.object(bucket, session.region(bucket), key)
        if session.transport.proxies.forward(address) is not None:
            return 0, None
        credentials = session.credentials.get() if session.credentials is not None else None
        headers = session.signed_headers("HEAD", address, NOTHING, NOTHING, credentials)
        status, answer = self._exchange(address, encode_head("HEAD", address.path, headers))
        if not failures.is_cos(answer):
            return 0, None
        if status == 200:
            session.seen.add(bucket)
            return status, object_info(key, answer, whole_size(answer, key))
        return status, None

    def _exchange(self, address: Address, head: bytes) -> tuple[int, dict[str, str]]:
        limits = Limits(self._patience, time.monotonic() + self._patience)
        connection = self._take(address, limits)
        try:
            connection.send(head, None, limits)
            status, answer = parse_head(connection.read_head(limits), address.host)
        except BaseException:
            self._connection = None
            self._session.transport.discard(connection)
            raise
        connection.rest()
        if status < 200 or "close" in answer.get("connection", "").lower():
            self._connection = None
            self._session.transport.discard(connection)
        return status, answer

    def _take(self, address: Address, limits: Limits) -> Connection:
        connection = self._connection
        if connection is not None:
            if connection.key == (address.scheme, address.host, address.port):
                connection.reused = True
                return connection
            self._session.transport.discard(connection)
        connection = self._connection = self._session.transport.take(address, limits)
        return connection

    def check(self) -> None:
        """Give the connection up if it was lost while nobody looked at anything."""
        connection = self._connection
        if connection is not None and not connection.is_usable():
            self._connection = None
            self._session.transport.discard(connection)
