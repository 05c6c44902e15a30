"""`cos undelete`: objects of a versioned bucket as they were before they were removed, or at a time."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from .options import (
    BUCKET_URL,
    MOMENT,
    command,
    dryrun_option,
    pop_selection,
    recursive_option,
    selection_options,
)

if TYPE_CHECKING:
    from cosfs.client.model import DeleteFailure, ObjectId, ObjectVersion
    from cosfs.client.url import CosUrl
    from cosfs.transfer.bulk import CopyJob
    from cosfs.transfer.model import TransferResult

    from .running import Run
    from .selecting import Chosen
    from .state import State

_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Options:
    recursive: bool
    before: float | None
    dryrun: bool
    chosen: Chosen


@dataclass(slots=True)
class Step:
    """What brings one object back: its newest delete markers go, or an old version is copied over it."""

    key: str
    markers: list[ObjectId] = field(default_factory=list)
    version: ObjectVersion | None = None


@command("undelete")
@click.argument("urls", type=BUCKET_URL, metavar="cos://BUCKET/KEY...", nargs=-1, required=True)
@recursive_option
@click.option(
    "--before",
    type=MOMENT,
    metavar="AGE|DATE",
    help="Bring back what was there then: 2h, 2026-01-31. Undoes overwriting, too.",
)
@dryrun_option
@selection_options
@click.pass_context
def undelete(ctx: click.Context, /, urls: tuple[CosUrl, ...], **values: Any) -> int:
    """Bring removed objects of a versioned bucket back.

    Without --before, the delete markers that hide objects are removed. With it, each object becomes
    what it was at that time, unless it is that already; what did not exist then is left alone.
    Nothing is lost by it: what is there now becomes an old version.

    \b
    Examples:
      cos undelete cos://bucket/file.txt
      cos undelete cos://bucket/photos/ --recursive --dryrun
      cos undelete cos://bucket/photos/ --recursive --before 2h
    """
    from .report import Report
    from .running import run_job

    state: State = ctx.find_root().obj
    chosen = pop_selection(ctx, values)
    options = Options(chosen=chosen, **{**values, "recursive": values["recursive"] or chosen.names_files})
    for url in urls:
        _check(url, options)
    report = Report(state)

    async def job(run: Run) -> None:
        for url in urls:
            await _Undeleting(run, options, url).run()

    return run_job(state, job, report, verb="bringing back")


def _check(url: CosUrl, options: Options) -> None:
    from cosfs.errors import UsageError

    if options.recursive:
        options.chosen.below(url)
    elif options.chosen:
        raise UsageError("filters need --recursive")
    elif not url.key or url.key.endswith("/"):
        raise UsageError(f"{url} is a prefix", hint="Add --recursive to bring back everything below it")


class _Undeleting:
    """The work for one URL."""

    def __init__(self, run: Run, options: Options, url: CosUrl) -> None:
        self._run = run
        self._options = options
        self._url = url
        self._bucket = ""
        self._markers: list[ObjectId] = []
        self._found = 0
        self._seen = False

    async def run(self) -> None:
        from cosfs.transfer.bulk import transfer_many

        engine = self._run.engine
        self._bucket = await engine.run(engine.client.resolve_bucket, self._url.bucket)
        async with aclosing(self._jobs()) as jobs:
            await transfer_many(engine, jobs, on_result=self._copied)
        await self._remove_markers()
        if not self._found:
            self._tell_nothing()

    def _tell_nothing(self) -> None:
        from cosfs.errors import ObjectNotFoundError

        if not self._options.recursive and not self._seen:
            error = ObjectNotFoundError(
                "there is no version of it",
                code="NoSuchKey",
                hint=f"Only a bucket with versioning keeps them: cos versioning get cos://{self._bucket}",
            )
            self._run.report.failure("undelete", "", self._target(self._url.key), error)
        else:
            self._run.state.out.talk(f"nothing to bring back at {self._target(self._url.key)}")

    async def _jobs(self) -> AsyncGenerator[CopyJob, None]:
        """Yield the copies; remove markers on the way."""
        from cosfs.client.model import ObjectInfo
        from cosfs.transfer.bulk import CopyJob

        async with aclosing(self._steps()) as steps:
            async for step in steps:
                if self._run.stopping:
                    return
                self._found += 1
                version = step.version
                version_id = version.version_id if version is not None else ""
                if self._options.dryrun:
                    self._run.report.would_change("undelete", self._target(step.key), version_id=version_id)
                elif version is None:
                    self._run.display.expect(0)
                    self._markers += step.markers
                    if len(self._markers) >= _BATCH:
                        await self._remove_markers()
                else:
                    self._run.display.expect(version.size)
                    info = ObjectInfo(version.key, version.size, version.etag, version.last_modified)
                    yield CopyJob(
                        self._bucket,
                        info,
                        self._bucket,
                        version.key,
                        source_version_id=version_id,
                        tag=version,
                    )

    def _target(self, key: str) -> str:
        return f"cos://{self._bucket}/{key}"

    def _copied(self, job: CopyJob, result: TransferResult | None, error: Exception | None) -> None:
        from cosfs.errors import COSError

        self._run.display.finish()
        if error is None:
            self._run.report.changed("undelete", self._target(job.key), version_id=job.source_version_id)
        elif isinstance(error, COSError):
            self._run.report.failure(
                "undelete", "", self._target(job.key), error, version_id=job.source_version_id
            )
        else:
            raise error

    async def _remove_markers(self) -> None:
        from cosfs.transfer.delete import delete_many

        markers, self._markers = self._markers, []
        left: dict[str, int] = {}
        for marker in markers:
            left[marker.key] = left.get(marker.key, 0) + 1

        def on_result(marker: ObjectId, failure: DeleteFailure | None) -> None:
            target = self._target(marker.key)
            left[marker.key] -= 1
            if failure is not None:
                error = failure.error(target)
                self._run.report.failure("undelete", "", target, error, version_id=marker.version_id)
            elif not left[marker.key]:
                self._run.display.finish()
                self._run.report.changed("undelete", target)

        if markers:
            await delete_many(self._run.engine, self._bucket, markers, on_result=on_result)

    async def _steps(self) -> AsyncGenerator[Step, None]:
        selection = self._options.chosen.below(self._url) if self._options.recursive else None
        cut = len(self._url.key)
        async with aclosing(self._histories()) as histories:
            async for versions in histories:
                self._seen = True
                step = choose(versions, self._options.before)
                if step is None:
                    continue
                old = step.version or next((v for v in versions if not v.is_delete_marker), None)
                if selection is None or (
                    old is not None and selection(old.key[cut:], old.size, old.last_modified)
                ):
                    yield step

    async def _histories(self) -> AsyncGenerator[list[ObjectVersion], None]:
        """Yield the versions of each key, the newest first."""
        from .objects import list_versions

        prefix = self._url.key
        current: list[ObjectVersion] = []
        async with aclosing(list_versions(self._run.engine, self._bucket, prefix)) as versions:
            async for version in versions:
                if not self._options.recursive and version.key != prefix:
                    if version.key > prefix:
                        break
                    continue
                if current and current[0].key != version.key:
                    yield current
                    current = []
                current.append(version)
        if current:
            yield current


def choose(versions: Iterable[ObjectVersion], before: float | None) -> Step | None:
    """Say what brings one object back, of its versions from the newest on; None if nothing is to be done.

    before None wants it as before its removal, else as it was at that time (Unix seconds).
    """
    from cosfs.client.model import ObjectId

    markers: list[ObjectId] = []
    newer = False  # a version that is no marker came after what is wanted
    for version in versions:
        late = before is not None and version.last_modified > before
        if version.is_delete_marker and (before is None or late):
            markers.append(ObjectId(version.key, version.version_id))
        elif late:
            newer = True
        elif version.is_delete_marker or version.is_latest:
            return None  # it was not there, or is what it was
        else:
            return Step(version.key, version=version) if newer else Step(version.key, markers)
    return None
