"""One sync for a program: jobs out of the plan, results into a list and a callback."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

from cosfs.client.model import Headers, ObjectInfo
from cosfs.client.url import CosUrl
from cosfs.errors import ConfigError, COSError, TransferError, UsageError
from cosfs.transfer.bulk import CopyJob, DownloadJob, Job, UploadJob, transfer_many
from cosfs.transfer.engine import Engine
from cosfs.transfer.model import TransferResult
from cosfs.transfer.options import TransferOptions
from cosfs.transfer.paths import DestinationRoot
from cosfs.transfer.plan import SyncOptions, Transfer
from cosfs.transfer.scan import LocalEntry
from cosfs.transfer.sides import BucketSide, Entry, LocalSide, Problem, TreeSide
from cosfs.transfer.sync import Sync
from cosfs.transfer.work import Progress

__all__ = ["SyncEvent", "SyncResult", "run_sync"]

Action = Literal["upload", "download", "copy", "delete", "skip"]


@dataclass(frozen=True, slots=True)
class SyncEvent:
    """One name that a sync was concerned with. reason says why one was skipped.

    Either result or error is set when something was tried; neither in a dry run.
    """

    action: Action
    source: str
    destination: str
    reason: str = ""
    result: TransferResult | None = None
    error: Exception | None = None


@dataclass(slots=True)
class SyncResult:
    """What came of a sync. In a dry run transferred and deleted count what would be done."""

    transferred: int = 0
    bytes: int = 0
    deleted: int = 0
    unchanged: int = 0
    skipped: int = 0
    failures: list[SyncEvent] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self.failures


async def run_sync(
    engine: Engine,
    source: CosUrl | str,
    destination: CosUrl | str,
    options: SyncOptions,
    *,
    headers: Headers | None = None,
    transfer: TransferOptions,
    dryrun: bool = False,
    on_event: Callable[[SyncEvent], None] | None = None,
    progress: Progress | None = None,
) -> SyncResult:
    """Make destination like source; see Session.sync."""
    _check(source, destination)
    events = _Events(
        _side(engine, source, options), _side(engine, destination, options, written=True), on_event
    )
    sync = Sync(engine, events.source, events.destination, options, events)
    with ExitStack() as stack:
        jobs = _Jobs(events, headers, transfer, dryrun, stack)

        async def run(transfers: AsyncIterable[Transfer]) -> None:
            await transfer_many(engine, jobs.of(transfers, engine), on_result=jobs.done, progress=progress)

        try:
            async with sync.transfers() as transfers:
                await run(transfers)
            if options.deletes:
                await _delete(sync, events, dryrun)
            await run(_each(sync.postponed()))
        finally:
            sync.close()
    return events.result


def _check(source: CosUrl | str, destination: CosUrl | str) -> None:
    if isinstance(source, str) and isinstance(destination, str):
        raise UsageError("neither side is in COS", hint="Write one of them as cos://bucket/prefix")
    if isinstance(source, str) and not Path(source).is_dir():
        raise UsageError(f"{source} is not a directory")
    if isinstance(source, CosUrl) and isinstance(destination, CosUrl) and source.bucket == destination.bucket:
        one, other = _prefix(source), _prefix(destination)
        if one.startswith(other) or other.startswith(one):
            raise UsageError(f"{source} and {destination} overlap")


def _prefix(url: CosUrl) -> str:
    return url.key if not url.key or url.key.endswith("/") else f"{url.key}/"


def _side(engine: Engine, place: CosUrl | str, options: SyncOptions, *, written: bool = False) -> TreeSide:
    if isinstance(place, CosUrl):
        return BucketSide(engine, place.bucket, _prefix(place))
    # Links are not followed where things are written and deleted.
    return LocalSide(
        place,
        symlinks="keep" if written else "follow",
        directories=options.keep_dirs,
        encoded_names=options.encode_names,
    )


async def _each(transfers: object) -> AsyncIterator[Transfer]:
    for transfer in cast("list[Transfer]", transfers):
        yield transfer


async def _delete(sync: Sync, events: _Events, dryrun: bool) -> None:
    refusal = sync.refusal(failed=len(events.result.failures))
    if refusal is not None:
        raise refusal
    if dryrun:
        for extra in sync.plan.extras:
            events.deleted(extra.entry, None)
    else:
        await sync.delete(events.deleted)


class _Events:
    """Counts what happens, and tells the program."""

    def __init__(
        self, source: TreeSide, destination: TreeSide, tell: Callable[[SyncEvent], None] | None
    ) -> None:
        self.source = source
        self.destination = destination
        self.result = SyncResult()
        self._tell = tell
        self.action: Action = (
            "upload" if not source.is_bucket else "copy" if destination.is_bucket else "download"
        )

    def _say(self, event: SyncEvent) -> None:
        if event.error is not None:
            self.result.failures.append(event)
        elif event.action == "skip":
            self.result.skipped += 1
        if self._tell is not None:
            self._tell(event)

    def transferred(self, transfer: Transfer, result: TransferResult | None, error: Exception | None) -> None:
        if error is None:
            self.result.transferred += 1
            self.result.bytes += transfer.source.facts.size if result is None else result.size
        where = transfer.path or transfer.relative
        names = self.source.name(transfer.relative), self.destination.name(where)
        self._say(SyncEvent(self.action, *names, result=result, error=error))

    def deleted(self, entry: Entry, error: Exception | None) -> None:
        self.result.deleted += error is None
        self._say(SyncEvent("delete", "", self.destination.name(entry.relative), error=error))

    # what the plan tells

    def left(self, source: Entry, destination: Entry | None, reason: str) -> None:
        if reason == "same":
            self.result.unchanged += 1
        else:
            self._skip(source.relative, reason)

    def _skip(self, relative: str, reason: str) -> None:
        self._say(SyncEvent("skip", self.source.name(relative), self.destination.name(relative), reason))

    def problem(self, problem: Problem, *, at_source: bool) -> None:
        if at_source and problem.clash:
            error = TransferError(f"{problem.path}: {problem.reason}")
            target = self.destination.name(problem.relative)
            self._say(SyncEvent(self.action, problem.path, target, problem.reason, error=error))
        elif at_source:
            self._say(SyncEvent("skip", problem.path, "", problem.reason))

    def missing(self, name: str) -> None:
        self._fail(name, "is asked for, but the source does not have it")

    def unusable(self, source: Entry, reason: str) -> None:
        self._skip(source.relative, f"no path can have this name: {reason}")

    def accepts(self, source: Entry, path: str) -> bool:
        return True

    def blocked(self, source: Entry, path: str, reason: str) -> None:
        self._fail(source.relative, reason)

    def could_not(self, transfer: Transfer, error: Exception) -> None:
        self.transferred(transfer, None, error)

    def _fail(self, relative: str, reason: str) -> None:
        name = self.source.name(relative)
        error = TransferError(f"{name}: {reason}")
        self._say(SyncEvent(self.action, name, self.destination.name(relative), error=error))


class _Jobs:
    """Makes the jobs of transfers, and hears how they ended."""

    def __init__(
        self,
        events: _Events,
        headers: Headers | None,
        options: TransferOptions,
        dryrun: bool,
        stack: ExitStack,
    ) -> None:
        self._events = events
        self._headers = headers
        self._options = options
        self._dryrun = dryrun
        self._stack = stack
        self._root: DestinationRoot | None = None

    async def of(self, transfers: AsyncIterable[Transfer], engine: Engine) -> AsyncIterator[Job]:
        """Give the job of each transfer; what needs none is done on the way."""
        async for transfer in transfers:
            if self._dryrun:
                self._events.transferred(transfer, None, None)
                continue
            try:
                job = await self._job(transfer, engine)
            except ConfigError:
                raise
            except (COSError, OSError) as error:
                self._events.transferred(transfer, None, error)
                continue
            if job is not None:
                yield job

    def done(self, job: Job, result: TransferResult | None, error: Exception | None) -> None:
        """Tell what came of one job."""
        if isinstance(error, ConfigError) or (
            error is not None and not isinstance(error, COSError | OSError)
        ):
            raise error
        self._events.transferred(job.tag, result, error)

    async def _job(self, transfer: Transfer, engine: Engine) -> Job | None:
        source, destination = self._events.source, self._events.destination
        if isinstance(destination, BucketSide):
            key = destination.prefix + transfer.relative
            if transfer.source.is_directory:
                await engine.run(engine.client.put_object, destination.bucket, key, b"")
                self._events.transferred(transfer, None, None)
                return None
            return self._to_bucket(transfer, source, destination.bucket, key)
        assert isinstance(source, BucketSide)
        if self._root is None:
            # When there is something to write: a mistyped prefix shall not leave a directory behind.
            self._root = self._stack.enter_context(DestinationRoot(str(destination)))
        if transfer.path.endswith("/"):
            self._root.make_directory(transfer.path)
            self._events.transferred(transfer, None, None)
            return None
        info = cast("ObjectInfo", transfer.source.item)
        target = self._root.target(transfer.path)
        return DownloadJob(source.bucket, info, target, tag=transfer, options=self._options)

    def _to_bucket(self, transfer: Transfer, source: TreeSide, bucket: str, key: str) -> Job:
        item = transfer.copy_from.item if transfer.copy_from is not None else transfer.source.item
        if isinstance(item, LocalEntry):
            return UploadJob(
                os.fspath(item.path), item.size, bucket, key, self._headers or Headers(),
                tag=transfer, options=self._options,
            )  # fmt: skip
        origin = bucket if transfer.copy_from is not None else cast("BucketSide", source).bucket
        return CopyJob(origin, item, bucket, key, self._headers, tag=transfer, options=self._options)
