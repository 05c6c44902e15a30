"""What may be shown of requests and answers: everything but what lets somebody act in our name. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

__all__ = ["redacted", "shown_answer", "shown_request"]

_MASK = "***"
_HEADERS = frozenset(
    {
        "authorization",
        "proxy-authorization",
        "cookie",
        "set-cookie",
        "x-cos-security-token",
        "x-amz-security-token",
        "x-tc-token",
        "x-cos-server-side-encryption-customer-key",
        "x-cos-server-side-encryption-customer-key-md5",
        "x-cos-copy-source-server-side-encryption-customer-key",
        "x-cos-copy-source-server-side-encryption-customer-key-md5",
    }
)
_PATTERNS = (  # compiled when something is shown for the first time
    # Queries, Authorization, and what an answer to a wrong signature repeats of them.
    (
        r"(?i)\b((?:q-signature|signature|x-amz-signature|x-cos-security-token|x-amz-security-token|sign)=)"
        r"[^&\s;,<\"']+"
    ),
    (
        r"(?i)\b((?:authorization|x-tc-token|x-cos-security-token|[a-z-]*customer-key(?:-md5)?|cookie)\s*[:=]\s*)"
        r"[^\r\n;<]+"
    ),
    # JSON of STS, of the metadata service, of programs.
    (
        r"(?i)([\"']?(?:tmp)?(?:secret_?key|secret_?access_?key|session_?token|web_?identity_?token|token|tokencode)"
        r"[\"']?\s*[:=]\s*[\"'])[^\"']+"
    ),
    r"(://[^/\s:@]+:)[^@/\s]+(?=@)",  # the password of a proxy
)


def redacted(text: str, secrets: Iterable[str] = ()) -> str:
    """Return text without secrets: those given, and what looks like one."""
    for secret in secrets:
        text = text.replace(secret, _MASK)
    for pattern in _PATTERNS:
        text = re.sub(pattern, rf"\g<1>{_MASK}", text)
    return text


def shown_request(method: str, host: str, target: str, headers: Mapping[str, str]) -> str:
    """Return a request on one line."""
    return f"> {method} {host}{redacted(target)}; {_shown(headers)}"


def shown_answer(status: int, headers: Mapping[str, str], body: bytes = b"") -> str:
    """Return an answer on one line; the body is that of an error."""
    text = f"< HTTP {status}; {_shown(headers)}"
    if body:
        text += f"; {redacted(body[:4096].decode('utf-8', 'replace'))}"
    return text


def _shown(headers: Mapping[str, str]) -> str:
    return "; ".join(
        f"{name}: {_MASK if name.lower() in _HEADERS else redacted(value)}" for name, value in headers.items()
    )
