"""Credentials and the signature COS wants (`q-sign-algorithm=sha1`). Pure.

Where credentials come from is in `credentials`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import field
from functools import lru_cache
from typing import Protocol
from urllib.parse import quote

from cosfs.records import dataclass

__all__ = [
    "CredentialProvider",
    "Credentials",
    "StaticCredentials",
    "presign",
    "sign",
    "sign_form",
]


@dataclass(frozen=True, slots=True)
class Credentials:
    """One key; token and expires (Unix seconds, 0 = never) belong to a temporary one."""

    secret_id: str
    secret_key: str = field(repr=False)
    token: str = field(default="", repr=False)
    expires: float = 0.0


class CredentialProvider(Protocol):
    """Where the client gets its key from, for each request anew."""

    def get(self) -> Credentials:
        """Return credentials that are good now."""
        ...

    def refresh(self) -> Credentials:
        """Return newer credentials than those COS just refused as expired, if there are any."""
        ...


@dataclass(frozen=True, slots=True)
class StaticCredentials:
    """A key that stays the same; source says where it came from, as a person reads it."""

    credentials: Credentials
    source: str = ""

    def get(self) -> Credentials:
        return self.credentials

    def refresh(self) -> Credentials:
        return self.credentials


def sign(
    method: str,
    path: str,
    params: Mapping[str, str],
    headers: Mapping[str, str],
    credentials: Credentials,
    start: int,
    end: int,
) -> str:
    """Return the text of the Authorization header.

    path and params are decoded text; every header and parameter given is signed. The
    signature is good from start to end, in Unix seconds.
    """
    return "&".join(
        f"{name}={value}" for name, value in _fields(method, path, params, headers, credentials, start, end)
    )


def presign(
    method: str,
    path: str,
    params: Mapping[str, str],
    headers: Mapping[str, str],
    credentials: Credentials,
    start: int,
    end: int,
) -> str:
    """Return the query of a URL that is good by itself.

    headers must be sent as given by whoever uses the URL. A token travels as a signed parameter.
    """
    if credentials.token:
        params = {**params, "x-cos-security-token": credentials.token}
    fields = _fields(method, path, params, headers, credentials, start, end)
    return encode_query([*fields, *params.items()], keep_equals=True)


def sign_form(policy: str, credentials: Credentials, start: int, end: int) -> dict[str, str]:
    """Return the fields that make a form with this policy (JSON) good from start to end."""
    key_time = f"{start};{end}"
    sign_key = hmac.digest(credentials.secret_key.encode(), key_time.encode(), "sha1").hex()
    digest = hashlib.sha1(policy.encode(), usedforsecurity=False).hexdigest()
    fields = {
        "policy": base64.b64encode(policy.encode()).decode(),
        "q-sign-algorithm": "sha1",
        "q-ak": credentials.secret_id,
        "q-key-time": key_time,
        "q-signature": hmac.digest(sign_key.encode(), digest.encode(), "sha1").hex(),
    }
    return {**fields, "x-cos-security-token": credentials.token} if credentials.token else fields


_ENCODED = re.compile(r"[^A-Za-z0-9_.~-]")


def encode(text: str) -> str:
    """Percent-encode as signatures and queries want it: only A-Z a-z 0-9 - _ . ~ stay."""
    if text.isascii():
        # Twice as fast as quote, which looks at each byte of what is to be encoded at all.
        return _ENCODED.sub(_percent, text)
    # surrogateescape: header values that came from COS as bytes that are no UTF-8 go back unchanged.
    return quote(text.encode("utf-8", "surrogateescape"), safe="")


def _percent(match: re.Match[str]) -> str:
    return f"%{ord(match[0]):02X}"


def encode_query(params: Mapping[str, str] | list[tuple[str, str]], *, keep_equals: bool = False) -> str:
    """Return params as a query; an empty value leaves no equals sign unless keep_equals."""
    items = params.items() if isinstance(params, Mapping) else params
    return "&".join(
        f"{encode(name)}={encode(value)}" if value or keep_equals else encode(name) for name, value in items
    )


def _fields(
    method: str,
    path: str,
    params: Mapping[str, str],
    headers: Mapping[str, str],
    credentials: Credentials,
    start: int,
    end: int,
) -> list[tuple[str, str]]:
    key_time = f"{start};{end}"
    # HTTP trims header values on the way.
    header_list, header_text = _canonical({name: value.strip() for name, value in headers.items()})
    param_list, param_text = _canonical(params)
    request = f"{method.lower()}\n{path}\n{param_text}\n{header_text}\n"
    digest = hashlib.sha1(request.encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest()
    sign_key = _sign_key(credentials.secret_key, key_time)
    to_sign = f"sha1\n{key_time}\n{digest}\n"
    return [
        ("q-sign-algorithm", "sha1"),
        ("q-ak", credentials.secret_id),
        ("q-sign-time", key_time),
        ("q-key-time", key_time),
        ("q-header-list", header_list),
        ("q-url-param-list", param_list),
        ("q-signature", hmac.digest(sign_key, to_sign.encode(), "sha1").hex()),
    ]


@lru_cache(maxsize=4)
def _sign_key(secret_key: str, key_time: str) -> bytes:
    """Return what all requests of one second are signed with."""
    # The hex text is the key, not its bytes.
    return hmac.digest(secret_key.encode(), key_time.encode(), "sha1").hex().encode()


def _canonical(values: Mapping[str, str]) -> tuple[str, str]:
    """Return the list of names and the text of names and values, both sorted and encoded."""
    if not values:
        return "", ""
    # Most requests sign their host alone.
    return _canonical_pairs(tuple(values.items())) if len(values) <= 2 else _join(values.items())


@lru_cache(maxsize=64)
def _canonical_pairs(values: tuple[tuple[str, str], ...]) -> tuple[str, str]:
    return _join(values)


def _join(values: Iterable[tuple[str, str]]) -> tuple[str, str]:
    pairs = sorted((encode(name).lower(), encode(value)) for name, value in values)
    return ";".join([name for name, _ in pairs]), "&".join([f"{name}={value}" for name, value in pairs])
