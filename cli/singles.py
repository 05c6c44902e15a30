"""One file or object: up, down, across; from standard input and to standard output."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from cosfs.client.url import CosUrl
from cosfs.errors import ConfigError, COSError, ObjectNotFoundError, TransferError

from .copying import Copying, Progress, exists, nothing
from .places import Local, Place, as_prefix, destination_key, destination_path, find_glob, name_of
from .running import Stdout
from .trees import TreeCopy

if TYPE_CHECKING:
    from cosfs.client.model import Headers, ObjectInfo
    from cosfs.transfer.model import TransferResult

    from .copy_options import Options


class SingleCopy(Copying):
    """Copies one thing under one name."""

    options: Options

    async def upload(self, source: Local, destination: CosUrl) -> None:
        """Upload one file, or what a stream delivers."""
        from cosfs.transfer.options import TransferOptions
        from cosfs.transfer.upload import upload_file

        key = destination_key(name_of(source), destination)
        target = str(CosUrl(destination.bucket, key))
        headers = self.options.choice.for_name(key if source.is_stream else source.path)
        size = None if source.is_stream else _file_size(source.path)
        if size is None:
            transfer = partial(self._upload_stream, source, destination.bucket, key, headers)
            await self.single(source.path, target, self.options.expected_size, transfer, nothing)
            return

        async def transfer_file(progress: Progress) -> TransferResult:
            return await upload_file(
                self.engine,
                source.path,
                destination.bucket,
                key,
                headers=headers,
                progress=progress,
                forbid_overwrite=self.options.no_overwrite,
                options=TransferOptions(part_size=self.options.part_size or 0),
            )

        async def remove() -> None:
            os.unlink(source.path)  # noqa: PTH108 - as quick as a thread would be to start

        await self.single(source.path, target, size, transfer_file, remove)

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
        )
        if not source.is_stream:
            stream.close()  # not when it failed: a thread may still be reading
        return result

    async def fetch(self, source: CosUrl, destination: Place) -> None:
        """Download or copy one object; a key that does not exist may be a pattern or a prefix."""
        head = partial(self.client.head_object, source.bucket, source.key, version_id=self.options.version_id)
        try:
            info = await self.engine.run(head)
        except ObjectNotFoundError as error:
            glob = None if self.options.no_glob or self.options.version_id else find_glob(source.key)
            if glob is not None:
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
        if isinstance(destination, CosUrl):
            await self._copy(source, info, destination)
        else:
            await self._download(source, info, destination)

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
        from cosfs.transfer.options import TransferOptions

        if destination.is_stream:
            stream = partial(
                download_stream, self.engine, source.bucket, source.key, Stdout(),
                info=info, version_id=self.options.version_id,
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
        if self.options.no_overwrite and exists(path):
            self.report.left_out(self.label, str(source), path, "exists")
            return
        fetch = partial(
            download_file, self.engine, source.bucket, source.key, path,
            info=info, version_id=self.options.version_id,
            options=TransferOptions(part_size=self.options.part_size or 0),
        )  # fmt: skip
        await self.single(
            str(source), path, info.size, lambda progress: fetch(progress=progress), self._remover(source)
        )

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

        async def transfer(progress: Progress) -> TransferResult:
            return await copy_object(
                self.engine,
                source.bucket,
                source.key,
                destination.bucket,
                key,
                info=info,
                headers=self.copy_headers(info, key),
                storage_class=self.options.choice.headers.storage_class,
                source_version_id=self.options.version_id,
                forbid_overwrite=self.options.no_overwrite,
                progress=progress,
            )

        target = str(CosUrl(destination.bucket, key))
        await self.single(str(source), target, info.size, transfer, self._remover(source))

    def _remover(self, source: CosUrl) -> Callable[[], Awaitable[None]]:
        delete = partial(
            self.client.delete_object, source.bucket, source.key, version_id=self.options.version_id
        )

        async def remove() -> None:
            await self.engine.run(delete)

        return remove


def _file_size(path: str) -> int | None:
    """Return the size of a regular file; None for a FIFO or device, which is read as a stream."""
    info = os.stat(path)  # noqa: PTH116 - Path would drop a trailing slash
    return info.st_size if stat.S_ISREG(info.st_mode) else None
