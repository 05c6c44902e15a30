"""`Session`: objects and trees for programs. Every method blocks, and may be called from any thread."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from os import PathLike, fspath
from pathlib import Path
from types import TracebackType
from typing import Self

from cosfs.api.running import Cancellation, EngineThread, Guard
from cosfs.api.trees import SyncEvent, SyncResult, run_sync
from cosfs.client.client import CosClient
from cosfs.client.model import Bucket, Headers, ListPage, ObjectId, ObjectInfo
from cosfs.client.url import CosUrl, is_cos_url, parse_url
from cosfs.config import Settings, load_settings, option_names
from cosfs.errors import IntegrityError, PreconditionFailedError, TransferError, UsageError
from cosfs.transfer.concurrency import FIRST
from cosfs.transfer.copy import copy_object
from cosfs.transfer.download import download_file, download_stream
from cosfs.transfer.engine import Engine
from cosfs.transfer.model import TransferResult
from cosfs.transfer.options import DEFAULTS, TransferOptions
from cosfs.transfer.plan import SyncOptions
from cosfs.transfer.resume import Records
from cosfs.transfer.scan import Prefix
from cosfs.transfer.upload import upload_file
from cosfs.transfer.work import Progress

__all__ = ["Session"]

Place = str | PathLike[str]


def _in_order(page: ListPage) -> list[ObjectInfo | Prefix]:
    found: list[ObjectInfo | Prefix] = [*page.objects, *map(Prefix, page.prefixes)]
    found.sort(key=lambda item: item.key.encode("utf-8", "surrogatepass"))
    return found


class Session:
    """COS with the settings and credentials that the `cos` command would use.

    Keywords are its global options with underscores (profile, region, endpoint_url, secret_id, secret_key,
    session_token, no_sign_request, ca_bundle, ...), or settings that were loaded already. Use it as a
    context manager, or close it. Its methods raise the errors of cosfs.errors, files OSError as well.

    Addresses are written cos://bucket/key. progress is called with the bytes moved since its last call,
    negative when a retry begins again; it runs in the engine's thread and should be quick. What a callback
    raises ends its call and is raised there.
    """

    def __init__(self, settings: Settings | None = None, **options: object) -> None:
        if settings is not None and options:
            raise UsageError("a session takes settings or options, not both")
        if unknown := sorted(options.keys() - option_names()):
            raise UsageError(f"a session has no option {unknown[0]!r}", hint="See: cos --help")
        self.settings = settings or load_settings(options)
        self.client = CosClient.from_settings(self.settings, options)
        self._closed = False
        self._engine = EngineThread(
            self.client,
            self.settings.transfer,
            records=Records(self.settings.resume_path),
            first=FIRST,
        )

    def close(self) -> None:
        """End what is under way and close all connections."""
        self._closed = True
        self._engine.close()
        # Else a thread that was given up would wait for its answer as long as for any.
        self.client.cancel()
        self.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- looking

    def buckets(self) -> list[Bucket]:
        """Return all buckets of the account."""
        self._check_open()
        return self.client.list_buckets()

    def list(self, url: str, *, recursive: bool = True) -> Iterator[ObjectInfo | Prefix]:
        """Yield the objects whose keys begin with the key of url, sorted by their UTF-8 bytes.

        Without recursive, what lies below the next slash is one Prefix. Pages are asked for as they are
        needed.
        """
        place = self._resolved(url)
        delimiter, marker = "" if recursive else "/", ""
        while True:
            self._check_open()
            page = self.client.list_objects(
                place.bucket, prefix=place.key, delimiter=delimiter, marker=marker
            )
            yield from _in_order(page)
            marker = page.next_marker
            if not marker:
                return

    def stat(self, url: str, *, version_id: str = "") -> ObjectInfo:
        """Return all that COS knows of an object; one that does not exist raises ObjectNotFoundError."""
        place = self._object(url)
        info = self.client.head_object(place.bucket, place.key, version_id=version_id)
        assert info is not None
        return info

    # --- bytes in memory

    def read(self, url: str, start: int = 0, stop: int | None = None) -> bytes:
        """Return the bytes [start, stop) of an object, all of them by default: then they are verified."""
        place = self._object(url)
        if start < 0 or (stop is not None and stop < start):
            raise UsageError(f"{start} to {stop} is not a range of bytes")

        async def work(engine: Engine, guard: Guard) -> bytes:
            sink = io.BytesIO()
            try:
                await download_stream(engine, place.bucket, place.key, sink, start=start, stop=stop)
            except (IntegrityError, PreconditionFailedError):
                # Damaged on the way, or another object by now: nobody has seen these bytes yet.
                sink = io.BytesIO()
                await download_stream(engine, place.bucket, place.key, sink, start=start, stop=stop)
            return sink.getvalue()

        return self._engine.run(work)

    def write(
        self, url: str, data: bytes, *, headers: Headers | None = None, overwrite: bool = True
    ) -> TransferResult:
        """Store bytes as an object; with overwrite=False one that exists raises AlreadyExistsError."""
        place = self._object(url)
        stored = self.client.put_object(
            place.bucket, place.key, data, headers=headers or Headers(), forbid_overwrite=not overwrite
        )
        return TransferResult(len(data), stored.etag, stored.crc64, stored.version_id)

    # --- files of any size

    def upload(
        self,
        path: Place,
        url: str,
        *,
        headers: Headers | None = None,
        overwrite: bool = True,
        options: TransferOptions = DEFAULTS,
        progress: Progress | None = None,
        cancellation: Cancellation | None = None,
    ) -> TransferResult:
        """Upload a file; return once COS has it and the checksums agree."""
        place = self._object(url)

        async def work(engine: Engine, guard: Guard) -> TransferResult:
            return await upload_file(
                engine, fspath(path), place.bucket, place.key,
                headers=headers, progress=guard(progress), forbid_overwrite=not overwrite, options=options,
            )  # fmt: skip

        return self._engine.run(work, cancellation)

    def download(
        self,
        url: str,
        path: Place,
        *,
        version_id: str = "",
        options: TransferOptions = DEFAULTS,
        progress: Progress | None = None,
        cancellation: Cancellation | None = None,
    ) -> TransferResult:
        """Download an object to a file, which appears whole and verified or not at all."""
        place = self._object(url)
        if fspath(path).endswith("/"):
            raise UsageError(f"{fspath(path)} is a directory", hint="Name the file in it")

        async def work(engine: Engine, guard: Guard) -> TransferResult:
            return await download_file(
                engine, place.bucket, place.key, Path(path),
                version_id=version_id, progress=guard(progress), options=options,
            )  # fmt: skip

        return self._engine.run(work, cancellation)

    def copy(
        self,
        source: str,
        url: str,
        *,
        version_id: str = "",
        headers: Headers | None = None,
        storage_class: str = "",
        overwrite: bool = True,
        options: TransferOptions = DEFAULTS,
        progress: Progress | None = None,
        cancellation: Cancellation | None = None,
    ) -> TransferResult:
        """Have COS copy an object of any size; headers, if given, replace those of the source."""
        origin, place = self._object(source), self._object(url)

        async def work(engine: Engine, guard: Guard) -> TransferResult:
            return await copy_object(
                engine, origin.bucket, origin.key, place.bucket, place.key,
                headers=headers, storage_class=storage_class, source_version_id=version_id,
                forbid_overwrite=not overwrite, progress=guard(progress), options=options,
            )  # fmt: skip

        return self._engine.run(work, cancellation)

    def remove(self, *urls: str) -> None:
        """Remove objects, a thousand of a bucket in one request; those that do not exist are fine."""
        by_bucket: dict[str, list[ObjectId]] = {}
        for url in urls:
            place = self._object(url)
            by_bucket.setdefault(place.bucket, []).append(ObjectId(place.key))
        failures = []
        for bucket, objects in by_bucket.items():
            for start in range(0, len(objects), 1000):
                failures += self.client.delete_objects(bucket, objects[start : start + 1000])
        if failures:
            first = failures[0]
            raise TransferError(
                f"{len(failures)} of {len(urls)} objects were not removed, the first is {first.key!r}:"
                f" {first.code}: {first.message}"
            )

    # --- trees

    def sync(
        self,
        source: Place,
        destination: Place,
        *,
        options: SyncOptions | None = None,
        headers: Headers | None = None,
        transfer: TransferOptions = DEFAULTS,
        dryrun: bool = False,
        on_event: Callable[[SyncEvent], None] | None = None,
        progress: Progress | None = None,
        cancellation: Cancellation | None = None,
    ) -> SyncResult:
        """Make what lies below destination like what lies below source; one of them at least is in COS.

        Each is a directory, or cos://bucket/prefix. What differs is decided as `cos sync` does, with the
        same options. One failure does not stop the others: look at SyncResult.failures.
        """
        places = self._tree(source), self._tree(destination)

        async def work(engine: Engine, guard: Guard) -> SyncResult:
            return await run_sync(
                engine, *places, options or SyncOptions(),
                headers=headers, transfer=transfer, dryrun=dryrun,
                on_event=guard(on_event), progress=guard(progress),
            )  # fmt: skip

        return self._engine.run(work, cancellation)

    # --- addresses

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError("the session is closed")

    def _resolved(self, url: str) -> CosUrl:
        self._check_open()
        if not isinstance(url, str):
            raise TypeError(f"an address is a str, not {type(url).__name__}")
        place = parse_url(url)
        if not place.bucket:
            raise UsageError(f"{url!r} names no bucket", hint="Write it as cos://bucket/key")
        return CosUrl(self.client.resolve_bucket(place.bucket), place.key)

    def _object(self, url: str) -> CosUrl:
        place = self._resolved(url)
        if not place.key:
            raise UsageError(f"{url!r} is a bucket, not an object", hint="Write it as cos://bucket/key")
        return place

    def _tree(self, place: Place) -> CosUrl | str:
        text = fspath(place)
        return self._resolved(text) if is_cos_url(text) else text
