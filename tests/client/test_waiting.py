"""Many calls in one thread, each waiting while the others go on."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import greenlet
import pytest

from cosfs.client.client import CosClient
from cosfs.client.crc64 import crc64
from cosfs.client.waiting import Hub, current_hub, offload, sleep, wait_for
from cosfs.config import ClientSettings
from cosfs.emulator import Emulator
from cosfs.errors import NetworkTimeoutError
from tests.client.scripted import Answer, Request, ScriptedServer

TLS = Path(__file__).parent / "tls"
B = "b-1250000000"


class Runner:
    """A hub in a thread; `call` adds calls, `wait` gives their results in the order they ended."""

    def __init__(self) -> None:
        self.hub = Hub()
        self.calls: list[Callable[[], object]] = []
        self.results: list[object] = []
        self.running = 0
        self._ended = threading.Condition()
        self._closed = False
        self.thread = threading.Thread(
            target=self.hub.run, args=(self._take, lambda: self._closed), daemon=True
        )
        self.thread.start()

    def _take(self) -> Callable[[], None] | None:
        if not self.calls:
            return None
        call = self.calls.pop(0)

        def run() -> None:
            try:
                result = call()
            except Exception as error:
                result = error
            with self._ended:
                self.results.append(result)
                self._ended.notify_all()

        return run

    def call(self, *calls: Callable[[], object]) -> None:
        self.calls += calls
        self.hub.wake()

    def wait(self, count: int) -> list[object]:
        with self._ended:
            assert self._ended.wait_for(lambda: len(self.results) >= count, timeout=100)
            return self.results

    def close(self) -> None:
        self._closed = True
        self.hub.wake()
        self.thread.join(timeout=60)
        assert not self.thread.is_alive()


@pytest.fixture
def runner() -> Iterator[Runner]:
    running = Runner()
    yield running
    running.close()


def test_ordinary_threads_have_no_hub_and_wait_by_blocking() -> None:
    assert current_hub() is None
    assert offload(threading.get_ident) == threading.get_ident()
    event = threading.Event()
    assert not wait_for(event, 0.01)
    event.set()
    assert wait_for(event, 60)


def test_a_call_that_sleeps_lets_the_others_go_on(runner: Runner) -> None:
    order: list[str] = []

    def slow() -> None:
        sleep(0.2)
        order.append("slow")

    def quick() -> None:
        order.append("quick")

    runner.call(slow, quick, quick)
    runner.wait(3)
    assert order == ["quick", "quick", "slow"]


def test_all_calls_run_in_one_thread_and_what_blocks_in_another(runner: Runner) -> None:
    runner.call(threading.get_ident, threading.get_ident, lambda: offload(threading.get_ident))
    first, second, elsewhere = runner.wait(3)
    assert first == second == runner.thread.ident
    assert elsewhere not in (first, threading.get_ident())


def test_an_error_of_offloaded_work_is_raised_in_the_call(runner: Runner) -> None:
    def fail() -> None:
        raise ValueError("no")

    runner.call(lambda: offload(fail))
    (error,) = runner.wait(1)
    assert isinstance(error, ValueError)


def test_an_event_ends_waiting_for_it(runner: Runner) -> None:
    event = threading.Event()
    runner.call(lambda: wait_for(event, 60), lambda: wait_for(threading.Event(), 0.01))
    assert runner.wait(1) == [False]
    event.set()
    assert runner.wait(2) == [False, True]


def test_waiting_for_a_descriptor_ends_with_it_or_in_time(runner: Runner) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        number = ours.fileno()
        runner.call(lambda: runner.hub.wait(number, writable=False, timeout=0.05))
        (error,) = runner.wait(1)
        assert isinstance(error, TimeoutError)
        runner.call(lambda: runner.hub.wait(number, writable=False, timeout=60))
        time.sleep(0.02)
        theirs.send(b"x")
        assert runner.wait(2)[1] is None
        runner.call(lambda: runner.hub.wait(number, writable=True, timeout=60))
        assert runner.wait(3)[2] is None


def test_a_hub_that_is_closed_brings_its_calls_to_their_end(runner: Runner) -> None:
    begun = threading.Event()

    def call() -> None:
        begun.set()
        sleep(0.3)

    runner.call(call)
    assert begun.wait(60)
    runner.close()
    assert runner.results == [None]


def test_calls_that_come_one_after_the_other_share_a_greenlet(runner: Runner) -> None:
    for count in range(1, 21):
        runner.call(greenlet.getcurrent)
        runner.wait(count)
    assert len(set(runner.results)) == 1
    # Many at once need one each; few of those are kept.
    runner.call(*[lambda: sleep(0.05) for _ in range(100)])
    runner.wait(120)
    assert len(runner.hub._spare) <= 16
    runner.close()
    assert not runner.hub._spare
    assert all(each.dead for each in runner.results[:20] if isinstance(each, greenlet.greenlet))


def test_hundreds_of_requests_are_in_flight_at_once(runner: Runner) -> None:
    count = 150
    together = threading.Barrier(count)

    def when_all_are_there(request: Request) -> Answer:
        together.wait(timeout=100)
        return Answer(200, b"", {"ETag": '"e"'})

    with (
        ScriptedServer(when_all_are_there) as server,
        CosClient(ClientSettings(endpoint_url=server.url, max_retries=0), None) as client,
    ):
        runner.call(*[lambda: getattr(client.head_object(B, "k"), "etag", "")] * count)
        assert runner.wait(count) == ["e"] * count


def test_a_refused_request_waits_for_its_turn_while_others_go_on(
    runner: Runner, client: CosClient, bucket: str, emulator: Emulator
) -> None:
    fault = emulator.faults.error("PutObject", "SlowDown", count=5)
    try:
        runner.call(*[lambda n=n: client.put_object(bucket, f"k{n}", b"x").etag for n in range(20)])  # type: ignore[misc]
        assert len(set(map(str, runner.wait(20)))) == 1
    finally:
        emulator.faults.remove(fault)


def test_silence_is_a_timeout_for_the_call_it_concerns(runner: Runner) -> None:
    def silent(request: Request) -> Answer:
        return Answer(200, b"", {"ETag": '"e"'}, delay=100 if request.target.endswith("/slow") else 0)

    with ScriptedServer(silent) as server:
        patient = ClientSettings(endpoint_url=server.url, max_retries=0)
        with (
            CosClient(patient, None) as client,
            CosClient(replace(patient, read_timeout=0.3), None) as hasty,
        ):
            # The same thread waits for three: one until it gives up, one until it is told to.
            runner.call(
                lambda: client.head_object(B, "slow"),
                lambda: hasty.head_object(B, "slow"),
                lambda: getattr(client.head_object(B, "k"), "etag", ""),
            )
            found = runner.wait(2)
            assert "e" in found and any(isinstance(each, NetworkTimeoutError) for each in found)
            client.cancel()
            assert str(runner.wait(3)[2]) == "cancelled"


def test_encrypted_connections(runner: Runner) -> None:
    data = random.Random(3).randbytes(3_000_000)

    def echo(request: Request) -> Answer:
        body = data if request.method == "GET" else b""
        crc = crc64(request.body) if request.method == "PUT" else crc64(data)
        return Answer(200, body, {"ETag": '"e"', "x-cos-hash-crc64ecma": str(crc)})

    with ScriptedServer(echo, certificate=TLS / "localhost.pem") as server:
        settings = ClientSettings(
            endpoint_url=server.url, max_retries=0, ca_bundle=str(TLS / "localhost.pem")
        )
        with CosClient(settings, None) as client:
            gets = [lambda: client.get_range(B, "k", 0, len(data))[1] == data] * 5
            puts = [lambda: client.put_object(B, "k", data).crc64 == crc64(data)] * 5
            runner.call(*gets, *puts)
            assert runner.wait(10) == [True] * 10
            # Kept connections serve threads as well, which wait in their own way.
            assert client.get_range(B, "k", 0, len(data))[1] == data


def test_threads_stand_still_before_the_interpreter_ends() -> None:
    # An ending interpreter unwinds threads; with greenlets on their stacks that crashes, now and then.
    code = """
import atexit, threading, time
atexit.register(lambda: print(all(hub.parked.is_set() for hub in hubs)))
from cosfs.client import waiting
from cosfs.client.waiting import Hub, sleep
waiting._PARKING = 60.0  # for a machine that stands still
hubs = [Hub(), Hub()]
def call():
    while True:
        sleep(0.001)
for hub in hubs:
    calls = [call] * 50
    take = lambda calls=calls: calls.pop() if calls else None
    threading.Thread(target=hub.run, args=(take, lambda: False), daemon=True).start()
time.sleep(0.1)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")
