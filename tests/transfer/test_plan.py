"""Planning without a server: pairs, what stands in the way, what is protected; and its parts."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

from cosfs.client.model import ObjectInfo
from cosfs.errors import UsageError
from cosfs.transfer.compare import Rules, Side, object_side
from cosfs.transfer.plan import DeleteLimit, Extra, Extras, Plan, SyncOptions, Transfer, merge
from cosfs.transfer.scan import LocalEntry, stat_entry
from cosfs.transfer.sides import EVERYTHING, Entry, LocalSide, Problem, Scope, file_side
from cosfs.transfer.snapshot import Snapshot


def entry(name: str, size: int = 1, etag: str = "0" * 32) -> Entry:
    info = ObjectInfo(name, size, etag, 0.0)
    return Entry(name, object_side(info), info)


async def stream(names: Iterable[str]) -> AsyncIterator[Entry]:
    for name in names:
        yield entry(name)


async def test_merge_pairs_what_both_have() -> None:
    chance = random.Random(1)
    alphabet = ["a", "a-", "a/", "a/b", "a0", "é", "e\u0301", "\uffff", "\U00010000", "z"]
    for _ in range(100):
        one, other = ({name for name in alphabet if chance.random() < 0.5} for _ in range(2))
        pairs = merge(stream(sorted(one, key=str.encode)), stream(sorted(other, key=str.encode)))
        found = [(left and left.relative, right and right.relative) async for left, right in pairs]
        names = sorted(one | other, key=str.encode)
        assert found == [(n if n in one else None, n if n in other else None) for n in names]


def test_limits() -> None:
    assert DeleteLimit(3).allows(3, 3) and not DeleteLimit(3).allows(4, 1000)
    assert DeleteLimit(10, percent=True).allows(1, 10) and not DeleteLimit(10, percent=True).allows(2, 10)
    assert DeleteLimit(0).allows(0, 5) and not DeleteLimit(0, percent=True).allows(1, 5)
    assert (str(DeleteLimit(3)), str(DeleteLimit(2.5, percent=True))) == ("3", "2.5%")


def test_extras_come_back_in_order_from_memory_and_from_disk() -> None:
    extras = Extras()
    names = [f"name \udce9\n {number:06}" for number in range(20_000)]  # more than is kept in memory
    for name in names:
        extras.add(Extra(entry(name), name[:3]))
    for _ in range(2):
        assert [extra.entry.relative for extra in extras] == names
    assert extras.count == 20_000
    extras.close()


def test_scope() -> None:
    scope = Scope(EVERYTHING, ["b/", "b/c", "a", "d/e/f", "b-"])
    assert scope.places == ["a", "b-", "b/", "d/e/f"]
    taken = ["a", "b-", "b/", "b/x", "b/c/d", "d/e/f"]
    assert [name for name in [*taken, "aa", "b", "c", "d/e", "d/e/ff"] if scope.takes_name(name)] == taken
    pruned = ["a/", "c/", "d/f/", "d/e/f/"]
    assert [name for name in [*pruned, "b/", "b/c/", "d/", "d/e/"] if scope.prunes(name)] == pruned


class Heard:
    """Notes what a plan tells, as words."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def left(self, source: Entry, destination: Entry | None, reason: str) -> None:
        self.words.append(f"left {source.relative}: {reason}")

    def problem(self, problem: Problem, *, at_source: bool) -> None:
        self.words.append(f"problem {problem.relative}: {problem.reason}")

    def missing(self, name: str) -> None:
        self.words.append(f"missing {name}")

    def unusable(self, source: Entry, reason: str) -> None:
        self.words.append(f"unusable {source.relative}")

    def accepts(self, source: Entry, path: str) -> bool:
        return True

    def blocked(self, source: Entry, path: str, reason: str) -> None:
        self.words.append(f"blocked {path}")


class Bucket:
    """A side in memory that stands for a bucket."""

    is_bucket = True

    def __init__(self, *names: str) -> None:
        self._entries = [entry(name, size=not name.endswith("/")) for name in names]

    def name(self, relative: str) -> str:
        return f"cos://b/{relative}"

    async def entries(self, selector: object, on_problem: object) -> AsyncIterator[Entry]:
        for each in sorted(self._entries):
            yield each


async def planned(source: object, destination: object, options: SyncOptions) -> list[str]:
    heard = Heard()
    plan = Plan(source, destination, options, heard)  # type: ignore[arg-type]
    words = [f"{verdict.action} {transfer.relative}" async for verdict, transfer in plan.decisions()]
    words += [f"later {transfer.relative}" for transfer in plan.postponed]
    words += [f"extra {extra.entry.relative} keep {extra.keep!r}" for extra in plan.extras]
    plan.extras.close()
    assert plan.complete
    return words + heard.words


async def test_actions_of_an_upload(tmp_path: Path) -> None:
    for name in ("a", "b", "c/d"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    os.utime(tmp_path / "b", (0, 0))
    (tmp_path / "gone").symlink_to("nowhere")
    source = LocalSide(str(tmp_path))
    destination = Bucket("b", "c/", "c/e", "gone", "gone/too", "gone2")
    assert await planned(source, destination, SyncOptions(delete=True)) == [
        "transfer a",
        "transfer c/d",
        "extra c/e keep ''",
        "extra gone2 keep ''",
        "problem gone: points to nothing",
        "left b: same",
    ]
    assert "extra c/e keep ''" not in await planned(source, destination, SyncOptions())


async def test_actions_of_a_download(tmp_path: Path) -> None:
    for name in ("file", "dir/x", "m/old", "plain/old"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    source = Bucket("../evil", "dir", "f", "f/below", "file/y", "m/", "new/")
    found = await planned(source, LocalSide(str(tmp_path), symlinks="keep"), SyncOptions(delete=True))
    assert found == [
        "transfer f",
        "transfer new/",
        "later dir",
        "later file/y",
        "extra dir/x keep ''",
        "extra file keep ''",
        "extra m/old keep 'm/'",
        "extra plain/old keep ''",
        "unusable ../evil",
        "blocked f/below",
    ]
    without = await planned(source, LocalSide(str(tmp_path), symlinks="keep"), SyncOptions())
    assert "blocked dir" in without and "blocked file/y" in without


async def test_names_that_were_asked_for(tmp_path: Path) -> None:
    class Names:
        names = ("a", "b")

        @property
        def unfiltered(self) -> Names:
            return self

        def takes_name(self, path: str) -> bool:
            return path in self.names

        def takes_state(self, size: int, modified: float) -> bool:
            return True

        def prunes(self, directory: str) -> bool:
            return True

    (tmp_path / "a").touch()
    found = await planned(LocalSide(str(tmp_path)), Bucket(), SyncOptions(selector=Names()))
    assert found == ["transfer a", "missing b"]


# --- the snapshot


def on_disk(path: Path) -> Entry:
    item = stat_entry(str(path), path.name)
    return Entry(path.name, file_side(item), item)


def test_a_snapshot_knows_both_sides(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    file, stored = on_disk(tmp_path / "f"), entry("f")
    snapshot = Snapshot(tmp_path / "s", ("here", "there"))
    assert snapshot.matches(file, stored) is None
    snapshot.record(file, stored)
    snapshot.close()
    snapshot = Snapshot(tmp_path / "s", ("here", "there"))
    assert snapshot.matches(file, stored) is True and len(snapshot) == 1
    made = (tmp_path / "f").stat().st_ctime_ns
    while (tmp_path / "f").stat().st_ctime_ns == made:  # the clock of files may go in steps
        (tmp_path / "f").chmod(0o600)  # changes the ctime alone
    assert snapshot.matches(on_disk(tmp_path / "f"), stored) is False
    assert snapshot.matches(file, entry("f", etag="1" * 32)) is False
    later = Entry("f", Side(1, 5, "0" * 32), ObjectInfo("f", 1, "0" * 32, 5.0))
    assert snapshot.matches(file, later) is False
    snapshot.record(file, stored, listed=(True, False))  # just written: its time is not known yet
    assert snapshot.matches(file, later) is True
    snapshot.forget("f")
    assert snapshot.matches(file, stored) is None
    snapshot.close()
    assert (tmp_path / "s").read_bytes()[:15] == b"SQLite format 3"


def test_a_snapshot_that_is_only_read_stays_as_it_is(tmp_path: Path) -> None:
    file = Entry("f", Side(1, 1), LocalEntry("f", "f", 1, 1, 1, 1, 1, 0o100644))
    snapshot = Snapshot(tmp_path / "none", ("here", "there"), read_only=True)
    snapshot.record(file, entry("f"))
    assert len(snapshot) == 0
    snapshot.close()
    assert not (tmp_path / "none").exists()
    Snapshot(tmp_path / "s", ("here", "there")).close()
    with pytest.raises(UsageError, match="another sync"):
        Snapshot(tmp_path / "s", ("here", "elsewhere"), read_only=True)


def test_a_transfer_has_the_name_of_its_source() -> None:
    assert Transfer(entry("a"), None, "new").relative == "a"
    assert SyncOptions(Rules(checksum=True), delete_excluded=True).deletes
