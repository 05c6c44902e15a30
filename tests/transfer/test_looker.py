"""The second process of a mount for attributes: it helps, and nothing depends on it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cosfs.client.client import CosClient
from cosfs.client.model import Headers
from cosfs.emulator import Emulator
from tests.objects import options_of
from tests.transfer.support import run_program

COUNT = 200

# Looks at the objects of a bucket, and prints what it is told and what has become of the process.
PROGRAM = """
import json, os, signal, sys
import trio
from cosfs.client.client import CosClient
from cosfs.config import load_settings
from cosfs.transfer.looker import MISSING, UNANSWERED, Looker

options, bucket, keys, kill = map(json.loads, sys.argv[1:])
settings = load_settings(options, environ={"HOME": "/nonexistent"})
client = CosClient.from_settings(settings, options)
before = len(os.listdir("/proc/self/fd"))
looker = Looker.fork(client, 64)
report = {"pid": looker._pid, "usable": [looker.is_usable], "missing": [], "unanswered": [], "found": {}}
report["open"] = sorted(int(n) for n in os.listdir(f"/proc/{looker._pid}/fd"))

def told(keys, answers):
    for key, answer in zip(keys, answers, strict=True):
        if answer == MISSING:
            report["missing"].append(key)
        elif answer == UNANSWERED:
            report["unanswered"].append(key)
        else:
            report["found"][key] = [answer.size, answer.etag, answer.crc64, dict(answer.headers.metadata)]

async def main():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(looker.run)
        await trio.to_thread.run_sync(client.head_bucket, bucket)
        report["usable"].append(looker.is_usable)
        if kill == "stop":
            os.kill(looker._pid, signal.SIGKILL)
        if kill == "cancel":
            with trio.move_on_after(0):
                await looker.look(bucket, keys, told)
        await looker.look(bucket, keys, told)
        report["usable"].append(looker.is_usable)
        nursery.cancel_scope.cancel()

trio.run(main)
looker.close()
report["heads"] = client.stats.snapshot()["requests"].get("HeadObject", 0)
report["gone"] = not os.path.exists(f"/proc/{report['pid']}")
print(json.dumps(report))
"""


def look(emulator: Emulator, bucket: str, keys: list[str], kill: str = "") -> dict[str, Any]:
    report = run_program(PROGRAM, *map(json.dumps, (options_of(emulator), bucket, keys, kill)))
    assert report["gone"]
    return report


@pytest.fixture
def keys(client: CosClient, bucket: str) -> list[str]:
    names = [f"f{number:03} ü+%" for number in range(COUNT)]
    for number, name in enumerate(names):
        client.put_object(bucket, name, b"x" * number, headers=Headers(metadata={"mode": str(number)}))
    return names


@pytest.fixture(autouse=True)
def no_faults(emulator: Emulator) -> Iterator[None]:
    emulator.faults.clear()
    yield
    emulator.faults.clear()


def test_it_tells_what_a_head_tells(
    emulator: Emulator, client: CosClient, bucket: str, keys: list[str]
) -> None:
    emulator.requests.reset()
    report = look(emulator, bucket, [*keys, "none", "d/"])
    assert emulator.requests.snapshot()["HeadObject"] == COUNT + 2
    assert report["missing"] == ["none", "d/"]
    assert report["unanswered"] == []
    for number, key in enumerate(keys):
        size, etag, crc64, metadata = report["found"][key]
        info = client.head_object(bucket, key)
        assert info is not None
        assert (size, etag, crc64) == (number, info.etag, info.crc64)
        assert metadata == {"mode": str(number)}
    # What it was answered counts as if this process had asked.
    assert report["heads"] == COUNT + 2


def test_it_is_used_once_an_answer_has_shown_what_is_right(
    emulator: Emulator, bucket: str, keys: list[str]
) -> None:
    assert look(emulator, bucket, keys[:3])["usable"] == [False, True, True]


def test_it_holds_nothing_open_of_the_first_process(emulator: Emulator, bucket: str, tmp_path: Path) -> None:
    with (tmp_path / "held").open("wb") as held:
        report = look(emulator, bucket, ["none"])
        assert held.fileno() not in report["open"]
    # The three standard ones, the socket; it may not have come further yet, or have made its own.
    assert len(report["open"]) <= 8


def test_when_it_is_killed_everything_is_left_to_who_asked(
    emulator: Emulator, bucket: str, keys: list[str]
) -> None:
    report = look(emulator, bucket, keys, "stop")
    assert sorted([*report["unanswered"], *report["found"]]) == keys
    assert report["unanswered"]
    assert report["usable"][-1] is False


def test_who_gives_up_is_told_no_more_and_it_goes_on(
    emulator: Emulator, bucket: str, keys: list[str]
) -> None:
    report = look(emulator, bucket, keys, "cancel")
    assert sorted(report["found"]) == keys


def test_what_does_not_simply_work_is_left_to_who_asked_and_it_rests(
    emulator: Emulator, bucket: str, keys: list[str]
) -> None:
    emulator.faults.error("HeadObject", "SlowDown", count=COUNT)
    report = look(emulator, bucket, keys)
    assert sorted(report["unanswered"]) == keys
    assert report["usable"][-1] is False


# Ends the process while its answers are waited for; the number of its socket is somebody else's then.
ENDING = """
import socket
import trio
from cosfs.client.client import CosClient
from cosfs.config import load_settings
from cosfs.transfer.looker import Looker

options = {"region": "ap-guangzhou", "secret_id": "id", "secret_key": "key"}
client = CosClient.from_settings(load_settings(options, environ={"HOME": "/nonexistent"}), options)
looker = Looker.fork(client, 64)

async def main():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(looker.run)
        await trio.testing.wait_all_tasks_blocked()
        number = looker._sock.fileno()
        looker._end()
        ours, theirs = socket.socketpair()
        assert number in (ours.fileno(), theirs.fileno())
        with trio.move_on_after(0.01):
            await trio.lowlevel.wait_readable(number)
        nursery.cancel_scope.cancel()

import trio.testing
trio.run(main)
"""


def test_its_end_leaves_the_number_of_its_socket_to_others() -> None:
    subprocess.run([sys.executable, "-c", ENDING], timeout=60, check=True)
