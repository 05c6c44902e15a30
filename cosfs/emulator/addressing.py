"""From a request target and a Host header to a bucket and a key, however the client was pointed here.

Nothing is normalised: `//`, `..` and `%2F` reach the key as they were meant. Keys are decoded exactly once.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from cosfs.emulator.errors import CosError

_BUCKET_LABEL = re.compile(r".+-[0-9]+")  # names that COS refuses too: creating them must say so
_BUCKET_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
_IPV4 = re.compile(r"[0-9]+(\.[0-9]+){3}")
WEBSITE_PATH = "/_website/"  # before a bucket's name: for browsers that cannot be given a host name
_FORBIDDEN = re.compile("[\x00\x18-\x1b]")
_SERVICE_LABELS = ("service", "cos", "cos-internal", "s3")


@dataclass(frozen=True, slots=True)
class Target:
    """A request target taken apart: authority of an absolute form, path as sent and decoded, query."""

    authority: str
    raw_path: bytes
    path: bytes
    query: tuple[tuple[bytes, bytes], ...]

    def parameters(self) -> dict[str, str]:
        """Return the query by lower-case name: clients spell versionId in three ways. First value wins."""
        result: dict[str, str] = {}
        for name, value in self.query:
            result.setdefault(name.decode("utf-8", "replace").lower(), value.decode("utf-8", "replace"))
        return result


@dataclass(frozen=True, slots=True)
class Place:
    """What a request is about: the service (no bucket), a bucket (no key) or an object."""

    bucket: str
    key: str
    path_style: bool
    website: bool = False


def split_target(target: bytes) -> Target:
    """Take a request target apart: origin-form, or the absolute-form that proxies are sent."""
    authority = ""
    if not target.startswith((b"/", b"*")):
        scheme, found, rest = target.partition(b"://")
        if not found or scheme.lower() not in (b"http", b"https"):
            raise CosError("InvalidURI")
        end = re.search(rb"[/?#]", rest)
        cut = end.start() if end else len(rest)
        authority, target = rest[:cut].decode("latin-1").lower(), rest[cut:]
        if not target.startswith(b"/"):
            target = b"/" + target
    raw_path, _, raw_query = target.partition(b"?")
    return Target(authority, raw_path, unquote_to_bytes(raw_path), tuple(split_query(raw_query)))


def split_query(raw: bytes) -> list[tuple[bytes, bytes]]:
    """Decode a query. `+` is a space here: the Python SDK signs %20 and sends `+`."""
    pairs = []
    for item in raw.replace(b"+", b" ").split(b"&"):
        if item:
            name, _, value = item.partition(b"=")
            pairs.append((unquote_to_bytes(name), unquote_to_bytes(value)))
    return pairs


def without_port(host: str) -> str:
    """Drop the port of a host, IPv6 included."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def is_address(name: str) -> bool:
    """Tell whether a host without port is an IP address."""
    return name.startswith("[") or _IPV4.fullmatch(name) is not None


def locate(target: Target, host: str, resolve: Callable[[str], str], default: str = "") -> Place:
    """Find bucket and key. `resolve` maps a full or unique short name of a bucket to the full one, or ''.

    With a default bucket, a host that is an IP address means that one, and the path is the key alone.
    """
    name = without_port((target.authority or host).lower())
    try:
        path = target.path.decode()
    except UnicodeDecodeError as error:
        raise CosError("InvalidURI", "The path is not UTF-8.") from error
    label, dot, rest = name.partition(".")
    website = rest.partition(".")[0].partition(":")[0] == "cos-website"
    if dot and not _IPV4.fullmatch(name) and label not in _SERVICE_LABELS:
        full = resolve(label)  # S3 tools put the bucket there as it was typed, without the APPID
        if full or _BUCKET_LABEL.fullmatch(label):
            return Place(full or label, path[1:], False, website)
    if default and is_address(name):
        return Place(default, path[1:], False)
    website = path.startswith(WEBSITE_PATH)
    bucket, _, key = path[len(WEBSITE_PATH) if website else 1 :].partition("/")
    return Place(resolve(bucket) or bucket, key, True, website) if bucket else Place("", "", True)


def check_bucket_name(name: str) -> None:
    """Refuse what COS does not take as a bucket name; the APPID at its end is part of it."""
    user, _, appid = name.rpartition("-")
    if not _BUCKET_NAME.fullmatch(name) or not user or not appid.isdigit() or len(name) > 63:
        raise CosError("InvalidBucketName")


def check_key(key: str) -> None:
    """Refuse keys that COS refuses for length or characters. A leading slash is let through on purpose."""
    if not key:
        raise CosError("InvalidURI")
    if len(key) > 850 or len(key.encode()) > 850:
        raise CosError("KeyTooLong")
    if _FORBIDDEN.search(key):
        raise CosError("InvalidObjectName", "The key has a control character that is not allowed.")
