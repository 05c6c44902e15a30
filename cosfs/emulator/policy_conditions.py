"""The conditions of a policy: operators, and what they do with keys that a request does not have."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

Lookup = Callable[[str], Sequence[str] | None]
Compare = Callable[[str, str], bool]


class PolicyError(ValueError):
    """A document is no policy; the text says why."""


def _like(actual: str, wanted: str) -> bool:
    """Compare with `*` at the beginning or the end only; elsewhere it stands for itself."""
    starts, ends = wanted.startswith("*"), wanted.endswith("*")
    if wanted == "*":
        return True
    if starts and ends:
        return wanted[1:-1] in actual
    if starts:
        return actual.endswith(wanted[1:])
    return actual.startswith(wanted[:-1]) if ends else actual == wanted


@lru_cache(maxsize=1024)
def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(text, strict=False)


def _in_network(actual: str, wanted: str) -> bool:
    try:
        return ipaddress.ip_address(actual) in _network(wanted)
    except ValueError:
        return False


def _number(compare: Callable[[float, float], bool]) -> Compare:
    def compared(actual: str, wanted: str) -> bool:
        try:
            return compare(float(actual), float(wanted))
        except ValueError:
            return False

    return compared


_BOOLEANS = {"true": True, "false": False}
# Each operator: how values compare, whether it wants that none compares, and what its values must be.
_OPERATORS: Mapping[str, tuple[Compare, bool, Callable[[str], object]]] = {
    "string_equal": (str.__eq__, False, str),
    "string_not_equal": (str.__eq__, True, str),
    "string_equal_ignore_case": (lambda a, w: a.lower() == w.lower(), False, str),
    "string_not_equal_ignore_case": (lambda a, w: a.lower() == w.lower(), True, str),
    "string_like": (_like, False, str),
    "string_not_like": (_like, True, str),
    "ip_equal": (_in_network, False, _network),
    "ip_not_equal": (_in_network, True, _network),
    "numeric_equal": (_number(float.__eq__), False, float),
    "numeric_not_equal": (_number(float.__eq__), True, float),
    "numeric_greater_than": (_number(float.__gt__), False, float),
    "numeric_greater_than_equal": (_number(float.__ge__), False, float),
    "numeric_less_than": (_number(float.__lt__), False, float),
    "numeric_less_than_equal": (_number(float.__le__), False, float),
    "bool_equal": (lambda a, w: a.lower() == w.lower(), False, lambda text: _BOOLEANS[text.lower()]),
}


@dataclass(frozen=True, slots=True)
class Condition:
    """One operator on one key: any of its values will do, or with a negated operator none may hold."""

    operator: str
    if_exist: bool
    all_values: bool
    key: str
    values: tuple[str, ...]

    def holds(self, lookup: Lookup) -> bool:
        """Tell whether a request fulfils this; without the key only `_if_exist` is fulfilled."""
        actual = lookup(self.key)
        if actual is None:
            return self.if_exist
        compare, negated, _ = _OPERATORS[self.operator]
        found = [any(compare(one, wanted) for wanted in self.values) for one in actual]
        if self.all_values:
            return all(hit != negated for hit in found)
        return not any(found) if negated else any(found)


def parse_conditions(document: Any) -> tuple[Condition, ...]:
    """Read the element `condition`: {operator: {key: value or values}}; all of them must hold."""
    if not isinstance(document, dict):
        raise PolicyError("condition must be an object")
    found: list[Condition] = []
    for operator, keys in document.items():
        if not isinstance(keys, dict):
            raise PolicyError(f"the condition {operator} must be an object")
        found += [_condition(operator.lower(), key, values) for key, values in keys.items()]
    return tuple(found)


def _condition(operator: str, key: str, values: Any) -> Condition:
    qualifier, colon, name = operator.rpartition(":")
    if colon and qualifier not in ("for_any_value", "for_all_value", "for_all_values"):
        raise PolicyError(f"{operator} is no operator of a condition")
    base = name.removesuffix("_if_exist")
    if base not in _OPERATORS:
        raise PolicyError(f"{operator} is no operator of a condition")
    texts = tuple(_text(value) for value in (values if isinstance(values, list) else [values]))
    for text in texts:
        try:
            _OPERATORS[base][2](text)
        except (ValueError, KeyError) as error:
            raise PolicyError(f"{text!r} is no value for {operator}") from error
    return Condition(base, base != name, qualifier.startswith("for_all"), key.lower(), texts)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise PolicyError("a value of a condition must be a text, a number or a boolean")
