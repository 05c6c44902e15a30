"""Connections made while other calls of the same thread go on."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from cosfs.client.dial import Dialer
from cosfs.client.endpoint import Address
from cosfs.client.proxy import Proxies
from cosfs.client.waiting import offload, sleep
from cosfs.config import ClientSettings
from cosfs.errors import NetworkError, NetworkTimeoutError, NotCosError, UnknownHostError
from tests.client.test_waiting import Runner
from tests.ports import held


@pytest.fixture
def runner() -> Iterator[Runner]:
    running = Runner()
    yield running
    running.close()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def address_of(listener: socket.socket, scheme: str = "http", host: str = "127.0.0.1") -> Address:
    port = listener.getsockname()[1]
    return Address(scheme, host, port, f"{host}:{port}", "/", "/")


def dial(address: Address, timeout: float = 90.0) -> int:
    """Connect, and return the thread that did it."""
    Dialer(ClientSettings(), Proxies("")).connect(address, timeout).close()
    return threading.get_ident()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_many_are_made_in_one_thread(runner: Runner, listener: socket.socket, host: str) -> None:
    runner.call(*[lambda: dial(address_of(listener, host=host))] * 40)
    assert set(runner.wait(40)) == {runner.thread.ident}


def test_refused(runner: Runner) -> None:
    with held() as holder:
        address = address_of(holder)
        runner.call(lambda: dial(address))
        (error,) = runner.wait(1)
    assert isinstance(error, NetworkError) and "refuses connections" in str(error)


def test_never_accepted(runner: Runner) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        crowd = [socket.socket() for _ in range(4)]
        for each in crowd:
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        runner.call(lambda: sleep(0.01), lambda: dial(address_of(full), 0.3))
        results = runner.wait(2)
        for each in crowd:
            each.close()
    assert results[0] is None  # the other call did not wait
    assert isinstance(results[1], NetworkTimeoutError)


def test_tls_that_is_never_answered(runner: Runner, listener: socket.socket) -> None:
    runner.call(lambda: sleep(0.01), lambda: dial(address_of(listener, "https"), 0.3))
    results = runner.wait(2)
    assert results[0] is None
    assert isinstance(results[1], NetworkTimeoutError)


def test_no_tls_there(runner: Runner, listener: socket.socket) -> None:
    def answer() -> None:
        with listener.accept()[0] as connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    runner.call(lambda: dial(address_of(listener, "https")), lambda: offload(answer))
    (error,) = [result for result in runner.wait(2) if result is not None]
    assert isinstance(error, NotCosError) and "does not speak TLS" in str(error)


def test_name_that_nobody_knows(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: object, **options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    address = Address("https", "nowhere.invalid", 443, "nowhere.invalid", "/", "/")
    runner.call(lambda: dial(address))
    (error,) = runner.wait(1)
    assert isinstance(error, UnknownHostError) and "nowhere.invalid cannot be resolved" in str(error)
