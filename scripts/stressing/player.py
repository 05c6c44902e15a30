"""Random calls on a mount and on a filesystem in memory, one after the other, with the same results."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

from scripts.stressing.seen import Open
from tests.reference import Directory, File, Link, Node, Reference, fail

NAMES = ("a", "b", "c", "d", "e f", "ü")
SIZES = (0, 1, 300, 5_000, 70_000, 300_000, 2_500_000)
SIZE_WEIGHTS = (2, 4, 8, 8, 5, 3, 1)
FLAGS = (os.O_RDWR, os.O_RDWR | os.O_CREAT, os.O_RDWR | os.O_CREAT | os.O_TRUNC, os.O_RDONLY)
SLOTS = 3
# What a call may say when the mount was killed, or COS did not do what it should.
TROUBLE = frozenset(
    {errno.ENOTCONN, errno.ECONNABORTED, errno.ENODEV, errno.EIO, errno.EINTR, errno.ETIMEDOUT, errno.EBUSY}
)
WEIGHTS = {
    "put": 14, "append": 8, "open": 12, "write": 14, "read": 8, "fsync": 4, "close": 8, "truncate": 6,
    "mkdir": 10, "rmdir": 4, "unlink": 7, "rename": 14, "chmod": 5, "utime": 5, "symlink": 3, "readlink": 2,
    "setxattr": 4, "removexattr": 2, "cat": 8, "list": 6,
}  # fmt: skip
# What COS or the journal has of a file for sure (None for nothing), then all that it was since, but for
# what it is now.
Versions = dict[File, list[bytes | None]]
DESCRIPTORS = frozenset({"write", "read", "fsync", "close"})


class Wrong(Exception):
    """The mount answered what it must not."""


class CutShort(Exception):
    """A call failed because of what is done to mount and server: it did its work, or did not."""


class Player:
    """model is what the mount must hold; before is what it held when the call under way began."""

    def __init__(self, chance: random.Random, log: list[str]) -> None:
        self.chance = chance
        self.log = log
        self.top = Path()
        self.model = Reference()
        self.before = self.model
        self.safe_before: Versions = {}
        self.descriptors: dict[int, tuple[int, int]] = {}  # by slot: the descriptor and its flags
        self.safe: Versions = {}  # of files being written
        self.loose: set[str] = set()  # paths that a kill may leave as they were
        self.open = Open()
        self.calls = 0
        self.troubled = False

    # Choosing

    def path(self) -> str:
        """Any path: mostly one whose directory is there."""
        places = ["", *(path for path, node in self.model.nodes() if isinstance(node, Directory))]
        known = [path for path, _ in self.model.nodes()]
        if known and self.chance.random() < 0.5:
            return self.chance.choice(known)
        place = self.chance.choice([path for path in places if path.count("/") < 2])
        return f"{place}/{self.chance.choice(NAMES)}".lstrip("/")

    def data(self) -> bytes:
        return self.chance.randbytes(self.chance.choices(SIZES, SIZE_WEIGHTS)[0])

    def files(self) -> list[str]:
        """Paths of files that nobody has open and nobody else changed."""
        busy = set(self.model.handles.values())
        return [
            path
            for path, node in self.model.nodes()
            if isinstance(node, File) and node not in busy and not self.open.concerns(path)
        ]

    def _at(self, path: str) -> Node | None:
        try:
            return self.model.walk(path)
        except OSError:
            return None

    # Calls

    def act(self) -> None:
        """Make one random call."""
        name = self.chance.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        if name in DESCRIPTORS:
            if self.descriptors:
                self.do(name, self.chance.choice(list(self.descriptors)), *self._more(name))
            return
        path = self.path()
        more = self._more(name)
        paths = [path, *more] if name == "rename" else [path]
        if any(self.open.concerns(str(each)) for each in paths):
            return
        if isinstance(self._at(path), Link) and name not in ("unlink", "rename", "readlink", "rmdir"):
            return
        if name == "open":
            self._open(path, *more)
        else:
            self.do(name, path, *more)

    def _more(self, name: str) -> tuple[Any, ...]:
        chance = self.chance
        offset = chance.choice((0, 0, 7, 4096, chance.randrange(400_000)))
        choices: dict[str, Callable[[], tuple[Any, ...]]] = {
            "put": lambda: (self.data(),),
            "append": lambda: (self.data()[:100_000],),
            "open": lambda: (chance.choice(FLAGS),),
            "write": lambda: (offset, self.data()[:400_000]),
            "read": lambda: (offset, chance.choice((1, 5000, 200_000))),
            "truncate": lambda: (chance.choice((0, 1, 4096, chance.randrange(300_000))),),
            "rename": lambda: (self.path(),),
            "chmod": lambda: (chance.choice((0o600, 0o640, 0o755, 0o700)),),
            "utime": lambda: (chance.randrange(1 << 60),),
            "symlink": lambda: (chance.choice(("nowhere", "../a", "ü")),),
            "setxattr": lambda: (chance.choice(("user.one", "user.two")), chance.randbytes(20)),
            "removexattr": lambda: (chance.choice(("user.one", "user.two")),),
        }
        return choices.get(name, tuple)()

    def _open(self, path: str, flags: int) -> None:
        if isinstance(self._at(path), Directory):
            return  # which can be opened for reading
        free = [slot for slot in range(SLOTS) if slot not in self.descriptors]
        if free:
            self.do("open", free[0], path, flags)

    def do(self, name: str, *args: Any) -> None:
        """Make a call on both sides; they must agree."""
        self.log.append(f"{name}{tuple(len(a) if isinstance(a, bytes) else a for a in args)}")
        if self.troubled:
            self.before, self.safe_before = deepcopy((self.model, self.safe))
        results: list[Any] = []
        for side in ("model", "real"):
            try:
                results.append(getattr(self, f"_{side}_{name}", None) or self._plain(side, name))
                results[-1] = results[-1](*args)
            except OSError as error:
                if side == "real" and self.troubled and error.errno in TROUBLE:
                    self.log.append(f"  {error.strerror}")
                    raise CutShort(str(error)) from error
                results[side == "real" :] = [errno.errorcode[error.errno or 0]]
        if results[0] != results[1]:
            shown = [each if not isinstance(each, bytes) else f"{len(each)} bytes" for each in results]
            raise Wrong(f"{self.log[-1]}: {shown[1]} instead of {shown[0]}")
        self.calls += 1

    def _plain(self, side: str, name: str) -> Callable[..., Any]:
        if side == "model":
            found = getattr(self.model, name)
            assert callable(found)
            return found
        return lambda path, *args: getattr(os, name)(self.top / path, *args)

    # What a kill may take

    def _kept(self, node: File) -> None:
        """COS, or the journal, has a file as it is now."""
        self.safe.pop(node, None)

    def _changed(self, node: File) -> None:
        """A file is about to change, and nobody was promised that yet."""
        self.safe.setdefault(node, []).append(bytes(node.data))

    def where(self, node: File) -> str:
        return next((path for path, each in self.model.nodes() if each is node), "")

    # Each call, on either side

    def _model_put(self, path: str, data: bytes) -> None:
        before = self._at(path)
        was = [bytes(before.data)] if isinstance(before, File) else [None]
        self.model.open(-1, path, os.O_CREAT | os.O_TRUNC)
        node = self.model.handles.pop(-1)
        node.write(0, data)
        if data or not self._is_open(node):
            self._kept(node)
        else:
            self.safe[node] = [*self.safe.get(node, ()), *was]

    def _real_put(self, path: str, data: bytes) -> None:
        self._write_all(path, data, os.O_TRUNC)

    def _model_append(self, path: str, data: bytes) -> None:
        self.model.open(-1, path, os.O_CREAT)
        node = self.model.handles.pop(-1)
        if data:
            node.write(len(node.data), data)
        if node.data or not self._is_open(node):
            self._kept(node)

    def _real_append(self, path: str, data: bytes) -> None:
        self._write_all(path, data, os.O_APPEND)

    def _write_all(self, path: str, data: bytes, flags: int) -> None:
        descriptor = os.open(self.top / path, os.O_WRONLY | os.O_CREAT | flags, 0o644)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view[:131072]) :]
        finally:
            os.close(descriptor)

    def _model_open(self, slot: int, path: str, flags: int) -> None:
        old = self._at(path)
        if isinstance(old, File) and flags & os.O_TRUNC:
            self._changed(old)
        self.model.open(slot, path, flags)
        node = self.model.handles[slot]
        if old is None:
            self.safe[node] = [None]

    def _real_open(self, slot: int, path: str, flags: int) -> None:
        self.descriptors[slot] = os.open(self.top / path, flags, 0o644), flags

    def _model_write(self, slot: int, offset: int, data: bytes) -> int:
        if not self.descriptors[slot][1] & os.O_RDWR:
            raise fail(errno.EBADF)
        if data:
            self._changed(self.model.handles[slot])
            self.model.handles[slot].write(offset, data)
        return len(data)

    def _real_write(self, slot: int, offset: int, data: bytes) -> int:
        done = os.pwrite(self.descriptors[slot][0], data, offset)
        while 0 < done < len(data):
            done += os.pwrite(self.descriptors[slot][0], data[done:], offset + done)
        return done

    def _model_read(self, slot: int, offset: int, size: int) -> bytes:
        return bytes(self.model.handles[slot].data[offset : offset + size])

    def _real_read(self, slot: int, offset: int, size: int) -> bytes:
        return os.pread(self.descriptors[slot][0], size, offset)

    def _model_fsync(self, slot: int) -> None:
        self._kept(self.model.handles[slot])

    def _real_fsync(self, slot: int) -> None:
        os.fsync(self.descriptors[slot][0])

    def _model_close(self, slot: int) -> None:
        node = self.model.handles.pop(slot)
        if self.descriptors[slot][1] & os.O_RDWR and (node.data or not self._is_open(node)):
            self._kept(node)

    def _is_open(self, node: File) -> bool:
        """Whether a descriptor is left: without a byte, a file is sent with the last that may write."""
        return any(each is node for each in self.model.handles.values())

    def _real_close(self, slot: int) -> None:
        os.close(self.descriptors.pop(slot)[0])

    def _model_truncate(self, path: str, size: int) -> None:
        node = self.model.file(path)
        if node in self.model.handles.values():
            self._changed(node)
        node.truncate(size)

    def _model_chmod(self, path: str, mode: int) -> None:
        node = self.model.walk(path)
        assert not isinstance(node, Link)
        node.mode = mode | (0o700 if isinstance(node, Directory) else 0)

    def _real_chmod(self, path: str, mode: int) -> None:
        directory = isinstance(self._at(path), Directory)
        (self.top / path).chmod(mode | (0o700 if directory else 0))

    def _model_utime(self, path: str, moment: int) -> None:
        node = self.model.walk(path)
        if isinstance(node, File):
            node.mtime = moment

    def _real_utime(self, path: str, moment: int) -> None:
        os.utime(self.top / path, ns=(moment, moment))

    def _real_symlink(self, path: str, target: str) -> None:
        (self.top / path).symlink_to(target)

    def _model_readlink(self, path: str) -> str:
        node = self.model.walk(path)
        if not isinstance(node, Link):
            raise fail(errno.EINVAL)
        return node.target

    def _real_rename(self, old: str, new: str) -> None:
        (self.top / old).rename(self.top / new)

    def _model_rename(self, old: str, new: str) -> None:
        moved = self._at(old)
        if moved is not None and self.model.parent(new):
            # The kernel looks at this first, whatever is there.
            if new.startswith(f"{old}/"):
                raise fail(errno.EINVAL)
            if old.startswith(f"{new}/"):
                raise fail(errno.ENOTEMPTY)
        self.model.rename(old, new)
        if isinstance(moved, File) and moved in self.safe:
            self.loose |= {old, new}

    def _model_setxattr(self, path: str, name: str, value: bytes) -> None:
        node = self.model.walk(path)
        if isinstance(node, File):
            node.xattrs[name] = value

    def _model_removexattr(self, path: str, name: str) -> None:
        node = self.model.walk(path)
        if isinstance(node, File):
            if name not in node.xattrs:
                raise fail(errno.ENODATA)
            del node.xattrs[name]

    def _real_setxattr(self, path: str, name: str, value: bytes) -> None:
        if not isinstance(self._at(path), Directory):
            os.setxattr(self.top / path, name, value)

    def _real_removexattr(self, path: str, name: str) -> None:
        if not isinstance(self._at(path), Directory):
            os.removexattr(self.top / path, name)

    def _model_cat(self, path: str) -> bytes:
        return bytes(self.model.file(path).data)

    def _real_cat(self, path: str) -> bytes:
        return (self.top / path).read_bytes()

    def _model_list(self, path: str) -> list[str] | None:
        node = self.model.walk(path)
        if not isinstance(node, Directory):
            raise fail(errno.ENOTDIR)
        busy = any(self.open.concerns(f"{path}/{name}") for name in (*node, *NAMES))
        return None if busy else sorted(node)

    def _real_list(self, path: str) -> list[str] | None:
        found = sorted(os.listdir(self.top / path))  # noqa: PTH208
        node = self._at(path)
        names = (*node, *NAMES) if isinstance(node, Directory) else NAMES
        busy = any(self.open.concerns(f"{path}/{name}") for name in names)
        return None if busy else found

    # Ends

    def close_all(self) -> None:
        for slot in list(self.descriptors):
            self.do("close", slot)

    def let_go(self) -> None:
        """Close what a killed mount has left open."""
        for descriptor, _ in self.descriptors.values():
            try:
                os.close(descriptor)
            except OSError:
                pass
        self.descriptors.clear()
        self.model.handles.clear()
        self.before.handles.clear()
