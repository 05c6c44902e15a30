"""All that can be measured of a running mount, as Prometheus reads it and as `cos stats` asks for it."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from typing import Any

import trio

from cosfs.fs.metrics import Family, Metrics
from cosfs.fuse.running import Mount, unsent


def sample(running: Mount) -> dict[str, Any]:
    """Return every number as it is now; counters are since the mount began."""
    fs, metrics = running.fs, running.metrics
    assert fs is not None
    blocks = running.cache.stats
    client = running.client.stats.snapshot()
    return {
        "source": running.mount.source,
        "mountpoint": str(running.mount.mountpoint),
        "pid": os.getpid(),
        "time": time.time(),
        "uptime": time.time() - running.started,
        "operations": {
            name: {**operation.latency.snapshot(), "errors": sum(operation.errors.values())}
            for name, operation in metrics.operations.items()
            if operation.latency.count
        },
        "bytes_read": metrics.bytes_read,
        "bytes_written": metrics.bytes_written,
        "crashes": metrics.crashes,
        "requests": client["requests"],
        "request_latency": running.client.stats.latencies(),
        "request_errors": client["errors"],
        "retries": client["retries"],
        "bytes_sent": client["bytes_sent"],
        "bytes_received": client["bytes_received"],
        "cache": {
            "memory_hits": blocks.hits_memory,
            "disk_hits": blocks.hits_disk,
            "misses": blocks.misses,
            "bytes": running.cache.volume(),
            "limit": running.settings.cache_size,
        },
        "fetching_bytes": fs.fetcher.in_flight,
        "prefetched_files": fs.prefetcher.started,
        "prefetched_bytes": fs.prefetcher.fetched,
        "pending": pending(running),
        "loop": metrics.loop.snapshot(),
        **handles(running),
    }


def pending(running: Mount) -> dict[str, Any]:
    """Return what COS does not have yet; files that are still being written are not pending but open."""
    fs = running.fs
    assert fs is not None
    now = trio.current_time()
    waiting = fs.committer.outbox.waiting
    oldest = min([since for _, since in waiting] + [fs.deleter.oldest or now])
    files = [node for node, _ in waiting]
    return {
        "files": len(files),
        "bytes": sum(unsent(node) for node in files),
        "removals": fs.deleter.pending,
        "oldest_seconds": max(0.0, now - oldest),
    }


def handles(running: Mount) -> dict[str, int]:
    """Return what the kernel holds."""
    fs = running.fs
    assert fs is not None
    files, directories, dirty = fs.open_handles
    return {
        "open_files": files,
        "open_directories": directories,
        "dirty_files": dirty,
        "known_inodes": len(fs.tree.table.nodes),
    }


def families(running: Mount) -> Iterator[Family]:
    """Yield every metric for Prometheus."""
    now = sample(running)
    info = Family("cosfs_mount_info", "gauge", "The mount that this is about.")
    info.add(1, source=now["source"], mountpoint=now["mountpoint"])
    yield info
    yield _one("cosfs_start_time_seconds", "gauge", "When the mount began, in Unix seconds.", running.started)
    yield from _operations(running.metrics)
    yield from _requests(running)
    yield from _cache(now)
    yield from _pending(running, now)
    opened = Family("cosfs_open_handles", "gauge", "Open files and directories.")
    opened.add(now["open_files"], kind="file")
    opened.add(now["open_directories"], kind="directory")
    yield opened
    yield _one("cosfs_known_inodes", "gauge", "Names that the kernel holds.", now["known_inodes"])
    reach = running.patience
    yield _one("cosfs_unreachable_seconds", "gauge", "How long COS has been out of reach.", reach.lost_for)
    yield _one("cosfs_outages_total", "counter", "How often COS came to be out of reach.", reach.losses)
    expiry = running.client.credentials_expire
    if expiry:
        text = "When the temporary credentials in use end, in Unix seconds."
        yield _one("cosfs_credentials_expire_seconds", "gauge", text, expiry)
    delay = Family("cosfs_loop_delay_seconds", "histogram", "How much later than due tasks ran.")
    delay.add(now["loop"])
    yield delay


def _one(name: str, kind: str, text: str, value: float) -> Family:
    family = Family(name, kind, text)
    family.add(value)
    return family


def _operations(metrics: Metrics) -> Iterator[Family]:
    latency = Family("cosfs_operation_seconds", "histogram", "Requests of the kernel.")
    errors = Family("cosfs_operation_errors_total", "counter", "Those that failed, by errno.")
    for name, operation in metrics.operations.items():
        if operation.latency.count:
            latency.add(operation.latency.snapshot(), operation=name)
        for code, count in operation.errors.items():
            errors.add(count, operation=name, errno=errno.errorcode.get(code, str(code)))
    yield latency
    yield errors
    yield _one("cosfs_read_bytes_total", "counter", "Bytes given to readers.", metrics.bytes_read)
    yield _one("cosfs_written_bytes_total", "counter", "Bytes taken from writers.", metrics.bytes_written)
    text = "Requests of the kernel that failed by a mistake of this program; the log has more."
    yield _one("cosfs_crashes_total", "counter", text, metrics.crashes)


def _requests(running: Mount) -> Iterator[Family]:
    stats = running.client.stats
    requests = Family("cosfs_requests_total", "counter", "Tries of requests to COS, by HTTP status.")
    for operation, status, count in stats.by_status():
        requests.add(count, operation=operation, status=str(status) if status else "none")
    yield requests
    latency = Family("cosfs_request_seconds", "histogram", "Time until COS began to answer.")
    for operation, snapshot in stats.latencies().items():
        latency.add(snapshot, operation=operation)
    yield latency
    counters = stats.snapshot()
    yield _one("cosfs_retries_total", "counter", "Requests tried again.", counters["retries"])
    yield _one("cosfs_sent_bytes_total", "counter", "Bytes of bodies sent to COS.", counters["bytes_sent"])
    text = "Bytes of bodies received from COS."
    yield _one("cosfs_received_bytes_total", "counter", text, counters["bytes_received"])


def _cache(now: dict[str, Any]) -> Iterator[Family]:
    cache = now["cache"]
    lookups = Family("cosfs_cache_lookups_total", "counter", "Blocks looked for, by where they were found.")
    for result in ("memory_hits", "disk_hits", "misses"):
        lookups.add(cache[result], result=result)
    yield lookups
    yield _one("cosfs_cache_bytes", "gauge", "Disk space of the block cache.", cache["bytes"])
    yield _one("cosfs_cache_limit_bytes", "gauge", "The most it may take.", cache["limit"])
    text = "Bytes asked for by readers or ahead of them, and not here yet."
    yield _one("cosfs_fetching_bytes", "gauge", text, now["fetching_bytes"])
    text = "Files read at random of which the rest was fetched."
    yield _one("cosfs_prefetched_files_total", "counter", text, now["prefetched_files"])
    text = "Bytes of them that nobody had asked for."
    yield _one("cosfs_prefetched_bytes_total", "counter", text, now["prefetched_bytes"])


def _pending(running: Mount, now: dict[str, Any]) -> Iterator[Family]:
    fs = running.fs
    assert fs is not None
    waiting = now["pending"]
    yield _one("cosfs_dirty_files", "gauge", "Open files with bytes that COS lacks.", now["dirty_files"])
    yield _one("cosfs_pending_files", "gauge", "Closed files and attributes to be sent.", waiting["files"])
    yield _one("cosfs_pending_bytes", "gauge", "Their bytes.", waiting["bytes"])
    yield _one("cosfs_pending_removals", "gauge", "Objects waiting to be removed.", waiting["removals"])
    text = "How long the oldest of these has been waiting."
    yield _one("cosfs_pending_oldest_seconds", "gauge", text, waiting["oldest_seconds"])
    failures = fs.committer.failures + fs.deleter.failures
    yield _one("cosfs_send_failures_total", "counter", "Changes that COS refused or did not take.", failures)
    text = "Files that somebody else had changed meanwhile; both versions were kept."
    yield _one("cosfs_conflicts_total", "counter", text, fs.committer.conflicts.count)
