"""What is needed to go on with a large transfer that was interrupted: one small file each in ~/.cos/resume.

A record belongs to what is moved where, so the same command finds it again. It is written in one
step, at most once a second, and locked by the process that works on it: a second one that moves the
same thing gets no record, and so never shares an upload or a temporary file with the first.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, field, fields
from pathlib import Path
from typing import Any, Literal

import trio

from cosfs.errors import (
    AlreadyExistsError,
    COSError,
    IntegrityError,
    NotFoundError,
    PreconditionFailedError,
    TransferError,
    UsageError,
)
from cosfs.records import dataclass
from cosfs.transfer.options import TransferOptions

__all__ = ["Operation", "Record", "Records", "State", "can_be_resumed", "lock_file", "saving"]

log = logging.getLogger(__name__)

Operation = Literal["upload", "download", "copy"]

_VERSION = 1
_INTERVAL = 1.0
_ID = re.compile(r"[0-9a-f]{32}")
# Of TransferOptions; keys of customers are secrets and are never written.
_OPTIONS = tuple(
    name.name
    for name in fields(TransferOptions)
    if name.name not in ("resume", "customer_key", "source_customer_key")
)


@dataclass(slots=True)
class State:
    """What a record holds. Which fields are used depends on op; empty means not yet.

    done maps the number of a part to its etag, MD5 and CRC64, or in downloads the start of a range to
    its end and CRC64. file is device, inode, size and mtime_ns of the source, or of the temporary
    file device and inode.
    """

    op: Operation
    source: str
    destination: str
    size: int = 0
    part_size: int = 0
    bucket: str = ""  # of the object that is written or, in downloads, read
    key: str = ""
    region: str = ""
    upload_id: str = ""
    headers: dict[str, Any] = field(default_factory=dict)  # what makes another upload of it
    file: list[int] = field(default_factory=list)
    source_bucket: str = ""
    source_key: str = ""
    etag: str = ""
    crc64: int | None = None
    version_id: str = ""
    temporary: str = ""
    root: str = ""
    asked: float = 0.0  # when COS was asked to open an upload, as long as its id is not known
    options: dict[str, Any] = field(default_factory=dict)
    created: float = 0.0
    updated: float = 0.0
    done: dict[str, list[Any]] = field(default_factory=dict)

    @property
    def done_bytes(self) -> int:
        """How many bytes need not be moved again."""
        if self.op == "download":
            return sum(stop - int(start) for start, (stop, _) in self.done.items())
        last = -(-self.size // self.part_size) if self.part_size else 0
        whole = len(self.done) * self.part_size
        return whole - (last * self.part_size - self.size if str(last) in self.done else 0)

    def begin_again(self) -> None:
        """Forget what was done: it was of something else."""
        fresh = State(self.op, self.source, self.destination)
        for each in fields(State):
            if each.name not in ("op", "source", "destination", "created"):
                setattr(self, each.name, getattr(fresh, each.name))

    def keep_options(self, options: TransferOptions) -> None:
        """Note how the transfer is done, for whoever resumes it without the command at hand."""
        self.options = {name: getattr(options, name) for name in _OPTIONS}

    def transfer_options(self) -> TransferOptions:
        """Return how the transfer was done."""
        known = {name: value for name, value in self.options.items() if name in _OPTIONS}
        return TransferOptions(**known, resume=True)


class Record:
    """One record, locked until it is released or removed."""

    def __init__(self, path: Path, lock: int, state: State) -> None:
        self.id = path.stem
        self.state = state
        self._path = path
        self._lock = lock

    def save(self) -> None:
        """Write the record, durably and in one step; blocking."""
        self.write(self.dump())

    def dump(self) -> str:
        """Return the record as text; in the thread that changes it."""
        self.state.updated = time.time()
        self.state.created = self.state.created or self.state.updated
        return json.dumps({"v": _VERSION, **asdict(self.state)}, separators=(",", ":"))

    def write(self, text: str) -> None:
        """Write what dump returned; in any thread."""
        # Not by tempfile: importing that takes 2 ms, which every transfer would pay.
        new = self._path.with_name(f".new-{secrets.token_hex(8)}")
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._path)
        except BaseException:
            new.unlink(missing_ok=True)
            raise

    def keep(self) -> bool:
        """Save it for whoever goes on later; whether what is on the disk now is of use to them."""
        with _quiet():
            self.save()
            return True
        # Most likely the disk is full. What was written before tells of fewer parts, that is all.
        before = _read(self._path)
        mine = (self.state.upload_id, self.state.temporary)
        return before is not None and (before.upload_id, before.temporary) == mine

    def remove(self) -> None:
        """Forget the transfer: it is done, or cannot be resumed."""
        with _quiet():
            self._path.unlink(missing_ok=True)
        self.release()

    def release(self) -> None:
        """Let another process have it; again is fine."""
        if self._lock >= 0:
            with _quiet():
                if not self._path.exists():
                    # While it is locked: whoever opened it meanwhile sees that its name is gone.
                    self._path.with_suffix(".lock").unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = -1


class Records:
    """All records of this user. kept lists those that this process leaves to be resumed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.kept: list[str] = []

    @staticmethod
    def identity(op: Operation, source: str, destination: str) -> str:
        """Return the id of the record of a transfer."""
        text = "\0".join((op, source, destination))
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]

    def claim(self, op: Operation, source: str, destination: str) -> Record | None:
        """Return the record of a transfer, new or found; None if another process works on it.

        None as well, with a note in the log, where records cannot be written.
        """
        path = self._path(self.identity(op, source, destination))
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = lock_file(path.with_suffix(".lock"))
        except OSError as error:
            log.info("%s cannot be resumed if it is interrupted: %s", destination, error)
            return None
        if lock is None:
            return None
        state = _read(path)
        if state is None or (state.op, state.source, state.destination) != (op, source, destination):
            state = State(op, source, destination)
        return Record(path, lock, state)

    def open(self, record_id: str) -> Record | None:
        """Lock the record with this id; None if there is none or another process works on it."""
        state = self.get(record_id)
        return self.claim(state.op, state.source, state.destination) if state is not None else None

    def get(self, record_id: str) -> State | None:
        """Return what a record says."""
        return _read(self._path(record_id)) if _ID.fullmatch(record_id) else None

    def exists(self, op: Operation, source: str, destination: str) -> bool:
        """Whether a transfer was begun before."""
        return self._path(self.identity(op, source, destination)).exists()

    def is_running(self, record_id: str) -> bool:
        """Whether a process works on it now."""
        path = self._path(record_id).with_suffix(".lock")
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def ids(self) -> list[str]:
        """Return the ids of all records."""
        return [path.stem for path in self.directory.glob("*.json") if _ID.fullmatch(path.stem)]

    def all(self) -> Iterator[tuple[str, State]]:
        """Yield all records that can be read, the oldest first."""
        found = [(name, state) for name in self.ids() if (state := self.get(name)) is not None]
        yield from sorted(found, key=lambda item: item[1].updated)

    def temporaries(self) -> list[str]:
        """Return the paths of the files that interrupted downloads are kept in."""
        found = ((state.destination, state.temporary) for _, state in self.all())
        return [f"{os.path.dirname(path)}/{name}" for path, name in found if name]  # noqa: PTH120

    def match(self, prefix: str) -> str:
        """Return the id that begins with prefix; raise UsageError unless it is exactly one."""
        names = [path.stem for path in self.directory.glob("*.json")]
        ids = [name for name in names if name.startswith(prefix)] if prefix.isalnum() else []
        if len(ids) != 1:
            what = f"{len(ids)} jobs begin with" if ids else "there is no job"
            raise UsageError(f"{what} {prefix!r}", hint="'cos jobs list' shows them")
        return ids[0]

    def _path(self, record_id: str) -> Path:
        return self.directory / f"{record_id}.json"


def lock_file(path: Path) -> int | None:
    """Open and lock a file; None if somebody else has it."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is(fd, path):
                return fd
        except BlockingIOError:
            os.close(fd)
            return None
        except BaseException:
            os.close(fd)
            raise
        # Removed between opening and locking: a lock of that keeps nobody out.
        os.close(fd)


def _is(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def _read(path: Path) -> State | None:
    """Return what a file says; None if it is not a record as we write them."""
    try:
        found = json.loads(path.read_text(encoding="utf-8", errors="surrogateescape"))
        if found.pop("v") != _VERSION:
            return None
        state = State(**found)
        return state if _is_sound(state) else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _is_sound(state: State) -> bool:
    """Whether every field is of its kind: what relies on them must not trip over a damaged file."""
    blank = State(state.op, "", "")
    for each in fields(State):
        value, kind = getattr(state, each.name), type(getattr(blank, each.name))
        if each.name == "crc64":
            good = value is None or isinstance(value, int)
        else:
            good = isinstance(value, (int, float) if kind is float else kind)
        if not good:
            return False
    if state.op not in ("upload", "download", "copy") or not all(isinstance(n, int) for n in state.file):
        return False
    return all(_is_sound_part(state, start, done) for start, done in state.done.items())


def _is_sound_part(state: State, start: str, done: list[Any]) -> bool:
    if state.op == "download":
        stop, crc = done
        return 0 <= int(start) <= stop <= state.size and isinstance(crc, int)
    etag, md5, crc = done
    # Copied parts have no checksums of ours.
    return int(start) >= 1 and isinstance(etag, str) and isinstance(md5, str) and isinstance(crc, int | None)


def can_be_resumed(error: BaseException) -> bool:
    """Whether it makes sense to go on later with what an error has ended."""
    if isinstance(error, Exception) and not isinstance(error, COSError | OSError):
        return False
    final = AlreadyExistsError | IntegrityError | NotFoundError | PreconditionFailedError
    return not isinstance(error, final | TransferError | UsageError)


_told: set[str] = set()


def tell_unsaved(error: OSError) -> None:
    """Warn once of each reason why records cannot be written."""
    reason = error.strerror or str(error)
    if reason not in _told:
        _told.add(reason)
        log.warning(
            "what resuming needs cannot be written (%s): an interrupted transfer would begin anew", reason
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Let no trouble with a record end the transfer: then it cannot be resumed, that is all."""
    try:
        yield
    except OSError as error:
        tell_unsaved(error)


async def saving(record: Record, *, task_status: trio.TaskStatus[Callable[[], None]]) -> None:
    """Write a record soon after each change, at most once a second; started with what tells of one."""
    event = trio.Event()
    task_status.started(lambda: event.set())
    while True:
        await event.wait()
        event = trio.Event()
        with _quiet():
            await trio.to_thread.run_sync(record.write, record.dump())
        await trio.sleep(_INTERVAL)
