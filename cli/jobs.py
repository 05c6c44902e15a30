"""The jobs of many transfers, made of what a walk or a listing found, and run: shared by cp, mv and sync."""

from __future__ import annotations

import math
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cosfs.client.model import ObjectId
from cosfs.client.url import CosUrl
from cosfs.errors import ConfigError, COSError, TransferError
from cosfs.records import dataclass
from cosfs.transfer.bulk import CopyJob, DownloadJob, UploadJob, transfer_many
from cosfs.transfer.engine import open_nursery
from cosfs.transfer.obstacles import Obstacles
from cosfs.transfer.paths import encode_key, key_problem, local_name

from .copying import Copying, Progress, not_removed, nothing
from .objects import closing
from .output import printable
from .places import Operation

if TYPE_CHECKING:
    from cosfs.client.model import DeleteFailure, ObjectInfo
    from cosfs.transfer.bulk import Job
    from cosfs.transfer.model import TransferResult
    from cosfs.transfer.paths import DestinationRoot, LocalTarget
    from cosfs.transfer.scan import LocalEntry

    from .case import CaseNames
    from .existing import Candidate
    from .progress import Item
    from .running import Run
    from .transfer_options import Common


@dataclass(slots=True, eq=False)
class Task:
    """One transfer of a tree, as it is reported; `remove` is what mv removes when it is done."""

    source: str
    target: str
    size: int
    remove: str | ObjectId
    item: Item | None
    started: float = 0.0
    origin: Any = None  # the caller's own
    label: str = ""  # what is done, if that is not what the command does with all others

    @property
    def progress(self) -> Progress | None:
        return self.item.advance if self.item is not None else None


class JobMaker(Copying):
    """Makes and runs the jobs of one source and one destination."""

    def __init__(self, run: Run, options: Common, operation: Operation) -> None:
        super().__init__(run, options, operation)
        self.remover: Remover | None = None  # of what mv has moved
        self.obstacles = Obstacles()  # to a dry run
        self._case_policy: str | None = None
        self._access: dict[str, Mapping[str, str]] = {}  # by key: who may do what with a copy

    async def transfer(self, jobs: AsyncIterator[Job], remover: Remover | None = None) -> int:
        """Run the jobs of a tree; return how many there were."""
        count = 0

        async def counted() -> AsyncGenerator[Job, None]:
            nonlocal count
            async with closing(jobs):
                async for job in jobs:
                    if self.run.stopping:
                        return
                    count += 1
                    task: Task = job.tag
                    if not self.claims(task.source, task.target):
                        continue
                    if self.options.dryrun:
                        self._would(job)
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
                if isinstance(error, FileNotFoundError) and isinstance(job, UploadJob):
                    self.report.skip(
                        self.label, task.source, "vanished", "it has vanished since it was found"
                    )
                else:
                    self.failed(task.source, task.target, error)
                self.run.note_failure(error)
                if isinstance(error, FileNotFoundError) and _has_lost_its_root(job):
                    self.run.end_early("the directory it was to be downloaded to is gone")
                return
            assert result is not None
            self.completed(job, result)
            self.run.transferred(self.operation, task.source, task.target)
            seconds = time.monotonic() - task.started
            label = task.label or self.label
            done = partial(self.report.done, label, task.source, task.target, result, seconds)
            if remover is None:
                done()
            else:
                remover.add(task, done)

        async with open_nursery() as nursery:
            if remover is not None:
                nursery.start_soon(remover.run)
            async with aclosing(counted()) as stream:
                await transfer_many(
                    self.engine,
                    stream,
                    on_result=on_result,
                    on_start=on_start,
                    progress=self.display.advance,
                )
            if remover is not None:
                remover.close()
        return count

    def _would(self, job: Job) -> None:
        """Tell what a job would do, or what would stop it."""
        task: Task = job.tag
        error = self.obstacles.to_file(job.target) if isinstance(job, DownloadJob) else None
        if error is None:
            self.report.would(task.label or self.label, task.source, task.target)
        else:
            self.failed(task.source, task.target, error)

    def completed(self, job: Job, result: TransferResult) -> None:
        """Hear of each transfer that succeeded."""

    async def move_same(self, candidate: Candidate, remove: str | ObjectId) -> None:
        """End a move of what is at the destination already: the source is removed."""
        from .existing import there_already

        source, target = candidate.source, candidate.target
        if not self.claims(source, target):
            return
        if self.options.dryrun:
            self.report.would(self.label, source, target)
            return
        try:
            result = there_already(candidate)
        except (TransferError, OSError) as error:
            self.report.failure(self.label, source, target, error)
            return
        assert self.remover is not None
        done = partial(self.report.done, self.label, source, target, result, 0.0)
        self.remover.add(Task(source, target, 0, remove, None), done)

    def _task(self, source: str, target: str, size: int, remove: str | ObjectId) -> Task:
        return Task(source, target, size, remove, self.display.item(source, size))

    def upload_job(self, entry: LocalEntry, bucket: str, key: str) -> UploadJob:
        """Return the job that uploads one file."""
        task = self._task(entry.path, str(CosUrl(bucket, key)), entry.size, entry.path)
        return UploadJob(
            entry.path,
            entry.size,
            bucket,
            key,
            self.options.choice.for_name(key),
            self.options.no_overwrite,
            task,
            task.progress,
            self.options.transfer,
        )

    def copy_job(
        self,
        bucket: str,
        info: ObjectInfo,
        to_bucket: str,
        key: str,
    ) -> CopyJob:
        """Return the job that copies one object."""
        source, target = str(CosUrl(bucket, info.key)), str(CosUrl(to_bucket, key))
        task = self._task(source, target, info.size, ObjectId(info.key))
        return CopyJob(
            bucket,
            info,
            to_bucket,
            key,
            self.copy_headers(info, key),
            self.options.choice.headers.storage_class,
            self.options.no_overwrite,
            task,
            task.progress,
            extra={**self.copy_extra, **self._access.pop(info.key, {})},
            options=self.options.transfer,
        )

    def download_job(self, bucket: str, info: ObjectInfo, target: LocalTarget) -> DownloadJob:
        """Return the job that downloads one object."""
        task = self._task(str(CosUrl(bucket, info.key)), target.path, info.size, ObjectId(info.key))
        options = self.options.transfer
        return DownloadJob(bucket, info, target, tag=task, progress=task.progress, options=options)

    async def make_marker(self, entry: LocalEntry, bucket: str, prefix: str) -> None:
        """Upload an empty directory as an object whose key ends in /."""
        from cosfs.transfer.model import TransferResult
        from cosfs.transfer.preserve import with_attributes

        key = prefix + entry.relative
        headers = self.options.choice.headers
        if self.options.transfer.preserve:
            headers = with_attributes(headers, os.stat(entry.path))  # noqa: PTH116 - keeps the path as it is

        async def put(progress: Progress) -> TransferResult:
            send = partial(
                self.client.put_object, bucket, key, b"",
                headers=headers, extra=self.options.transfer.body_headers,
            )  # fmt: skip
            stored = await self.engine.run(send)
            return TransferResult(0, stored.etag, stored.crc64, stored.version_id)

        await self.single(entry.path, str(CosUrl(bucket, key)), 0, put, nothing)

    async def prepared(
        self, bucket: str, infos: AsyncIterator[ObjectInfo]
    ) -> AsyncGenerator[ObjectInfo, None]:
        """Ask for what copies must say and a listing does not show: metadata, access."""
        from .access import access_headers
        from .objects import mapped, with_headers

        if self.copies_need_headers:
            keys = self.options.transfer.source_key_headers
            infos = with_headers(self.engine, bucket, infos, self.unseen(bucket), keys)
        if self.options.copy_props != "all":
            async with closing(infos):
                async for info in infos:
                    yield info
            return

        def access(info: ObjectInfo) -> Mapping[str, str]:
            return access_headers(self.client, bucket, info.key)

        async with aclosing(mapped(self.engine, infos, access)) as asked:
            async for info, headers, error in asked:
                if error is None:
                    self._access[info.key] = headers or {}
                    yield info
                else:
                    self.unseen(bucket)(info.key, error)

    async def readable(
        self, bucket: str, infos: AsyncIterator[ObjectInfo]
    ) -> AsyncGenerator[ObjectInfo, None]:
        """Leave out what is archived and not restored."""
        from .objects import mapped

        def head(info: ObjectInfo) -> ObjectInfo | None:
            return self.client.head_object(bucket, info.key)

        def needs(info: ObjectInfo) -> bool:
            # A listing does not say whether it was restored.
            return info.archived and info.headers is None and not self.options.force_archive_transfer

        async with aclosing(mapped(self.engine, infos, head, needs=needs)) as asked:
            async for listed, found, error in asked:
                info = found or listed
                if error is not None:
                    self.unseen(bucket)(info.key, error)
                elif not self.left_archived(str(CosUrl(bucket, info.key)), info):
                    yield info

    def unseen(self, bucket: str) -> Callable[[str, COSError], None]:
        """Return what reports an object that could not be looked at."""

        def failed(key: str, error: COSError) -> None:
            self.report.failure(self.label, str(CosUrl(bucket, key)), "", error)

        return failed

    def path_for(self, source: str, info: ObjectInfo, base: str) -> str | None:
        """Return the path below the destination for a key; None if there is none, which is reported."""
        relative = info.key[len(base) :]
        if not relative and info.size == 0:
            return None  # the marker of the source directory itself
        encode = self.options.key_policy == "encode"
        relative, problem = local_name(relative, info.size, encode=encode)
        if not problem:
            return relative
        self.unnamed(source, problem)
        return None

    def unnamed(self, source: str, problem: str) -> None:
        """Report an object that no local file can have the name of."""
        policy = self.options.key_policy
        # What is too long stays so.
        helps = policy != "encode" and not key_problem(encode_key(source.split("/", 3)[3]))
        hint = "; --key-policy encode downloads it under another name" if helps else ""
        text = f"no file can have this name: {problem}{hint}"
        if policy == "error":
            self.report.failure(self.label, source, "", TransferError(text))
        else:
            self.report.skip(self.label, source, "key-policy", text)

    def case_names(self, directory: str) -> CaseNames | None:
        """Return what finds names that differ in case alone; None where that is no matter."""
        from .case import CaseNames, ignores_case

        if self._case_policy is None:
            self._case_policy = self.options.case_conflict or (
                "error" if ignores_case(directory) else "ignore"
            )
        return None if self._case_policy == "ignore" else CaseNames()

    def takes_twin(self, source: str, target: str) -> bool:
        """Tell of a name that differs from an earlier one in case alone; whether to download it."""
        text = "its name differs from another one in case alone"
        if self._case_policy == "warn":
            self.run.state.out.warn(f"{printable(source)}: {text}")
        elif self._case_policy == "skip":
            self.report.skip(self.label, source, "case-conflict", text)
        else:
            self.report.failure(self.label, source, target, TransferError(text))
        return self._case_policy == "warn"

    async def make_directory(
        self, source: str, relative: str, root: DestinationRoot | None, bucket: str, info: ObjectInfo
    ) -> None:
        """Make the directory an object stands for; mv removes the object."""
        if root is None:
            return  # a dry run
        try:
            root.make_directory(relative)
            if self.options.move:
                await self.engine.run(self.client.delete_object, bucket, info.key)
        except (COSError, OSError) as error:
            self.report.failure(self.label, source, f"{root.path}/{relative}", error)


def _has_lost_its_root(job: Job) -> bool:
    root = getattr(getattr(job, "target", None), "root", None)
    return root is not None and not os.path.isdir(root.path)  # noqa: PTH112 - keeps the path as it is


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
                self._run.report.failure(self._label, task.source, task.target, not_removed(error))
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
                error = not_removed(failure.error())
                self._run.report.failure(self._label, task.source, task.target, error)

        if self._bucket is not None:
            await delete_many(self._run.engine, self._bucket, self._removable, on_result=on_result)
