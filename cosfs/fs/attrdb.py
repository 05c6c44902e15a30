"""What HEAD, GET and PUT showed of objects, remembered across mounts in a small database.

A listing does not carry headers; asking for them costs a HEAD for each object. What is known stays
true while an object keeps its etag and its Last-Modified (a chmod by another client changes only the
latter), and a listing shows both. It is a cache: trouble with it is a warning and then a miss.
"""

from __future__ import annotations

import json
import logging
import math
import sqlite3
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from cosfs.client.model import ARCHIVED_CLASSES, Headers, ObjectInfo

__all__ = ["DATABASE", "AttributeStore", "forget"]

log = logging.getLogger(__name__)

DATABASE = "attributes.db"  # in the directory of a mount
YOUNG = 2.0  # seconds for which a change of an object may not be seen in its Last-Modified
FLUSH_SECONDS = 0.2  # new entries share a transaction
_VARIABLES = 500  # in one statement; old SQLite takes 999
_VERSION = 1
_FIELDS = (
    "content_type",
    "cache_control",
    "content_disposition",
    "content_encoding",
    "content_language",
    "expires",
    "storage_class",
)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
    number INTEGER PRIMARY KEY, -- grows with each put, so the smallest is the oldest
    name TEXT NOT NULL UNIQUE, -- bucket/key
    etag TEXT NOT NULL,
    modified INTEGER NOT NULL, -- whole seconds: HEAD does not tell more
    crc64 INTEGER, -- signed
    version_id TEXT NOT NULL,
    headers TEXT NOT NULL -- JSON
)
"""
_INSERT = """
INSERT OR REPLACE INTO objects (name, etag, modified, crc64, version_id, headers)
VALUES (?, ?, ?, ?, ?, ?)
"""
_SELECT = "SELECT name, etag, modified, crc64, version_id, headers FROM objects WHERE name IN (%s)"

Row = tuple[str, str, int, int | None, str, str]


class AttributeStore:
    """Headers of objects by bucket, key, etag and Last-Modified; the last max_rows that were put.

    Thread-safe. put_many only queues; a thread of its own writes. get_many reads the disk and
    belongs into a worker thread.
    """

    def __init__(self, path: Path, *, max_rows: int = 1_000_000) -> None:
        self._path = path
        self._max_rows = max_rows
        self._lock = threading.Lock()  # of the connection; taken before _queue_lock
        self._queue_lock = threading.Lock()  # of the two dicts; never held while waiting
        self._queued: dict[str, ObjectInfo] = {}
        self._writing: dict[str, ObjectInfo] = {}
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._errors = 0
        self._connection = self._open()

    def get_many(self, bucket: str, infos: Sequence[ObjectInfo]) -> dict[str, ObjectInfo]:
        """Return, by key, those objects of a listing whose headers are known, with the headers."""
        wanted = {
            f"{bucket}/{info.key}": info for info in infos if info.storage_class not in ARCHIVED_CLASSES
        }
        found = self._recent(wanted)
        rows = self._select([name for name in wanted if name not in found], wanted)
        for (name, _, _, crc64, version_id, _), headers in zip(rows, _parse_all(rows), strict=True):
            if headers is not None:
                found[name] = _merge(wanted[name], _unsigned(crc64), version_id, headers)
        return {info.key: info for info in found.values()}

    def put_many(self, objects: Iterable[tuple[str, ObjectInfo]]) -> None:
        """Remember objects as (bucket, info); those without headers and archived ones are left out."""
        # Whether an archived object can be read changes without a trace in a listing.
        with self._queue_lock:
            for bucket, info in objects:
                if info.headers is not None and info.etag and info.storage_class not in ARCHIVED_CLASSES:
                    self._queued[f"{bucket}/{info.key}"] = info
            if not self._queued or self._stop.is_set():
                return
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="attributes", daemon=True)
                self._thread.start()
        self._wake.set()

    def close(self) -> None:
        """Write what is queued and close the database."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        self._flush()
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.wait(YOUNG if self._queued else None)
            self._stop.wait(FLUSH_SECONDS)
            self._wake.clear()
            self._flush(time.time() - YOUNG)

    def _recent(self, wanted: dict[str, ObjectInfo]) -> dict[str, ObjectInfo]:
        """Return what is not in the database yet."""
        found = {}
        with self._queue_lock:
            if not self._queued and not self._writing:
                return {}
            for name, info in wanted.items():
                known = self._queued.get(name) or self._writing.get(name)
                if known is not None and _matches(info, known.etag, int(known.last_modified)):
                    assert known.headers is not None
                    found[name] = _merge(info, known.crc64, known.version_id, known.headers)
        return found

    def _select(self, names: list[str], wanted: dict[str, ObjectInfo]) -> list[Row]:
        rows: list[Row] = []
        with self._lock:
            try:
                for start in range(0, len(names), _VARIABLES):
                    if self._connection is None:
                        return []
                    chunk = names[start : start + _VARIABLES]
                    marks = ",".join("?" * len(chunk))
                    rows += self._connection.execute(_SELECT % marks, chunk)
            except sqlite3.Error as error:
                self._failed(error)
                return []
        return [row for row in rows if _matches(wanted[row[0]], row[1], row[2])]

    def _flush(self, until: float = math.inf) -> None:
        """Write what is queued of objects not changed since: the next chmod in that second would not
        show, and its attributes may die in the queue.
        """
        with self._lock:
            with self._queue_lock:
                young = {name: info for name, info in self._queued.items() if info.last_modified > until}
                self._writing = {name: info for name, info in self._queued.items() if name not in young}
                self._queued = young
            if self._connection is not None and self._writing:
                try:
                    self._insert(self._connection)
                except sqlite3.Error as error:
                    self._failed(error)
            with self._queue_lock:
                self._writing = {}

    def _insert(self, connection: sqlite3.Connection) -> None:
        with connection:
            connection.executemany(_INSERT, map(_row, self._writing, self._writing.values()))
            connection.execute(
                "DELETE FROM objects WHERE number <= (SELECT max(number) FROM objects) - ?", (self._max_rows,)
            )

    def _open(self) -> sqlite3.Connection | None:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                return self._connect()
            except sqlite3.DatabaseError as error:
                if not _is_corruption(error):
                    raise
                return self._start_anew(error)
        except (OSError, sqlite3.Error) as error:
            log.warning("attributes are not remembered, %s cannot be used: %s", self._path, error)
            return None

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=5, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = OFF")  # after a power cut it may start empty
            connection.execute("PRAGMA cache_size = -2048")  # KiB
            ((version,),) = connection.execute("PRAGMA user_version")
            if version != _VERSION:
                connection.execute("DROP TABLE IF EXISTS objects")
                connection.execute(f"PRAGMA user_version = {_VERSION}")
            connection.execute(_SCHEMA)
            connection.execute(_SELECT % "?", ("",)).fetchall()
            connection.commit()
            self._path.chmod(0o600)
        except BaseException:
            connection.close()
            raise
        return connection

    def _start_anew(self, error: sqlite3.Error) -> sqlite3.Connection:
        log.warning("remembered attributes in %s are damaged and start empty: %s", self._path, error)
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        return self._connect()

    def _failed(self, error: sqlite3.Error) -> None:
        """Note a failure; the caller holds the lock."""
        if _is_corruption(error) and self._connection is not None:
            self._connection.close()
            try:
                self._connection = self._start_anew(error)
            except (OSError, sqlite3.Error) as again:
                log.warning("attributes are no longer remembered, %s cannot be used: %s", self._path, again)
                self._connection = None
            return
        self._errors += 1
        if str(self._errors).strip("0") == "1":  # 1, 10, 100 …
            log.warning("remembered attributes in %s: %s (%d times)", self._path, error, self._errors)


def forget(path: Path, objects: Iterable[tuple[str, str]]) -> None:
    """Drop what the database at path, which nobody uses now, tells of objects given as (bucket, key)."""
    names = [(f"{bucket}/{key}",) for bucket, key in objects]
    if not names or not path.exists():
        return
    try:
        connection = sqlite3.connect(path, timeout=5)
        try:
            with connection:
                connection.executemany("DELETE FROM objects WHERE name = ?", names)
        finally:
            connection.close()
    except sqlite3.Error as error:
        log.warning("remembered attributes in %s may be old: %s", path, error)


def _is_corruption(error: sqlite3.Error) -> bool:
    return type(error) is sqlite3.DatabaseError  # its subclasses are about the disk or the lock


def _matches(info: ObjectInfo, etag: str, modified: int) -> bool:
    return info.etag == etag and int(info.last_modified) == modified


def _merge(info: ObjectInfo, crc64: int | None, version_id: str, headers: Headers) -> ObjectInfo:
    return ObjectInfo(
        info.key,
        info.size,
        info.etag,
        info.last_modified,
        info.storage_class,
        crc64,
        version_id,
        headers,
        info.restore,
    )


def _row(name: str, info: ObjectInfo) -> Row:
    assert info.headers is not None
    crc64 = info.crc64
    if crc64 is not None and crc64 >= 1 << 63:
        crc64 -= 1 << 64
    return name, info.etag, int(info.last_modified), crc64, info.version_id, _format(info.headers)


def _unsigned(value: int | None) -> int | None:
    return value + (1 << 64) if value is not None and value < 0 else value


def _format(headers: Headers) -> str:
    values = {name: value for name in _FIELDS if (value := getattr(headers, name))}
    if headers.metadata:
        values["metadata"] = dict(headers.metadata)
    if headers.extra:
        values["extra"] = dict(headers.extra)
    return json.dumps(values, separators=(",", ":"))


def _parse_all(rows: Sequence[Row]) -> list[Headers | None]:
    # One call for all: twice as fast, and equal names become one string in memory.
    try:
        values = json.loads("[" + ",".join([row[5] for row in rows]) + "]")
        if len(values) == len(rows):
            return [Headers(**value) for value in values]
    except (ValueError, TypeError):
        pass
    return [_parse(row[5]) for row in rows]


def _parse(text: str) -> Headers | None:
    try:
        return Headers(**json.loads(text))
    except (ValueError, TypeError):
        return None
