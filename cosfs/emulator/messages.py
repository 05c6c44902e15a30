"""XML in and out: small builders without namespaces, and a forgiving reader of request bodies."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from functools import lru_cache
from urllib.parse import quote
from xml.etree import ElementTree

from cosfs.emulator.errors import CosError

DECLARATION = "<?xml version='1.0' encoding='utf-8' ?>\n"
_SPECIAL = re.compile('[&<>"\x00-\x1f]')
_PLAIN = re.compile("[A-Za-z0-9_.~/-]*").fullmatch
_ENCODED = re.compile(rb"[^A-Za-z0-9_.~/-]+")
_BYTES = [quote(bytes([byte]), safe="/") for byte in range(256)]
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\t": "\t"}


def escape(text: str) -> str:
    """Escape text for an element. Control characters become references: XML has no better for them."""
    if _SPECIAL.search(text) is None:
        return text
    return _SPECIAL.sub(lambda match: _ENTITIES.get(match[0]) or f"&#{ord(match[0])};", text)


def element(name: str, value: object = "") -> str:
    """Build one element with text."""
    if isinstance(value, bool):
        value = "true" if value else "false"
    return f"<{name}>{escape(str(value))}</{name}>"


def elements(values: Mapping[str, object] | Iterable[tuple[str, object]]) -> str:
    """Build a run of elements; a value of None leaves its element out."""
    pairs = values.items() if isinstance(values, Mapping) else values
    return "".join(element(name, value) for name, value in pairs if value is not None)


def document(root: str, inner: str = "", attributes: str = "") -> bytes:
    """Build a whole document; inner is XML already."""
    return f"{DECLARATION}<{root}{attributes}>{inner}</{root}>".encode()


def url_encode(text: str) -> str:
    """Encode as encoding-type=url asks: slashes stay, a space is %20."""
    if _PLAIN(text) is not None:
        return text
    raw = text.encode()
    if 2 * (len(raw) - len(text)) > len(text):  # long runs to be encoded, as in Chinese: quickest by the run
        return _ENCODED.sub(_encode_run, raw).decode("ascii")
    return "".join(map(_BYTES.__getitem__, raw))


def _encode_run(match: re.Match[bytes]) -> bytes:
    return b"%" + match[0].hex("%").upper().encode()


@lru_cache(maxsize=4096)
def iso_time(seconds: int) -> str:
    """Write a time as lists show it. COS knows whole seconds only."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(seconds))


def iso_time_short(seconds: int) -> str:
    """Write a time as CreationDate of a bucket shows it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@lru_cache(maxsize=4096)
def http_time(seconds: int) -> str:
    """Write a time as HTTP headers show it, in English whatever the locale."""
    t = time.gmtime(seconds)
    clock = f"{t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02}"
    return f"{_DAYS[t.tm_wday]}, {t.tm_mday:02} {_MONTHS[t.tm_mon - 1]} {t.tm_year:04} {clock} GMT"


def parse(body: bytes, root: str) -> ElementTree.Element:
    """Read a request body whose root element must be `root`; namespaces are dropped."""
    if not body.strip():
        raise CosError("MissingRequestBodyError")
    if b"<!DOCTYPE" in body[:4096] or b"<!ENTITY" in body:
        raise CosError("MalformedXML")  # nobody sends one honestly; entities could be made to explode
    try:
        tree = ElementTree.fromstring(body)
    except ElementTree.ParseError as error:
        raise CosError("MalformedXML") from error
    for node in tree.iter():
        node.tag = node.tag.rpartition("}")[2]
    if tree.tag != root:
        raise CosError("MalformedXML")
    return tree


def text(node: ElementTree.Element, name: str, default: str = "") -> str:
    """Return the text of a direct child, or the default."""
    return node.findtext(name) or default
