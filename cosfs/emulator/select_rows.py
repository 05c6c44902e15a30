"""Rows that SELECT reads, and how a column of one is found."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cosfs.emulator.select_values import Value

_POSITION = re.compile(r"_([1-9][0-9]{0,5})")


@dataclass(frozen=True, slots=True)
class Name:
    """One step of a path: a name as it was written; quoted ones are told apart by case."""

    text: str
    quoted: bool = False


@dataclass(frozen=True, slots=True)
class Index:
    """One step of a path: an element of a list; None means each of them."""

    number: int | None


Path = tuple[Name | Index, ...]


class CsvRow:
    """A record of a CSV file. header maps names to positions and is shared by all rows."""

    __slots__ = ("header", "values")

    def __init__(self, values: list[str], header: dict[str, int] | None) -> None:
        self.values = values
        self.header = header

    def column(self, path: Path) -> Value:
        """Return a column by name or as _1, _2 and so on; None if there is none."""
        if len(path) != 1 or not isinstance(path[0], Name):
            return None
        position = self._position(path[0])
        return self.values[position] if 0 <= position < len(self.values) else None

    def _position(self, name: Name) -> int:
        header = self.header or {}
        found = header.get(name.text, -1)
        if found >= 0:
            return found
        match = _POSITION.fullmatch(name.text)
        if match is not None:
            return int(match[1]) - 1
        if name.quoted:
            return -1
        wanted = name.text.lower()
        return next((position for known, position in header.items() if known.lower() == wanted), -1)

    def items(self) -> Iterator[tuple[str, Value]]:
        """Yield all columns with their names."""
        names = {position: name for name, position in (self.header or {}).items()}
        for position, value in enumerate(self.values):
            yield names.get(position, f"_{position + 1}"), value


class JsonRow:
    """A JSON value; what is no object is a row of one column, _1."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def column(self, path: Path) -> Value:
        """Return what a path leads to; None if it leads nowhere."""
        value = self.value
        if len(path) == 1 and path[0] == Name("_1") and not isinstance(value, dict):
            return value
        for step in path:
            value = _step(value, step)
        return value

    def items(self) -> Iterator[tuple[str, Value]]:
        """Yield all columns with their names."""
        yield from self.value.items() if isinstance(self.value, dict) else [("_1", self.value)]


Row = CsvRow | JsonRow


def _step(value: Any, step: Name | Index) -> Any:
    if isinstance(step, Index):
        if isinstance(value, list) and step.number is not None and step.number < len(value):
            return value[step.number]
        return None
    if not isinstance(value, dict):
        return None
    if step.text in value or step.quoted:
        return value.get(step.text)
    wanted = step.text.lower()
    return next((found for name, found in value.items() if name.lower() == wanted), None)


def unfold(value: Any, path: Path) -> Iterator[Any]:
    """Yield what FROM means in a JSON value; [*] is each element of a list, and anything else itself."""
    if not path:
        yield value
        return
    step, rest = path[0], path[1:]
    if isinstance(step, Index) and step.number is None:
        for element in value if isinstance(value, list) else [value]:
            yield from unfold(element, rest)
        return
    found = _step(value, step)
    if found is not None:
        yield from unfold(found, rest)
