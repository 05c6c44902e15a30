"""One program at work in a directory of its own, that remembers what it was acknowledged.

When the mount dies in the middle of a call, the directory may be as before the call or as after
it, nothing else.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from scripts.stressing.seen import Seen, Sight

SIZES = (0, 1, 300, 5_000, 70_000, 300_000, 2_500_000)
SIZE_WEIGHTS = (2, 4, 8, 8, 5, 3, 1)
LARGE_WEIGHTS = (1, 1, 2, 2, 2, 2, 10)  # mostly sent in parts
LONG = ("l" * 120, "m" * 230)
NAMES = (*"abcdefgh", "i%2F j", "ü+&", "%k~", *LONG)
LONGEST_PATH = 825  # bytes; a key has 850 at most, with the top and what is added to a name for a moment
PAST = 500  # calls that are told of after a loss
LOOKED_AFTER = 0.1  # of what COS is said to have
SAME = 0.3  # of the programs write the same bytes again: what is ours must not be known by them alone


class Writer(threading.Thread):
    """Makes random calls until the mount is gone, it is told to stop, or a call fails.

    is_in_cos(path, data) looks past the mount whether COS has a file; sent_by_close says whether COS has
    what was closed; large has it write large files mostly.
    """

    def __init__(
        self,
        top: Path,
        seed: int,
        known: Sight,
        is_in_cos: Callable[[str, bytes], bool],
        *,
        sent_by_close: bool,
        large: bool = False,
    ) -> None:
        super().__init__(daemon=True)
        self.top = top
        self.known = known  # acknowledged
        self.next: Sight | None = None  # what the call under way makes of it
        self.patched = ""  # the file whose bytes it changes
        self.is_short = False  # a call that was cut short may have written the beginning, and that was kept
        self.sees_modes = True  # the mount shows those that are stored
        self.large_directory = ""  # the first to be worked on
        self.draft = b""  # the bytes of a file whose name changes while it is written
        self.loose: dict[str, list[Seen | None]] = {}  # what names may be as well while it is under way
        self.calls = 0
        self.failure: OSError | None = None
        self.failed_at = 0.0
        self.lies: list[str] = []  # what COS was said to have, and has not
        self.stopping = threading.Event()
        self.past: deque[str] = deque(maxlen=PAST)
        self._chance = random.Random(seed)
        self._is_in_cos = is_in_cos
        self._sent_by_close = sent_by_close
        self._size_weights = LARGE_WEIGHTS if large else SIZE_WEIGHTS
        self._same: list[bytes] = []
        if self._chance.random() < SAME:
            self._same = [self._data() for _ in range(3)]

    def _kinds(self) -> dict[Callable[[], None], int]:
        """What it does, and how often."""
        return {
            self._write: 20, self._append: 10, self._patch: 6, self._move: 16, self._remove: 8,
            self._mkdir: 8, self._rmdir: 3, self._chmod: 6, self._save: 10, self._truncate: 3, self._utime: 4,
            self._setxattr: 3, self._symlink: 3,
        }  # fmt: skip

    def run(self) -> None:
        kinds = self._kinds()
        try:
            self._begin()
            while not self.stopping.is_set():
                self._chance.choices(list(kinds), list(kinds.values()))[0]()
        except OSError as error:
            self.failed_at, self.failure = time.monotonic(), error

    def _begin(self) -> None:
        """What it does before all else."""

    # Choosing

    def _directories(self) -> list[str]:
        return ["", *(path for path, node in self.known.items() if node.kind == "directory")]

    def _files(self) -> list[str]:
        return [path for path, node in self.known.items() if node.kind == "file"]

    def _is(self, path: str, *kinds: str) -> bool:
        node = self.known.get(path)
        return node is not None and node.kind in kinds

    def _new_path(self) -> str:
        place, name = self._chance.choice(self._directories()), self._chance.choice(NAMES)
        path = f"{place}/{name}".lstrip("/")
        return path if len(os.fsencode(path)) < LONGEST_PATH else name

    def _data(self) -> bytes:
        if self._same and self._chance.random() < 0.7:
            return self._chance.choice(self._same)
        return self._chance.randbytes(self._chance.choices(SIZES, self._size_weights)[0])

    def _do(self, what: str, after: Sight, call: Callable[[], object], patched: str = "") -> None:
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

    def _acknowledged(self, after: Sight) -> None:
        self.known, self.next, self.patched, self.loose = after, None, "", {}
        self.calls += 1

    def _note(self, text: str) -> None:
        self.past.append(f"{time.time():.4f} {text}")

    # Calls

    def _put(self, path: str, data: bytes, flags: int, old: bytes = b"", *, sync: bool = False) -> None:
        known = self.known.get(path, Seen("file", mode=0o644, xattrs=frozenset()))
        if flags & os.O_TRUNC and path in self.known and not known.data:
            self.known = {**self.known, path: replace(known, mtime=None)}  # open() alone sets a new time
        after = {**self.known, path: replace(known, data=old + data, mtime=None)}

        def write() -> None:
            fd = os.open(self.top / path, os.O_WRONLY | os.O_CREAT | flags, 0o644)
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(fd, view[:131072]) :]
                if sync:
                    os.fsync(fd)
                    self._acknowledged(after)
                    self._look_after(path, "fsync")
            except BaseException:
                self._close_quietly(fd)
                raise
            os.close(fd)

        how = "append" if flags & os.O_APPEND else "write"
        what = f"{how} {path} {len(data)} {data[:6].hex()}{' fsync' if sync else ''}"
        self._do(what, after, write, patched=path)
        if self._sent_by_close:
            self._look_after(path, "close")

    def _look_after(self, path: str, call: str) -> None:
        data = self.known[path].data
        if self._chance.random() < LOOKED_AFTER and not self._is_in_cos(path, data):
            self.lies.append(f"COS does not have {path} with {len(data)} bytes after its {call}")

    @staticmethod
    def _close_quietly(fd: int) -> None:
        try:
            os.close(fd)
        except OSError:
            pass

    def _write(self) -> None:
        path = self._new_path()
        if not self._is(path, "directory", "link"):
            self._put(path, self._data(), os.O_TRUNC, sync=self._chance.random() < 0.2)

    def _append(self) -> None:
        if files := self._files():
            path = self._chance.choice(files)
            self._put(path, self._data()[:100_000], os.O_APPEND, self.known[path].data)

    def _patch(self) -> None:
        files = [path for path in self._files() if len(self.known[path].data) > 1]
        if not files:
            return
        path = self._chance.choice(files)
        old = self.known[path]
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
        self._do(what, {**self.known, path: replace(old, data=data, mtime=None)}, write, patched=path)

    def _truncate(self) -> None:
        if files := self._files():
            path = self._chance.choice(files)
            old = self.known[path]
            size = self._chance.randrange(len(old.data) + 5_000)
            data = old.data[:size] + bytes(max(0, size - len(old.data)))
            after = {**self.known, path: replace(old, data=data, mtime=None)}
            self._do(f"truncate {path} {size}", after, lambda: os.truncate(self.top / path, size))

    def _save(self) -> None:
        """As editors do: a new file, renamed over the old one."""
        path = self._new_path()
        if self._is(path, "directory"):
            return
        temp = f"{path}.tmp"
        self._put(temp, self._data(), os.O_TRUNC)
        self._rename(temp, path)

    def _move(self) -> None:
        paths = list(self.known)
        if not paths:
            return
        old, new = self._chance.choice(paths), self._new_path()
        if new == old or f"{new}/".startswith(f"{old}/"):
            return
        if self._is(old, "directory") != self._is(new, "directory") and new in self.known:
            return
        if any(path.startswith(f"{new}/") for path in self.known):
            return
        longest = max(len(os.fsencode(path)) for path in self.known if f"{path}/".startswith(f"{old}/"))
        if longest - len(os.fsencode(old)) + len(os.fsencode(new)) < LONGEST_PATH:
            self._rename(old, new)

    def _rename(self, old: str, new: str) -> None:
        after = {path: node for path, node in self.known.items() if path != new}
        for path in list(after):
            if path == old or path.startswith(f"{old}/"):
                after[new + path[len(old) :]] = after.pop(path)
        self._do(f"rename {old} {new}", after, lambda: (self.top / old).rename(self.top / new))

    def _remove(self) -> None:
        if paths := [path for path, node in self.known.items() if node.kind != "directory"]:
            path = self._chance.choice(paths)
            after = {p: node for p, node in self.known.items() if p != path}
            self._do(f"unlink {path}", after, (self.top / path).unlink)

    def _mkdir(self) -> None:
        path = self._new_path()
        if path not in self.known and path.count("/") < 3:
            after = {**self.known, path: Seen("directory", mode=0o755)}
            self._do(f"mkdir {path}", after, lambda: (self.top / path).mkdir(0o755))

    def _rmdir(self) -> None:
        empty = [
            path
            for path, node in self.known.items()
            if node.kind == "directory" and not any(p.startswith(f"{path}/") for p in self.known)
        ]
        if empty:
            path = self._chance.choice(empty)
            after = {p: node for p, node in self.known.items() if p != path}
            self._do(f"rmdir {path}", after, (self.top / path).rmdir)

    def _chmod(self) -> None:
        if paths := [path for path, node in self.known.items() if node.kind != "link"]:
            path = self._chance.choice(paths)
            mode = self._chance.choice((0o600, 0o640, 0o755, 0o700))
            if self._is(path, "directory"):
                mode |= 0o700
            after = {**self.known, path: replace(self.known[path], mode=mode)}
            self._do(f"chmod {path} {mode:o}", after, lambda: (self.top / path).chmod(mode))

    def _utime(self) -> None:
        if files := self._files():
            path = self._chance.choice(files)
            moment = self._chance.randrange(1 << 60)
            after = {**self.known, path: replace(self.known[path], mtime=moment)}
            self._do(f"utime {path} {moment}", after, lambda: os.utime(self.top / path, ns=(moment, moment)))

    def _setxattr(self) -> None:
        if files := self._files():
            path = self._chance.choice(files)
            name, value = self._chance.choice(("user.one", "user.two")), self._chance.randbytes(20)
            xattrs = {**dict(self.known[path].xattrs or ()), name: value}
            after = {**self.known, path: replace(self.known[path], xattrs=frozenset(xattrs.items()))}
            what = f"setxattr {path} {name} {value[:6].hex()}"
            self._do(what, after, lambda: os.setxattr(self.top / path, name, value))

    def _symlink(self) -> None:
        path, target = self._new_path(), self._chance.choice(("nowhere", "../a", "b"))
        if path not in self.known:
            after = {**self.known, path: Seen("link", os.fsencode(target))}
            self._do(f"symlink {path} {target}", after, lambda: (self.top / path).symlink_to(target))

    # Judging

    def judge(self, found: Sight) -> str:
        """Go on with what was found; return why it cannot be, "" if it can."""
        if self.is_short and self.next is not None:
            self.next = self._shortened(self.next, found)
        states = [self.known] if self.next is None else [self.known, self.next]
        reasons = []
        for wanted in states:
            mixed = [state[self.patched] for state in states if self.patched in state]
            reason = _difference(
                _without(self.loose, found), _without(self.loose, wanted), self.patched, mixed
            )
            for path, choices in self.loose.items():
                here = found.get(path)
                if not any(each is here if each is None else each.fits(here) for each in choices):
                    reason = reason or f"{path}: {here} instead of one of {[str(each) for each in choices]}"
            if not reason:
                self.known = {path: _as_known(node, wanted.get(path)) for path, node in found.items()}
                return ""
            reasons.append(reason)
        if len(reasons) == 1:
            return reasons[0]
        return f"neither as before ({reasons[0]}) nor as after ({reasons[1]})"

    def _shortened(self, after: Sight, found: Sight) -> Sight:
        """What a call makes of it that has written no more than what was found."""
        short = dict(after)
        for path, node in after.items():
            here = found.get(path)
            if here is None or here.kind != "file" or node.kind != "file" or self.known.get(path) is node:
                continue
            is_new = path == self.patched and path not in self.known
            if is_new or node.data.startswith(here.data):
                short[path] = replace(node, data=here.data)
                if path in self.loose:
                    self.loose[path].append(short[path])
        for path, choices in self.loose.items():
            here = found.get(path)
            if here is not None and here.kind == "file" and self.draft.startswith(here.data):
                choices.append(here)
        return short


def _without(paths: Iterable[str], tree: Sight) -> Sight:
    return {path: node for path, node in tree.items() if path not in paths}


def _as_known(found: Seen, wanted: Seen | None) -> Seen:
    """Times that nobody has set may be anything."""
    return found if wanted is not None and wanted.mtime is not None else replace(found, mtime=None)


def _difference(found: Sight, wanted: Sight, patched: str, states: list[Seen]) -> str:
    """states are what a file was before and after bytes of it were changed, and not closed."""
    for path in sorted(found.keys() | wanted.keys()):
        one, other = found.get(path), wanted.get(path)
        if other is None or not other.fits(one):
            if (
                one is not None
                and path == patched
                and is_mixed(one, states)
                and _has_its_time(one, states[0])
            ):
                continue
            return f"{path}: {one} instead of {other}"
    return ""


def _has_its_time(found: Seen, before: Seen) -> bool:
    """Whether a file without the bytes that nobody was promised has the time that it had without them."""
    return found.data != before.data or before.mtime in (None, found.mtime)


def is_mixed(found: Seen, states: list[Seen]) -> bool:
    """Whether each byte is an old or a new one; or, of a file that only grows, whether it is on its way."""
    if not any(replace(state, data=found.data, mtime=None).fits(found) for state in states):
        return False
    datas = sorted((state.data for state in states), key=len)
    if len(datas) == 2 and datas[1].startswith(datas[0]) and datas[0] != datas[1]:
        # What waits to be sent may be sent with what was added just now.
        return found.data.startswith(datas[0]) and datas[1].startswith(found.data)
    return all(len(found.data) == len(data) for data in datas) and all(
        byte in choices for byte, *choices in zip(found.data, *datas, strict=True)
    )
