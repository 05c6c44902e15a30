"""Going through a tree: few requests for many directories, and never more than it is worth."""

from __future__ import annotations

from collections import Counter

import pytest

from cosfs.emulator import Emulator
from cosfs.errors import COSError
from cosfs.fs import commit, walks
from cosfs.fs.inodes import ROOT_INO
from cosfs.fs.recovery import Recovery
from tests.fs.conftest import Filesystems
from tests.fs.support import Files, counted


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Believe what a walk told for long, should the machine stand still."""
    monkeypatch.setattr(walks, "BELIEVED", 3600.0)


async def walk(files: Files, path: str = "") -> list[str]:
    """What `find -type f` sees, in its order: a directory is read to its end, then its children are."""
    found: list[str] = []
    for name in await files.list(path):
        place = f"{path}/{name}".lstrip("/")
        if (await files.node(place)).is_dir:
            found += await walk(files, place)
        else:
            found.append(place)
    return found


def fill(emulator: Emulator, files: Files, keys: list[str]) -> None:
    emulator.put_objects(files.bucket, ((key, b"x") for key in keys))


TREE = [f"tree/{directory:03}/{number:03}" for directory in range(100) for number in range(100)]


async def test_ten_thousand_files_in_a_hundred_directories_cost_ten_lists_and_a_few(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    files = await filesystem(attributes="listing")
    fill(emulator, files, TREE)
    with counted(emulator) as requests:
        assert await walk(files) == TREE
    assert set(requests) == {"ListObjects"}
    # The root, its child, the first of the hundred; then pages of a thousand keys.
    assert requests["ListObjects"] <= 3 + 10 + 2


async def test_directories_without_an_object_that_a_walk_told_of_cost_no_head(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    files = await filesystem(head_ahead=0)
    fill(
        emulator, files, [f"tree/{directory:03}/{number}" for directory in range(100) for number in range(10)]
    )
    await files.list("tree")
    with counted(emulator) as requests:
        for name in [f"{directory:03}" for directory in range(100)]:
            await files.list(f"tree/{name}")
    assert requests["ListObjects"] <= 4
    assert requests["HeadObject"] <= 3, "of the first ones, when nobody walked yet"


async def test_a_deep_tree_is_walked_in_pages(filesystem: Filesystems, emulator: Emulator) -> None:
    files = await filesystem(attributes="listing")
    keys = sorted(f"{a}/{b}/{c}/f{n}" for a in "abcd" for b in "abcd" for c in "abcd" for n in range(8))
    fill(emulator, files, keys)
    with counted(emulator) as requests:
        assert sorted(await walk(files)) == keys
    assert requests["ListObjects"] <= 14, "85 directories"


async def test_a_single_directory_costs_one_list(filesystem: Filesystems, emulator: Emulator) -> None:
    files = await filesystem(attributes="listing")
    fill(emulator, files, TREE[:1000])
    await files.list("tree")
    with counted(emulator) as requests:
        await files.list("tree/005")
    assert requests == {"ListObjects": 1}


async def test_a_walk_that_does_not_pay_ends(
    filesystem: Filesystems, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walks, "LARGE", 500)
    files = await filesystem(attributes="listing")
    fill(
        emulator, files, [f"tree/{directory}/{number:04}" for directory in range(8) for number in range(2500)]
    )
    with counted(emulator) as requests:
        assert len(await walk(files)) == 20_000
    assert requests["ListObjects"] <= 2 + 8 * 3 + walks.FAILURES_MAX * walks.TRIES


async def test_a_walker_who_skips_subtrees_is_not_followed_far(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    """`ls */` of directories whose depths hold very many keys."""
    files = await filesystem(attributes="listing")
    fill(
        emulator,
        files,
        [f"{directory:02}/deep/{number:05}" for directory in range(12) for number in range(3000)],
    )
    with counted(emulator) as requests:
        for name in await files.list():
            assert await files.list(name) == ["deep"]
    assert requests["ListObjects"] <= 1 + 12 + walks.FAILURES_MAX * walks.TRIES + 4


async def test_what_is_changed_here_during_a_walk_is_seen_by_it(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    files = await filesystem(attributes="listing", metadata_ttl=60.0)
    fill(emulator, files, TREE[:1000])
    await files.list("tree")
    for number in (0, 1):
        await files.list(f"tree/{number:03}")
    await files.put("tree/005/new", b"x")
    await files.unlink("tree/006/050")
    await files.unlink("tree/007/000")
    assert "new" in await files.list("tree/005")
    assert "050" not in await files.list("tree/006")
    await files.removed()
    assert "000" not in await files.list("tree/007")
    assert len(await walk(files)) == 999


async def test_awkward_keys_are_where_they_are_without_a_walk(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    keys = [f"t/{number:02}/f" for number in range(5)]
    keys += [
        "t/02//x",
        "t/02/a",
        "t/02/a/b",
        "t/02/a-",
        "t/03/../y",
        "t/03/",
        "t/03-/z",
        "t/03",
        "t/04/" + "n" * 300,
    ]
    alone = await filesystem(attributes="listing")
    fill(emulator, alone, keys)
    seen: list[Counter[str]] = []
    for walking in (True, False):
        files = await filesystem(attributes="listing")
        found: Counter[str] = Counter()
        names = await files.list("t")
        for name in names if walking else reversed(names):
            if not walking:
                files.tree.root.read_until = 0.0
                (await files.node("t")).read_until = 0.0  # type: ignore[attr-defined]
            await _collect(files, f"t/{name}", found)
        seen.append(found)
    assert seen[0] == seen[1] and len(seen[0]) >= len(keys)


async def _collect(files: Files, path: str, found: Counter[str]) -> None:
    found[path] += 1
    if (await files.node(path)).is_dir:
        for name in await files.list(path):
            await _collect(files, f"{path}/{name}", found)


async def test_what_others_changed_is_seen_by_a_walk_after_the_time_to_live(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    files = await filesystem(attributes="listing", metadata_ttl=0)
    fill(emulator, files, TREE[:1000])
    assert len(await walk(files)) == 1000
    await files.upload("tree/009/new", b"x")
    await files.delete("tree/008/001")
    found = await walk(files)
    assert "tree/009/new" in found and "tree/008/001" not in found


async def test_a_walk_that_fails_is_told_to_who_asks(filesystem: Filesystems, emulator: Emulator) -> None:
    files = await filesystem(attributes="listing")
    fill(emulator, files, TREE[:1000])
    await files.list("tree")
    await files.list("tree/000")
    emulator.faults.error("ListObjects", "SlowDown", 503, count=0)
    with pytest.raises(COSError):
        await files.list("tree/001")
    emulator.faults.clear()
    assert len(await files.list("tree/001")) == 100


async def _begin_walk(files: Files) -> None:
    """All of the tree is listed; of its directories two are read."""
    await files.list("tree")
    for number in (0, 1):
        await files.list(f"tree/{number:03}")


def _forget_everything(files: Files) -> None:
    """The kernel forgets all names; what nothing else is known of is gone."""
    for node in reversed(list(files.tree.table.nodes.values())):
        if node.ino != ROOT_INO:
            files.fs.forget(node.ino, node.nlookup)
    assert list(files.tree.table.nodes) == [ROOT_INO]


async def test_a_mode_that_was_sent_during_a_walk_is_not_undone_by_it(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    files = await filesystem(head_ahead=0)
    fill(emulator, files, TREE[:1000])
    assert await files.mode("tree/005/050") == 0o644, "and remembered of this object"
    await _begin_walk(files)
    await files.chmod("tree/005/050", 0o600)
    await files.fs.drain()
    _forget_everything(files)
    await files.list("tree/005")
    assert await files.mode("tree/005/050") == 0o600


async def test_bytes_that_were_sent_during_a_walk_are_not_undone_by_it(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    files = await filesystem(head_ahead=0)
    fill(emulator, files, TREE[:1000])
    await _begin_walk(files)
    await files.put("tree/005/050", b"longer than before")
    await files.put("tree/005/new", b"new")
    await files.fs.drain()
    _forget_everything(files)
    assert "new" in await files.list("tree/005")
    assert await files.get("tree/005/050") == b"longer than before"


async def test_the_mode_of_a_directory_that_was_sent_during_a_walk_is_not_undone_by_it(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    files = await filesystem(head_ahead=0)
    fill(emulator, files, TREE[:1000])
    await _begin_walk(files)
    await files.chmod("tree/005", 0o700)
    await files.fs.drain()
    _forget_everything(files)
    assert await files.mode("tree/005") == 0o700


async def test_a_walk_goes_on_beside_a_directory_that_was_changed(
    filesystem: Filesystems, emulator: Emulator
) -> None:
    files = await filesystem(attributes="listing")
    fill(emulator, files, TREE[:1000])
    await _begin_walk(files)
    await files.put("tree/005/050", b"longer than before")
    await files.fs.drain()
    with counted(emulator) as requests:
        assert len(await walk(files)) == 1000
    assert requests["ListObjects"] <= 2


async def test_a_mode_that_recovery_sends_during_a_walk_is_not_undone_by_it(
    filesystem: Filesystems, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "ATTRIBUTE_DELAY", 60.0)
    first = await filesystem("cache", head_ahead=0)
    fill(emulator, first, TREE[:1000])
    assert await first.mode("tree/005/050") == 0o644, "and remembered on disk of this object"
    await first.chmod("tree/005/050", 0o600)
    await first.chmod("tree/006", 0o700)
    await filesystem.kill(first)
    second = await filesystem("cache", recovering=False, head_ahead=0)
    recovery = Recovery(second.fs, second.journal.records())
    await recovery.begin(60.0)
    await _begin_walk(second)
    await second.fs.drain()
    await recovery.run()
    assert second.journal.records() == []
    _forget_everything(second)
    await second.list("tree/005")
    assert await second.mode("tree/005/050") == 0o600
    assert await second.mode("tree/006") == 0o700
