"""`cos refresh`: have a mount ask COS anew."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import command
from .output import printable

if TYPE_CHECKING:
    from .state import State

_STATES = {
    "new": "is new",
    "changed": "has changed",
    "unchanged": "is unchanged",
    "gone": "is gone",
    "absent": "is not there",
    "local": "is changed here and not in COS yet; it stays as it is",
}


@command("refresh")
@click.argument("paths", type=click.Path(path_type=Path), metavar="PATH...", nargs=-1, required=True)
@click.option("-r", "--recursive", is_flag=True, help="Everything below a directory as well.")
@click.pass_obj
def refresh(state: State, paths: tuple[Path, ...], recursive: bool) -> int:
    """See at once what others changed in COS.

    A mount believes what it knows for --metadata-ttl. This has it ask about a file now, and about
    what a directory holds as soon as somebody looks; what the kernel remembers is dropped too.
    Changes made in the mount that are not in COS yet are kept.

    \b
    Examples:
      cos refresh /mnt/cos/bucket/file.txt
      cos refresh --recursive /mnt/cos/bucket/path
    """
    from cosfs.errors import COSError
    from cosfs.fuse.control import refresh as refresh_path

    code = 0
    answers = []
    for path in paths:
        try:
            answer = refresh_path(path, recursive=recursive)
        except COSError as error:
            state.out.error(str(error))
            code = max(code, error.exit_code)
            continue
        answers.append({"path": str(path), **answer})
        if state.format not in ("json", "jsonl"):
            _say(state, path, answer)
    if state.format in ("json", "jsonl"):
        state.out.json(answers)
    return code


def _say(state: State, path: Path, answer: dict[str, Any]) -> None:
    """Tell in words what was done."""
    text = f"{printable(str(path))} {_STATES[answer['state']]}"
    if count := answer["directories"]:
        where = "" if count == 1 else f" in {count} directories"
        text += f"; {answer['forgotten']} names below it are asked about again{where}"
    state.out.lines([text])
    if kept := answer["kept_count"]:
        changes = "1 change is" if kept == 1 else f"{kept} changes are"
        state.out.warn(f"{changes} not in COS yet and stay: {', '.join(map(printable, answer['kept']))}")
