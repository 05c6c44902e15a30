"""Each error answer has its class, one sentence, and something to do."""

from __future__ import annotations

import pytest

from cosfs.client.failures import Failure, from_answer
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
from tests.client.scripted import error


def failure(status: int, code: str = "", message: str = "message", target: str = "cos://b-1/k") -> COSError:
    body = error(status, code, message).body if code else b""
    headers = {"x-cos-request-id": "from-header", "x-cos-trace-id": "trace-header"}
    return from_answer(Failure(status, headers, body, target, "host.example"))


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (403, "AccessDenied", PermissionDeniedError),
        (403, "InvalidAccessKeyId", AuthenticationError),
        (403, "SignatureDoesNotMatch", AuthenticationError),
        (403, "RequestTimeTooSkewed", ClockSkewError),
        (400, "ExpiredToken", AuthenticationError),
        (404, "NoSuchBucket", BucketNotFoundError),
        (404, "NoSuchKey", ObjectNotFoundError),
        (404, "NoSuchVersion", ObjectNotFoundError),
        (404, "NoSuchUpload", NotFoundError),
        (404, "NoSuchLifecycleConfiguration", NotFoundError),
        (412, "PreconditionFailed", PreconditionFailedError),
        (409, "FileAlreadyExists", AlreadyExistsError),
        (409, "BucketAlreadyExists", AlreadyExistsError),
        (409, "BucketAlreadyOwnedByYou", AlreadyExistsError),
        (409, "BucketNotEmpty", BucketNotEmptyError),
        (409, "PathConflict", ConflictError),
        (403, "InvalidObjectState", ArchivedError),
        (400, "EntityTooLarge", TooLargeError),
        (400, "KeyTooLong", TooLargeError),
        (503, "SlowDown", ThrottledError),
        (503, "ServiceUnavailable", ServerError),
        (500, "InternalError", ServerError),
        (200, "InternalError", ServerError),
        (200, "AccessDenied", PermissionDeniedError),
        (501, "NotImplemented", ServiceError),
        (400, "InvalidArgument", ServiceError),
        (416, "InvalidRange", ServiceError),
        (418, "NeverHeardOf", ServiceError),
        (403, "", PermissionDeniedError),
        (404, "", ObjectNotFoundError),
        (412, "", PreconditionFailedError),
        (503, "", ThrottledError),
        (500, "", ServerError),
    ],
)
def test_class_of_an_error(status: int, code: str, kind: type[COSError]) -> None:
    raised = failure(status, code)
    assert type(raised) is kind
    assert isinstance(raised, ServiceError)
    assert (raised.status, raised.code, raised.target) == (status, code, "cos://b-1/k")
    assert raised.request_id
    assert raised.trace_id


def test_expired_request_is_a_matter_of_the_clock() -> None:
    raised = failure(403, "AccessDenied", "Request has expired")
    assert type(raised) is ClockSkewError
    assert "clock" in str(raised)


def test_missing_bucket_without_a_body() -> None:
    assert type(failure(404, target="cos://b-1")) is BucketNotFoundError


def test_one_sentence_with_everything_needed() -> None:
    assert str(failure(404, "NoSuchBucket")) == (
        "cos://b-1/k: the bucket does not exist (NoSuchBucket, RequestId NWQ1M2Y3YWNfMzdiMDJhMDk=). "
        "Check its name (it ends in -APPID) and its region; cos ls lists your buckets"
    )
    assert str(failure(400, "InvalidArgument", "x-cos-traffic-limit is wrong")) == (
        "cos://b-1/k: x-cos-traffic-limit is wrong (InvalidArgument, RequestId NWQ1M2Y3YWNfMzdiMDJhMDk=). "
        "Check the value that is named"
    )
    assert str(failure(403)) == (
        "cos://b-1/k: access denied (HTTP 403, RequestId from-header). "
        "The credentials may be wrong, or a policy does not allow this"
    )


def test_distinct_words_for_distinct_causes() -> None:
    codes = [
        "AccessDenied",
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "RequestTimeTooSkewed",
        "ExpiredToken",
        "InvalidToken",
        "NoSuchBucket",
        "NoSuchKey",
        "PathStyleDomainForbidden",
    ]
    texts = [failure(403, code).message for code in codes]
    assert len(set(texts)) == len(codes)
    assert all(failure(403, code).hint for code in codes if code != "NoSuchKey")


@pytest.mark.parametrize(
    ("status", "headers", "body", "kind", "words"),
    [
        (404, {"content-type": "text/html; charset=x"}, b"<html>", NotCosError, "HTTP 404 with text/html"),
        (302, {"location": "http://portal/"}, b"", NotCosError, "a redirection to http://portal/"),
        (407, {}, b"", NotCosError, "the proxy on the way to host.example wants a password"),
        (502, {"content-type": "text/html"}, b"<html>", ServerError, "it was not COS that did"),
    ],
)
def test_answers_of_others(
    status: int, headers: dict[str, str], body: bytes, kind: type[COSError], words: str
) -> None:
    raised = from_answer(Failure(status, headers, body, "cos://b-1/k", "host.example"))
    assert type(raised) is kind
    assert words in str(raised)


def test_error_document_alone_is_enough_to_be_cos() -> None:
    body = error(404, "NoSuchKey").body
    assert type(from_answer(Failure(404, {}, body, "cos://b-1/k", "h"))) is ObjectNotFoundError
