"""Keys of the user's own for SSE-C, as options give them."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import TYPE_CHECKING

from cosfs.errors import UsageError

if TYPE_CHECKING:
    from cosfs.client.model import CustomerKey

_LENGTH = 32
_IN_BASE64 = 44


def read_key(option: str, algorithm: str | None, text: str | None) -> CustomerKey | None:
    """Return the key that an option gives: 32 bytes in a file (file://, fileb://), in base64, or as text."""
    if text is None:
        if algorithm is not None:
            raise UsageError(f"{option} needs a key", hint=f"Add {option}-key fileb://FILE")
        return None
    from cosfs.client.model import CustomerKey

    key = _from_file(option, text) if text.startswith(("file://", "fileb://")) else _decoded(text.encode())
    if len(key) != _LENGTH:
        raise UsageError(
            f"{option}-key has {len(key)} bytes, and AES256 takes 32",
            hint="Give them as fileb://FILE or in base64",
        )
    return CustomerKey(key)


def _from_file(option: str, text: str) -> bytes:
    path = text.partition("://")[2]
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {option}-key {path}: {error.strerror}") from None
    return data if len(data) == _LENGTH else _decoded(data.strip())


def _decoded(text: bytes) -> bytes:
    if len(text) == _IN_BASE64:
        try:
            return base64.b64decode(text, validate=True)
        except binascii.Error:
            pass
    return text
