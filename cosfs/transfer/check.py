"""Whether two trees hold the same: sizes, then contents, by checksums or byte by byte. Changes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from typing import Literal, NamedTuple, Protocol

from cosfs.errors import ConfigError, COSError
from cosfs.records import dataclass
from cosfs.transfer.contents import same_by_etag, same_bytes, same_content
from cosfs.transfer.engine import Engine
from cosfs.transfer.paths import is_marker
from cosfs.transfer.plan import merge
from cosfs.transfer.sides import EVERYTHING, Entry, Problem, Selector, TreeSide

__all__ = ["CheckEvents", "CheckOptions", "Finding", "check"]

COMPARE = "compare"


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """What is compared: sizes alone, contents by checksums, or (download) every byte.

    one_way leaves out what only the destination has.
    """

    selector: Selector = EVERYTHING
    size_only: bool = False
    download: bool = False
    one_way: bool = False


class Finding(NamedTuple):
    """One name and what is true of it; `unknown` means that there is no checksum that tells."""

    status: Literal["same", "missing", "extra", "differs", "unknown"]
    source: Entry | None
    destination: Entry | None
    reason: str = ""

    @property
    def relative(self) -> str:
        entry = self.source or self.destination
        assert entry is not None
        return entry.relative


class CheckEvents(Protocol):
    """Who hears of what is found, in the trio thread and in any order."""

    def found(self, finding: Finding) -> None:
        """Two were compared, or one is alone."""

    def problem(self, problem: Problem, *, at_source: bool) -> None:
        """Something is there and cannot be read."""

    def failed(self, source: Entry, destination: Entry, error: Exception) -> None:
        """Two could not be compared."""


async def check(
    engine: Engine,
    source: TreeSide,
    destination: TreeSide,
    options: CheckOptions,
    events: CheckEvents,
    pair: tuple[Entry | None, Entry | None] | None = None,
) -> None:
    """Compare two trees, or only one pair of entries of theirs, whose names may differ."""

    def compared(pair: tuple[Entry, Entry], same: bool | None, error: Exception | None) -> None:
        if isinstance(error, ConfigError) or (error and not isinstance(error, COSError | OSError)):
            raise error
        if error is not None:
            events.failed(*pair, error)
        elif same is None:
            events.found(Finding("unknown", *pair, "no checksum tells"))
        else:
            events.found(Finding("same", *pair) if same else Finding("differs", *pair, "content"))

    def compare(pair: tuple[Entry, Entry]) -> bool | None:
        """Compare two contents, in a worker thread."""
        one, other = source.content(pair[0]), destination.content(pair[1])
        if options.download or not (source.is_bucket or destination.is_bucket):
            return same_bytes(engine.client, one, other)
        return same_content(engine.client, one, other)

    async with engine.flow(COMPARE, compared) as flow:
        pairs = _one(pair) if pair is not None else _pairs(source, destination, options, events)
        async for one, other in pairs:
            if one is None or other is None:
                if other is None or not options.one_way:
                    events.found(Finding("missing" if other is None else "extra", one, other))
            elif one.facts.size != other.facts.size:
                reason = f"size {one.facts.size} and {other.facts.size}"
                events.found(Finding("differs", one, other, reason))
            elif options.size_only or not one.facts.size:
                events.found(Finding("same", one, other))
            elif not options.download and same_by_etag(one.item, other.item):
                compared((one, other), True, None)
            else:
                await flow.put((one, other), compare, (one, other))


async def _one(
    pair: tuple[Entry | None, Entry | None],
) -> AsyncIterator[tuple[Entry | None, Entry | None]]:
    yield pair


async def _pairs(
    source: TreeSide, destination: TreeSide, options: CheckOptions, events: CheckEvents
) -> AsyncIterator[tuple[Entry | None, Entry | None]]:
    """Pair both sides, without what is not compared."""
    selector = options.selector
    one_side = source.entries(selector, lambda problem: events.problem(problem, at_source=True))
    other_side = destination.entries(selector, lambda problem: events.problem(problem, at_source=False))
    directories_count = source.is_bucket and destination.is_bucket
    async with AsyncExitStack() as stack:
        for each in (one_side, other_side, pairs := merge(one_side, other_side)):
            await stack.enter_async_context(aclosing(each))  # type: ignore[type-var]
        async for one, other in pairs:
            entry = one or other
            assert entry is not None
            if not directories_count and is_marker(entry.relative) and not entry.facts.size:
                continue  # a directory, of which the other side may say nothing
            if selector.takes_state(entry.facts.size, entry.facts.mtime_ns / 1e9):
                yield one, other
