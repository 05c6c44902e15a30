"""What these keys may do, asked without doing it: COS has no call for that.

A PUT whose body does not match its checksum is refused after COS has looked at rights. A server that does not
look at checksums stores it, so only names of nobody are asked with where that is not known. Nothing of that
kind exists for DELETE; what is asked with there is a name of nobody as well.
"""

from __future__ import annotations

import logging
from base64 import b64encode

from cosfs.client.body import digest
from cosfs.client.headers import put_headers
from cosfs.client.model import Headers
from cosfs.client.retry import Attempt
from cosfs.client.session import Call
from cosfs.client.uploads import Uploads
from cosfs.errors import AlreadyExistsError, AuthenticationError, COSError, IntegrityError, ServiceError

__all__ = ["Asking"]

log = logging.getLogger(__name__)

# What is wanted to hear: the checksum differs, an object is there.
_NOT_ABOUT_RIGHTS = frozenset({400, 409, 412})
_WRONG_CHECKSUM = frozenset({"BadDigest", "InvalidDigest"})
_BODY = b"?"


class Asking(Uploads):
    """Whether COS would let these keys do something."""

    @property
    def looks_at_checksums(self) -> bool:
        """Whether what is asked is surely COS, which refuses what does not match its checksum."""
        return not self.settings.endpoint_url

    def check_put(self, bucket: str, key: str, *, headers: Headers = Headers()) -> None:  # noqa: B008 - frozen
        """Raise what COS would refuse an object under this key with; nothing is stored.

        Not for servers that do not look at checksums (see try_put): IntegrityError tells that one has stored
        the body.
        """
        if isinstance(self._put_wrongly(bucket, key, headers), str):
            raise IntegrityError(
                f"cos://{bucket}/{key}: an object of one byte was stored though its checksum was wrong",
                hint="Remove it, or bring back an earlier version",
            )

    def try_put(self, bucket: str, key: str, *, headers: Headers = Headers()) -> bool:  # noqa: B008 - frozen
        """Whether an object that does not match its checksum is refused for that; raises other refusals.

        The key is of nobody: a server that does not look at checksums stores a byte there, which is removed.
        """
        outcome = self._put_wrongly(bucket, key, headers)
        if isinstance(outcome, str):
            self._remove(bucket, key, outcome)
        elif isinstance(outcome, AlreadyExistsError):  # of an earlier try, whose answer was lost
            stored = self._stored(bucket, key)
            if stored is not None and stored.size == len(_BODY) and stored.crc64 == digest(_BODY).crc64:
                self._remove(bucket, key, stored.version_id)
        else:
            return outcome.code in _WRONG_CHECKSUM
        return False

    def _put_wrongly(self, bucket: str, key: str, headers: Headers) -> ServiceError | str:
        """Send a body that does not match its checksum; return why it was not stored, or else its version."""
        sent = put_headers(headers)
        sent |= {"Content-MD5": b64encode(digest(b"").md5).decode(), "x-cos-forbid-overwrite": "true"}
        call = Call("PutObject", "PUT", bucket, key, headers=sent, body=_BODY)
        call.noes = _NOT_ABOUT_RIGHTS

        def operation(attempt: Attempt) -> ServiceError | str:
            try:
                with self._session.send(call, attempt) as response:
                    return response.headers.get("x-cos-version-id", "")
            except ServiceError as error:
                if error.status not in _NOT_ABOUT_RIGHTS or isinstance(error, AuthenticationError):
                    raise
                return error

        return self._session.run_operation(call, operation)

    def _remove(self, bucket: str, key: str, version_id: str) -> None:
        try:
            self.delete_object(bucket, key, version_id=version_id)
        except COSError as error:
            log.warning("cos://%s/%s, which only asked what is allowed, stays: %s", bucket, key, error)

    def try_delete(self, bucket: str, key: str) -> None:
        """Raise what COS refuses to remove this key with, under which there is nothing: it is of nobody.

        The delete marker that a bucket with versions keeps of that is removed as well.
        """
        call = Call("DeleteObject", "DELETE", bucket, key)

        def operation(attempt: Attempt) -> str:
            with self._session.send(call, attempt) as response:
                self._session.document(call, response)
                return response.headers.get("x-cos-version-id", "")

        if marker := self._session.run_operation(call, operation):
            self._remove(bucket, key, marker)
