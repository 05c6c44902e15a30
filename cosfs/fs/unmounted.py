"""Recovery without a mount: the same code, on all buckets, until everything was tried once."""

from __future__ import annotations

import os
from pathlib import Path

from cosfs.client.client import CosClient
from cosfs.config import TransferSettings
from cosfs.fs.assembly import assemble
from cosfs.fs.background import Background, together
from cosfs.fs.blocks import BlockCache
from cosfs.fs.journal import Journal, Record
from cosfs.fs.place import lock_directory
from cosfs.fs.recovery import Recovered, Recovery, left_over
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
    """Bring what a mount left in its directory to COS; with a source (bucket, prefix) only what is of it.

    give_up moves to recovered/ what COS does not take. Raises ConfigError if a mount uses the directory.
    """
    lock = lock_directory(directory)
    try:
        journal = Journal(directory)
        try:
            bucket, prefix = source
            records = [r for r in left_over(journal) if bucket in ("", r.bucket) and r.key.startswith(prefix)]
            if not records:
                return Recovered()
            return await _recover(client, transfer, directory, journal, records, give_up)
        finally:
            journal.close()
    finally:
        os.close(lock)


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
