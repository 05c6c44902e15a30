"""What a sync has to do: two sorted sides walked once, side by side, one decision a name.

Planning moves no data and changes nothing. It takes no memory for what is equal on both sides; what
is only at the destination is kept on disk until it is known whether it may be deleted.
"""

from __future__ import annotations

import os
import pickle
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import field
from typing import NamedTuple, Protocol

from cosfs.records import dataclass
from cosfs.transfer.compare import NEW, Rules, Verdict, compare
from cosfs.transfer.paths import Collisions, is_marker, local_name
from cosfs.transfer.scan import LocalEntry
from cosfs.transfer.sides import EVERYTHING, Entry, Problem, Selector, TreeSide
from cosfs.transfer.snapshot import Snapshot

__all__ = ["DeleteLimit", "Extra", "Extras", "Plan", "PlanEvents", "SyncOptions", "Transfer", "merge"]


@dataclass(frozen=True, slots=True)
class DeleteLimit:
    """How much one sync may delete: a number, or a percentage of what the destination holds."""

    value: float
    percent: bool = False

    def allows(self, count: int, total: int) -> bool:
        """Whether count of total may go."""
        return count <= (self.value * total / 100 if self.percent else self.value)

    def __str__(self) -> str:
        return f"{self.value:g}{'%' if self.percent else ''}"


@dataclass(frozen=True, slots=True)
class SyncOptions:
    """What is asked of a sync; each is the option of `cos sync` with this name.

    encode_names: keys that no path can have are percent-encoded, as --key-policy encode does.
    """

    rules: Rules = field(default_factory=Rules)
    selector: Selector = EVERYTHING
    delete: bool = False
    delete_excluded: bool = False
    max_delete: DeleteLimit | None = None
    allow_empty_source: bool = False
    keep_dirs: bool = False
    encode_names: bool = False
    track_renames: bool = False

    @property
    def deletes(self) -> bool:
        return self.delete or self.delete_excluded


class Transfer(NamedTuple):
    """One name whose destination is to be made like its source.

    path is where a download goes below its root. copy_from is an object at the destination that has the
    content already, under a name that the source no longer has.
    """

    source: Entry
    destination: Entry | None
    reason: str
    path: str = ""
    copy_from: Entry | None = None

    @property
    def relative(self) -> str:
        return self.source.relative


class Extra(NamedTuple):
    """What only the destination has. `keep` is the directory above it that stays even when it is empty."""

    entry: Entry
    keep: str


@dataclass(slots=True)
class _Directory:
    """A directory that only the destination has, and how much of what is in it will be deleted."""

    entry: Entry
    deleted: int = 0

    def becomes_empty(self) -> bool:
        """Whether nothing in it stays: what the selector leaves out, the walk does not show."""
        assert isinstance(self.entry.item, LocalEntry)
        try:
            return len(os.listdir(self.entry.item.path)) == self.deleted  # noqa: PTH208 - keeps the path
        except OSError:
            return False


class PlanEvents(Protocol):
    """Who hears of what a plan leaves out."""

    def left(self, source: Entry, destination: Entry | None, reason: str) -> None:
        """Nothing is done for a name: `same`, or what a rule says."""

    def problem(self, problem: Problem, *, at_source: bool) -> None:
        """Something is there and cannot be taken, or not seen."""

    def missing(self, name: str) -> None:
        """The source does not have a name that was asked for."""

    def unusable(self, source: Entry, reason: str) -> None:
        """No local path can have this name (--key-policy says how bad that is)."""

    def accepts(self, source: Entry, path: str) -> bool:
        """Whether a download may go to this local path; asked for each, in the order of the keys."""

    def blocked(self, source: Entry, path: str, reason: str) -> None:
        """A local path cannot be made as long as something else is in its way."""


class Extras:
    """Entries in the order they were added, in memory while they are few, else on disk."""

    _IN_MEMORY = 1 << 20

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=self._IN_MEMORY)  # noqa: SIM115 - until close
        self.count = 0

    def add(self, extra: Extra) -> None:
        """Add one at the end."""
        pickle.dump(extra, self._file)
        self.count += 1

    def __iter__(self) -> Iterator[Extra]:
        self._file.seek(0)
        for _ in range(self.count):
            yield pickle.load(self._file)

    def close(self) -> None:
        """Forget them."""
        self._file.close()
        self.count = 0


async def merge(
    source: AsyncIterator[Entry], destination: AsyncIterator[Entry]
) -> AsyncIterator[tuple[Entry | None, Entry | None]]:
    """Pair two sorted streams by name: one entry of each where both have it, else None for the other."""
    one = await anext(source, None)
    other = await anext(destination, None)
    while one is not None or other is not None:
        if other is None or (one is not None and one.relative < other.relative):
            yield one, None
            one = await anext(source, None)
        elif one is None or other.relative < one.relative:
            yield None, other
            other = await anext(destination, None)
        else:
            yield one, other
            one = await anext(source, None)
            other = await anext(destination, None)


class Plan:
    """The decisions of one sync, as a stream; and, behind its end, what only the destination has."""

    def __init__(
        self,
        source: TreeSide,
        destination: TreeSide,
        options: SyncOptions,
        events: PlanEvents,
        snapshot: Snapshot | None = None,
    ) -> None:
        self.source = source
        self.destination = destination
        self.extras = Extras()
        # Downloads whose place holds something that the delete phase may take away first.
        self.postponed: list[Transfer] = []
        self.sources = 0
        self.destinations = 0
        self.complete = False
        self._options = options
        self._events = events
        self._snapshot = snapshot
        self._to_local = not destination.is_bucket
        self._collisions = Collisions()
        self._markers: list[str] = []
        self._extra_files: list[str] = []
        self._extra_directories: list[_Directory] = []
        self._problems: list[str] = []
        self._empty: Entry | None = None
        self._unseen = {name for name in options.selector.names or () if options.selector.takes_name(name)}

    async def decisions(self) -> AsyncIterator[tuple[Verdict, Transfer]]:
        """Walk both sides; yield what is to be transferred, or compared by content and then transferred."""
        options = self._options
        selector = self._destination_selector
        sources = self.source.entries(options.selector, self._source_problem)
        destinations = self.destination.entries(selector, self._destination_problem)
        async with AsyncExitStack() as stack:
            for each in (sources, destinations, pairs := merge(sources, destinations)):
                await stack.enter_async_context(aclosing(each))  # type: ignore[type-var]
            async for source, destination in pairs:
                if destination is not None:
                    self.destinations += 1
                if source is None:
                    assert destination is not None
                    self._only_at_destination(destination)
                    continue
                self.sources += 1
                self._unseen.discard(source.relative)
                self._leave_directories(source.relative, kept=True)
                if (found := self._directory_passed(source)) is not None:
                    yield found
                if (found := self._decide(source, destination)) is not None:
                    yield found
        if self._empty is not None:
            yield NEW, Transfer(self._empty, None, NEW.reason)
        self._leave_directories(None)
        for name in sorted(self._unseen):
            self._events.missing(name)
        self.complete = True

    @property
    def _destination_selector(self) -> Selector:
        options = self._options
        return options.selector.unfiltered if options.delete_excluded else options.selector

    # --- what the source has

    def _decide(self, source: Entry, destination: Entry | None) -> tuple[Verdict, Transfer] | None:
        if source.is_directory:
            # An empty directory becomes a marker; whether it is empty shows the next entry.
            wanted = destination is None and self._options.selector.takes_name(source.relative)
            self._empty = source if wanted else None
            return None
        if not self._options.selector.takes_state(source.facts.size, source.facts.mtime_ns / 1e9):
            return None
        path = ""
        if self._to_local and self.source.is_bucket:
            found = self._local_path(source, destination)
            if found is None:
                return None
            path = found
            if is_marker(path):
                return self._marker(source, path)
        recorded = self._recorded(source, destination)
        known = destination.facts if destination is not None else None
        verdict = compare(self._options.rules, source.facts, known, recorded)
        if verdict.action == "skip":
            if verdict.reason == "same" and destination is not None and recorded is not True:
                self.note_same(source, destination)
            self._events.left(source, destination, verdict.reason)
            return None
        transfer = Transfer(source, destination, verdict.reason, path)
        if path and destination is None and self._in_the_way(transfer):
            return None
        return verdict, transfer

    def _directory_passed(self, source: Entry) -> tuple[Verdict, Transfer] | None:
        """Return what makes a marker of the directory before this entry, if that was empty."""
        empty, self._empty = self._empty, None
        if empty is None or source.relative.startswith(empty.relative):
            return None
        return NEW, Transfer(empty, None, NEW.reason)

    def _marker(self, source: Entry, path: str) -> tuple[Verdict, Transfer] | None:
        self._markers.append(path)
        if os.path.isdir(self.destination.name(path)):  # noqa: PTH112 - a Path an entry is too slow
            return None
        transfer = Transfer(source, None, NEW.reason, path)
        return None if self._in_the_way(transfer) else (NEW, transfer)

    def _local_path(self, source: Entry, destination: Entry | None) -> str | None:
        """Return the path a key goes to below the destination; None if there is none."""
        path, problem = local_name(source.relative, source.facts.size, encode=self._options.encode_names)
        if problem:
            self._events.unusable(source, problem)
            return None
        if destination is not None:
            # Its name on disk may be spelled otherwise than we would spell it.
            path = destination.item.path[len(self.destination.name("")) :]  # type: ignore[union-attr]
            path += "/" if is_marker(source.relative) else ""
        in_the_way = self._collisions.add(path)
        if in_the_way:
            reason = f"{in_the_way!r} is a file here, so nothing can be below it"
            self._events.blocked(source, path, reason)
            return None
        return path if self._events.accepts(source, path) else None

    def _in_the_way(self, transfer: Transfer) -> bool:
        """Whether a new file or directory cannot be made yet; it is postponed, or that is an error."""
        self._leave_files(transfer.path)
        above = next((file for file in self._extra_files if transfer.path.startswith(file + "/")), "")
        reason = f"{above!r} is a file here, so nothing can be below it" if above else ""
        if not reason and not is_marker(transfer.path):
            try:
                mode = os.lstat(self.destination.name(transfer.path)).st_mode
            except OSError:
                return False
            if stat.S_ISDIR(mode):
                reason = "there is a directory of this name"
        if not reason:
            return False
        if self._options.deletes:
            self.postponed.append(transfer)
        else:
            self._events.blocked(transfer.source, transfer.path, reason)
        return True

    # --- what only the destination has

    def _only_at_destination(self, entry: Entry) -> None:
        options = self._options
        self._leave_directories(entry.relative)
        if self._to_local and not entry.is_directory:
            self._leave_files(entry.relative)
            self._extra_files.append(entry.relative)
        if not options.deletes or self._is_protected(entry.relative):
            return
        is_marker_of_ours = is_marker(entry.relative) and entry.facts.size == 0
        if is_marker_of_ours and not self.source.is_bucket and not options.keep_dirs:
            return  # directories are not what is compared
        if not options.delete_excluded and not options.selector.takes_state(
            entry.facts.size, entry.facts.mtime_ns / 1e9
        ):
            return
        if entry.is_directory:
            if self._destination_selector.takes_name(entry.relative):
                self._extra_directories.append(_Directory(entry))
        else:
            self._add_extra(entry)

    def _add_extra(self, entry: Entry) -> None:
        while self._markers and not entry.relative.startswith(self._markers[-1]):
            self._markers.pop()
        self.extras.add(Extra(entry, self._markers[-1] if self._markers else ""))
        if self._extra_directories:
            above = self._extra_directories[-1]
            above.deleted += "/" not in entry.relative[len(above.entry.relative) : -1]

    def _leave_directories(self, relative: str | None, *, kept: bool = False) -> None:
        """Note that the walk goes on at relative: what lies behind of directories that only we have goes.

        They go behind what is in them; kept: the name is the source's, so those above it stay.
        """
        while self._extra_directories:
            last = self._extra_directories[-1]
            if relative is not None and relative.startswith(last.entry.relative):
                break
            self._extra_directories.pop()
            if last.becomes_empty():
                self._add_extra(last.entry)
        if kept:
            self._extra_directories.clear()

    def _leave_files(self, path: str) -> None:
        while self._extra_files and not path.startswith(self._extra_files[-1]):
            self._extra_files.pop()

    def _is_protected(self, relative: str) -> bool:
        """Whether the source has something of this name, or above it, that could not be read."""
        return any(
            relative == problem or relative.startswith(problem + "/") or not problem
            for problem in self._problems
        )

    def _source_problem(self, problem: Problem) -> None:
        self._problems.append(problem.relative)
        self._events.problem(problem, at_source=True)

    def _destination_problem(self, problem: Problem) -> None:
        self._events.problem(problem, at_source=False)

    # --- the snapshot

    def _recorded(self, source: Entry, destination: Entry | None) -> bool | None:
        if self._snapshot is None or destination is None:
            return None
        return self._snapshot.matches(source, destination)

    def note_same(self, source: Entry, destination: Entry) -> None:
        """Let the snapshot remember that these two are equal."""
        if self._snapshot is not None and not self._options.rules.size_only:
            self._snapshot.record(source, destination)
