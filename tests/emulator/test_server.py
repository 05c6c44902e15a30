"""The socket: wire spelling, odd HTTP, big bodies."""

from __future__ import annotations

import http.client
import os
import socket
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
import requests

from cosfs.emulator import Emulator
from cosfs.emulator.digests import crc64
from tests.emulator.conftest import sdk_for
from tests.emulator.wire import connected, exchange, head, running, sdk_at


def test_header_names_have_their_spelling(served: Emulator, public: str) -> None:
    answer = exchange(served, head(public, "PUT", "/k", "Content-Length: 1", "x-cos-meta-a: \xe9") + b"x")
    start = answer.partition(b"\r\n\r\n")[0].decode("latin-1")
    names = [line.partition(":")[0] for line in start.split("\r\n")[1:]]
    assert {"ETag", "x-cos-hash-crc64ecma", "x-cos-request-id", "Date", "Server", "Content-Length"} <= set(
        names
    )
    assert len(names) == len(set(names))
    assert start.startswith("HTTP/1.1 200 OK\r\n")


def test_odd_requests_are_answered(served: Emulator, public: str) -> None:
    wait = head(public, "PUT", "/k", "Content-Length: 1", "Expect: 100-continue")
    with connected(served) as connection:
        connection.sendall(wait)
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"x")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200 OK")
    chunked = head(public, "PUT", "/k", "Transfer-Encoding: chunked") + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    assert exchange(served, chunked).startswith(b"HTTP/1.1 200 OK")
    assert exchange(served, head(public, "GET", "/k")).endswith(b"\r\n\r\nabcde")
    assert exchange(served, head(public, "HEAD", "/k")).endswith(b"\r\n\r\n")
    assert exchange(served, head(public, "DELETE", "/k")).startswith(b"HTTP/1.1 204 ")
    assert exchange(served, head(public, "PUT", "/k")).startswith(b"HTTP/1.1 411 ")
    absolute = head("ignored", "PUT", f"http://{public}.cos.ap-x.myqcloud.com//x/../y", "Content-Length: 0")
    assert exchange(served, absolute).startswith(b"HTTP/1.1 200 OK")
    assert b"<Key>/x/../y</Key>" in exchange(served, head(public, "GET", "/"))
    assert b"400 Bad Request" in exchange(served, b"nonsense\r\n\r\n")
    assert b"<Code>InvalidURI</Code>" in exchange(served, head(public, "GET", "/%FF"))


def test_requests_may_follow_each_other_on_a_connection(served: Emulator, public: str) -> None:
    one = head(public, "PUT", "/k", "Content-Length: 2").replace(b"Connection: close\r\n", b"") + b"hi"
    two = head(public, "GET", "/k")
    answer = exchange(served, one * 20 + two)
    assert answer.count(b"HTTP/1.1 200 OK") == 21
    assert answer.endswith(b"hi")


def test_an_early_error_leaves_the_connection_usable(served: Emulator, public: str) -> None:
    address = served.endpoint_url.removeprefix("http://")
    connection = http.client.HTTPConnection(address, timeout=100)
    for _ in range(2):
        connection.request("PUT", "/k", b"x" * 5_000_000, {"Host": f"{public}.x", "Content-MD5": "nonsense"})
        answer = connection.getresponse()
        assert (answer.status, b"InvalidDigest" in answer.read()) == (400, True)
    connection.close()


def test_a_body_that_ends_early_is_forgotten(served: Emulator, public: str) -> None:
    with connected(served) as connection:
        connection.sendall(head(public, "PUT", "/k", "Content-Length: 5000000") + b"x" * 2_000_000)
    time.sleep(0.2)
    assert exchange(served, head(public, "GET", "/k")).startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize("length", ["Content-Length: 5000000", "Transfer-Encoding: chunked"])
def test_a_client_that_stops_early_is_told(served: Emulator, public: str, length: str) -> None:
    """The length may be unknown: what came is not taken for the whole."""
    with connected(served) as connection:
        data = b"200000\r\n" + b"x" * 2_000_000
        connection.sendall(head(public, "PUT", "/k", length) + data)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 400") and b"<Code>IncompleteBody</Code>" in answer
    assert exchange(served, head(public, "GET", "/k")).startswith(b"HTTP/1.1 404 ")


def test_large_bodies_stream_in_bounded_memory(tmp_path: Path) -> None:
    size, chunk = 300 << 20, os.urandom(1 << 20)
    with running(tmp_path / "data") as (process, url, key_id, key):
        assert process.pid
        port = int(url.rpartition(":")[2])
        sdk = sdk_at(port, key_id, key)
        sdk.put_bucket_acl(Bucket="b-1250000000", ACL="public-read-write")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        body = (chunk for _ in range(size >> 20))
        connection.request("PUT", "/k", body, {"Host": "b-1250000000.x", "Content-Length": str(size)})
        answer = connection.getresponse()
        answer.read()
        expected = 0
        for _ in range(size >> 20):
            expected = crc64(chunk, expected)
        assert answer.headers["x-cos-hash-crc64ecma"] == str(expected)
        connection.request("GET", "/k", headers={"Host": "b-1250000000.x"})
        answer, received = connection.getresponse(), 0
        while data := answer.read(1 << 20):
            received = crc64(data, received)
        assert received == expected
        connection.close()
        status = Path(f"/proc/{process.pid}/status").read_text()
        peak = int(status.partition("VmHWM:")[2].split()[0]) >> 10
        assert peak < 200, f"{peak} MiB"


def test_what_is_no_request_is_told_so_as_cos_does(served: Emulator, public: str) -> None:
    answer = exchange(served, b"nonsense\r\n\r\n")
    start, _, body = answer.partition(b"\r\n\r\n")
    assert start.startswith(b"HTTP/1.1 400 Bad Request") and b"x-cos-request-id: " in start
    assert ElementTree.fromstring(body).findtext("Code") == "InvalidRequest"


def test_a_head_without_end_is_cut_off(served: Emulator, public: str) -> None:
    with connected(served) as connection:
        connection.sendall(f"GET / HTTP/1.1\r\nHost: {public}.x\r\n".encode())
        sent = 0
        with pytest.raises(ConnectionError):
            while sent < 100_000_000:
                connection.sendall(b"x-cos-meta-a: b\r\n" * 1000)
                sent += 17_000
    assert sent < 50_000_000  # what sockets hold at most


def test_nonsense_behind_a_request_does_not_spoil_its_answer(served: Emulator, public: str) -> None:
    """The answer under way is finished, nothing is put into it, and the connection ends."""
    data = os.urandom(3_000_000)
    assert b"200 OK" in exchange(served, head(public, "PUT", "/k", f"Content-Length: {len(data)}") + data)
    one = head(public, "GET", "/k").replace(b"Connection: close\r\n", b"")
    answer = exchange(served, one + b"\0nonsense\r\n\r\n")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.partition(b"\r\n\r\n")[2] == data


def test_nonsense_inside_a_body_ends_the_request(served: Emulator, public: str) -> None:
    chunked = head(public, "PUT", "/half", "Transfer-Encoding: chunked") + b"3\r\nabc\r\nzz\r\n"
    assert b"<Code>InvalidRequest</Code>" in exchange(served, chunked)
    assert exchange(served, head(public, "GET", "/half")).startswith(b"HTTP/1.1 404 ")


def test_bodies_of_two_lengths_are_refused(served: Emulator, public: str) -> None:
    """What one server takes for a body must not be the next request of another."""
    for lines in (
        ("Content-Length: 1", "Transfer-Encoding: chunked"),
        ("Content-Length: 1", "Content-Length: 2"),
    ):
        answer = exchange(served, head(public, "PUT", "/smuggled", *lines) + b"0\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 400 ")


def test_requests_under_way_are_answered_in_order(served: Emulator, public: str) -> None:
    """Three at once on one connection, the first one slow and with a body."""
    served.faults.latency(0.2, "PutObject", count=1)
    keep = head(public, "PUT", "/k", "Content-Length: 3").replace(b"Connection: close\r\n", b"") + b"one"
    more = head(public, "GET", "/k").replace(b"Connection: close\r\n", b"")
    answer = exchange(served, keep + more + head(public, "GET", "/none"))
    first, second, third = answer.split(b"HTTP/1.1 ")[1:]
    assert first.startswith(b"200") and second.endswith(b"\r\n\r\none") and third.startswith(b"404")


def test_a_wish_to_upgrade_is_not_heard(served: Emulator, public: str) -> None:
    """curl --http2 asks for it; COS goes on in HTTP/1.1."""
    lines = ("Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA", "Content-Length: 3")
    wish = head(public, "PUT", "/k", *lines).replace(b": close", b": Upgrade, HTTP2-Settings")
    answer = exchange(served, wish + b"abc" + head(public, "GET", "/k"))
    assert answer.count(b"HTTP/1.1 200") == 2 and answer.endswith(b"\r\n\r\nabc")


def test_http_1_0_ends_the_connection(served: Emulator, public: str) -> None:
    exchange(served, head(public, "PUT", "/k", "Content-Length: 1") + b"x")
    answer = exchange(served, f"GET /k HTTP/1.0\r\nHost: {public}.x\r\n\r\n".encode())
    assert answer.endswith(b"\r\n\r\nx") and b"Connection: close" in answer


@pytest.mark.parametrize("host", ["::1", "localhost"])
def test_it_listens_on_ipv6(tmp_path: Path, host: str) -> None:
    with Emulator(tmp_path, host=host, buckets=["b"]) as emulator:
        emulator.put_objects("b-1250000000", [("k", b"data")])
        port = emulator.endpoint_url.rpartition(":")[2]
        client = sdk_for(emulator, IP="[::1]", ServiceDomain=f"[::1]:{port}")
        assert client.get_object(Bucket="b-1250000000", Key="k")["Body"].get_raw_stream().read() == b"data"
        assert client.list_buckets()["Buckets"]["Bucket"][0]["Name"] == "b-1250000000"
        if host == "localhost":
            assert sdk_for(emulator, IP="127.0.0.1").object_exists("b-1250000000", "k")
        else:
            assert emulator.endpoint_url == f"http://[::1]:{port}"


def test_a_default_bucket_serves_clients_that_lose_its_name(tmp_path: Path) -> None:
    """The Python SDK with Domain= names the bucket nowhere."""
    with Emulator(tmp_path, default_bucket="b") as emulator:
        port = emulator.endpoint_url.rpartition(":")[2]
        assert emulator.endpoint_url.startswith("http://localhost:")
        client = sdk_for(emulator, IP=None, Port=None, Domain=f"127.0.0.1:{port}")
        client.put_object(Bucket="b-1250000000", Key="b/k", Body=b"x")
        listed = client.list_objects(Bucket="b-1250000000")["Contents"]
        assert [each["Key"] for each in listed] == ["b/k"]
        by_path = requests.get(f"{emulator.endpoint_url}/b/b/k", timeout=90)
        assert by_path.status_code == 403 and emulator.requests.log()[-1].key == "b/k"
