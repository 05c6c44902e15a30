"""The parts of a filesystem put together: the same for a mount, for a recovery without one, for tests."""

from __future__ import annotations

from cosfs.fs.attrdb import AttributeStore
from cosfs.fs.background import Background
from cosfs.fs.blocks import BlockCache
from cosfs.fs.commit import Committer
from cosfs.fs.deleter import Deleter
from cosfs.fs.fetcher import Fetcher
from cosfs.fs.filesystem import Filesystem
from cosfs.fs.journal import Journal
from cosfs.fs.prefetch import Prefetcher
from cosfs.fs.remote import Remote
from cosfs.fs.rename import Renamer
from cosfs.fs.rights import Rights
from cosfs.fs.settings import FsSettings
from cosfs.fs.smallfiles import SmallFiles
from cosfs.fs.tree import Tree
from cosfs.transfer.engine import Engine


def assemble(
    remote: Remote,
    settings: FsSettings,
    engine: Engine,
    background: Background,
    cache: BlockCache,
    journal: Journal,
    store: AttributeStore | None = None,
) -> Filesystem:
    """Build a filesystem and start what runs beside it."""
    remote.use_lanes(engine)
    tree = Tree(remote, settings, background, store)
    fetcher = Fetcher(
        remote, cache, background, block_size=settings.block_size, fetch_size=settings.fetch_size
    )
    small_files = SmallFiles(remote, settings, background, fetcher, tree.heads)
    prefetcher = Prefetcher(fetcher, engine, background, settings.prefetch)
    rights = Rights(remote, settings.extra)
    deleter = Deleter(remote, journal, rights, tree.removal_failed)
    committer = Committer(tree, remote, engine, fetcher, deleter, journal, rights, settings, background)
    renamer = Renamer(tree, remote, engine, committer, deleter, journal, rights)
    for service in (cache.run, deleter.run, committer.outbox.run, committer.note_open_files):
        background.keep_running(service)
    return Filesystem(
        settings, remote, engine, tree, fetcher, small_files, prefetcher,
        committer, deleter, renamer, journal, rights,
    )  # fmt: skip
