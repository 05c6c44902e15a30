"""Measure what `cos emulator` answers in a second, beside a no-op application on the same server.

Both run in processes of their own. The client is as light as Python allows: ready-made bytes go out on a few
connections, and answers are counted, not looked at. The no-op server shows what socket, HTTP and client cost:
it answers with the same headers and as many bytes, and forgets what it is sent.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import multiprocessing
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from scripts.ending import end_tidily

BUCKET = "bench-1250000000"
ID, KEY = "AKIDbench", "bench"
MIB = 1 << 20


@dataclass(frozen=True)
class Figure:
    """One kind of request: method, path, body, and bytes of the answer's body."""

    name: str
    method: str
    path: str
    sent: int = 0
    received: int = 0
    connections: int = 4


FIGURES = (
    Figure("HEAD", "HEAD", "/small"),
    Figure("GET 4 KiB", "GET", "/small", received=4096),
    Figure("PUT 4 KiB", "PUT", "/new", sent=4096),
    Figure("GET 1 MiB", "GET", "/mib", received=MIB),
    Figure("GET 8 MiB", "GET", "/large", received=8 * MIB, connections=2),
    Figure("PUT 8 MiB", "PUT", "/new", sent=8 * MIB, connections=2),
    Figure("list 1,000 keys", "GET", "/?prefix=many/", received=360_000),
)


# --- the two servers


def serve_emulator(data: str, ready: Connection) -> None:
    from cosfs.emulator import serve

    serve(
        Path(data),
        secret_id=ID,
        secret_key=KEY,
        prepared=fill,
        ready=lambda info: ready.send(info.endpoint_url),
    )


def fill(emulator: Any) -> None:
    emulator.create_bucket(BUCKET)
    emulator.put_objects(BUCKET, [("small", bytes(4096)), *((f"many/{n:06}", b"x") for n in range(1000))])
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "mib").write_bytes(bytes(MIB))
        Path(folder, "large").write_bytes(bytes(8 * MIB))
        emulator.seed(BUCKET, Path(folder))


def serve_nothing(data: str, ready: Connection) -> None:
    """Serve an application that does nothing, on the emulator's own HTTP layer."""
    import uvicorn

    from cosfs.emulator.listener import Server, event_loop, listen
    from cosfs.emulator.protocol import ExactProtocol

    bodies = {figure.path.encode(): bytes(min(figure.received, MIB)) for figure in FIGURES}
    sizes = {figure.path.encode(): figure.received for figure in FIGURES}

    async def nothing(scope: dict[str, Any], receive: Any, send: Any) -> None:
        method, target = scope["method"], scope["target"]
        if method == "PUT":
            while (await receive())["more_body"]:
                pass
        size = sizes[target] if method == "GET" else 0
        headers = {
            "Content-Type": "application/octet-stream", "ETag": '"d41d8cd98f00b204e9800998ecf8427e"',
            "x-cos-hash-crc64ecma": "0", "Content-Length": str(size), "Server": "tencent-cos",
            "Date": "Tue, 14 Nov 2023 22:13:20 GMT", "x-cos-request-id": "NWQ1M2Y3YWNfMzdiMDJhMDlfODA1Yl8",
        }  # fmt: skip
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for _ in range(size // MIB if size > MIB else 0):
            await send({"type": "http.response.body", "body": bodies[target], "more_body": True})
        await send({"type": "http.response.body", "body": bodies[target] if 0 < size <= MIB else b""})

    (listener,) = listen("127.0.0.1", 0)
    config = uvicorn.Config(
        nothing, http=ExactProtocol, loop=event_loop(), ws="none", lifespan="off", log_config=None
    )
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    Server(config, lambda: ready.send(address), lambda: None).run([listener])


@dataclass(frozen=True)
class Running:
    """A server: where, and what it has cost so far."""

    port: int
    pid: int

    def cpu(self) -> float:
        """Return the seconds of processor that it has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def running(serve: Callable[[str, Connection], None], patience: float = 60) -> Iterator[Running]:
    """Run a server in a process of its own; it may take so many seconds to start."""
    with tempfile.TemporaryDirectory(prefix="bench-emulator-") as data:
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process(target=serve, args=(data, theirs))
        process.start()
        try:
            if not ours.poll(patience):
                raise SystemExit("the server did not start")
            yield Running(int(ours.recv().rpartition(":")[2]), process.pid or 0)
        finally:
            process.terminate()
            process.join()


# --- the client


def request(figure: Figure) -> bytes:
    """Write a signed request, body included."""
    host = f"{BUCKET}.cos.ap-guangzhou.myqcloud.com"
    now = int(time.time())
    times = f"{now - 60};{now + 36000}"
    text = f"{figure.method.lower()}\n{figure.path.partition('?')[0]}\n\nhost={host}\n"
    to_sign = f"sha1\n{times}\n{hashlib.sha1(text.encode()).hexdigest()}\n"
    sign_key = hmac.new(KEY.encode(), times.encode(), hashlib.sha1).hexdigest()
    signature = hmac.new(sign_key.encode(), to_sign.encode(), hashlib.sha1).hexdigest()
    head = (
        f"{figure.method} {figure.path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {figure.sent}\r\n"
        f"Authorization: q-sign-algorithm=sha1&q-ak={ID}&q-sign-time={times}&q-key-time={times}"
        f"&q-header-list=host&q-url-param-list=&q-signature={signature}\r\n\r\n"
    )
    return head.encode() + bytes(figure.sent)


def receive(connection: socket.socket, buffer: bytearray, method: str) -> None:
    """Read one answer to its end."""
    view = memoryview(buffer)
    filled = 0
    while (end := buffer.find(b"\r\n\r\n", 0, filled)) < 0:
        filled += connection.recv_into(view[filled:])
    if not buffer.startswith(b"HTTP/1.1 200"):
        raise SystemExit(f"unexpected answer: {bytes(buffer[:filled])!r}")
    if method == "HEAD":
        return
    at = buffer.index(b"Content-Length: ", 0, end) + 16
    left = int(buffer[at : buffer.index(b"\r", at)]) - (filled - end - 4)
    while left > 0:
        left -= connection.recv_into(buffer, min(len(buffer), left))


def measure(figure: Figure, server: Running, seconds: float) -> tuple[float, float]:
    """Return the requests answered in a second, and the microseconds of CPU that one costs the server."""
    data, buffer, port = request(figure), bytearray(MIB), server.port
    connections = [socket.create_connection(("127.0.0.1", port)) for _ in range(figure.connections)]
    for connection in connections:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    done, start, cpu = 0, time.perf_counter(), server.cpu()
    while not done or time.perf_counter() - start < seconds:
        for connection in connections:
            connection.sendall(data)
        for connection in connections:
            receive(connection, buffer, figure.method)
        done += len(connections)
    took, cpu = time.perf_counter() - start, server.cpu() - cpu
    for connection in connections:
        connection.close()
    return done / took, cpu / done * 1e6


def main() -> None:
    end_tidily()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("figures", nargs="*", help="the names of figures; default: all")
    options = parser.parse_args()
    chosen = [figure for figure in FIGURES if not options.figures or figure.name in options.figures]
    print(f"{'':16}{'emulator':>12}{'CPU':>10}{'no-op':>12}{'CPU':>10}")
    with running(serve_emulator) as emulator, running(serve_nothing) as nothing:
        for figure in chosen:
            rate, cost = measure(figure, emulator, options.seconds)
            bound, least = measure(figure, nothing, options.seconds)
            size = figure.sent or figure.received
            speed = f"{rate * size / 1e6:8,.0f} MB/s" if size >= MIB else ""
            columns = f"{rate:>10,.0f}/s{cost:>7,.0f} µs{bound:>10,.0f}/s{least:>7,.0f} µs"
            print(f"{figure.name:16}{columns} {speed}", flush=True)


if __name__ == "__main__":
    main()
