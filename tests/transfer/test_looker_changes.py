"""The second process of a mount makes small objects: each once, and never in the place of another."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from cosfs.client.client import CosClient
from cosfs.client.model import Headers
from cosfs.emulator import Emulator
from tests.objects import keys, options_of, stored
from tests.transfer.support import run_program

# Has objects made, and prints which were, and what was counted.
PROGRAM = """
import json, os, signal, sys
import trio
from cosfs.client.client import CosClient
from cosfs.client.model import Headers
from cosfs.config import load_settings
from cosfs.transfer.looker import Looker

options, bucket, method, names, length, kill = map(json.loads, sys.argv[1:])
client = CosClient.from_settings(load_settings(options, environ={"HOME": "/nonexistent"}), options)
looker = Looker.fork(client, 64)
report = {}

def arguments(name):
    if method == "put_object":
        headers = Headers(content_type="text/x", metadata={"mode": "33152"})
        return (bucket, name, name.encode()), {"headers": headers, "forbid_overwrite": True}
    return (bucket, name, bucket, "source"), {"forbid_overwrite": True}

async def main():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(looker.run)
        await trio.to_thread.run_sync(client.head_bucket, bucket)
        if kill:
            os.kill(looker._pid, signal.SIGKILL)
        made = await looker.change(bucket, method, [arguments(name) for name in names], length)
        report["made"] = made and [each and each.etag for each in made]
        report["left"] = looker._on_their_way
        nursery.cancel_scope.cancel()

trio.run(main)
looker.close()
report["requests"] = client.stats.snapshot()["requests"]
print(json.dumps(report))
"""


def change(
    emulator: Emulator, bucket: str, method: str, names: list[str], *, length: int = 0, kill: bool = False
) -> dict[str, Any]:
    arguments = (options_of(emulator), bucket, method, names, length, kill)
    return run_program(PROGRAM, *map(json.dumps, arguments))


@pytest.fixture(autouse=True)
def no_faults(emulator: Emulator) -> Iterator[None]:
    emulator.faults.clear()
    yield
    emulator.faults.clear()


NAMES = [f"n{number:02} ü+%" for number in range(40)]


def test_it_stores_what_it_is_given(emulator: Emulator, client: CosClient, bucket: str) -> None:
    report = change(emulator, bucket, "put_object", NAMES)
    for name, etag in zip(NAMES, report["made"], strict=True):
        info = client.head_object(bucket, name)
        assert info is not None and info.headers is not None
        assert (info.etag, info.size) == (etag, len(name.encode()))
        assert (info.headers.content_type, info.headers.metadata["mode"]) == ("text/x", "33152")
    # As if this process had done it; and nothing is taken to be on its way any more.
    assert report["requests"]["PutObject"] == len(NAMES)
    assert report["left"] == 0


def test_it_copies_what_it_is_told_to(emulator: Emulator, client: CosClient, bucket: str) -> None:
    etag = client.put_object(bucket, "source", b"data", headers=Headers(metadata={"a": "b"})).etag
    report = change(emulator, bucket, "copy_object", NAMES)
    assert report["made"] == [etag] * len(NAMES)
    assert keys(client, bucket) == sorted([*NAMES, "source"])
    assert report["requests"]["CopyObject"] == len(NAMES)


def test_what_is_there_already_stays_and_the_rest_is_made(
    emulator: Emulator, client: CosClient, bucket: str
) -> None:
    client.put_object(bucket, NAMES[3], b"before")
    report = change(emulator, bucket, "put_object", NAMES[:8])
    assert [index for index, each in enumerate(report["made"]) if each is None] == [3]
    assert stored(client, bucket, NAMES[3]) == b"before"


def test_what_fails_is_tried_once_and_left_to_who_asked(emulator: Emulator, bucket: str) -> None:
    emulator.requests.reset()
    emulator.faults.error("PutObject", "InternalError", 500, count=100)
    report = change(emulator, bucket, "put_object", NAMES[:5])
    assert report["made"] == [None] * 5
    assert emulator.requests.snapshot()["PutObject"] == 5


def test_when_it_is_killed_nothing_is_said_to_be_made(emulator: Emulator, bucket: str) -> None:
    report = change(emulator, bucket, "put_object", NAMES[:5], kill=True)
    assert report["made"] == [None] * 5
    assert report["left"] == 0


def test_it_takes_no_more_than_fits_into_the_socket(
    emulator: Emulator, client: CosClient, bucket: str
) -> None:
    report = change(emulator, bucket, "put_object", NAMES[:1], length=1 << 30)
    assert report["made"] is None
    assert keys(client, bucket) == []
