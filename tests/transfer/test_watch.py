"""What inotify tells of a tree, gathered: files, whole directories, and when that is not enough."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from cosfs.transfer.sides import EVERYTHING, Scope
from cosfs.transfer.watch import Changes, TreeWatch

QUEUE = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())


@pytest.fixture
async def watch(tmp_path: Path) -> AsyncIterator[TreeWatch]:
    for name in ("a", "s/b", "s/t/c", "excluded/x"):
        path = tmp_path / "d" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    with TreeWatch(str(tmp_path / "d")) as tree:
        await tree.start()
        yield tree


async def next_changes(tree: TreeWatch) -> Changes:
    with trio.fail_after(100):
        return await tree.changes()


async def test_files(watch: TreeWatch, tmp_path: Path) -> None:
    (tmp_path / "d/a").write_text("new")
    (tmp_path / "d/s/t/new").write_text("x")
    (tmp_path / "d/s/b").unlink()
    assert (await next_changes(watch)).places == {"a", "s/t/new", "s/b", "s/b/"}
    (tmp_path / "d/a").rename(tmp_path / "d/s/t/moved")
    (tmp_path / "d/link").symlink_to("s/t/c")
    os.link(tmp_path / "d/s/t/c", tmp_path / "d/hard")
    found = await next_changes(watch)
    assert found.places == {"a", "a/", "s/t/moved", "link", "hard"} and not found.everything


async def test_what_is_being_written_waits_for_its_end(watch: TreeWatch, tmp_path: Path) -> None:
    with (tmp_path / "d/new").open("w") as file:
        file.write("half")
        file.flush()
        with trio.move_on_after(0.5) as waiting:
            await watch.changes()
        assert waiting.cancelled_caught
    assert (await next_changes(watch)).places == {"new"}


async def test_directories(watch: TreeWatch, tmp_path: Path) -> None:
    (tmp_path / "d/n/deep").mkdir(parents=True)
    (tmp_path / "d/n/deep/f").write_text("x")
    assert "n/" in (await next_changes(watch)).places
    # The new ones are watched themselves by now.
    (tmp_path / "d/n/deep/g").write_text("x")
    assert (await next_changes(watch)).places == {"n/deep/g"}
    (tmp_path / "d/n").rename(tmp_path / "d/m")
    assert (await next_changes(watch)).places == {"n/", "m/"}
    (tmp_path / "d/m/deep/g").write_text("y")
    assert (await next_changes(watch)).places == {"m/deep/g"}
    (tmp_path / "d/s").rename(tmp_path / "outside")
    assert (await next_changes(watch)).places == {"s/"}
    (tmp_path / "outside/b").write_text("not ours any more")
    (tmp_path / "d/a").write_text("ours")
    assert (await next_changes(watch)).places == {"a"}
    shutil.rmtree(tmp_path / "d/m")
    assert "m/" in (await next_changes(watch)).places


async def test_excluded_directories_are_not_watched(tmp_path: Path) -> None:
    (tmp_path / "d/s").mkdir(parents=True)
    (tmp_path / "d/other").mkdir()
    with TreeWatch(str(tmp_path / "d"), Scope(EVERYTHING, ["s/", "f"])) as tree:
        await tree.start()
        for name in ("other/x", "g", "f", "s/y"):
            (tmp_path / "d" / name).write_text("x")
        (tmp_path / "d/another").mkdir()
        assert (await next_changes(tree)).places == {"f", "s/y"}


async def test_linked_directories(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "d").mkdir()
    (tmp_path / "d/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "d/loop").symlink_to(tmp_path / "d")
    with TreeWatch(str(tmp_path / "d")) as tree:
        await tree.start()
        (tmp_path / "elsewhere/f").write_text("x")
        assert "link/f" in (await next_changes(tree)).places
        (tmp_path / "more").mkdir()
        (tmp_path / "d/again").symlink_to(tmp_path / "more")
        assert "again/" in (await next_changes(tree)).places
        (tmp_path / "more/f").write_text("x")
        assert "again/f" in (await next_changes(tree)).places


async def test_a_full_queue_means_everything(watch: TreeWatch, tmp_path: Path) -> None:
    for number in range(QUEUE // 2 + 10):  # two events each
        (tmp_path / "d" / str(number)).touch()
    assert (await next_changes(watch)).everything


async def test_the_directory_itself_goes(watch: TreeWatch, tmp_path: Path) -> None:
    (tmp_path / "d").rename(tmp_path / "e")
    assert (await next_changes(watch)).root_gone


async def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with TreeWatch(str(tmp_path / "nowhere")) as tree, pytest.raises(FileNotFoundError):
        await tree.start()
