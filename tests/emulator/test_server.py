"""The socket: wire spelling, odd HTTP, big bodies, faults on request, and how an emulator starts and ends."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from qcloud_cos import CosS3Client

from cosfs.emulator import Emulator, EmulatorError
from cosfs.emulator.digests import crc64
from tests.emulator.conftest import sdk_for

SERVE = """
import pathlib, sys
from cosfs.emulator import serve
def ready(info):
    print(info.endpoint_url, info.secret_id, info.secret_key, flush=True)

serve(pathlib.Path(sys.argv[1]), buckets=["b"], ready=ready, log_requests="--log" in sys.argv)
"""


@pytest.fixture
def public(sdk: CosS3Client, bucket: str) -> str:
    """A bucket that needs no signature, for requests written by hand."""
    sdk.put_bucket_acl(Bucket=bucket, ACL="public-read-write")
    return bucket


@contextmanager
def connected(emulator: Emulator) -> Iterator[socket.socket]:
    host, _, port = emulator.endpoint_url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        yield connection


def exchange(emulator: Emulator, request: bytes) -> bytes:
    """Send bytes and read until the server closes."""
    with connected(emulator) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def head(bucket: str, method: str, target: str, *lines: str) -> bytes:
    more = "".join(line + "\r\n" for line in lines)
    return f"{method} {target} HTTP/1.1\r\nHost: {bucket}.x\r\nConnection: close\r\n{more}\r\n".encode()


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
        sdk = _sdk(port, key_id, key)
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


# Faults


def get(emulator: Emulator, bucket: str, key: str = "k") -> requests.Response:
    return requests.get(f"{emulator.endpoint_url}/{bucket}/{key}", timeout=10)


def test_errors_strike_as_often_as_asked(served: Emulator, public: str) -> None:
    served.faults.error("GetObject", "SlowDown", count=2)
    assert [get(served, public).status_code for _ in range(3)] == [503, 503, 404]
    served.faults.error("Get*", "InternalError", count=0, every=2)
    assert [get(served, public).status_code for _ in range(4)] == [404, 500, 404, 500]
    served.faults.clear()
    served.faults.error("GetObject", status=403, code="AccessDenied", key="special/*")
    assert get(served, public).status_code == 404
    assert get(served, public, "special/k").status_code == 403


def test_an_answer_can_be_lost_after_the_work(served: Emulator, public: str) -> None:
    url = f"{served.endpoint_url}/{public}/k"
    served.faults.reset("PutObject", after=True)
    with pytest.raises(requests.ConnectionError):
        requests.put(url, data=b"x", timeout=10)
    assert get(served, public).content == b"x"
    served.faults.error("DeleteObject", after=True)
    assert requests.delete(url, timeout=10).status_code == 500
    assert get(served, public).status_code == 404
    served.faults.reset("PutObject")
    with pytest.raises(requests.ConnectionError):
        requests.put(url, data=b"x", timeout=10)
    assert get(served, public).status_code == 404


@pytest.mark.parametrize("size", [1000, 100_000, 3_000_000])
def test_bodies_can_be_spoiled(served: Emulator, public: str, size: int) -> None:
    data = os.urandom(size)
    requests.put(f"{served.endpoint_url}/{public}/k", data=data, timeout=10)
    offset = size - 100
    served.faults.truncate(offset=offset)
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        get(served, public)
    served.faults.corrupt(offset=offset)
    spoiled = get(served, public).content
    assert [n for n in range(size) if spoiled[n] != data[n]] == [offset]
    served.faults.stall(0.3, offset=offset)
    began = time.monotonic()
    assert get(served, public).content == data
    assert time.monotonic() - began >= 0.3
    assert get(served, public).content == data


def test_latency_and_slow_bodies(served: Emulator, public: str) -> None:
    requests.put(f"{served.endpoint_url}/{public}/k", data=b"x" * 50_000, timeout=10)
    slow = served.faults.slow(100_000)
    began = time.monotonic()
    assert len(get(served, public).content) == 50_000
    assert time.monotonic() - began >= 0.4
    served.faults.remove(slow)
    served.faults.latency(0.2, "HeadObject", count=1)
    began = time.monotonic()
    requests.head(f"{served.endpoint_url}/{public}/k", timeout=10)
    assert time.monotonic() - began >= 0.2


def test_copy_can_fail_with_status_200(sdk: CosS3Client, served: Emulator, bucket: str) -> None:
    sdk.put_object(Bucket=bucket, Key="k", Body=b"x")
    served.faults.error("CopyObject", "InternalError", status=200)
    with pytest.raises(Exception, match="InternalError"):
        sdk.copy_object(
            Bucket=bucket, Key="c", CopySource={"Bucket": bucket, "Key": "k", "Region": served.region}
        )


def test_counters_count_bytes_too(sdk: CosS3Client, served: Emulator, bucket: str) -> None:
    served.requests.reset()
    sdk.put_object(Bucket=bucket, Key="k", Body=b"x" * 1000)
    sdk.get_object(Bucket=bucket, Key="k")["Body"].get_raw_stream().read()
    assert served.requests.snapshot() == {"GetObject": 1, "PutObject": 1}
    assert served.requests.total == 2
    assert served.requests.bytes_received == 1000
    assert served.requests.bytes_sent == 1000


# Life


def _sdk(port: int, key_id: str, key: str) -> CosS3Client:
    from qcloud_cos import CosConfig

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


def test_killing_it_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    data, written = tmp_path / "data", dict[str, bytes]()
    with running(data) as (process, url, key_id, key):
        sdk = _sdk(int(url.rpartition(":")[2]), key_id, key)
        timer = threading.Timer(1.0, process.kill)
        timer.start()
        with pytest.raises(Exception):  # noqa: B017
            for number in range(100_000):
                body = os.urandom(50_000 if number % 3 == 0 else 100)
                sdk.put_object(Bucket="b-1250000000", Key=f"k{number}", Body=body)
                written[f"k{number}"] = body
        process.wait()
    assert len(written) > 20
    with running(data) as (process, url, again_id, again_key):
        assert (again_id, again_key) == (key_id, key)
        sdk = _sdk(int(url.rpartition(":")[2]), key_id, key)
        for name, body in written.items():
            assert sdk.get_object(Bucket="b-1250000000", Key=name)["Body"].get_raw_stream().read() == body
        process.terminate()
        process.wait()
    wanted = sum(len(body) > 16 * 1024 for body in written.values())
    assert len(list((data / "objects").glob("*/*"))) in (wanted, wanted + 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    with running(tmp_path / "data") as (process, url, _, _):
        idle = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])))
        began = time.monotonic()
        process.send_signal(number)
        assert process.wait(10) == 0
        assert time.monotonic() - began < 5
        idle.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_requests_are_told_on_stderr_when_asked(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--log") as (process, url, _, _):
        assert requests.get(f"{url}/b/k?x=1", timeout=10).status_code == 403
        process.terminate()
        assert process.stderr is not None
        assert process.stderr.read() == "GetObject 403 /b/k?x=1\n"


def test_a_directory_serves_one_emulator(tmp_path: Path) -> None:
    with Emulator(tmp_path / "data"), pytest.raises(EmulatorError, match="another emulator is using"):
        Emulator(tmp_path / "data").start()


def test_a_foreign_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "objects").mkdir()
    (tmp_path / "objects" / "precious").write_text("mine")
    with pytest.raises(EmulatorError, match="neither empty nor a data directory"):
        Emulator(tmp_path).start()
    assert (tmp_path / "objects" / "precious").read_text() == "mine"


def test_a_taken_port_is_told(tmp_path: Path) -> None:
    with Emulator(tmp_path / "a") as first, pytest.raises(EmulatorError, match="cannot listen on"):
        Emulator(tmp_path / "b", port=int(first.endpoint_url.rpartition(":")[2])).start()


def test_it_can_be_stopped_and_started(tmp_path: Path) -> None:
    emulator = Emulator(tmp_path / "data", buckets=["b"])
    with emulator:
        url = emulator.endpoint_url
        sdk_for(emulator).put_object(Bucket="b-1250000000", Key="k", Body=b"x")
        emulator.stop()
        with pytest.raises(requests.ConnectionError):
            requests.get(url, timeout=1)
        emulator.start()
        assert emulator.endpoint_url == url
        assert sdk_for(emulator).object_exists(Bucket="b-1250000000", Key="k")


def test_stopping_does_not_wait_for_stalled_requests(tmp_path: Path) -> None:
    with Emulator(tmp_path / "data", buckets=["b"]) as emulator:
        emulator.faults.latency(60)

        def ask() -> None:
            with pytest.raises(requests.ConnectionError):
                requests.get(emulator.endpoint_url, timeout=30)

        thread = threading.Thread(target=ask)
        thread.start()
        time.sleep(0.2)
        began = time.monotonic()
        emulator.stop()
        assert time.monotonic() - began < 5
        thread.join()


def test_a_temporary_directory_goes_away() -> None:
    with Emulator() as emulator:
        data = emulator.data
        assert data.is_dir()
    assert not data.exists()
