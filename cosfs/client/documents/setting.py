"""One setting of a bucket: where COS keeps it, what its document may hold, how it is read and written."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

from cosfs.client import xml
from cosfs.client.documents.schema import Problems, Struct
from cosfs.errors import UsageError

__all__ = ["Checked", "Setting"]

_MOST_BYTES = 4 << 20
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Checked:
    """A document that may be sent, in its canonical form, and remarks for the user."""

    value: dict[str, Any]
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class Setting:
    """One setting.

    resource: the name in the query. root: its XML element, empty for a document that is JSON (then
    checker judges it). none: the codes with which COS says that there is nothing; may_be_empty: it says
    so with an empty document. by_id: there are several, told apart by this parameter, which
    a document has in its id_field. deletable: whether it can be taken away at
    all; unset: what is sent for that where COS knows no DELETE. command: how the
    command line calls it, if not by its name.
    """

    name: str
    resource: str
    title: str
    example: str
    root: str = ""
    kind: Struct = field(default_factory=lambda: Struct(()))
    none: frozenset[str] = frozenset()
    may_be_empty: bool = False
    by_id: str = ""
    id_field: str = ""
    deletable: bool = True
    unset: bytes | None = None
    command: str = ""
    checker: Callable[[dict[str, Any], Problems], None] | None = None

    @property
    def called(self) -> str:
        """Return how the command line calls it."""
        return self.command or self.name

    # --- what a user wrote

    def parse(self, data: bytes, source: str) -> dict[str, Any]:
        """Read a document that somebody wrote, as JSON or XML."""
        if len(data) > _MOST_BYTES:
            raise UsageError(f"{source} is larger than any {self.title} can be")
        text = data.removeprefix(b"\xef\xbb\xbf").strip()
        if not text:
            raise UsageError(f"{source} is empty", hint=f"Remove the setting with: cos {self.called} delete")
        try:
            return self._parse_xml(text, source) if text[:1] == b"<" else self._parse_json(text, source)
        except RecursionError:
            raise UsageError(f"{source} is nested too deeply") from None

    def _parse_xml(self, text: bytes, source: str) -> dict[str, Any]:
        if not self.root:
            raise UsageError(f"{source} is XML, but a {self.title} is written in JSON")
        if b"<!DOCTYPE" in text:
            raise UsageError(f"{source} has a DOCTYPE, which COS does not take")
        try:
            return self.kind.read(xml.parse(text, self.root))
        except ValueError as error:
            raise UsageError(f"{source} cannot be read as XML: {error}") from None

    def _parse_json(self, text: bytes, source: str) -> dict[str, Any]:
        try:
            value = json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
            json.dumps(value, ensure_ascii=False).encode()  # a lone surrogate is no text
        except ValueError as error:
            raise UsageError(f"{source} cannot be read as JSON: {error}") from None
        if isinstance(value, dict) and list(value) == [self.root] and isinstance(value[self.root], dict):
            value = value[self.root]  # the name of the root element around it
        if isinstance(value, list) and len(self.kind.fields) > 0 and self.kind.fields[0].is_list:
            value = {self.kind.fields[0].name: value}
        if not isinstance(value, dict):
            raise UsageError(f"{source} must hold an object, {{…}}")
        return value

    def check(self, value: dict[str, Any], source: str) -> Checked:
        """Judge a document before it is sent; raise UsageError with the fields that are wrong."""
        problems = Problems()
        try:
            if self.root:
                value = self.kind.normalise(value, "", problems)
            elif self.checker is not None:
                self.checker(value, problems)
        except RecursionError:
            raise UsageError(f"{source} is nested too deeply") from None
        if problems.found:
            shown = [str(each) for each in problems.found[:_SHOWN]]
            if len(problems.found) > _SHOWN:
                shown.append(f"and {len(problems.found) - _SHOWN} more")
            raise UsageError(
                f"{source}: {'; '.join(shown)}", hint=f"Nothing was sent. See: cos {self.called} put --help"
            )
        return Checked(value, tuple(str(each) for each in problems.remarks))

    # --- what goes to COS and comes from there

    def write(self, value: dict[str, Any]) -> bytes:
        """Write a checked document as COS takes it."""
        if not self.root:
            return json.dumps(value, ensure_ascii=False).encode()
        return self.kind.write(self.root, value).encode()

    def read(self, body: bytes) -> dict[str, Any]:
        """Read a document as COS sent it."""
        if not self.root:
            value = json.loads(body)
            if not isinstance(value, dict):
                raise ValueError("it is no object")
            return value
        return self.kind.read(xml.parse(body, self.root))

    def pretty_xml(self, value: dict[str, Any]) -> str:
        """Write a document as XML for people."""
        return "\n".join(_laid_out(ElementTree.fromstring(self.write(value)), ""))


def _laid_out(element: ElementTree.Element, margin: str) -> Iterator[str]:
    """Write an element on lines of its own; ElementTree's writer would lose carriage returns."""
    kinds = "".join(
        f' xmlns:xsi="{name[1:].partition("}")[0]}" xsi:{name.partition("}")[2]}="{xml.escape_text(value)}"'
        for name, value in element.attrib.items()
    )
    if len(element) == 0:
        text = xml.escape_text(element.text or "")
        yield f"{margin}<{element.tag}{kinds}>{text}</{element.tag}>"
        return
    yield f"{margin}<{element.tag}{kinds}>"
    for child in element:
        yield from _laid_out(child, margin + "  ")
    yield f"{margin}</{element.tag}>"


def _no_constant(text: str) -> object:
    raise ValueError(f"{text} is no number of JSON")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name!r} is there twice")
        found[name] = value
    return found
