"""Recovery without a mount: the same code, on all buckets, until everything was tried once."""

from __future__ import annotations

import os
from pathlib import Path

from cosfs.client.client import CosClient
from cosfs.config import TransferSettings
from cosfs.fs.assembly import assemble
from cosfs.fs.background import Background, together
from cosfs.fs.blocks import BlockCache
from cosfs.fs.emptied import Place
from cosfs.fs.journal import Journal, Record
from cosfs.fs.place import lock_directory
from cosfs.fs.recovery import LATER, Recovered, Recovery, left_over
from cosfs.fs.remote import Remote
from cosfs.fs.settings import MIB, FsSettings
from cosfs.transfer.attributes import Defaults
from cosfs.transfer.engine import Engine

RENAMES_FIRST = 3600.0  # seconds


def find_journals(directory: Path) -> list[Path]:
    """The directories of mounts in a cache directory that have a journal; it may be one itself."""
    if (directory / "journal.db").exists():
        return [directory]
    return sorted(path.parent for path in directory.glob("*/journal.db"))


async def recover_directory(
    client: CosClient,
    transfer: TransferSettings,
    directory: Path,
    *,
    source: tuple[str, str] = ("", ""),
    give_up: bool = False,
) -> Recovered:
    """Bring what a mount left in its directory to COS; with a source (bucket, prefix) only what is of it,
    and what that cannot be finished without.

    give_up moves to recovered/ what COS does not take. Raises ConfigError if a mount uses the directory.
    """
    lock = lock_directory(directory)
    try:
        journal = Journal(directory)
        try:
            records = concerning(left_over(journal), source)
            if not records:
                return Recovered()
            return await _recover(client, transfer, directory, journal, records, give_up)
        finally:
            journal.close()
    finally:
        os.close(lock)


def concerning(records: list[Record], source: Place) -> list[Record]:
    """The records about what is below a place, and all that these depend on.

    That are files of other names that still need objects there, and renames into or out of it with what
    they move.
    """
    scopes, found = [source], set[int]()
    while True:
        new = [r for r in records if r.id not in found and any(_is_within(r, scope) for scope in scopes)]
        if not new:
            return [record for record in records if record.id in found]
        found |= {record.id for record in new}
        scopes += [place for record in new if record.kind in LATER for place in _places(record)]


def _is_within(record: Record, scope: Place) -> bool:
    bucket, prefix = scope
    for where, key in _places(record):
        if bucket in ("", where):
            is_around = record.kind == "rename" and prefix.startswith(key)
            if key.startswith(prefix) or is_around:
                return True
    return False


def _places(record: Record) -> list[Place]:
    """Where in COS a record has to do with objects."""
    found = [(record.bucket, record.key)]
    found += [(bucket, key) for bucket, key, _ in record.body.get("obsolete", ())]
    if record.kind in LATER:
        bucket, key = record.body["to"]
        found.append((bucket, key))
    return found


async def _recover(
    client: CosClient,
    transfer: TransferSettings,
    directory: Path,
    journal: Journal,
    records: list[Record],
    give_up: bool,
) -> Recovered:
    settings = FsSettings(
        bucket="",
        prefix="",
        cache_dir=directory,
        defaults=Defaults(os.getuid(), os.getgid()),
        multipart_threshold=transfer.multipart_threshold,
        part_size=transfer.multipart_chunksize,
    )
    cache = BlockCache(directory / "blocks", size_limit=0, block_size=MIB)
    try:
        async with Engine(client, transfer) as engine, together() as nursery:
            background = Background(nursery)
            fs = assemble(Remote(client), settings, engine, background, cache, journal)
            recovery = Recovery(fs, records, give_up=give_up)
            await recovery.begin(RENAMES_FIRST)
            done = await recovery.run(once=True)
            nursery.cancel_scope.cancel()
        for node in fs.pending_files:
            if node.content is not None:
                node.content.close(keep=True)
    finally:
        cache.close()
    return done
