"""Everything below a directory or a prefix, or what a pattern matches: many transfers at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from cosfs.client.url import CosUrl
from cosfs.errors import TransferError, UsageError

from .copying import exists
from .jobs import JobMaker, Remover
from .objects import selected, with_headers
from .places import Glob, Local, Place, as_prefix, name_of

if TYPE_CHECKING:
    from cosfs.client.model import ObjectInfo
    from cosfs.transfer.bulk import CopyJob, DownloadJob, UploadJob
    from cosfs.transfer.paths import DestinationRoot

    from .filters import Selection


class TreeCopy(JobMaker):
    """Copies what lies below one place to below another."""

    def _tree_remover(self, bucket: str | None) -> Remover | None:
        if not self.options.move or self.options.dryrun:
            return None
        return Remover(self.run, bucket, self.label)

    async def upload(self, source: Local, destination: CosUrl) -> None:
        """Upload what lies below a directory."""
        jobs = self._upload_jobs(source, destination.bucket, as_prefix(destination.key))
        self._warn_if_none(await self.transfer(jobs, self._tree_remover(None)), source)

    async def _upload_jobs(self, source: Local, bucket: str, prefix: str) -> AsyncIterator[UploadJob]:
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
                await self.make_marker(empty, bucket, prefix)
            empty = entry if entry.is_directory else None
            if entry.is_directory or not selection.takes_state(entry.size, entry.mtime_ns / 1e9):
                continue
            key = prefix + entry.relative
            yield self.upload_job(entry, bucket, key)
        if empty is not None:
            await self.make_marker(empty, bucket, prefix)

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
        selection = self.options.chosen.below(source)
        infos = selected(self.engine, source.bucket, prefix, selection, self.unseen(source.bucket))
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

    async def _matching(self, bucket: str, glob: Glob) -> AsyncIterator[ObjectInfo]:
        """List the objects whose keys match a pattern."""
        from cosfs.client.model import ObjectInfo
        from cosfs.transfer.scan import list_objects

        async with list_objects(self.engine, bucket, glob.prefix) as listing:
            async for info in listing:
                assert isinstance(info, ObjectInfo)
                if glob.matches(info.key):
                    yield info

    async def _copy_jobs(
        self, bucket: str, base: str, infos: AsyncIterator[ObjectInfo], to_bucket: str, prefix: str
    ) -> AsyncIterator[CopyJob]:
        if self.copies_need_headers:
            infos = with_headers(self.engine, bucket, infos, self.unseen(bucket))
        async for info in infos:
            key = prefix + info.key[len(base) :]
            yield self.copy_job(bucket, info, to_bucket, key)

    async def _download_jobs(
        self,
        bucket: str,
        base: str,
        infos: AsyncIterator[ObjectInfo],
        destination: Local,
        open_root: Callable[[], DestinationRoot],
    ) -> AsyncIterator[DownloadJob]:
        """Plan downloads; a dry run opens no root."""
        from cosfs.transfer.paths import Collisions, LocalTarget

        collisions = Collisions()
        root: DestinationRoot | None = None
        async for info in infos:
            source = str(CosUrl(bucket, info.key))
            relative = self.path_for(source, info, base)
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
                await self.make_directory(source, relative, root, bucket, info)
                continue
            target = (
                LocalTarget(f"{destination.path.rstrip('/')}/{relative}")
                if root is None
                else root.target(relative)
            )
            if self.options.no_overwrite and exists(target.path):
                self.report.left_out(self.label, source, target.path, "exists")
                continue
            yield self.download_job(bucket, info, target)

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
