"""One file or object: up, down, across; from standard input and to standard output."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from cosfs.client.url import CosUrl
from cosfs.errors import ConfigError, COSError, ObjectNotFoundError, TransferError

from .copying import Copying, Progress, nothing
from .places import Local, Place, as_prefix, destination_key, destination_path, find_glob, name_of
from .running import Stdout

if TYPE_CHECKING:
    from cosfs.client.model import Headers, ObjectInfo
    from cosfs.transfer.model import TransferResult

    from .copy_options import Options


class SingleCopy(Copying):
    """Copies one thing under one name."""

    options: Options

    async def upload(self, source: Local, destination: CosUrl) -> None:
        """Upload one file, or what a stream delivers."""
        from cosfs.transfer.upload import upload_file

        bucket, key = destination.bucket, destination_key(self._key_name(source), destination)
        headers = self.options.choice.for_name(key if source.is_stream else source.path)
        target = str(CosUrl(bucket, key))
        try:
            size = None if source.is_stream else self._file_size(source.path)
        except OSError as error:  # it was there when the command line was read
            self.report.failure(self.label, source.path, target, error)
            return

        async def remove() -> None:
            os.unlink(source.path)  # noqa: PTH108 - as quick as a thread would be to start

        ends = partial(self._file_ends, source, bucket, key)
        if not await self._is_needed(source.path, target, ends, remove):
            return
        if size is None:
            stream = partial(self._upload_stream, source, bucket, key, headers)
            await self.single(source.path, target, self.options.expected_size, stream, nothing)
            return
        send = partial(
            upload_file,
            self.engine,
            source.path,
            bucket,
            key,
            headers=headers,
            forbid_overwrite=self.options.no_overwrite,
            options=self.options.transfer,
        )

        await self.single(source.path, target, size, lambda progress: send(progress=progress), remove)

    def _key_name(self, source: Local) -> str:
        """Return the name of a file as a key has it."""
        name = name_of(source)
        if self.options.key_policy != "encode":
            return name
        from cosfs.transfer.paths import decode_key

        return decode_key(name)

    def _file_size(self, path: str) -> int | None:
        """Return the size of a regular file, or of a link kept as one; None for what is read as a stream."""
        as_link = self.options.preserve_symlinks and os.path.islink(path)  # noqa: PTH114
        info = os.lstat(path) if as_link else os.stat(path)  # noqa: PTH116 - Path would drop a trailing slash
        return info.st_size if as_link or stat.S_ISREG(info.st_mode) else None

    # --- what is there already

    async def _is_needed(
        self,
        source: str,
        target: str,
        look: Callable[[], Awaitable[tuple[Any, ...]]],
        remove: Callable[[], Awaitable[None]],
    ) -> bool:
        """Whether there is something to send, as the options see it; tells if not, and ends a move.

        look asks for both ends.
        """
        if not self.options.skips_existing:
            return True
        from .existing import Candidate, needed, there_already

        async def candidates() -> AsyncGenerator[Candidate, None]:
            yield Candidate(None, source, target, *await look())

        async def move(candidate: Candidate) -> None:
            async def compared(progress: Progress) -> TransferResult:
                return there_already(candidate)

            await self.single(source, target, 0, compared, remove)

        try:
            return bool([each async for each in needed(self, self.options.rules, candidates(), move)])
        except ConfigError:
            raise
        except COSError as error:
            self.report.failure(self.label, source, target, error)
        return False

    async def _object(self, bucket: str, key: str) -> ObjectInfo | None:
        head = partial(self.client.head_object, bucket, key, headers=self.options.transfer.key_headers)
        try:
            return await self.engine.run(head)
        except ObjectNotFoundError:
            return None

    async def _file_ends(self, source: Local, bucket: str, key: str) -> tuple[Any, ...]:
        from .existing import file_sides, no_file, object_sides

        file = no_file(source.path) if source.is_stream else file_sides(source.path)
        keys = self.options.transfer.key_headers
        return *file, *object_sides(bucket, await self._object(bucket, key), keys)

    async def _local_ends(self, bucket: str, info: ObjectInfo, path: str) -> tuple[Any, ...]:
        from .existing import file_sides, object_sides

        return *object_sides(bucket, info, self.options.transfer.key_headers), *file_sides(path)

    async def _object_ends(self, bucket: str, info: ObjectInfo, to_bucket: str, key: str) -> tuple[Any, ...]:
        from .existing import object_sides

        there = await self._object(to_bucket, key)
        transfer = self.options.transfer
        source = object_sides(bucket, info, transfer.source_key_headers)
        return *source, *object_sides(to_bucket, there, transfer.key_headers)

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
        result = await upload_stream(
            self.engine,
            stream,
            bucket,
            key,
            headers=headers,
            expected_size=self.options.expected_size,
            progress=progress,
            forbid_overwrite=self.options.no_overwrite,
            options=self.options.transfer,
        )
        if not source.is_stream:
            stream.close()  # not when it failed: a thread may still be reading
        return result

    async def fetch(self, source: CosUrl, destination: Place) -> None:
        """Download or copy one object; a key that does not exist may be a pattern or a prefix."""
        transfer = self.options.transfer
        keys = transfer.source_key_headers if isinstance(destination, CosUrl) else transfer.key_headers
        head = partial(
            self.client.head_object,
            source.bucket,
            source.key,
            version_id=self.options.version_id,
            headers=keys,
        )
        try:
            info = await self.engine.run(self._asked(source) or head)
        except ObjectNotFoundError as error:
            glob = None if self.options.no_glob or self.options.version_id else find_glob(source.key)
            if glob is not None:
                from .trees import TreeCopy  # what a tree needs is not imported for one object

                await TreeCopy(self.run, self.options, self.operation).fetch_glob(source, glob, destination)
                return
            self.report.failure(self.label, str(source), str(destination), await self._missing(source, error))
            return
        except ConfigError:
            raise
        except COSError as error:
            self.report.failure(self.label, str(source), str(destination), error)
            return
        assert info is not None
        if self.left_archived(str(source), info):
            return
        if isinstance(destination, CosUrl):
            await self._copy(source, info, destination)
        else:
            await self._download(source, info, destination)

    def _asked(self, source: CosUrl) -> Callable[[], ObjectInfo | None] | None:
        """Return what waits for the answer if the object was asked for already."""
        first = self.engine.first_object
        if first is None or not first.is_for(source.bucket, source.key, self.options.version_id):
            return None
        self.engine.first_object = None  # only once
        return first.take

    async def _missing(self, source: CosUrl, error: ObjectNotFoundError) -> COSError:
        """Say what a key that does not exist may have meant."""
        listing = partial(self.client.list_objects, source.bucket, prefix=as_prefix(source.key), max_keys=1)
        try:
            page = await self.engine.run(listing)
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
        from cosfs.transfer.obstacles import Obstacles
        from cosfs.transfer.paths import plain_target

        if destination.is_stream:
            stream = partial(
                download_stream, self.engine, source.bucket, source.key, Stdout(),
                info=info, version_id=self.options.version_id, options=self.options.transfer,
            )  # fmt: skip
            await self.single(
                str(source), "-", info.size, lambda progress: stream(progress=progress), nothing
            )
            return
        try:
            path = self._local_name(source, destination)
        except TransferError as error:
            self.report.failure(self.label, str(source), str(destination), error)
            return
        remove = self._remover(source)
        ends = partial(self._local_ends, source.bucket, info, path)
        if not await self._is_needed(str(source), path, ends, remove):
            return
        in_the_way = Obstacles().to_file(plain_target(path)) if self.options.dryrun else None
        if in_the_way is not None:
            self.failed(str(source), path, in_the_way)
            return
        fetch = partial(
            download_file, self.engine, source.bucket, source.key, path,
            info=info, version_id=self.options.version_id,
            options=self.options.transfer,
        )  # fmt: skip
        await self.single(str(source), path, info.size, lambda progress: fetch(progress=progress), remove)

    def _local_name(self, source: CosUrl, destination: Local) -> str:
        """Return the path a single object goes to; its name must be one that a path can have."""
        from cosfs.transfer.paths import encode_key, key_problem

        path = destination_path("", destination.path)
        if not path.endswith("/"):
            return path
        name = source.key.rpartition("/")[2]
        if self.options.key_policy == "encode":
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
        bucket = destination.bucket
        target = str(CosUrl(bucket, key))
        self.in_place = (source.bucket, source.key) == (bucket, key)
        remove = self._remover(source)
        ends = partial(self._object_ends, source.bucket, info, bucket, key)
        if not self.in_place and not await self._is_needed(str(source), target, ends, remove):
            return

        async def transfer(progress: Progress) -> TransferResult:
            access: Mapping[str, str] = {}
            if self.options.copy_props == "all":
                from .access import access_headers

                access = await self.engine.run(access_headers, self.client, source.bucket, source.key)
            return await copy_object(
                self.engine,
                source.bucket,
                source.key,
                bucket,
                key,
                info=info,
                headers=self.copy_headers(info, key),
                storage_class=self.options.choice.headers.storage_class,
                source_version_id=self.options.version_id,
                forbid_overwrite=self.options.no_overwrite,
                extra={**self.copy_extra, **access},
                progress=progress,
                options=self.options.transfer,
            )

        await self.single(str(source), target, info.size, transfer, remove)

    def _remover(self, source: CosUrl) -> Callable[[], Awaitable[None]]:
        delete = partial(
            self.client.delete_object, source.bucket, source.key, version_id=self.options.version_id
        )

        async def remove() -> None:
            await self.engine.run(delete)

        return remove
