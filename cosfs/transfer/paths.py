"""Keys to local paths that cannot leave the directory they are meant for.

A bucket can hold keys that no path can have (`a//b`, `../x`, names of 300 bytes) or that several
keys share. They are refused with a reason, never bent into something else. And the directories on
the way are opened one by one without following symlinks, so that nothing planted below the
destination can send a write elsewhere.
"""

from __future__ import annotations

import os
import re
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from urllib.parse import unquote_to_bytes

from cosfs.errors import TransferError
from cosfs.records import dataclass
from cosfs.transfer.work import SharedFile

__all__ = [
    "Collisions",
    "DestinationRoot",
    "LocalTarget",
    "decode_key",
    "encode_key",
    "encode_name",
    "is_encoded_well",
    "is_marker",
    "key_problem",
    "link_error",
    "local_name",
    "plain_target",
    "split_key",
    "temporary_name",
    "temporary_number",
]

MAX_NAME = 255  # bytes of one path component on every Linux filesystem that matters
_SURELY_SHORT = MAX_NAME // 4  # characters, whatever they are
# Of our own: what a download grows in until it is whole.
_TEMPORARY = re.compile(r"\.cos-([0-9a-f]{8})\.tmp")
_ESCAPE = re.compile(r"%(?=[0-9A-Fa-f]{2})")


def temporary_name(number: int) -> str:
    """Return the name of a temporary file."""
    # Independent of the target's name, which may already be as long as a name can be.
    return f".cos-{number % (1 << 32):08x}.tmp"


def temporary_number(name: str) -> int | None:
    """Return the number in the name of a temporary file of ours; None if it is none."""
    found = _TEMPORARY.fullmatch(name)
    return int(found[1], 16) if found else None


def is_marker(key: str) -> bool:
    """Whether a key (relative to a prefix) stands for a directory."""
    return key.endswith("/")


def split_key(relative: str) -> tuple[str, ...]:
    """Return the path components of a key below the prefix; a marker's slash at the end is dropped."""
    return tuple(relative.removesuffix("/").split("/"))


def key_problem(relative: str) -> str:
    """Return why no local path can stand for a key (relative to its prefix); empty if one can."""
    if not relative:
        return "the name is empty"
    for component in split_key(relative):
        problem = _component_problem(component)
        if problem:
            return problem
    return ""


def _component_problem(component: str) -> str:
    if component.replace(".", "").isalnum() and len(component) <= _SURELY_SHORT:
        return ""  # as most are
    if not component:
        return "it has an empty path component (// or a leading /)"
    if component in (".", ".."):
        return f"it has the path component {component!r}"
    if "\0" in component:
        return "it holds a NUL character"
    if len(component.encode("utf-8", "surrogatepass")) > MAX_NAME:
        return f"a path component is longer than {MAX_NAME} bytes"
    try:
        component.encode()
    except UnicodeEncodeError:
        return "it is not valid Unicode"
    if _TEMPORARY.fullmatch(component):
        return f"{component!r} is what an unfinished download is called"
    return ""


def encode_key(relative: str) -> str:
    """Return a key with what no path can hold percent-encoded; decode_key turns it back.

    `..` becomes `%2E%2E`, a slash that parts nothing `%2F`, NUL `%00`, and a percent sign that
    would look like one of these `%25`. Components that are too long stay too long.
    """
    components = relative.split("/")
    marker = not components[-1] and len(components) > 1
    if marker:
        components.pop()
    encoded: list[str] = []
    slashes = ""
    for component in components:
        if component:
            encoded.append(slashes + _encode_component(component))
            slashes = ""
        else:
            slashes += "%2F"
    if slashes:
        # It ended in empty components: the last slash is one of the encoded.
        return "/".join([*encoded, slashes])
    return "/".join(encoded) + ("/" if marker else "")


def _encode_component(component: str) -> str:
    if component in (".", ".."):
        return component.replace(".", "%2E")
    if _TEMPORARY.fullmatch(component):
        return "%2E" + component[1:]
    return _ESCAPE.sub("%25", component).replace("\0", "%00")


def local_name(relative: str, size: int, *, encode: bool) -> tuple[str, str]:
    """Return the path for an object below its prefix, and why there is none, which is empty if there is one.

    A key that ends in a slash stands for a directory unless it has content. encode makes a path of
    (nearly) every key, as encode_key does.
    """
    marker_with_content = relative.endswith("/") and size > 0
    if encode:
        relative = encode_key(relative[:-1]) + "%2F" if marker_with_content else encode_key(relative)
    elif marker_with_content:
        return relative, "it ends in / and has content"
    return relative, key_problem(relative)


def is_encoded_well(name: str, *, is_directory: bool) -> bool:
    """Whether the slashes of a decoded name are where encode_key has them: before it, or one behind a file's.

    Others would make a key of it that belongs into another directory.
    """
    inner = name.lstrip("/")
    if not inner:
        return not (is_directory and name)
    return "/" not in (inner if is_directory else inner.removesuffix("/"))


def encode_name(name: bytes) -> str:
    """Return a local name that is not UTF-8 as text, the odd bytes percent-encoded."""
    return "".join(f"%{ord(c) - 0xDC00:02X}" if "\udc80" <= c <= "\udcff" else c for c in os.fsdecode(name))


def decode_key(relative: str) -> str:
    """Turn encode_key's percent-encoding back; what does not decode to UTF-8 is left as it is."""
    try:
        return unquote_to_bytes(relative).decode()
    except UnicodeDecodeError:
        return relative


class Collisions:
    """Finds keys of a sorted stream that need a directory where another key needs a file.

    `file` and `file/child` can both be keys. Keys come in UTF-8 byte order, `file.txt` between
    those two, so the keys that the current one begins with are remembered: no more than it is long.
    """

    def __init__(self) -> None:
        self._files: list[str] = []

    def add(self, key: str) -> str:
        """Note the next key; return the earlier one that is in its way, or empty text."""
        while self._files and not key.startswith(self._files[-1]):
            self._files.pop()
        for file in self._files:
            if key.startswith(file + "/"):
                return file
        if not is_marker(key):
            self._files.append(key)
        return ""


# Enough to create files in a directory, even in one that may not be listed.
_AT = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


# Directories kept open.
_RECENT = 32


class DestinationRoot:
    """The directory a recursive download writes below. Its methods can be called from any thread.

    The root itself may be reached through symlinks, the user named it; nothing below it is.
    """

    def __init__(self, path: Path | str, *, create: bool = True) -> None:
        self.path = os.fspath(path)
        if create:
            Path(self.path).mkdir(parents=True, exist_ok=True)
        self._root = SharedFile(os.open(self.path or ".", _AT))
        # Keys come sorted, so many in a row go to the same directory.
        self._recent: OrderedDict[tuple[str, ...], SharedFile] = OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Callable[[str], DestinationRoot], tuple[str]]:
        # In another process: the same directory, opened there once.
        return _opened_root, (self.path,)

    def close(self) -> None:
        """Close the root once the threads that use it are done."""
        self._root.close()
        self.forget()

    def forget(self) -> None:
        """Forget which directories there are, as when one was removed by somebody else."""
        with self._lock:
            recent, self._recent = self._recent, OrderedDict()
        for directory in recent.values():
            directory.close()

    def __enter__(self) -> DestinationRoot:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def target(self, relative: str) -> LocalTarget:
        """Return where the key with this name below the prefix goes.

        Raises TransferError, with the reason, for a name that no path can have.
        """
        problem = key_problem(relative)
        if problem:
            raise TransferError(f"{relative!r} cannot be a path here: {problem}")
        components = split_key(relative)
        return LocalTarget("/".join((self.path.rstrip("/"), *components)), self, components)

    def make_directory(self, relative: str) -> None:
        """Create the directory that a marker stands for, and those above it."""
        os.close(self.open_directory(self.target(relative).components))

    def hold_directory(self, components: tuple[str, ...]) -> SharedFile:
        """Return a directory below the root, in use for the caller, who leaves it by __exit__."""
        with self._lock:
            known = self._recent.get(components)
            if known is not None:
                self._recent.move_to_end(components)
                known.__enter__()
                return known
        directory = SharedFile(self.open_directory(components))
        directory.__enter__()
        with self._lock:
            before = self._recent.pop(components, None)
            self._recent[components] = directory
            oldest = self._recent.popitem(last=False)[1] if len(self._recent) > _RECENT else None
        for unneeded in (before, oldest):
            if unneeded is not None:
                unneeded.close()
        return directory

    def open_directory(self, components: Sequence[str]) -> int:
        """Open a directory below the root, creating what is missing; the descriptor is the caller's."""
        with self._root as root:
            fd = os.dup(root)
        for depth, component in enumerate(components):
            try:
                below = _enter(fd, component)
            except OSError as error:
                explained = self._error(error, fd, components[: depth + 1])
                os.close(fd)
                raise explained from None
            os.close(fd)
            fd = below
        return fd

    def _error(self, error: OSError, parent: int, components: Sequence[str]) -> Exception:
        path = "/".join((self.path.rstrip("/"), *components))
        try:
            mode = os.stat(components[-1], dir_fd=parent, follow_symlinks=False).st_mode
        except OSError:
            mode = 0
        if stat.S_ISLNK(mode):
            return link_error(path)
        return OSError(error.errno, error.strerror, path)


def link_error(path: str) -> TransferError:
    """Return what is raised where a directory below the root of a download is a link."""
    return TransferError(
        f"{path}: is a symbolic link, and a download does not follow those",
        hint="Replace it by a directory, or make what it points to the destination.",
    )


def _enter(parent: int, name: str) -> int:
    """Open directory name in parent, created if it is missing."""
    try:
        return os.open(name, _AT | os.O_NOFOLLOW, dir_fd=parent)
    except FileNotFoundError:
        pass
    try:
        os.mkdir(name, dir_fd=parent)
    except FileExistsError:
        # Another thread was faster.
        pass
    return os.open(name, _AT | os.O_NOFOLLOW, dir_fd=parent)


@cache
def _opened_root(path: str) -> DestinationRoot:
    return DestinationRoot(path, create=False)


@dataclass(frozen=True, slots=True)
class LocalTarget:
    """One file to be written; path is for people, and for opening when there is no root."""

    path: str
    root: DestinationRoot | None = None
    components: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.components[-1] if self.components else Path(self.path).name

    def hold_parent(self) -> SharedFile:
        """Return the directory the file goes to, created if missing, in use for the caller.

        The caller leaves it by __exit__.
        """
        if self.root is not None:
            return self.root.hold_directory(self.components[:-1])
        parent = os.path.dirname(self.path) or "."  # noqa: PTH120 - keeps `a/..` and a trailing slash
        try:
            directory = SharedFile(os.open(parent, _AT))
        except FileNotFoundError:
            Path(parent).mkdir(parents=True, exist_ok=True)
            directory = SharedFile(os.open(parent, _AT))
        directory.__enter__()
        # Ours alone: closed when the caller leaves it.
        directory.close()
        return directory


def plain_target(path: Path | str) -> LocalTarget:
    """Return the target for a path that the user named."""
    return LocalTarget(os.fspath(path))
