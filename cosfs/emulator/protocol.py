"""The HTTP layer: uvicorn's, except that header names keep their spelling and request targets stay as sent.

uvicorn lower-cases the header names of answers; the COS SDKs look for `ETag` exactly. It also parses the
target, which would lose the host of an absolute-form target and bytes that are no ASCII.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from typing import TYPE_CHECKING, Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from cosfs.emulator import messages
from cosfs.emulator.errors import CosError
from cosfs.emulator.tunnel import open_tunnel

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application, ASGISendEvent

log = logging.getLogger(__name__)

_LINE_BREAKS = str.maketrans({"\r": " ", "\n": " ", "\0": " "})
_HEAD_LIMIT = 128 * 1024  # bytes of target and headers; 4 KiB of metadata and a long key are far below


class ClientGoneError(ConnectionError):
    """The client closed the connection before its answer was complete."""


def _nothing() -> None:
    """Take the place of a callback that must not come any more."""


class ExactCycle(RequestResponseCycle):
    """One request and its answer; http.response.start carries a dict of headers in wire spelling."""

    async def run_asgi(self, app: ASGI3Application) -> None:
        """Run the application; one that fails, or whose client is gone, ends the connection."""
        try:
            await app(self.scope, self.receive, self.send)
        except ClientGoneError:
            self.transport.abort()
        except Exception:
            log.exception("emulator: a request failed")
            self.transport.abort()
        finally:
            self.on_response = _nothing

    async def send(self, message: ASGISendEvent) -> None:
        """Write the head of an answer exactly as given; leave the body to uvicorn."""
        if self.disconnected or self.transport.is_closing():
            raise ClientGoneError
        if message["type"] != "http.response.start":
            await super().send(message)
            return
        self.response_started = True
        self.waiting_for_100_continue = False
        status = message["status"]
        headers = cast("dict[str, str]", message.get("headers", {}))
        lines = [f"{name}: {value.translate(_LINE_BREAKS)}\r\n" for name, value in headers.items()]
        if "Content-Length" in headers:
            self.chunked_encoding = False
            self.expected_content_length = int(headers["Content-Length"])
        elif status not in (204, 304) and self.scope["method"] != "HEAD":
            self.chunked_encoding = True
            lines.append("Transfer-Encoding: chunked\r\n")
        if headers.get("Connection") == "close":
            self.keep_alive = False
        elif "Connection" not in headers:
            lines.append("Connection: keep-alive\r\n" if self.keep_alive else "Connection: close\r\n")
        lines.append("\r\n")
        self.transport.write(STATUS_LINE[status] + "".join(lines).encode("latin-1", "replace"))


class ExactProtocol(HttpToolsProtocol):
    """A connection whose requests reach the application with their raw target and transport."""

    _head_size = 0
    _connect = False  # the request is a CONNECT: what follows its head is not ours to read
    _upgrade = False  # the request wants another protocol

    @property
    def busy(self) -> bool:
        """Tell whether an answer is still owed."""
        return self.cycle is not None and not self.cycle.response_complete

    def data_received(self, data: bytes) -> None:
        """Read what has come; what is no HTTP ends the connection."""
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            rest = data[upgrade.args[0] :]
            if self._connect:
                self._join(rest)
            else:
                self._read_again(rest)
        except httptools.HttpParserError:
            self.refuse(CosError("InvalidRequest", "This is not a request of HTTP/1.1."))

    def eof_received(self) -> None:
        """Tell a client that stopped in the middle of a body, and may still listen, that it did."""
        cycle = self.cycle
        if self.busy and cycle.more_body and not cycle.response_started:
            self.refuse(CosError("IncompleteBody"))

    def refuse(self, error: CosError) -> None:
        """Answer what is no request and close; an answer that is under way comes first and is the last."""
        if self.busy:
            cycle = self.cycle
            if not cycle.more_body:
                self.flow.pause_reading()
                cycle.keep_alive = False
                return
            if self.pipeline or cycle.response_started:
                self.transport.abort()
                return
        request_id = uuid.uuid4().hex
        nodes = {"Code": error.code, "Message": error.message, "Resource": "/", "RequestId": request_id}
        body = messages.document("Error", messages.elements(nodes))
        head = (
            f"Content-Type: application/xml\r\nContent-Length: {len(body)}\r\nServer: tencent-cos\r\n"
            f"x-cos-request-id: {request_id}\r\nConnection: close\r\n\r\n"
        )
        self.transport.write(STATUS_LINE[error.status] + head.encode() + body)
        self.transport.close()

    def _read_again(self, rest: bytes) -> None:
        """Read a request again without its wish for HTTP/2 or WebSocket; the parser took it as granted."""
        lines = [self.parser.get_method() + b" " + self.url + b" HTTP/1.1"]
        lines += [
            name + b": " + value for name, value in self.headers if name not in (b"upgrade", b"connection")
        ]
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(b"\r\n".join(lines) + b"\r\n\r\n" + rest)

    def _join(self, first: bytes) -> None:
        address = getattr(self.config.app, "https_address", None)
        if address is None or self.busy:
            self.refuse(CosError("NotImplemented", "HTTPS is off; it is on with: cos emulator --https"))
            return
        self.connections.discard(self)
        task = self.loop.create_task(open_tunnel(self.transport, address, first, self.connections))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._head_size = 0

    def on_url(self, url: bytes) -> None:
        """Take a piece of the target."""
        self._grow(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        self._grow(len(name) + len(value))
        super().on_header(name, value)

    def _grow(self, size: int) -> None:
        self._head_size += size
        if self._head_size > _HEAD_LIMIT:
            raise ValueError("the head of a request is too long")

    def on_headers_complete(self) -> None:
        """Start a request: as in uvicorn, without its parsing of the target and without upgrades."""
        version = self.parser.get_http_version()
        scope = cast("dict[str, Any]", self.scope)
        scope["method"] = self.parser.get_method().decode("ascii")
        self._connect = scope["method"] == "CONNECT"
        self._upgrade = self.parser.should_upgrade()
        if self._upgrade:
            return
        scope["http_version"] = version
        scope["path"], scope["raw_path"], scope["query_string"] = "/", b"/", b""
        scope["target"], scope["transport"], scope["connection"] = self.url, self.transport, self
        previous = self.cycle
        self.cycle = ExactCycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=[],
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=version != "1.0" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        if previous is None or previous.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def on_message_complete(self) -> None:
        """End a request."""
        if not self._upgrade:
            super().on_message_complete()

    def _should_upgrade(self) -> bool:
        return False
