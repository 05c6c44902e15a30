"""What is at a destination already, and whether it makes a transfer needless."""

from __future__ import annotations

import os
import stat
from bisect import bisect_left
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from cosfs.errors import TransferError
from cosfs.transfer.compare import SAME, Side, Verdict, compare, object_side
from cosfs.transfer.contents import Content, FileContent, ObjectContent, same_content
from cosfs.transfer.model import TransferResult

from .objects import mapped

if TYPE_CHECKING:
    from cosfs.client.client import CosClient
    from cosfs.client.model import ObjectInfo
    from cosfs.transfer.compare import Rules
    from cosfs.transfer.engine import Engine

    from .copying import Copying

_NO_FILE = Side(-1, 0)  # something that is neither file nor object, and equal to none


class Existing:
    """Objects below a prefix, looked up in the order of their keys with few requests.

    Where many keys that are asked for lie close together, a page of the listing answers a thousand; where
    few lie far apart, each costs one request.
    """

    def __init__(self, engine: Engine, bucket: str, prefix: str) -> None:
        self._engine = engine
        self._bucket = bucket
        self._prefix = prefix
        self._page: Sequence[ObjectInfo] = ()
        self._first = ""  # what the page covers begins here,
        self._last: str | None = ""  # and ends here; None at the end of the prefix

    async def find(self, key: str) -> ObjectInfo | None:
        """Return the object with this key, if there is one."""
        if key < self._first or (self._last is not None and key > self._last):
            await self._read(key)
        place = bisect_left(self._page, key, key=lambda info: info.key)
        found = self._page[place] if place < len(self._page) else None
        return found if found is not None and found.key == key else None

    async def _read(self, key: str) -> None:
        request = partial(
            self._engine.client.list_objects, self._bucket, prefix=self._prefix, marker=_before(key)
        )
        page = await self._engine.run(request)
        self._page, self._first = page.objects, key
        self._last = (page.objects[-1].key if page.objects else key) if page.truncated else None


def _before(key: str) -> str:
    """Return a marker behind which a listing begins with key."""
    last = ord(key[-1])
    if not last:
        return key[:-1]
    # Code points between these two cannot be part of a key.
    earlier = chr(0xD7FF if last == 0xE000 else last - 1)
    return f"{key[:-1]}{earlier}\U0010ffff"


@dataclass(slots=True)
class Candidate:
    """One transfer that may be needless: what is at both ends."""

    item: Any
    source: str
    target: str
    facts: Side
    content: Content
    found: Side | None = None
    found_content: Content | None = None
    verdict: Verdict | None = None


def no_file(path: str) -> tuple[Side, Content]:
    """Return what a stream is to a comparison: equal to nothing."""
    return _NO_FILE, FileContent(path)


def file_sides(path: str) -> tuple[Side, Content] | tuple[None, None]:
    """Return what is at a local path; (None, None) if nothing is."""
    try:
        info = os.lstat(path)
    except OSError:
        return None, None
    if not stat.S_ISREG(info.st_mode):
        return _NO_FILE, FileContent(path)
    return Side(info.st_size, info.st_mtime_ns), FileContent(path)


def object_sides(
    bucket: str, info: ObjectInfo | None, keys: Mapping[str, str]
) -> tuple[Side, Content] | tuple[None, None]:
    """Return what an object is to a comparison; (None, None) for none. keys: headers of its encryption."""
    return (None, None) if info is None else (object_side(info), ObjectContent(bucket, info, keys))


async def needed(
    copying: Copying,
    rules: Rules,
    candidates: AsyncGenerator[Candidate, None],
    move: Callable[[Candidate], Awaitable[None]],
) -> AsyncGenerator[Candidate, None]:
    """Leave out what the rules find to be there already; contents are compared many at a time.

    mv --checksum calls move for what has the same contents at both ends: the source is to go.
    """
    moves = copying.options.move and rules.checksum

    async def judged() -> AsyncGenerator[Candidate, None]:
        async with aclosing(candidates):
            async for candidate in candidates:
                candidate.verdict = compare(rules, candidate.facts, candidate.found)
                if candidate.verdict.action != "skip":
                    yield candidate
                elif moves and candidate.verdict == SAME:  # both are empty
                    await move(candidate)
                else:
                    reason = candidate.verdict.reason
                    copying.report.left_out(copying.label, candidate.source, candidate.target, reason)

    same = partial(is_same, copying.client)
    async with aclosing(mapped(copying.engine, judged(), same, needs=_must_compare)) as compared:
        async for candidate, equal, _ in compared:
            # What could not be compared is transferred, which shows what is wrong.
            if equal and moves:
                await move(candidate)
            elif equal:
                copying.report.left_out(copying.label, candidate.source, candidate.target, "same")
            else:
                yield candidate


def there_already(candidate: Candidate) -> TransferResult:
    """Return the result of moving what is at the destination already: nothing was sent.

    Raises TransferError if the file has changed since it was compared.
    """
    facts = candidate.facts
    if not facts.is_object:
        state = os.stat(candidate.source)  # noqa: PTH116 - Path would drop a trailing slash
        if (state.st_size, state.st_mtime_ns) != (facts.size, facts.mtime_ns):
            raise TransferError("it has changed since it was compared with the object")
    return TransferResult(facts.size, verified="content", attempts=0)


def _must_compare(candidate: Candidate) -> bool:
    return candidate.verdict is not None and candidate.verdict.action == "compare"


def is_same(client: CosClient, candidate: Candidate) -> bool:
    """Whether both ends hold the same bytes, as far as that can be told; blocks."""
    assert candidate.found_content is not None
    trust = candidate.verdict is None or candidate.verdict.reason != "content"
    try:
        return bool(same_content(client, candidate.content, candidate.found_content, trust_etags=trust))
    except OSError:
        return False
