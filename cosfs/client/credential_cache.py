"""Temporary credentials on disk, shared by all processes of a user. Only the user can read them."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cosfs.client.auth import Credentials
from cosfs.errors import CredentialsError
from cosfs.records import dataclass

__all__ = ["CredentialCache", "Kept"]

log = logging.getLogger(__name__)

# A process that holds the lock asks STS; one that hangs must not stop the others for ever.
_LOCK_WAIT = 25.0


@dataclass(frozen=True, slots=True)
class Kept:
    """Credentials and when to fetch the next ones."""

    credentials: Credentials
    renew_at: float


class CredentialCache:
    """One set of credentials in a file; its name is made of what they were asked for with."""

    def __init__(self, directory: Path, parts: tuple[object, ...]) -> None:
        name = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
        self._path = directory / f"{name}.json"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Let one process at a time ask for new ones; without a lock where none can be had."""
        handle = self._open_lock()
        try:
            yield
        finally:
            if handle is not None:
                os.close(handle)

    def _open_lock(self) -> int | None:
        deadline = time.monotonic() + _LOCK_WAIT
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            handle = os.open(self._path.with_suffix(".lock"), flags, 0o600)
        except OSError as error:
            log.debug("credentials are fetched without a lock: %s", error)
            return None
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return handle
            except BlockingIOError:
                if time.monotonic() > deadline:
                    return handle
                time.sleep(0.02)
            except OSError:  # a filesystem without locks
                return handle

    def read(self) -> Kept | None:
        """Return what is kept; anything odd about the file means nothing is."""
        from cosfs.client.credentials import checked

        try:
            handle = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            with os.fdopen(handle) as file:
                status = os.fstat(file.fileno())
                if status.st_uid != os.geteuid() or status.st_mode & 0o077:
                    return None
                kept = json.loads(file.read(65536))
            found = Credentials(kept["id"], kept["key"], kept["token"], float(kept["expires"]))
            return Kept(checked(found, str(self._path)), float(kept["renew_at"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, CredentialsError):
            return None

    def write(self, kept: Kept) -> None:
        """Keep credentials for other processes; it is no error if that does not work."""
        given = kept.credentials
        record = {
            "id": given.secret_id,
            "key": given.secret_key,
            "token": given.token,
            "expires": given.expires,
            "renew_at": kept.renew_at,
        }
        temporary = self._path.with_suffix(f".{os.getpid()}.tmp")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary.unlink(missing_ok=True)
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "w") as file:
                json.dump(record, file)
            temporary.replace(self._path)
        except OSError as error:
            log.debug("credentials are not kept in %s: %s", self._path, error)
            temporary.unlink(missing_ok=True)
