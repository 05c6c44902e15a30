"""What works on a mount, in a process of its own: prints the seconds it took, and what it found, as JSON.

Run by path and without `site`: starting it costs nothing that is measured.
"""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MIB = 1024 * 1024
PIECE = 8 * MIB
STREAMS = 16
Found = dict[str, Any]


def read(path: str) -> Found:
    """Read a file from its start to its end."""
    buffer = bytearray(MIB)
    count = 0
    started = time.perf_counter()
    fd = os.open(path, os.O_RDONLY)
    while got := os.readv(fd, [buffer]):
        count += got
    os.close(fd)
    return {"seconds": time.perf_counter() - started, "found": count}


def write(path: str, size: str) -> Found:
    """Write a file; closing it counts."""
    left = int(size)
    block = random.Random(1).randbytes(min(left, 8 * MIB))
    pieces = [memoryview(block)[at : at + MIB] for at in range(0, len(block), MIB)]
    count = 0
    started = time.perf_counter()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    while left:
        done = os.write(fd, pieces[count % len(pieces)][:left])
        left -= done
        count += 1
    os.close(fd)
    return {"seconds": time.perf_counter() - started}


def at_random(path: str, count: str) -> Found:
    """Read 4 KiB at so many random places."""
    places = random.Random(2)
    started = time.perf_counter()
    fd = os.open(path, os.O_RDONLY)
    pages = os.fstat(fd).st_size // 4096
    found = sum(len(os.pread(fd, 4096, places.randrange(pages) * 4096)) for _ in range(int(count)))
    os.close(fd)
    return {"seconds": time.perf_counter() - started, "found": found}


def create(directory: str, count: str, size: str) -> Found:
    """Make a directory with new small files."""
    data = random.Random(3).randbytes(int(size))
    started = time.perf_counter()
    Path(directory).mkdir()
    for number in range(int(count)):
        fd = os.open(f"{directory}/f{number:06}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.write(fd, data)
        os.close(fd)
    return {"seconds": time.perf_counter() - started}


def read_small(directory: str, count: str) -> Found:
    """Read small files in the order of their names."""
    found = 0
    started = time.perf_counter()
    for number in range(int(count)):
        fd = os.open(f"{directory}/f{number:06}", os.O_RDONLY)
        while got := os.read(fd, 65536):
            found += len(got)
        os.close(fd)
    return {"seconds": time.perf_counter() - started, "found": found}


def stat(directory: str, count: str) -> Found:
    """Ask for the attributes of files by name."""
    started = time.perf_counter()
    found = sum(Path(f"{directory}/f{number:06}").stat().st_size for number in range(int(count)))
    return {"seconds": time.perf_counter() - started, "found": found}


def command(*words: str) -> Found:
    """Run a program; found: its lines, of `ls -l` only those of files."""
    started = time.perf_counter()
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        sys.exit(f"{words[0]} ends with {done.returncode}")
    lines = done.stdout.splitlines()
    if words[0] == "ls":
        lines = [line for line in lines if line.startswith(b"-")]
    return {"seconds": seconds, "found": len(lines)}


# What the server can give and take when nothing but the bytes counts.


def get(port: str, path: str, size: str) -> Found:
    """Fetch an object by plain parallel requests; the bytes go nowhere."""
    buffers = threading.local()

    def fetch(offset: int, length: int) -> int:
        if not hasattr(buffers, "socket"):
            buffers.socket = socket.create_connection(("127.0.0.1", int(port)))
            buffers.memory = bytearray(MIB)
        last = offset + length - 1
        buffers.socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nRange: bytes={offset}-{last}\r\n\r\n".encode()
        )
        _, head, body = _answer(buffers.socket)
        assert int(head["content-length"]) == length
        left = length - len(body)
        while left:
            got = buffers.socket.recv_into(buffers.memory, min(left, MIB))
            if not got:
                raise ConnectionError("the server hung up")
            left -= got
        return length

    return _in_parallel(int(size), fetch)


def put(port: str, path: str, size: str) -> Found:
    """Send an object by plain parallel parts of a multipart upload."""
    data = random.Random(1).randbytes(PIECE)
    sockets = threading.local()

    def ask(method: str, query: str, body: bytes | memoryview = b"") -> tuple[dict[str, str], bytes]:
        if not hasattr(sockets, "socket"):
            sockets.socket = socket.create_connection(("127.0.0.1", int(port)))
        head = (
            f"{method} {path}?{query} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
            "Content-MD5: 1B2M2Y8AsgTpgAmY7PhCfg==\r\n\r\n"
        )
        sockets.socket.sendall(head.encode())
        sockets.socket.sendall(body)
        status, headers, answer = _answer(sockets.socket)
        while len(answer) < int(headers.get("content-length", "0")):
            answer += sockets.socket.recv(65536)
        if status != 200:
            raise ConnectionError(f"{method} {path}?{query}: {status} {answer!r}")
        return headers, answer

    started = time.perf_counter()
    upload = ask("POST", "uploads=")[1].partition(b"<UploadId>")[2].partition(b"</UploadId>")[0].decode()
    tags: dict[int, str] = {}

    def send(offset: int, length: int) -> int:
        number = offset // PIECE + 1
        query = f"partNumber={number}&uploadId={upload}"
        tags[number] = ask("PUT", query, memoryview(data)[:length])[0]["etag"]
        return length

    _in_parallel(int(size), send)
    parts = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{tags[number]}</ETag></Part>"
        for number in sorted(tags)
    )
    body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>"
    ask("POST", f"uploadId={upload}", body.encode())
    return {"seconds": time.perf_counter() - started}


def _answer(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Return status and headers of an answer, and what came of its body with them."""
    data = b""
    while b"\r\n\r\n" not in data:
        got = connection.recv(65536)
        if not got:
            raise ConnectionError("the server hung up")
        data += got
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    return int(lines[0].split()[1]), headers, body


def _in_parallel(size: int, one: Callable[[int, int], int]) -> Found:
    pieces = [(offset, min(PIECE, size - offset)) for offset in range(0, size, PIECE)]
    done: list[int] = []
    pending = iter(pieces)
    turn = threading.Lock()

    def worker() -> None:
        while True:
            with turn:
                piece = next(pending, None)
            if piece is None:
                return
            done.append(one(*piece))

    started = time.perf_counter()
    threads = [threading.Thread(target=worker) for _ in range(STREAMS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"seconds": time.perf_counter() - started, "found": sum(done)}


WORK = {each.__name__: each for each in (read, write, at_random, create, read_small, stat, command, get, put)}


if __name__ == "__main__":
    print(json.dumps(WORK[sys.argv[1]](*sys.argv[2:])))
