"""Every error this project raises on purpose, in one tree.

    COSError                          exit 255, EIO
    ├── UsageError                    252, EINVAL   what the user asked makes no sense
    ├── ConfigError                   253, EINVAL   settings are missing or unreadable
    │   └── CredentialsError          253, EACCES   no usable credentials
    │       └── MissingCredentialsError             none at all
    ├── ServiceError                  254           COS answered with an error
    │   ├── AuthenticationError       254, EACCES   wrong key, wrong signature, expired credentials
    │   │   └── ClockSkewError        254, EACCES   this machine's clock is off
    │   ├── PermissionDeniedError     254, EACCES
    │   ├── NotFoundError             254, ENOENT
    │   │   ├── BucketNotFoundError   254, ENOENT
    │   │   └── ObjectNotFoundError   254, ENOENT
    │   ├── PreconditionFailedError   254, ESTALE   412: the object is no longer the one we read
    │   ├── ConflictError             254, EBUSY    409
    │   │   ├── AlreadyExistsError    254, EEXIST   409 FileAlreadyExists, bucket exists
    │   │   └── BucketNotEmptyError   254, ENOTEMPTY
    │   ├── ArchivedError             254, EIO      the object must be restored first
    │   ├── TooLargeError             254, EFBIG    over a limit of COS
    │   ├── ThrottledError            254, EIO      503 SlowDown; repeated
    │   └── ServerError               254, EIO      other 5xx; repeated
    ├── NetworkError                  255, EIO      no answer; repeated
    │   ├── NetworkTimeoutError       255, ETIMEDOUT
    │   │   └── UnreachableError      255, ETIMEDOUT  not tried: a mount that is cut off from COS
    │   ├── CertificateError          255, EIO      TLS verification failed; not repeated
    │   └── NotCosError               255, EIO      something answered that is not COS
    ├── IntegrityError                1,   EIO      a length or a checksum differs
    ├── TransferError                 1,   EIO      some of many transfers failed
    ├── CancelledError                255, EINTR    a program ended its own call
    └── FilesystemError               255, own errno

The class carries the errno a filesystem call fails with, the exit code of the command line
and whether repeating the request can help.
"""

from __future__ import annotations

import errno as _errno

__all__ = [
    "AlreadyExistsError",
    "ArchivedError",
    "AuthenticationError",
    "BucketNotEmptyError",
    "BucketNotFoundError",
    "COSError",
    "CancelledError",
    "CertificateError",
    "ClockSkewError",
    "ConfigError",
    "ConflictError",
    "CredentialsError",
    "FilesystemError",
    "IntegrityError",
    "MissingCredentialsError",
    "NetworkError",
    "NetworkTimeoutError",
    "NotCosError",
    "NotFoundError",
    "ObjectNotFoundError",
    "PermissionDeniedError",
    "PreconditionFailedError",
    "ServerError",
    "ServiceError",
    "SourceChangedError",
    "ThrottledError",
    "TooLargeError",
    "TransferError",
    "UnreachableError",
    "UsageError",
]


class COSError(Exception):
    """Root of all errors; `hint` says what the user can do.

    uncertain: what was asked for may have been done all the same, now or by an earlier try.
    """

    errno: int = _errno.EIO
    exit_code: int = 255
    retryable: bool = False
    uncertain: bool = False
    cured_by_keys: bool = False  # other credentials would help, and may come
    repeated: bool = False  # the same was told a moment ago

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def may_pass(self) -> bool:
        """Whether what has to be done in the end is worth trying again later."""
        return self.retryable or self.cured_by_keys

    def __str__(self) -> str:
        return f"{self.message}. {self.hint}" if self.hint else self.message


class UsageError(COSError):
    """What was asked makes no sense; raised before any request."""

    errno = _errno.EINVAL
    exit_code = 252


class ConfigError(COSError):
    """Settings are missing, unreadable or contradict each other."""

    errno = _errno.EINVAL
    exit_code = 253


class CredentialsError(ConfigError):
    """No usable credentials were found."""

    errno = _errno.EACCES
    cured_by_keys = True


class MissingCredentialsError(CredentialsError):
    """No source has any credentials."""


class ServiceError(COSError):
    """COS answered with an error.

    status is the HTTP status (200 for an error inside a successful answer), code COS's own
    word for it (empty for HEAD, which has no body), target the object as the user knows it.
    """

    exit_code = 254

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        code: str = "",
        target: str = "",
        request_id: str = "",
        trace_id: str = "",
        hint: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.code = code
        self.target = target
        self.request_id = request_id
        self.trace_id = trace_id

    def __str__(self) -> str:
        text = self.message
        if self.target:
            text = f"{self.target}: {text}"
        notes = []
        if self.code:
            notes.append(self.code)
        elif self.status:
            notes.append(f"HTTP {self.status}")
        if self.request_id:
            notes.append(f"RequestId {self.request_id}")
        if notes:
            text = f"{text} ({', '.join(notes)})"
        return f"{text}. {self.hint}" if self.hint else text


class AuthenticationError(ServiceError):
    """The key, its signature or its token was refused."""

    errno = _errno.EACCES
    cured_by_keys = True


class ClockSkewError(AuthenticationError):
    """COS refused the request because this machine's clock is too far off."""


class PermissionDeniedError(ServiceError):
    """The credentials are good but do not allow this."""

    errno = _errno.EACCES


class NotFoundError(ServiceError):
    """404 of any kind (an upload id, a setting that was never made)."""

    errno = _errno.ENOENT


class BucketNotFoundError(NotFoundError):
    """The bucket does not exist (or not in this region)."""


class ObjectNotFoundError(NotFoundError):
    """The object or this version of it does not exist."""


class PreconditionFailedError(ServiceError):
    """The object is no longer the one we read (412)."""

    errno = _errno.ESTALE


class ConflictError(ServiceError):
    """Two requests or two states contradict each other (409)."""

    errno = _errno.EBUSY


class AlreadyExistsError(ConflictError):
    """What should have been created is there already."""

    errno = _errno.EEXIST


class BucketNotEmptyError(ConflictError):
    """The bucket holds objects, versions or unfinished uploads."""

    errno = _errno.ENOTEMPTY


class ArchivedError(ServiceError):
    """The object is archived and must be restored before it can be read."""


class TooLargeError(ServiceError):
    """Over a limit of COS: size of an object, a part, a key, the metadata."""

    errno = _errno.EFBIG


class ThrottledError(ServiceError):
    """503 SlowDown."""

    retryable = True


class ServerError(ServiceError):
    """500, 502, 503, 504."""

    retryable = True


class NetworkError(COSError):
    """No answer came back, or it broke off. sent: the request may have reached COS."""

    retryable = True
    sent: bool = True


class NetworkTimeoutError(NetworkError):
    """No answer came back in time."""

    errno = _errno.ETIMEDOUT


class UnreachableError(NetworkTimeoutError):
    """COS has not answered for some time, so it was not asked."""


class UnknownHostError(NetworkError):
    """There is no host of that name, as far as can be told."""


class CertificateError(NetworkError):
    """The server's TLS certificate could not be verified."""

    retryable = False


class NotCosError(NetworkError):
    """Something answered that is not COS: a captive portal, a proxy, another service."""

    retryable = False


class IntegrityError(COSError):
    """A length or a checksum differs from what COS holds."""

    exit_code = 1


class TransferError(COSError):
    """Some of many transfers failed; each was reported where it happened."""

    exit_code = 1


class SourceChangedError(TransferError):
    """A file was written to while it was uploaded, also the second time."""

    code = "changed-during-upload"


class CancelledError(COSError):
    """A call was ended by the program that made it."""

    errno = _errno.EINTR


class FilesystemError(COSError):
    """A filesystem call that fails with an errno of its own."""

    def __init__(self, errno: int, message: str = "", *, hint: str = "") -> None:
        super().__init__(message or _errno.errorcode.get(errno, str(errno)), hint=hint)
        self.errno = errno
