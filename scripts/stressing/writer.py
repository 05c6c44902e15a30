"""One program at work in a directory of its own, that remembers what it was acknowledged.

When the mount dies in the middle of a call, the directory may be as before the call or as after
it, nothing else.
"""

from __future__ import annotations

import os
import random
import stat
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

SIZES = (0, 1, 300, 5_000, 70_000, 300_000, 2_500_000)
SIZE_WEIGHTS = (2, 4, 8, 8, 5, 3, 1)
NAMES = tuple("abcdefgh")
PAST = 500  # calls that are told of after a loss


@dataclass(frozen=True, slots=True)
class File:
    mode: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Directory:
    mode: int


Tree = dict[str, File | Directory]  # by path below the writer's directory


def look(top: Path) -> Tree:
    """What is below a directory."""
    found: Tree = {}
    for directory, names, files in os.walk(top, onerror=_raise):
        for name in names:
            path = Path(directory, name)
            found[str(path.relative_to(top))] = Directory(stat.S_IMODE(path.stat().st_mode))
        for name in files:
            path = Path(directory, name)
            found[str(path.relative_to(top))] = File(stat.S_IMODE(path.stat().st_mode), path.read_bytes())
    return found


def _raise(error: OSError) -> None:
    raise error


class Writer(threading.Thread):
    """Makes random calls until the mount is gone, it is told to stop, or a call fails."""

    def __init__(self, top: Path, seed: int, known: Tree) -> None:
        super().__init__(daemon=True)
        self.top = top
        self.known = known  # acknowledged
        self.next: Tree | None = None  # what the call under way makes of it
        self.patched = ""  # the file whose bytes it changes in place
        self.calls = 0
        self.failure: OSError | None = None
        self.stopping = threading.Event()
        self.past: deque[str] = deque(maxlen=PAST)
        self._chance = random.Random(seed)

    def run(self) -> None:
        while not self.stopping.is_set():
            call = self._chance.choices(
                [self._write, self._append, self._patch, self._move, self._remove, self._mkdir, self._rmdir,
                 self._chmod, self._save, self._truncate],
                [20, 10, 6, 16, 8, 8, 3, 6, 10, 3],
            )[0]  # fmt: skip
            try:
                call()
            except OSError as error:
                self.failure = error
                return

    # Choosing

    def _directories(self) -> list[str]:
        return ["", *(path for path, node in self.known.items() if isinstance(node, Directory))]

    def _files(self) -> list[str]:
        return [path for path, node in self.known.items() if isinstance(node, File)]

    def _new_path(self) -> str:
        directory = self._chance.choice(self._directories())
        return f"{directory}/{self._chance.choice(NAMES)}".lstrip("/")

    def _data(self) -> bytes:
        return self._chance.randbytes(self._chance.choices(SIZES, SIZE_WEIGHTS)[0])

    def _do(self, what: str, after: Tree, call: Callable[[], object], patched: str = "") -> None:
        """Make a call; when it is acknowledged, what it did is known."""
        self.patched = patched
        self.next = after
        self._note(what)
        try:
            call()
        except OSError as error:
            self._note(f"  {error}")
            raise
        self._acknowledged(after)
        self._note("  done")

    def _acknowledged(self, after: Tree) -> None:
        self.known, self.next, self.patched = after, None, ""
        self.calls += 1

    def _note(self, text: str) -> None:
        self.past.append(f"{time.time():.4f} {text}")

    # Calls

    def _put(self, path: str, data: bytes, flags: int, old: bytes = b"", *, sync: bool = False) -> None:
        known = self.known.get(path)
        mode = known.mode if isinstance(known, File) else 0o644
        after = {**self.known, path: File(mode, old + data)}

        def write() -> None:
            fd = os.open(self.top / path, os.O_WRONLY | os.O_CREAT | flags, 0o644)
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(fd, view[:131072]) :]
                if sync:
                    os.fsync(fd)
                    self._acknowledged(after)
            except BaseException:
                self._close_quietly(fd)
                raise
            os.close(fd)

        how = "append" if flags & os.O_APPEND else "write"
        self._do(f"{how} {path} {len(data)} {data[:6].hex()}{' fsync' if sync else ''}", after, write)

    @staticmethod
    def _close_quietly(fd: int) -> None:
        try:
            os.close(fd)
        except OSError:
            pass

    def _write(self) -> None:
        path = self._new_path()
        if not isinstance(self.known.get(path), Directory):
            self._put(path, self._data(), os.O_TRUNC, sync=self._chance.random() < 0.2)

    def _append(self) -> None:
        if files := self._files():
            path = self._chance.choice(files)
            old = self.known[path]
            assert isinstance(old, File)
            self._put(path, self._data()[:100_000], os.O_APPEND, old.data)

    def _patch(self) -> None:
        files = [path for path in self._files() if len(getattr(self.known[path], "data", b"")) > 1]
        if not files:
            return
        path = self._chance.choice(files)
        old = self.known[path]
        assert isinstance(old, File)
        start = self._chance.randrange(len(old.data))
        new = self._chance.randbytes(min(5_000, len(old.data) - start))
        data = old.data[:start] + new + old.data[start + len(new) :]

        def write() -> None:
            fd = os.open(self.top / path, os.O_RDWR)
            try:
                os.pwrite(fd, new, start)
            except BaseException:
                self._close_quietly(fd)
                raise
            os.close(fd)

        what = f"patch {path} {start} {len(new)} {new[:6].hex()}"
        self._do(what, {**self.known, path: replace(old, data=data)}, write, patched=path)

    def _truncate(self) -> None:
        if files := self._files():
            path = self._chance.choice(files)
            old = self.known[path]
            assert isinstance(old, File)
            size = self._chance.randrange(len(old.data) + 5_000)
            data = old.data[:size] + bytes(max(0, size - len(old.data)))
            after = {**self.known, path: replace(old, data=data)}
            self._do(f"truncate {path} {size}", after, lambda: os.truncate(self.top / path, size))

    def _save(self) -> None:
        """As editors do: a new file, renamed over the old one."""
        path = self._new_path()
        if isinstance(self.known.get(path), Directory):
            return
        temp = f"{path}.tmp"
        self._put(temp, self._data(), os.O_TRUNC)
        self._rename(temp, path)

    def _move(self) -> None:
        paths = list(self.known)
        if not paths:
            return
        old, new = self._chance.choice(paths), self._new_path()
        target, node = self.known.get(new), self.known[old]
        if new == old or f"{new}/".startswith(f"{old}/"):
            return
        if target is not None and (isinstance(node, Directory) or isinstance(target, Directory)):
            return
        self._rename(old, new)

    def _rename(self, old: str, new: str) -> None:
        after = {path: node for path, node in self.known.items() if path != new}
        for path in list(after):
            if path == old or path.startswith(f"{old}/"):
                after[new + path[len(old) :]] = after.pop(path)
        self._do(f"rename {old} {new}", after, lambda: (self.top / old).rename(self.top / new))

    def _remove(self) -> None:
        if files := self._files():
            path = self._chance.choice(files)
            after = {p: node for p, node in self.known.items() if p != path}
            self._do(f"unlink {path}", after, (self.top / path).unlink)

    def _mkdir(self) -> None:
        path = self._new_path()
        if path not in self.known and path.count("/") < 3:
            after = {**self.known, path: Directory(0o755)}
            self._do(f"mkdir {path}", after, lambda: (self.top / path).mkdir(0o755))

    def _rmdir(self) -> None:
        empty = [
            path
            for path, node in self.known.items()
            if isinstance(node, Directory) and not any(p.startswith(f"{path}/") for p in self.known)
        ]
        if empty:
            path = self._chance.choice(empty)
            after = {p: node for p, node in self.known.items() if p != path}
            self._do(f"rmdir {path}", after, (self.top / path).rmdir)

    def _chmod(self) -> None:
        if self.known:
            path = self._chance.choice(list(self.known))
            mode = self._chance.choice((0o600, 0o640, 0o755, 0o700))
            if isinstance(self.known[path], Directory):
                mode |= 0o700
            after = {**self.known, path: replace(self.known[path], mode=mode)}
            self._do(f"chmod {path} {mode:o}", after, lambda: (self.top / path).chmod(mode))

    # Judging

    def difference(self, found: Tree) -> str:
        """Why what was found cannot be, "" if it can."""
        if self.next is None:
            return _difference(found, self.known)
        reasons = [_difference(found, self.known, self.patched and self.next)]
        if reasons[0]:
            reasons.append(_difference(found, self.next, self.patched and self.known))
        return "" if "" in reasons else f"neither as before ({reasons[0]}) nor as after ({reasons[1]})"


def _difference(found: Tree, wanted: Tree, mixed: Tree | str = "") -> str:
    for path in sorted(found.keys() | wanted.keys()):
        one, other = found.get(path), wanted.get(path)
        if one == other:
            continue
        also = mixed.get(path) if isinstance(mixed, dict) else None
        if isinstance(one, File) and isinstance(other, File) and isinstance(also, File):
            # Changed in place and not closed: each byte is the old or the new one.
            parts = zip(one.data, other.data, also.data, strict=False)
            if len(one.data) == len(other.data) and all(a in (b, c) for a, b, c in parts):
                continue
        return f"{path}: {_shown(one)} instead of {_shown(other)}"
    return ""


def _shown(node: File | Directory | None) -> str:
    if node is None:
        return "nothing"
    if isinstance(node, Directory):
        return f"a directory of mode {node.mode:o}"
    return f"{len(node.data)} bytes {node.data[:6].hex()}, mode {node.mode:o}"
