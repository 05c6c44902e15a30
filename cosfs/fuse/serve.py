"""A mount at work: its parts under one nursery, from the first request to the last byte sent."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pyfuse3
import trio

from cosfs.client.client import CosClient
from cosfs.config import TransferSettings
from cosfs.errors import TransferError
from cosfs.fs.background import Background, together
from cosfs.fs.place import Place
from cosfs.fuse import registry, supervisor
from cosfs.fuse.answers import answer_forever
from cosfs.fuse.exporter import export, tcp_listeners
from cosfs.fuse.measured import measure
from cosfs.fuse.mount import fuse_options, mount_failed, tune_kernel
from cosfs.fuse.operations import Operations
from cosfs.fuse.reader import Reader
from cosfs.fuse.running import Mount, fs_settings
from cosfs.fuse.settings import MountSettings
from cosfs.fuse.signals import obey
from cosfs.transfer.engine import Engine
from cosfs.transfer.looker import Looker

log = logging.getLogger("cosfs.mount")

MAX_TASKS = 512  # FUSE requests handled at once: a hundred waiting reads must not stop `ls`
RENAMES_FIRST = 10.0  # seconds a mount waits for renames that an earlier one left half done
TELL_EVERY = 5.0
M_TRIM_THRESHOLD = -1  # malloc.h
M_MMAP_THRESHOLD = -3
M_ARENA_MAX = -8
REQUEST_MAX = 1024 * 1024 + 64 * 1024  # bytes of a write request and what Python and malloc add
KEPT_FREE = 4 * 1024 * 1024  # bytes at the end of a heap


def keep_memory_small() -> None:
    """Give large freed memory back to the system at once, but for that of a request.

    glibc raises its threshold for mmap as soon as one block was freed, and from then on large
    blocks fragment a heap per thread. Memory of a MiB from the system for each request that writes would
    cost more than the copy that fills it: a page fault and a cleared page for each 4 KiB.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(M_MMAP_THRESHOLD, REQUEST_MAX)
        libc.mallopt(M_TRIM_THRESHOLD, KEPT_FREE)
        libc.mallopt(M_ARENA_MAX, 2)
    except (OSError, AttributeError):
        log.debug("this C library has no mallopt")


async def serve(
    client: CosClient,
    transfer: TransferSettings,
    mount: MountSettings,
    place: Place,
    ready: Callable[[], None],
    looker: Looker | None = None,
) -> None:
    """Mount, tell ready() when it answers, and serve until it is unmounted and everything is sent."""
    keep_memory_small()
    options = fuse_options(mount)
    running = Mount(client, mount, fs_settings(mount, transfer, place), looker)
    try:
        async with Engine(client, transfer) as engine:
            await _run(running, engine, options, ready)
    finally:
        running.close()
    if running.unsent:
        raise TransferError(
            f"{mount.mountpoint} is unmounted, but {running.unsent} change{'s' * (running.unsent != 1)} "
            "could not be sent to COS",
            hint=f"They are kept in {place.own}; the next mount with it sends them",
        )


async def _run(running: Mount, engine: Engine, options: set[str], ready: Callable[[], None]) -> None:
    mountpoint = running.mount.mountpoint
    async with together() as background:
        fs = running.compose(engine, Background(background))
        await running.recovery.begin(RENAMES_FIRST)
        await running.look_at_rights()
        listeners = await tcp_listeners(running.mount)
        try:
            reader = Reader()
            reader.use()
            operations = measure(Operations(fs), running.metrics, reader.yield_turn)
            pyfuse3.init(operations, str(mountpoint), options)
        except Exception as exc:
            background.cancel_scope.cancel()
            raise mount_failed(mountpoint, exc) from exc
        mounted = True
        device = _device_again() if "auto_unmount" in options else None
        try:
            registry.write_state(mountpoint, running.mount.source)
            fs.device = registry.device_of(mountpoint)
            async with together() as nursery:
                await nursery.start(obey, running)  # before the first request is answered
                nursery.start_soon(answer_forever, running)
                nursery.start_soon(export, running, listeners)
                nursery.start_soon(running.metrics.watch)
                nursery.start_soon(_announce, running, ready)
                nursery.start_soon(running.recovery.run)
                await pyfuse3.main(min_tasks=8, max_tasks=MAX_TASKS)
                mounted = not running.stopping and registry.is_mounted(mountpoint)
                running.stopping = True
                await _finish(running)
                nursery.cancel_scope.cancel()
        finally:
            await trio.to_thread.run_sync(running.kernel.close, abandon_on_cancel=True)
            if device is not None:
                os.close(device)
            pyfuse3.close(unmount=mounted)
            registry.remove_state(mountpoint, os.getpid())
            background.cancel_scope.cancel()
    log.info("%s is unmounted", mountpoint)


def _device_again() -> int | None:
    """A second descriptor of /dev/fuse, above that of the socket by which fusermount3 knows that we live.

    Of a killed process the kernel closes the highest descriptors first. If that is the socket, fusermount3
    finds a mount that is not dead yet, and leaves it for ever: one time in four.
    """
    places: dict[int, str] = {}
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the descriptor of this directory is gone by then
            places[int(entry.name)] = str(entry.readlink())
    for fd, place in places.items():
        if place == "/dev/fuse":
            return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, max(places) + 1)
    return None


async def _announce(running: Mount, ready: Callable[[], None]) -> None:
    """See that the mount answers, then say so."""
    mountpoint = running.mount.mountpoint
    await trio.to_thread.run_sync(os.stat, mountpoint, abandon_on_cancel=True)
    await trio.to_thread.run_sync(tune_kernel, mountpoint, abandon_on_cancel=True)
    log.info("%s is mounted on %s", running.mount.source, mountpoint)
    ready()
    supervisor.tell_ready(running.mount.source, str(mountpoint))


async def _finish(running: Mount) -> None:
    """Send what is pending; what cannot be sent stays in the journal."""
    fs = running.fs
    assert fs is not None
    async with together() as nursery:
        nursery.start_soon(_tell_progress, running, nursery.cancel_scope)
        await fs.drain()
        await running.recovery.tried.wait()  # what an earlier mount has left is sent as well
        await fs.drain()
        nursery.cancel_scope.cancel()
    for node in fs.pending_files:
        fs.committer.promise(node)
        if node.dirty:
            if node.content is not None:
                node.content.close(keep=True)
            log.error("%s could not be sent; the next mount of this source will try again", node.url)
    running.unsent = running.pending_count() + running.recovery.left


async def _tell_progress(running: Mount, drain: trio.CancelScope) -> None:
    """Tell the supervisor what is left; end the drain when nothing has been sent for long."""
    stats = running.client.stats
    sent, since = (running.pending_count(), stats.bytes_sent), trio.current_time()
    patience = supervisor.final_drain()
    moves = True
    while True:
        supervisor.tell_stopping(running.pending_count(), moves=moves)
        await trio.sleep(TELL_EVERY)
        now = (running.pending_count(), stats.bytes_sent)
        moves = now != sent
        if moves:
            sent, since = now, trio.current_time()
        elif trio.current_time() - since > patience:
            drain.cancel()
