"""Functions and aggregates of SELECT."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cosfs.emulator.errors import CosError
from cosfs.emulator.select_rows import Row
from cosfs.emulator.select_values import Value, calculate, compare, number, text


class Aggregate:
    """Takes in rows one by one; unknown values do not count."""

    name = ""

    def __init__(self, argument: Callable[[Row | None], Value]) -> None:
        self._argument = argument
        self.count = 0
        self.value: Value = None

    def feed(self, row: Row) -> None:
        """Take one row."""
        value = self._argument(row)
        if value is not None:
            self.count += 1
            self.add(value)

    def add(self, value: Value) -> None:
        """Take one known value."""

    def result(self) -> Value:
        """Return what came out."""
        return self.value

    def needed_number(self, value: Value) -> Any:
        """Return a number, or say that the column has something else."""
        found = number(value)
        if found is None:
            raise CosError("InvalidDataType", f"{self.name} needs numbers, not {text(value)[:100]!r}.")
        return found


class _Count(Aggregate):
    def result(self) -> Value:
        return self.count


class _Sum(Aggregate):
    name = "SUM"

    def add(self, value: Value) -> None:
        found = self.needed_number(value)
        self.value = found if self.value is None else calculate("+", self.value, found)


class _Average(_Sum):
    name = "AVG"

    def result(self) -> Value:
        return calculate("/", self.value, self.count) if self.count else None


class _Extreme(Aggregate):
    better = "<"

    def add(self, value: Value) -> None:
        found = number(value)
        wanted = value if found is None else found
        if self.value is None or compare(self.better, wanted, self.value):
            self.value = wanted


class _Minimum(_Extreme):
    name = "MIN"


class _Maximum(_Extreme):
    name, better = "MAX", ">"


AGGREGATES: dict[str, type[Aggregate]] = {
    "COUNT": _Count,
    "SUM": _Sum,
    "AVG": _Average,
    "MIN": _Minimum,
    "MAX": _Maximum,
}


def _lower(value: Value) -> Value:
    return None if value is None else text(value).lower()


def _upper(value: Value) -> Value:
    return None if value is None else text(value).upper()


def _trim(value: Value) -> Value:
    return None if value is None else text(value).strip(" ")


def _length(value: Value) -> Value:
    return None if value is None else len(text(value))


def _substring(value: Value, start: Value, length: Value = None) -> Value:
    """Count characters from 1, as SQL does; those before the first count too."""
    if value is None:
        return None
    first, size = number(start), number(length)
    if first is None or (length is not None and (size is None or size < 0)):
        raise CosError("EvaluatorInvalidArguments", "SUBSTRING needs numbers.")
    begin = int(first) - 1
    end = None if size is None else max(begin + int(size), 0)
    return text(value)[max(begin, 0) : end]


def _coalesce(*values: Value) -> Value:
    return next((value for value in values if value is not None), None)


def _null_if(a: Value, b: Value) -> Value:
    return None if compare("=", a, b) else a


# By name: the function, and between how many arguments it takes.
FUNCTIONS: dict[str, tuple[Callable[..., Value], int, int]] = {
    "LOWER": (_lower, 1, 1),
    "UPPER": (_upper, 1, 1),
    "TRIM": (_trim, 1, 1),
    "CHAR_LENGTH": (_length, 1, 1),
    "CHARACTER_LENGTH": (_length, 1, 1),
    "SUBSTRING": (_substring, 2, 3),
    "COALESCE": (_coalesce, 1, 100),
    "NULLIF": (_null_if, 2, 2),
}
