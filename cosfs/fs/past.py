"""A client that sees versioned buckets as they were at a moment, for mounts that look back.

Of each key it shows the newest version that was there by then; a delete marker hides it. A directory is
shown if anything below it was there. Nothing is changed by asking for the past, so answers stay true, and
what is kept of them is bounded however large the bucket is.
"""

from __future__ import annotations

import errno
import logging
import math
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Generic, TypeVar

from cosfs.client.client import CosClient
from cosfs.client.model import Bucket, ListPage, ObjectInfo, ObjectVersion, VersionPage
from cosfs.client.session import NOTHING
from cosfs.client.stream import ObjectStream
from cosfs.errors import FilesystemError, ObjectNotFoundError

__all__ = ["PastClient"]

log = logging.getLogger(__name__)

KEPT = 50_000  # keys whose version is remembered, and prefixes that are known to be there or not
PROBES = 16  # prefixes looked into at the same time
FRUITLESS = 20  # pages without anything of the past after which the caller gets an empty one
PAGE = 1000
FIRST = 20  # versions in the first page where one is likely to be enough

V = TypeVar("V")


class _Kept(Generic[V]):
    """The newest of many answers. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: OrderedDict[tuple[str, str], V] = OrderedDict()

    def get(self, place: tuple[str, str]) -> V | None:
        with self._lock:
            return self._answers.get(place)

    def put(self, place: tuple[str, str], answer: V) -> None:
        with self._lock:
            self._answers[place] = answer
            self._answers.move_to_end(place)
            if len(self._answers) > KEPT:
                self._answers.popitem(last=False)


class PastClient(CosClient):
    """Reads as if it were moment, in Unix seconds. Shares connections and counters with client."""

    def __init__(self, client: CosClient, moment: float) -> None:
        self.__dict__.update(client.__dict__)
        self._moment = moment
        self._versions: _Kept[str] = _Kept()  # "" is absent
        self._lives: _Kept[bool] = _Kept()
        self._versioned: set[str] = set()
        self._refused: set[str] = set()
        self._pool = ThreadPoolExecutor(PROBES, "past")

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        super().close()

    def check_versioned(self, bucket: str) -> None:
        """Refuse a bucket that keeps no old versions."""
        if bucket in self._versioned:
            return
        if not self.versioning_of(bucket):
            raise FilesystemError(
                errno.EOPNOTSUPP,
                f"cos://{bucket} keeps no old versions, so nobody knows what it held before",
                hint=f"From now on it would with: cos versioning enable cos://{bucket}",
            )
        self._versioned.add(bucket)

    def _check_once(self, bucket: str) -> None:
        """The same, telling the log why calls fail, as the kernel has no words."""
        try:
            self.check_versioned(bucket)
        except FilesystemError as error:
            if bucket not in self._refused:
                self._refused.add(bucket)
                log.warning("%s", error)
            raise

    def list_buckets(self) -> list[Bucket]:
        return [bucket for bucket in super().list_buckets() if bucket.created <= self._moment]

    def list_objects(
        self, bucket: str, *, prefix: str = "", delimiter: str = "", marker: str = "", max_keys: int = PAGE
    ) -> ListPage:
        self._check_once(bucket)
        page = ListPage([], [], "")
        for found, below, following in islice(self._scan(bucket, prefix, delimiter, marker), FRUITLESS):
            page = ListPage(found, below, following)
            if found or below:
                break
        for info in page.objects:
            self._versions.put((bucket, info.key), info.version_id)
        return page

    def _scan(
        self, bucket: str, prefix: str, delimiter: str, marker: str, first: int = 0
    ) -> Iterator[tuple[list[ObjectInfo], list[str], str]]:
        """Yield objects, prefixes and where to go on; whoever stops here can go on from there.

        first is the size of the first page, if it shall be smaller than the others.
        """
        version_marker, size = "", first or PAGE
        key, is_decided = "", True  # of the versions of this key none is to be shown any more
        while True:
            page = self.list_versions(
                bucket,
                prefix=prefix,
                delimiter=delimiter,
                key_marker=marker,
                version_id_marker=version_marker,
                max_keys=size,
            )
            size = PAGE
            found = []
            for version in page.versions:
                if version.key != key:
                    key, is_decided = version.key, False
                if not is_decided and version.last_modified <= self._moment:
                    is_decided = True
                    if not version.is_delete_marker:
                        found.append(_info(version))
            marker = page.next_key_marker
            # If all of a key so far are too new, its next versions matter; else they are skipped.
            version_marker = page.next_version_id_marker if key == marker and not is_decided else ""
            if version_marker and not found and not page.prefixes:
                continue
            if version_marker:
                marker, version_marker, key = _before(page, marker), "", ""
            yield found, self._living(bucket, page.prefixes), marker
            if not marker:
                return

    def _living(self, bucket: str, prefixes: Sequence[str]) -> list[str]:
        """Those prefixes below which anything was there."""
        lives = self._pool.map(lambda prefix: self._is_alive(bucket, prefix), prefixes)
        return [prefix for prefix, alive in zip(prefixes, lives, strict=True) if alive]

    def _is_alive(self, bucket: str, prefix: str) -> bool:
        known = self._lives.get((bucket, prefix))
        if known is None:
            known = any(found for found, _, _ in self._scan(bucket, prefix, "", "", FIRST))
            self._lives.put((bucket, prefix), known)
        return known

    def _version(self, bucket: str, key: str) -> str:
        """The id of the version of a key that was there; raise ObjectNotFoundError if none was."""
        found = self._versions.get((bucket, key))
        if found is None:
            self._check_once(bucket)
            found = ""
            for objects, _, following in self._scan(bucket, key, "", "", FIRST):
                # The key itself comes before all that begin with it.
                found = next((info.version_id for info in objects if info.key == key), "")
                if found or following != key:
                    break
            self._versions.put((bucket, key), found)
        if not found:
            raise ObjectNotFoundError(
                "the object was not there then", status=404, target=f"cos://{bucket}/{key}", code="NoSuchKey"
            )
        return found

    def head_object(
        self,
        bucket: str,
        key: str,
        *,
        version_id: str = "",
        if_match: str = "",
        if_none_match: str = "",
        headers: Mapping[str, str] = NOTHING,
    ) -> ObjectInfo | None:
        return super().head_object(
            bucket,
            key,
            version_id=version_id or self._version(bucket, key),
            if_match=if_match,
            if_none_match=if_none_match,
            headers=headers,
        )

    def get_object(
        self,
        bucket: str,
        key: str,
        *,
        start: int = 0,
        stop: int | None = None,
        if_match: str = "",
        if_none_match: str = "",
        version_id: str = "",
        headers: Mapping[str, str] = NOTHING,
        deadline: float = math.inf,
    ) -> ObjectStream:
        return super().get_object(
            bucket,
            key,
            start=start,
            stop=stop,
            if_match=if_match,
            if_none_match=if_none_match,
            version_id=version_id or self._version(bucket, key),
            headers=headers,
            deadline=deadline,
        )

    def get_range(
        self, bucket: str, key: str, start: int, stop: int, *, if_match: str = "", version_id: str = ""
    ) -> tuple[ObjectInfo, bytes]:
        version_id = version_id or self._version(bucket, key)
        return super().get_range(bucket, key, start, stop, if_match=if_match, version_id=version_id)


def _before(page: VersionPage, key: str) -> str:
    """The last key or prefix of a page before its last key."""
    others = [version.key for version in page.versions if version.key != key]
    return max((*others, *page.prefixes), key=lambda text: text.encode("utf-8", "surrogatepass"))


def _info(version: ObjectVersion) -> ObjectInfo:
    return ObjectInfo(
        version.key,
        version.size,
        version.etag,
        version.last_modified,
        version.storage_class,
        version_id=version.version_id,
    )
