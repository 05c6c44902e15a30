"""Requests written by hand, and emulators in processes of their own."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qcloud_cos import CosConfig, CosS3Client

from cosfs.emulator import Emulator

SERVE = """
import pathlib, sys
from cosfs.emulator import serve
def ready(info):
    print(info.endpoint_url, info.secret_id, info.secret_key, flush=True)

serve(pathlib.Path(sys.argv[1]), buckets=["b"], ready=ready, log_requests="--log" in sys.argv)
"""


@contextmanager
def connected(emulator: Emulator) -> Iterator[socket.socket]:
    host, _, port = emulator.endpoint_url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=100) as connection:
        yield connection


def exchange(emulator: Emulator, request: bytes) -> bytes:
    """Send bytes and read until the server closes."""
    with connected(emulator) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def head(bucket: str, method: str, target: str, *lines: str) -> bytes:
    more = "".join(line + "\r\n" for line in lines)
    return f"{method} {target} HTTP/1.1\r\nHost: {bucket}.x\r\nConnection: close\r\n{more}\r\n".encode()


def sdk_at(port: int, key_id: str, key: str) -> CosS3Client:
    address = {"IP": "127.0.0.1", "Port": port, "ServiceDomain": f"127.0.0.1:{port}"}
    config = CosConfig(Region="ap-guangzhou", SecretId=key_id, SecretKey=key, Scheme="http", **address)
    return CosS3Client(config, retry=0)


@contextmanager
def running(data: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str, str, str]]:
    """Serve a data directory in a process of its own."""
    command = [sys.executable, "-c", SERVE, str(data), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            url, key_id, key = process.stdout.readline().split()
            yield process, url, key_id, key
        finally:
            process.kill()
