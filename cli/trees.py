"""Everything below a directory or a prefix, or what a pattern matches: many transfers at once."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cosfs.client.url import CosUrl
from cosfs.errors import ConfigError, COSError, ServiceError, TransferError, UsageError

from .copying import Copying, Progress, exists, nothing
from .objects import selected, with_headers
from .places import Glob, Local, Place, as_prefix, name_of

if TYPE_CHECKING:
    from cosfs.client.model import DeleteFailure, ObjectId, ObjectInfo
    from cosfs.transfer.bulk import CopyJob, DownloadJob, Job, UploadJob
    from cosfs.transfer.model import TransferResult
    from cosfs.transfer.paths import DestinationRoot

    from .filters import Selection
    from .progress import Item
    from .running import Run


@dataclass(slots=True, eq=False)
class Task:
    """One transfer of a tree, as it is reported; `remove` is what mv removes when it is done."""

    source: str
    target: str
    size: int
    remove: str | ObjectId
    item: Item | None
    started: float = 0.0

    @property
    def progress(self) -> Progress | None:
        return self.item.advance if self.item is not None else None


class TreeCopy(Copying):
    """Copies what lies below one place to below another."""

    async def _transfer(self, jobs: AsyncIterator[Job], remover: Remover | None) -> int:
        """Run the jobs of a tree; return how many there were."""
        from cosfs.transfer.bulk import transfer_many
        from cosfs.transfer.engine import open_nursery

        count = 0

        async def counted() -> AsyncIterator[Job]:
            nonlocal count
            async for job in jobs:
                if self.run.stopping:
                    return
                count += 1
                task: Task = job.tag
                if self.options.dryrun:
                    self.report.would(self.label, task.source, task.target)
                    continue
                self.display.expect(task.size)
                yield job
            self.display.complete = True

        def on_start(job: Job) -> None:
            job.tag.started = time.monotonic()
            self.display.begin(job.tag.item)

        def on_result(job: Job, result: TransferResult | None, error: Exception | None) -> None:
            task: Task = job.tag
            self.display.finish(task.item)
            if error is not None:
                if isinstance(error, ConfigError) or not isinstance(error, COSError | OSError):
                    raise error
                self.failed(task.source, task.target, error)
                return
            assert result is not None
            seconds = time.monotonic() - task.started
            done = partial(self.report.done, self.label, task.source, task.target, result, seconds)
            if remover is None:
                done()
            else:
                remover.add(task, done)

        async with open_nursery() as nursery:
            if remover is not None:
                nursery.start_soon(remover.run)
            await transfer_many(
                self.engine,
                counted(),
                on_result=on_result,
                on_start=on_start,
                progress=self.display.advance,
            )
            if remover is not None:
                remover.close()
        return count

    def _task(self, source: str, target: str, size: int, remove: str | ObjectId) -> Task:
        return Task(source, target, size, remove, self.display.item(source, size))

    def _tree_remover(self, bucket: str | None) -> Remover | None:
        if not self.options.move or self.options.dryrun:
            return None
        return Remover(self.run, bucket, self.label)

    async def upload(self, source: Local, destination: CosUrl) -> None:
        """Upload what lies below a directory."""
        jobs = self._upload_jobs(source, destination.bucket, as_prefix(destination.key))
        self._warn_if_none(await self._transfer(jobs, self._tree_remover(None)), source)

    async def _upload_jobs(self, source: Local, bucket: str, prefix: str) -> AsyncIterator[UploadJob]:
        from cosfs.transfer.bulk import UploadJob
        from cosfs.transfer.scan import LocalEntry, walk

        selection = self.options.chosen.below(source)
        self._report_missing(source, selection)
        entries = walk(
            source.path,
            on_warning=lambda path, reason: self.report.skip(self.label, path, "unreadable", reason),
            keep=selection.keeps,
            symlinks="follow" if self.options.follow_symlinks else "skip",
            directories=self.options.keep_dirs,
            encoded_names=self.options.key_policy == "encode",
        )
        empty: LocalEntry | None = None
        async for entry in entries:
            if empty is not None and not entry.relative.startswith(empty.relative):
                await self._make_marker(empty, bucket, prefix)
            empty = entry if entry.is_directory else None
            if entry.is_directory or not selection.takes_state(entry.size, entry.mtime_ns / 1e9):
                continue
            key = prefix + entry.relative
            task = self._task(entry.path, str(CosUrl(bucket, key)), entry.size, entry.path)
            yield UploadJob(
                entry.path,
                entry.size,
                bucket,
                key,
                self.options.choice.for_name(key),
                self.options.no_overwrite,
                task,
                task.progress,
            )
        if empty is not None:
            await self._make_marker(empty, bucket, prefix)

    def _report_missing(self, source: Local, selection: Selection) -> None:
        """Report the files that a list names and that are not there; the walk would pass over them."""
        for name in selection.names or ():
            path = f"{source.path.rstrip('/')}/{name}"
            if selection.filters(name) and (not exists(path) or Path(path).is_dir()):
                problem = "is a directory; list the files in it" if exists(path) else "no such file"
                self.report.failure(self.label, path, "", TransferError(problem))

    async def _make_marker(self, entry: Any, bucket: str, prefix: str) -> None:
        """Upload an empty directory as an object whose key ends in /."""
        from cosfs.transfer.model import TransferResult

        key = prefix + entry.relative

        async def put(progress: Progress) -> TransferResult:
            stored = await self.engine.run(self.client.put_object, bucket, key, b"")
            return TransferResult(0, stored.etag, stored.crc64, stored.version_id)

        await self.single(entry.path, str(CosUrl(bucket, key)), 0, put, nothing)

    async def fetch(self, source: CosUrl, destination: Place) -> None:
        """Download or copy what lies below a prefix."""
        prefix = as_prefix(source.key)
        selection = self.options.chosen.below(source)
        infos = selected(self.engine, source.bucket, prefix, selection, self._unseen(source.bucket))
        self._warn_if_none(await self._fetch_all(source.bucket, prefix, infos, destination), source)

    async def fetch_glob(self, source: CosUrl, glob: Glob, destination: Place) -> None:
        """Download or copy the objects whose keys match a pattern."""
        infos = self._matching(source.bucket, glob)
        if not await self._fetch_all(source.bucket, glob.base, infos, destination):
            error = TransferError("no object has this key or matches it as a pattern")
            self.report.failure(self.label, str(source), str(destination), error)

    async def _fetch_all(
        self, bucket: str, base: str, infos: AsyncIterator[ObjectInfo], destination: Place
    ) -> int:
        remover = self._tree_remover(bucket)
        if isinstance(destination, CosUrl):
            copies = self._copy_jobs(bucket, base, infos, destination.bucket, as_prefix(destination.key))
            return await self._transfer(copies, remover)
        if destination.is_stream:
            raise UsageError("several objects cannot go to standard output", hint="Use cos cat")
        from cosfs.transfer.paths import DestinationRoot

        with ExitStack() as stack:

            def open_root() -> DestinationRoot:
                # When the first object is there: a mistyped prefix shall not leave a directory behind.
                return stack.enter_context(DestinationRoot(destination.path))

            jobs = self._download_jobs(bucket, base, infos, destination, open_root)
            return await self._transfer(jobs, remover)

    async def _matching(self, bucket: str, glob: Glob) -> AsyncIterator[ObjectInfo]:
        """List the objects whose keys match a pattern."""
        from cosfs.client.model import ObjectInfo
        from cosfs.transfer.scan import list_objects

        async with list_objects(self.engine, bucket, glob.prefix) as listing:
            async for info in listing:
                assert isinstance(info, ObjectInfo)
                if glob.matches(info.key):
                    yield info

    def _unseen(self, bucket: str) -> Callable[[str, COSError], None]:
        """Return what reports an object that could not be looked at."""

        def failed(key: str, error: COSError) -> None:
            self.report.failure(self.label, str(CosUrl(bucket, key)), "", error)

        return failed

    async def _copy_jobs(
        self, bucket: str, base: str, infos: AsyncIterator[ObjectInfo], to_bucket: str, prefix: str
    ) -> AsyncIterator[CopyJob]:
        from cosfs.client.model import ObjectId
        from cosfs.transfer.bulk import CopyJob

        needs_headers = bool(self.options.choice.given - {"storage_class"})
        if needs_headers and self.options.metadata_directive != "REPLACE":
            infos = with_headers(self.engine, bucket, infos, self._unseen(bucket))
        async for info in infos:
            key = prefix + info.key[len(base) :]
            source, target = str(CosUrl(bucket, info.key)), str(CosUrl(to_bucket, key))
            task = self._task(source, target, info.size, ObjectId(info.key))
            yield CopyJob(
                bucket,
                info,
                to_bucket,
                key,
                self.copy_headers(info, key),
                self.options.choice.headers.storage_class,
                self.options.no_overwrite,
                task,
                task.progress,
            )

    async def _download_jobs(
        self,
        bucket: str,
        base: str,
        infos: AsyncIterator[ObjectInfo],
        destination: Local,
        open_root: Callable[[], DestinationRoot],
    ) -> AsyncIterator[DownloadJob]:
        """Plan downloads; a dry run opens no root."""
        from cosfs.client.model import ObjectId
        from cosfs.transfer.bulk import DownloadJob
        from cosfs.transfer.paths import Collisions, LocalTarget

        collisions = Collisions()
        root: DestinationRoot | None = None
        async for info in infos:
            source = str(CosUrl(bucket, info.key))
            relative = self._path_for(source, info, base)
            if relative is None:
                continue
            in_the_way = collisions.add(relative)
            if in_the_way:
                error = TransferError(f"{in_the_way!r} is a file here, so nothing can be below it")
                self.report.failure(self.label, source, f"{destination.path.rstrip('/')}/{relative}", error)
                continue
            if root is None and not self.options.dryrun:
                root = open_root()
            if relative.endswith("/"):
                await self._make_directory(source, relative, root, bucket, info)
                continue
            target = (
                LocalTarget(f"{destination.path.rstrip('/')}/{relative}")
                if root is None
                else root.target(relative)
            )
            if self.options.no_overwrite and exists(target.path):
                self.report.left_out(self.label, source, target.path, "exists")
                continue
            task = self._task(source, target.path, info.size, ObjectId(info.key))
            yield DownloadJob(bucket, info, target, tag=task, progress=task.progress)

    def _path_for(self, source: str, info: ObjectInfo, base: str) -> str | None:
        """Return the path below the destination for a key; None if there is none, which is reported."""
        from cosfs.transfer.paths import encode_key, key_problem

        relative = info.key[len(base) :]
        if not relative and info.size == 0:
            return None  # the marker of the source directory itself
        policy = self.options.key_policy
        marker_with_content = relative.endswith("/") and info.size > 0
        if policy == "encode":
            relative = encode_key(relative[:-1]) + "%2F" if marker_with_content else encode_key(relative)
            marker_with_content = False
        problem = "it ends in / and has content" if marker_with_content else key_problem(relative)
        if not problem:
            return relative
        hint = "" if policy == "encode" else "; --key-policy encode downloads it under another name"
        text = f"no file can have this name: {problem}{hint}"
        if policy == "error":
            self.report.failure(self.label, source, "", TransferError(text))
        else:
            self.report.skip(self.label, source, "key-policy", text)
        return None

    async def _make_directory(
        self, source: str, relative: str, root: DestinationRoot | None, bucket: str, info: ObjectInfo
    ) -> None:
        """Make the directory an object stands for; mv removes the object."""
        if root is None:
            return
        try:
            root.make_directory(relative)
            if self.options.move:
                await self.engine.run(self.client.delete_object, bucket, info.key)
        except (COSError, OSError) as error:
            self.report.failure(self.label, source, f"{root.path}/{relative}", error)

    def _warn_if_none(self, count: int, source: Place) -> None:
        if count or self.report.failed or self.report.skipped or self.run.stopping:
            return
        hint = ""
        if isinstance(source, CosUrl) and source.key and not source.key.endswith("/"):
            parent, name = source.key.rpartition("/")[0], name_of(source)
            above = CosUrl(source.bucket, f"{parent}/" if parent else "")
            hint = f"; for keys that begin with {name!r} copy from {above} with --include '{name}*'"
        place = f"{source}/" if isinstance(source, CosUrl) and hint else str(source)
        self.run.state.out.warn(f"nothing to copy below {place}{hint}")


class Remover:
    """Removes what mv has moved, beside the transfers; reports each when its source is gone."""

    def __init__(self, run: Run, bucket: str | None, label: str) -> None:
        import trio

        self._run = run
        self._bucket = bucket
        self._label = label
        self._waiting: dict[str, tuple[Task, Callable[[], None]]] = {}
        # Unbounded: on_result cannot wait. What is in it was moved already, which takes longer.
        self._moved, self._removable = trio.open_memory_channel["ObjectId"](math.inf)

    def add(self, task: Task, done: Callable[[], None]) -> None:
        """Take a transfer that succeeded and was verified."""
        if isinstance(task.remove, str):
            try:
                Path(task.remove).unlink()
            except OSError as error:
                self._run.report.failure(self._label, task.source, task.target, error)
            else:
                done()
            return
        self._waiting[task.remove.key] = (task, done)
        self._moved.send_nowait(task.remove)

    def close(self) -> None:
        """Let run() end when everything is removed."""
        self._moved.close()

    async def run(self) -> None:
        """Remove objects by the thousand as they come."""
        from cosfs.transfer.delete import delete_many

        def on_result(found: ObjectId, failure: DeleteFailure | None) -> None:
            task, done = self._waiting.pop(found.key)
            if failure is None:
                done()
            else:
                error = ServiceError(failure.message, code=failure.code)
                self._run.report.failure(self._label, task.source, task.target, error)

        if self._bucket is not None:
            await delete_many(self._run.engine, self._bucket, self._removable, on_result=on_result)
