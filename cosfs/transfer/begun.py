"""Uploads this process has open and no record tells of, noted on disk: those of a killed one are found so.

A note is a file in ~/.cos/resume, locked as long as its process lives. Each open upload has a slot in it,
which is used again when the upload is over: so a note stays small, and costs two writes for an upload. They
are not forced to the disk: what is lost with a process is not lost with a machine that loses its power.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

from cosfs.client.model import Upload
from cosfs.records import dataclass
from cosfs.transfer.resume import lock_file

__all__ = ["LeftUploads", "Noted", "OpenUploads", "left_uploads", "noted_ids"]

log = logging.getLogger(__name__)

# More than the longest key takes, in the longest of the ways that JSON has to write it.
_SLOT = 8192
_SUFFIX = ".uploads"


@dataclass(frozen=True, slots=True)
class Noted:
    """One upload of a note; without an id, COS was asked to open it and nobody has heard the answer."""

    bucket: str
    key: str
    region: str
    since: float
    upload_id: str = ""

    def is_of(self, bucket: str, key: str) -> bool:
        """Whether it is of this object."""
        return (self.bucket, self.key) == (bucket, key)


class OpenUploads:
    """The note of this process. Its methods can be called from any thread, and never raise OSError."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._path: Path | None = None
        self._fd = -1
        self._free: list[int] = []
        self._used: dict[int, Noted] = {}
        self._of: dict[str, int] = {}  # slots by the ids of uploads
        self._doubtful: set[int] = set()  # looked into when the work ends
        self._closed = False

    def open(self, bucket: str, key: str, region: str, create: Callable[[], Upload]) -> Upload:
        """Call what opens an upload; note it before, and what came of it."""
        asked = Noted(bucket, key, region, time.time())
        slot = self._take(asked)
        try:
            upload = create()
        except BaseException as error:
            if getattr(error, "uncertain", False):
                self._doubtful.add(slot)
            else:
                self._clear(slot)
            raise
        if upload.doubtful:
            self._doubtful.add(slot)
            slot = self._take(asked)
        self._put(slot, Noted(bucket, key, region, asked.since, upload.upload_id))
        return upload

    def keep(self, upload: Upload, region: str) -> None:
        """Note an upload that is open, and that nothing else will tell of."""
        noted = Noted(upload.bucket, upload.key, region, time.time(), upload.upload_id)
        self._put(self._take(noted), noted)

    def over(self, upload: Upload) -> None:
        """Forget an upload: it is completed or aborted, or a record tells of it."""
        slot = self._of.pop(upload.upload_id, -1)
        self._clear(slot)

    def doubt(self, asked: Noted) -> None:
        """Note, until the work ends, an upload that is looked for then."""
        self._doubtful.add(self._take(asked))

    def take_left(self, bucket: str, key: str) -> list[Noted]:
        """Return what dead processes have left open of a key: noted here now, the caller gives it up."""
        with self._lock:
            dead = self._dead
            found = [(left, each) for left in dead for each in left.uploads if each.is_of(bucket, key)]
        for left, noted in found:
            if noted.upload_id:
                self._put(self._take(noted), noted)
            else:
                self.doubt(noted)
            with self._lock, suppress(OSError):
                left.forget(noted)
        return [noted for _, noted in found]

    @cached_property
    def _dead(self) -> list[LeftUploads]:
        return list(left_uploads(self._directory))

    def _take(self, noted: Noted) -> int:
        with self._lock:
            slot = self._free.pop() if self._free else len(self._used)
            self._used[slot] = noted
            self._write(slot, noted)
        return slot

    def _put(self, slot: int, noted: Noted) -> None:
        with self._lock:
            self._used[slot] = noted
            self._of[noted.upload_id] = slot
            self._write(slot, noted)

    def _clear(self, slot: int) -> None:
        with self._lock:
            if self._used.pop(slot, None) is not None:
                self._free.append(slot)
                self._write(slot, None)

    def _write(self, slot: int, noted: Noted | None) -> None:
        if self._closed:
            return
        try:
            if self._fd < 0:
                self._open()
            os.pwrite(self._fd, _slot(noted), slot * _SLOT)
        except OSError as error:
            # Then nobody knows of it if we are killed.
            log.info("open uploads cannot be noted: %s", error)

    def _open(self) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = None
        while lock is None:  # somebody may take the file for a dead process's before we have locked it
            self._path = self._directory / f"{secrets.token_hex(16)}{_SUFFIX}"
            lock = lock_file(self._path)
        self._fd = lock

    def close(self) -> None:
        """Remove the note, unless it tells of what could not be given up or has not been answered yet."""
        for slot in self._doubtful:
            self._clear(slot)
        with self._lock:
            self._closed = True
            if self._path is not None and not self._used:
                with suppress(OSError):
                    self._path.unlink(missing_ok=True)
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1
            for left in self.__dict__.pop("_dead", ()):
                left.close()


class LeftUploads:
    """What a dead process left open in COS; locked for us until it is closed."""

    def __init__(self, path: Path, lock: int) -> None:
        self.id = path.stem
        self.updated = path.stat().st_mtime
        self._path = path
        self._lock = lock
        self._slots = {slot: noted for slot, noted in enumerate(_read(path)) if noted is not None}

    @property
    def uploads(self) -> list[Noted]:
        """The uploads that may be open."""
        return list(self._slots.values())

    def forget(self, noted: Noted) -> None:
        """Take one out of the note, which goes with the last one."""
        for slot in [slot for slot, each in self._slots.items() if each == noted]:
            del self._slots[slot]
            os.pwrite(self._lock, _slot(None), slot * _SLOT)
        if not self._slots:
            self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let others look after it."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def left_uploads(directory: Path) -> Iterator[LeftUploads]:
    """Yield what dead processes have left; each is locked until it is closed."""
    for path in sorted(directory.glob(f"*{_SUFFIX}")):
        try:
            lock = lock_file(path)
        except OSError:
            continue
        if lock is None:
            continue  # its process lives, or somebody else looks after it
        left = LeftUploads(path, lock)
        if not left.uploads:
            path.unlink(missing_ok=True)
            left.close()
            continue
        yield left


def noted_ids(directory: Path) -> set[str]:
    """Return the ids of all uploads that are noted, by processes that live and by dead ones."""
    notes = (_read(path) for path in directory.glob(f"*{_SUFFIX}"))
    return {noted.upload_id for note in notes for noted in note if noted is not None and noted.upload_id}


def _read(path: Path) -> list[Noted | None]:
    """Return what the slots of a note say."""
    try:
        data = path.read_bytes()
    except OSError:
        return []
    return [_noted(data[start : start + _SLOT]) for start in range(0, len(data), _SLOT)]


def _slot(noted: Noted | None) -> bytes:
    text = "" if noted is None else json.dumps(asdict(noted), separators=(",", ":"))
    return text.encode().ljust(_SLOT - 1)[: _SLOT - 1] + b"\n"


def _noted(slot: bytes) -> Noted | None:
    if not slot.strip(b" \n\0"):
        return None
    try:
        noted = Noted(**json.loads(slot))
    except (ValueError, TypeError):
        return None
    texts = (noted.bucket, noted.key, noted.region, noted.upload_id)
    sound = all(isinstance(text, str) for text in texts) and isinstance(noted.since, float)
    return noted if sound else None
