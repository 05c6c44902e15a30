"""A server on a loopback socket that answers exactly what a test tells it to, byte by byte if need be."""

from __future__ import annotations

import random
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from cosfs.client.crc64 import crc64

REQUEST_ID = "NWQ1M2Y3YWNfMzdiMDJhMDk="
B = "b-1250000000"
DATA = random.Random(1).randbytes(300_000)


@dataclass
class Request:
    """What arrived; connection counts from 1."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    connection: int


@dataclass
class Answer:
    """What to send. The head gets a request id, a date and a length unless they are given."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None  # sent instead of all above
    delay: float = 0.0  # before the first byte
    cut: int | None = None  # how much of the body is sent before the end
    end: str = ""  # "close" or "reset" the connection afterwards; "stall" holds it open in silence
    before_body: bool = False  # answer at once, without reading the request's body
    from_cos: bool = True
    date: str | None = None

    def encode(self, method: str) -> bytes:
        if self.raw is not None:
            return self.raw
        headers = {"Date": self.date or time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())}
        if self.from_cos:
            headers |= {"Server": "tencent-cos", "x-cos-request-id": REQUEST_ID}
        if self.status != 204 and "Transfer-Encoding" not in self.headers:
            headers["Content-Length"] = str(len(self.body))
        headers |= self.headers
        head = f"HTTP/1.1 {self.status} Whatever\r\n" + "".join(f"{n}: {v}\r\n" for n, v in headers.items())
        body = b"" if method == "HEAD" else self.body if self.cut is None else self.body[: self.cut]
        return head.encode("utf-8") + b"\r\n" + body


def error(status: int, code: str, message: str = "message", **headers: str) -> Answer:
    """Return an error answer as COS writes it."""
    body = (
        f"<?xml version='1.0' encoding='utf-8' ?>\n<Error>\n\t<Code>{code}</Code>\n\t<Message>{message}"
        f"</Message>\n\t<Resource>/k</Resource>\n\t<RequestId>{REQUEST_ID}</RequestId>"
        f"\n\t<TraceId>trace</TraceId>\n</Error>"
    )
    return Answer(
        status,
        body.encode(),
        {"Content-Type": "application/xml", **{name.replace("_", "-"): v for name, v in headers.items()}},
    )


UNAVAILABLE = error(503, "SlowDown")


def whole(data: bytes = DATA, **more: str) -> Answer:
    """Answer a GET with all of an object."""
    return Answer(200, data, {"ETag": '"etag"', "x-cos-hash-crc64ecma": str(crc64(data)), **more})


def stored(request: Request) -> Answer:
    """Answer a PUT: the bytes arrived."""
    return Answer(200, b"", {"ETag": '"etag"', "x-cos-hash-crc64ecma": str(crc64(request.body))})


Script = Answer | Callable[[Request], Answer]


class ScriptedServer:
    """Give the answers in order, the last one over and over. Use as a context manager.

    With a certificate it speaks TLS: at once or, as a tunnel, after a CONNECT.
    """

    def __init__(self, *answers: Script, certificate: Path | None = None, tunnel: bool = False) -> None:
        self._tunnel = tunnel
        self._tls: ssl.SSLContext | None = None
        if certificate is not None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(certificate)
        self.answers: deque[Script] = deque(answers)
        self.requests: list[Request] = []
        self.connections = 0
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    @property
    def url(self) -> str:
        return f"{'https' if self._tls and not self._tunnel else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self._sockets:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._sockets.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection, self.connections), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        try:
            if self._tls is not None:
                if self._tunnel and not self._connect(connection, number):
                    return
                connection = self._tls.wrap_socket(connection, server_side=True)
                self._sockets.append(connection)
            while self._answer(connection, number):
                pass
        except OSError:
            pass
        finally:
            connection.close()

    def _connect(self, connection: socket.socket, number: int) -> bool:
        """Read a CONNECT and agree to it."""
        head = b""
        while b"\r\n\r\n" not in head:
            more = connection.recv(65536)
            if not more:
                return False
            head += more
        method, target, _ = head.decode().split("\r\n")[0].split(" ")
        self.requests.append(Request(method, target, {}, b"", number))
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        return True

    def _answer(self, connection: socket.socket, number: int) -> bool:
        """Serve one request; return whether the connection stays open."""
        data = b""
        while b"\r\n\r\n" not in data:
            more = connection.recv(65536)
            if not more:
                return False
            data += more
            if not data[:1].isalpha():  # a TLS handshake, most likely
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                return False
        head, _, rest = data.partition(b"\r\n\r\n")
        line, *lines = head.decode().split("\r\n")
        headers = {n.lower(): v.strip() for n, _, v in (each.partition(":") for each in lines)}
        method, target, _ = line.split(" ")
        with self._lock:
            script = self.answers.popleft() if len(self.answers) > 1 else self.answers[0]
        early = isinstance(script, Answer) and script.before_body
        length = 0 if early else int(headers.get("content-length", "0"))
        while len(rest) < length:
            more = connection.recv(65536)
            if not more:
                return False
            rest += more
        request = Request(method, target, headers, rest[:length], number)
        self.requests.append(request)
        answer = script(request) if callable(script) else script
        self._closing.wait(answer.delay)
        connection.sendall(answer.encode(method))
        if answer.end == "stall":
            self._closing.wait(30)
        if answer.end == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return not answer.end and not early
