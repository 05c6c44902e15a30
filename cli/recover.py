"""`cos recover`: bring to COS what a mount that died has left, without mounting."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import command, complete_places

if TYPE_CHECKING:
    from cosfs.client.client import CosClient
    from cosfs.fs.recovery import Recovered

    from .state import State


@command("recover")
@click.argument(
    "place", required=False, metavar="[CACHE_DIR|cos://BUCKET[/PREFIX]]", shell_complete=complete_places
)
@click.option(
    "--give-up", is_flag=True, help="Move what COS does not take to recovered/ instead of keeping it pending."
)
@click.pass_obj
def recover(state: State, place: str | None, give_up: bool) -> int:
    """Bring to COS what a mount that died has left in its cache directory.

    The next mount of the same source does the same. Of a cos:// URL that is what is below it, and what
    that cannot be finished without: files renamed from there, directories half moved. What COS does not
    take now stays pending. What can neither be sent nor undone is kept in recovered/ below the cache
    directory, with a list of what it was and why. The exit code is 0 if nothing is left, 1 otherwise.

    \b
    Examples:
      cos recover
      cos recover cos://bucket
      cos recover /var/cache/cosfs
    """
    from cosfs.client.url import is_cos_url, parse_url
    from cosfs.errors import ConfigError, UsageError
    from cosfs.fs.unmounted import find_journals
    from cosfs.fuse.settings import default_cache_dir

    source, base = ("", ""), default_cache_dir()
    client = state.make_client()
    if place is not None and is_cos_url(place):
        url = parse_url(place)
        source = (client.resolve_bucket(url.bucket) if url.bucket else "", url.key)
    elif place is not None:
        base = Path(place)
        if not base.is_dir():
            raise UsageError(f"{place} is not a directory", hint="Name a cache directory or a cos:// URL")
    found = find_journals(base)
    records: list[dict[str, object]] = []
    if not found:
        state.out.talk(f"nothing is left in {base}")
    code = 0
    with client:
        for directory in found:
            try:
                done = _run(state, client, directory, source, give_up)
            except ConfigError as error:
                if len(found) == 1 and place is not None:
                    raise
                state.out.warn(str(error))
                continue
            code = max(code, _tell(state, directory, done))
            records.append({"Directory": str(directory), **_fields(done)})
            if state.format == "jsonl":
                state.out.json_line(records[-1])
    if state.format == "json":
        state.out.json({"Directories": records})
    return code


def _fields(done: Recovered) -> dict[str, object]:
    from dataclasses import asdict

    return {name.title(): value for name, value in asdict(done).items()}


def _run(
    state: State, client: CosClient, directory: Path, source: tuple[str, str], give_up: bool
) -> Recovered:
    from functools import partial

    import trio

    from cosfs.fs.unmounted import recover_directory

    return trio.run(
        partial(recover_directory, client, state.settings.transfer, directory, source=source, give_up=give_up)
    )


def _tell(state: State, directory: Path, done: Recovered) -> int:
    if state.format not in ("json", "jsonl"):
        state.out.lines([f"{directory}: {done}"])
    if done.kept:
        state.out.warn(f"{done.kept} could not be brought to COS; they are in {directory / 'recovered'}")
    for error in dict.fromkeys(done.errors if done.left else ()):
        state.out.error(error)
    return 1 if done.left or done.kept else 0
