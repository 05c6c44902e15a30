"""What of a source a command takes: --include and --exclude, size, age, a list of names. Pure."""

from __future__ import annotations

import fnmatch
import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import field, replace

from cosfs.errors import UsageError
from cosfs.records import dataclass

_WILD = re.compile(r"[*?\[]")


class Filters:
    """Rules in the order of the command line; the last one that matches a path decides.

    Paths are relative to the source, with `/` between parts, and `*` matches `/` as well, as in AWS.
    What no rule matches is taken, unless the first rule is an include: a leading include would
    otherwise say nothing at all, and `rm -r --include '*.log'` would remove everything.
    """

    def __init__(self, rules: Sequence[tuple[bool, str]] = ()) -> None:
        for _, pattern in rules:
            check_pattern(pattern)
        self._rules = [(including, pattern, _compile(pattern)) for including, pattern in rules]
        self._default = not (rules and rules[0][0])

    def __bool__(self) -> bool:
        return bool(self._rules)

    def __call__(self, path: str) -> bool:
        """Whether path is taken."""
        for including, _, regex in reversed(self._rules):
            if regex.match(path):
                return including
        return self._default

    def prunes(self, directory: str) -> bool:
        """Whether nothing below directory (ending in `/`) can be taken, so that it need not be read.

        May say no where the answer is yes, never the other way round.
        """
        for including, pattern, regex in reversed(self._rules):
            if including:
                if _may_match_below(pattern, directory):
                    return False
            elif pattern.endswith("*") and regex.match(directory):
                return True  # its last * matches whatever follows as well
        return not self._default


@dataclass(frozen=True, slots=True)
class Selection:
    """All rules of one command together; what is taken satisfies each of them.

    Paths are relative to the source, spelled as keys. Times are Unix seconds. `names`, sorted as keys
    are, is what --files-from lists; None is everything. `apart` are files that the command itself writes.
    """

    filters: Filters = field(default_factory=Filters)
    min_size: int | None = None
    max_size: int | None = None
    newer_than: float | None = None
    older_than: float | None = None
    names: Sequence[str] | None = None
    apart: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        """Whether anything was asked for."""
        return bool(self.filters) or self.names is not None or self.looks_at_state

    @property
    def looks_at_state(self) -> bool:
        """Whether a name alone does not decide."""
        limits = (self.min_size, self.max_size, self.newer_than, self.older_than)
        return any(limit is not None for limit in limits)

    def __call__(self, path: str, size: int, modified: float) -> bool:
        """Whether a file or object is taken."""
        return self.takes_name(path) and self.takes_state(size, modified)

    def takes_name(self, path: str) -> bool:
        """Whether a file or object of this name may be taken; what is not need not be looked at."""
        return path not in self.apart and self.filters(path) and (self.names is None or self._listed(path))

    def takes_state(self, size: int, modified: float) -> bool:
        """Whether size and time of change are as asked for."""
        return (
            (self.min_size is None or size >= self.min_size)
            and (self.max_size is None or size <= self.max_size)
            and (self.newer_than is None or modified > self.newer_than)
            and (self.older_than is None or modified < self.older_than)
        )

    def prunes(self, directory: str) -> bool:
        """Whether nothing below directory (ending in `/`) can be taken, so that it need not be read."""
        return self.filters.prunes(directory) or (
            self.names is not None and not self._listed_below(directory)
        )

    def keeps(self, path: str) -> bool:
        """Whether a walk shall look at a path; directories end in `/`."""
        return not self.prunes(path) if path.endswith("/") else self.takes_name(path)

    @property
    def unfiltered(self) -> Selection:
        """What is listed, whatever the filters say."""
        return Selection(names=self.names, apart=self.apart)

    def only(self, names: Sequence[str]) -> Selection:
        """Return the same rules for these names alone."""
        return replace(self, names=sorted(set(names), key=_order))

    def _listed(self, path: str) -> bool:
        assert self.names is not None
        place = bisect_left(self.names, _order(path), key=_order)
        return place < len(self.names) and self.names[place] == path

    def _listed_below(self, directory: str) -> bool:
        assert self.names is not None
        place = bisect_left(self.names, _order(directory), key=_order)
        return place < len(self.names) and self.names[place].startswith(directory)


def _order(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(pattern))


def _may_match_below(pattern: str, directory: str) -> bool:
    wild = _WILD.search(pattern)
    literal = pattern[: wild.start()] if wild else pattern
    return literal.startswith(directory) or directory.startswith(literal)


def check_pattern(pattern: str) -> None:
    if not pattern:
        raise UsageError("a filter pattern is empty", hint="Write for example --exclude '*.tmp'")
    position = 0
    while (start := pattern.find("[", position)) >= 0:
        # "]" right after "[" or "[!" belongs to the set.
        first = start + 2 if pattern[start + 1 : start + 2] == "!" else start + 1
        end = pattern.find("]", first + 1)
        if end < 0:
            raise UsageError(
                f"the pattern {pattern!r} has a [ without its ]", hint="Write [[] for the character [ itself"
            )
        position = end + 1


def meant_by(pattern: str) -> str:
    """Return what was probably meant by a pattern that matches no file; empty where that cannot be said."""
    meant = pattern
    while meant.startswith(("/", "./")):
        meant = meant.removeprefix(".").removeprefix("/")
    if meant.endswith("/") and meant != "*/":  # that means all objects that stand for directories
        meant += "*"
    return meant if meant != pattern else ""
