"""Options that say what is stored beside an object's bytes: type, metadata, storage class, access."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from cosfs.errors import UsageError
from cosfs.records import dataclass

from .options import F, apply

if TYPE_CHECKING:
    from cosfs.client.model import Headers

STORAGE_CLASSES = (
    "STANDARD",
    "STANDARD_IA",
    "INTELLIGENT_TIERING",
    "ARCHIVE",
    "DEEP_ARCHIVE",
    "MAZ_STANDARD",
    "MAZ_STANDARD_IA",
    "MAZ_INTELLIGENT_TIERING",
    "MAZ_ARCHIVE",
)
ACLS = (
    "default",
    "private",
    "public-read",
    "authenticated-read",
    "bucket-owner-read",
    "bucket-owner-full-control",
)
_GRANTS = ("read", "write", "read-acp", "write-acp", "full-control")
_META_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# A comma ends one pair only if the next one begins behind it: values may hold commas.
_NEXT_PAIR = re.compile(r",(?=[A-Za-z0-9][A-Za-z0-9._-]*=)")


def _storage_class(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Accept any case, as click.Choice would, but name the choices as COS writes them."""
    if value is None or value.upper() in STORAGE_CLASSES:
        return value and value.upper()
    raise click.BadParameter(f"{value!r} is none of {', '.join(STORAGE_CLASSES)}", ctx, param)


header_options: Callable[[F], F] = apply(
    click.option("--acl", type=click.Choice(ACLS), metavar="ACL", help=f"Access: {', '.join(ACLS)}."),
    click.option(
        "--grants", multiple=True, metavar="PERMISSION=WHO", help='As in read=id="qcs::cam::uin/1:uin/1".'
    ),
    click.option(
        "--storage-class",
        callback=_storage_class,
        metavar="CLASS",
        help="STANDARD, STANDARD_IA, INTELLIGENT_TIERING, ARCHIVE, DEEP_ARCHIVE or one of MAZ_….",
    ),
    click.option(
        "--metadata", multiple=True, metavar="K=V,…", help="Metadata (x-cos-meta-K); may be repeated."
    ),
    click.option("--content-type", metavar="TYPE", help="Instead of the type that the name suggests."),
    click.option("--cache-control", metavar="TEXT", help="How long browsers may keep the objects."),
    click.option("--content-disposition", metavar="TEXT", help="Name under which browsers save them."),
    click.option("--content-encoding", metavar="TEXT", help="Encoding of the content, such as gzip."),
    click.option("--content-language", metavar="TEXT", help="Language of the content."),
    click.option("--expires", metavar="DATE", help="Expires header: 2027-01-31T12:00:00Z or as in HTTP."),
    click.option("--tags", metavar="K=V&…", help="Tags of the new objects."),
    click.option(
        "--sse",
        is_flag=False,
        flag_value="AES256",
        type=click.Choice(["AES256", "SM4", "cos/kms"]),
        metavar="[AES256|SM4|cos/kms]",
        help="Encryption on the server's side; AES256 if nothing is said.",
    ),
    click.option("--sse-kms-key-id", metavar="ID", help="Key for --sse cos/kms."),
    click.option("--no-guess-mime-type", is_flag=True, help="Do not derive Content-Type from the name."),
)

# Header fields of an object that COS gives back as they were put.
CONTENT_FIELDS = (
    "content_type",
    "cache_control",
    "content_disposition",
    "content_encoding",
    "content_language",
    "expires",
)
_NAMES = (
    "acl",
    "grants",
    "storage_class",
    "metadata",
    *CONTENT_FIELDS,
    "tags",
    "sse",
    "sse_kms_key_id",
    "no_guess_mime_type",
)


@dataclass(frozen=True, slots=True)
class HeaderChoice:
    """What the options ask for; `headers` is the part that is the same for every object."""

    headers: Headers
    guess_type: bool
    given: frozenset[str] = field(default_factory=frozenset)
    made: dict[str, Headers] = field(default_factory=dict, repr=False, compare=False)  # by content type

    def for_name(self, name: str) -> Headers:
        """Return the headers of one upload, with the content type its name suggests."""
        if self.headers.content_type or not self.guess_type:
            return self.headers
        kind = guess_type(name)
        made = self.made.get(kind)
        if made is None:
            # One for many: a tree has few types, and what is sent to another process is sent once.
            made = self.made[kind] = replace(self.headers, content_type=kind)
        return made


def pop_headers(options: dict[str, Any]) -> HeaderChoice:
    """Take the header options out of a command's options."""
    from cosfs.client.model import Headers

    values = {name: options.pop(name) for name in _NAMES}
    extra: dict[str, str] = grant_headers(values["grants"])
    if values["acl"]:
        extra["x-cos-acl"] = values["acl"]
    if values["tags"]:
        extra["x-cos-tagging"] = values["tags"]
    if values["sse"]:
        extra["x-cos-server-side-encryption"] = values["sse"]
    if values["sse_kms_key_id"]:
        extra["x-cos-server-side-encryption-cos-kms-key-id"] = values["sse_kms_key_id"]
    texts = {
        name: _one_line(name, values[name] or "")
        for name in (
            "content_type",
            "cache_control",
            "content_disposition",
            "content_encoding",
            "content_language",
        )
    }
    texts["expires"] = parse_expires(values["expires"] or "")
    headers = Headers(
        **texts,
        storage_class=values["storage_class"] or "",
        metadata=parse_metadata(values["metadata"]),
        extra=extra,
    )
    given = frozenset(name for name in _NAMES if values[name] and name != "no_guess_mime_type")
    return HeaderChoice(headers, not values["no_guess_mime_type"], given)


def parse_expires(text: str) -> str:
    """Return a date, in ISO 8601 (UTC unless it says otherwise) or as in HTTP, as the header has it."""
    if not text:
        return ""
    from datetime import UTC, datetime
    from email.utils import format_datetime, parsedate_to_datetime

    for parse in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            date = parse(text)
        except ValueError:
            continue
        aware = date if date.tzinfo is not None else date.replace(tzinfo=UTC)
        return format_datetime(aware.astimezone(UTC), usegmt=True)
    raise UsageError(f"--expires {text!r} is no date", hint="Write it like 2027-01-31T12:00:00Z")


def _one_line(name: str, text: str) -> str:
    if any(ord(char) < 32 or ord(char) == 127 for char in text):
        raise UsageError(f"--{name.replace('_', '-')} holds a control character")
    return text


def parse_metadata(texts: Sequence[str]) -> Mapping[str, str]:
    """Read `K=V,K2=V2` pairs; values that are not plain ASCII are percent-encoded, as COS asks."""
    metadata: dict[str, str] = {}
    for text in texts:
        for pair in _NEXT_PAIR.split(text):
            name, found, value = pair.partition("=")
            name = name.strip().lower().removeprefix("x-cos-meta-")
            if not found or not _META_NAME.fullmatch(name):
                raise UsageError(f"--metadata {pair!r} is not KEY=VALUE")
            plain = value.isascii() and value.isprintable() and value == value.strip()
            metadata[name] = value if plain else quote(value.encode("utf-8", "surrogateescape"), safe="")
    return metadata


def grant_headers(texts: Sequence[str]) -> dict[str, str]:
    """Read `PERMISSION=WHO` grants; those of one permission go into one header."""
    found: dict[str, str] = {}
    for name, who in map(_grant, texts):
        found[name] = f"{found[name]},{who}" if name in found else who
    return found


def _grant(text: str) -> tuple[str, str]:
    permission, found, who = text.partition("=")
    permission = {"full": "full-control"}.get(permission, permission)
    if not found or permission not in _GRANTS:
        raise UsageError(
            f"--grants {text!r} is not PERMISSION=WHO", hint=f"Permissions: {', '.join(_GRANTS)}"
        )
    return f"x-cos-grant-{permission}", who


def guess_type(name: str) -> str:
    """Guess the content type of a name; empty if it says nothing.

    A compressed file is what it is, not what is inside: browsers would show `a.html.gz` as text.
    """
    name = name.rpartition("/")[2]
    # Its last two suffixes decide, of which a tree has few. With a colon it is looked at as a URL.
    return _guess_type(name if ":" in name else ".".join(["x", *name.lstrip(".").split(".")[1:][-2:]]))


@lru_cache(maxsize=1024)
def _guess_type(name: str) -> str:
    import mimetypes

    kind, encoding = mimetypes.guess_type(name, strict=False)
    if encoding:
        return "application/gzip" if encoding == "gzip" else f"application/x-{encoding}"
    return kind or ""
