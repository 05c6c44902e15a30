"""A program that does what editors, archivers and scripts do with files that are open, or just were."""

from __future__ import annotations

import errno
import os
import posixpath
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from scripts.stressing.exclusive import rename_exclusive
from scripts.stressing.seen import Seen, Sight
from scripts.stressing.writer import Writer

HOLE = 300_000  # bytes at most


class Mapper:
    """The process of mapped.py."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(__file__).with_name("mapped.py"))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def change(self, path: Path, how: str, pieces: list[tuple[int, bytes]]) -> Iterator[str]:
        """Have bytes changed; gives "synced", and at the end "0" or an errno."""
        source, answers = self._process.stdin, self._process.stdout
        assert source is not None and answers is not None
        changes = " ".join(f"{start}:{piece.hex()}" for start, piece in pieces)
        print(os.fsencode(path).hex(), how, changes, file=source, flush=True)
        for line in answers:
            yield line.strip()
            if line != "synced\n":
                return
        yield str(errno.EIO)  # it has ended with the mount

    def close(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with suppress(OSError):
                stream.close()
        self._process.wait()


class BusyWriter(Writer):
    """Besides the calls of every program: several that belong together, and looks at what is there."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._mapper = Mapper()

    def run(self) -> None:
        try:
            super().run()
        finally:
            self._mapper.close()

    def _kinds(self) -> dict[Callable[[], None], int]:
        return {
            **super()._kinds(),
            self._read: 6, self._list: 3, self._rotate: 4, self._swap: 3, self._cycle: 2, self._remake: 3,
            self._other_kind: 3, self._sparse: 2, self._copy: 3, self._rename_exclusive: 3,
            self._move_while_written: 5, self._move_place_while_written: 3, self._remove_while_written: 4,
            self._replace_while_open: 3, self._append_twice: 3, self._cut_while_written: 3,
            self._sync_directory: 2, self._map: 4,
        }  # fmt: skip

    def _begin(self) -> None:
        """Move or remove what is large, if there is such a directory."""
        place = self.large_directory
        if not place:
            return
        if self._chance.random() < 0.6:
            self._rename(place, f"{place}~")
            place = f"{place}~"
        if self._chance.random() < 0.5:
            self._remove_all(place)

    # What is there

    def _read(self) -> None:
        """A file is what it was made, at any time."""
        if files := self._files():
            path = self._chance.choice(files)
            wanted = self.known[path]
            data, mode = (self.top / path).read_bytes(), (self.top / path).stat().st_mode & 0o7777
            if data != wanted.data:
                self.lies.append(f"{path} was read as {Seen('file', data)} instead of {wanted}")
            elif self.sees_modes and wanted.mode not in (None, mode):
                self.lies.append(f"{path} was said to have the mode {mode:o} instead of {wanted}")

    def _list(self) -> None:
        place = self._chance.choice(self._directories())
        wanted = {path.rpartition("/")[2] for path in self.known if posixpath.dirname(path) == place}
        found = {path.name for path in (self.top / place).iterdir()}
        if found != wanted:
            self.lies.append(f"{place or '.'} holds {sorted(found)} instead of {sorted(wanted)}")

    def _sync_directory(self) -> None:
        descriptor = os.open(self.top / self._chance.choice(self._directories()), os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    # Names, one call after the other

    def _may_replace(self, path: str) -> bool:
        return not self._is(path, "directory")

    def _rotate(self) -> None:
        """As logs are: each gets the name of the one before it, and the first is made anew."""
        path = self._new_path()
        names = [path, f"{path}.1", f"{path}.2"]
        if not all(map(self._may_replace, names)):
            return
        for old, new in ((names[1], names[2]), (names[0], names[1])):
            if old in self.known:
                self._rename(old, new)
        if not self._is(path, "link"):
            self._put(path, self._data(), os.O_TRUNC)

    def _swap(self) -> None:
        files = self._files()
        if len(files) > 1:
            one, other = self._chance.sample(files, 2)
            if f"{one}.tmp" not in self.known:
                self._rename(one, f"{one}.tmp")
                self._rename(other, one)
                self._rename(f"{one}.tmp", other)

    def _cycle(self) -> None:
        """Back to the name it had."""
        if paths := list(self.known):
            path = self._chance.choice(paths)
            for old, new in ((path, f"{path}~"), (f"{path}~", f"{path}~~"), (f"{path}~~", path)):
                if old in self.known and new not in self.known:
                    self._rename(old, new)

    def _rename_exclusive(self) -> None:
        files, new = self._files(), self._new_path()
        if files and new not in self.known:
            old = self._chance.choice(files)
            after = {path: node for path, node in self.known.items() if path != old} | {new: self.known[old]}
            self._do(
                f"renameat2 {old} {new}", after, lambda: rename_exclusive(self.top / old, self.top / new)
            )

    def _remake(self) -> None:
        """A directory goes with all that is in it, and comes back with some of it."""
        places = [path for path in self.known if self._is(path, "directory")]
        if not places:
            return
        place = self._chance.choice(places)
        files = {
            path: node.data
            for path, node in self.known.items()
            if path.startswith(f"{place}/") and node.kind == "file"
        }
        self._remove_all(place)
        self._make_directory(place)
        for path, data in files.items():
            if posixpath.dirname(path) == place and self._chance.random() < 0.5:
                self._put(path, data, os.O_TRUNC)

    def _remove_all(self, place: str) -> None:
        inside = sorted((path for path in self.known if path.startswith(f"{place}/")), key=len, reverse=True)
        for path in [*inside, place]:
            if self._is(path, "directory"):
                self._do(f"rmdir {path}", _without(self.known, path), (self.top / path).rmdir)
            else:
                self._do(f"unlink {path}", _without(self.known, path), (self.top / path).unlink)

    def _make_directory(self, path: str) -> None:
        after = {**self.known, path: Seen("directory", mode=0o755)}
        self._do(f"mkdir {path}", after, lambda: (self.top / path).mkdir(0o755))

    def _other_kind(self) -> None:
        """A file in the place of a directory, or the other way round."""
        if self._chance.random() < 0.5:
            if files := self._files():
                path = self._chance.choice(files)
                self._do(f"unlink {path}", _without(self.known, path), (self.top / path).unlink)
                self._make_directory(path)
            return
        empty = [
            path
            for path in self.known
            if self._is(path, "directory") and not any(p.startswith(f"{path}/") for p in self.known)
        ]
        if empty:
            path = self._chance.choice(empty)
            self._do(f"rmdir {path}", _without(self.known, path), (self.top / path).rmdir)
            self._put(path, self._data(), os.O_TRUNC)

    # Bytes

    def _sparse(self) -> None:
        path, hole = self._new_path(), self._chance.randrange(HOLE)
        if path not in self.known:
            head, tail = self._data()[:1_000], self._data()[:1_000] or b"x"
            data = head + bytes(hole) + tail

            def write(fd: int) -> None:
                self._write_all(fd, head)
                os.pwrite(fd, tail, len(head) + hole)

            self._open_and(f"sparse {path}", path, data, write)

    def _copy(self) -> None:
        files, new = self._files(), self._new_path()
        if files and new not in self.known:
            old = self._chance.choice(files)
            data = self.known[old].data

            def copy(fd: int) -> None:
                source = os.open(self.top / old, os.O_RDONLY)
                try:
                    left = len(data)
                    while left and (done := os.copy_file_range(source, fd, left)):
                        left -= done
                finally:
                    os.close(source)

            self._open_and(f"copy_file_range {old} {new}", new, data, copy)

    def _cut_while_written(self) -> None:
        path, size = self._new_path(), self._chance.choice((0, 10, 50_000))
        if path not in self.known:
            first, second = self._data(), self._data()[:50_000]
            start = self._chance.choice((0, size, size + 5_000))
            cut = first[:size].ljust(size, b"\0")
            data = cut[:start].ljust(start, b"\0") + second + cut[start + len(second) :]
            data = data if second else cut

            def write(fd: int) -> None:
                self._write_all(fd, first)
                os.ftruncate(fd, size)
                if second:
                    os.pwrite(fd, second, start)

            self._open_and(f"cut {path} {size}", path, data, write, patched=path)

    def _map(self) -> None:
        """Change bytes in a mapping, with msync() or without, in pages that lie apart."""
        files = [path for path in self._files() if self.known[path].data]
        if not files:
            return
        path = self._chance.choice(files)
        old = self.known[path]
        data = bytearray(old.data)
        pieces: list[tuple[int, bytes]] = []
        for _ in range(self._chance.choice((1, 2, 5))):
            start = self._chance.randrange(len(data))
            pieces.append((start, self._chance.randbytes(min(3_000, len(data) - start))))
            data[start : start + len(pieces[-1][1])] = pieces[-1][1]
        after = {**self.known, path: replace(old, data=bytes(data), mtime=None)}
        how = self._chance.choice(("msync", "-"))

        def change() -> None:
            for answer in self._mapper.change(self.top / path, how, pieces):
                if answer == "synced":
                    self._acknowledged(after)
                    self._look_after(path, "msync")
                elif answer != "0":
                    raise OSError(int(answer), os.strerror(int(answer)))

        self._do(f"map {path} {[start for start, _ in pieces]} {how}", after, change, patched=path)
        if self._sent_by_close:
            self._look_after(path, "close")

    def _append_twice(self) -> None:
        """Two descriptors that append in turn."""
        if not (files := self._files()):
            return
        path = self._chance.choice(files)
        pieces = [self._chance.randbytes(self._chance.randrange(1, 3_000)) for _ in range(4)]
        old = self.known[path]
        after = {**self.known, path: replace(old, data=old.data + b"".join(pieces), mtime=None)}

        def append() -> None:
            fds = [os.open(self.top / path, os.O_WRONLY | os.O_APPEND) for _ in range(2)]
            try:
                for number, piece in enumerate(pieces):
                    os.write(fds[number % 2], piece)
            except BaseException:
                for fd in fds:
                    self._close_quietly(fd)
                raise
            os.close(fds[0])
            os.close(fds[1])

        self._do(f"append twice {path}", after, append, patched=path)

    @staticmethod
    def _write_all(fd: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view[:131072]) :]

    def _open_and(
        self, what: str, path: str, data: bytes, write: Callable[[int], None], patched: str = ""
    ) -> None:
        """Make a file of a new name."""
        after = {**self.known, path: Seen("file", data, 0o644, None, frozenset())}
        self._do(what, after, lambda: self._write_new(path, write), patched)

    def _write_new(self, path: str, write: Callable[[int], None]) -> None:
        fd = os.open(self.top / path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            write(fd)
        except BaseException:
            self._close_quietly(fd)
            raise
        os.close(fd)

    # Files that are open while their names change: each of these is one call to the judge

    def _halves(self) -> tuple[bytes, bytes]:
        data = self.draft = self._data()
        return data[: len(data) // 2], data[len(data) // 2 :]

    def _move_while_written(self) -> None:
        old, new = self._new_path(), self._new_path()
        if old == new or (not self._is(old, "file") and old in self.known):
            return
        if self._is(new, "directory", "link"):
            return
        node = self.known.get(old, Seen("file", b"", 0o644, None, frozenset()))
        one, other = self._halves()
        done = replace(node, data=one + other, mtime=None)
        after = {**_without(self.known, old), new: done}
        # Nobody was promised its bytes: they may be where they were, or not be at all.
        before = [_timeless(self.known.get(path)) for path in (old, new)]
        self.loose = {old: [before[0], None], new: [*before, None, done]}

        def write(fd: int) -> None:
            self._write_all(fd, one)
            (self.top / old).rename(self.top / new)
            self._write_all(fd, other)

        self._do(
            f"move while written {old} {new} {len(done.data)}", after, lambda: self._write_new(old, write)
        )

    def _move_place_while_written(self) -> None:
        """The directory of a file gets another name while it is written."""
        places = [path for path in self.known if self._is(path, "directory")]
        if not places:
            return
        place = self._chance.choice(places)
        new_place, name = f"{place}~", self._chance.choice("abcd")
        path = f"{place}/{name}"
        if new_place in self.known or path in self.known:
            return
        one, other = self._halves()
        done = Seen("file", one + other, 0o644, None, frozenset())
        moved = {
            new_place + each[len(place) :] if f"{each}/".startswith(f"{place}/") else each: node
            for each, node in self.known.items()
        }
        after = {**moved, f"{new_place}/{name}": done}
        self.loose = {path: [None], f"{new_place}/{name}": [None, done]}

        def write(fd: int) -> None:
            self._write_all(fd, one)
            (self.top / place).rename(self.top / new_place)
            self._write_all(fd, other)

        self._do(f"move place while written {path} {new_place}", after, lambda: self._write_new(path, write))

    def _remove_while_written(self) -> None:
        """A file loses its name while it is written; another one may get it."""
        path = self._new_path()
        if self._is(path, "directory", "link"):
            return
        one, other = self._halves()
        again = self._data() if self._chance.random() < 0.6 else None
        done = None if again is None else Seen("file", again, 0o644, None, frozenset())
        after = _without(self.known, path) if done is None else {**self.known, path: done}
        self.loose = {path: [_timeless(self.known.get(path)), None, done]}

        def write(fd: int) -> None:
            self._write_all(fd, one)
            (self.top / path).unlink()
            if again is not None:
                self._write_new(path, lambda new: self._write_all(new, again))
            self._write_all(fd, other)

        self._do(f"remove while written {path} {done}", after, lambda: self._write_new(path, write))

    def _replace_while_open(self) -> None:
        """What is written to a file that was replaced goes nowhere."""
        files, temp = self._files(), f"{self._new_path()}.new"
        if not files or temp in self.known:
            return
        path, data = self._chance.choice(files), self._data()
        fd = os.open(self.top / path, os.O_RDWR)
        try:
            self._put(temp, data, os.O_TRUNC)
            self._rename(temp, path)
            os.pwrite(fd, b"written to what was replaced", 0)
            if os.fstat(fd).st_nlink:
                self.lies.append(f"{path} was replaced, and has a name")
        finally:
            self._close_quietly(fd)


def _without(tree: Sight, path: str) -> Sight:
    return {each: node for each, node in tree.items() if each != path}


def _timeless(node: Seen | None) -> Seen | None:
    return node if node is None else replace(node, mtime=None)
