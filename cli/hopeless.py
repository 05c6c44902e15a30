"""Failures after which nothing else of a command can succeed: it shall not try a million objects in vain."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from cosfs.errors import BucketNotFoundError, ClockSkewError, NetworkError, ServiceError

if TYPE_CHECKING:
    from .report import Report

_REFUSED = "COS does not take these credentials"
_REASONS = {
    "NoSuchBucket": "the bucket is not there",
    "InvalidAccessKeyId": _REFUSED,
    "InvalidToken": _REFUSED,
    "ExpiredToken": "the credentials have expired",
    "TokenRefreshRequired": "the credentials have expired",
}
# Smaller files might fit, but what is fetched of the others is paid for, again and again.
_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "nothing can be written there",
}
# So many signatures that are wrong, and none that is right, are no matter of a single key.
_WRONG_SIGNATURES = 10


def stop_reason(error: BaseException, report: Report) -> str:
    """Say why all other transfers would fail as this one did; empty if they may not."""
    if isinstance(error, OSError):
        return _FULL.get(error.errno or 0, "")
    if isinstance(error, NetworkError):
        return "" if error.sent else "COS cannot be reached"
    if isinstance(error, BucketNotFoundError):
        return _REASONS["NoSuchBucket"]
    if isinstance(error, ClockSkewError):
        return "COS does not take signatures of this time"
    if not isinstance(error, ServiceError):
        return ""
    if error.code == "SignatureDoesNotMatch":
        return _REFUSED if not report.ok and report.failed >= _WRONG_SIGNATURES else ""
    return _REASONS.get(error.code, "")
