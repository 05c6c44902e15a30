"""The bytes of objects on disk: one immutable file per stored piece, in directories by the first two digits.

A file belongs to the store once a row of the database names it; what no row names is left over from a crash
and is removed at the next start. Files are unlinked only when nobody reads them any more.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cosfs.emulator.digests import Digest

# Measured: up to here rows beat files (twice the writes at 1 KiB), above they lose.
INLINE_LIMIT = 16 * 1024


@dataclass(frozen=True, slots=True)
class Received:
    """A body that has arrived whole: in memory or in a file, with its digests."""

    size: int
    md5: bytes
    crc64: int
    sha256: str = ""
    data: bytes = b""
    file: str = ""


class FileStore:
    """Create, read and remove the files of a data directory."""

    def __init__(self, root: Path, wanted: Callable[[str], bool]) -> None:
        self._root = root
        self._wanted = wanted  # whether a row names a file: a part copy may name it anew while it is read
        for number in range(256):
            (root / f"{number:02x}").mkdir(parents=True, exist_ok=True)
        self._pins: Counter[str] = Counter()
        self._doomed: set[str] = set()
        # Unlinking a file of gigabytes takes a while: it must not stop the requests.
        self._sweeper = ThreadPoolExecutor(1, thread_name_prefix="cos-emulator-unlink")

    def path(self, file: str) -> Path:
        """Return where a file is."""
        return self._root / file[:2] / file

    def receive(self, *, limit: int = INLINE_LIMIT, with_sha256: bool = False) -> Receiver:
        """Begin to take in a body that is kept in memory up to limit."""
        return Receiver(self, limit, with_sha256)

    def create(self) -> tuple[str, int]:
        """Create a new file; return its name and an open descriptor."""
        file = uuid.uuid4().hex
        return file, os.open(self.path(file), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def pin(self, files: Iterable[str]) -> None:
        """Keep files from being unlinked while they are read."""
        self._pins.update(files)

    def unpin(self, files: Iterable[str]) -> None:
        """Let go of files that were pinned; the last reader of a removed file unlinks it."""
        for file in files:
            self._pins[file] -= 1
            if self._pins[file] <= 0:
                del self._pins[file]
                if file in self._doomed:
                    self._doomed.discard(file)
                    if not self._wanted(file):
                        self._unlink(file)

    def remove(self, file: str) -> None:
        """Unlink a file that no row names any more, now or after its last reader."""
        if file in self._pins:
            self._doomed.add(file)
        else:
            self._unlink(file)

    def _unlink(self, file: str) -> None:
        self._sweeper.submit(self.path(file).unlink, missing_ok=True)

    def sweep(self, wanted: set[str]) -> int:
        """Remove every file that is not wanted; return how many there were."""
        swept = 0
        for directory in self._root.iterdir():
            for entry in os.scandir(directory):
                if entry.name not in wanted:
                    Path(entry.path).unlink()
                    swept += 1
        return swept

    def close(self) -> None:
        """Finish the removals that are under way."""
        self._sweeper.shutdown(wait=True)


class Receiver:
    """Take in one body: digests and storing in the same pass. Used by one thread at a time."""

    def __init__(self, store: FileStore, limit: int, with_sha256: bool) -> None:
        self._store = store
        self._limit = limit
        self._digest = Digest(with_sha256=with_sha256)
        self._memory: list[bytes] = []
        self._file = ""
        self._fd = -1

    @property
    def size(self) -> int:
        """Return how many bytes have come so far."""
        return self._digest.size

    def write(self, data: bytes) -> None:
        """Take the next bytes."""
        self._digest.update(data)
        if self._fd < 0:
            self._memory.append(data)
            if self._digest.size <= self._limit:
                return
            self._file, self._fd = self._store.create()
            data = b"".join(self._memory)
            self._memory = []
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]

    def finish(self) -> Received:
        """End the body. The file, if there is one, now waits for a row to name it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        digest = self._digest
        data = b"".join(self._memory)
        return Received(digest.size, digest.md5, digest.crc64, digest.sha256, data, self._file)

    def discard(self) -> None:
        """Forget the body: it was refused or the client went away."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._file:
            with contextlib.suppress(FileNotFoundError):
                self._store.path(self._file).unlink()
