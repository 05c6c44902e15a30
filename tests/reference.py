"""A filesystem in memory: what tests of random calls compare with."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(eq=False)
class File:
    """A file; mtime is None where nobody set it since the last write."""

    data: bytearray = field(default_factory=bytearray)
    mode: int = 0o644
    mtime: int | None = None
    xattrs: dict[str, bytes] = field(default_factory=dict)

    def write(self, offset: int, data: bytes) -> None:
        if len(self.data) < offset:
            self.data.extend(bytes(offset - len(self.data)))
        self.data[offset : offset + len(data)] = data
        self.mtime = None

    def truncate(self, size: int) -> None:
        del self.data[size:]
        self.data.extend(bytes(size - len(self.data)))
        self.mtime = None


@dataclass(eq=False)
class Link:
    """A symbolic link. No path leads through it here."""

    target: str


class Directory(dict[str, Any]):
    """Names to what is there."""

    mode = 0o755


Node = File | Link | Directory
Tree = dict[str, tuple[int, bytes | None]]  # paths to (mode, bytes; None for a directory)


def fail(number: int) -> OSError:
    return OSError(number, os.strerror(number))


@dataclass
class Reference:
    """Wrong calls raise what Linux would answer."""

    root: Directory = field(default_factory=Directory)
    handles: dict[int, File] = field(default_factory=dict)

    def walk(self, path: str) -> Node:
        node: Node = self.root
        for name in path.split("/") if path else []:
            if not isinstance(node, Directory):
                raise fail(errno.ENOTDIR)
            if name not in node:
                raise fail(errno.ENOENT)
            node = node[name]
        return node

    def parent(self, path: str) -> tuple[Directory, str]:
        head, _, name = path.rpartition("/")
        node = self.walk(head)
        if not isinstance(node, Directory):
            raise fail(errno.ENOTDIR)
        return node, name

    def file(self, path: str) -> File:
        node = self.walk(path)
        if not isinstance(node, File):
            raise fail(errno.EISDIR)
        return node

    def open(self, slot: int, path: str, flags: int) -> None:
        directory, name = self.parent(path)
        if name not in directory:
            if not flags & os.O_CREAT:
                raise fail(errno.ENOENT)
            directory[name] = File()
        file = self.file(path)
        if flags & os.O_TRUNC:
            file.truncate(0)
        self.handles[slot] = file

    def mkdir(self, path: str) -> None:
        directory, name = self.parent(path)
        if name in directory:
            raise fail(errno.EEXIST)
        directory[name] = Directory()

    def symlink(self, path: str, target: str) -> None:
        directory, name = self.parent(path)
        if name in directory:
            raise fail(errno.EEXIST)
        directory[name] = Link(target)

    def rmdir(self, path: str) -> None:
        directory, name = self.parent(path)
        if not isinstance(self.walk(path), Directory):
            raise fail(errno.ENOTDIR)
        if directory[name]:
            raise fail(errno.ENOTEMPTY)
        del directory[name]

    def unlink(self, path: str) -> None:
        directory, name = self.parent(path)
        if isinstance(self.walk(path), Directory):
            raise fail(errno.EISDIR)
        del directory[name]

    def rename(self, old: str, new: str) -> None:
        source, name = self.parent(old)
        destination, new_name = self.parent(new)
        node = self.walk(old)
        target = destination.get(new_name)
        if target is node:
            return
        if not isinstance(node, Directory) and isinstance(target, Directory):
            raise fail(errno.EISDIR)
        if isinstance(node, Directory):
            if target is not None and not isinstance(target, Directory):
                raise fail(errno.ENOTDIR)
            if f"{new}/".startswith(f"{old}/"):
                raise fail(errno.EINVAL)
            if target:
                raise fail(errno.ENOTEMPTY)
        del source[name]
        destination[new_name] = node

    def nodes(self) -> Iterator[tuple[str, Node]]:
        """Everything, by path; a directory comes before what is in it."""

        def below(directory: Directory, path: str) -> Iterator[tuple[str, Node]]:
            for name, node in directory.items():
                yield path + name, node
                if isinstance(node, Directory):
                    yield from below(node, f"{path}{name}/")

        return below(self.root, "")

    def tree(self) -> Tree:
        """Modes and bytes of files and directories."""
        return {
            path: (node.mode, bytes(node.data) if isinstance(node, File) else None)
            for path, node in self.nodes()
            if not isinstance(node, Link)
        }
