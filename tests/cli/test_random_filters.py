"""Random trees and random filters: sync, cp, mv and rm do to each name what a model of ten lines says."""

from __future__ import annotations

import fnmatch
import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import Run
from tests.objects import keys, stored

if TYPE_CHECKING:
    from cosfs.client.client import CosClient

Files = dict[str, bytes]

DIRECTORIES = ("", "s/", "s/t/", "a é/", "link/", "link/u/")
NAMES = ("a.txt", "b.log", "c", "[x]", "-rf", "a.tx")
PATTERNS = ("*", "*.txt", "*.log", "s/*", "*/t/*", "link", "link/*", "s", "[!s]*", "?", "*/c", "*[[]x]", "a*")


@dataclass
class Choice:
    """What the options take, and those options."""

    options: list[str] = field(default_factory=list)
    rules: list[tuple[bool, str]] = field(default_factory=list)
    names: list[str] | None = None
    largest: int = 1000

    def filters(self, path: str) -> bool:
        taken = not (self.rules and self.rules[0][0])
        for including, pattern in self.rules:
            if fnmatch.fnmatchcase(path, pattern):
                taken = including
        return taken

    def lists(self, path: str) -> bool:
        return self.names is None or path in self.names

    def takes(self, path: str, data: bytes) -> bool:
        return self.filters(path) and self.lists(path) and len(data) <= self.largest


def choose(chance: random.Random, source: Files, file: Path) -> Choice:
    choice = Choice()
    for _ in range(chance.randrange(4)):
        choice.rules.append((chance.random() < 0.5, chance.choice(PATTERNS)))
        choice.options += ["--include" if choice.rules[-1][0] else "--exclude", choice.rules[-1][1]]
    if chance.random() < 0.2:
        choice.largest = 1
        choice.options += ["--max-size", "1"]
    if source and chance.random() < 0.3:
        choice.names = chance.sample(sorted(source), chance.randint(1, min(3, len(source))))
        file.write_text("".join(f"{name}\n" for name in choice.names))
        choice.options += ["--files-from", str(file)]
    return choice


def after_sync(source: Files, before: Files, choice: Choice, deletes: str) -> Files:
    """The model: what is at the destination after a sync."""
    after = dict(before)
    for name, data in before.items():
        excluded = deletes == "--delete-excluded" and not choice.filters(name)
        unwanted = excluded or (name not in source and (choice.takes(name, data) or "excluded" in deletes))
        if deletes and choice.lists(name) and unwanted:
            del after[name]
    return after | {name: data for name, data in source.items() if choice.takes(name, data)}


class Place:
    """A directory, whose link leads out of it, or a prefix."""

    def __init__(self, root: Path, client: CosClient, bucket: str, name: str, *, is_local: bool) -> None:
        self._path, self._client, self._bucket, self._prefix = root / name, client, bucket, f"{name}/"
        self._is_local = is_local
        self.url = str(self._path) if is_local else f"cos://{bucket}/{name}"

    def fill(self, files: Files, *, linked: bool = False) -> None:
        if self._is_local:
            self._path.mkdir()
            if linked:
                self._path.with_name("elsewhere").mkdir()
                (self._path / "link").symlink_to("../elsewhere")
        for name, data in files.items():
            if self._is_local:
                (self._path / name).parent.mkdir(parents=True, exist_ok=True)
                (self._path / name).write_bytes(data)
            else:
                self._client.put_object(self._bucket, self._prefix + name, data)

    def files(self) -> Files:
        if not self._is_local:
            found = keys(self._client, self._bucket, self._prefix)
            return {key[len(self._prefix) :]: stored(self._client, self._bucket, key) for key in found}
        names = [directory + name for directory in DIRECTORIES for name in NAMES]
        return {name: (self._path / name).read_bytes() for name in names if (self._path / name).is_file()}


def some_files(chance: random.Random) -> Files:
    names = [directory + name for directory in DIRECTORIES for name in NAMES]
    return {
        name: chance.choice((b"", b"x", b"y", b"xx"))
        for name in chance.sample(names, chance.randrange(1, 12))
    }


def done(run: Run, root: Path, *args: str) -> set[tuple[str, ...]]:
    """Run a command; return what it did, or would do."""
    report = root / "report.jsonl"
    run(*args, "--report", report)
    events = [json.loads(line) for line in report.read_text().splitlines()]
    return {
        (event["type"], event.get("src", ""), event["dst"])
        for event in events
        if event.get("status") in ("ok", "dryrun")
    }


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("way", ["up", "down", "between"])
def test_sync_and_mv(run: Run, client: CosClient, bucket: str, tmp_path: Path, way: str, seed: int) -> None:
    chance = random.Random(f"{way} {seed}")
    one = Place(tmp_path, client, bucket, "one", is_local=way == "up")
    other = Place(tmp_path, client, bucket, "other", is_local=way == "down")
    source, before = some_files(chance), some_files(chance)
    one.fill(source, linked=True)
    other.fill(before)
    choice = choose(chance, source, tmp_path / "names")
    deletes = chance.choice(("", "--delete", "--delete", "--delete-excluded"))
    args = ["sync", one.url, other.url, "--checksum", *choice.options]
    args += [deletes, "--allow-empty-source"] if deletes else []
    planned = done(run, tmp_path, *args, "--dryrun")
    assert (one.files(), other.files()) == (source, before), args
    assert done(run, tmp_path, *args) == planned, args
    assert (one.files(), other.files()) == (source, after_sync(source, before, choice, deletes)), args
    assert done(run, tmp_path, *args) == set(), args

    choice, before = choose(chance, source, tmp_path / "names"), other.files()
    args = ["mv", "-r", one.url, other.url, *choice.options]
    planned = done(run, tmp_path, *args, "--dryrun")
    assert (one.files(), other.files()) == (source, before), args
    assert done(run, tmp_path, *args) == planned, args
    taken = {name: data for name, data in source.items() if choice.takes(name, data)}
    assert one.files() == {name: data for name, data in source.items() if name not in taken}, args
    assert other.files() == before | taken, args


@pytest.mark.parametrize("seed", range(8))
def test_rm(run: Run, client: CosClient, bucket: str, tmp_path: Path, seed: int) -> None:
    chance = random.Random(f"rm {seed}")
    place, files = Place(tmp_path, client, bucket, "one", is_local=False), some_files(chance)
    place.fill(files)
    choice = choose(chance, files, tmp_path / "names")
    args = ["rm", "-r", place.url, *choice.options]
    run(*args, "--dryrun")
    assert place.files() == files, args
    run(*args)
    assert place.files() == {name: data for name, data in files.items() if not choice.takes(name, data)}, args
