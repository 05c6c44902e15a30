"""What cp and mv do once their command line is understood: single transfers, trees, globs."""

from __future__ import annotations

import math
import os
import stat
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cosfs.client.url import CosUrl
from cosfs.errors import (
    AlreadyExistsError,
    ConfigError,
    COSError,
    ObjectNotFoundError,
    ServiceError,
    TransferError,
    UsageError,
)

from .places import (
    Glob,
    Local,
    Operation,
    Place,
    as_prefix,
    check_overlap,
    destination_key,
    destination_path,
    find_glob,
    name_of,
    operation,
)
from .running import Stdout

if TYPE_CHECKING:
    from cosfs.client.model import DeleteFailure, Headers, ObjectId, ObjectInfo
    from cosfs.transfer.bulk import CopyJob, DownloadJob, Job, UploadJob
    from cosfs.transfer.model import TransferResult
    from cosfs.transfer.paths import DestinationRoot

    from .filters import Filters
    from .headers import HeaderChoice
    from .progress import Item
    from .running import Run

Progress = Callable[[int], None]
Pair = tuple[Place, Place]


@dataclass(frozen=True, slots=True)
class Options:
    """The options of cp and mv."""

    recursive: bool
    dryrun: bool
    filters: Filters
    choice: HeaderChoice
    metadata_directive: str | None
    no_overwrite: bool
    key_policy: str
    no_glob: bool
    follow_symlinks: bool
    keep_dirs: bool
    part_size: int | None
    move: bool
    version_id: str = ""
    expected_size: int = 0

    def check(self, sources: Sequence[Place], destination: Place) -> list[Pair]:
        """Refuse what makes no sense, before any request; return what is to be copied where."""
        if self.filters and not self.recursive:
            raise UsageError("--include and --exclude need --recursive")
        if len(sources) > 1 and not _takes_many(destination):
            raise UsageError(
                f"{destination} cannot take several sources",
                hint="Write a / behind it to make it a directory",
            )
        for source in sources:
            operation(source, destination)
            self._check_source(source)
            self._check_stream(source, destination)
            if isinstance(source, CosUrl) and isinstance(destination, CosUrl):
                self.check_overlap(source, destination)
        if self.recursive and isinstance(destination, Local) and Path(destination.path).is_file():
            raise UsageError(f"{destination} is a file", hint="A recursive copy needs a directory")
        return [(source, destination) for source in sources]

    def check_overlap(self, source: CosUrl, destination: CosUrl) -> None:
        """Refuse to copy something onto or into itself, except to change what is stored beside it."""
        if not self.recursive:
            destination = replace(destination, key=destination_key(name_of(source), destination))
        changes = bool(self.choice.given or self.metadata_directive) and not self.move
        same = source.bucket == destination.bucket and (
            as_prefix(source.key) == as_prefix(destination.key)
            if self.recursive
            else source.key == destination.key
        )
        if not (same and changes):
            check_overlap(source, destination, recursive=self.recursive)

    def _check_source(self, source: Place) -> None:
        if isinstance(source, CosUrl):
            if not self.recursive and not source.key:
                raise UsageError(f"{source} is a bucket", hint="Add --recursive to copy what is in it")
            if self.version_id and self.recursive:
                raise UsageError("--version-id is for one object", hint="Leave out --recursive")
            return
        if source.is_stream:
            return
        try:
            mode = os.stat(source.path).st_mode  # noqa: PTH116 - Path would drop a trailing slash
        except OSError as error:
            raise UsageError(f"{source}: {(error.strerror or str(error)).lower()}") from None
        if stat.S_ISDIR(mode) and not self.recursive:
            raise UsageError(f"{source} is a directory", hint="Add --recursive to copy what is in it")
        if not stat.S_ISDIR(mode) and self.recursive:
            raise UsageError(f"{source} is not a directory", hint="Leave out --recursive to copy one file")

    def _check_stream(self, source: Place, destination: Place) -> None:
        streams = [place for place in (source, destination) if isinstance(place, Local) and place.is_stream]
        if streams and (self.recursive or self.move):
            raise UsageError("- is one stream", hint="Use cp without --recursive")
        if streams and streams[0] is source and isinstance(destination, CosUrl):
            if not destination.key or destination.key.endswith("/"):
                raise UsageError(f"{destination} is no name for what comes from standard input",
                                 hint=f"Write {str(destination).rstrip('/')}/NAME")  # fmt: skip


def _takes_many(destination: Place) -> bool:
    if isinstance(destination, CosUrl):
        return not destination.key or destination.key.endswith("/")
    return destination.path.endswith("/") or Path(destination.path).is_dir()


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


class Copier:
    """Runs one cp or mv."""

    def __init__(self, run: Run, options: Options) -> None:
        self._run = run
        self._options = options
        self._engine = run.engine
        self._client = run.engine.client
        self._report = run.report
        self._display = run.display

    async def copy(self, source: Place, destination: Place) -> None:
        """Copy one source as the command line names it."""
        self._op: Operation = operation(source, destination)
        self._label = "move" if self._options.move else self._op
        if isinstance(source, CosUrl):
            source = await self._resolved(source)
        if isinstance(destination, CosUrl):
            destination = await self._resolved(destination)
        if isinstance(source, CosUrl) and isinstance(destination, CosUrl):
            self._options.check_overlap(source, destination)
        if isinstance(source, Local) and isinstance(destination, CosUrl):
            await (self._upload_tree if self._options.recursive else self._upload)(source, destination)
        elif isinstance(source, CosUrl):
            if self._options.recursive:
                await self._fetch_tree(source, as_prefix(source.key), destination)
            else:
                await self._fetch(source, destination)

    async def _resolved(self, url: CosUrl) -> CosUrl:
        return replace(url, bucket=await self._engine.run(self._client.resolve_bucket, url.bucket))

    # --- one file or object

    async def _single(
        self,
        source: str,
        target: str,
        size: int,
        transfer: Callable[[Progress], Awaitable[TransferResult]],
        remove: Callable[[], Awaitable[None]],
    ) -> None:
        """Do, show and report one transfer."""
        if self._options.dryrun:
            self._report.would(self._label, source, target)
            return
        self._display.expect(size)
        started = time.monotonic()
        try:
            result = await transfer(self._display.advance)
            if self._options.move:
                await remove()
        except ConfigError:
            raise
        except (COSError, OSError) as error:
            self._failed(source, target, error)
        else:
            self._report.done(self._label, source, target, result, time.monotonic() - started)
        self._display.finish()

    def _failed(self, source: str, target: str, error: Exception) -> None:
        if self._options.no_overwrite and isinstance(error, AlreadyExistsError):
            self._report.left_out(self._label, source, target, "exists")
        else:
            self._report.failure(self._label, source, target, error)

    async def _upload(self, source: Local, destination: CosUrl) -> None:
        from cosfs.transfer.upload import upload_file

        key = destination_key(name_of(source), destination)
        target = str(CosUrl(destination.bucket, key))
        headers = self._options.choice.for_name(key if source.is_stream else source.path)
        if source.is_stream or not Path(source.path).is_file():
            transfer = partial(self._upload_stream, source, destination.bucket, key, headers)
            await self._single(source.path, target, self._options.expected_size, transfer, _nothing)
            return

        async def transfer_file(progress: Progress) -> TransferResult:
            return await upload_file(
                self._engine,
                source.path,
                destination.bucket,
                key,
                headers=headers,
                progress=progress,
                forbid_overwrite=self._options.no_overwrite,
                part_size=self._options.part_size or 0,
            )

        async def remove() -> None:
            Path(source.path).unlink()

        await self._single(source.path, target, Path(source.path).stat().st_size, transfer_file, remove)

    async def _upload_stream(
        self, source: Local, bucket: str, key: str, headers: Headers, progress: Progress
    ) -> TransferResult:
        import trio

        from cosfs.transfer.stream import upload_stream

        if source.is_stream:
            stream: Any = sys.stdin.buffer.raw if hasattr(sys.stdin.buffer, "raw") else sys.stdin.buffer
        else:
            # A FIFO nobody writes to: the thread that opens it can only be left behind.
            opening = partial(open, source.path, "rb", buffering=0)
            stream = await trio.to_thread.run_sync(opening, abandon_on_cancel=True)
        return await upload_stream(
            self._engine,
            stream,
            bucket,
            key,
            headers=headers,
            expected_size=self._options.expected_size,
            progress=progress,
            forbid_overwrite=self._options.no_overwrite,
        )

    async def _fetch(self, source: CosUrl, destination: Place) -> None:
        """Download or copy one object; a key that does not exist may be a pattern or a prefix."""
        head = partial(
            self._client.head_object, source.bucket, source.key, version_id=self._options.version_id
        )
        try:
            info = await self._engine.run(head)
        except ObjectNotFoundError as error:
            glob = None if self._options.no_glob or self._options.version_id else find_glob(source.key)
            if glob is not None:
                await self._fetch_glob(source, glob, destination)
                return
            self._report.failure(
                self._label, str(source), str(destination), await self._missing(source, error)
            )
            return
        except ConfigError:
            raise
        except COSError as error:
            self._report.failure(self._label, str(source), str(destination), error)
            return
        assert info is not None
        if isinstance(destination, CosUrl):
            await self._copy(source, info, destination)
        else:
            await self._download(source, info, destination)

    async def _missing(self, source: CosUrl, error: ObjectNotFoundError) -> COSError:
        """Say what a key that does not exist may have meant."""
        listing = partial(self._client.list_objects, source.bucket, prefix=as_prefix(source.key), max_keys=1)
        try:
            page = await self._engine.run(listing)
        except COSError as other:
            return other
        if not page.objects:
            return error
        hint = "It is a prefix; add --recursive to copy what is below it"
        return ObjectNotFoundError(
            error.message, status=error.status, code=error.code, target=error.target, hint=hint
        )

    async def _download(self, source: CosUrl, info: ObjectInfo, destination: Local) -> None:
        from cosfs.transfer.download import download_file, download_stream

        if destination.is_stream:
            stream = partial(
                download_stream, self._engine, source.bucket, source.key, Stdout(),
                info=info, version_id=self._options.version_id,
            )  # fmt: skip
            await self._single(
                str(source), "-", info.size, lambda progress: stream(progress=progress), _nothing
            )
            return
        try:
            path = self._local_name(source, destination)
        except TransferError as error:
            self._report.failure(self._label, str(source), str(destination), error)
            return
        if self._options.no_overwrite and os.path.lexists(path):
            self._report.left_out(self._label, str(source), path, "exists")
            return
        fetch = partial(
            download_file, self._engine, source.bucket, source.key, path,
            info=info, version_id=self._options.version_id, part_size=self._options.part_size or 0,
        )  # fmt: skip
        await self._single(
            str(source), path, info.size, lambda progress: fetch(progress=progress), self._remover(source)
        )

    def _local_name(self, source: CosUrl, destination: Local) -> str:
        """Return the path a single object goes to; its name must be one that a path can have."""
        from cosfs.transfer.paths import encode_key, key_problem

        path = destination_path("", destination.path)
        if not path.endswith("/"):
            return path
        name = source.key.rpartition("/")[2]
        if self._options.key_policy == "encode":
            name = encode_key(name)
        problem = key_problem(name)
        if problem:
            raise TransferError(
                f"the object cannot keep its name: {problem}", hint="Write the name of the file to make"
            )
        return path + name

    async def _copy(self, source: CosUrl, info: ObjectInfo, destination: CosUrl) -> None:
        from cosfs.transfer.copy import copy_object

        key = destination_key(name_of(source), destination)

        async def transfer(progress: Progress) -> TransferResult:
            return await copy_object(
                self._engine,
                source.bucket,
                source.key,
                destination.bucket,
                key,
                info=info,
                headers=self._copy_headers(info, key),
                storage_class=self._options.choice.headers.storage_class,
                source_version_id=self._options.version_id,
                forbid_overwrite=self._options.no_overwrite,
                progress=progress,
            )

        target = str(CosUrl(destination.bucket, key))
        await self._single(str(source), target, info.size, transfer, self._remover(source))

    def _copy_headers(self, info: ObjectInfo, key: str) -> Headers | None:
        """Return what a copy says about itself; None keeps all that the source says."""
        from cosfs.client.model import Headers

        choice = self._options.choice
        if self._options.metadata_directive == "REPLACE":
            return choice.for_name(key)
        if not choice.given - {"storage_class"}:
            return None
        # Only what is named changes: losing the rest of the metadata is not what anybody asked for.
        base, new = info.headers or Headers(), choice.headers
        changed = {
            name: getattr(new, name)
            for name in Headers.__dataclass_fields__
            if name not in ("metadata", "extra") and getattr(new, name)
        }
        return replace(
            base, **changed, metadata={**base.metadata, **new.metadata}, extra={**base.extra, **new.extra}
        )

    def _remover(self, source: CosUrl) -> Callable[[], Awaitable[None]]:
        delete = partial(
            self._client.delete_object, source.bucket, source.key, version_id=self._options.version_id
        )

        async def remove() -> None:
            await self._engine.run(delete)

        return remove

    # --- trees

    async def _transfer(self, jobs: AsyncIterator[Job], remover: Remover | None) -> int:
        """Run the jobs of a tree; return how many there were."""
        from cosfs.transfer.bulk import transfer_many
        from cosfs.transfer.engine import open_nursery

        count = 0

        async def counted() -> AsyncIterator[Job]:
            nonlocal count
            async for job in jobs:
                if self._run.stopping:
                    return
                count += 1
                task: Task = job.tag
                if self._options.dryrun:
                    self._report.would(self._label, task.source, task.target)
                    continue
                self._display.expect(task.size)
                yield job
            self._display.complete = True

        def on_start(job: Job) -> None:
            job.tag.started = time.monotonic()
            self._display.begin(job.tag.item)

        def on_result(job: Job, result: TransferResult | None, error: Exception | None) -> None:
            task: Task = job.tag
            self._display.finish(task.item)
            if error is not None:
                if isinstance(error, ConfigError) or not isinstance(error, COSError | OSError):
                    raise error
                self._failed(task.source, task.target, error)
                return
            assert result is not None
            seconds = time.monotonic() - task.started
            done = partial(self._report.done, self._label, task.source, task.target, result, seconds)
            if remover is None:
                done()
            else:
                remover.add(task, done)

        async with open_nursery() as nursery:
            if remover is not None:
                nursery.start_soon(remover.run)
            await transfer_many(
                self._engine,
                counted(),
                on_result=on_result,
                on_start=on_start,
                progress=self._display.advance,
            )
            if remover is not None:
                remover.close()
        return count

    def _task(self, source: str, target: str, size: int, remove: str | ObjectId) -> Task:
        return Task(source, target, size, remove, self._display.item(source, size))

    def _tree_remover(self, bucket: str | None) -> Remover | None:
        if not self._options.move or self._options.dryrun:
            return None
        return Remover(self._run, bucket, self._label)

    async def _upload_tree(self, source: Local, destination: CosUrl) -> None:
        jobs = self._upload_jobs(source, destination.bucket, as_prefix(destination.key))
        self._warn_if_none(await self._transfer(jobs, self._tree_remover(None)), source)

    async def _upload_jobs(self, source: Local, bucket: str, prefix: str) -> AsyncIterator[UploadJob]:
        from cosfs.transfer.bulk import UploadJob
        from cosfs.transfer.scan import LocalEntry, walk

        entries = walk(
            source.path,
            on_warning=lambda path, reason: self._report.skip(self._label, path, "unreadable", reason),
            keep=self._wanted,
            symlinks="follow" if self._options.follow_symlinks else "skip",
            directories=self._options.keep_dirs,
            encoded_names=self._options.key_policy == "encode",
        )
        empty: LocalEntry | None = None
        async for entry in entries:
            if empty is not None and not entry.relative.startswith(empty.relative):
                await self._make_marker(empty, bucket, prefix)
            empty = entry if entry.is_directory else None
            if entry.is_directory:
                continue
            key = prefix + entry.relative
            task = self._task(entry.path, str(CosUrl(bucket, key)), entry.size, entry.path)
            yield UploadJob(
                entry.path,
                entry.size,
                bucket,
                key,
                self._options.choice.for_name(key),
                self._options.no_overwrite,
                task,
                task.progress,
            )
        if empty is not None:
            await self._make_marker(empty, bucket, prefix)

    def _wanted(self, relative: str) -> bool:
        filters = self._options.filters
        return not filters.prunes(relative) if relative.endswith("/") else filters(relative)

    async def _make_marker(self, entry: Any, bucket: str, prefix: str) -> None:
        """Upload an empty directory as an object whose key ends in /."""
        from cosfs.transfer.model import TransferResult

        key = prefix + entry.relative

        async def put(progress: Progress) -> TransferResult:
            stored = await self._engine.run(self._client.put_object, bucket, key, b"")
            return TransferResult(0, stored.etag, stored.crc64, stored.version_id)

        await self._single(entry.path, str(CosUrl(bucket, key)), 0, put, _nothing)

    async def _fetch_tree(self, source: CosUrl, prefix: str, destination: Place) -> None:
        infos = self._listed(source.bucket, prefix, prefix)
        self._warn_if_none(await self._fetch_all(source.bucket, prefix, infos, destination), source)

    async def _fetch_glob(self, source: CosUrl, glob: Glob, destination: Place) -> None:
        infos = self._listed(source.bucket, glob.prefix, glob.base, glob)
        if not await self._fetch_all(source.bucket, glob.base, infos, destination):
            error = TransferError("no object has this key or matches it as a pattern")
            self._report.failure(self._label, str(source), str(destination), error)

    async def _fetch_all(
        self, bucket: str, base: str, infos: AsyncIterator[ObjectInfo], destination: Place
    ) -> int:
        remover = self._tree_remover(bucket)
        if isinstance(destination, CosUrl):
            jobs = self._copy_jobs(bucket, base, infos, destination.bucket, as_prefix(destination.key))
            return await self._transfer(jobs, remover)
        if destination.is_stream:
            raise UsageError("several objects cannot go to standard output", hint="Use cos cat")
        from cosfs.transfer.paths import DestinationRoot

        if self._options.dryrun:
            return await self._transfer(self._download_jobs(bucket, base, infos, destination, None), remover)
        with DestinationRoot(destination.path) as root:
            return await self._transfer(self._download_jobs(bucket, base, infos, destination, root), remover)

    async def _listed(
        self, bucket: str, prefix: str, base: str, glob: Glob | None = None
    ) -> AsyncIterator[ObjectInfo]:
        """List what the filters or the pattern take; whole directories that they leave out are not listed."""
        from cosfs.client.model import ObjectInfo
        from cosfs.transfer.scan import list_objects

        filters = self._options.filters
        async with list_objects(self._engine, bucket, prefix) as listing:
            async for info in listing:
                assert isinstance(info, ObjectInfo)
                relative = info.key[len(base) :]
                if glob.matches(info.key) if glob is not None else filters(relative):
                    yield info
                elif glob is None and "/" in relative:
                    directory = relative[: relative.rfind("/") + 1]
                    if filters.prunes(directory):
                        listing.skip(base + directory)

    async def _copy_jobs(
        self, bucket: str, base: str, infos: AsyncIterator[ObjectInfo], to_bucket: str, prefix: str
    ) -> AsyncIterator[CopyJob]:
        from cosfs.client.model import ObjectId
        from cosfs.transfer.bulk import CopyJob

        needs_headers = bool(self._options.choice.given - {"storage_class"})
        if needs_headers and self._options.metadata_directive != "REPLACE":
            infos = self._with_headers(bucket, infos)
        async for info in infos:
            key = prefix + info.key[len(base) :]
            source, target = str(CosUrl(bucket, info.key)), str(CosUrl(to_bucket, key))
            task = self._task(source, target, info.size, ObjectId(info.key))
            yield CopyJob(
                bucket,
                info,
                to_bucket,
                key,
                self._copy_headers(info, key),
                self._options.choice.headers.storage_class,
                self._options.no_overwrite,
                task,
                task.progress,
            )

    async def _with_headers(self, bucket: str, infos: AsyncIterator[ObjectInfo]) -> AsyncIterator[ObjectInfo]:
        """Ask for what a listing does not say, many objects at a time."""
        batch: list[ObjectInfo] = []
        async for info in infos:
            batch.append(info)
            if len(batch) >= 4 * self._engine.limit:
                for each in await self._heads(bucket, batch):
                    yield each
                batch = []
        for each in await self._heads(bucket, batch):
            yield each

    async def _heads(self, bucket: str, infos: list[ObjectInfo]) -> list[ObjectInfo]:
        found: dict[str, ObjectInfo] = {}

        def keep(info: ObjectInfo, head: ObjectInfo | None, error: Exception | None) -> None:
            if isinstance(error, ObjectNotFoundError):
                return  # it went away since it was listed
            if error is not None:
                raise error
            assert head is not None
            found[info.key] = head

        def head(info: ObjectInfo) -> ObjectInfo | None:
            return self._client.head_object(bucket, info.key)

        await self._engine.run_many(head, infos, keep)
        return [found[info.key] for info in infos if info.key in found]

    async def _download_jobs(
        self,
        bucket: str,
        base: str,
        infos: AsyncIterator[ObjectInfo],
        destination: Local,
        root: DestinationRoot | None,
    ) -> AsyncIterator[DownloadJob]:
        """Plan downloads; root is None for a dry run."""
        from cosfs.client.model import ObjectId
        from cosfs.transfer.bulk import DownloadJob
        from cosfs.transfer.paths import Collisions, LocalTarget

        collisions = Collisions()
        async for info in infos:
            source = str(CosUrl(bucket, info.key))
            relative = self._path_for(source, info, base)
            if relative is None:
                continue
            in_the_way = collisions.add(relative)
            if in_the_way:
                error = TransferError(f"{in_the_way!r} is a file here, so nothing can be below it")
                self._report.failure(self._label, source, f"{destination.path.rstrip('/')}/{relative}", error)
                continue
            if relative.endswith("/"):
                await self._make_directory(source, relative, root, bucket, info)
                continue
            target = (
                LocalTarget(f"{destination.path.rstrip('/')}/{relative}")
                if root is None
                else root.target(relative)
            )
            if self._options.no_overwrite and os.path.lexists(target.path):
                self._report.left_out(self._label, source, target.path, "exists")
                continue
            task = self._task(source, target.path, info.size, ObjectId(info.key))
            yield DownloadJob(bucket, info, target, tag=task, progress=task.progress)

    def _path_for(self, source: str, info: ObjectInfo, base: str) -> str | None:
        """Return the path below the destination for a key; None if there is none, which is reported."""
        from cosfs.transfer.paths import encode_key, key_problem

        relative = info.key[len(base) :]
        if not relative and info.size == 0:
            return None  # the marker of the source directory itself
        policy = self._options.key_policy
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
            self._report.failure(self._label, source, "", TransferError(text))
        else:
            self._report.skip(self._label, source, "key-policy", text)
        return None

    async def _make_directory(
        self, source: str, relative: str, root: DestinationRoot | None, bucket: str, info: ObjectInfo
    ) -> None:
        """Make the directory an object stands for; mv removes the object."""
        if root is None:
            return
        try:
            root.make_directory(relative)
            if self._options.move:
                await self._engine.run(self._client.delete_object, bucket, info.key)
        except (COSError, OSError) as error:
            self._report.failure(self._label, source, f"{root.path}/{relative}", error)

    def _warn_if_none(self, count: int, source: Place) -> None:
        if count or self._report.failed or self._report.skipped or self._run.stopping:
            return
        hint = ""
        if isinstance(source, CosUrl) and source.key and not source.key.endswith("/"):
            parent, name = source.key.rpartition("/")[0], name_of(source)
            above = CosUrl(source.bucket, f"{parent}/" if parent else "")
            hint = f"; keys that begin with {name!r} are copied from {above} with --include '{name}*'"
        place = f"{source}/" if isinstance(source, CosUrl) and hint else str(source)
        self._run.state.out.warn(f"nothing to copy below {place}{hint}")


async def _nothing() -> None:
    """Remove nothing: the source is a stream."""


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
