"""What a kill at each moment of a call would leave: the cache directory, and the bucket."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from cosfs.client.model import Headers
from cosfs.fs.journal import Journal
from cosfs.fs.remote import Remote
from cosfs.fs.scratch import Scratch
from tests.fs.support import Files
from tests.objects import keys, stored

WRITES: tuple[tuple[type, str], ...] = (
    (Journal, "_run"),
    (Journal, "_commit"),
    (Scratch, "put"),
    (Scratch, "truncate"),
    (Scratch, "close"),
)
REQUESTS = ("change", "small_change", "create_aside")
Objects = dict[str, tuple[bytes, Headers]]


class Moments:
    """Copies both around every write to the journal and to staged bytes. taken: the objects, by cache.

    With requests it does so around every change in COS as well. note() tells what belongs to a moment; it is
    kept in noted.
    """

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        files: Files,
        cache: Path,
        note: Callable[[], object] = lambda: None,
        *,
        requests: bool = False,
    ) -> None:
        self._files = files
        self._cache = cache
        self._note = note
        self._numbers = itertools.count()
        self.taken: dict[str, Objects] = {}
        self.noted: dict[str, object] = {}
        for owner, name in WRITES:
            monkeypatch.setattr(owner, name, self._around(getattr(owner, name)))
        for name in REQUESTS if requests else ():
            monkeypatch.setattr(Remote, name, self._around_request(getattr(Remote, name)))

    def _around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def around(*args: Any, **kwargs: Any) -> Any:
            self.take()
            try:
                return function(*args, **kwargs)
            finally:
                self.take()

        return around

    def _around_request(self, function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def around(*args: Any, **kwargs: Any) -> Any:
            self.take()
            try:
                return await function(*args, **kwargs)
            finally:
                self.take()

        return around

    def take(self) -> None:
        name = f"{self._cache.name}-{next(self._numbers)}"
        # By another process: closing the database's file here would end SQLite's locks on it.
        subprocess.run(["cp", "-r", self._cache, self._cache.parent / name], check=True)
        client, bucket = self._files.client, self._files.bucket
        found: Objects = {}
        for key in keys(client, bucket):
            info = client.head_object(bucket, key)
            assert info is not None and info.headers is not None
            found[key] = stored(client, bucket, key), info.headers
        self.taken[name] = found
        self.noted[name] = self._note()

    def different(self) -> list[str]:
        """The moments without those that leave the same as one before them."""
        found: dict[str, str] = {}
        for moment, objects in self.taken.items():
            directory = self._cache.parent / moment
            journal = Journal(directory)
            records = [(r.id, r.kind, r.bucket, r.key, r.body) for r in journal.records()]
            journal.close()
            staged = [(path.name, path.read_bytes()) for path in sorted((directory / "staging").iterdir())]
            found.setdefault(repr((records, staged, sorted(objects.items()), self.noted[moment])), moment)
        return list(found.values())

    async def restore(self, moment: str) -> None:
        """Make the bucket what it was."""
        for key in await self._files.keys():
            await self._files.delete(key)
        for key, (data, headers) in self.taken[moment].items():
            await self._files.upload(key, data, headers=headers)
