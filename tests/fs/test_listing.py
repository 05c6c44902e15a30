"""One reading of a directory: pages, positions, names that meet."""

from __future__ import annotations

import time
from typing import Any

import trio

from cosfs.client.model import ObjectInfo
from cosfs.emulator import Emulator
from cosfs.fs.listing import Entry, Listing
from cosfs.fs.names import shadow_name
from tests.fs.support import Files, counted


def listing(files: Files, prefix: str = "", page_size: int = 3, **changes: Any) -> Listing:
    chosen: dict[str, Any] = {"hide": lambda entry: False, "page_hook": lambda page: page, **changes}
    return Listing(files.fs.remote, files.bucket, prefix, page_size=page_size, **chosen)


async def uploaded(files: Files, *keys: str) -> None:
    async with trio.open_nursery() as nursery:
        for key in keys:
            nursery.start_soon(files.upload, key, key.encode())


def names(found: Listing) -> list[str]:
    return [entry.name.decode() for entry in found.between(0, found.count) if not entry.removed]


async def test_pages_are_fetched_as_they_are_asked_for(files: Files, emulator: Emulator) -> None:
    await uploaded(files, *[f"k{i}" for i in range(8)])
    found = listing(files)
    with counted(emulator) as requests:
        await found.load_first()
        assert names(found) == ["k0", "k1", "k2"]
        assert not found.complete
        assert await found.load_until(4)
        assert not await found.load_until(8)
    assert names(found) == [f"k{i}" for i in range(8)]
    assert found.complete
    assert requests == {"ListObjects": 3}


async def test_many_readers_share_each_page(files: Files, emulator: Emulator) -> None:
    await uploaded(files, *[f"k{i}" for i in range(6)])
    found = listing(files)
    with counted(emulator) as requests:
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(found.load_first)
                nursery.start_soon(found.search, b"")
    assert requests == {"ListObjects": 2}


async def test_the_marker_is_not_an_entry(files: Files) -> None:
    await uploaded(files, "d/a")
    await files.upload("d/", b"")
    found = listing(files, "d/")
    await found.search(b"")
    assert names(found) == ["a"]
    assert found.marker is not None and found.marker.key == "d/"


async def test_a_marker_with_bytes_in_it_shows_them(files: Files) -> None:
    await files.upload("d/", b"data")
    found = listing(files, "d/")
    await found.search(b"")
    assert names(found) == ["%=content"]


async def test_a_file_beside_a_directory_gets_a_suffix_whichever_comes_first(files: Files) -> None:
    # "a" sorts before "a-" before "a/": the directory comes one page later.
    await uploaded(files, "a", "a-", "a.", "a/x")
    found = listing(files, page_size=1)
    await found.load_first()
    first = found.get(b"a")
    assert first is not None and not first.is_dir
    position = first.index
    await found.search(b"")
    shadow = found.get(shadow_name("a"))
    assert shadow is first and shadow.index == position
    directory = found.get(b"a")
    assert directory is not None and directory.is_dir
    assert sorted(names(found)) == ["a", "a%=file", "a-", "a."]


async def test_a_file_made_here_keeps_its_name_when_a_directory_turns_up(files: Files) -> None:
    await uploaded(files, "a/x")
    found = listing(files)
    found.add(Entry(b"a", "a", False, None))
    await found.search(b"")
    assert names(found) == ["a"]


async def test_positions_outlive_removals_and_additions(files: Files) -> None:
    await uploaded(files, *[f"k{i}" for i in range(6)])
    found = listing(files)
    await found.load_first()
    found.remove(b"k1")
    found.add(Entry(b"new", "new", False, None))
    assert [entry.name for entry in found.between(0, found.count)] == [b"k0", b"k1", b"k2", b"new"]
    assert found.at(1).removed
    await found.search(b"")
    assert names(found) == ["k0", "k2", "new", "k3", "k4", "k5"]


async def test_what_was_made_here_lately_gives_way_to_what_others_wrote_since(files: Files) -> None:
    await uploaded(files, "a", "b")
    ours = Entry(b"a", "a", False, ObjectInfo("a", 5, "ours", 1.0))
    newer = Entry(b"b", "b", False, ObjectInfo("b", 5, "ours", time.time() + 100))
    found = listing(files)
    found.add(ours)
    found.add(newer)
    await found.search(b"")
    assert names(found) == ["a", "b"]
    assert ours.info is not None and ours.info.etag != "ours"
    assert newer.info is not None and newer.info.etag == "ours"


async def test_what_was_removed_here_is_left_out(files: Files) -> None:
    await uploaded(files, "a", "b", "d/x")
    found = listing(files, hide=lambda entry: entry.name in (b"a", b"d"))
    await found.search(b"")
    assert names(found) == ["b"]


async def test_one_bad_key_does_not_spoil_the_directory(files: Files) -> None:
    hostile = ["/x", "./x", "../x", "a//b", "x" * 300, "%=odd", "tab\tand\nline", "y%=file"]
    await uploaded(files, *hostile, "good")
    found = listing(files, page_size=100)
    await found.search(b"")
    shown = [entry.name for entry in found.between(0, found.count)]
    assert len(shown) == len(set(shown)) == 9
    assert b"good" in shown
    assert all(name and b"/" not in name and len(name) <= 255 for name in shown)
    assert not {b".", b".."} & set(shown)
