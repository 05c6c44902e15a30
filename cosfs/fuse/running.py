"""The parts of one running mount, and what it says of itself."""

from __future__ import annotations

import logging
import os
import time
from typing import Any

import trio

from cosfs.client.client import CosClient
from cosfs.config import TransferSettings
from cosfs.errors import PermissionDeniedError
from cosfs.fs.assembly import assemble
from cosfs.fs.attrdb import DATABASE, AttributeStore
from cosfs.fs.background import Background
from cosfs.fs.blocks import BlockCache
from cosfs.fs.filesystem import Filesystem
from cosfs.fs.helpers import PROBE
from cosfs.fs.inodes import FileNode
from cosfs.fs.journal import Journal
from cosfs.fs.metrics import Metrics
from cosfs.fs.outbox import Changed
from cosfs.fs.patience import Patience
from cosfs.fs.place import BLOCKS, Place, lock_directory
from cosfs.fs.recovery import Recovery, left_over
from cosfs.fs.remote import Remote
from cosfs.fs.rights import Refusal
from cosfs.fs.settings import MIB, FsSettings
from cosfs.fs.sweeper import Sweeper
from cosfs.fuse import registry
from cosfs.fuse.invalidation import Invalidator
from cosfs.fuse.settings import MountSettings
from cosfs.transfer.attributes import Defaults
from cosfs.transfer.engine import Engine
from cosfs.transfer.looker import Looker

log = logging.getLogger("cosfs.mount")

PAST_TTL = 3600.0  # the past does not change
PENDING_SHOWN = 20


def fs_settings(mount: MountSettings, transfer: TransferSettings, place: Place) -> FsSettings:
    """The filesystem's share of the mount's settings."""
    defaults = Defaults(
        uid=os.getuid() if mount.uid is None else mount.uid,
        gid=os.getgid() if mount.gid is None else mount.gid,
        file_mode=0o666 & ~mount.umask if mount.file_mode is None else mount.file_mode,
        dir_mode=0o777 & ~mount.umask if mount.dir_mode is None else mount.dir_mode,
    )
    return FsSettings(
        bucket=mount.bucket,
        prefix=mount.prefix,
        cache_dir=place.own,
        blocks_dir=place.blocks,
        realm=place.realm,
        defaults=defaults,
        read_only=mount.read_only or mount.as_of is not None,
        metadata_ttl=mount.metadata_ttl if mount.as_of is None else max(mount.metadata_ttl, PAST_TTL),
        attributes=mount.attributes,
        write_back=mount.write_back,
        max_pending=mount.max_pending,
        retry_max=mount.retry_max,
        block_size=mount.block_size,
        readahead=mount.readahead,
        prefetch=mount.prefetch,
        cache_size=mount.cache_size,
        cache_reserve=mount.cache_reserve,
        io_timeout=mount.io_timeout,
        multipart_threshold=transfer.multipart_threshold,
        part_size=transfer.multipart_chunksize,
    )


class Mount:
    """The parts of one running mount."""

    def __init__(
        self, client: CosClient, mount: MountSettings, settings: FsSettings, looker: Looker | None = None
    ) -> None:
        self.client = client
        self.looker = looker
        self.mount = mount
        self.settings = settings
        self.started = time.time()
        self.fs: Filesystem | None = None
        self.kernel = Invalidator()
        self.stopping = False
        self.metrics = Metrics()
        self.unsent = 0  # changes left to the next mount
        self.patience = Patience(client, settings.bucket, io_timeout=settings.io_timeout)
        memory = min(settings.readahead, 64 * MIB) + 32 * MIB
        self._lock = lock_directory(settings.cache_dir)
        self.cache = BlockCache(
            settings.blocks_dir or settings.cache_dir / BLOCKS,
            size_limit=settings.cache_size,
            block_size=settings.block_size,
            memory_limit=memory,
            reserve=settings.cache_reserve,
            realm=settings.realm,
        )
        self.journal = Journal(settings.cache_dir)
        self.left_over = left_over(self.journal)
        self.store = AttributeStore(settings.cache_dir / DATABASE) if settings.attributes == "full" else None

    def compose(self, engine: Engine, background: Background) -> Filesystem:
        """Build the filesystem and start what runs beside it."""
        settings = self.settings
        self.background = background
        remote = Remote(self.client, patience=self.patience)
        if self.looker is not None:
            remote.use_looker(self.looker)
            background.keep_running(self.looker.run)
        self.fs = assemble(remote, settings, engine, background, self.cache, self.journal, self.store)
        self.fs.tree.use_kernel(self.kernel)
        self.patience.on_return += [
            self.fs.committer.outbox.hurry, self.fs.deleter.hurry, self.fs.fetcher.forget_failures,
        ]  # fmt: skip
        background.keep_running(self.patience.run)
        background.keep_running(Sweeper(self.fs.tree, self.kernel.forget_name).run)
        self.recovery = Recovery(self.fs, self.left_over)
        return self.fs

    async def look_at_rights(self) -> None:
        """Find out whether these keys may write at all, so that who tries is told at once."""
        bucket, settings = self.settings.bucket, self.settings
        if not bucket or settings.read_only:
            return
        assert self.fs is not None
        try:
            await self.fs.rights.ask_to_write(bucket, settings.prefix + PROBE)
        except PermissionDeniedError as exc:
            log.warning(
                "%s may not be written to with these keys: changes fail with EACCES where COS refuses them, "
                "--read-only makes that clear: %s", self.mount.source, exc
            )  # fmt: skip

    def close(self) -> None:
        self.cache.close()
        self.journal.close()
        if self.store is not None:
            self.store.close()
        os.close(self._lock)

    def status(self) -> dict[str, Any]:
        """What `cos status` shows; every number since the mount began."""
        fs = self.fs
        assert fs is not None
        stats = self.client.stats.snapshot()
        pending = fs.pending
        blocks = self.cache.stats
        hits = blocks.hits_memory + blocks.hits_disk
        asked = hits + blocks.misses
        return {
            "source": self.mount.source,
            "mountpoint": str(self.mount.mountpoint),
            "pid": os.getpid(),
            "started": self.started,
            "uptime": time.time() - self.started,
            "write_back": self.settings.write_back,
            "attributes": self.settings.attributes,
            "unreachable": self.patience.lost_for,
            "outages": self.patience.losses,
            "read_only": self.settings.read_only,
            "as_of": self.mount.as_of,
            "cache_dir": str(self.settings.cache_dir),
            "blocks_dir": str(self.cache.directory),
            "cache_bytes": self.cache.volume(),
            "cache_limit": self.settings.cache_size,
            "hit_rate": hits / asked if asked else None,
            "pending_files": len(pending),
            "pending_bytes": sum(unsent(node) for node in pending),
            "pending_removals": fs.deleter.pending,
            "refused": [_refusal_entry(refusal) for refusal in fs.rights.refusals()][-PENDING_SHOWN:],
            "pending": [_pending_entry(fs, node, trio.current_time()) for node in pending[:PENDING_SHOWN]],
            "recovered": self.recovery.salvage.count,
            "recovered_dir": str(self.recovery.salvage.directory),
            "requests": stats,
            "errors": fs.committer.failures + fs.deleter.failures,
            "conflicts": fs.committer.conflicts.count,
            "open_inodes": len(fs.tree.table.nodes),
            "metrics_socket": str(registry.metrics_path(self.mount.mountpoint, ours=True)),
        }

    def pending_count(self) -> int:
        assert self.fs is not None
        return len(self.fs.pending) + self.fs.deleter.pending


def _refusal_entry(refusal: Refusal) -> dict[str, Any]:
    """The last change of its kind that COS refused in a directory; age in seconds."""
    age = time.monotonic() - refusal.at
    return {"action": refusal.action.value, "url": refusal.url, "age": age, "error": str(refusal.error)}


def unsent(node: Changed) -> int:
    """The bytes that wait to be sent; none of what has other attributes only."""
    return node.unsent if isinstance(node, FileNode) else 0


def _pending_entry(fs: Filesystem, node: Changed, now: float) -> dict[str, Any]:
    """What is known of what COS does not have yet; times in seconds."""
    due = fs.committer.outbox.trouble(node)
    return {
        "url": node.url,
        "bytes": unsent(node),
        "age": now - due.since if due is not None else 0.0,
        "tries": due.tries if due is not None else 0,
        "next": max(0.0, due.at - now) if due is not None else 0.0,
        "error": str(due.cause) if due is not None and due.cause is not None else "",
    }
