"""Where something is copied from and to: the trailing-slash rules, globs, key policy. Asks the local disk
only whether a path is a directory."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable
from typing import Literal

from cosfs.client.url import CosUrl, is_cos_url
from cosfs.errors import UsageError
from cosfs.records import dataclass

from .options import meant_url, parse_cos_url

STREAM = "-"
Operation = Literal["upload", "download", "copy"]

_GLOB = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Local:
    """A path on this machine, as the user wrote it."""

    path: str

    def __str__(self) -> str:
        return self.path

    @property
    def is_stream(self) -> bool:
        return self.path == STREAM


Place = Local | CosUrl


def parse_place(text: str) -> Place:
    """Read a source or destination."""
    if is_cos_url(text):
        return parse_cos_url(text)
    scheme, _, rest = text.partition("://")
    is_address = scheme in {"http", "https"} and ".cos" in rest.partition("/")[0]
    if is_address or (rest and scheme in {"s3", "cosn", "oss", "gs"}):
        parse_cos_url(text)  # raises, with the right spelling
    if not text:
        raise UsageError("a source or destination is empty")
    if text.startswith("cos:") and not os.path.lexists(text.partition("/")[0]):
        # A directory of that name would be made here, which nobody wants.
        raise UsageError(f"{text!r} is not a COS URL", hint=f"Did you mean {meant_url(text)}?")
    return Local(text)


def operation(source: Place, destination: Place) -> Operation:
    """Say which way it goes; refuse what does not touch COS at all."""
    for place in (source, destination):
        if isinstance(place, CosUrl) and not place.bucket:
            raise UsageError("cos:// names no bucket", hint="Write cos://bucket/key")
    if isinstance(source, CosUrl):
        return "copy" if isinstance(destination, CosUrl) else "download"
    if isinstance(destination, CosUrl):
        return "upload"
    raise UsageError(
        f"neither {source} nor {destination} is in COS", hint="Write one of them as cos://bucket/key"
    )


def as_prefix(key: str) -> str:
    """Return what a recursive source or destination key stands for: everything below it."""
    return key if not key or key.endswith("/") else f"{key}/"


def name_of(place: Place) -> str:
    """Return the last part of a key or path; the slashes behind it belong to a key, and to no path."""
    if isinstance(place, CosUrl):
        name = place.key.rstrip("/").rpartition("/")[2]
        return name + place.key[len(place.key.rstrip("/")) :]
    return place.path.rstrip("/").rpartition("/")[2]


def destination_key(name: str, destination: CosUrl) -> str:
    """Return the key one object gets: what is written, or the source's name below it if it ends in /."""
    key = destination.key
    return f"{key}{name}" if not key or key.endswith("/") else key


def destination_path(name: str, destination: str) -> str:
    """Return the path one file gets: as written, or the key's name in it if it is a directory."""
    if destination.endswith("/") or os.path.isdir(destination):  # noqa: PTH112 - Path would drop the slash
        return f"{destination.rstrip('/')}/{name}" if destination.rstrip("/") else f"/{name}"
    return destination


def check_overlap(source: CosUrl, destination: CosUrl, *, recursive: bool) -> None:
    """Refuse to copy something onto or into itself."""
    if source.bucket != destination.bucket:
        return
    if not recursive:
        if source.key == destination.key:
            raise UsageError(f"{source} would be copied onto itself")
    elif as_prefix(destination.key).startswith(as_prefix(source.key)):
        raise UsageError(
            f"{destination} is inside {source}", hint="Choose a destination outside of the source"
        )


# --- globs


@dataclass(frozen=True, slots=True)
class Glob:
    """A pattern in a key: `base` is the directory it is in, `prefix` what every match begins with."""

    base: str
    prefix: str
    matches: Callable[[str], object]


def find_glob(key: str) -> Glob | None:
    """Read a key as a pattern (`*` `?` `[..]` within a part, `**` across parts); None if it is none."""
    found = _GLOB.search(key)
    if found is None:
        return None
    base = key[: key.rfind("/", 0, found.start()) + 1]
    return Glob(base, key[: found.start()], re.compile(_glob_regex(key), re.DOTALL).fullmatch)


def _end_of_set(pattern: str, start: int) -> int:
    """Return where the set that begins at start ends; -1 if it does not. A `]` at its very front is in it."""
    negated = pattern[start + 1 : start + 2] in ("!", "^")
    return pattern.find("]", start + (3 if negated else 2))


def _set_regex(inner: str) -> str:
    negation = "!" if inner[0] in "!^" else ""
    # Ranges that are none, and what regular expressions take for operators, are the library's business.
    found = fnmatch.translate(f"[{negation}{inner[len(negation) :]}]")
    return f"(?!/){found.removeprefix('(?s:').rpartition(')')[0]}"


def _glob_regex(pattern: str) -> str:
    regex, position = "", 0
    while position < len(pattern):
        char = pattern[position]
        if pattern.startswith("**", position):
            regex, position = regex + ".*", position + 2
            continue
        end = _end_of_set(pattern, position) if char == "[" else -1
        if char == "*":
            regex += "[^/]*"
        elif char == "?":
            regex += "[^/]"
        elif end > 0:
            regex += _set_regex(pattern[position + 1 : end])
            position = end
        else:
            regex += re.escape(char)
        position += 1
    return regex
