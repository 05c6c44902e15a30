"""One sync: what the plan decides, carried out in an order that loses nothing.

First the transfers, then, if both sides were seen whole and nothing failed, what only the destination
has is deleted, then comes what had to wait for that. Who runs a sync makes the jobs of its transfers
(cosfs/api/trees.py for programs, cli/syncing.py for people) and says how they ended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import aclosing, asynccontextmanager
from typing import Protocol

import trio

from cosfs.client.model import DeleteFailure, ObjectId, ObjectInfo
from cosfs.errors import ConfigError, COSError, NotFoundError, TransferError
from cosfs.transfer.backup import Backup
from cosfs.transfer.compare import is_md5
from cosfs.transfer.contents import FileContent, same_by_etag, same_content
from cosfs.transfer.delete import delete_many
from cosfs.transfer.engine import Engine, open_nursery
from cosfs.transfer.plan import Extra, Plan, PlanEvents, SyncOptions, Transfer
from cosfs.transfer.scan import LocalEntry
from cosfs.transfer.sides import BucketSide, Entry, LocalSide, TreeSide
from cosfs.transfer.snapshot import Snapshot
from cosfs.transfer.unlink import unlink_many

__all__ = ["Sync", "SyncEvents"]

COMPARE = "compare"  # the engine's kind of call for hashing and asking

Sender = trio.MemorySendChannel[Transfer]


class SyncEvents(PlanEvents, Protocol):
    """Who hears of what a sync leaves out or cannot do, beside the transfers themselves."""

    def could_not(self, transfer: Transfer, error: Exception) -> None:
        """A transfer was not even begun."""


class Sync:
    """One run from a source to a destination. Methods are to be called in the order they stand here."""

    def __init__(
        self,
        engine: Engine,
        source: TreeSide,
        destination: TreeSide,
        options: SyncOptions,
        events: SyncEvents,
        *,
        snapshot: Snapshot | None = None,
        backup: Backup | None = None,
    ) -> None:
        self.engine = engine
        self.source = source
        self.destination = destination
        self.options = options
        self.plan = Plan(source, destination, options, events, snapshot)
        self._events = events
        self._snapshot = snapshot
        self._backup = backup
        self._error: Exception | None = None
        self._new: list[Transfer] = []

    # --- transfers

    @asynccontextmanager
    async def transfers(self) -> AsyncIterator[AsyncIterator[Transfer]]:
        """Give what is to be transferred, while both sides are read and contents compared.

        What ends the reading early (a listing that fails) is raised when the transfers given until then
        are done with.
        """
        send, receive = trio.open_memory_channel[Transfer](256)
        async with open_nursery() as nursery:
            nursery.start_soon(self._produce, send)
            with receive:
                yield receive
                # Before the channel is closed, which would be an error to who sends.
                nursery.cancel_scope.cancel()
        if self._error is not None:
            raise self._error

    async def _produce(self, send: Sender) -> None:
        try:
            async with send, open_nursery() as backups:
                await self._decide(_Gate(self, send, backups))
        except Exception as error:
            self._error = error

    async def _decide(self, gate: _Gate) -> None:
        decided: deque[Transfer] = deque()

        def compared(transfer: Transfer, same: bool | None, error: Exception | None) -> None:
            if isinstance(error, OSError | NotFoundError):
                decided.append(transfer)  # which says what is wrong
            elif isinstance(error, ConfigError) or (error is not None and not isinstance(error, COSError)):
                raise error
            elif error is not None:
                self._events.could_not(transfer, error)
            elif same:
                assert transfer.destination is not None
                self.plan.note_same(transfer.source, transfer.destination)
                self._events.left(transfer.source, transfer.destination, "same")
            else:
                decided.append(transfer)

        decisions = self.plan.decisions()
        async with aclosing(decisions), self.engine.flow(COMPARE, compared) as flow:  # type: ignore[type-var]
            async for verdict, transfer in decisions:
                if verdict.action == "transfer":
                    await self._pass(transfer, gate)
                    continue
                assert transfer.destination is not None
                same = same_by_etag(transfer.source.item, transfer.destination.item)
                if same is None or (not same and not self._trusts_etags):
                    await flow.put(transfer, self._same_content, transfer)
                else:
                    compared(transfer, same, None)
                while decided:
                    await self._pass(decided.popleft(), gate)
            await flow.join()
        while decided:
            await self._pass(decided.popleft(), gate)
        async for transfer in self._renamed():
            await gate.send(transfer)

    def _same_content(self, transfer: Transfer) -> bool | None:
        """Compare contents, in a worker thread."""
        assert transfer.destination is not None
        first = self.source.content(transfer.source)
        second = self.destination.content(transfer.destination)
        return same_content(self.engine.client, first, second, trust_etags=self._trusts_etags)

    @property
    def _trusts_etags(self) -> bool:
        """Whether ETags that differ are enough to send: a HEAD for each would cost as much as it may save."""
        return not self.options.rules.checksum

    async def _pass(self, transfer: Transfer, gate: _Gate) -> None:
        source = transfer.source
        if self.options.track_renames and transfer.destination is None and source.facts.size:
            self._new.append(transfer)
        else:
            await gate.send(transfer)

    async def _renamed(self) -> AsyncIterator[Transfer]:
        """Give what is new, from an object at the destination where one has its content."""
        known: dict[tuple[int, str], Entry] = {}
        if self._new:
            for extra in self.plan.extras:
                if extra.entry.facts.etag and is_md5(extra.entry.facts.etag):
                    known[extra.entry.facts.size, extra.entry.facts.etag] = extra.entry
        sizes = {size for size, _ in known}
        found: list[Transfer] = []

        def hashed(transfer: Transfer, digest: str | None, error: Exception | None) -> None:
            copy_from = known.get((transfer.source.facts.size, digest or ""))
            found.append(transfer._replace(copy_from=copy_from))

        def digest_of(transfer: Transfer) -> str:
            content = self.source.content(transfer.source)
            return content.md5 if isinstance(content, FileContent) else content.info.etag

        asked = (transfer for transfer in self._new if transfer.source.facts.size in sizes)
        await self.engine.run_many(digest_of, asked, hashed, kind=COMPARE)
        for transfer in self._new:
            if transfer.source.facts.size not in sizes:
                yield transfer
        for transfer in found:
            yield transfer

    def transferred(self, transfer: Transfer, source: Entry, destination: Entry) -> None:
        """Note that a transfer succeeded, and what both of its ends look like now.

        The snapshot takes the time of the end that was written for unknown: no listing has shown it yet.
        """
        if self._snapshot is None or source.is_directory:
            return
        listed = (True, isinstance(destination.item, LocalEntry))
        self._snapshot.record(source, destination, listed=listed)

    # --- deletions

    def refusal(self, *, failed: int, total: int = 0) -> TransferError | None:
        """Say why nothing may be deleted, if there is something to delete; failed counts what went wrong.

        total is how much the destination holds, if it was not all looked at.
        """
        plan, options = self.plan, self.options
        count = plan.extras.count
        if not count:
            return None
        nothing = f"nothing was deleted at {self.destination}"
        if not plan.complete:
            return TransferError(f"{nothing}, as not everything was seen")
        if failed:
            return TransferError(f"{nothing}, as not everything was transferred ({failed} failed)")
        if not plan.sources and not options.allow_empty_source:
            return TransferError(
                f"{nothing}: there is nothing at {self.source}, and all {count} there would go",
                hint="Add --allow-empty-source if that is meant",
            )
        total = max(total, plan.destinations)
        if options.max_delete is not None and not options.max_delete.allows(count, total):
            return TransferError(
                f"{nothing}: {count} of {total} would go, --max-delete {options.max_delete} allows fewer"
            )
        return None

    async def delete(self, on_result: Callable[[Entry, Exception | None], None]) -> None:
        """Delete what only the destination has; on_result hears of each."""
        if isinstance(self.destination, BucketSide):
            await self._delete_objects(self.destination.bucket, on_result)
        else:
            await self._delete_files(self.destination, on_result)

    async def _delete_objects(
        self, bucket: str, on_result: Callable[[Entry, Exception | None], None]
    ) -> None:
        waiting: dict[str, Entry] = {}

        def told(found: ObjectId, failure: DeleteFailure | None) -> None:
            entry = waiting.pop(found.key)
            self._deleted(entry, failure is None)
            on_result(entry, failure.error() if failure else None)

        async def keys() -> AsyncIterator[ObjectId]:
            async for extra in self._backed_up(on_result):
                assert isinstance(extra.entry.item, ObjectInfo)
                waiting[extra.entry.item.key] = extra.entry
                yield ObjectId(extra.entry.item.key)

        await delete_many(self.engine, bucket, keys(), on_result=told)

    async def _delete_files(
        self, side: LocalSide, on_result: Callable[[Entry, Exception | None], None]
    ) -> None:
        root = len(side.name(""))
        waiting: dict[str, Entry] = {}

        def told(name: str, error: OSError | None) -> None:
            entry = waiting.pop(name)
            self._deleted(entry, error is None)
            on_result(entry, error)

        def name_of(extra: Extra) -> tuple[str, str]:
            entry = extra.entry
            assert isinstance(entry.item, LocalEntry)
            name = entry.item.path[root:].rstrip("/") + ("/" if entry.is_directory else "")
            waiting[name] = entry
            return name, extra.keep

        async def batches() -> AsyncIterator[list[Extra]]:
            batch: list[Extra] = []
            async for extra in self._backed_up(on_result):
                batch.append(extra)
                if len(batch) >= 500:
                    yield batch
                    batch = []
            yield batch

        async for batch in batches():
            await unlink_many(side.path, map(name_of, batch), told)

    async def _backed_up(self, on_result: Callable[[Entry, Exception | None], None]) -> AsyncIterator[Extra]:
        """Give what is to be deleted, each when it was kept, if that was asked for."""
        for batch in _batches(self.plan.extras, self.engine.limit if self._backup else 1):
            kept = await self._keep(batch, on_result)
            for extra in kept:
                yield extra

    async def _keep(
        self, batch: list[Extra], on_result: Callable[[Entry, Exception | None], None]
    ) -> list[Extra]:
        if self._backup is None:
            return batch
        backup, kept = self._backup, []

        async def keep(extra: Extra) -> None:
            try:
                await backup.keep(extra.entry)
            except (COSError, OSError) as error:
                on_result(extra.entry, error)
            else:
                kept.append(extra)

        async with open_nursery() as nursery:
            for extra in batch:
                nursery.start_soon(keep, extra)
        # As they came: what is in a directory goes before it.
        return [extra for extra in batch if extra in kept]

    def _deleted(self, entry: Entry, done: bool) -> None:
        if done and self._snapshot is not None:
            self._snapshot.forget(entry.relative)

    # --- the end

    def postponed(self) -> Iterator[Transfer]:
        """Give the downloads that had to wait for deletions."""
        yield from self.plan.postponed

    def close(self) -> None:
        """Forget what was to be deleted, and write the snapshot."""
        self.plan.extras.close()
        if self._backup is not None:
            self._backup.close()
        if self._snapshot is not None:
            self._snapshot.close()


class _Gate:
    """Lets transfers through, each when what it replaces has been kept."""

    def __init__(self, sync: Sync, send: Sender, nursery: trio.Nursery) -> None:
        self._sync = sync
        self._send = send
        self._nursery = nursery
        self._room = trio.Semaphore(sync.engine.limit)

    async def send(self, transfer: Transfer) -> None:
        """Let one through, perhaps later."""
        if self._sync._backup is None or transfer.destination is None:
            await self._send.send(transfer)
            return
        await self._room.acquire()
        self._nursery.start_soon(self._keep_first, self._sync._backup, transfer)

    async def _keep_first(self, backup: Backup, transfer: Transfer) -> None:
        try:
            assert transfer.destination is not None
            await backup.keep(transfer.destination)
        except (COSError, OSError) as error:
            self._sync._events.could_not(transfer, error)
        else:
            await self._send.send(transfer)
        finally:
            self._room.release()


def _batches(extras: Iterable[Extra], size: int) -> Iterator[list[Extra]]:
    batch: list[Extra] = []
    for extra in extras:
        batch.append(extra)
        if len(batch) >= size:
            yield batch
            batch = []
    if batch:
        yield batch
