"""Where the source of a copy is."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import unquote_to_bytes

from cosfs.emulator.addressing import Place, Target, locate, split_query
from cosfs.emulator.errors import CosError


def copy_source(text: str, resolve: Callable[[str], str]) -> tuple[Place, str]:
    """Read x-cos-copy-source: host/key with any suffix and port, or S3's bucket/key; maybe a versionId."""
    raw = text.strip()
    for scheme in ("http://", "https://"):
        raw = raw.removeprefix(scheme)
    path, _, query = raw.partition("?")
    version = next(
        (v.decode("latin-1") for n, v in split_query(query.encode("latin-1")) if n.lower() == b"versionid"),
        "",
    )
    decoded = unquote_to_bytes(path.encode("latin-1"))
    head, slash, rest = (
        decoded.lstrip(b"/").partition(b"/") if decoded.startswith(b"/") else decoded.partition(b"/")
    )
    host = head.decode("latin-1")
    if "." not in host and ":" not in host and host != "localhost":
        host, rest = "localhost", head + slash + rest
    place = locate(Target("", b"", b"/" + rest, ()), host, resolve)
    if not place.bucket or not place.key:
        raise CosError("InvalidCopySource")
    return place, version
