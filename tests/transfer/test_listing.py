"""Remote listings as one stream, and how they meet the local walk."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from cosfs.client.client import CosClient
from cosfs.client.model import ObjectId, ObjectInfo
from cosfs.emulator import Emulator
from cosfs.errors import BucketNotFoundError
from cosfs.transfer.delete import delete_many
from cosfs.transfer.engine import Engine
from cosfs.transfer.scan import Prefix, list_objects, walk

KEYS = ["a", "a-b", "a.txt", "a/", "a/b", "a/c/d", "a0", "b/c", "é", "￿", "𐀀", "~x\x01y", "//", "../up"]


def fill(client: CosClient, bucket: str, keys: list[str]) -> None:
    for key in keys:
        client.put_object(bucket, key, b"")


async def keys_of(engine: Engine, bucket: str, prefix: str = "", **options: str) -> list[str]:
    async with list_objects(engine, bucket, prefix, **options) as listing:
        return [item.key async for item in listing]


async def test_all_keys_in_byte_order(engine: Engine, client: CosClient, bucket: str) -> None:
    fill(client, bucket, KEYS)
    assert await keys_of(engine, bucket) == sorted(KEYS, key=str.encode)
    assert await keys_of(engine, bucket, "a/") == ["a/", "a/b", "a/c/d"]
    assert await keys_of(engine, bucket, start_after="b/c") == ["~x\x01y", "é", "￿", "𐀀"]
    assert await keys_of(engine, bucket, "nothing") == []


async def test_delimiter_gives_prefixes_in_their_place(
    engine: Engine, client: CosClient, bucket: str
) -> None:
    fill(client, bucket, ["a", "a-b", "a/b", "a/c", "b", "c/d"])
    async with list_objects(engine, bucket, delimiter="/") as listing:
        items = [item async for item in listing]
    assert [item.key for item in items] == ["a", "a-b", "a/", "b", "c/"]
    assert [isinstance(item, Prefix) for item in items] == [False, False, True, False, True]
    assert isinstance(items[0], ObjectInfo)


async def many(engine: Engine, client: CosClient, bucket: str, count: int) -> list[str]:
    keys = [f"d{number // 1000}/{number:05}" for number in range(count)]
    await engine.run_many(lambda key: client.put_object(bucket, key, b""), keys, lambda *_: None)
    return keys


async def test_pages_are_fetched_ahead_and_each_once(
    engine: Engine, client: CosClient, bucket: str, emulator: Emulator
) -> None:
    keys = await many(engine, client, bucket, 2500)
    emulator.requests.reset()
    async with list_objects(engine, bucket) as listing:
        first = await anext(listing)
        with trio.fail_after(100):
            while emulator.requests["ListObjects"] < 2:  # noqa: ASYNC110
                await trio.sleep(0.01)
        rest = [item.key async for item in listing]
    assert [first.key, *rest] == keys
    assert emulator.requests.snapshot() == {"ListObjects": 3}


async def test_subtrees_can_be_skipped(
    engine: Engine, client: CosClient, bucket: str, emulator: Emulator
) -> None:
    await many(engine, client, bucket, 4500)
    fill(client, bucket, ["a", "z"])
    emulator.requests.reset()
    seen = []
    async with list_objects(engine, bucket) as listing:
        async for item in listing:
            seen.append(item.key)
            if "/" in item.key:
                listing.skip(item.key[:3])
    assert seen == ["a", "d0/00000", "d1/01000", "d2/02000", "d3/03000", "d4/04000", "z"]


async def test_leaving_early_is_fine(engine: Engine, client: CosClient, bucket: str) -> None:
    fill(client, bucket, ["a", "b"])
    async with list_objects(engine, bucket) as listing:
        async for _ in listing:
            break


async def test_missing_bucket(engine: Engine) -> None:
    with pytest.raises(BucketNotFoundError):
        await keys_of(engine, "nowhere-1250000000")


async def test_both_sides_sort_alike(engine: Engine, client: CosClient, bucket: str, tmp_path: Path) -> None:
    keys = ["a/b", "a-b", "a.txt", "a/c/d", "a0", "b", "é/x", "z/1", "𐀀", "￿", "Z"]
    fill(client, bucket, keys)
    for key in keys:
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).touch()
    assert [entry.relative async for entry in walk(tmp_path)] == await keys_of(engine, bucket)


# --- deleting


async def test_delete_in_batches(engine: Engine, client: CosClient, bucket: str, emulator: Emulator) -> None:
    keys = await many(engine, client, bucket, 2500)
    fill(client, bucket, ["stay"])
    emulator.requests.reset()
    told: list[str] = []
    async with list_objects(engine, bucket, "d") as listing:
        counts = await delete_many(
            engine,
            bucket,
            (ObjectId(item.key) async for item in listing),
            on_result=lambda item, failure: told.append(item.key),
        )
    assert (counts.deleted, counts.failed) == (2500, 0)
    assert sorted(told) == keys
    assert emulator.requests["DeleteObjects"] == 3
    assert await keys_of(engine, bucket) == ["stay"]


async def test_failed_batch_is_a_failure_of_each(
    engine: Engine, client: CosClient, bucket: str, emulator: Emulator
) -> None:
    fill(client, bucket, ["a", "b", "c"])
    emulator.faults.error("DeleteObjects", "AccessDenied", 403, count=1)
    failures: dict[str, str] = {}

    def told(item: ObjectId, failure: object) -> None:
        failures[item.key] = getattr(failure, "code", "")

    counts = await delete_many(
        engine, bucket, [ObjectId(key) for key in ["a", "b", "c"]], on_result=told, batch=2
    )
    assert (counts.deleted, counts.failed) in ((1, 2), (2, 1))
    assert sorted(failures) == ["a", "b", "c"]
    assert list(failures.values()).count("AccessDenied") == counts.failed


async def test_objects_that_do_not_exist_count_as_deleted(engine: Engine, bucket: str) -> None:
    counts = await delete_many(engine, bucket, [ObjectId("nothing"), ObjectId("odd\x01key")])
    assert (counts.deleted, counts.failed) == (2, 0)


async def test_nothing_to_delete_is_no_request(engine: Engine, bucket: str, emulator: Emulator) -> None:
    await delete_many(engine, bucket, [])
    assert emulator.requests.snapshot() == {}
