"""Pages of keys in byte order, with common prefixes, without reading what a page does not show.

A common prefix with a million keys below costs one seek. One walk serves objects, versions and uploads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from heapq import merge
from operator import itemgetter
from typing import Any

from cosfs.emulator.store import LISTED, NULL_VERSION, Bucket, Store, version_number

Row = tuple[Any, ...]  # the key is first
_SKIP = 8  # rows to step over below a common prefix before it is left by a seek; most directories are small
_END = b"\xff"  # above all UTF-8


@dataclass(slots=True)
class Page:
    """One page: rows and common prefixes, and the last item of it, which is where the next page begins."""

    rows: list[Row] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    truncated: bool = False
    last_row: Row | None = None
    last_prefix: str = ""
    patience: int = _SKIP  # rows to step over below the next common prefix

    @property
    def next_marker(self) -> str:
        """Return the last key or common prefix of the page."""
        return self.last_prefix or (self.last_row[0].decode() if self.last_row else "")


def successor(prefix: bytes) -> bytes:
    """Return the least bytes above everything that begins with prefix."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else _END


def walk(
    rows: Callable[[bytes, bool, bytes], Iterator[Row]],
    prefix: str,
    delimiter: str,
    limit: int,
    start: tuple[bytes, bool],
) -> Page:
    """Collect a page. rows(lower, inclusive, upper) must yield rows between the bounds in order."""
    page = Page()
    if limit <= 0:
        return page
    begin, cut = prefix.encode(), delimiter.encode()
    upper = successor(begin)
    lower, inclusive = max(start, (begin, True), key=lambda bound: (bound[0], not bound[1]))
    while lower < upper and _fill(page, rows(lower, inclusive, upper), len(begin), cut, limit):
        lower, inclusive = successor(page.last_prefix.encode()), True
    return page


def _fill(page: Page, rows: Iterator[Row], skip: int, cut: bytes, limit: int) -> bool:
    """Add rows to the page; return True if the walk should go on past the last common prefix."""
    current, below = page.last_prefix.encode(), 0
    for row in rows:
        key: bytes = row[0]
        if cut and (found := key.find(cut, skip)) >= 0:
            group = key[: found + len(cut)]
            if group == current:
                below += 1
                if below >= page.patience:
                    page.patience = 1  # the next ones are probably large, too
                    return True
                continue
        else:
            group = b""
        if len(page.rows) + len(page.prefixes) >= limit:
            page.truncated = True
            return False
        current, below = group, 0
        page.last_prefix = group.decode()
        if group:
            page.prefixes.append(page.last_prefix)
        else:
            page.rows.append(row)
            page.last_row = row
    return False


def after_marker(marker: str, prefix: str, delimiter: str) -> tuple[bytes, bool]:
    """Return where a page after marker begins: a marker that is a common prefix skips all below it."""
    encoded = marker.encode()
    if delimiter and marker.startswith(prefix) and marker.endswith(delimiter) and len(marker) > len(prefix):
        inner = marker[len(prefix) : -len(delimiter)]
        if delimiter not in inner:
            return successor(encoded), True
    return encoded, False


def list_objects(
    store: Store, bucket: Bucket, prefix: str, delimiter: str, marker: str, limit: int, lag: float = 0.0
) -> Page:
    """Return a page of current objects, as it was `lag` seconds ago if that is known: rows of LISTED."""
    lagging = store.history.shown(bucket.id, lag)

    def rows(lower: bytes, inclusive: bool, upper: bytes) -> Iterator[Row]:
        compare = ">=" if inclusive else ">"
        sql = (
            f"SELECT {LISTED} FROM versions INDEXED BY versions_live "
            f"WHERE bucket = ? AND live = 1 AND key {compare} ? AND key < ? ORDER BY key"
        )
        found = store.db.execute(sql, (bucket.id, lower, upper))
        if not lagging:
            return found
        older = [row for key, row in sorted(lagging.items()) if row and lower <= key < upper]
        if not inclusive and older and older[0][0] == lower:
            del older[0]
        return merge((row for row in found if row[0] not in lagging), older, key=itemgetter(0))

    return walk(rows, prefix, delimiter, limit, after_marker(marker, prefix, delimiter))


def list_versions(
    store: Store, bucket: Bucket, prefix: str, delimiter: str, markers: tuple[str, str], limit: int
) -> Page:
    """Return a page of versions, newest first within a key.

    Rows are key, version, latest, marker, modified, etag, size, storage class. markers: key and version id.
    """
    key_marker, version_marker = markers
    columns = "key, version, id, marker, modified, etag, size, storage_class"

    def rows(lower: bytes, inclusive: bool, upper: bytes) -> Iterator[Row]:
        previous = b""
        if version_marker and (lower, inclusive) == (key_marker.encode(), False):
            previous = lower
            older = _number(store, bucket, key_marker, version_marker)
            sql = f"SELECT {columns} FROM versions WHERE bucket = ? AND key = ? AND id < ? ORDER BY id DESC"
            for row in store.db.execute(sql, (bucket.id, lower, older)):
                yield (*row[:2], False, *row[3:])
        compare = ">=" if inclusive else ">"
        sql = (
            f"SELECT {columns} FROM versions INDEXED BY versions_by_key "
            f"WHERE bucket = ? AND key {compare} ? AND key < ? ORDER BY key, id DESC"
        )
        for row in store.db.execute(sql, (bucket.id, lower, upper)):
            yield (*row[:2], row[0] != previous, *row[3:])
            previous = row[0]

    start = (key_marker.encode(), False) if version_marker else after_marker(key_marker, prefix, delimiter)
    return walk(rows, prefix, delimiter, limit, start)


def _number(store: Store, bucket: Bucket, key: str, version: str) -> int:
    """Return the row number of a version that may be gone by now."""
    row = store.find(bucket, key, version)
    if row is not None:
        return row.id
    return 0 if version == NULL_VERSION else version_number(version) or 0


def list_uploads(
    store: Store, bucket: Bucket, prefix: str, delimiter: str, markers: tuple[str, str], limit: int
) -> Page:
    """Return a page of unfinished uploads by key, then time: rows of key, id, initiated, storage class."""
    key_marker, id_marker = markers
    columns = "key, id, initiated, storage_class"

    def rows(lower: bytes, inclusive: bool, upper: bytes) -> Iterator[Row]:
        if id_marker and (lower, inclusive) == (key_marker.encode(), False):
            sql = f"SELECT {columns} FROM uploads WHERE bucket = ? AND key = ? AND id > ? ORDER BY id"
            yield from store.db.execute(sql, (bucket.id, lower, id_marker))
        compare = ">=" if inclusive else ">"
        sql = (
            f"SELECT {columns} FROM uploads WHERE bucket = ? AND key {compare} ? AND key < ? ORDER BY key, id"
        )
        yield from store.db.execute(sql, (bucket.id, lower, upper))

    start = (key_marker.encode(), False) if id_marker else after_marker(key_marker, prefix, delimiter)
    return walk(rows, prefix, delimiter, limit, start)
