"""Very many transfers of any size at once, with memory that does not depend on how many.

Small ones (one request each) are drained from a queue by the engine's threads, without a switch to
the trio thread between them; large ones get a task each. Both kinds share the slots, so neither waits
for the other.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from dataclasses import field
from typing import Any

import trio

from cosfs.client.model import Headers, ObjectInfo
from cosfs.records import dataclass
from cosfs.transfer.copy import CopyRequest, copy_object, copy_small
from cosfs.transfer.download import Source, download_file, fetch_file, is_small_object
from cosfs.transfer.engine import SMALL, TINY, Engine, Flow, open_nursery
from cosfs.transfer.model import TransferResult
from cosfs.transfer.options import DEFAULTS, TransferOptions
from cosfs.transfer.paths import LocalTarget
from cosfs.transfer.side import SmallCall
from cosfs.transfer.upload import LargeFileError, LocalFile, is_small, send_file, upload_file
from cosfs.transfer.work import Progress
from cosfs.units import KIB

__all__ = ["CopyJob", "DownloadJob", "Job", "UploadJob", "transfer_many"]


@dataclass(frozen=True, slots=True)
class UploadJob:
    """One local file to COS; size is what the walk saw. tag is the caller's own."""

    path: str
    size: int
    bucket: str
    key: str
    headers: Headers = field(default_factory=Headers)
    forbid_overwrite: bool = False
    tag: Any = None
    progress: Progress | None = None  # of this one alone, instead of the common one
    options: TransferOptions = DEFAULTS


@dataclass(frozen=True, slots=True)
class DownloadJob:
    """One object to a local file; info is what the listing said."""

    bucket: str
    info: ObjectInfo
    target: LocalTarget
    version_id: str = ""
    tag: Any = None
    progress: Progress | None = None  # of this one alone, instead of the common one
    options: TransferOptions = DEFAULTS


@dataclass(frozen=True, slots=True)
class CopyJob:
    """One object to another; info is what the listing said about the source."""

    source_bucket: str
    info: ObjectInfo
    bucket: str
    key: str
    headers: Headers | None = None
    storage_class: str = ""
    forbid_overwrite: bool = False
    tag: Any = None
    progress: Progress | None = None  # of this one alone, instead of the common one
    source_version_id: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)  # such as an ACL: sent whatever headers are
    options: TransferOptions = DEFAULTS


# With 256 of them in flight, 16 MiB of bodies.
TINY_SIZE = 64 * KIB

Job = UploadJob | DownloadJob | CopyJob
OnResult = Callable[[Any, TransferResult | None, Exception | None], None]


async def transfer_many(
    engine: Engine,
    jobs: Iterable[Job] | AsyncIterable[Job],
    *,
    on_result: OnResult,
    on_start: Callable[[Any], None] | None = None,
    progress: Progress | None = None,
) -> None:
    """Run all jobs; on_result(job, result, error) hears of each as it ends, in any order.

    One failure does not stop the others. All callbacks run in the trio thread; what on_result raises
    ends everything. Jobs are taken only as fast as they are worked on.
    """
    async with open_nursery() as nursery:
        await _Run(engine, on_result, on_start, progress, nursery).feed(jobs)


class _Run:
    def __init__(
        self,
        engine: Engine,
        on_result: OnResult,
        on_start: Callable[[Any], None] | None,
        progress: Progress | None,
        nursery: trio.Nursery,
    ) -> None:
        self._engine = engine
        self._on_result = on_result
        self._on_start = on_start
        self._progress = progress
        self._nursery = nursery
        # Each has at least one request to make, so more of them could not all run.
        self._large = trio.Semaphore(engine.limit)

    async def feed(self, jobs: Iterable[Job] | AsyncIterable[Job]) -> None:
        engine = self._engine
        backlog = 2 * engine.settings.max_small_requests
        async with (
            engine.flow(SMALL, self._small_done) as small,
            engine.flow(TINY, self._small_done, backlog) as tiny,
        ):
            if isinstance(jobs, AsyncIterable):
                async for job in jobs:
                    await self._begin(job, tiny if _is_tiny(job) else small)
            else:
                for job in jobs:
                    await self._begin(job, tiny if _is_tiny(job) else small)

    async def _begin(self, job: Job, flow: Flow) -> None:
        small = self._small_call(job)
        if small is None:
            await self._large.acquire()
        if self._on_start is not None:
            self._on_start(job)
        if small is None:
            self._nursery.start_soon(self._run_large, job)
        else:
            await flow.put(job, small)

    def _small_call(self, job: Job) -> SmallCall | None:
        """Return the blocking call that does a job in one request; None for a large one."""
        engine, progress = self._engine, job.progress or self._progress
        tiny = _is_tiny(job)
        if isinstance(job, UploadJob):
            if is_small(engine, job.size):
                once = job.forbid_overwrite
                return SmallCall(
                    engine, send_file, _local_file(job), progress=progress, portable=tiny and not once
                )
        elif isinstance(job, DownloadJob):
            if is_small_object(engine, job.info.size):
                source = Source(job.bucket, job.info.key, job.info, job.version_id, job.options)
                return SmallCall(engine, fetch_file, source, job.target, progress=progress, portable=tiny)
        elif job.info.size < job.options.part_threshold:
            once = job.forbid_overwrite
            return SmallCall(
                engine, copy_small, _copy_request(job), progress=progress, portable=tiny and not once
            )
        return None

    def _small_done(self, job: Job, result: TransferResult | None, error: Exception | None) -> None:
        if isinstance(error, LargeFileError):
            # It has grown since it was listed.
            self._nursery.start_soon(self._run_grown, job)
            return
        self._on_result(job, result, error)

    async def _run_grown(self, job: Job) -> None:
        await self._large.acquire()
        await self._run_large(job)

    async def _run_large(self, job: Job) -> None:
        """Run one job that holds a place among the large ones."""
        try:
            result = await self._large_transfer(job)
        except Exception as error:
            # The caller tells it apart: each job fails for itself.
            self._on_result(job, None, error)
        else:
            self._on_result(job, result, None)
        finally:
            self._large.release()

    async def _large_transfer(self, job: Job) -> TransferResult:
        engine, progress = self._engine, job.progress or self._progress
        if isinstance(job, UploadJob):
            return await upload_file(
                engine,
                job.path,
                job.bucket,
                job.key,
                headers=job.headers,
                progress=progress,
                forbid_overwrite=job.forbid_overwrite,
                options=job.options,
            )
        if isinstance(job, DownloadJob):
            return await download_file(
                engine,
                job.bucket,
                job.info.key,
                job.target,
                info=job.info,
                version_id=job.version_id,
                progress=progress,
                options=job.options,
            )
        return await copy_object(
            engine,
            job.source_bucket,
            job.info.key,
            job.bucket,
            job.key,
            info=job.info,
            headers=job.headers,
            storage_class=job.storage_class,
            source_version_id=job.source_version_id,
            forbid_overwrite=job.forbid_overwrite,
            extra=job.extra,
            progress=progress,
            options=job.options,
        )


def _is_tiny(job: Job) -> bool:
    """Whether hundreds of these may be in flight: by what each holds in memory, and how long it works."""
    size = job.size if isinstance(job, UploadJob) else job.info.size
    return size <= TINY_SIZE


def _local_file(job: UploadJob) -> LocalFile:
    return LocalFile(os.fspath(job.path), job.bucket, job.key, job.headers, job.forbid_overwrite, job.options)


def _copy_request(job: CopyJob) -> CopyRequest:
    return CopyRequest(
        job.source_bucket,
        job.info.key,
        job.bucket,
        job.key,
        job.info,
        job.headers,
        job.storage_class,
        job.source_version_id,
        job.forbid_overwrite,
        job.extra,
        job.options,
    )
