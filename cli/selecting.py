"""--files-from: names out of a file, related to the source they shall be below."""

from __future__ import annotations

import base64
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cosfs.client.url import CosUrl, is_cos_url
from cosfs.errors import UsageError
from cosfs.records import dataclass

from .filters import Selection
from .places import Local, Place, as_prefix, parse_place

if TYPE_CHECKING:
    from .state import State

_EVENT = b'{"v":'


@dataclass(frozen=True, slots=True)
class Name:
    """One line of a list: a path below the source or, where `whole`, one that begins with the source."""

    text: str
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Chosen:
    """What the command line says about which items are taken, before it is known of which source.

    entries is what --files-from lists, as written there; None without that option. own_files are the
    paths that the command itself writes to: they are no part of any tree.
    """

    selection: Selection
    entries: Sequence[Name] | None = None
    own_files: Sequence[str] = ()

    def __bool__(self) -> bool:
        return bool(self.selection) or self.entries is not None

    @property
    def names_files(self) -> bool:
        """Whether --files-from was given."""
        return self.entries is not None

    def below(self, source: Place, destination: Place | None = None) -> Selection:
        """Return the selection for one source and where it goes; refuse names that do not lie below it."""
        selection = self.selection
        if self.own_files:
            selection = replace(selection, apart=frozenset(self._apart(source, destination)))
        if self.entries is None:
            return selection
        return selection.only([relative_name(entry, source) for entry in self.entries])

    def _apart(self, *places: Place | None) -> Iterator[str]:
        """Find the names of our own files below the places that are directories of this machine."""
        for place in places:
            if not isinstance(place, Local) or place.is_stream:
                continue
            root = os.path.join(os.path.realpath(place.path), "")  # noqa: PTH118 - Path would drop the slash
            for file in self.own_files:
                path = os.path.realpath(file)
                if path.startswith(root):
                    yield from _spellings(path.removeprefix(root))


def own_files(state: State, report: str | None, snapshot: str | None = None) -> tuple[str, ...]:
    """Return the paths a command writes to for itself."""
    whole = state.batch.report.path if state.batch is not None else None
    found = [path for path in (report, whole) if path]
    if snapshot:
        found += (snapshot + end for end in ("", "-wal", "-shm", "-journal"))  # as SQLite names them
    return tuple(found)


def _spellings(relative: str) -> Iterator[str]:
    """Yield the names that a path has in keys: as it is, and as --key-policy encode reads it."""
    from cosfs.transfer.paths import decode_key

    yield relative
    yield "/".join(map(decode_key, relative.split("/")))


def read_names(file: str, end: bytes) -> Iterator[Name]:
    """Read a list of names: one ended by each `end`; of a --report, the sources of what failed.

    In lists of lines, empty lines and those that begin with # are left out.
    """
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the names in {file}: {error.strerror}") from None
    for line in data.split(end):
        if end == b"\n":
            line = line.removesuffix(b"\r")
            if line.startswith(b"#"):
                continue
        if not line:
            continue
        if line.startswith(_EVENT) and end == b"\n":
            event = _event(line, file)
            if event.get("status") == "failed" and (
                name := event_end(event, "src") or event_end(event, "dst")
            ):
                yield Name(name, whole=True)
            continue
        text = os.fsdecode(line)
        yield Name(text, whole=is_cos_url(text) or text.startswith("/"))


def _event(line: bytes, file: str) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError:
        raise UsageError(f"{file} holds a line that is neither a name nor an event of a report") from None
    return event if isinstance(event, dict) else {}


def event_end(event: dict[str, Any], end: str) -> str:
    """Return one end (src, dst) of a report's event; empty if it has none."""
    if f"{end}_b64" in event:
        return base64.b64decode(event[f"{end}_b64"]).decode("utf-8", "surrogateescape")
    return str(event.get(end) or "")


def relative_name(name: Name, source: Place) -> str:
    """Return the path of a listed name below its source, where it must lie."""
    if isinstance(source, CosUrl):
        return _relative_key(name.text, source) if is_cos_url(name.text) else name.text.removeprefix("./")
    path, root = name.text, source.path.rstrip("/") + "/"
    if name.whole:
        if not path.startswith(root):
            raise _elsewhere(path, source)
        path = path[len(root) :]
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts or not parts:
        raise _elsewhere(path, source)
    return "/".join(parts)


def _elsewhere(path: str, source: Place) -> UsageError:
    return UsageError(
        f"{path!r} of --files-from is not below {source}", hint="Names are relative to the source"
    )


def _relative_key(entry: str, source: CosUrl) -> str:
    place = parse_place(entry)
    assert isinstance(place, CosUrl)
    prefix = as_prefix(source.key)
    if (
        not same_bucket(place.bucket, source.bucket)
        or not place.key.startswith(prefix)
        or place.key == prefix
    ):
        raise _elsewhere(entry, source)
    return place.key[len(prefix) :]


def same_bucket(one: str, other: str) -> bool:
    """Whether two names may mean one bucket: a name may be written without the APPID at its end."""
    longer, shorter = (one, other) if len(one) > len(other) else (other, one)
    return longer == shorter or bool(re.fullmatch(re.escape(shorter) + r"-\d{5,}", longer))
