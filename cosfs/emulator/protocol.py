"""The HTTP layer: uvicorn's, except that header names keep their spelling and request targets stay as sent.

uvicorn lower-cases the header names of answers; the COS SDKs look for `ETag` exactly. It also parses the
target, which would lose the host of an absolute-form target and bytes that are no ASCII.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application, ASGISendEvent

log = logging.getLogger(__name__)

_LINE_BREAKS = str.maketrans({"\r": " ", "\n": " ", "\0": " "})


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

    @property
    def busy(self) -> bool:
        """Tell whether an answer is still owed."""
        return self.cycle is not None and not self.cycle.response_complete

    def on_headers_complete(self) -> None:
        """Start a request: as in uvicorn, without its parsing of the target and without upgrades."""
        version = self.parser.get_http_version()
        scope = cast("dict[str, Any]", self.scope)
        scope["method"] = self.parser.get_method().decode("ascii")
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

    def _should_upgrade(self) -> bool:
        return False
