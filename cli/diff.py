"""`cos diff`: two texts line by line; two trees name by name, as `cos check` does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .check import check
from .options import GLOBAL_OPTIONS, Command
from .output import printable
from .places import Local, Place, parse_place

if TYPE_CHECKING:
    from .state import State

_HELP = """Show how two texts, or two trees, differ.

Two files or objects are compared line by line, as with diff -u; what is not text only as a whole.
Of two trees it says what is missing, more, or different on the other side, as cos check.
Exit code 1 if anything differs.

\b
Examples:
  cos diff ./app.conf cos://bucket/etc/app.conf
  cos diff cos://bucket/a.txt cos://bucket/b.txt
  cos diff ./local/ cos://bucket/path/ --size-only
"""


def _diff(source: str, destination: str, unified: int, **values: Any) -> int:
    ctx = click.get_current_context()
    state: State = ctx.find_root().obj
    places = _place(state, source), _place(state, destination)
    single = [_is_single(state, place) for place in places]
    if all(single):
        return _texts(state, *places, lines=unified)
    missing = [
        place for place, found in zip(places, single, strict=True) if not found and _is_missing(state, place)
    ]
    # Beside a tree that is there, one that is not lacks all of it, which check says.
    if missing and (any(single) or len(missing) == len(places)):
        raise _no_object(missing[0])
    assert check.callback is not None
    code: int = check.callback(source=source, destination=destination, **values)
    return code


diff = Command(
    "diff",
    callback=_diff,
    help=_HELP,
    params=[
        *(param for param in check.params if param not in GLOBAL_OPTIONS),
        click.Option(
            ["--unified", "-U"],
            type=click.IntRange(0),
            default=3,
            metavar="N",
            help="Lines around; default 3.",
        ),
    ],
)


def _place(state: State, text: str) -> Place:
    """Return a place, its bucket by its full name."""
    place = parse_place(text)
    if isinstance(place, Local) or not place.bucket:
        return place
    return replace(place, bucket=state.client.resolve_bucket(place.bucket))


def _is_single(state: State, place: Place) -> bool:
    """Whether a place is one file or one object."""
    if isinstance(place, Local):
        return place.is_stream or os.path.isfile(place.path)  # noqa: PTH113 - keeps a trailing slash
    if not place.key or place.key.endswith("/"):
        return False
    from cosfs.errors import ObjectNotFoundError

    try:
        state.client.head_object(place.bucket, place.key)
    except ObjectNotFoundError:
        return False
    return True


def _is_missing(state: State, place: Place) -> bool:
    """Whether a place that is no object has nothing below it either."""
    if isinstance(place, Local) or not place.key or place.key.endswith("/"):
        return False
    return not state.client.list_objects(place.bucket, prefix=f"{place.key}/", max_keys=1).objects


def _no_object(place: Place) -> Exception:
    from cosfs.errors import ObjectNotFoundError

    return ObjectNotFoundError("there is no such object, and nothing below it", target=str(place))


def _texts(state: State, one: Place, other: Place, *, lines: int) -> int:
    """Compare two files by diff(1), which every system has and which is quick with large ones."""
    from cosfs.errors import ConfigError

    with tempfile.TemporaryDirectory(prefix="cos-diff-") as directory:
        paths = [
            _as_file(state, place, Path(directory) / str(number)) for number, place in enumerate((one, other))
        ]
        labels = [word for place in (one, other) for word in ("--label", printable(str(place)))]
        try:
            process = subprocess.Popen(["diff", f"-U{lines}", *labels, *paths], stdout=subprocess.PIPE)
        except FileNotFoundError:
            raise ConfigError("the program diff is not there", hint="Install diffutils") from None
        assert process.stdout is not None
        with process, process.stdout as found:
            text = (line.rstrip(b"\n").decode("utf-8", "surrogateescape") for line in found)
            if state.format in ("json", "jsonl"):
                _as_json(state, one, other, [*text])
            else:
                state.out.lines(_painted(state, map(printable, text)))
        return 255 if process.returncode > 1 else process.returncode


def _as_json(state: State, one: Place, other: Place, lines: list[str]) -> None:
    shown = [line.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") for line in lines]
    record = {"Source": str(one), "Destination": str(other), "Same": not lines, "Diff": shown}
    state.out.document(record, state.format)


def _as_file(state: State, place: Place, path: Path) -> str:
    """Return a file that holds what is at a place."""
    from cosfs.errors import UsageError

    if isinstance(place, Local) and not place.is_stream:
        if not os.access(place.path, os.R_OK):
            raise UsageError(f"cannot read {place}")
        return os.path.abspath(place.path)  # noqa: PTH100 - a name that looks like an option would be one
    with path.open("wb") as file:
        if isinstance(place, Local):
            shutil.copyfileobj(sys.stdin.buffer, file)
        else:
            with state.client.get_object(place.bucket, place.key) as stream:
                for piece in stream.chunks():
                    file.write(piece)
    return str(path)


def _painted(state: State, lines: Iterable[str]) -> Iterable[str]:
    colors = {"+": "green", "-": "red", "@": "cyan"}
    for line in lines:
        color = colors.get(line[:1])
        yield state.out.paint(line, color, stdout=True) if color else line
