"""How long anything may take on the wire, and what ends it."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from cosfs.client import session
from cosfs.client.body import FileBody
from cosfs.client.client import CosClient
from cosfs.client.crc64 import crc64
from cosfs.config import ClientSettings
from cosfs.errors import (
    AlreadyExistsError,
    COSError,
    IntegrityError,
    NetworkError,
    NetworkTimeoutError,
)
from tests.client.conftest import Start
from tests.client.scripted import DATA, Answer, B, Request, ScriptedServer, error, stored, whole
from tests.waiting import until


def test_silence_ends_a_request(script: Start) -> None:
    _, client = script(Answer(delay=100), read_timeout=0.2, max_retries=0)
    with pytest.raises(NetworkTimeoutError, match="did not answer in time"):
        client.head_object(B, "k")


def test_silence_ends_a_body(script: Start) -> None:
    answer = whole()
    answer.cut, answer.end = 1000, "stall"
    _, client = script(answer, read_timeout=0.2, max_retries=0)
    with pytest.raises(NetworkTimeoutError), client.get_object(B, "k") as stream:
        b"".join(stream.chunks())


def test_drops_of_an_answer_do_not_go_on_for_ever(script: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "TIME_LIMIT", 0.5)
    stop = threading.Event()

    def drip(request: Request) -> Answer:
        stop.wait(60)
        return Answer()

    _, client = script(drip, read_timeout=200, max_retries=0)
    with pytest.raises(NetworkTimeoutError):
        client.head_object(B, "k")
    stop.set()


def test_cancel_wakes_a_waiting_request(script: Start) -> None:
    server, client = script(Answer(delay=100))
    _check_that_cancel_wakes(server, client, lambda: client.head_object(B, "k"))


def test_cancel_wakes_a_back_off(script: Start) -> None:
    server, client = script(error(503, "SlowDown", Retry_After="20"))
    _check_that_cancel_wakes(server, client, lambda: client.head_object(B, "k"))


def test_cancel_wakes_a_body(script: Start) -> None:
    answer = whole()
    answer.cut, answer.end = 1000, "stall"
    server, client = script(answer, read_timeout=20)
    _check_that_cancel_wakes(server, client, lambda: client.get_range(B, "k", 0, len(DATA)))


def _check_that_cancel_wakes(server: ScriptedServer, client: CosClient, call: Callable[[], object]) -> None:
    """Cancel a call that would go on for 20 seconds; it must end before, with NetworkError."""
    caught: list[BaseException] = []

    def work() -> None:
        try:
            call()
        except BaseException as raised:
            caught.append(raised)

    thread = threading.Thread(target=work)
    thread.start()
    until(lambda: server.requests, "the server has the request")
    time.sleep(0.1)  # it may also have answered by then
    client.cancel()
    thread.join(15)
    assert not thread.is_alive()
    assert isinstance(caught[0], NetworkError)
    with pytest.raises(NetworkError, match="cancelled"):
        client.list_objects(B)


class Held(FileBody):
    """A body that is held back, as by a limit of bandwidth."""

    def chunks(self, size: int = 4096) -> Iterator[memoryview]:
        for chunk in super().chunks(4096):
            time.sleep(0.25)
            yield chunk


def test_body_that_is_held_back_has_its_time(
    script: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "TIME_LIMIT", 1.5)
    monkeypatch.setattr(session, "SLOWEST", 1e12)
    path = tmp_path / "file"
    path.write_bytes(DATA[:40_960])
    server, client = script(stored)
    sums = {"content_md5": hashlib.md5(DATA[:40_960]).digest(), "crc64": crc64(DATA[:40_960])}
    with Held(path, 0, 40_960) as body:
        client.put_object(B, "k", body, **sums)
    assert server.requests[0].body == DATA[:40_960]


def test_slow_line_is_not_a_silent_one() -> None:
    """A server that takes three seconds for what is sent, with little of that between two reads."""
    size = 4_000_000
    pauses: list[float] = []
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                received = len(connection.recv(65536).partition(b"\r\n\r\n")[2])
                while received < size:
                    began = time.monotonic()
                    time.sleep(0.05)
                    data = connection.recv(65536)
                    pauses.append(time.monotonic() - began)
                    if not data:
                        return
                    received += len(data)
                answer = "HTTP/1.1 200 OK\r\nx-cos-request-id: x\r\nContent-Length: 0\r\nETag: e\r\n\r\n"
                connection.sendall(answer.encode())

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        started = time.monotonic()
        try:
            with _client(url, read_timeout=2.0) as client:
                assert client.put_object(B, "k", bytes(size)).etag == "e"
            assert time.monotonic() - started > 2.0
        except NetworkTimeoutError:
            thread.join()
            if max(pauses) < 1.0:  # otherwise the machine stood still, which is silence indeed
                raise
        thread.join()


def test_file_that_cannot_be_read_is_no_trouble_of_the_network(script: Start, tmp_path: Path) -> None:
    _, client = script(stored)
    body = FileBody(tmp_path.parent, 0, 10)
    with body, pytest.raises(COSError, match="the file cannot be read: Is a directory") as caught:
        client.put_object(B, "k", body, content_md5=bytes(16), crc64=0)
    assert not isinstance(caught.value, NetworkError)
    assert client.stats.retries == 0


def test_file_that_shrinks_while_it_is_sent(script: Start, tmp_path: Path) -> None:
    server, client = script(stored)
    path = tmp_path / "file"
    path.write_bytes(DATA)
    with FileBody(path, 0, len(DATA) + 1) as body, pytest.raises(IntegrityError, match="shorter"):
        client.put_object(B, "k", body, content_md5=bytes(16), crc64=0)
    assert server.requests == []


def test_lost_answers_about_buckets_are_made_up_for(script: Start) -> None:
    lost = Answer(raw=b"", end="close")
    _, client = script(lost, error(409, "BucketAlreadyOwnedByYou"))
    client.create_bucket(B)
    _, client = script(lost, error(404, "NoSuchBucket"))
    client.delete_bucket(B)
    _, client = script(error(409, "BucketAlreadyOwnedByYou"))
    with pytest.raises(AlreadyExistsError):
        client.create_bucket(B)


def _client(url: str, **settings: float | str | bool) -> CosClient:
    return CosClient(ClientSettings(endpoint_url=url, max_retries=0, **settings), None)  # type: ignore[arg-type]
