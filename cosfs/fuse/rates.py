"""What a mount did between two looks at it: rates and percentiles out of counters."""

from __future__ import annotations

from typing import Any

from cosfs.client.stats import percentile

Sample = dict[str, Any]  # as gauges.sample() gives it

TRAFFIC = ("bytes_read", "bytes_written", "bytes_received", "bytes_sent", "prefetched_bytes")
SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


def between(before: Sample | None, after: Sample) -> dict[str, Any]:
    """Return what happened between two samples; before None means since the mount began."""
    seconds = max(1e-6, after["time"] - before["time"] if before else after["uptime"])
    found: dict[str, Any] = {
        name: after[name] for name in ("mountpoint", "source", "pid", "time", "uptime", "pending")
    }
    found["seconds"] = seconds
    found["operations"] = _timed(before, after, "operations", seconds)
    found["requests"] = _timed(before, after, "request_latency", seconds)
    for name in TRAFFIC:
        count = after[name] - (before[name] if before else 0)
        found[name] = count
        found[f"{name}_per_second"] = count / seconds
    for name in ("request_errors", "retries", "crashes"):
        found[name] = after[name] - (before[name] if before else 0)
    found["cache"] = _cache(before["cache"] if before else None, after["cache"])
    found["loop_delay"] = _percentiles(before["loop"] if before else None, after["loop"])
    for name in ("open_files", "open_directories", "dirty_files", "known_inodes", "fetching_bytes"):
        found[name] = after[name]
    return found


def _timed(before: Sample | None, after: Sample, what: str, seconds: float) -> dict[str, Any]:
    """Return count, rate and percentiles of each kind that happened at all, the most frequent first."""
    found = {}
    for name, now in after[what].items():
        old = before[what].get(name) if before else None
        count = now["count"] - (old["count"] if old else 0)
        if count:
            errors = {"errors": now["errors"] - (old["errors"] if old else 0)} if "errors" in now else {}
            found[name] = {
                "count": count,
                "per_second": count / seconds,
                **_percentiles(old, now),
                **errors,
            }
    return dict(sorted(found.items(), key=lambda item: -item[1]["count"]))


def _percentiles(old: Sample | None, now: Sample) -> dict[str, float | None]:
    was = old["slots"] if old else {}
    slots = [(int(slot), count - was.get(slot, 0)) for slot, count in now["slots"].items()]
    slots = sorted((slot, count) for slot, count in slots if count)
    return {name: percentile(slots, share) for name, share in SHARES.items()}


def _cache(before: Sample | None, after: Sample) -> dict[str, Any]:
    counts = {
        name: after[name] - (before[name] if before else 0) for name in ("memory_hits", "disk_hits", "misses")
    }
    asked = sum(counts.values())
    rate = (asked - counts["misses"]) / asked if asked else None
    return {**counts, "hit_rate": rate, "bytes": after["bytes"], "limit": after["limit"]}
