"""Removals: written to the journal, answered at once, sent in batches.

`rm -r` unlinks names one after the other and the kernel holds the directory meanwhile, so an
unlink must not wait for COS. A key has at most one pending removal; writing the key again takes
the removal back, or waits for it when it is on its way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from cosfs.client.model import DeleteFailure, ObjectId
from cosfs.errors import COSError
from cosfs.fs.journal import Journal
from cosfs.fs.remote import Remote

log = logging.getLogger(__name__)

DELAY = 0.05  # how long a removal waits for company
BATCH = 1000  # keys in one request, COS's limit
RETRY_DELAYS = (1.0, 5.0, 15.0, 30.0)


@dataclass(eq=False)
class _Removal:
    bucket: str
    key: str
    record_id: int
    tries: int = 0
    done: trio.Event = field(default_factory=trio.Event)


class Deleter:
    """Owns the pending removals. on_failure is told what COS refused to remove, and why."""

    def __init__(
        self, remote: Remote, journal: Journal, on_failure: Callable[[str, str, str], None] | None = None
    ) -> None:
        self._remote = remote
        self._journal = journal
        self._on_failure = on_failure
        self._waiting: dict[tuple[str, str], _Removal] = {}
        self._sending: dict[tuple[str, str], _Removal] = {}
        self._wake = trio.Event()
        self.failures = 0

    @property
    def pending(self) -> int:
        return len(self._waiting) + len(self._sending)

    def schedule(self, bucket: str, key: str, etag: str = "") -> None:
        """Remove an object soon. etag is what it had, for a later mount to compare."""
        if (bucket, key) in self._waiting:
            return
        record_id = self._journal.add("delete", bucket, key, {"etag": etag})
        self._waiting[bucket, key] = _Removal(bucket, key, record_id)
        self._wake.set()

    async def claim(self, bucket: str, key: str) -> bool:
        """Make sure no removal of key comes after this; tells whether one was taken back."""
        removal = self._waiting.pop((bucket, key), None)
        if removal is not None:
            self._journal.remove(removal.record_id)
            removal.done.set()
            return True
        sent = self._sending.get((bucket, key))
        if sent is not None:
            await sent.done.wait()
        return False

    async def drain(self, bucket: str | None = None, prefix: str = "") -> None:
        """Wait until everything scheduled so far (below a prefix) is removed or has failed."""
        while True:
            mine = [
                r
                for r in (*self._waiting.values(), *self._sending.values())
                if (bucket is None or r.bucket == bucket) and r.key.startswith(prefix)
            ]
            if not mine:
                return
            await mine[0].done.wait()

    async def run(self) -> None:
        """Send batches until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                await self._wake.wait()
                self._wake = trio.Event()
                await trio.sleep(DELAY)
                for bucket, removals in self._take().items():
                    for start in range(0, len(removals), BATCH):
                        nursery.start_soon(self._send, bucket, removals[start : start + BATCH])

    def _take(self) -> dict[str, list[_Removal]]:
        by_bucket: dict[str, list[_Removal]] = {}
        for place, removal in list(self._waiting.items()):
            if place in self._sending:
                continue  # removed, made and removed again: the first removal is still out
            del self._waiting[place]
            self._sending[place] = removal
            by_bucket.setdefault(removal.bucket, []).append(removal)
        return by_bucket

    async def _send(self, bucket: str, removals: list[_Removal]) -> None:
        try:
            failed = await self._delete(bucket, removals)
        except COSError as exc:
            if exc.retryable:
                await self._again(removals, exc)
                return
            failed = {r.key: str(exc) for r in removals}
        self._journal.remove(*(r.record_id for r in removals))
        for removal in removals:
            self._finish(removal)
            if removal.key in failed:
                self.failures += 1
                log.error("cos://%s/%s could not be removed: %s", bucket, removal.key, failed[removal.key])
                if self._on_failure is not None:
                    self._on_failure(bucket, removal.key, failed[removal.key])
        if self._waiting:
            self._wake.set()

    async def _delete(self, bucket: str, removals: list[_Removal]) -> dict[str, str]:
        client = self._remote.client
        if len(removals) == 1:
            await self._remote.change(client.delete_object, bucket, removals[0].key)
            return {}
        failures: list[DeleteFailure] = await self._remote.change(
            client.delete_objects, bucket, [ObjectId(r.key) for r in removals]
        )
        return {f.key: f"{f.code}: {f.message}" for f in failures}

    async def _again(self, removals: list[_Removal], exc: COSError) -> None:
        delay = RETRY_DELAYS[min(removals[0].tries, len(RETRY_DELAYS) - 1)]
        log.warning("%d removals wait %.0f s for COS: %s", len(removals), delay, exc)
        await trio.sleep(delay)
        for removal in removals:
            removal.tries += 1
            self._sending.pop((removal.bucket, removal.key), None)
            self._waiting[removal.bucket, removal.key] = removal
        self._wake.set()

    def _finish(self, removal: _Removal) -> None:
        self._sending.pop((removal.bucket, removal.key), None)
        removal.done.set()
