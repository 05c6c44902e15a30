"""Everything below a directory or a prefix, or what a pattern matches: many transfers at once."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack, aclosing
from pathlib import Path
from typing import TYPE_CHECKING

from cosfs.client.url import CosUrl
from cosfs.errors import TransferError, UsageError

from .copying import exists
from .jobs import JobMaker, Remover
from .objects import selected
from .places import Glob, Local, Place, as_prefix, name_of

if TYPE_CHECKING:
    from cosfs.client.model import ObjectInfo
    from cosfs.transfer.bulk import CopyJob, DownloadJob, UploadJob
    from cosfs.transfer.paths import Collisions, DestinationRoot, LocalTarget
    from cosfs.transfer.scan import LocalEntry

    from .case import CaseNames
    from .filters import Selection


class TreeCopy(JobMaker):
    """Copies what lies below one place to below another."""

    def _tree_remover(self, bucket: str | None) -> Remover | None:
        is_needed = self.options.move and not self.options.dryrun
        self.remover = Remover(self.run, bucket, self.label) if is_needed else None
        return self.remover

    async def upload(self, source: Local, destination: CosUrl) -> None:
        """Upload what lies below a directory."""
        jobs = self._upload_jobs(source, destination.bucket, as_prefix(destination.key))
        self._warn_if_none(await self.transfer(jobs, self._tree_remover(None)), source)

    async def _upload_jobs(self, source: Local, bucket: str, prefix: str) -> AsyncGenerator[UploadJob, None]:
        entries = self._files(source, bucket, prefix)
        if self.options.skips_existing:
            entries = self._changed_files(entries, bucket, prefix)
        async with aclosing(entries):
            async for entry in entries:
                yield self.upload_job(entry, bucket, prefix + entry.relative)

    async def _files(self, source: Local, bucket: str, prefix: str) -> AsyncGenerator[LocalEntry, None]:
        """Find the files to upload; the markers of empty directories are made on the way."""
        from cosfs.transfer.scan import walk

        selection = self.options.chosen.below(source)
        self._report_missing(source, selection)
        entries = walk(
            source.path,
            on_warning=lambda path, reason: self.report.skip(self.label, path, "unreadable", reason),
            on_clash=lambda path, reason: self.report.failure(self.label, path, "", TransferError(reason)),
            keep=selection.keeps,
            symlinks=self.options.symlinks,
            directories=self.options.keep_dirs,
            one_filesystem=self.options.one_file_system,
            encoded_names=self.options.key_policy == "encode",
        )
        empty: LocalEntry | None = None
        async for entry in entries:
            if empty is not None and not entry.relative.startswith(empty.relative):
                await self.make_marker(empty, bucket, prefix)
            empty = entry if entry.is_directory else None
            if entry.is_directory or (entry.reads_as_directory and not selection.takes_name(entry.relative)):
                continue
            if selection.takes_state(entry.size, entry.mtime_ns / 1e9):
                yield entry
        if empty is not None:
            await self.make_marker(empty, bucket, prefix)

    async def _changed_files(
        self, entries: AsyncGenerator[LocalEntry, None], bucket: str, prefix: str
    ) -> AsyncGenerator[LocalEntry, None]:
        """Leave out the files that the destination has already, as the options see it."""
        from cosfs.transfer.compare import Side
        from cosfs.transfer.contents import FileContent

        from .existing import Candidate, Existing, needed, object_sides

        existing = Existing(self.engine, bucket, prefix)
        keys = self.options.transfer.key_headers

        async def candidates() -> AsyncGenerator[Candidate, None]:
            async with aclosing(entries):
                async for entry in entries:
                    key = prefix + entry.relative
                    facts, content = Side(entry.size, entry.mtime_ns), FileContent(entry.path)
                    found = object_sides(bucket, await existing.find(key), keys)
                    yield Candidate(entry, entry.path, str(CosUrl(bucket, key)), facts, content, *found)

        async def move(candidate: Candidate) -> None:
            await self.move_same(candidate, candidate.source)

        async with aclosing(needed(self, self.options.rules, candidates(), move)) as left:
            async for candidate in left:
                yield candidate.item

    def _report_missing(self, source: Local, selection: Selection) -> None:
        """Report the files that a list names and that are not there; the walk would pass over them."""
        for name in selection.names or ():
            path = f"{source.path.rstrip('/')}/{name}"
            if selection.filters(name) and (not exists(path) or Path(path).is_dir()):
                problem = "is a directory; list the files in it" if exists(path) else "no such file"
                self.report.failure(self.label, path, "", TransferError(problem))

    async def fetch(self, source: CosUrl, destination: Place) -> None:
        """Download or copy what lies below a prefix."""
        prefix = as_prefix(source.key)
        selection = self.options.chosen.below(source, destination)
        transfer = self.options.transfer
        infos = selected(
            self.engine,
            source.bucket,
            prefix,
            selection,
            self.unseen(source.bucket),
            page_size=self.options.page_size,
            headers=transfer.source_key_headers if isinstance(destination, CosUrl) else transfer.key_headers,
        )
        count = await self._fetch_all(
            source.bucket, prefix, infos, destination, lambda key: key.startswith(prefix)
        )
        self._warn_if_none(count, source)

    async def fetch_glob(self, source: CosUrl, glob: Glob, destination: Place) -> None:
        """Download or copy the objects whose keys match a pattern."""
        infos = self._matching(source.bucket, glob, self.options.chosen.below(source, destination))
        before = self._told()
        count = await self._fetch_all(source.bucket, glob.base, infos, destination, glob.matches)
        if not count and self._told() == before:
            error = TransferError("no object has this key or matches it as a pattern")
            self.report.failure(self.label, str(source), str(destination), error)

    async def _fetch_all(
        self,
        bucket: str,
        base: str,
        infos: AsyncGenerator[ObjectInfo, None],
        destination: Place,
        is_source: Callable[[str], object],
    ) -> int:
        remover = self._tree_remover(bucket)
        infos = self.readable(bucket, infos)
        if isinstance(destination, CosUrl):
            if destination.bucket == bucket:
                infos = self._apart(bucket, base, infos, as_prefix(destination.key), is_source)
            copies = self._copy_jobs(bucket, base, infos, destination.bucket, as_prefix(destination.key))
            return await self.transfer(copies, remover)
        if destination.is_stream:
            raise UsageError("several objects cannot go to standard output", hint="Use cos cat")
        from cosfs.transfer.paths import DestinationRoot

        with ExitStack() as stack:

            def open_root() -> DestinationRoot:
                # When the first object is there: a mistyped prefix shall not leave a directory behind.
                return stack.enter_context(DestinationRoot(destination.path))

            jobs = self._download_jobs(bucket, base, infos, destination, open_root)
            return await self.transfer(jobs, remover)

    async def _matching(
        self, bucket: str, glob: Glob, selection: Selection
    ) -> AsyncGenerator[ObjectInfo, None]:
        """List the objects whose keys match a pattern."""
        from cosfs.client.model import ObjectInfo
        from cosfs.transfer.scan import list_objects

        async with list_objects(self.engine, bucket, glob.prefix) as listing:
            async for info in listing:
                assert isinstance(info, ObjectInfo)
                relative = info.key[len(glob.base) :]
                if glob.matches(info.key) and selection(relative, info.size, info.last_modified):
                    yield info

    async def _apart(
        self,
        bucket: str,
        base: str,
        infos: AsyncGenerator[ObjectInfo, None],
        prefix: str,
        is_source: Callable[[str], object],
    ) -> AsyncGenerator[ObjectInfo, None]:
        """Leave out, as failures, the objects whose copies would be sources themselves.

        A copy could replace one that is still to be copied, be copied again, or be removed by mv.
        """
        async with aclosing(infos):
            async for info in infos:
                key = prefix + info.key[len(base) :]
                if is_source(key) and not (self.in_place and key == info.key):
                    error = TransferError(
                        "its copy would be among what is copied", hint="Copy to a place outside of the source"
                    )
                    names = str(CosUrl(bucket, info.key)), str(CosUrl(bucket, key))
                    self.report.failure(self.label, *names, error)
                else:
                    yield info

    async def _copy_jobs(
        self, bucket: str, base: str, infos: AsyncGenerator[ObjectInfo, None], to_bucket: str, prefix: str
    ) -> AsyncGenerator[CopyJob, None]:
        if self.options.skips_existing:
            infos = self._changed_objects(bucket, base, infos, to_bucket, prefix)
        async with aclosing(self.prepared(bucket, infos)) as ready:
            async for info in ready:
                yield self.copy_job(bucket, info, to_bucket, prefix + info.key[len(base) :])

    async def _changed_objects(
        self, bucket: str, base: str, infos: AsyncGenerator[ObjectInfo, None], to_bucket: str, prefix: str
    ) -> AsyncGenerator[ObjectInfo, None]:
        """Leave out the objects that the destination has already, as the options see it."""
        from cosfs.client.model import ObjectId
        from cosfs.transfer.compare import object_side
        from cosfs.transfer.contents import ObjectContent

        from .existing import Candidate, Existing, needed, object_sides

        existing = Existing(self.engine, to_bucket, prefix)
        transfer = self.options.transfer
        keys, source_keys = transfer.key_headers, transfer.source_key_headers

        async def candidates() -> AsyncGenerator[Candidate, None]:
            async with aclosing(infos):
                async for info in infos:
                    key = prefix + info.key[len(base) :]
                    source, target = str(CosUrl(bucket, info.key)), str(CosUrl(to_bucket, key))
                    facts, content = object_side(info), ObjectContent(bucket, info, source_keys)
                    found = object_sides(to_bucket, await existing.find(key), keys)
                    yield Candidate(info, source, target, facts, content, *found)

        async def move(candidate: Candidate) -> None:
            await self.move_same(candidate, ObjectId(candidate.item.key))

        async with aclosing(needed(self, self.options.rules, candidates(), move)) as left:
            async for candidate in left:
                yield candidate.item

    async def _download_jobs(
        self,
        bucket: str,
        base: str,
        infos: AsyncGenerator[ObjectInfo, None],
        destination: Local,
        open_root: Callable[[], DestinationRoot],
    ) -> AsyncGenerator[DownloadJob, None]:
        found = self._targets(bucket, base, infos, destination, open_root)
        if self.options.skips_existing:
            found = self._changed_targets(bucket, found)
        async with aclosing(found):
            async for info, target in found:
                yield self.download_job(bucket, info, target)

    async def _targets(
        self,
        bucket: str,
        base: str,
        infos: AsyncGenerator[ObjectInfo, None],
        destination: Local,
        open_root: Callable[[], DestinationRoot],
    ) -> AsyncGenerator[tuple[ObjectInfo, LocalTarget], None]:
        """Find the file each object goes to; directories are made on the way. A dry run opens no root."""
        from cosfs.transfer.paths import Collisions, LocalTarget, split_key

        collisions = Collisions()
        names: CaseNames | None = None
        root: DestinationRoot | None = None
        top = destination.path.rstrip("/")
        async with aclosing(infos):
            async for info in infos:
                source = str(CosUrl(bucket, info.key))
                relative = self.path_for(source, info, base)
                if relative is None or self._collides(collisions, source, relative, top):
                    continue
                if root is None and not self.options.dryrun:
                    root = open_root()
                target = f"{top}/{relative}"
                planned = LocalTarget(target, None, split_key(relative))
                if relative.endswith("/"):
                    if root is None and (error := self.obstacles.to_directory(planned)) is not None:
                        self.report.failure(self.label, source, target, error)
                    await self.make_directory(source, relative, root, bucket, info)
                    continue
                if names is None:
                    names = self.case_names(destination.path)
                if names is not None and names.add(relative) and not self.takes_twin(source, target):
                    continue
                yield info, planned if root is None else root.target(relative)

    def _collides(self, collisions: Collisions, source: str, relative: str, top: str) -> bool:
        in_the_way = collisions.add(relative)
        if in_the_way:
            error = TransferError(f"{in_the_way!r} is a file here, so nothing can be below it")
            self.report.failure(self.label, source, f"{top}/{relative}", error)
        return bool(in_the_way)

    async def _changed_targets(
        self, bucket: str, found: AsyncGenerator[tuple[ObjectInfo, LocalTarget], None]
    ) -> AsyncGenerator[tuple[ObjectInfo, LocalTarget], None]:
        """Leave out what the destination has already, as the options see it."""
        from cosfs.client.model import ObjectId
        from cosfs.transfer.compare import object_side
        from cosfs.transfer.contents import ObjectContent

        from .existing import Candidate, file_sides, needed

        async def candidates() -> AsyncGenerator[Candidate, None]:
            async for info, target in found:
                source = str(CosUrl(bucket, info.key))
                keys = self.options.transfer.key_headers
                facts, content = object_side(info), ObjectContent(bucket, info, keys)
                yield Candidate((info, target), source, target.path, facts, content, *file_sides(target.path))

        async def move(candidate: Candidate) -> None:
            info, _ = candidate.item
            await self.move_same(candidate, ObjectId(info.key))

        async for candidate in needed(self, self.options.rules, candidates(), move):
            yield candidate.item

    def _told(self) -> int:
        """How many items were told of, one way or the other."""
        report = self.report
        return report.ok + report.planned + report.failed + report.skipped + report.unchanged

    def _warn_if_none(self, count: int, source: Place) -> None:
        if count or self._told() or self.run.stopping:
            return
        hint = ""
        if isinstance(source, CosUrl) and source.key and not source.key.endswith("/"):
            parent, name = source.key.rpartition("/")[0], name_of(source)
            above = CosUrl(source.bucket, f"{parent}/" if parent else "")
            hint = f"; for keys that begin with {name!r} copy from {above} with --include '{name}*'"
        place = f"{source}/" if isinstance(source, CosUrl) and hint else str(source)
        self.run.state.out.warn(f"nothing to copy below {place}{hint}")
