"""--include and --exclude. Pure."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence

from cosfs.errors import UsageError

_WILD = re.compile(r"[*?\[]")


class Filters:
    """Rules in the order of the command line; the last one that matches a path decides.

    Paths are relative to the source, with `/` between parts, and `*` matches `/` as well, as in AWS.
    What no rule matches is taken, unless the first rule is an include: a leading include would
    otherwise say nothing at all, and `rm -r --include '*.log'` would remove everything.
    """

    def __init__(self, rules: Sequence[tuple[bool, str]] = ()) -> None:
        for _, pattern in rules:
            _check(pattern)
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


def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(pattern))


def _may_match_below(pattern: str, directory: str) -> bool:
    wild = _WILD.search(pattern)
    literal = pattern[: wild.start()] if wild else pattern
    return literal.startswith(directory) or directory.startswith(literal)


def _check(pattern: str) -> None:
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
