"""Checks of `cos doctor` that try things out: rights in a bucket, speed of the line and of the disk."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from .doctor import Finding, failure

if TYPE_CHECKING:
    from cosfs.client.client import CosClient

    from .state import State

_PROBE = 8 << 20  # bytes; long enough to leave the slow start of a connection behind


def identity(state: State) -> Finding:
    """Say where the credentials come from and whose they are."""
    from cosfs.client.credentials import find_sts
    from cosfs.errors import COSError

    from .output import utc_time

    provider = state.client.credentials
    assert provider is not None
    current = provider.get()
    source = str(getattr(provider, "source", "")) or "a program"
    until = f", until {utc_time(current.expires)}" if current.expires else ""
    try:
        who = find_sts(state.settings).caller_identity(current).arn
    except COSError as error:
        text = f"from {source}{until}; whose they are is not known: {error.message}"
        return Finding("warn", "identity", text, "Only cos whoami and cos token need STS")
    return Finding("ok", "identity", f"{who}, from {source}{until}")


def permissions(client: CosClient, bucket: str, prefix: str) -> Iterator[Finding]:
    """Write, read, list and remove one small object; each says whether it may be done."""
    from cosfs.errors import COSError

    key = f"{prefix}.cos-doctor-{secrets.token_hex(8)}"
    steps: tuple[tuple[str, Callable[[], object]], ...] = (
        ("put", lambda: client.put_object(bucket, key, b"cos doctor")),
        ("head", lambda: client.head_object(bucket, key)),
        ("get", lambda: _get(client, bucket, key)),
        ("list", lambda: client.list_objects(bucket, prefix=key, max_keys=1)),
        ("delete", lambda: client.delete_object(bucket, key)),
    )
    written = False
    for name, step in steps:
        if name in ("head", "get", "delete") and not written:
            yield Finding("warn", "permissions", f"{name} was not tried, as nothing could be written")
            continue
        try:
            step()
        except COSError as error:
            found = failure("permissions", error)
            left = f"cos://{bucket}/{key} is left there. " if name == "delete" else ""
            yield Finding("fail", "permissions", f"{name}: {found.text}", f"{left}{found.advice}")
            continue
        written |= name == "put"
        yield Finding("ok", "permissions", f"{name} is allowed in cos://{bucket}/{prefix}")


def _get(client: CosClient, bucket: str, key: str) -> int:
    with client.get_object(bucket, key) as stream:
        return sum(len(chunk) for chunk in stream.chunks())


def speed(client: CosClient, bucket: str, prefix: str) -> Iterator[Finding]:
    """Send and fetch some bytes on one connection."""
    from cosfs.errors import COSError
    from cosfs.units import format_size

    key = f"{prefix}.cos-doctor-{secrets.token_hex(8)}"
    data = os.urandom(1 << 20) * (_PROBE >> 20)
    try:
        try:
            up = _seconds(lambda: client.put_object(bucket, key, data))
            down = _seconds(lambda: _get(client, bucket, key))
        finally:
            client.delete_object(bucket, key)
    except COSError as error:
        yield failure("speed", error)
        return
    for way, seconds in (("up", up), ("down", down)):
        rate = f"{format_size(_PROBE / seconds)}/s"
        yield Finding("ok", "speed", f"{way} {rate} on one connection; transfers use many at once")


def disk(directory: Path) -> Finding:
    """Write some bytes where the cache of mounts is, and wait for the disk."""
    from cosfs.units import format_size

    place = directory
    while not place.exists() and place != place.parent:
        place = place.parent
    path = place / f".cos-doctor-{secrets.token_hex(8)}"

    def write() -> None:
        with path.open("xb") as file:
            file.write(os.urandom(1 << 20) * (_PROBE >> 20))
            file.flush()
            os.fsync(file.fileno())

    try:
        seconds = _seconds(write)
    except OSError as error:
        return Finding("fail", "cache", f"{place} cannot be written: {error.strerror}", "Use --cache-dir")
    finally:
        path.unlink(missing_ok=True)
    rate = _PROBE / seconds
    text = f"{place} takes {format_size(rate)}/s, fsync included"
    if rate < 20 << 20:
        return Finding("warn", "cache", text, "Slow for a cache: name a faster disk with --cache-dir")
    return Finding("ok", "cache", text)


def allow_other() -> Finding:
    """Say whether users may mount with --allow-other."""
    path = Path("/etc/fuse.conf")
    if os.geteuid() == 0:
        return Finding("ok", "fuse", "root may mount with --allow-other")
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    if any(line.strip() == "user_allow_other" for line in lines):
        return Finding("ok", "fuse", f"{path} allows --allow-other")
    advice = f"If other users shall see your mounts, add the line user_allow_other to {path}"
    return Finding("warn", "fuse", f"{path} does not allow --allow-other", advice)


def _seconds(work: Callable[[], object]) -> float:
    started = time.monotonic()
    work()
    return max(time.monotonic() - started, 1e-6)
