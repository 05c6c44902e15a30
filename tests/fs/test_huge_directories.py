"""Directories of which only a part is kept in memory."""

from __future__ import annotations

import pytest
import trio

from cosfs.emulator import Emulator
from cosfs.fs import listing, sweeper, tree
from cosfs.fs.inodes import ROOT_INO
from cosfs.fs.listing import Listing
from cosfs.fs.sweeper import Sweeper
from tests.fs.conftest import Filesystems
from tests.fs.support import Files, counted, until

NAMES = [f"k{number:03}" for number in range(100)]
PAGE = 10


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of 10 entries, of which three are kept."""
    original = Listing.__init__

    def init(self: Listing, *args: object, **kwargs: object) -> None:
        original(self, *args, **{**kwargs, "page_size": PAGE})  # type: ignore[arg-type]

    monkeypatch.setattr(Listing, "__init__", init)
    monkeypatch.setattr(listing, "KEPT", 3 * PAGE)
    monkeypatch.setattr(tree, "KEPT", 3 * PAGE)


@pytest.fixture
async def huge(files: Files, emulator: Emulator) -> Files:
    emulator.put_objects(files.bucket, ((name, b"x") for name in NAMES))
    return files


async def test_all_is_listed_and_little_is_kept(huge: Files) -> None:
    assert await huge.list() == NAMES
    kept = huge.tree.root.listing
    assert kept is not None and len(kept.entries) <= 4 * PAGE and len(kept) == len(NAMES)


async def test_a_second_reader_begins_at_the_beginning(huge: Files) -> None:
    assert await huge.list() == NAMES
    assert await huge.list() == NAMES


async def test_a_reader_who_goes_back_reads_the_page_again(huge: Files, emulator: Emulator) -> None:
    fh = await huge.fs.opendir(ROOT_INO)
    _, first = await huge.fs.readdir(fh, 0)
    assert await first.load_until(99)
    with counted(emulator) as requests:
        position = 2 + 25  # behind "." and ".."
        _, again = await huge.fs.readdir(fh, position)
        names = []
        for index in range(25, 100):
            assert await again.load_until(index)
            names.append(again.at(index).name.decode())
    assert names == NAMES[25:]
    assert requests == {"ListObjects": 8}, "from the page that holds the position to the end"
    huge.fs.releasedir(fh)


async def test_names_of_dropped_pages_are_found_and_others_are_not(huge: Files, emulator: Emulator) -> None:
    assert await huge.list() == NAMES
    with counted(emulator) as requests:
        assert await huge.exists("k003")
        assert not await huge.exists("nothing")
        assert await huge.exists("k099")
    assert requests["ListObjects"] <= 2 and requests["HeadObject"] <= 4, "what is kept costs no list"


async def test_a_directory_of_which_pages_were_dropped_is_not_taken_for_empty(huge: Files) -> None:
    assert await huge.list() == NAMES
    assert not await huge.tree.is_empty(huge.tree.root)


async def test_the_oldest_of_many_listings_are_dropped(
    files: Files, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator.put_objects(
        files.bucket, ((f"d{number}/{name}", b"x") for number in range(5) for name in NAMES[:20])
    )
    monkeypatch.setattr(sweeper, "ENTRIES_MAX", 50)
    for number in range(5):
        await files.list(f"d{number}")
    assert Sweeper(files.tree, lambda parent, name: None).drop_listings() >= 3
    with counted(emulator) as requests:
        await files.list("d4")
    assert requests == {}, "the last one is kept"


@pytest.mark.parametrize("ttl", [0.0, 600.0])
@pytest.mark.parametrize("is_listed", [True, False])
async def test_a_directory_stays_when_its_entries_are_removed(
    filesystem: Filesystems, emulator: Emulator, ttl: float, is_listed: bool
) -> None:
    files = await filesystem(metadata_ttl=ttl)
    emulator.put_objects(files.bucket, ((f"d/{name}", b"x") for name in NAMES))
    if is_listed:
        assert await files.list("d") == NAMES
    for name in NAMES:
        await files.unlink(f"d/{name}")
    await files.removed()
    assert await files.list() == ["d"]
    await files.rmdir("d")
    await files.removed()
    assert await files.keys() == []


async def test_a_directory_stays_when_its_last_entry_goes_while_it_is_read_anew(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    files = await filesystem(metadata_ttl=60.0)
    await files.upload("d/a", b"a")
    node = await files.file("d/a")
    directory = await files.node("d")
    node.expires = directory.listing.started = 0.0
    slow = emulator.faults.latency(0.3, "ListObjects")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(files.exists, "d/other")
        await until(lambda: not directory.listing.started_reading)
        node.expires = trio.current_time() + 60  # as the HEAD of an open() believes it
        await files.fs.unlink(directory.ino, b"a")
    emulator.faults.remove(slow)
    await files.removed()
    files.tree.forget_all()
    assert await files.list() == ["d"]
    assert await files.list("d") == []


@pytest.mark.parametrize("gone", ["removed", "renamed", "a directory", "renamed directory"])
async def test_a_directory_whose_listing_was_dropped_stays_when_its_last_entry_goes(
    files: Files, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    monkeypatch.setattr(sweeper, "ENTRIES_MAX", 0)
    last = "d/a/" if gone.endswith("directory") else "d/a"
    await files.upload(last, b"")
    directory = await files.node("d")
    await files.node("d/a")
    Sweeper(files.tree, lambda parent, name: None).drop_listings()
    assert directory.listing is None
    if gone.startswith("renamed"):
        await files.fs.rename(directory.ino, b"a", ROOT_INO, b"new")
    elif gone == "removed":
        await files.fs.unlink(directory.ino, b"a")
    else:
        await files.fs.rmdir(directory.ino, b"a")
    await files.removed()
    files.tree.forget_all()
    assert sorted(await files.list()) == ["d", "new"][: 1 + gone.startswith("renamed")]
    assert await files.list("d") == []
