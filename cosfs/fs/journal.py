"""What must survive this process: files not yet sent, and changes of the tree half done.

One SQLite database in the cache directory, next to the staging files that it names. WAL with
synchronous=NORMAL: a killed process loses nothing, and a row is cheap. `sync()` adds the
guarantee against power loss where a caller was told that data are safe.

A change that takes several requests has its record before the first of them; what follows from
its success is written in one transaction (`together()`), so that no moment lies between.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from cosfs.errors import ConfigError, FilesystemError

log = logging.getLogger(__name__)

T = TypeVar("T")

RESERVE = 1 << 20  # bytes kept free for the journal where the disk is full
RESERVE_AGAIN = 30.0  # seconds until we try to have them again
RETIRED_MOST = 16 << 20  # bytes of staging files that wait to be removed, and
RETIRED_FOR = 1.0  # seconds for which they do
WAL_SIZE = 1100 * (4096 + 24)  # bytes; SQLite empties the log when it has 1,000 pages
_VERSION = 0  # of the database; a higher one is not ours to write
_PUT = "insert or replace into record (id, kind, bucket, key, body, written) values (?, ?, ?, ?, ?, ?)"
_SELECT = "select id, kind, bucket, key, body, written from record"
_SCHEMA = """
create table if not exists record (
  id integer primary key autoincrement,
  kind text not null,
  bucket text not null,
  key text not null,
  body text not null,
  written real not null
);
"""


@dataclass(frozen=True, slots=True)
class Record:
    """One intent. kind is one of:

    "file": a file to send, its close() acknowledged; "open": the same of a file never closed;
    "attributes": an object or directory whose attributes are to be written; "move": a file to rename,
    the copy under way; "rename": a directory to move; "delete": an object to remove; "emptied": a
    directory that was removed, though COS keeps something below it for a while;
    "upload": a multipart upload to give up, or (without an id) to look for.
    """

    id: int
    kind: str
    bucket: str
    key: str
    body: dict[str, Any]
    written: float


class Journal:
    """Records in the order they were written. Thread-safe; each call takes some 30 us.

    One process at a time: its owner has locked the directory (place.py).
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.staging = directory / "staging"
        self._path = directory / "journal.db"
        self._lock = threading.RLock()
        self._depth = 0
        self._is_grown = False
        self._done: set[int] = set()  # records that are to go, but the disk was full
        self._going: set[int] = set()  # those that the transaction under way removes
        self._retiring = threading.Lock()
        self._retired: list[Path] = []  # staging files to remove when everything so far is on disk
        self._retired_size = 0  # bytes of the disk
        self._removing = 0  # how many threads are at removing some
        self._removed = threading.Condition(self._retiring)
        self._is_retiring = False
        self._begun = self._forced = 0  # how many times records were forced to disk
        self._hurry = threading.Event()
        self._reserve = directory / "journal.reserve"
        self._reserved = 0.0  # when it was tried last
        self._db = self._open()
        ((self._last,),) = self._db.execute("select coalesce(max(seq), 0) from sqlite_sequence")
        self._keep_reserve()

    def _open(self) -> sqlite3.Connection:
        """Open the database; ConfigError where its records cannot be told."""
        try:
            self.staging.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._is_lost():
                raise self._unusable("it is empty or gone, and was not")
            db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            try:
                self._prepare(db)
            except BaseException:
                db.close()
                raise
        except (OSError, sqlite3.Error) as exc:
            raise self._unusable(exc) from exc
        return db

    def _is_lost(self) -> bool:
        """Whether a database that was there is gone: SQLite would remove its log, we what is staged."""
        if self._path.is_dir() or (self._path.exists() and self._path.stat().st_size):
            return False
        log = self.directory / "journal.db-wal"
        has_log = log.exists() and log.stat().st_size > 0
        return has_log or self._reserve.exists() or any(self.staging.iterdir())

    def _prepare(self, db: sqlite3.Connection) -> None:
        ((version,),) = db.execute("pragma user_version")
        if version > _VERSION:
            raise ConfigError(
                f"the journal {self._path} was written by a newer version of cos",
                hint="Let that version finish what it left (cos recover), or choose another --cache-dir",
            )
        db.execute("pragma journal_mode=wal")
        db.execute("pragma synchronous=normal")
        db.executescript(_SCHEMA)
        db.execute(f"{_SELECT} limit 0")
        ((found,),) = db.execute("pragma quick_check(1)")
        if found != "ok":
            raise self._unusable(f"it is damaged: {found.splitlines()[-1]}")

    def _unusable(self, why: object) -> ConfigError:
        return ConfigError(
            f"the journal {self._path} cannot be used: {why}",
            hint=f"What was not sent is in it and in staging/; to start anew move {self.directory} away",
        )

    # Writing

    @contextmanager
    def together(self) -> Iterator[None]:
        """Make what is written inside one transaction: a crash leaves all of it or nothing."""
        with self._lock:
            if self._depth:
                yield
                return
            self._depth = 1
            try:
                yield
                # Most changes of files that COS has by now leave nothing to write.
                if self._db.in_transaction:
                    self._commit()
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("rollback")
                self._done |= self._going  # whoever had them removed does not ask for it again
                raise
            finally:
                self._depth = 0
                self._going.clear()

    def _commit(self) -> None:
        try:
            self._db.execute("commit")
        except sqlite3.OperationalError as exc:
            if not self._make_room(exc) or not self._db.in_transaction:
                raise _as_oserror(exc) from exc
            self._db.execute("commit")

    def add(self, kind: str, bucket: str, key: str, body: dict[str, Any]) -> int:
        """Write a record; return its number."""
        return self.add_many(kind, bucket, [(key, body)])[0]

    def add_many(self, kind: str, bucket: str, rows: Iterable[tuple[str, dict[str, Any]]]) -> list[int]:
        """Write a record for each (key, body) in one transaction; return their numbers."""
        now = time.time()
        rows = list(rows)

        def insert() -> list[int]:
            numbers = []
            for key, body in rows:
                # Not SQLite's own: of a transaction that fails it would use them again.
                self._last += 1
                self._db.execute(_PUT, (self._last, kind, bucket, key, json.dumps(body), now))
                numbers.append(self._last)
            return numbers

        if len(rows) > 1:
            with self.together():
                return self._run(insert)
        return self._run(insert)

    def replace(self, record_id: int, kind: str, bucket: str, key: str, body: dict[str, Any]) -> None:
        """Write a record anew, also if the transaction failed that wrote it first; its number stays."""
        row = (record_id, kind, bucket, key, json.dumps(body), time.time())
        self._run(lambda: self._db.execute(_PUT, row))

    def remove(self, *record_ids: int) -> None:
        """What the records stood for is done. Never fails: a full disk only puts it off."""
        with self._lock:
            self._done.update(record_ids)
            wanted = [(i,) for i in self._done]

            def delete() -> None:
                self._db.executemany("delete from record where id = ?", wanted)

            try:
                if len(wanted) > 1:
                    with self.together():
                        self._run(delete)
                else:
                    self._run(delete)
            except FilesystemError as exc:
                if self._depth:
                    raise  # the rest of the transaction is lost as well
                log.error("the journal could not be written: %s", exc)
                return
            self._going |= self._done if self._depth else set()
            self._done.clear()

    def _run(self, write: Callable[[], T]) -> T:
        with self._lock:
            if self._depth:
                if not self._db.in_transaction:
                    self._try(lambda: self._db.execute("begin immediate"))
                try:
                    return write()
                except sqlite3.OperationalError as exc:
                    self._make_room(exc)  # for the next time
                    raise _as_oserror(exc) from exc
            result = self._try(write)
            if self._reserved and time.monotonic() > self._reserved + RESERVE_AGAIN:
                self._keep_reserve()
            return result

    def _try(self, write: Callable[[], T]) -> T:
        try:
            return write()
        except sqlite3.OperationalError as exc:
            if not self._make_room(exc):
                raise _as_oserror(exc) from exc
        try:
            return write()
        except sqlite3.OperationalError as exc:
            raise _as_oserror(exc) from exc

    # Room on a full disk

    def _keep_reserve(self) -> None:
        """Have some room that nobody else takes, or try it again later."""
        self._reserved = 0.0
        if self._reserve.exists():
            return
        try:
            fd = os.open(self._reserve, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(fd, 0, RESERVE)
            finally:
                os.close(fd)
        except OSError:
            self._reserve.unlink(missing_ok=True)
            self._reserved = time.monotonic()

    def _make_room(self, error: sqlite3.OperationalError) -> bool:
        """Give the reserve up if the disk is full; tells whether there was one."""
        if _as_oserror(error).errno != errno.ENOSPC or not self._reserve.exists():
            return False
        self._reserve.unlink(missing_ok=True)
        self._reserved = time.monotonic()
        log.error("the disk of %s is full", self.directory)
        return True

    # Reading

    def records(self) -> list[Record]:
        with self._lock:
            try:
                rows = self._db.execute(f"{_SELECT} order by id").fetchall()
                return [
                    Record(i, kind, bucket, key, json.loads(text), at)
                    for i, kind, bucket, key, text, at in rows
                ]
            except (sqlite3.DatabaseError, ValueError) as exc:
                raise self._unusable(exc) from exc

    def sync(self) -> None:
        """Make all records so far safe from power loss. Takes milliseconds; nobody waits for its lock."""
        with self._retiring:
            retired, self._retired, self._retired_size = self._retired, [], 0
            self._begun += 1
            number = self._begun
            mine = bool(retired)
            self._removing += mine
        try:
            self._force()
            with self._retiring:
                self._forced = max(self._forced, number)
            while retired:
                retired[-1].unlink(missing_ok=True)
                retired.pop()
        finally:
            with self._retiring:
                self._retired += retired
                self._removing -= mine
                self._removed.notify_all()

    @property
    def has_retired(self) -> bool:
        """Whether staging files are on disk that are only to be removed."""
        return bool(self._retired or self._removing)

    def free_retired(self) -> None:
        """Remove these now; returns when they are gone, whoever is at it."""
        self.sync()
        with self._retiring:
            self._removed.wait_for(lambda: not self._removing, timeout=RETIRED_FOR)

    @property
    def moment(self) -> int:
        """Something to ask is_forced() with, about what was written so far."""
        return self._begun

    def is_forced(self, moment: int) -> bool:
        """Whether no loss of power can undo what was written up to a moment."""
        return self._forced > moment

    def retire(self, path: Path) -> None:
        """Remove a staging file that no record names, when no loss of power can bring its record back.

        Removed at once, its record could be back without it, and what COS has would be reported as lost.
        """
        try:
            size = path.stat().st_blocks * 512
        except FileNotFoundError:
            return
        with self._retiring:
            self._retired.append(path)
            self._retired_size += size
            if self._retired_size >= RETIRED_MOST:
                self._hurry.set()
            if self._is_retiring:
                return
            self._is_retiring = True
        try:
            threading.Thread(target=self._remove_retired, name="journal-sync", daemon=True).start()
        except RuntimeError as exc:
            log.warning("files that are no longer needed stay for a while: %s", exc)
            with self._retiring:
                self._is_retiring = False  # they go with the next one, or with whoever needs their room

    def _remove_retired(self) -> None:
        """Once for all files of a second."""
        self._hurry.wait(RETIRED_FOR)
        with self._retiring:
            self._is_retiring = False
            self._hurry.clear()
        try:
            self.sync()
        except OSError as exc:
            log.error("the journal cannot be forced to disk: %s", exc)

    def _force(self) -> None:
        try:
            fd = os.open(self.directory / "journal.db-wal", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            if not (self.directory / "journal.db").exists():
                raise OSError(errno.EIO, "the cache directory was removed", str(self.directory)) from None
            return  # everything is in the database itself, and was forced to disk with it
        try:
            if not self._is_grown:
                self._grow(fd)
            os.fdatasync(fd)
        finally:
            os.close(fd)

    def _grow(self, fd: int) -> None:
        """Make the log as long as it ever gets: forcing what is written over other bytes takes half the time.

        SQLite takes zeros behind its last entry for the end, and writes from the start of the file again when
        all entries are in the database.
        """
        with self._lock:
            self._is_grown = True
            size = os.fstat(fd).st_size
            try:
                if size < WAL_SIZE:
                    os.pwrite(fd, bytes(WAL_SIZE - size), size)
            except OSError as exc:
                log.debug("the journal stays short: %s", exc)
                os.ftruncate(fd, size)

    def sweep(self) -> list[Path]:
        """Remove staging files that no record names; returns what was removed."""
        named = {Path(record.body.get("content", {}).get("path", "")).name for record in self.records()}
        gone = [path for path in self.staging.iterdir() if path.name not in named]
        for path in gone:
            path.unlink(missing_ok=True)
        return gone

    def close(self) -> None:
        with self._lock:
            self._db.close()
            for path in self._retired:  # SQLite has forced everything to disk
                path.unlink(missing_ok=True)
            self._retired.clear()


def _as_oserror(error: sqlite3.OperationalError) -> FilesystemError:
    full = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL or "full" in str(error)
    # With a hint it is told in the log: a full disk is found by everybody, a broken one is not.
    hint = "" if full else "Look at the disk of the cache directory"
    code = errno.ENOSPC if full else errno.EIO
    return FilesystemError(code, f"the journal cannot be written: {error}", hint=hint)
