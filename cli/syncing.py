"""One sync as the command line does it: jobs out of the plan, results into the report."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, aclosing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from cosfs.client.url import CosUrl
from cosfs.errors import TransferError
from cosfs.transfer.obstacles import Obstacles

from .jobs import JobMaker
from .objects import closing
from .output import printable
from .places import Local, Place, as_prefix, parse_place
from .watching import Watching

if TYPE_CHECKING:
    from cosfs.client.model import ObjectInfo
    from cosfs.transfer.bulk import Job
    from cosfs.transfer.model import TransferResult
    from cosfs.transfer.paths import DestinationRoot
    from cosfs.transfer.plan import Transfer
    from cosfs.transfer.scan import LocalEntry
    from cosfs.transfer.sides import BucketSide, Entry, Problem, Selector, TreeSide
    from cosfs.transfer.sync import Sync

    from .case import CaseNames
    from .sync_options import Options


class SyncCopy(JobMaker):
    """Makes and runs the jobs of a sync, and hears of what it leaves out."""

    options: Options
    _names: CaseNames | None

    async def sync(self, source: Place, destination: Place) -> None:
        """Make destination like source."""
        self._from, self._to = self.source_side(source), self.destination_side(destination)
        with ExitStack() as stack:
            self._stack = stack
            self._root: DestinationRoot | None = None
            selector = self.options.chosen.below(source, destination)
            if self.options.watch:
                await Watching(self, cast("Local", source).path, selector).run()
                return
            found = await self.run_once(selector)
            empty = not found or (self._sync.plan.sources == 0 and not self.options.allow_empty_source)
            if empty and not self.run.stopping and not self.report.failed:
                self.run.state.out.warn(f"nothing to sync below {source}")

    async def run_once(self, selector: Selector, *, part_of: int = 0) -> int:
        """Sync what the selector takes; return how much there was at both sides.

        part_of: how much the destination holds, if this is only a part of it.
        """
        self._names_known, self._names = False, None
        sync = self._sync = self._make_sync(selector, is_part=bool(part_of))
        failed_before = self.report.failed
        try:
            async with sync.transfers() as found:
                await self.transfer(self._jobs(found))
            if self.run.stopping:
                return 0
            if self.options.delete or self.options.delete_excluded:
                await self._delete(sync, failed_before, part_of)
            await self.transfer(self._jobs(self._unblocked(sync)))
        finally:
            sync.close()
        return max(sync.plan.sources, sync.plan.destinations)

    # --- the two sides

    def source_side(self, place: Place) -> TreeSide:
        """Return what the source is to the library."""
        from cosfs.transfer.sides import LocalSide

        if isinstance(place, CosUrl):
            transfer = self.options.transfer
            keys = transfer.source_key_headers if self.operation == "copy" else transfer.key_headers
            return self._bucket_side(place, keys)
        return LocalSide(
            place.path,
            symlinks=self.options.symlinks,
            links=self.options.preserve_symlinks,
            directories=self.options.keep_dirs,
            one_filesystem=self.options.one_file_system,
            encoded_names=self.options.key_policy == "encode",
        )

    def destination_side(self, place: Place) -> TreeSide:
        """Return what the destination is to the library."""
        from cosfs.transfer.sides import LocalSide

        if isinstance(place, CosUrl):
            return self._bucket_side(place, self.options.transfer.key_headers)
        # Links are not followed where things are written and deleted.
        return LocalSide(
            place.path,
            symlinks="keep",
            links=self.options.preserve_symlinks,
            directories=self.options.keep_dirs,
            encoded_names=self.options.key_policy == "encode",
        )

    def _bucket_side(self, place: CosUrl, headers: Mapping[str, str]) -> BucketSide:
        from cosfs.transfer.sides import BucketSide

        prefix, size = as_prefix(place.key), self.options.page_size
        return BucketSide(self.engine, place.bucket, prefix, page_size=size, headers=headers)

    def _make_sync(self, selector: Selector, *, is_part: bool) -> Sync:
        from cosfs.transfer.backup import Backup
        from cosfs.transfer.snapshot import Snapshot
        from cosfs.transfer.sync import Sync

        options = self.options
        backup = snapshot = None
        if options.backup_dir is not None and not options.dryrun:
            place = self.destination_side(parse_place(options.backup_dir))
            backup = Backup(self.engine, self._to, place)
        if options.snapshot is not None:
            pair = _full_name(self._from), _full_name(self._to)
            snapshot = Snapshot(options.snapshot, pair, read_only=options.dryrun)
        plan = replace(options.plan, selector=selector)
        if is_part and _has_entries(str(self._from)):
            # That a part of the source is empty means nothing as long as the whole is not.
            plan = replace(plan, allow_empty_source=True)
        return Sync(self.engine, self._from, self._to, plan, self, snapshot=snapshot, backup=backup)

    # --- transfers

    async def _jobs(self, transfers: AsyncIterator[Transfer]) -> AsyncIterator[Job]:
        if self.operation != "upload":
            transfers = self._readable(transfers)
        async with closing(transfers):
            async for transfer in transfers:
                job = await self._job(transfer)
                if job is not None:
                    job.tag.origin = transfer
                    yield job

    async def _job(self, transfer: Transfer) -> Job | None:
        """Return the job of a transfer; None for what is done by then (directories)."""
        from cosfs.transfer.sides import BucketSide

        source = transfer.source
        if self.operation == "download":
            return await self._download(transfer)
        to = self._to
        assert isinstance(to, BucketSide)
        if source.is_directory:
            await self.make_marker(cast("LocalEntry", source.item), to.bucket, to.prefix)
            return None
        key = to.prefix + source.relative
        if transfer.copy_from is not None:
            return self._rename(transfer, to, key)
        if self.operation == "upload":
            return self.upload_job(cast("LocalEntry", source.item), to.bucket, key)
        assert isinstance(self._from, BucketSide)
        return self.copy_job(self._from.bucket, cast("ObjectInfo", source.item), to.bucket, key)

    async def _download(self, transfer: Transfer) -> Job | None:
        from cosfs.transfer.paths import LocalTarget, split_key
        from cosfs.transfer.sides import BucketSide

        side = self._from
        assert isinstance(side, BucketSide)
        info = cast("ObjectInfo", transfer.source.item)
        if self.options.dryrun:
            target = LocalTarget(self._to.name(transfer.path), None, split_key(transfer.path))
            if not transfer.path.endswith("/"):
                return self.download_job(side.bucket, info, target)
            if (error := self.obstacles.to_directory(target)) is not None:
                self.report.failure(self.label, side.name(transfer.relative), target.path, error)
            return None
        root = self._open_root()
        if transfer.path.endswith("/"):
            await self.make_directory(side.name(transfer.relative), transfer.path, root, side.bucket, info)
            return None
        return self.download_job(side.bucket, info, root.target(transfer.path))

    def _open_root(self) -> DestinationRoot:
        from cosfs.transfer.paths import DestinationRoot

        # When the first object is there: a mistyped prefix shall not leave a directory behind.
        if self._root is None:
            self._root = self._stack.enter_context(DestinationRoot(str(self._to)))
        return self._root

    def _rename(self, transfer: Transfer, to: TreeSide, key: str) -> Job:
        """Return the job that copies what the destination has under another name."""
        from cosfs.client.model import ObjectInfo
        from cosfs.transfer.bulk import CopyJob, UploadJob
        from cosfs.transfer.sides import BucketSide

        assert isinstance(to, BucketSide) and transfer.copy_from is not None
        found = cast("ObjectInfo", transfer.copy_from.item)
        copy = self.copy_job(to.bucket, found, to.bucket, key)
        copy.tag.label = "copy"
        if isinstance(transfer.source.item, ObjectInfo):
            return copy
        # It shall be what an upload would have made, not carry on what the old name suggested.
        upload = self.upload_job(transfer.source.item, to.bucket, key)
        assert isinstance(copy, CopyJob) and isinstance(upload, UploadJob)
        return replace(copy, headers=upload.headers)

    async def _readable(self, transfers: AsyncIterator[Transfer]) -> AsyncIterator[Transfer]:
        """Leave out what is archived, and ask for what copies must say and a listing does not show."""
        from cosfs.transfer.sides import BucketSide

        assert isinstance(self._from, BucketSide)
        waiting: dict[str, Transfer] = {}

        async def infos() -> AsyncIterator[ObjectInfo]:
            async for transfer in transfers:
                info = cast("ObjectInfo", transfer.source.item)
                waiting[info.key] = transfer
                yield info

        bucket = self._from.bucket
        found = self.readable(bucket, infos())
        if self.operation == "copy":
            found = self.prepared(bucket, found)
        async with aclosing(found):
            async for info in found:
                transfer = waiting.pop(info.key)
                yield transfer._replace(source=transfer.source._replace(item=info))

    def completed(self, job: Job, result: TransferResult) -> None:
        """Let the snapshot know what both ends look like now."""
        if self.options.snapshot is None:
            return
        transfer: Transfer = job.tag.origin
        source, destination = transfer.source, self._written(transfer, result)
        if destination is not None and result.size == source.facts.size:
            self._sync.transferred(transfer, source, destination)

    def _written(self, transfer: Transfer, result: TransferResult) -> Entry | None:
        """Return what a transfer has made of its destination; None if that cannot be told."""
        from cosfs.client.model import ObjectInfo
        from cosfs.transfer.compare import object_side
        from cosfs.transfer.scan import stat_entry
        from cosfs.transfer.sides import Entry

        source = transfer.source
        if self.operation != "download":
            info = ObjectInfo("", result.size, result.etag, result.last_modified)
            return Entry(source.relative, object_side(info), info)
        if result.etag != source.facts.etag:
            return None
        try:
            item = stat_entry(self._to.name(transfer.path), source.relative)
        except OSError:
            return None
        return Entry(source.relative, source.facts, item)

    # --- deletions

    async def _delete(self, sync: Sync, failed_before: int, total: int) -> None:
        refusal = sync.refusal(failed=self.report.failed - failed_before, total=total)
        if refusal is not None:
            self.report.fail(refusal)
            return
        if self.options.dryrun:
            for extra in sync.plan.extras:
                self.report.would_delete(self._to.name(extra.entry.relative))
            self.obstacles = Obstacles(_gone(sync))
            return

        def on_result(entry: Entry, error: Exception | None) -> None:
            name = self._to.name(entry.relative)
            self.display.finish()
            if error is None:
                self.report.deleted(name)
            else:
                self.report.failure("delete", "", name, error)

        for _ in range(sync.plan.extras.count):
            self.display.expect(0)
        await sync.delete(on_result)
        if self._root is not None:
            self._root.forget()  # some of its directories may be gone

    async def _unblocked(self, sync: Sync) -> AsyncIterator[Transfer]:
        """Give the downloads whose place was taken, if it is free by now."""
        for transfer in sync.postponed():
            path = self._to.name(transfer.path)
            free = self.obstacles.is_free(path) if self.options.dryrun else _is_free(path)
            if free:
                yield transfer
            else:
                self.blocked(transfer.source, transfer.path, "there is a directory of this name")

    # --- what the plan tells

    def left(self, source: Entry, destination: Entry | None, reason: str) -> None:
        """Count what is the same; say why something else is left alone."""
        if reason == "same":
            self.report.unchanged += 1
        else:
            target = self._to.name(source.relative)
            self.report.left_out(self.label, self._from.name(source.relative), target, reason)

    def problem(self, problem: Problem, *, at_source: bool) -> None:
        """Report what cannot be read; at the destination it is no item of ours."""
        if at_source and problem.clash:
            target = self._to.name(problem.relative)
            self.report.failure(self.label, problem.path, target, TransferError(problem.reason))
        elif at_source:
            self.report.skip(self.label, problem.path, "unreadable", problem.reason)
        else:
            text = f"{printable(problem.path)} at the destination: {problem.reason}"
            self.run.state.out.warn(text)

    def missing(self, name: str) -> None:
        """Report a name of --files-from that the source does not have."""
        error = TransferError("is listed, but the source does not have it")
        self.report.failure(self.label, self._from.name(name), "", error)

    def unusable(self, source: Entry, reason: str) -> None:
        """Report an object that no local file can have the name of."""
        self.unnamed(self._from.name(source.relative), reason)

    def accepts(self, source: Entry, path: str) -> bool:
        """Whether a name does not differ from an earlier one in case alone, or that is no matter."""
        if not self._names_known:
            self._names_known, self._names = True, self.case_names(_existing(str(self._to)))
        if self._names is None or not self._names.add(path):
            return True
        return self.takes_twin(self._from.name(source.relative), self._to.name(path))

    def blocked(self, source: Entry, path: str, reason: str) -> None:
        """Report a file that cannot be where something else is."""
        name, target = self._from.name(source.relative), self._to.name(path)
        self.report.failure(self.label, name, target, TransferError(reason))

    def could_not(self, transfer: Transfer, error: Exception) -> None:
        """Report a transfer that was not begun."""
        source, target = self._from.name(transfer.relative), self._to.name(transfer.relative)
        self.report.failure(self.label, source, target, error)


def _gone(sync: Sync) -> set[str]:
    """Return the paths of what would be deleted to make room for downloads."""
    postponed = [transfer.path.rstrip("/") for transfer in sync.postponed()]
    places = set(postponed)
    above = {place for path in postponed for place in _directories(path)}
    root, found = len(sync.destination.name("")), set()
    for extra in sync.plan.extras if postponed else ():
        item = cast("LocalEntry", extra.entry.item)
        path = item.path[root:].rstrip("/")
        if path in places or path in above or not places.isdisjoint(_directories(path)):
            found.add(item.path.rstrip("/"))
    return found


def _directories(path: str) -> Iterator[str]:
    """Yield the names of the directories above a file."""
    position = path.find("/")
    while position >= 0:
        yield path[:position]
        position = path.find("/", position + 1)


def _has_entries(path: str) -> bool:
    """Whether there is anything in a directory."""
    try:
        with os.scandir(path) as found:
            return any(True for _ in found)
    except OSError:
        return False


def _existing(path: str) -> str:
    """Return the nearest directory at or above path that is there."""
    found = Path(path).absolute()
    while not found.is_dir() and found != found.parent:
        found = found.parent
    return str(found)


def _is_free(path: str) -> bool:
    """Whether a file can be made at path; an empty directory there is removed."""
    if path.endswith("/") or not Path(path).is_dir():
        return True
    try:
        Path(path).rmdir()
    except OSError:
        return False
    return True


def _full_name(side: TreeSide) -> str:
    """Name a side the same way wherever the command was started."""
    return str(side) if side.is_bucket else str(Path(str(side)).resolve())
