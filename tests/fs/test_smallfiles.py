"""Small files that are read one after the other."""

from __future__ import annotations

import random

import pytest

from cosfs.client.model import Headers
from cosfs.emulator import Emulator
from cosfs.errors import COSError
from cosfs.fs import smallfiles
from tests.fs.conftest import Filesystems
from tests.fs.support import Files, counted

KEYS = [f"d/k{number:03}" for number in range(200)]


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads one after the other may stand still between two of them."""
    monkeypatch.setattr(smallfiles, "NEXT_WITHIN", 3600.0)


def content(key: str) -> bytes:
    return key.encode() * 50


@pytest.fixture
async def many(files: Files, emulator: Emulator) -> Files:
    emulator.put_objects(files.bucket, ((key, content(key)) for key in KEYS))
    return files


async def test_files_read_in_order_cost_one_get_each_and_their_attributes_nothing(
    many: Files, emulator: Emulator
) -> None:
    with counted(emulator) as requests:
        for key in KEYS:
            assert await many.get(key) == content(key)
    assert requests["GetObject"] == 200
    assert requests["HeadObject"] <= 10, "of the first ones, when nobody read in order yet, and the directory"


async def test_attributes_that_come_with_the_bytes_are_shown(files: Files, emulator: Emulator) -> None:
    for number in range(20):
        await files.upload(
            f"d/k{number:02}", b"x", headers=Headers(metadata={"mode": str(0o100640 + number % 8)})
        )
    with counted(emulator) as requests:
        for number in range(20):
            assert await files.get(f"d/k{number:02}") == b"x"
            assert await files.mode(f"d/k{number:02}") == 0o640 + number % 8
    assert requests["GetObject"] == 20
    assert requests["HeadObject"] <= 10


async def test_files_read_at_random_cost_little_more_than_what_is_read(
    many: Files, emulator: Emulator
) -> None:
    asked = random.Random(3).sample(KEYS, 40)
    with counted(emulator) as requests:
        for key in asked:
            assert await many.get(key) == content(key)
    assert requests["GetObject"] <= 40 + 16


async def test_large_ones_among_them_are_not_fetched_ahead(files: Files, emulator: Emulator) -> None:
    large = b"x" * (300 << 10)
    emulator.put_objects(files.bucket, ((f"d/k{n:02}", large if n % 2 else b"small") for n in range(20)))
    with counted(emulator) as requests:
        for number in range(0, 20, 2):
            assert await files.get(f"d/k{number:02}") == b"small"
    assert requests["GetObject"] == 10


async def test_one_replaced_after_it_was_listed_is_not_taken_for_what_was_listed(
    many: Files, emulator: Emulator
) -> None:
    await many.stat(KEYS[0])
    changed = {key: b"new " + content(key) for key in KEYS[20:60]}
    emulator.put_objects(many.bucket, changed.items())
    seen = []
    for key in KEYS[:80]:
        try:
            seen.append(await many.get(key))
        except COSError as exc:
            assert key in changed, exc  # ESTALE, as for every file replaced behind our back
            assert await many.get(key) == changed[key]
        else:
            assert seen[-1] == changed.get(key, content(key))


async def test_what_was_read_is_not_asked_for_again_by_the_next_mount(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    first = await filesystem("cache")
    emulator.put_objects(first.bucket, ((key, content(key)) for key in KEYS))
    for key in KEYS:
        await first.get(key)
    await filesystem.end(first)
    second = await filesystem("cache")
    with counted(emulator) as requests:
        for key in KEYS:
            assert await second.get(key) == content(key)
    assert requests["GetObject"] == 0
    assert requests["HeadObject"] <= 3


async def test_a_tree_of_small_directories_costs_one_get_a_file(files: Files, emulator: Emulator) -> None:
    keys = [f"t/d{number // 10:02}/k{number % 10}" for number in range(300)]
    emulator.put_objects(files.bucket, ((key, content(key)) for key in keys))
    with counted(emulator) as requests:
        for name in await files.list("t"):
            for inner in await files.list(f"t/{name}"):
                path = f"t/{name}/{inner}"
                assert await files.get(path) == content(path)
    assert requests["GetObject"] == 300
    assert requests["HeadObject"] <= 30 + 1 + 20, "of the directories, and of the first files"


async def test_names_only_asked_for_after_files_were_read_are_not_read(
    files: Files, emulator: Emulator
) -> None:
    keys = [f"t/d{number // 40:02}/k{number % 40:02}" for number in range(400)]
    emulator.put_objects(files.bucket, ((key, content(key)) for key in keys))
    for name in await files.list("t/d00"):
        await files.get(f"t/d00/{name}")
    with counted(emulator) as requests:
        for number in range(1, 10):
            for name in await files.list(f"t/d{number:02}"):
                await files.stat(f"t/d{number:02}/{name}")
    assert requests["GetObject"] <= 16
    assert requests["HeadObject"] + requests["GetObject"] <= 360 + 2 * 10
