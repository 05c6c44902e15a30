"""Listings page by page, the next page fetched while this one is looked at: objects, versions, uploads.

Without the engine: one request at a time needs none, and `cos ls` shall start quickly.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Generic, TypeVar

from cosfs.records import dataclass

if TYPE_CHECKING:
    from cosfs.client.client import CosClient
    from cosfs.client.model import ObjectInfo, ObjectVersion, Upload

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Items and common prefixes, each in the order of their keys."""

    items: Sequence[T]
    prefixes: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.items) + len(self.prefixes)


@dataclass(frozen=True, slots=True)
class Range:
    """What of a bucket is listed."""

    bucket: str
    prefix: str = ""
    delimiter: str = ""
    start_after: str = ""
    page_size: int = 1000
    max_items: int | None = None

    def room(self, taken: int) -> int:
        """Return how many items the next request may bring when so many came already."""
        return self.page_size if self.max_items is None else min(self.page_size, self.max_items - taken)


def object_pages(client: CosClient, wanted: Range) -> Iterator[Page[ObjectInfo]]:
    """List objects and common prefixes."""
    marker, taken = wanted.start_after, 0
    while wanted.room(taken) > 0:
        page = client.list_objects(
            wanted.bucket,
            prefix=wanted.prefix,
            delimiter=wanted.delimiter,
            marker=marker,
            max_keys=wanted.room(taken),
        )
        taken += len(page.objects) + len(page.prefixes)
        yield Page(page.objects, page.prefixes)
        marker = page.next_marker
        if not marker:
            return


def version_pages(client: CosClient, wanted: Range) -> Iterator[Page[ObjectVersion]]:
    """List versions and delete markers, newest first of each key."""
    key, version, taken = wanted.start_after, "", 0
    while wanted.room(taken) > 0:
        page = client.list_versions(
            wanted.bucket,
            prefix=wanted.prefix,
            delimiter=wanted.delimiter,
            key_marker=key,
            version_id_marker=version,
            max_keys=wanted.room(taken),
        )
        taken += len(page.versions) + len(page.prefixes)
        yield Page(page.versions, page.prefixes)
        key, version = page.next_key_marker, page.next_version_id_marker
        if not key:
            return


def upload_pages(client: CosClient, wanted: Range) -> Iterator[Page[Upload]]:
    """List unfinished multipart uploads."""
    key, upload_id, taken = wanted.start_after, "", 0
    while wanted.room(taken) > 0:
        page = client.list_uploads(
            wanted.bucket, prefix=wanted.prefix, key_marker=key, upload_id_marker=upload_id
        )
        uploads = page.uploads
        if wanted.max_items is not None:
            uploads = uploads[: wanted.max_items - taken]
        taken += len(uploads)
        yield Page(uploads)
        key, upload_id = page.next_key_marker, page.next_upload_id_marker
        if not key:
            return


def ahead(items: Iterator[T]) -> Iterator[T]:
    """Take items in a thread, one ahead of whoever looks at them."""
    found: queue.SimpleQueue[tuple[list[T], BaseException | None]] = queue.SimpleQueue()
    wanted = threading.Semaphore(2)  # the one that is looked at, and the next
    stopped = False

    def fetch() -> None:
        try:
            while wanted.acquire() and not stopped:
                item = list(islice(items, 1))
                found.put((item, None))
                if not item:
                    return
        except BaseException as error:
            found.put(([], error))

    # Nobody waits for it at the end: a request that hangs must not hold the program.
    threading.Thread(target=fetch, name="listing", daemon=True).start()
    try:
        while True:
            item, error = found.get()
            if error is not None:
                raise error
            if not item:
                return
            yield item[0]
            wanted.release()
    finally:
        stopped = True
        wanted.release()
