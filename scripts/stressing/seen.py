"""What is in a mount or in a bucket, and whether that is what may be there."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cosfs.client.client import CosClient
from cosfs.fs.names import shadow_name
from cosfs.transfer.attributes import Defaults, decode
from tests.reference import Directory, File, Link, Node

CONFLICT = re.compile(r"(.*)\.conflict-[^/]*")


@dataclass(frozen=True, slots=True)
class Seen:
    """One name. mode, mtime and xattrs are None where they do not matter, or cannot be known."""

    kind: str  # file, directory, link
    data: bytes = b""  # or the target of a link
    mode: int | None = None
    mtime: int | None = None
    xattrs: frozenset[tuple[str, bytes]] | None = None

    def __str__(self) -> str:
        mode = "any" if self.mode is None else f"{self.mode:o}"
        names = "any" if self.xattrs is None else dict(self.xattrs)
        size = f"{len(self.data)} bytes {self.data[:6].hex()}"
        return f"{self.kind} of {size}, mode {mode}, mtime {self.mtime}, attributes {names}"

    def fits(self, found: Seen | None) -> bool:
        """Whether what was found is this, as far as this says."""
        return (
            found is not None
            and (self.kind, self.data) == (found.kind, found.data)
            and self.mode in (None, found.mode)
            and (self.mtime is None or found.mtime is None or self.mtime == found.mtime)
            and (self.xattrs is None or found.xattrs is None or self.xattrs == found.xattrs)
        )


Sight = dict[str, Seen]


def expected(node: Node) -> Seen:
    """What a node of the model must look like."""
    if isinstance(node, Link):
        return Seen("link", os.fsencode(node.target))
    if isinstance(node, Directory):
        return Seen("directory", mode=node.mode)
    return Seen("file", bytes(node.data), node.mode, node.mtime, frozenset(node.xattrs.items()))


def adopted(seen: Seen) -> Node:
    """A node of the model that is what was found."""
    if seen.kind == "link":
        return Link(os.fsdecode(seen.data))
    if seen.kind == "directory":
        directory = Directory()
        directory.mode = seen.mode or 0o755
        return directory
    return File(bytearray(seen.data), seen.mode or 0o644, None, dict(seen.xattrs or ()))


def look(top: Path) -> Sight:
    """Everything below a directory."""
    found: Sight = {}
    places = [top]
    while places:
        for entry in sorted(places.pop().iterdir()):
            status = entry.lstat()
            name = str(entry.relative_to(top))
            if stat.S_ISLNK(status.st_mode):
                found[name] = Seen("link", os.fsencode(entry.readlink()))
            elif stat.S_ISDIR(status.st_mode):
                found[name] = Seen("directory", mode=stat.S_IMODE(status.st_mode))
                places.append(entry)
            else:
                found[name] = _look_at_file(entry, status)
    return found


def _look_at_file(path: Path, status: os.stat_result) -> Seen:
    data = path.read_bytes()
    if len(data) != status.st_size:
        raise OSError(f"{path}: {len(data)} bytes can be read, stat says {status.st_size}")
    names = [name for name in os.listxattr(path) if not name.startswith("user.cos.")]
    xattrs = frozenset((name, os.getxattr(path, name)) for name in names)
    return Seen("file", data, stat.S_IMODE(status.st_mode), status.st_mtime_ns, xattrs)


def stored(client: CosClient, bucket: str) -> Sight:
    """The same of the bucket itself, past every mount. Directories without an object have no mode."""
    found: Sight = {}
    files: list[str] = []
    for key in _keys(client, bucket):
        for place in [*Path(key).parents][:-1]:
            found.setdefault(str(place), Seen("directory"))
        if key.endswith("/"):
            found[key.rstrip("/")] = stored_one(client, bucket, key)
        else:
            files.append(key)
    for key in files:
        found[_beside(key) if key in found else key] = stored_one(client, bucket, key)
    return found


def _keys(client: CosClient, bucket: str) -> Iterator[str]:
    marker = ""
    while page := client.list_objects(bucket, marker=marker):
        yield from (entry.key for entry in page.objects)
        marker = page.next_marker
        if not marker:
            return


def _beside(key: str) -> str:
    """The name of a file that stands beside a directory of its name."""
    place, slash, component = key.rpartition("/")
    return place + slash + os.fsdecode(shadow_name(component))


def stored_one(client: CosClient, bucket: str, key: str) -> Seen:
    """One object."""
    info = client.head_object(bucket, key)
    assert info is not None
    attrs = decode(info, Defaults(uid=os.getuid(), gid=os.getgid()), is_dir=key.endswith("/"))
    mode = stat.S_IMODE(attrs.mode)
    if stat.S_ISDIR(attrs.mode):
        return Seen("directory", mode=mode)
    with client.get_object(bucket, key) as stream:
        data = b"".join(stream.chunks())
    if stat.S_ISLNK(attrs.mode):
        return Seen("link", data)
    return Seen("file", data, mode, attrs.mtime_ns, frozenset(attrs.xattrs.items()))


@dataclass
class Open:
    """What may have become of some paths, after somebody else was at work there as well.

    allowed: what each of them may be, None for nothing. kept: what must be somewhere: how it is called,
    how to know it, and the paths where it may be; beside these it may be under the name of a conflict.
    """

    allowed: dict[str, list[Seen | None]] = field(default_factory=dict)
    kept: list[tuple[str, Callable[[bytes], bool], tuple[str, ...]]] = field(default_factory=list)

    def allow(self, path: str, *what: Seen | None) -> None:
        self.allowed.setdefault(path, []).extend(what)

    def keep(self, name: str, data: bytes, *paths: str) -> None:
        self.kept.append((name, lambda found: found == data, paths))

    def concerns(self, path: str) -> bool:
        """Whether a path, one above it or one below it is open."""
        return any(f"{path}/".startswith(f"{p}/") or p.startswith(f"{path}/") for p in self.allowed)

    def is_conflict(self, path: str) -> bool:
        """Whether a name may be that of a version kept beside an open one."""
        found = CONFLICT.fullmatch(path)
        return found is not None and found[1] in self.allowed

    def difference(
        self, found: Mapping[str, Seen], wanted: Mapping[str, Seen], aside: Iterable[bytes]
    ) -> str:
        """Why what was found cannot be, "" if it can; aside is what is in recovered/."""
        for path in sorted(found.keys() | wanted.keys() | self.allowed.keys()):
            here = found.get(path)
            if path in self.allowed:
                choices = self.allowed[path]
                if not any(each is here if each is None else each.fits(here) for each in choices):
                    return f"{path}: {here} instead of one of {[str(each) for each in choices]}"
            elif path not in wanted:
                if not self.is_conflict(path):
                    return f"{path}: {here} instead of nothing"
            elif not wanted[path].fits(here):
                return f"{path}: {here} instead of {wanted[path]}"
        for name, known, paths in self.kept:
            places = [seen.data for path, seen in found.items() if path in paths or self._beside(path, paths)]
            if not any(known(data) for data in (*places, *aside)):
                return f"{name} is in none of {', '.join(paths)}, nor beside them"
        return ""

    @staticmethod
    def _beside(path: str, paths: tuple[str, ...]) -> bool:
        found = CONFLICT.fullmatch(path)
        return found is not None and found[1] in paths
