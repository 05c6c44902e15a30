"""Values of SELECT: numbers out of text, comparison with unknowns, casts, text for output."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any

from cosfs.emulator.errors import CosError

# None stands for NULL and for what is missing; what it is compared with gives None, which selects nothing.
Value = Any

_MOST_DIGITS = 400
_INTEGER = re.compile(r"\s*[+-]?[0-9]+\s*")


def number(value: Value) -> int | float | Decimal | None:
    """Return a value as a number, as CSV knows text only; None if it is none."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float | Decimal):
        return value
    if not isinstance(value, str):
        return None
    if _INTEGER.fullmatch(value):
        return int(value) if len(value) < _MOST_DIGITS else None
    try:
        made = Decimal(value.strip())
    except InvalidOperation:
        return None
    return made if made.is_finite() and abs(made.adjusted()) < _MOST_DIGITS else None


def _pair(a: Value, b: Value) -> tuple[Value, Value] | None:
    """Bring two values to one type, by the one that is not text; None if that cannot be."""
    if type(a) is type(b):
        return a, b
    one: Value
    other: Value
    if isinstance(a, bool) or isinstance(b, bool):
        one, other = _truth(a), _truth(b)
    else:
        one, other = number(a), number(b)
        if isinstance(one, float) != isinstance(other, float) and one is not None and other is not None:
            one, other = float(one), float(other)
    return None if one is None or other is None else (one, other)


def _truth(value: Value) -> bool | None:
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}.get(value.strip().lower()) if isinstance(value, str) else None


_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<>": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def compare(operator: str, a: Value, b: Value) -> bool | None:
    """Compare two values; None if one is unknown or they cannot be compared."""
    if a is None or b is None:
        return None
    pair = _pair(a, b)
    if pair is None:
        return None
    try:
        return _COMPARISONS[operator](*pair)
    except TypeError:
        return None


def calculate(operator: str, a: Value, b: Value) -> Value:
    """Do arithmetic, or join texts with ||."""
    if a is None or b is None:
        return None
    if operator == "||":
        return text(a) + text(b)
    one, other = number(a), number(b)
    if one is None or other is None:
        raise CosError("InvalidDataType", f"{operator} needs numbers.")
    if isinstance(one, float) != isinstance(other, float):
        one, other = float(one), float(other)
    return _calculated(operator, one, other)


def _calculated(operator: str, a: Any, b: Any) -> Value:
    try:
        match operator:
            case "+":
                return a + b
            case "-":
                return a - b
            case "*":
                return a * b
            case "/" if isinstance(a, int) and isinstance(b, int):
                return a // b if a % b == 0 else Decimal(a) / Decimal(b)
            case "/":
                return a / b
        return a % b
    except (ArithmeticError, ValueError) as error:
        raise CosError("EvaluatorInvalidArguments", f"{operator} has no result for these numbers.") from error


def negated(value: Value) -> Value:
    """Turn the sign."""
    return calculate("-", 0, value)


@lru_cache(maxsize=256)
def like_pattern(pattern: str, escape: str) -> re.Pattern[str]:
    """Translate a pattern of LIKE: % is any text, _ any character."""
    made, literal = [], False
    for character in pattern:
        if escape and character == escape and not literal:
            literal = True
            continue
        if literal or character not in "%_":
            made.append(re.escape(character))
        elif character == "_":
            made.append(".")
        elif not made or made[-1] != ".*":
            made.append(".*")
        literal = False
    return re.compile("".join(made), re.DOTALL)


def cast(value: Value, kind: str) -> Value:
    """Convert to a type of SQL; CastFailed if the value has no such form."""
    if value is None:
        return None
    try:
        match kind:
            case "INT" | "INTEGER":
                return int(number(value))  # type: ignore[arg-type]
            case "FLOAT" | "DOUBLE" | "REAL":
                return float(number(value))  # type: ignore[arg-type]
            case "DECIMAL" | "NUMERIC":
                return Decimal(str(number(value)))
            case "BOOL" | "BOOLEAN":
                truth = _truth(value)
                if truth is None:
                    raise ValueError
                return truth
        return text(value)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise CosError("CastFailed", f"{text(value)[:100]!r} cannot be made a value of {kind}.") from error


def text(value: Value) -> str:
    """Write a value as CSV shows it."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list):
        return json_text(value)
    return str(value)


def json_text(value: Value) -> str:
    """Write a value as JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_plain)


def _plain(value: Value) -> Value:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    raise TypeError(type(value))
