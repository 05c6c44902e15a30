"""Key components as file names, and back. Pure.

A component is the text between two slashes of a key. Most are file names as they are. The others
are shown in one of these forms, all of which begin with `%=` or end with `%=file`:

    %=…                 escaped: components no file name can be ("", ".", "..", with NUL) and those
                        that would look like a form of this table; reversible
    %=…%~<16 hex>       shortened: over 255 bytes; the digits are of the component's SHA-256, so
                        only a table of the names shown can lead back
    …%=file             the file of a name that is a directory as well (`a` beside `a/`); leads to it also
                        when the directory has gone
    %=content           the bytes of a directory marker that is not empty, inside that directory

No two components share a name, and no name of one form can be read as another.
"""

from __future__ import annotations

import errno
import hashlib
import re

from cosfs.errors import FilesystemError

__all__ = [
    "CONTENT_NAME",
    "KEY_MAX",
    "LEAD",
    "NAME_MAX",
    "SHADOW_SUFFIX",
    "check_key",
    "check_new",
    "from_name",
    "from_shadow",
    "is_shortened",
    "shadow_name",
    "to_name",
]

LEAD = "%="
SHADOW_SUFFIX = "%=file"
CONTENT_NAME = "%=content"
NAME_MAX = 255  # bytes, the limit of the kernel
KEY_MAX = 850  # bytes of UTF-8, the limit of COS

_LEAD = LEAD.encode()
_SHADOW_SUFFIX = SHADOW_SUFFIX.encode()
_TAIL_LENGTH = 18  # "%~" and 16 hex digits
_SHORTENED = re.compile(rb"%=.*%~[0-9a-f]{16}(%=file)?", re.DOTALL)
_PERCENT = re.compile(r"%([0-9A-F]{2})")
_FORBIDDEN = re.compile(r"[\x18-\x1b]")  # CAN, EM, SUB, ESC: COS refuses them in keys


def to_name(component: str) -> bytes:
    """Return the file name of one key component."""
    return _fit(component, NAME_MAX)


def from_name(name: bytes) -> str | None:
    """Return the component of a file name, the exact inverse of to_name.

    None for a name that to_name cannot have made by computation alone: shortened forms, `%=content`,
    shadows, escapes of what needs none, bytes that are not UTF-8.
    """
    try:
        text = name.decode()
    except UnicodeDecodeError:
        return None
    if text.startswith(LEAD):
        text = _unescape(text[len(LEAD) :])
    return text if "/" not in text and to_name(text) == name and not is_shortened(name) else None


def is_shortened(name: bytes) -> bool:
    """Whether only a table of shown names can tell the component of this name."""
    return name.startswith(_LEAD) and _SHORTENED.fullmatch(name) is not None


def shadow_name(component: str) -> bytes:
    """Return the name of the file that stands beside a directory of the same name."""
    return _fit(component, NAME_MAX - len(_SHADOW_SUFFIX)) + _SHADOW_SUFFIX


def from_shadow(name: bytes) -> str | None:
    """Return the component of a shadow's name, the exact inverse of shadow_name.

    None for any other name and for a shortened one.
    """
    if not name.endswith(_SHADOW_SUFFIX):
        return None
    component = from_name(name[: -len(_SHADOW_SUFFIX)])
    return component if component is not None and shadow_name(component) == name else None


def check_new(name: bytes) -> str:
    """Return the component for a name that a program wants to create.

    Escapes are accepted, so that a tree can be copied within the mount; the other reserved forms are
    refused, because the file would come back under another name.
    """
    if len(name) > NAME_MAX:
        raise FilesystemError(errno.ENAMETOOLONG, f"the name is longer than {NAME_MAX} bytes: {name!r}")
    try:
        name.decode()
    except UnicodeDecodeError as error:
        raise FilesystemError(errno.EILSEQ, f"the name is not UTF-8, as COS demands: {name!r}") from error
    component = from_name(name)
    if component is None:
        raise FilesystemError(
            errno.EINVAL,
            f"names that begin with {LEAD!r} or end with {SHADOW_SUFFIX!r} are reserved: {name!r}",
        )
    if _FORBIDDEN.search(component):
        raise FilesystemError(errno.EINVAL, f"COS allows no control characters 24 to 27 in a name: {name!r}")
    return component


def check_key(key: str) -> None:
    """Raise if COS would refuse this key."""
    if len(key) * 4 > KEY_MAX and (length := len(key.encode(errors="surrogatepass"))) > KEY_MAX:
        raise FilesystemError(
            errno.ENAMETOOLONG, f"the key has {length} bytes, COS allows {KEY_MAX}: {key[:60]!r}…"
        )
    if key.startswith("\\"):
        raise FilesystemError(errno.EINVAL, f"COS allows no key that begins with a backslash: {key!r}")


def _fit(component: str, limit: int) -> bytes:
    text = LEAD + _escape(component) if _is_special(component) else component
    try:
        name = text.encode()
    except UnicodeEncodeError:  # half a surrogate pair: no key of COS has it, but nothing may break a listing
        return _shorten(component, limit)
    return name if len(name) <= limit else _shorten(component, limit)


def _is_special(component: str) -> bool:
    return (
        component in ("", ".", "..")
        or component.startswith(LEAD)
        or component.endswith(SHADOW_SUFFIX)
        or "\0" in component
    )


def _escape(component: str) -> str:
    """Percent-encode what would be no name or no unique one behind LEAD."""
    text = component.replace("%", "%25").replace("\0", "%00")
    return text.replace(".", "%2E") if component in (".", "..") else text


def _unescape(text: str) -> str:
    """Undo _escape; the caller checks that the result leads back to the same name."""
    return _PERCENT.sub(lambda match: chr(int(match[1], 16)), text)


def _shorten(component: str, limit: int) -> bytes:
    digits = hashlib.sha256(component.encode(errors="surrogatepass")).hexdigest()[:16]
    room = limit - len(_LEAD) - _TAIL_LENGTH
    cut = _escape(component).encode(errors="replace")[:room].decode(errors="ignore")
    return f"{LEAD}{cut}%~{digits}".encode()
