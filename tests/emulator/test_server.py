"""The socket: wire spelling, odd HTTP, big bodies."""

from __future__ import annotations

import http.client
import os
import time
from pathlib import Path

from cosfs.emulator import Emulator
from cosfs.emulator.digests import crc64
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
        assert b"200 OK" in connection.recv(1000)
    chunked = head(public, "PUT", "/k", "Transfer-Encoding: chunked") + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    assert b"200 OK" in exchange(served, chunked)
    assert exchange(served, head(public, "GET", "/k")).endswith(b"\r\n\r\nabcde")
    assert exchange(served, head(public, "HEAD", "/k")).endswith(b"\r\n\r\n")
    assert b"HTTP/1.1 204" in exchange(served, head(public, "DELETE", "/k"))
    assert b"411" in exchange(served, head(public, "PUT", "/k"))
    absolute = head("ignored", "PUT", f"http://{public}.cos.ap-x.myqcloud.com//x/../y", "Content-Length: 0")
    assert b"200 OK" in exchange(served, absolute)
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
    connection = http.client.HTTPConnection(address, timeout=10)
    for _ in range(2):
        connection.request("PUT", "/k", b"x" * 5_000_000, {"Host": f"{public}.x", "Content-MD5": "nonsense"})
        answer = connection.getresponse()
        assert (answer.status, b"InvalidDigest" in answer.read()) == (400, True)
    connection.close()


def test_a_body_that_ends_early_is_forgotten(served: Emulator, public: str) -> None:
    with connected(served) as connection:
        connection.sendall(head(public, "PUT", "/k", "Content-Length: 5000000") + b"x" * 2_000_000)
    time.sleep(0.2)
    assert b"404" in exchange(served, head(public, "GET", "/k"))


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
