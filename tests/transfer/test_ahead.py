"""The first page of a listing or an object, asked for before there is an engine."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from cosfs.client.client import CosClient
from cosfs.config import TransferSettings
from cosfs.emulator import Emulator
from cosfs.errors import BucketNotFoundError, ObjectNotFoundError
from cosfs.transfer.ahead import FirstObject, FirstPage
from cosfs.transfer.engine import Engine
from cosfs.transfer.scan import list_objects
from tests.objects import options_of
from tests.transfer.support import SMALL_LIMITS

KEYS = [f"d/{number}" for number in range(5)]


def fill(client: CosClient, bucket: str) -> None:
    for key in KEYS:
        client.put_object(bucket, key, b"")


async def keys_of(engine: Engine, bucket: str, prefix: str) -> list[str]:
    async with list_objects(engine, bucket, prefix, page_size=2) as listing:
        return [item.key async for item in listing]


async def test_the_listing_begins_with_it(client: CosClient, bucket: str, emulator: Emulator) -> None:
    fill(client, bucket)
    emulator.requests.reset()
    page = FirstPage(client, bucket, "d/", 2)
    async with Engine(client, SMALL_LIMITS, first_page=page) as engine:
        assert await keys_of(engine, bucket, "d/") == KEYS
        assert emulator.requests.snapshot() == {"ListObjects": 3}
        # Only once: it may be another listing by now.
        client.put_object(bucket, "d/", b"")
        assert await keys_of(engine, bucket, "d/") == ["d/", *KEYS]


async def test_another_listing_does_not_take_it(client: CosClient, bucket: str, emulator: Emulator) -> None:
    fill(client, bucket)
    page = FirstPage(client, bucket, "d/", 2)
    async with Engine(client, SMALL_LIMITS, first_page=page) as engine:
        assert await keys_of(engine, bucket, "d") == KEYS
        async with list_objects(engine, bucket, "d/", page_size=2, start_after="d/3") as listing:
            assert [item.key async for item in listing] == ["d/4"]
        async with list_objects(engine, bucket, "d/", page_size=3) as listing:
            assert [item.key async for item in listing] == KEYS
        assert await keys_of(engine, bucket, "d/") == KEYS
    assert emulator.requests["ListObjects"] >= 3 + 1 + 2 + 3


async def test_what_went_wrong_is_told_to_the_listing(client: CosClient, bucket: str) -> None:
    page = FirstPage(client, "nosuch-1250000000", "d/", 2)
    async with Engine(client, SMALL_LIMITS, first_page=page) as engine:
        with pytest.raises(BucketNotFoundError):
            await keys_of(engine, "nosuch-1250000000", "d/")


def test_an_object_is_told_or_what_went_wrong(client: CosClient, bucket: str) -> None:
    fill(client, bucket)
    found = FirstObject(client, bucket, "d/1")
    assert found.is_for(bucket, "d/1", "")
    assert not found.is_for(bucket, "d/1", "1")
    info = found.take()
    assert info is not None
    assert (info.key, info.size) == ("d/1", 0)
    with pytest.raises(ObjectNotFoundError):
        FirstObject(client, bucket, "d/none").take()


@pytest.mark.parametrize(("seconds", "parts"), [(0.001, 8), (0.1, 12)])
async def test_many_parts_begin_where_the_object_was_told_late(
    client: CosClient, bucket: str, seconds: float, parts: int
) -> None:
    fill(client, bucket)
    found = FirstObject(client, bucket, "d/1")
    found.take()
    found.seconds = seconds
    async with Engine(client, TransferSettings(), first=16, side=True, first_object=found) as engine:
        assert engine._parts is not None
        assert engine._parts.current == parts


# Threads and a fork do not go together, so it needs a process of its own.
PROGRAM = """
import json, sys
import trio
from cosfs.client.client import CosClient
from cosfs.config import load_settings
from cosfs.transfer import engine
from cosfs.transfer.ahead import FirstPage
from cosfs.transfer.engine import Engine
from cosfs.transfer.scan import list_objects

options, bucket = json.loads(sys.argv[1]), sys.argv[2]
engine._ALONE_TIME = float(sys.argv[3])
settings = load_settings(options, environ={"HOME": "/nonexistent"})
client = CosClient.from_settings(settings, options)

async def main(page):
    async with Engine(client, settings.transfer, side=True, first_page=page) as running:
        print(json.dumps([running._side is not None, running._window.most]), flush=True)
        async with list_objects(running, bucket, "d/") as listing:
            print(json.dumps([item.key async for item in listing]))

trio.run(main, FirstPage(client, bucket, "d/", 1000))
"""


@pytest.mark.parametrize(("seconds", "moment"), [(0.05, 60.0), (3600.0, 0.05)])
def test_the_second_process_waits_for_it_a_moment(
    client: CosClient, bucket: str, emulator: Emulator, seconds: float, moment: float
) -> None:
    fill(client, bucket)
    emulator.requests.reset()
    slow = emulator.faults.latency(seconds, operation="ListObjects")
    arguments = [json.dumps(options_of(emulator)), bucket, str(moment)]
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None and process.stderr is not None
            decided = process.stdout.readline()
            emulator.faults.release(slow)
            listed, said = process.stdout.read(), process.stderr.read()
            assert process.wait(120) == 0, said
        finally:
            process.kill()
    assert json.loads(listed) == KEYS
    assert emulator.requests["ListObjects"] == 1
    # One that cannot be had without losing time is done without: then this process has more under way.
    assert json.loads(decided) == ([True, 128] if seconds < moment else [False, 256])
