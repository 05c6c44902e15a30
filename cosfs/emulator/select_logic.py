"""The logic of SELECT, with unknowns: functions of rows made of functions of rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cosfs.emulator.select_rows import Row
from cosfs.emulator.select_values import Value, calculate, compare

Expression = Callable[[Row | None], Value]


def binary(operator: str, a: Expression, b: Expression) -> Expression:
    """Make arithmetic."""
    return lambda row: calculate(operator, a(row), b(row))


def opposite(a: Expression) -> Expression:
    """Make NOT."""

    def evaluate(row: Row | None) -> Value:
        value = a(row)
        return None if value is None else value is not True

    return evaluate


def both(a: Expression, b: Expression) -> Expression:
    """Make AND."""

    def evaluate(row: Row | None) -> Value:
        one = a(row)
        if one is not None and one is not True:
            return False
        other = b(row)
        if other is not None and other is not True:
            return False
        return None if one is None or other is None else True

    return evaluate


def either(a: Expression, b: Expression) -> Expression:
    """Make OR."""

    def evaluate(row: Row | None) -> Value:
        one = a(row)
        if one is True:
            return True
        other = b(row)
        if other is True:
            return True
        return None if one is None or other is None else False

    return evaluate


def any_of(left: Expression, candidates: list[Expression]) -> Expression:
    """Make IN."""

    def evaluate(row: Row | None) -> Any:
        value = left(row)
        answers = [compare("=", value, candidate(row)) for candidate in candidates]
        return True if True in answers else None if None in answers else False

    return evaluate
