"""What goes out and comes in, and what happens when it does not, on a real socket."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import pytest

from cosfs.client.body import FileBody
from cosfs.client.crc64 import crc64
from cosfs.client.endpoint import Address
from cosfs.client.model import Headers, Part, Upload
from cosfs.client.wire import Limits
from cosfs.errors import (
    NetworkError,
    NotCosError,
    PreconditionFailedError,
    ServiceError,
)
from tests.client.conftest import Start
from tests.client.scripted import DATA, Answer, B, Request, error, stored, whole


def ranged(request: Request) -> Answer:
    """Answer a GET of DATA with the range it asks for."""
    text = request.headers.get("range", "")
    if not text:
        return whole()
    first, _, last = text.removeprefix("bytes=").partition("-")
    start, stop = int(first), min(int(last or len(DATA) - 1) + 1, len(DATA))
    piece = DATA[start:stop]
    more = {
        "ETag": '"etag"',
        "x-cos-hash-crc64ecma": str(crc64(DATA)),
        "Content-Range": f"bytes {start}-{stop - 1}/{len(DATA)}",
    }
    return Answer(206, piece, more)


# --- what goes out
def test_request_target_is_sent_verbatim(script: Start) -> None:
    server, client = script(stored)
    for key in ("a/../b", ".", "//x", "/y", "a b?c#d", "%41"):
        client.put_object(B, key, b"")
    assert [request.target for request in server.requests] == [
        f"/{B}/{path}" for path in ("a/%2E%2E/b", "%2E", "//x", "/y", "a%20b%3Fc%23d", "%2541")
    ]


def test_put_carries_its_checksum_and_a_signature(script: Start, tmp_path: Path) -> None:
    server, client = script(stored)
    path = tmp_path / "file"
    path.write_bytes(DATA)
    with FileBody(path, 0, len(DATA)) as body:
        for shape in (b"", b"hello", DATA, memoryview(DATA), body):
            client.put_object(B, "k", shape, headers=Headers(content_type="text/plain"))
    bodies = [request.body for request in server.requests]
    assert bodies == [b"", b"hello", DATA, DATA, DATA]
    hello = server.requests[1].headers
    assert hello["content-md5"] == "XUFAKrxLKna5cZ2REBfFkg=="
    assert hello["content-length"] == "5"
    assert hello["host"] == f"127.0.0.1:{server.port}"
    assert "q-header-list=content-md5;content-type;host&" in hello["authorization"]


def test_connection_is_kept_between_requests(script: Start) -> None:
    server, client = script(ranged)
    client.head_object(B, "k")
    client.get_range(B, "k", 0, 100_000)
    with client.get_object(B, "k") as stream:
        assert b"".join(stream.chunks()) == DATA
    client.head_object(B, "k")
    assert server.connections == 1


def test_closing_a_body_early_does_not_disturb_the_next_request(script: Start) -> None:
    server, client = script(ranged)
    stream = client.get_object(B, "k")
    assert len(stream.read_some(10)) == 10
    stream.close()
    stream.close()
    assert client.get_range(B, "k", 5, 10)[1] == DATA[5:10]
    assert client.head_object(B, "k") is not None
    assert server.connections == 2


def test_error_answers_leave_the_connection_usable(script: Start) -> None:
    server, client = script(error(404, "NoSuchKey"), whole())
    with pytest.raises(ServiceError):
        client.get_object(B, "k")
    client.get_object(B, "k").close()
    assert server.connections == 1


def test_many_threads_share_a_client(script: Start) -> None:
    server, client = script(ranged)
    results: list[bool] = []

    def work() -> None:
        for _ in range(20):
            start = random.randrange(200_000)
            results.append(client.get_range(B, "k", start, start + 1000)[1] == DATA[start : start + 1000])

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 160
    assert server.connections <= 8


# --- stale connections
def test_connection_closed_while_idle_is_replaced(script: Start) -> None:
    server, client = script(Answer(end="close", headers={"Content-Length": "0"}), whole())
    client.head_object(B, "k")
    time.sleep(0.05)
    assert client.head_object(B, "k") is not None
    assert client.stats.retries == 0
    assert server.connections == 2


def test_connection_closed_under_the_request_is_tried_again_at_once(script: Start) -> None:
    hang_up = Answer(raw=b"", end="close")
    server, client = script(whole(b""), hang_up, whole(b""), max_retries=0)
    client.head_object(B, "k")
    assert client.head_object(B, "k") is not None
    assert server.connections == 2


def test_connections_from_before_the_machine_slept_are_not_used(
    script: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, client = script(whole(b""))
    client.head_object(B, "k")
    client.head_object(B, "k")
    assert server.connections == 1
    clock = time.clock_gettime
    monkeypatch.setattr(time, "clock_gettime", lambda which: clock(which) + 3600.0)
    client.head_object(B, "k")
    assert server.connections == 2


def test_when_one_connection_falls_silent_the_others_are_given_up(script: Start) -> None:
    def answer(request: Request) -> Answer:
        return Answer(raw=b"", end="stall") if request.connection <= 3 else whole(b"")

    server, client = script(answer, read_timeout=0.5)
    transport = client._session.transport
    address = Address("http", "127.0.0.1", server.port, f"127.0.0.1:{server.port}", "/", "/")
    limits = Limits(10.0, time.monotonic() + 10.0)
    for connection in [transport.take(address, limits) for _ in range(3)]:
        transport.give_back(connection, {})
    assert client.head_object(B, "k") is not None
    assert sum(request.connection <= 3 for request in server.requests) == 1


# --- bodies that break
@pytest.mark.parametrize("end", ["close", "reset"])
def test_truncated_stream_is_never_silently_short(script: Start, end: str) -> None:
    answer = whole()
    answer.cut, answer.end = 100_000, end
    _, client = script(answer)
    with pytest.raises(NetworkError), client.get_object(B, "k") as stream:
        b"".join(stream.chunks())
    buffer = memoryview(bytearray(1 << 20))
    with pytest.raises(NetworkError), client.get_object(B, "k") as stream:
        while stream.read_into(buffer):
            pass


def test_get_range_goes_on_where_the_body_broke(script: Start) -> None:
    def breaking(request: Request) -> Answer:
        answer = ranged(request)
        answer.cut, answer.end = 50_000, "reset"
        return answer

    server, client = script(breaking, breaking, ranged)
    info, data = client.get_range(B, "k", 1000, 250_000)
    assert data == DATA[1000:250_000]
    assert info.crc64 == crc64(DATA)
    starts = [int(request.headers["range"][6:].split("-")[0]) for request in server.requests]
    assert starts == sorted(starts)
    assert starts[0] == 1000 < starts[-1]
    assert [request.headers.get("if-match") for request in server.requests] == [None, '"etag"', '"etag"']


def test_object_replaced_under_a_broken_body_is_noticed(script: Start) -> None:
    def breaking(request: Request) -> Answer:
        answer = ranged(request)
        answer.cut, answer.end = 50_000, "close"
        return answer

    _, client = script(breaking, error(412, "PreconditionFailed"))
    with pytest.raises(PreconditionFailedError):
        client.get_range(B, "k", 0, 250_000)


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Range": "bytes 5-104/300000"},
        {"Content-Range": "bytes 0-98/300000"},
        {"Content-Range": "bytes 0-200/300000"},
        {"Content-Range": "bytes 0-99/50"},
        {"Content-Range": "nonsense"},
        {},
    ],
)
def test_other_bytes_than_asked_for_are_refused(script: Start, headers: dict[str, str]) -> None:
    _, client = script(Answer(206, DATA[:100], {"ETag": '"e"', **headers}), max_retries=0)
    with pytest.raises(NetworkError):
        client.get_object(B, "k", start=0, stop=100)


def test_ignored_range_is_refused_unless_it_is_all(script: Start) -> None:
    _, client = script(whole(b"0123456789"), max_retries=0)
    assert client.get_range(B, "k", 0, 10)[1] == b"0123456789"
    assert client.get_range(B, "k", 0, 100)[1] == b"0123456789"
    for start, stop in ((0, 5), (5, 10)):
        with pytest.raises(NotCosError):
            client.get_range(B, "k", start, stop)


def test_body_without_a_length_is_refused(script: Start) -> None:
    head = f'HTTP/1.1 200 OK\r\nx-cos-request-id: x\r\nETag: "e"\r\n\r\n{"x" * 100}'
    _, client = script(Answer(raw=head.encode(), end="close"), max_retries=0)
    with pytest.raises(NotCosError, match="how large"):
        client.get_object(B, "k")


def test_chunked_answers(script: Start) -> None:
    xml = b"<CompleteMultipartUploadResult><ETag>&quot;e-1&quot;</ETag></CompleteMultipartUploadResult>"
    chunks = b'5;ext=1\r\n<?xml\r\n11\r\n version="1.0"?>\n\r\n3\r\n   \r\n'
    chunks += b"%x\r\n%s\r\n0\r\nTrailer: x\r\n\r\n" % (len(xml), xml)
    server, client = script(
        Answer(200, chunks, {"Transfer-Encoding": "chunked", "x-cos-hash-crc64ecma": "1"}), whole(b"")
    )
    result = client.complete_upload(Upload(B, "k", "id"), [Part(1, "e", 1)])
    assert (result.etag, result.crc64) == ("e-1", 1)
    client.head_object(B, "k")
    assert server.connections == 1


def test_chunked_body_that_breaks_off(script: Start) -> None:
    _, client = script(
        Answer(200, b"ff\r\nonly this", {"Transfer-Encoding": "chunked"}, end="close"), max_retries=0
    )
    with pytest.raises(NetworkError, match="broke off"):
        client.list_objects(B)
