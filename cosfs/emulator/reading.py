"""Reading settings strictly: small steps that end in the error COS gives for what does not fit."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from xml.etree import ElementTree

from cosfs.emulator.errors import CosError
from cosfs.emulator.numerals import whole

Node = ElementTree.Element


def malformed(message: str) -> CosError:
    """Say that the document is not of the right shape."""
    return CosError("MalformedXML", message)


def invalid(message: str) -> CosError:
    """Say that a value in the document is not allowed."""
    return CosError("InvalidArgument", message)


def value(node: Node, path: str) -> str:
    """Return the text at a path without the blanks around it; empty if it is not there."""
    return (node.findtext(path) or "").strip()


def needed(node: Node, path: str) -> str:
    """Return a text that must be there."""
    found = value(node, path)
    if not found:
        raise malformed(f"{node.tag} needs {path}.")
    return found


def single(node: Node, path: str) -> Node:
    """Return the one element at a path."""
    found = node.findall(path)
    if len(found) != 1:
        raise malformed(f"{node.tag} needs one {path}.")
    return found[0]


def choice(node: Node, path: str, options: Collection[str], default: str = "") -> str:
    """Return a text that must be one of the options, spelled as they are."""
    found = value(node, path) or default
    if found not in options:
        raise malformed(f"{path} must be one of {', '.join(options)}.")
    return found


def number(node: Node, path: str, low: int, high: int) -> int | None:
    """Return a number within bounds, None if it is not there."""
    text = value(node, path)
    if not text:
        return None
    found = whole(text)
    if found is None or not low <= found <= high:
        raise invalid(f"{path} must be a number from {low} to {high}.")
    return found


def date(node: Node, path: str) -> int | None:
    """Return an ISO 8601 time as Unix seconds, None if it is not there; UTC if it names no zone."""
    text = value(node, path)
    if not text:
        return None
    try:
        when = datetime.fromisoformat(text)
    except ValueError as error:
        raise invalid(f"{path} is not an ISO 8601 date.") from error
    return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp())


def tags(node: Node, path: str = "Tag") -> tuple[tuple[str, str], ...]:
    """Return the tags at a path."""
    return tuple((needed(tag, "Key"), tag.findtext("Value") or "") for tag in node.iterfind(path))
