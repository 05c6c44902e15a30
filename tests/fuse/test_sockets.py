"""The sockets of a mount when the process has no descriptor left."""

from __future__ import annotations

import errno
import itertools
import logging
import resource
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from cosfs.fuse import control, registry, sockets
from tests.fuse.support import until
from tests.mounting import Mounted

Mount = Callable[..., Mounted]


@contextmanager
def descriptors_left(mounted: Mounted, count: int) -> Iterator[None]:
    """Inside, the process of a mount can open so many more files; with 0 none, even if it closes some."""
    before = resource.prlimit(mounted.pid, resource.RLIMIT_NOFILE)
    used = {int(entry.name) for entry in Path(f"/proc/{mounted.pid}/fd").iterdir()}
    free = (number for number in itertools.count() if number not in used)
    limit = list(itertools.islice(free, count + 1))[count] if count else 3
    resource.prlimit(mounted.pid, resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        resource.prlimit(mounted.pid, resource.RLIMIT_NOFILE, before)


@pytest.mark.fuse
def test_out_of_descriptors_a_mount_says_so_once_and_answers_later(mount: Mount, bucket: str) -> None:
    mounted = mount(f"cos://{bucket}")
    until(lambda: "is mounted on" in mounted.log_text(), "it serves its sockets as well")
    answers: list[dict[str, Any]] = []

    def ask() -> None:
        answers.extend(control.ask(mounted.path, {"op": "status"}, timeout=150))

    asking = threading.Thread(target=ask)
    with descriptors_left(mounted, 0):
        asking.start()
        until(lambda: "the status has to wait: Too many open files" in mounted.log_text(), "it is told")
        assert not answers
    asking.join(150)
    assert answers
    assert "Traceback" not in mounted.log_text()
    assert mounted.log_text().count("the status has to wait") == 1


@pytest.mark.fuse
def test_a_mount_goes_on_when_the_answer_itself_has_no_descriptor(mount: Mount, bucket: str) -> None:
    mounted = mount(f"cos://{bucket}")
    until(lambda: "is mounted on" in mounted.log_text(), "it serves its sockets as well")
    assert list(control.ask(mounted.path, {"op": "status"}))
    for count in range(1, 6):
        with descriptors_left(mounted, count), socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(5)  # it may have used the last one for something else
            with registry.short_name(registry.socket_path(mounted.path)) as name:
                sock.connect(name)
            sock.sendall(b'{"op": "status"}\n')
            with suppress(TimeoutError):
                sock.recv(1)  # an answer or none
    assert list(control.ask(mounted.path, {"op": "status"}))
    assert "Traceback" not in mounted.log_text()


class _Scarce(trio.abc.Listener[trio.SocketStream]):
    """Has no descriptor for the first tries, then nobody who connects."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.times: list[float] = []
        self.done = trio.Event()

    async def accept(self) -> trio.SocketStream:
        self.times.append(trio.current_time())
        if len(self.times) <= self.failures:
            raise OSError(errno.EMFILE, "Too many open files")
        self.done.set()
        await trio.sleep_forever()
        raise AssertionError

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def test_it_is_tried_again_ever_more_rarely(
    autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    listener = _Scarce(12)

    async def handle(stream: trio.SocketStream) -> None:
        raise AssertionError(stream)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sockets.serve, handle, [listener], "somebody")
        await listener.done.wait()
        nursery.cancel_scope.cancel()
    pauses = [round(b - a, 1) for a, b in zip(listener.times, listener.times[1:], strict=False)]
    assert pauses == [0.1, 0.2, 0.5, *[1.0] * 9]
    said = [record for record in caplog.records if record.levelno >= logging.WARNING]
    told = [record.getMessage() for record in said if record.name == sockets.log.name]
    assert told == ["somebody has to wait: Too many open files"]
