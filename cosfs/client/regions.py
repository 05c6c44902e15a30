"""Regions of buckets, remembered between runs: a small file, which a wrong guess corrects."""

from __future__ import annotations

import json
import logging
import os
import re
import threading
from pathlib import Path

__all__ = ["RegionFile"]

log = logging.getLogger(__name__)

# More buckets than this nobody works with from one machine; the oldest are forgotten.
_MOST = 1000
_REGION = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


class RegionFile:
    """Which bucket is where, as COS once said. Thread-safe; no path: nothing is remembered."""

    def __init__(self, path: str) -> None:
        self._path = Path(path) if path else None
        self._lock = threading.Lock()
        self._known: dict[str, str] | None = None

    def get(self, bucket: str) -> str:
        """Return the region of a bucket, empty if it is not known."""
        with self._lock:
            if self._known is None:
                self._known = self._read()
            return self._known.get(bucket, "")

    def set(self, bucket: str, region: str) -> None:
        """Remember a region; an empty one forgets the bucket."""
        if self._path is None or self.get(bucket) == region:
            return
        with self._lock:
            known = self._read()  # another process may have written meanwhile
            known.pop(bucket, None)
            if region:
                known[bucket] = region
            self._known = dict(list(known.items())[-_MOST:])
            self._write(self._known)

    def _read(self) -> dict[str, str]:
        if self._path is None:
            return {}
        try:
            kept = json.loads(self._path.read_text(encoding="ascii"))
            # It becomes part of host names: what is no region must not get there.
            return {str(b): r for b, r in kept.items() if isinstance(r, str) and _REGION.fullmatch(r)}
        except (OSError, ValueError, AttributeError):
            return {}

    def _write(self, known: dict[str, str]) -> None:
        assert self._path is not None
        temporary = self._path.with_suffix(f".{os.getpid()}.{threading.get_ident()}.tmp")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "w", encoding="ascii") as file:
                json.dump(known, file)
            temporary.replace(self._path)
        except OSError as error:
            log.debug("regions are not kept in %s: %s", self._path, error)
            temporary.unlink(missing_ok=True)
