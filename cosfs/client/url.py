"""cos:// addresses, and how a key becomes the path of a request. Pure."""

from __future__ import annotations

import re
from urllib.parse import quote

from cosfs.errors import UsageError
from cosfs.records import dataclass

__all__ = ["CosUrl", "check_bucket", "is_cos_url", "parse_url", "quote_key"]

_SCHEME = "cos://"
# What may become part of a host name. COS itself is stricter; its own error is clearer than a guess.
_BUCKET = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class CosUrl:
    """A place in COS; bucket is empty in "cos://", key may be empty, a prefix or a whole key."""

    bucket: str
    key: str = ""

    def __str__(self) -> str:
        return f"{_SCHEME}{self.bucket}/{self.key}" if self.key else f"{_SCHEME}{self.bucket}"


def is_cos_url(text: str) -> bool:
    """Return whether text is meant as an address in COS."""
    return text[: len(_SCHEME)].lower() == _SCHEME


def parse_url(text: str) -> CosUrl:
    """Take "cos://bucket/key" apart. The key is everything after the slash, exactly as written."""
    if not is_cos_url(text):
        raise UsageError(f"{text!r} is not an address in COS", hint="Write it as cos://bucket/key")
    bucket, _, key = text[len(_SCHEME) :].partition("/")
    if bucket:
        check_bucket(bucket)
    elif key:
        raise UsageError(f"{text!r} names no bucket", hint="Write it as cos://bucket/key")
    return CosUrl(bucket, key)


def check_bucket(bucket: str) -> None:
    """Raise UsageError if bucket could not be part of a host name."""
    if not _BUCKET.fullmatch(bucket) or ".." in bucket or len(bucket) > 100:
        raise UsageError(
            f"{bucket!r} cannot be the name of a bucket",
            hint="A name has lower-case letters, digits and hyphens, and ends in -APPID",
        )


def quote_key(key: str) -> str:
    """Return the key as it travels in a path, without the slash before it.

    Dot segments travel as %2E: libraries and proxies would otherwise resolve them away and
    reach another object. Everything else is left for the server to take literally.
    """
    try:
        quoted = quote(key, safe="/")
    except UnicodeEncodeError:
        raise UsageError(f"the key {key!r} is not valid UTF-8") from None
    if quoted[:1] == "." or "/." in quoted:
        segments = quoted.split("/")
        quoted = "/".join(s.replace(".", "%2E") if s in (".", "..") else s for s in segments)
    return quoted
