"""What an error answer means, as an exception with one clear sentence. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cosfs.client import xml
from cosfs.errors import (
    AlreadyExistsError,
    ArchivedError,
    AuthenticationError,
    BucketNotEmptyError,
    BucketNotFoundError,
    ClockSkewError,
    ConflictError,
    COSError,
    NotCosError,
    NotFoundError,
    ObjectNotFoundError,
    PermissionDeniedError,
    PreconditionFailedError,
    ServerError,
    ServiceError,
    ThrottledError,
    TooLargeError,
)

__all__ = ["EXPIRED_CODES", "Failure", "from_answer", "from_document", "is_cos"]

EXPIRED_CODES = frozenset({"ExpiredToken", "InvalidToken", "TokenRefreshRequired", "Request has expired"})
_ID_HEADERS = ("x-cos-request-id", "x-amz-request-id")


@dataclass(frozen=True, slots=True)
class _Kind:
    error: Callable[..., ServiceError]
    message: str = ""  # empty = COS's own
    hint: str = ""


_NO_BUCKET = _Kind(
    BucketNotFoundError,
    "the bucket does not exist",
    "Check its name (it ends in -APPID) and its region; cos ls lists your buckets",
)
_SKEW = _Kind(
    ClockSkewError,
    "the clock of this machine is wrong, so COS refuses the signature",
    "Set the clock, for example with: timedatectl set-ntp true",
)
_EXPIRED = _Kind(
    AuthenticationError,
    "the temporary credentials have expired",
    "Get new ones and set COS_SESSION_TOKEN too",
)
_DENIED = _Kind(
    PermissionDeniedError,
    "access denied",
    "The credentials are valid but a policy does not allow this",
)

_BY_CODE: Mapping[str, _Kind] = {
    "AccessDenied": _DENIED,
    "AccessForbidden": _DENIED,
    "NoProcessAuthority": _DENIED,
    "InvalidAccessKeyId": _Kind(
        AuthenticationError,
        "COS does not know this SecretId",
        "Check secret_id (COS_SECRET_ID); a temporary one needs its session token as well",
    ),
    "SignatureDoesNotMatch": _Kind(
        AuthenticationError,
        "the SecretKey does not belong to this SecretId",
        "Check secret_key (COS_SECRET_KEY)",
    ),
    "RequestTimeTooSkewed": _SKEW,
    "Request has expired": _SKEW,
    "ExpiredToken": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "InvalidToken": _Kind(
        AuthenticationError, "the session token is not valid", "Check COS_SESSION_TOKEN, or get a new one"
    ),
    "NoSuchBucket": _NO_BUCKET,
    "NoSuchKey": _Kind(ObjectNotFoundError, "the object does not exist"),
    "NoSuchResource": _Kind(ObjectNotFoundError, "the object does not exist"),
    "NoSuchVersion": _Kind(ObjectNotFoundError, "this version of the object does not exist"),
    "NoSuchCopySource": _Kind(ObjectNotFoundError, "the source of the copy does not exist"),
    "NoSuchUpload": _Kind(NotFoundError, "the multipart upload was completed or aborted meanwhile"),
    "PreconditionFailed": _Kind(PreconditionFailedError, "the object was changed meanwhile"),
    "InvalidRange": _Kind(ServiceError, "the range lies behind the end of the object"),
    "FileAlreadyExists": _Kind(AlreadyExistsError, "the object exists already"),
    "BucketAlreadyExists": _Kind(
        AlreadyExistsError, "another account owns a bucket of this name", "Choose another name"
    ),
    "BucketAlreadyOwnedByYou": _Kind(AlreadyExistsError, "you already own this bucket"),
    "BucketNotEmpty": _Kind(
        BucketNotEmptyError,
        "the bucket is not empty",
        "It may hold old versions or unfinished uploads too; cos rb --force removes all",
    ),
    "InvalidObjectState": _Kind(
        ArchivedError, "the object is archived and cannot be read yet", "It must be restored first"
    ),
    "EntityTooLarge": _Kind(TooLargeError, "the body is larger than COS takes in one request"),
    "KeyTooLong": _Kind(TooLargeError, "the key or the metadata is longer than COS allows"),
    "SlowDown": _Kind(ThrottledError, "COS asks for fewer requests", "Lower max_concurrent_requests"),
    "PathStyleDomainForbidden": _Kind(
        PermissionDeniedError,
        "this bucket cannot be reached in path style",
        "Set addressing_style = virtual, or leave it out",
    ),
    "InvalidBucketName": _Kind(
        ServiceError, "COS does not accept this name for a bucket", "Write it with the APPID: name-1250000000"
    ),
    "TooManyBuckets": _Kind(ServiceError, "the account has as many buckets as it may have"),
    "PaymentRequired": _Kind(PermissionDeniedError, "the account is in arrears", "Top it up in the console"),
}

_BY_STATUS: Mapping[int, _Kind] = {
    401: _DENIED,
    402: _BY_CODE["PaymentRequired"],
    403: _Kind(
        PermissionDeniedError,
        "access denied",
        "The credentials may be wrong, or a policy does not allow this",
    ),
    404: _Kind(NotFoundError),
    409: _Kind(ConflictError),
    412: _BY_CODE["PreconditionFailed"],
    413: _BY_CODE["EntityTooLarge"],
    416: _BY_CODE["InvalidRange"],
    429: _BY_CODE["SlowDown"],
}


@dataclass(frozen=True, slots=True)
class Failure:
    """What is known about an answer that is an error."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    target: str  # as the user knows it, cos://bucket/key
    host: str  # that answered


def is_cos(headers: Mapping[str, str]) -> bool:
    """Return whether an answer comes from COS (or something that speaks S3)."""
    return any(name in headers for name in _ID_HEADERS)


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
    if code == "AccessDenied" and "has expired" in message.lower():
        kind = _SKEW
    else:
        kind = _BY_CODE.get(code) or _by_status(failure, code)
    return kind.error(
        kind.message or message or "COS refused the request",
        status=failure.status,
        code=code,
        target=failure.target,
        request_id=document.request_id or next((headers[n] for n in _ID_HEADERS if n in headers), ""),
        trace_id=document.trace_id or headers.get("x-cos-trace-id", ""),
        hint=kind.hint,
    )


def _by_status(failure: Failure, code: str) -> _Kind:
    status = failure.status
    if status == 404 and not code:
        # HEAD answers have no body: what is missing is what was asked for.
        is_object = "/" in failure.target.removeprefix("cos://")
        return _BY_CODE["NoSuchKey"] if is_object else _NO_BUCKET
    if status in (501, 505):
        return _Kind(ServiceError)
    if status == 503 and not code:
        return _BY_CODE["SlowDown"]
    if status >= 500 or code in ("InternalError", "ServiceUnavailable", "KmsInternalException"):
        return _Kind(ServerError, "", "Try again later")
    return _BY_STATUS.get(status, _Kind(ServiceError))


def _foreign(failure: Failure) -> COSError:
    """Return the exception for an answer that COS did not write."""
    if failure.status in (500, 502, 503, 504):
        # A gateway on the way whose own server is away for a moment.
        return ServerError(
            f"{failure.host} answered HTTP {failure.status} and it was not COS that did",
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
