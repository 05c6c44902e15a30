"""--include and --exclude, without any listing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.filters import Filters
from cosfs.errors import UsageError

IN, OUT = True, False
PATHS = ["a.txt", "b.log", "sub/c.txt", "sub/d.log"]


def taken(*rules: tuple[bool, str]) -> list[str]:
    filters = Filters(rules)
    return [path for path in PATHS if filters(path)]


def test_without_rules_everything_is_taken() -> None:
    assert taken() == PATHS


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        # the two orders that AWS documents
        ([(OUT, "*"), (IN, "*.txt")], ["a.txt", "sub/c.txt"]),
        ([(IN, "*.txt"), (OUT, "*")], []),
        # a leading include leaves out all else (AWS: it does nothing)
        ([(IN, "*.log")], ["b.log", "sub/d.log"]),
        ([(IN, "*.log"), (OUT, "sub/*")], ["b.log"]),
        # the last match wins
        ([(OUT, "*.log"), (IN, "b.*")], ["a.txt", "b.log", "sub/c.txt"]),
        # a pattern is compared with the whole path below the source
        ([(OUT, "sub")], PATHS),
        ([(OUT, "sub/*")], ["a.txt", "b.log"]),
        ([(OUT, "c.txt")], PATHS),
        ([(OUT, "*c.txt")], ["a.txt", "b.log", "sub/d.log"]),
        ([(OUT, "[ab].*")], ["sub/c.txt", "sub/d.log"]),
        ([(OUT, "?.txt")], ["b.log", "sub/c.txt", "sub/d.log"]),
    ],
)
def test_rules(rules: list[tuple[bool, str]], expected: list[str]) -> None:
    assert taken(*rules) == expected


def test_case_matters() -> None:
    assert Filters([(OUT, "*.TXT")])("a.txt")


@pytest.mark.parametrize("pattern", ["", "[", "a[b", "a[!b", "x[]"])
def test_pattern_that_cannot_be_read_is_a_usage_error(pattern: str) -> None:
    with pytest.raises(UsageError):
        Filters([(OUT, pattern)])


@pytest.mark.parametrize("pattern", ["a[b]", "a[]]", "a[!]]", "[[]", "a]"])
def test_brackets_that_close_are_fine(pattern: str) -> None:
    Filters([(OUT, pattern)])


@pytest.mark.parametrize(
    ("rules", "directory", "pruned"),
    [
        ([(OUT, "sub/*")], "sub/", True),
        ([(OUT, "sub/*")], "sub/deeper/", True),
        ([(OUT, "sub/*")], "other/", False),
        ([(OUT, "*")], "sub/", True),
        ([(OUT, "*/tmp/*")], "a/tmp/", True),
        ([(OUT, "*"), (IN, "keep/*")], "keep/", False),
        ([(OUT, "*"), (IN, "keep/*")], "drop/", True),
        ([(OUT, "*"), (IN, "*.txt")], "drop/", False),
        ([(IN, "keep/*")], "drop/", True),
        ([(IN, "keep/*")], "keep/", False),
        ([(OUT, "sub")], "sub/", False),
    ],
)
def test_pruning(rules: list[tuple[bool, str]], directory: str, pruned: bool) -> None:
    assert Filters(rules).prunes(directory) is pruned


_TEXT = st.text("ab/*?.", min_size=1, max_size=6)


@given(
    st.lists(st.tuples(st.booleans(), _TEXT), max_size=4),
    st.text("ab/", max_size=4),
    st.text("ab/.", max_size=5),
)
def test_nothing_is_taken_below_a_pruned_directory(
    rules: list[tuple[bool, str]], directory: str, rest: str
) -> None:
    filters = Filters(rules)
    if filters.prunes(f"{directory}/"):
        assert not filters(f"{directory}/{rest}")
