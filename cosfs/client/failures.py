"""What an error answer means, as an exception with one clear sentence. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace

from cosfs.client import xml
from cosfs.client.actions import action_of, resource_of, statement_of
from cosfs.client.codes import BY_CODE, BY_STATUS, DENIED, NO_BUCKET, NOT_SKEW, SKEW, Kind, kind_of
from cosfs.client.dates import parse_http_date
from cosfs.errors import COSError, NotCosError, ServerError, ServiceError
from cosfs.records import dataclass

__all__ = ["EXPIRED_CODES", "Failure", "escape_hint", "from_answer", "from_document", "is_cos"]

EXPIRED_CODES = frozenset({"ExpiredToken", "InvalidToken", "TokenRefreshRequired", "Request has expired"})
# Clocks that differ by less are no reason to refuse a signature, which is good for minutes at least.
_SAME_TIME = 60.0
# What can be wrong with the source of a copy only.
_OF_SOURCE = frozenset({"InvalidObjectState", "NoSuchKey", "NoSuchVersion", "PreconditionFailed"})
_NEW_BUCKET = "The name of a new bucket must end in the APPID of your own account"
# As output shows control characters and direction marks, which keys may hold.
_ESCAPED = re.compile(r"\\([nrt]|x[0-9a-f]{2}|u[0-9a-f]{4})")
_ID_HEADERS = ("x-cos-request-id", "x-amz-request-id")


@dataclass(frozen=True, slots=True)
class Failure:
    """What is known about an answer that is an error."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    target: str  # as the user knows it, cos://bucket/key
    host: str  # that answered, with its port where that is not the usual one
    operation: str = ""  # that was asked for
    region: str = ""  # where it was asked for
    now: float = 0.0  # this machine's time when the answer came
    signed: bool = True
    source: str = ""  # what was to be copied to target


def is_cos(headers: Mapping[str, str]) -> bool:
    """Return whether an answer comes from COS (or something that speaks S3)."""
    return any(name in headers for name in _ID_HEADERS)


def escape_hint(key: str) -> str:
    """Return what to do if a key that is not there was copied from output; empty if it cannot have been."""
    found = _ESCAPED.search(key)
    if found is None:
        return ""
    return f"If {found[0]} stands for one character, as in lists, write the URL as $'...' in the shell"


def from_answer(failure: Failure) -> COSError:
    """Return the exception for an error answer."""
    document = xml.parse_error(failure.body)
    if not document.code and not is_cos(failure.headers):
        return _foreign(failure)
    return from_document(document, failure)


def from_document(document: xml.ErrorBody, failure: Failure) -> ServiceError:
    """Return the exception for an error document (its status may be 200)."""
    headers = failure.headers
    code, message = document.code, document.message
    if failure.source and code in _OF_SOURCE:
        failure = replace(failure, target=failure.source)
    if code == "AccessDenied" and "has expired" in message.lower():
        kind = SKEW
    else:
        kind = kind_of(code) or _by_status(failure, code)
    if kind is SKEW and _clocks_agree(failure):
        kind = NOT_SKEW
    text = kind.message or message or "COS refused the request"
    if kind.detail and message:
        text = f"{text}: {message.rstrip('.')}"
    return kind.error(
        text,
        status=failure.status,
        code=code,
        target=failure.target,
        request_id=document.request_id or next((headers[n] for n in _ID_HEADERS if n in headers), ""),
        trace_id=document.trace_id or headers.get("x-cos-trace-id", ""),
        hint=_hint(kind, message, failure),
    )


def _hint(kind: Kind, message: str, failure: Failure) -> str:
    """Return what to do, with what is known of this request put in."""
    if kind is SKEW:
        return f"{_skew(failure)}{kind.hint}"
    if kind is DENIED and failure.operation:
        return _denied(message, failure)
    if kind is BY_STATUS[403] and failure.operation and failure.signed:
        # HEAD has no body that tells the one from the other.
        return f"The credentials may be wrong (cos whoami tells). {_denied(message, failure)}".replace(
            "The credentials are valid, but no policy", "Or no policy"
        )
    if kind is NO_BUCKET and failure.region:
        return f"It was looked for in {failure.region}. {kind.hint}"
    if kind is BY_CODE["NoSuchKey"]:
        return escape_hint(failure.target)
    return kind.hint.replace("{target}", failure.target)


def _clock_error(failure: Failure) -> float | None:
    """Return by how many seconds this machine's clock is ahead, if the answer tells COS's time."""
    server = parse_http_date(failure.headers.get("date", ""))
    return failure.now - server if server and failure.now else None


def _clocks_agree(failure: Failure) -> bool:
    off = _clock_error(failure)
    return off is not None and abs(off) < _SAME_TIME


def _skew(failure: Failure) -> str:
    """Say by how much the clocks differ."""
    off = _clock_error(failure)
    if off is None:
        return ""
    minutes, seconds = divmod(round(abs(off)), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{hours} h" if hours else "", f"{minutes} min" if hours or minutes else "", f"{seconds} s"]
    return f"It is {' '.join(filter(None, parts))} {'ahead' if off > 0 else 'behind'}. "


def _denied(message: str, failure: Failure) -> str:
    """Say which action on which resource is missing, and what would allow it."""
    if "referer" in message.lower():
        return "The bucket's referer rules do not let this request in"
    if failure.operation == "CreateBucket" and failure.signed:
        return f"{_NEW_BUCKET}. {_missing_statement(failure)}"
    action = action_of(failure.operation)
    if not failure.signed:
        return f"The request was not signed, and not everybody may {action.removeprefix('name/cos:')} here"
    return _missing_statement(failure)


def _missing_statement(failure: Failure) -> str:
    action = action_of(failure.operation)
    bucket, _, key = failure.target.removeprefix("cos://").partition("/")
    statement = json.dumps(statement_of([action], [resource_of(bucket, key, failure.region)]))
    return (
        f"The credentials are valid, but no policy allows them {action} on it, or one denies it. "
        f"This statement in a policy of theirs would allow it: {statement}"
    )


def _by_status(failure: Failure, code: str) -> Kind:
    status = failure.status
    if status == 404 and not code:
        # HEAD answers have no body: what is missing is what was asked for.
        is_object = "/" in failure.target.removeprefix("cos://")
        return BY_CODE["NoSuchKey"] if is_object else NO_BUCKET
    if status in (501, 505):
        return Kind(ServiceError)
    if status == 503 and not code:
        return BY_CODE["SlowDown"]
    if status >= 500:
        return Kind(ServerError, "", "Try again later")
    return BY_STATUS.get(status, Kind(ServiceError))


def _foreign(failure: Failure) -> COSError:
    """Return the exception for an answer that COS did not write."""
    if failure.status in (500, 502, 503, 504):
        # A gateway on the way whose own server is away for a moment.
        return ServerError(
            f"{failure.host} answered, and it was not COS that did",
            status=failure.status,
            target=failure.target,
            hint="A proxy or gateway on the way has trouble; try again later",
        )
    if failure.status == 407:
        return NotCosError(
            f"the proxy on the way to {failure.host} wants a password",
            hint="Write it into the proxy's address: http://user:password@proxy:port",
        )
    kind = failure.headers.get("content-type", "").partition(";")[0]
    location = failure.headers.get("location", "")
    what = f"HTTP {failure.status}{f' with {kind}' if kind else ''}"
    if location:
        what += f", a redirection to {location}"
    return NotCosError(
        f"{failure.host} is not COS: it answered {what}",
        hint="Check endpoint_url and the proxy; a captive portal may be on the way",
    )
