"""A mount at work: its parts under one nursery, from the first request to the last byte sent."""

from __future__ import annotations

import ctypes
import json
import logging
import math
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyfuse3
import trio

from cosfs.client.client import CosClient
from cosfs.config import TransferSettings
from cosfs.errors import COSError, TransferError
from cosfs.fs.attrdb import AttributeStore
from cosfs.fs.background import Background, together
from cosfs.fs.blocks import BlockCache
from cosfs.fs.commit import Committer
from cosfs.fs.deleter import Deleter
from cosfs.fs.fetcher import Fetcher
from cosfs.fs.filesystem import Filesystem
from cosfs.fs.journal import Journal
from cosfs.fs.recovery import left_over, recover
from cosfs.fs.remote import Remote
from cosfs.fs.rename import Renamer
from cosfs.fs.settings import MIB, FsSettings
from cosfs.fs.sweeper import Sweeper
from cosfs.fs.tree import Tree
from cosfs.fuse import control
from cosfs.fuse.mount import fuse_options, mount_failed, tell_supervisor, tune_kernel
from cosfs.fuse.operations import Operations
from cosfs.fuse.settings import MountSettings
from cosfs.transfer.attributes import Defaults
from cosfs.transfer.engine import Engine

log = logging.getLogger("cosfs.mount")

MAX_TASKS = 512  # FUSE requests handled at once: a hundred waiting reads must not stop `ls`
FINAL_DRAIN = 300.0  # seconds the process keeps sending after it was unmounted
M_MMAP_THRESHOLD = -3  # malloc.h
M_ARENA_MAX = -8
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def fs_settings(mount: MountSettings, transfer: TransferSettings, cache_dir: Path) -> FsSettings:
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
        cache_dir=cache_dir,
        defaults=defaults,
        read_only=mount.read_only,
        metadata_ttl=mount.metadata_ttl,
        attributes=mount.attributes,
        write_back=mount.write_back,
        block_size=mount.block_size,
        readahead=mount.readahead,
        cache_size=mount.cache_size,
        multipart_threshold=transfer.multipart_threshold,
        part_size=transfer.multipart_chunksize,
    )


class Mount:
    """The parts of one running mount."""

    def __init__(self, client: CosClient, mount: MountSettings, settings: FsSettings) -> None:
        self.client = client
        self.mount = mount
        self.settings = settings
        self.started = time.time()
        self.fs: Filesystem | None = None
        self.stopping = False
        self.unsent = 0  # changes left to the next mount
        memory = min(settings.readahead, 64 * MIB) + 32 * MIB
        self.cache = BlockCache(
            settings.cache_dir / "blocks",
            size_limit=settings.cache_size,
            block_size=settings.block_size,
            memory_limit=memory,
        )
        self.journal = Journal(settings.cache_dir)
        self.left_over = left_over(self.journal)
        self.store = (
            AttributeStore(settings.cache_dir / "attributes.db") if settings.attributes == "full" else None
        )

    def compose(self, engine: Engine, background: Background) -> Filesystem:
        """Build the filesystem and start what runs beside it."""
        settings = self.settings
        self.background = background
        remote = Remote(self.client)
        tree = Tree(remote, settings, background, self.store)
        fetcher = Fetcher(
            remote, self.cache, background, block_size=settings.block_size, fetch_size=settings.fetch_size
        )
        deleter = Deleter(remote, self.journal, tree.removal_failed)
        committer = Committer(tree, remote, engine, fetcher, deleter, self.journal, settings, background)
        renamer = Renamer(tree, remote, engine, committer, deleter, self.journal)
        sweeper = Sweeper(tree, evict)
        for service in (self.cache.run, deleter.run, committer.outbox.run, sweeper.run):
            background.keep_running(service)
        self.fs = Filesystem(
            settings, remote, engine, tree, fetcher, committer, deleter, renamer, self.journal
        )
        return self.fs

    def close(self) -> None:
        self.cache.close()
        self.journal.close()
        if self.store is not None:
            self.store.close()

    def status(self) -> dict[str, Any]:
        """What `cos status` shows; every number since the mount began."""
        fs = self.fs
        assert fs is not None
        stats = self.client.stats.snapshot()
        files = fs.pending_files
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
            "read_only": self.settings.read_only,
            "cache_dir": str(self.settings.cache_dir),
            "cache_bytes": self.cache.volume(),
            "cache_limit": self.settings.cache_size,
            "hit_rate": hits / asked if asked else None,
            "pending_files": len(files),
            "pending_bytes": sum(node.size for node in files),
            "pending_removals": fs.deleter.pending,
            "pending": [
                {"url": node.url, "bytes": node.size, "error": fs.committer.outbox.trouble(node)}
                for node in files[:20]
            ],
            "requests": stats,
            "errors": fs.committer.failures + fs.deleter.failures,
            "conflicts": fs.committer.conflicts.count,
            "open_inodes": len(fs.tree.table.nodes),
        }

    def pending_count(self) -> int:
        assert self.fs is not None
        return len(self.fs.pending_files) + self.fs.deleter.pending


def evict(parent: int, name: bytes) -> None:
    """Ask the kernel to forget a name. From a thread of pyfuse3's: a handler would wait for itself."""
    pyfuse3.invalidate_entry_async(parent, name, ignore_enoent=True)


def keep_memory_small() -> None:
    """Give freed blocks back to the system at once.

    glibc raises its threshold for mmap as soon as one block was freed, and from then on blocks
    of 1 MiB fragment a heap per thread: twice the memory after a few GiB.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(M_MMAP_THRESHOLD, 256 * 1024)
        libc.mallopt(M_ARENA_MAX, 2)
    except (OSError, AttributeError):
        log.debug("this C library has no mallopt")


async def serve(
    client: CosClient,
    transfer: TransferSettings,
    mount: MountSettings,
    cache_dir: Path,
    ready: Callable[[], None],
) -> None:
    """Mount, tell ready() when it answers, and serve until it is unmounted and everything is sent."""
    keep_memory_small()
    options = fuse_options(mount)
    running = Mount(client, mount, fs_settings(mount, transfer, cache_dir))
    try:
        async with Engine(client, transfer) as engine:
            await _run(running, engine, options, ready)
    finally:
        running.close()
    if running.unsent:
        raise TransferError(
            f"{mount.mountpoint} is unmounted, but {running.unsent} changes could not be sent to COS",
            hint=f"They are kept in {cache_dir}; the next mount with it sends them",
        )


async def _run(running: Mount, engine: Engine, options: set[str], ready: Callable[[], None]) -> None:
    mountpoint = running.mount.mountpoint
    async with together() as background:
        fs = running.compose(engine, Background(background))
        try:
            pyfuse3.init(Operations(fs), str(mountpoint), options)
        except Exception as exc:
            background.cancel_scope.cancel()
            raise mount_failed(mountpoint, exc) from exc
        mounted = True
        try:
            control.write_state(mountpoint, running.mount.source)
            async with together() as nursery:
                nursery.start_soon(_control, running)
                nursery.start_soon(_stop_on_signal, running)
                nursery.start_soon(_announce, running, ready)
                nursery.start_soon(recover, fs, running.left_over)
                await pyfuse3.main(min_tasks=8, max_tasks=MAX_TASKS)
                mounted = not running.stopping and control.is_mounted(mountpoint)
                running.stopping = True
                await _finish(running)
                nursery.cancel_scope.cancel()
        finally:
            pyfuse3.close(unmount=mounted)
            control.remove_state(mountpoint, os.getpid())
            background.cancel_scope.cancel()
    log.info("%s is unmounted", mountpoint)


async def _announce(running: Mount, ready: Callable[[], None]) -> None:
    """See that the mount answers, then say so."""
    mountpoint = running.mount.mountpoint
    await trio.to_thread.run_sync(os.stat, mountpoint, abandon_on_cancel=True)
    await trio.to_thread.run_sync(tune_kernel, mountpoint, abandon_on_cancel=True)
    log.info("%s is mounted on %s", running.mount.source, mountpoint)
    ready()
    tell_supervisor("READY=1")


async def _stop_on_signal(running: Mount) -> None:
    """Take the filesystem off its mountpoint, send everything, end. A second signal ends at once."""
    with trio.open_signal_receiver(*STOP_SIGNALS) as signals:
        async for number in signals:
            name = signal.Signals(number).name
            if running.stopping:
                log.error("%s again: ending now; what is pending stays in the journal", name)
                os._exit(128 + number)
            log.info("%s: unmounting %s", name, running.mount.mountpoint)
            running.stopping = True
            # Detached, the mountpoint is empty for newcomers while open files can still be closed.
            await trio.to_thread.run_sync(_detach, running.mount.mountpoint, abandon_on_cancel=True)
            pyfuse3.terminate()


def _detach(mountpoint: Path) -> None:
    try:
        control.detach(mountpoint, lazy=True)
    except COSError as exc:
        log.warning("%s", exc)


async def _finish(running: Mount) -> None:
    """Send what is pending; what cannot be sent stays in the journal."""
    fs = running.fs
    assert fs is not None
    with trio.move_on_after(FINAL_DRAIN):
        await fs.drain()
    for node in fs.pending_files:
        if node.dirty:
            fs.committer.record(node)
            if node.content is not None:
                node.content.close(keep=True)
            log.error("%s could not be sent; the next mount of this source will try again", node.url)
    running.unsent = running.pending_count()


# Control socket


async def _control(running: Mount) -> None:
    path = control.socket_path(running.mount.mountpoint)
    path.unlink(missing_ok=True)
    sock = trio.socket.socket(trio.socket.AF_UNIX)
    with control.short_name(path) as name:
        await sock.bind(name)
    path.chmod(0o600)
    sock.listen(16)
    listener = trio.SocketListener(sock)

    async def handle(stream: trio.SocketStream) -> None:
        try:
            await _answer(running, stream)
        except (trio.BrokenResourceError, ValueError, KeyError) as exc:
            log.debug("control socket: %s", exc)

    await trio.serve_listeners(handle, [listener])


async def _answer(running: Mount, stream: trio.SocketStream) -> None:
    line = b""
    while not line.endswith(b"\n"):
        more = await stream.receive_some(4096)
        if not more:
            return
        line += more
    request = json.loads(line)
    if request["op"] == "status":
        await _reply(stream, running.status())
    elif request["op"] == "drain":
        await _drain(running, stream, float(request.get("timeout") or 0))


async def _reply(stream: trio.SocketStream, answer: dict[str, Any]) -> None:
    await stream.send_all(json.dumps(answer).encode() + b"\n")


async def _drain(running: Mount, stream: trio.SocketStream, timeout: float) -> None:
    """Send everything, telling how much is left four times a second."""
    fs = running.fs
    assert fs is not None
    done = trio.Event()

    async def work() -> None:
        try:
            await fs.drain()
        finally:
            done.set()

    # Not in a nursery of our own: what was begun goes on if the asker gives up.
    running.background.start_soon(work)
    with trio.move_on_after(timeout or math.inf):
        while not done.is_set():
            with trio.move_on_after(0.25):
                await done.wait()
                break
            await _reply(stream, _left(running))
    await _reply(stream, {**_left(running), "done": True})


def _left(running: Mount) -> dict[str, Any]:
    assert running.fs is not None
    files = running.fs.pending_files
    return {
        "pending": running.pending_count(),
        "files": len(files),
        "bytes": sum(node.size for node in files),
        "names": [node.url for node in files[:10]],
    }
