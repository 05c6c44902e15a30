"""`cos cache`: what mounts keep on disk of what they have read."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import ANY_URL, apply, command, complete_places, dryrun_option, group
from .output import Column, printable, table

if TYPE_CHECKING:
    from cosfs.client.url import CosUrl
    from cosfs.fs.blockstore import BlockStore
    from cosfs.fuse.control import MountStatus

    from .state import State

_APPID = re.compile(r"-\d+$")
_cache_dir = click.option(
    "--cache-dir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The --cache-dir of the mounts; default: those of running mounts and the usual one.",
)


@group("cache")
def cache() -> None:
    """Show, fill, check and empty the block cache, which all mounts share.

    It holds what can be fetched again; what is not in COS yet is kept elsewhere and never touched here.
    """


def _directories(chosen: Path | None, mounts: Iterable[MountStatus]) -> list[Path]:
    """Where block caches are."""
    from cosfs.fs.place import BLOCKS, check_private
    from cosfs.fuse.settings import default_cache_dir

    if chosen is not None:
        found = [chosen.absolute() / BLOCKS]
    else:
        found = [default_cache_dir() / BLOCKS]
        found += [Path(each.details["blocks_dir"]) for each in mounts if "blocks_dir" in each.details]
    there = [path for path in dict.fromkeys(path.resolve() for path in found) if (path / "cache.db").exists()]
    for path in there:
        check_private(path, hidden=True)
    return there


def _opened(directories: Iterable[Path]) -> Iterator[tuple[Path, BlockStore]]:
    import sqlite3

    from cosfs.errors import ConfigError
    from cosfs.fs.blockstore import STORE_ERRORS, BlockStore

    for directory in directories:
        try:
            store = BlockStore(directory)
            try:
                yield directory, store
            finally:
                store.close()
        except STORE_ERRORS as error:
            hint = "The next mount makes its index anew" if isinstance(error, sqlite3.Error) else ""
            raise ConfigError(f"the cache in {directory} cannot be used: {error}", hint=hint) from error


@command("info")
@_cache_dir
@click.pass_obj
def info(state: State, cache_dir: Path | None) -> int:
    """Show where the cache is, how large it is, how often it helps, and what each bucket takes.

    \b
    Examples:
      cos cache info
      cos cache info --output json
    """
    from cosfs.fuse.control import list_mounts

    mounts = list_mounts()
    records = [
        _described(directory, store, mounts) for directory, store in _opened(_directories(cache_dir, mounts))
    ]
    if state.format == "json":
        state.out.json(records)
    elif state.format == "jsonl":
        for record in records:
            state.out.json_line(record)
    elif not records:
        state.out.talk("there is no cache yet")
    else:
        for record in records:
            _show(state, record)
    return 0


def _described(directory: Path, store: BlockStore, mounts: Iterable[MountStatus]) -> dict[str, Any]:
    from cosfs.fs.reserve import DEFAULT_RESERVE

    users = [each for each in mounts if each.details.get("blocks_dir") == str(directory)]
    shares = store.shares()
    return {
        "Directory": str(directory),
        "Size": store.volume(),
        "Limit": max((each.details["cache_limit"] for each in users), default=None),
        "Spare": max(0, DEFAULT_RESERVE.spare(directory)),
        "Blocks": sum(share.blocks for share in shares),
        "Buckets": [{"Bucket": each.bucket, "Blocks": each.blocks, "Size": each.size} for each in shares],
        "Mounts": [{"Mountpoint": each.mountpoint, "HitRate": each.details["hit_rate"]} for each in users],
    }


def _show(state: State, record: dict[str, Any]) -> None:
    from cosfs.units import format_size

    limit = "" if record["Limit"] is None else f" of {format_size(record['Limit'])}"
    pairs = [
        ("Directory", record["Directory"]),
        ("Size", format_size(record["Size"]) + limit),
        ("Blocks", str(record["Blocks"])),
        ("Room on the disk", format_size(record["Spare"])),
    ]
    for each in record["Mounts"]:
        rate = each["HitRate"]
        pairs.append((f"Hits of {each['Mountpoint']}", "-" if rate is None else f"{rate:.0%}"))
    pairs += [
        (f"Bucket {each['Bucket']}", f"{format_size(each['Size'])}, {each['Blocks']} blocks")
        for each in record["Buckets"]
    ]
    if state.format == "table":
        table(state.out, [Column("Name"), Column("Value")], pairs)
    else:
        state.out.lines(f"{printable(name)}\t{printable(value)}" for name, value in pairs)


@command("clear")
@click.argument("places", metavar="[PATH|cos://BUCKET[/KEY]]...", nargs=-1, shell_complete=complete_places)
@apply(_cache_dir, dryrun_option)
@click.option("--all", "everything", is_flag=True, help="All of it.")
@click.pass_obj
def clear(
    state: State, places: tuple[str, ...], cache_dir: Path | None, dryrun: bool, everything: bool
) -> int:
    """Forget what is cached: of an object, below a directory or prefix, or all. Mounts may be running.

    \b
    Examples:
      cos cache clear ~/mnt/old-data
      cos cache clear cos://bucket/old-data
      cos cache clear --all
    """
    from cosfs.errors import UsageError
    from cosfs.fuse.control import list_mounts
    from cosfs.units import format_size

    if bool(places) == everything:
        raise UsageError("say what to forget: paths, or --all", hint="'cos cache clear --help' shows how")
    wanted = [_url(place) for place in places]
    count = size = 0
    for _, store in _opened(_directories(cache_dir, list_mounts())):
        act = store.count_below if dryrun else store.clear_below
        for tag in _tags(wanted, store) if places else [b""]:
            blocks, taken = act(tag)
            count += blocks
            size += taken
    if state.format in ("json", "jsonl"):
        state.out.document({"Blocks": count, "Size": size}, state.format)
        return 0
    verb = "would forget" if dryrun else "forgot"
    state.out.lines([f"{verb} {count} block{'s' * (count != 1)}, {format_size(size)}"])
    return 0


def _url(place: str) -> CosUrl:
    """What a path in a mount, or a URL, names in COS."""
    from cosfs.client.url import is_cos_url
    from cosfs.errors import UsageError

    try:
        text = place if is_cos_url(place) else os.fsdecode(os.getxattr(place, "user.cos.url"))
    except OSError as error:
        raise UsageError(
            f"{place} is nothing in a mount of cos: {error.strerror}", hint="A cos:// URL does as well"
        ) from None
    return ANY_URL.convert(text, None, None)


def _tags(urls: Iterable[CosUrl], store: BlockStore) -> Iterator[bytes]:
    """What the tags of these objects begin with."""
    from cosfs.fs.blocks import object_tag

    buckets = [share.bucket for share in store.shares()]
    for url in urls:
        for bucket in buckets:
            if url.bucket in (bucket, _APPID.sub("", bucket)):
                yield object_tag(bucket, url.key)


@command("verify")
@_cache_dir
@click.pass_obj
def verify(state: State, cache_dir: Path | None) -> int:
    """Read and check all blocks, and remove the damaged ones. The exit code is 1 if there were any.

    \b
    Examples:
      cos cache verify
      cos cache verify --cache-dir /var/cache/cos
    """
    from cosfs.fuse.control import list_mounts
    from cosfs.units import format_size

    good = bad = size = 0
    for _, store in _opened(_directories(cache_dir, list_mounts())):
        for taken, is_good in store.verify():
            good += is_good
            bad += not is_good
            size += taken
    if state.format in ("json", "jsonl"):
        state.out.document({"Good": good, "Removed": bad, "Size": size}, state.format)
    else:
        whole = "1 block is good" if good == 1 else f"{good} blocks are good"
        state.out.lines(
            [f"{whole}, {bad} {'was' if bad == 1 else 'were'} damaged and removed; {format_size(size)}"]
        )
    return 1 if bad else 0


@command("warm")
@click.argument("paths", type=click.Path(path_type=Path), metavar="PATH...", nargs=-1, required=True)
@dryrun_option
@click.pass_obj
def warm(state: State, paths: tuple[Path, ...], dryrun: bool) -> int:
    """Bring files, or all below directories of a mount, into the cache before somebody reads them.

    What is there already is not fetched again. No more is fetched than the cache may hold: the files
    that would not fit are left out and counted, and the exit code is 1.

    \b
    Examples:
      cos cache warm ~/mnt/training-set
      cos cache warm --dryrun ~/mnt/training-set
    """
    from .warming import Warmer

    return Warmer(state, dryrun).run(paths)


for each in (info, clear, verify, warm):
    cache.add_command(each)
