"""What a document may hold, field by field, in JSON as AWS writes it and in XML as COS does. Pure.

A field that no schema knows is kept as it is, in both directions: COS may have settings that are newer
than this program.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from typing import Any, Protocol
from xml.etree.ElementTree import Element

from cosfs.client.xml import escape_text, expressible

__all__ = ["Choice", "Date", "Field", "Flag", "Kind", "Number", "Problem", "Problems", "Struct", "Text"]

_TYPE = "{http://www.w3.org/2001/XMLSchema-instance}type"
_NUMBER = re.compile(r"-?[0-9]{1,18}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_BRIEF = 60


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one field; path is empty for the document itself."""

    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}: {self.text}" if self.path else self.text


class Problems:
    """Everything found in one document; `remarks` does not keep it from being sent."""

    def __init__(self) -> None:
        self.found: list[Problem] = []
        self.remarks: list[Problem] = []

    def add(self, path: str, text: str) -> None:
        """Note that a field cannot be sent as it is."""
        self.found.append(Problem(path, text))


class Kind(Protocol):
    """A type of value."""

    def normalise(self, value: Any, path: str, problems: Problems) -> Any:
        """Return the canonical form of a value; what is wrong goes to problems."""

    def read(self, element: Element) -> Any:
        """Read an element as COS sent it, without judging it."""

    def write(self, name: str, value: Any) -> str:
        """Write a canonical value as an element."""


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _BRIEF else f"{text[: _BRIEF - 1]}…"


class _Leaf:
    """A value without parts."""

    def read(self, element: Element) -> Any:
        return element.text or "" if len(element) == 0 else read_unknown(element)

    def write(self, name: str, value: Any) -> str:
        return _element(name, value)


@dataclass(frozen=True, slots=True)
class Text(_Leaf):
    """Text; shape says in words what pattern asks for."""

    least: int = 0
    most: int = 0
    pattern: str = ""
    shape: str = ""

    def normalise(self, value: Any, path: str, problems: Problems) -> Any:
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            problems.add(path, f"must be text, not {_brief(value)}")
        elif not expressible(value):
            problems.add(path, "holds a character that XML cannot carry")
        elif len(value) < self.least:
            problems.add(
                path, "must not be empty" if self.least == 1 else f"must have {self.least} characters"
            )
        elif self.most and len(value) > self.most:
            problems.add(path, f"must have at most {self.most} characters")
        elif self.pattern and not re.fullmatch(self.pattern, value):
            problems.add(path, f"must be {self.shape}, not {_brief(value)}")
        return value


@dataclass(frozen=True, slots=True)
class Number(_Leaf):
    """A whole number."""

    low: int = 0
    high: int = 0

    def normalise(self, value: Any, path: str, problems: Problems) -> Any:
        if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            problems.add(path, f"must be a whole number, not {_brief(value)}")
        elif value < self.low:
            problems.add(path, f"must be >= {self.low}")
        elif self.high and value > self.high:
            problems.add(path, f"must be <= {self.high}")
        return value

    def read(self, element: Element) -> Any:
        text = (element.text or "").strip()
        return int(text) if _NUMBER.fullmatch(text) else _Leaf.read(self, element)


@dataclass(frozen=True, slots=True)
class Choice(_Leaf):
    """One of several words."""

    options: tuple[str, ...]

    def normalise(self, value: Any, path: str, problems: Problems) -> Any:
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if value not in self.options:
            problems.add(path, f"must be {_listed(self.options)}, not {_brief(value)}")
        return value

    def read(self, element: Element) -> Any:
        return (element.text or "").strip() if len(element) == 0 else read_unknown(element)


@dataclass(frozen=True, slots=True)
class Flag(_Leaf):
    """Yes or no."""

    def normalise(self, value: Any, path: str, problems: Problems) -> Any:
        if isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true"
        if not isinstance(value, bool):
            problems.add(path, f"must be true or false, not {_brief(value)}")
        return value

    def read(self, element: Element) -> Any:
        text = (element.text or "").strip().lower()
        return text == "true" if text in ("true", "false") else _Leaf.read(self, element)


@dataclass(frozen=True, slots=True)
class Date(_Leaf):
    """A moment in ISO 8601, kept as it is written."""

    def normalise(self, value: Any, path: str, problems: Problems) -> Any:
        try:
            datetime.fromisoformat(value)
        except (TypeError, ValueError):
            problems.add(path, f"must be a date such as 2030-01-31T00:00:00+08:00, not {_brief(value)}")
        return value

    def read(self, element: Element) -> Any:
        return (element.text or "").strip() if len(element) == 0 else read_unknown(element)


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a Struct.

    xml: its element, if that has another name. many: a list, each value an element of its own; with item
    they stand in one element together. attribute: not an element but xsi:type. unique: no two values of
    the list may have the same such field.
    """

    name: str
    kind: Kind
    xml: str = ""
    required: bool = False
    many: bool = False
    item: str = ""
    least: int = 0
    most: int = 0
    unique: str = ""
    attribute: bool = False

    @property
    def tag(self) -> str:
        return self.xml or self.name

    @property
    def is_list(self) -> bool:
        return self.many or bool(self.item)

    def normalise(self, value: Any, path: str, problems: Problems) -> Any:
        """Return the canonical form of this field's value."""
        if not self.is_list:
            return self.kind.normalise(value, path, problems)
        if self.item and isinstance(value, dict) and list(value) == [self.item]:
            value = value[self.item]  # as SDKs of Tencent write it
        if not isinstance(value, list):
            if value is None or not isinstance(value, dict | str):
                problems.add(path, f"must be a list, not {_brief(value)}")
                return value
            value = [value]
        if len(value) < max(self.least, 1 if self.required and not self.item else 0):
            problems.add(path, "must not be empty")
        if self.most and len(value) > self.most:
            problems.add(path, f"must have at most {self.most} entries, not {len(value)}")
        found = [self.kind.normalise(each, f"{path}[{i}]", problems) for i, each in enumerate(value)]
        self._check_unique(found, path, problems)
        return found

    def _check_unique(self, values: list[Any], path: str, problems: Problems) -> None:
        if not self.unique:
            return
        seen: dict[Any, int] = {}
        for number, value in enumerate(values):
            mark = value.get(self.unique) if isinstance(value, dict) else None
            if not isinstance(mark, str | int) or mark == "":
                continue
            if mark in seen:
                problems.add(
                    f"{path}[{number}].{self.unique}", f"{_brief(mark)} is that of {path}[{seen[mark]}] too"
                )
            seen.setdefault(mark, number)

    def write(self, value: Any) -> str:
        """Write the element or elements of this field."""
        if not self.is_list:
            return self.kind.write(self.tag, value)
        inner = "".join(self.kind.write(self.item or self.tag, each) for each in value)
        return f"<{self.tag}>{inner}</{self.tag}>" if self.item else inner


Check = Callable[[Mapping[str, Any], str, Problems], None]


@dataclass(frozen=True, slots=True)
class Struct:
    """A value of named parts.

    one_of: groups of fields of which exactly one must be there; at_most_one: no more than one;
    any_of: at least one. check finds what these words cannot say; each field is right in itself by then.
    """

    fields: tuple[Field, ...]
    one_of: tuple[tuple[str, ...], ...] = ()
    at_most_one: tuple[tuple[str, ...], ...] = ()
    any_of: tuple[str, ...] = ()
    check: Check | None = None

    def normalise(self, value: Any, path: str, problems: Problems) -> Any:
        if not isinstance(value, dict):
            problems.add(path, f"must be an object with named fields, not {_brief(value)}")
            return value
        before = len(problems.found)
        found: dict[str, Any] = {}
        left = dict(value)
        for field in self.fields:
            inner = f"{path}.{field.name}" if path else field.name
            spelled = [name for name in dict.fromkeys((field.name, field.tag)) if name in left]
            if len(spelled) > 1:
                problems.add(inner, f"is there twice, as {' and '.join(spelled)}")
            for name in spelled:
                found[field.name] = field.normalise(left.pop(name), inner, problems)
            if not spelled and field.required:
                problems.add(inner, "is missing")
            if field.many and found.get(field.name) == []:
                del found[field.name]  # XML cannot say that a list is there and empty
        for name, unknown in left.items():
            self._judge_unknown(str(name), unknown, path, problems)
            found[name] = unknown
        self._check_groups(found, path, problems)
        if self.check is not None and len(problems.found) == before:
            self.check(found, path, problems)
        return found

    def _judge_unknown(self, name: str, value: Any, path: str, problems: Problems) -> None:
        inner = f"{path}.{name}" if path else name
        names = [field.name for field in self.fields]
        same = [each for each in names if each.lower() == name.lower()]
        close = same or get_close_matches(name, names, n=1, cutoff=0.75)
        if close:
            problems.add(inner, f"there is no such field; did you mean {close[0]}?")
        elif not _NAME.fullmatch(name):
            problems.add(inner, "cannot be the name of a field")
        elif not _writable(value):
            problems.add(inner, "there is no such field, and its value cannot be sent")
        else:
            problems.remarks.append(
                Problem(inner, "this program does not know this field; it is sent as it is")
            )

    def _check_groups(self, found: Mapping[str, Any], path: str, problems: Problems) -> None:
        for group in (*self.one_of, *self.at_most_one):
            there = [name for name in group if name in found]
            if len(there) > 1:
                problems.add(path, f"takes only one of {', '.join(group)}; it has {' and '.join(there)}")
            elif not there and group in self.one_of:
                problems.add(path, f"needs {_listed(group)}")
        if self.any_of and not any(name in found for name in self.any_of):
            problems.add(path, f"needs {_listed(self.any_of)}")

    def read(self, element: Element) -> dict[str, Any]:
        found: dict[str, Any] = {}
        tags = {field.tag: field for field in self.fields if not field.attribute}
        for field in self.fields:
            if field.attribute:
                if _TYPE in element.attrib:
                    found[field.name] = element.attrib[_TYPE].rpartition(":")[2]
                continue
            there = element.findall(field.tag)
            if field.item:
                values: list[Any] = [field.kind.read(each) for holder in there for each in holder]
                if there:
                    found[field.name] = values
            elif there:
                values = [field.kind.read(each) for each in there]
                found[field.name] = values if field.many or len(values) > 1 else values[0]
        found |= _unknown_fields(child for child in element if child.tag not in tags)
        return found

    def write(self, name: str, value: Any) -> str:
        return f"<{name}{self.attributes(value)}>{self.write_inner(value)}</{name}>"

    def write_inner(self, value: Mapping[str, Any]) -> str:
        """Write the elements of the fields."""
        fields = {field.name: field for field in self.fields if not field.attribute}
        pieces = [field.write(value[name]) for name, field in fields.items() if name in value]
        known = {field.name for field in self.fields}
        pieces += [write_unknown(name, inner) for name, inner in value.items() if name not in known]
        return "".join(pieces)

    def attributes(self, value: Mapping[str, Any]) -> str:
        """Write the fields that are attributes."""
        there = [value[field.name] for field in self.fields if field.attribute and field.name in value]
        space = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
        return "".join(f' {space} xsi:type="{escape_text(str(each))}"' for each in there)


# --- what no schema knows


def read_unknown(element: Element) -> Any:
    """Read an element without a schema: text, or its parts by name; several of one name are a list."""
    if len(element) == 0:
        return element.text or ""
    return _unknown_fields(element)


def _unknown_fields(elements: Iterable[Element]) -> dict[str, Any]:
    found: dict[str, list[Any]] = {}
    for element in elements:
        found.setdefault(element.tag, []).append(read_unknown(element))
    return {name: values if len(values) > 1 else values[0] for name, values in found.items()}


def write_unknown(name: str, value: Any) -> str:
    """Write a value as it was read without a schema."""
    if isinstance(value, list):
        return "".join(write_unknown(name, each) for each in value)
    if isinstance(value, dict):
        return f"<{name}>{''.join(write_unknown(inner, each) for inner, each in value.items())}</{name}>"
    return _element(name, value)


def _writable(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(not isinstance(each, list) and _writable(each) for each in value)
    if isinstance(value, dict):
        return all(_NAME.fullmatch(str(name)) and _writable(each) for name, each in value.items())
    return isinstance(value, str | int) and expressible(str(value))


def _element(name: str, value: object) -> str:
    if isinstance(value, bool):
        value = "true" if value else "false"
    return f"<{name}>{escape_text(str(value))}</{name}>"


def _listed(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last


def walk(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the path and text of every leaf of a document."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from walk(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and value:
        for number, inner in enumerate(value):
            yield from walk(inner, f"{path}[{number}]")
    else:
        text = value if isinstance(value, str) else "" if value in ([], {}) else str(value)
        yield path, text.lower() if isinstance(value, bool) else text
