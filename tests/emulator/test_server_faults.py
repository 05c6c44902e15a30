"""Faults on request, and the counts and the log of requests."""

from __future__ import annotations

import os
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
from qcloud_cos import CosS3Client

from cosfs.emulator import Emulator, Fault, Requests
from cosfs.emulator.app import log_line
from cosfs.emulator.requestlog import Entry
from cosfs.emulator.values import Request
from tests.emulator.asking import HOST, Asker
from tests.emulator.wire import connected, exchange, head
from tests.waiting import until


def get(emulator: Emulator, bucket: str, key: str = "k") -> requests.Response:
    return requests.get(f"{emulator.endpoint_url}/{bucket}/{key}", timeout=90)


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
        requests.put(url, data=b"x", timeout=90)
    assert get(served, public).content == b"x"
    served.faults.error("DeleteObject", after=True)
    assert requests.delete(url, timeout=90).status_code == 500
    assert get(served, public).status_code == 404
    served.faults.reset("PutObject")
    with pytest.raises(requests.ConnectionError):
        requests.put(url, data=b"x", timeout=90)
    assert get(served, public).status_code == 404


@pytest.mark.parametrize("size", [1000, 100_000, 3_000_000])
def test_bodies_can_be_spoiled(served: Emulator, public: str, size: int) -> None:
    data = os.urandom(size)
    requests.put(f"{served.endpoint_url}/{public}/k", data=data, timeout=90)
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
    assert time.monotonic() - began >= 0.29  # the server's clock goes in milliseconds
    assert get(served, public).content == data


def test_latency_and_slow_bodies(served: Emulator, public: str) -> None:
    requests.put(f"{served.endpoint_url}/{public}/k", data=b"x" * 50_000, timeout=90)
    slow = served.faults.slow(100_000)
    began = time.monotonic()
    assert len(get(served, public).content) == 50_000
    assert time.monotonic() - began >= 0.4
    served.faults.remove(slow)
    served.faults.latency(0.2, "HeadObject", count=1)
    began = time.monotonic()
    requests.head(f"{served.endpoint_url}/{public}/k", timeout=90)
    assert time.monotonic() - began >= 0.19


@pytest.mark.parametrize("kind", ["latency", "stall", "stall_request"])
def test_requests_that_a_fault_keeps_waiting_can_be_let_go(served: Emulator, public: str, kind: str) -> None:
    url = f"{served.endpoint_url}/{public}/k"
    data = bytes(50_000)
    requests.put(url, data=data, timeout=90)
    operation = "PutObject" if kind == "stall_request" else "GetObject"
    held = getattr(served.faults, kind)(3600.0, operation)
    served.requests.reset()
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(requests.request, operation[:3].upper(), url, data=data, timeout=60)
        while not served.requests[operation]:
            time.sleep(0.01)
        assert not asked.done()
        served.faults.release(held)
        assert asked.result().status_code == 200
    assert served.faults.active() == []
    assert get(served, public).content == data


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


def test_a_share_strikes_the_same_requests_in_every_run(served: Emulator, public: str) -> None:
    def statuses(seed: int) -> list[int]:
        served.faults.error("GetObject", "SlowDown", share=0.5, seed=seed, count=0)
        found = [get(served, public).status_code for _ in range(40)]
        served.faults.clear()
        return found

    first = statuses(7)
    assert first == statuses(7) != statuses(8)
    assert 10 <= first.count(503) <= 30


def test_the_first_requests_can_be_let_pass(served: Emulator, public: str) -> None:
    served.faults.error("GetObject", "SlowDown", skip=2, every=2, count=2)
    assert [get(served, public).status_code for _ in range(8)] == [404, 404, 404, 503, 404, 503, 404, 404]
    assert served.faults.active() == []


def test_latency_varies_by_its_jitter(served: Emulator, public: str) -> None:
    served.requests.reset()
    fault = served.faults.latency(0.05, jitter=0.05)
    for _ in range(8):
        get(served, public)
    times = [entry.ms for entry in served.requests.log()]
    assert len({round(fault.delay(), 6) for _ in range(20)}) > 10
    assert max(times) - min(times) > 5
    assert all(entry.faults == "latency" for entry in served.requests.log())


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "unknown"},
        {"kind": "error", "every": 0},
        {"kind": "error", "share": 1.5},
        {"kind": "error", "count": -1},
        {"kind": "error", "status": 99},
        {"kind": "latency", "seconds": -1},
        {"kind": "slow"},
    ],
)
def test_faults_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Fault(**wrong)


def test_the_body_of_a_request_can_be_left_waiting(served: Emulator, public: str) -> None:
    data = os.urandom(3_000_000)
    served.faults.stall_request(0.3, offset=1_000_000)
    requests.put(f"{served.endpoint_url}/{public}/k", data=data, timeout=90)
    assert served.requests.log()[-1].ms >= 290
    requests.put(f"{served.endpoint_url}/{public}/k2", data=data, timeout=90)
    assert get(served, public).content == get(served, public, "k2").content == data


@pytest.mark.parametrize("kind", ["connection", "total"])
def test_bandwidth_can_be_limited(served: Emulator, public: str, kind: str) -> None:
    data = os.urandom(100_000)
    rate = 400_000
    served.faults.bandwidth.limit(**{kind: rate})

    def work(number: int) -> None:
        url = f"{served.endpoint_url}/{public}/k{number}"
        with requests.Session() as session:
            session.put(url, data=data, timeout=90)
            assert session.get(url, timeout=90).content == data

    with ThreadPoolExecutor(2) as pool:
        began = time.monotonic()
        list(pool.map(work, range(2)))
    took = time.monotonic() - began
    # The last step of each body need not be waited for.
    assert took >= (4 if kind == "total" else 2) * len(data) / rate - 0.15
    served.faults.clear()
    assert served.faults.bandwidth.total == served.faults.bandwidth.connection == 0


def test_a_stale_listing_is_announced_to_the_handler(ask: Asker) -> None:
    ask.service.faults.stale(5, count=1)
    exchange = ask.service.begin(Request("GET", b"/", {"host": HOST}))
    assert exchange.call is not None and exchange.call.stale == 5


def test_every_request_is_in_the_log(served: Emulator, public: str) -> None:
    url = f"{served.endpoint_url}/{public}/a%20b?versionId="
    served.requests.reset()
    began = time.time()
    requests.put(url, data=b"x" * 10, timeout=90)
    requests.get(url, timeout=90)
    requests.get(f"{served.endpoint_url}/{public}/none", timeout=90)
    served.faults.reset("HeadObject")
    with pytest.raises(requests.ConnectionError):
        requests.head(url, timeout=90)
    until(lambda: len(served.requests.log()) == 4, "the one that was dropped is there too")
    put, got, missing, dropped = served.requests.log()
    assert (put.method, put.target, put.operation) == ("PUT", f"/{public}/a%20b?versionId=", "PutObject")
    assert (put.bucket, put.key, put.status, put.received, put.code) == (public, "a b", 200, 10, "")
    assert (got.status, got.sent, got.received) == (200, 10, 0)
    assert (missing.status, missing.code) == (404, "NoSuchKey")
    assert (dropped.status, dropped.faults, dropped.sent) == (0, "reset", 0)
    assert put.client.startswith("127.0.0.1:") and began - 1 < put.time < time.time() + 1
    assert len({entry.request_id for entry in served.requests.log()}) == 4
    assert served.requests.log(since=got.number) == [missing, dropped]
    assert served.requests.log(limit=1) == [dropped]


def test_a_bucket_can_be_left_out(served: Emulator, public: str) -> None:
    url = f"{served.endpoint_url}/{public}/k"
    served.requests.leave_out(public)
    served.faults.error("PutObject", count=1)
    served.requests.reset()
    assert requests.put(url, data=b"x", timeout=90).status_code == 200
    assert get(served, public, "none").status_code == 404
    other = served.create_bucket("still-counted")
    assert get(served, other).status_code == 403
    until(lambda: served.requests.log(), "the other request is in the log")
    assert [entry.bucket for entry in served.requests.log()] == [other]
    assert served.requests.snapshot() == {"GetObject": 1}
    assert served.requests.bytes_received == 0 and served.requests.errors.total() == 1


def test_the_log_keeps_the_last_requests_only() -> None:
    log = Requests()
    entry = Entry(0, 0.0, "", "GET", "/", "", "GetObject", "", "", 200, "", 0, 0, 0.0, "", "")
    for _ in range(5000):
        log.record(entry._replace(number=log.next_number()))
    assert [each.number for each in log.log()] == list(range(3001, 5001))
    log.reset()
    assert log.log() == [] and log.next_number() == 5001


def test_log_lines_cannot_write_on_the_terminal(served: Emulator, public: str) -> None:
    raw = f"GET /{public}/k HTTP/1.1\r\nHost: x\x9b31m\r\nConnection: close\r\n\r\n"
    exchange(served, raw.encode("latin-1"))
    line = log_line(served.requests.log()[-1])
    assert "\x9b" not in line and "\\x9b31m" in line


def test_a_reset_of_a_connection_that_has_gone_is_no_error(
    served: Emulator, public: str, caplog: pytest.LogCaptureFixture
) -> None:
    served.requests.reset()
    served.faults.latency(0.2, "GetObject", count=1)
    served.faults.reset("GetObject")
    with connected(served) as connection:
        connection.sendall(head(public, "GET", "/k"))
        linger = struct.pack("ii", 1, 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    until(served.requests.log, "the request has ended")
    assert get(served, public).status_code == 404
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []
