"""Random trees with names that make trouble, synced up and down: a property that holds for every seed.

Used by the tests for a few seeds and by scripts/stress-sync for hundreds.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from cosfs.emulator.faults import When

if TYPE_CHECKING:
    from cosfs.emulator import Emulator

# Valid in UTF-8 and on Linux; each has broken some tool. COS itself refuses \x18 to \x1b.
NAMES = (
    "a",
    "A",
    "a-",
    "a.",
    "a0",
    "a b",
    " a",
    "a ",
    "b",
    "B",
    "-rf",
    "--delete",
    "~",
    "*",
    "?",
    "[x]",
    "[!x]",
    "a\\b",
    "a\nb",
    "\r",
    "\t",
    "\x01",
    "\x1c[31m",
    "\x7f",
    "\u0085",
    "\u2028",
    "\ufeff",
    "\ufffe",
    "\U0010ffff",
    "\u202etxt",
    "é",
    "e\u0301",
    "Å",
    "\u212b",
    "ß",
    "SS",
    "ſ",
    "ﬁ",
    "日本語",
    "🙂",
    "👩‍👩‍👧",
    "%2F",
    "%2E%2E",
    "%",
    "%%",
    "100%",
    "+",
    "&amp;",
    "<x>",
    '"q"',
    "'q'",
    "a&b=c",
    "#",
    "?x=y",
    "...",
    "..a",
    ".a",
    ".cos-x.tmp",
    "$HOME",
    "`id`",
    "con",
    "aux.txt",
    "x" * 255,
    "é" * 127,
    "🙂" * 63,
    "a" * 200,
    "index.html",
    "NUL",
    "a;b",
    "a,b",
    "a|b",
    "=",
    "@",
    "cos:",
)

Run = Callable[..., int]
FAILING = ("PutObject", "GetObject", "HeadObject", "ListObjects", "UploadPart", "Complete*", "DeleteObjects")
LARGE = (2 << 20) + 12_345  # in parts, with the settings these runs are made with


class Tree:
    """One tree on disk, changed at random; directories only exist with files in them."""

    def __init__(self, root: Path, chance: random.Random) -> None:
        self.root = root
        self.chance = chance
        root.mkdir(parents=True)

    def files(self) -> dict[str, bytes]:
        """Return all files, by their path."""
        return {
            os.path.relpath(os.path.join(above, name), self.root): Path(above, name).read_bytes()  # noqa: PTH118
            for above, _, names in os.walk(self.root)
            for name in names
        }

    def grow(self, count: int) -> None:
        """Add files, some of them deep down."""
        for _ in range(count):
            depth = self.chance.choice((1, 1, 1, 2, 2, 3, 5))
            parts = [self.chance.choice(NAMES) for _ in range(depth)]
            if sum(len(part.encode()) + 1 for part in parts) < 700:  # keys have a limit
                self._write(self.root.joinpath(*parts))

    def change(self) -> None:
        """Change, touch, remove, rename files; make files of directories and the other way round."""
        for name in sorted(self.files()):
            path = self.root / name
            if self.chance.random() < 0.5 or not path.is_file():
                continue
            self.chance.choice((self._rewrite, self._touch, self._remove, self._rename, self._turn))(path)
        self.grow(self.chance.randrange(6))
        for above, _, _ in os.walk(self.root, topdown=False):
            if Path(above) != self.root and not os.listdir(above):  # noqa: PTH208
                os.rmdir(above)  # noqa: PTH106

    def _write(self, path: Path) -> None:
        above = [self.root.joinpath(*path.relative_to(self.root).parts[:n]) for n in range(1, 9)]
        for each in above[: len(path.relative_to(self.root).parts) - 1]:
            if each.is_file():
                each.unlink()
        if path.is_dir():
            shutil.rmtree(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.chance.randbytes(self.chance.choice((0, 1, 10, 1000))))

    def _rewrite(self, path: Path) -> None:
        """The same size more often than not: only then do times and contents have to tell."""
        size = path.stat().st_size
        path.write_bytes(self.chance.randbytes(size if self.chance.random() < 0.7 else size + 1))

    def _touch(self, path: Path) -> None:
        path.touch()

    def _remove(self, path: Path) -> None:
        path.unlink()

    def _rename(self, path: Path) -> None:
        target = path.with_name(self.chance.choice(NAMES))
        if not target.exists():
            path.rename(target)
            target.touch()

    def _turn(self, path: Path) -> None:
        if path.parent != self.root and self.chance.random() < 0.5:
            directory = path.parent
            shutil.rmtree(directory)
            self._write(directory)
        elif len(os.fsencode(path.relative_to(self.root))) < 400:
            path.unlink()
            self._write(path / self.chance.choice(NAMES))


def exercise(run: Run, bucket: str, root: Path, seed: int) -> int:
    """Sync one tree up, change it, sync it, and down into what an older state left; return how much was sent.

    Raises AssertionError if the trees then differ or if a second run has anything to do.
    """
    chance = random.Random(seed)
    tree = Tree(root / "tree", chance)
    tree.grow(chance.randrange(1, 25))
    there, back = f"cos://{bucket}/{seed}", str(root / "back")
    options = chance.choice(
        ((), ("--checksum",), ("--track-renames",), ("--snapshot", str(root / "snapshot")))
    )
    sent = 0
    for round_number in range(3):
        files = tree.files()
        empty = () if files else ("--allow-empty-source",)
        up = (str(tree.root), there, "--delete", *empty, *options)
        sent += _sync(run, root, up)
        assert _sync(run, root, up) == 0, f"seed {seed}: the second run up had something to do"
        if round_number == 1:
            continue  # so that the way down has two rounds of changes to catch up with
        down = (there, back, "--delete", *empty)
        sent += _sync(run, root, down)
        assert _sync(run, root, down) == 0, f"seed {seed}: the second run down had something to do"
        assert Tree.files(_At(root / "back")) == files, f"seed {seed}: what came back differs"
        tree.change()
    return sent


def exercise_with_faults(run: Run, emulator: Emulator, bucket: str, root: Path, seed: int) -> list[int]:
    """Sync up and down while requests fail, then when they do not; return the exit codes of the former.

    Raises AssertionError if a run that says it succeeded has not, if one that failed says nothing, or if any
    file is wrong or half there.
    """
    chance = random.Random(seed)
    tree = Tree(root / "tree", chance)
    tree.grow(chance.randrange(5, 40))
    tree.root.joinpath("large").write_bytes(chance.randbytes(LARGE))
    files = tree.files()
    there, back = f"cos://{bucket}/{seed}", root / "back"
    codes = []
    for source, destination in ((str(tree.root), there), (there, str(back))):
        _add_faults(emulator, seed)
        options = ("--max-retries", chance.choice("0125"), "--quiet", "--report", str(root / "report.jsonl"))
        codes.append(run("sync", source, destination, *options))
        emulator.faults.clear()
        events = [json.loads(line) for line in (root / "report.jsonl").read_bytes().splitlines()]
        said = [event for event in events if event.get("status") == "failed"]
        assert codes[-1] == bool(said), (
            f"seed {seed}: exit code {codes[-1]}, but {len(said)} failures were told"
        )
        if destination == str(back) and back.exists():
            for name, data in Tree.files(_At(back)).items():
                assert data == files.get(name), f"seed {seed}: {name!r} is wrong, exit code {codes[-1]}"
        if not codes[-1]:
            assert run("check", source, destination, "--download", "--quiet") == 0, f"seed {seed}: not equal"
        left = _sync(run, root, (source, destination))
        assert codes[-1] or not left, f"seed {seed}: a run that ended well has left {left} files"
    assert Tree.files(_At(back)) == files
    return codes


def _add_faults(emulator: Emulator, seed: int) -> None:
    """Let one request in twenty go wrong, in every way.

    Not those that begin or abort an upload in parts: who does not hear of what COS began cannot abort it.
    """
    share = 0.05 / 6
    for number, operation in enumerate(FAILING):
        faults, when = emulator.faults, When(count=0, share=share, seed=10 * seed + number)
        faults.error(operation, **when)
        faults.error(operation, "SlowDown", 503, **when)
        faults.reset(operation, **when)
        faults.reset(operation, after=True, **when)
    emulator.faults.truncate("GetObject", offset=5, count=0, share=share, seed=seed)
    emulator.faults.corrupt("GetObject", offset=0, count=0, share=share, seed=seed + 1)


class _At(Tree):
    """A tree that is there already."""

    def __init__(self, root: Path) -> None:
        self.root = root


def _sync(run: Run, root: Path, arguments: tuple[str, ...]) -> int:
    """Run one sync; return how much it transferred or deleted."""
    report = root / "report.jsonl"
    code = run("sync", *arguments, "--quiet", "--report", str(report))
    summary = json.loads(report.read_text().splitlines()[-1])
    assert code == 0 and summary["type"] == "summary", f"{arguments}: exit {code}: {report.read_text()}"
    assert summary["failed"] == summary["skipped"] == 0
    return int(summary["ok"])
