"""What goes out and comes in, and what happens when it does not, on a real socket."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cosfs.client import session
from cosfs.client.body import FileBody
from cosfs.client.client import CosClient
from cosfs.client.crc64 import crc64
from cosfs.client.model import Headers, Part, Upload
from cosfs.config import ClientSettings
from cosfs.errors import (
    AlreadyExistsError,
    CertificateError,
    COSError,
    IntegrityError,
    NetworkError,
    NetworkTimeoutError,
    NotCosError,
    PreconditionFailedError,
    ServerError,
    ServiceError,
)
from tests.client.scripted import Answer, Request, ScriptedServer, error

Start = Callable[..., tuple[ScriptedServer, CosClient]]
B = "b-1250000000"
DATA = random.Random(1).randbytes(300_000)
UNAVAILABLE = error(503, "SlowDown")


def whole(data: bytes = DATA, **more: str) -> Answer:
    return Answer(200, data, {"ETag": '"etag"', "x-cos-hash-crc64ecma": str(crc64(data)), **more})


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


def stored(request: Request) -> Answer:
    return Answer(200, b"", {"ETag": '"etag"', "x-cos-hash-crc64ecma": str(crc64(request.body))})


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


# --- retries on the wire


@pytest.mark.parametrize(
    "bad",
    [
        UNAVAILABLE,
        error(500, "InternalError"),
        Answer(502, b"<html>bad gateway</html>", from_cos=False),
        error(409, "PathConflict"),
        error(409, "UploadConflict"),
        error(400, "RequestTimeout"),
        error(400, "BadDigest"),
        error(400, "IncompleteBody"),
        error(408, "Whatever"),
        error(429, "Whatever"),
        Answer(raw=b"", end="close"),
        Answer(raw=b"", end="reset"),
        Answer(raw=b"HTTP/1.1 20", end="close"),
    ],
    ids=lambda answer: f"{answer.status}-{answer.end}-{answer.body[60:90]!r}",
)
def test_passing_trouble_is_repeated_with_the_whole_body(script: Start, tmp_path: Path, bad: Answer) -> None:
    server, client = script(bad, stored)
    path = tmp_path / "file"
    path.write_bytes(DATA)
    with FileBody(path, 0, len(DATA)) as body:
        client.put_object(B, "k", body)
    assert server.requests[-1].body == DATA
    assert client.stats.retries == 1


@pytest.mark.parametrize(
    "bad",
    [
        error(403, "AccessDenied"),
        error(404, "NoSuchKey"),
        error(409, "FileAlreadyExists"),
        error(400, "InvalidArgument"),
        error(412, "PreconditionFailed"),
        error(501, "NotImplemented"),
        error(416, "InvalidRange"),
    ],
    ids=lambda answer: str(answer.status),
)
def test_lasting_trouble_is_not_repeated(script: Start, bad: Answer) -> None:
    server, client = script(bad)
    with pytest.raises(ServiceError):
        client.put_object(B, "k", b"data")
    assert len(server.requests) == 1


def test_damage_on_the_way_is_repeated_once(script: Start) -> None:
    server, client = script(error(400, "BadDigest"))
    with pytest.raises(ServiceError, match="BadDigest"):
        client.put_object(B, "k", b"data")
    assert len(server.requests) == 2


def test_retries_end(script: Start) -> None:
    server, client = script(UNAVAILABLE, max_retries=2)
    with pytest.raises(ServiceError, match="fewer requests"):
        client.list_objects(B)
    assert len(server.requests) == 3
    assert client.stats.snapshot()["requests"] == {"ListObjects": 3}


def test_retry_after_is_honoured(script: Start) -> None:
    _, client = script(error(503, "SlowDown", Retry_After="1"), whole(b""))
    started = time.monotonic()
    client.head_object(B, "k")
    assert time.monotonic() - started >= 1.0


@pytest.mark.parametrize("root", ["CopyObjectResult", "CopyPartResult"])
def test_error_inside_a_successful_copy_is_an_error(script: Start, root: str) -> None:
    failing = error(200, "InternalError")
    server, client = script(failing, Answer(200, f'<{root}><ETag>"e"</ETag></{root}>'.encode()))
    if root == "CopyObjectResult":
        assert client.copy_object(B, "k", B, "s").etag == "e"
    else:
        assert client.upload_part_copy(Upload(B, "k", "id"), 1, B, "s", 0, 10).etag == "e"
    assert len(server.requests) == 2
    server.answers.append(error(200, "AccessDenied"))
    server.answers.popleft()
    with pytest.raises(ServiceError, match="access denied"):
        client.copy_object(B, "k", B, "s")


def test_lost_answer_to_complete_is_looked_into(script: Start) -> None:
    parts = [Part(1, "e1", 6, crc64(b"hello ")), Part(2, "e2", 5, crc64(b"world"))]
    server, client = script(
        Answer(raw=b"", end="close"), error(404, "NoSuchUpload"), whole(b"hello world"), max_retries=1
    )
    result = client.complete_upload(Upload(B, "k", "id"), parts)
    assert result.crc64 == crc64(b"hello world")
    assert [request.method for request in server.requests] == ["POST", "POST", "HEAD"]
    for answers in (
        [error(404, "NoSuchUpload"), whole(b"hello world")],  # nothing was lost
        [Answer(raw=b"", end="close"), error(404, "NoSuchUpload"), whole(b"hello earth")],
        [Answer(raw=b"", end="close"), error(404, "NoSuchUpload"), error(404, "NoSuchKey")],
    ):
        _, client = script(*answers, max_retries=1)
        with pytest.raises(ServiceError, match="NoSuchUpload"):
            client.complete_upload(Upload(B, "k", "id"), parts)


def test_lost_answer_to_exclusive_put_is_looked_into(script: Start) -> None:
    lost, exists = Answer(raw=b"", end="close"), error(409, "FileAlreadyExists")
    ours = whole(b"data", **{"x-cos-meta-mtime-ns": "5"})
    headers = Headers(metadata={"mtime-ns": "5"})
    _, client = script(lost, exists, ours)
    assert client.put_object(B, "k", b"data", headers=headers, forbid_overwrite=True).etag == "etag"
    for answers in ([exists, ours], [lost, exists, whole(b"data")], [lost, exists, whole(b"atad")]):
        _, client = script(*answers)
        with pytest.raises(ServiceError, match="FileAlreadyExists"):
            client.put_object(B, "k", b"data", headers=headers, forbid_overwrite=True)


def test_early_refusal_of_a_long_body_is_read(script: Start) -> None:
    refusal = error(403, "AccessDenied")
    refusal.before_body, refusal.end = True, "close"
    _, client = script(refusal, max_retries=0)
    with pytest.raises((ServiceError, NetworkError)) as caught:
        client.put_object(B, "k", bytes(64 << 20))
    # A reset may overtake the answer on its way; then the network is to blame.
    assert isinstance(caught.value, NetworkError) or "access denied" in str(caught.value)


def test_wrong_checksum_in_the_answer_is_noticed(script: Start) -> None:
    _, client = script(Answer(200, b"", {"ETag": '"e"', "x-cos-hash-crc64ecma": "5"}))
    with pytest.raises(IntegrityError):
        client.put_object(B, "k", b"data")
    with pytest.raises(IntegrityError):
        client.upload_part(Upload(B, "k", "id"), 1, b"data")


# --- time


def test_silence_ends_a_request(script: Start) -> None:
    _, client = script(Answer(delay=5), read_timeout=0.2, max_retries=0)
    started = time.monotonic()
    with pytest.raises(NetworkTimeoutError, match="did not answer in time"):
        client.head_object(B, "k")
    assert time.monotonic() - started < 2


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
        stop.wait(3)
        return Answer()

    _, client = script(drip, read_timeout=10, max_retries=0)
    started = time.monotonic()
    with pytest.raises(NetworkTimeoutError):
        client.head_object(B, "k")
    stop.set()
    assert time.monotonic() - started < 2


def test_cancel_wakes_a_waiting_request(script: Start) -> None:
    _, client = script(Answer(delay=10))
    assert _seconds_to_cancel(client, lambda: client.head_object(B, "k")) < 2


def test_cancel_wakes_a_back_off(script: Start) -> None:
    _, client = script(error(503, "SlowDown", Retry_After="20"))
    assert _seconds_to_cancel(client, lambda: client.head_object(B, "k")) < 2


def test_cancel_wakes_a_body(script: Start) -> None:
    answer = whole()
    answer.cut, answer.end = 1000, "stall"
    _, client = script(answer, read_timeout=20)
    assert _seconds_to_cancel(client, lambda: client.get_range(B, "k", 0, len(DATA))) < 2


def _seconds_to_cancel(client: CosClient, call: Callable[[], object]) -> float:
    """Return how long after cancel() a call ends, which must be with NetworkError."""
    caught: list[BaseException] = []

    def work() -> None:
        try:
            call()
        except BaseException as raised:
            caught.append(raised)

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(0.3)
    started = time.monotonic()
    client.cancel()
    thread.join(10)
    assert isinstance(caught[0], NetworkError)
    with pytest.raises(NetworkError, match="cancelled"):
        client.list_objects(B)
    return time.monotonic() - started


class Held(FileBody):
    """A body that is held back, as by a limit of bandwidth."""

    def chunks(self, size: int = 4096) -> Iterator[memoryview]:
        for chunk in super().chunks(4096):
            time.sleep(0.1)
            yield chunk


def test_body_that_is_held_back_has_its_time(
    script: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "TIME_LIMIT", 0.4)
    monkeypatch.setattr(session, "SLOWEST", 1e12)
    path = tmp_path / "file"
    path.write_bytes(DATA[:40_960])
    server, client = script(stored)
    with Held(path, 0, 40_960) as body:
        client.put_object(B, "k", body)
    assert server.requests[0].body == DATA[:40_960]


def test_slow_line_is_not_a_silent_one() -> None:
    """A server that takes a second for what is sent, with less than half of that between two reads."""
    size = 4_000_000
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                received = len(connection.recv(65536).partition(b"\r\n\r\n")[2])
                while received < size:
                    time.sleep(0.02)
                    received += len(connection.recv(65536))
                answer = "HTTP/1.1 200 OK\r\nx-cos-request-id: x\r\nContent-Length: 0\r\nETag: e\r\n\r\n"
                connection.sendall(answer.encode())

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        started = time.monotonic()
        with _client(url, read_timeout=0.5) as client:
            assert client.put_object(B, "k", bytes(size)).etag == "e"
        assert time.monotonic() - started > 0.7
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


# --- not COS, or nothing at all


@pytest.mark.parametrize(
    "answer",
    [
        Answer(
            200, b"<html>Sign in to the hotel network</html>", {"Content-Type": "text/html"}, from_cos=False
        ),
        Answer(302, b"", {"Location": "http://portal.example/"}, from_cos=False),
        Answer(404, b"<html>not found</html>", {"Content-Type": "text/html"}, from_cos=False),
        Answer(403, b"", from_cos=False),
        Answer(407, b"", from_cos=False),
        Answer(raw=b"SSH-2.0-OpenSSH_9.2\r\n", end="close"),
        Answer(raw=b"\x15\x03\x01\x00\x02\x02\x50", end="close"),
        Answer(raw=b"HTTP/2 200\r\n\r\n", end="close"),
        Answer(raw=b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n", end="close"),
        Answer(raw=b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", end="close"),
    ],
    ids=lambda answer: f"{answer.status}-{(answer.raw or answer.body)[:20]!r}",
)
def test_answers_of_others_are_not_taken_for_objects(script: Start, answer: Answer) -> None:
    server, client = script(answer)
    for call in (
        lambda: client.get_range(B, "k", 0, 10),
        lambda: client.head_object(B, "k"),
        lambda: client.list_objects(B),
        lambda: client.put_object(B, "k", b"x"),
    ):
        with pytest.raises(NotCosError):
            call()
    # None was sent again; that a connection turned out to be closed before is something else.
    assert len(server.requests) == 4


def test_gateway_without_its_server(script: Start) -> None:
    _, client = script(Answer(502, b"<html></html>", from_cos=False), max_retries=1)
    with pytest.raises(ServerError, match="not COS that did"):
        client.list_objects(B)


def test_unreadable_document(script: Start) -> None:
    _, client = script(Answer(200, b"<ListBucketResult><Contents>"))
    with pytest.raises(ServiceError, match="cannot be read"):
        client.list_objects(B)


def _client(url: str, **settings: float | str | bool) -> CosClient:
    return CosClient(ClientSettings(endpoint_url=url, max_retries=0, **settings), None)  # type: ignore[arg-type]


def test_refused_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with _client(f"http://127.0.0.1:{port}") as client, pytest.raises(NetworkError) as caught:
        client.list_buckets()
    assert str(caught.value).startswith(f"127.0.0.1:{port} refuses connections. Check endpoint_url")


def test_unknown_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with _client("http://nowhere.invalid") as client, pytest.raises(NetworkError) as caught:
        client.list_buckets()
    assert "the name of nowhere.invalid cannot be resolved" in str(caught.value)


def test_connection_that_is_never_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        crowd = [socket.socket() for _ in range(4)]
        for each in crowd:
            each.setblocking(False)
            each.connect_ex(listener.getsockname())
        with _client(url, connect_timeout=0.3) as client, pytest.raises(NetworkTimeoutError, match="in time"):
            client.list_buckets()
        for each in crowd:
            each.close()


def test_tls_towards_plain_http(script: Start) -> None:
    server, _ = script(Answer(400, b"<html>", from_cos=False))
    url = server.url.replace("http:", "https:")
    with _client(url) as client, pytest.raises(NetworkError) as caught:
        client.list_buckets()
    assert isinstance(caught.value, NotCosError | CertificateError)


# --- proxies


def test_plain_http_is_forwarded_by_a_proxy(script: Start) -> None:
    proxy, _ = script(whole(b""))
    settings = ClientSettings(
        endpoint_url="http://cos.ap-x.myqcloud.com", proxy=f"http://me:p%40ss@127.0.0.1:{proxy.port}"
    )
    with CosClient(settings, None) as client:
        client.head_object(B, "a/../b")
    (request,) = proxy.requests
    assert request.target == f"http://{B}.cos.ap-x.myqcloud.com/a/%2E%2E/b"
    assert request.headers["host"] == f"{B}.cos.ap-x.myqcloud.com"
    assert request.headers["proxy-authorization"] == "Basic bWU6cEBzcw=="


def test_proxy_that_refuses_a_tunnel(script: Start) -> None:
    proxy, _ = script(Answer(407, b"", from_cos=False))
    settings = ClientSettings(region="ap-x", proxy=proxy.url, max_retries=0)
    with CosClient(settings, None) as client, pytest.raises(NotCosError, match=r"refuses to connect.*407"):
        client.head_object(B, "k")
    assert proxy.requests[0].method == "CONNECT"
    assert proxy.requests[0].target == f"{B}.cos.ap-x.myqcloud.com:443"


def test_loopback_has_no_proxy(script: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    server, client = script(whole(b""))
    client.head_object(B, "k")
    assert len(server.requests) == 1


def test_environment_names_the_proxy(script: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy, _ = script(whole(b""))
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.setenv("no_proxy", "internal.example")
    with CosClient(ClientSettings(endpoint_url="http://cos.ap-x.example"), None) as client:
        client.head_object(B, "k")
    assert len(proxy.requests) == 1
    with (
        CosClient(ClientSettings(endpoint_url="http://internal.example", max_retries=0), None) as client,
        pytest.raises(NetworkError),
    ):
        client.head_object(B, "k")
    assert len(proxy.requests) == 1
