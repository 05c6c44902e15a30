"""Files whose bytes the kernel sends."""

from __future__ import annotations

import errno
import os
import random
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cosfs.client.body import FileBody
from cosfs.client.client import CosClient
from cosfs.client.crc64 import crc64
from cosfs.config import ClientSettings
from cosfs.errors import COSError, IntegrityError, NetworkError, NetworkTimeoutError
from tests.client.conftest import Start
from tests.client.scripted import B, stored
from tests.client.test_waiting import Runner

DATA = random.Random(3).randbytes(3_000_000)


class Windowed(FileBody):
    """A body that leaves reading to the kernel."""

    def windows(self, size: int) -> Iterator[tuple[int, int]]:
        for start in range(self.offset, self.offset + self.length, size):
            yield start, min(size, self.offset + self.length - start)


@pytest.fixture
def body(tmp_path: Path) -> Iterator[Windowed]:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    with Windowed(path, 1000, 2_500_000) as made:
        yield made


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    def chunks(self: FileBody, size: int = 0) -> Iterator[memoryview]:
        raise AssertionError("the file was read")

    monkeypatch.setattr(FileBody, "chunks", chunks)


def client_to(listener: socket.socket, **settings: Any) -> CosClient:
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    return CosClient(ClientSettings(endpoint_url=url, max_retries=0, **settings), None)


def sums(data: bytes) -> dict[str, Any]:
    return {"content_md5": bytes(16), "crc64": crc64(data)}


@pytest.mark.parametrize("in_a_hub", [False, True])
def test_the_window_arrives(script: Start, body: Windowed, unread: None, in_a_hub: bool) -> None:
    server, client = script(stored)

    def put() -> None:
        client.put_object(B, "k", body, **sums(DATA[1000:2_501_000]))

    if in_a_hub:
        runner = Runner()
        runner.call(put)
        assert runner.wait(1) == [None]
        runner.close()
    else:
        put()
    assert server.requests[0].body == DATA[1000:2_501_000]


def test_what_the_kernel_cannot_send_is_read(
    script: Start, body: Windowed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sendfile(*args: object) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "sendfile", sendfile)
    server, client = script(stored)
    client.put_object(B, "k", body, **sums(DATA[1000:2_501_000]))
    assert server.requests[0].body == DATA[1000:2_501_000]


def test_a_file_that_has_become_shorter(script: Start, body: Windowed, tmp_path: Path) -> None:
    server, client = script(stored)
    os.truncate(tmp_path / "file", 1_000_000)
    with pytest.raises(IntegrityError, match="shorter"):
        client.put_object(B, "k", body, **sums(b""))
    assert server.requests == []


def test_a_directory_is_no_trouble_of_the_network(script: Start, tmp_path: Path) -> None:
    _, client = script(stored)
    with (
        Windowed(tmp_path, 0, 10) as body,
        pytest.raises(COSError, match="the file cannot be read") as caught,
    ):
        client.put_object(B, "k", body, **sums(b""))
    assert not isinstance(caught.value, NetworkError)


def test_a_server_that_reads_nothing(script: Start, tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(bytes(8_000_000))
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        Windowed(path, 0, 8_000_000) as body,
        client_to(listener, read_timeout=0.3) as client,
        pytest.raises(NetworkTimeoutError),
    ):
        client.put_object(B, "k", body, **sums(b""))


def test_a_server_that_hangs_up(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(bytes(8_000_000))
    with socket.create_server(("127.0.0.1", 0)) as listener, Windowed(path, 0, 8_000_000) as body:

        def hang_up() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                time.sleep(0.05)

        thread = threading.Thread(target=hang_up)
        thread.start()
        with client_to(listener) as client, pytest.raises(NetworkError, match="broke off"):
            client.put_object(B, "k", body, **sums(b""))
        thread.join()
