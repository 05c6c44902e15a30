"""Settings of buckets and objects as COS keeps them: documents behind a name in the query."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import NamedTuple

from cosfs.client.body import digest
from cosfs.client.http import Response
from cosfs.client.operations import Operations
from cosfs.client.retry import Attempt
from cosfs.client.session import NOTHING, Call

__all__ = ["Document", "SubResources"]


class Document(NamedTuple):
    """An answer: its body, and its headers by lower-case name."""

    body: bytes
    headers: Mapping[str, str]


class SubResources(Operations):
    """Read, write and remove documents; key None means the bucket's own."""

    def get_document(
        self, bucket: str, resource: str, *, key: str | None = None, params: Mapping[str, str] = NOTHING
    ) -> Document:
        """Return a document as it is kept."""
        return self._ask("GET", bucket, resource, key, params)

    def put_document(
        self,
        bucket: str,
        resource: str,
        body: bytes | None,
        *,
        key: str | None = None,
        params: Mapping[str, str] = NOTHING,
        headers: Mapping[str, str] = NOTHING,
    ) -> Document:
        """Replace a document; body None sends headers alone."""
        return self._ask("PUT", bucket, resource, key, params, headers, body)

    def post_document(
        self, bucket: str, resource: str, body: bytes, *, params: Mapping[str, str] = NOTHING
    ) -> Document:
        """Ask for something to be done once."""
        return self._ask("POST", bucket, resource, None, params, NOTHING, body)

    def delete_document(
        self, bucket: str, resource: str, *, key: str | None = None, params: Mapping[str, str] = NOTHING
    ) -> None:
        """Remove a document; it is no error if there is none."""
        self._ask("DELETE", bucket, resource, key, params)

    def _ask(
        self,
        method: str,
        bucket: str,
        resource: str,
        key: str | None,
        params: Mapping[str, str],
        headers: Mapping[str, str] = NOTHING,
        body: bytes | None = None,
    ) -> Document:
        sent = dict(headers)
        if body is not None:
            kind = "application/json" if body[:1] == b"{" else "application/xml"
            sent |= {"Content-MD5": b64encode(digest(body).md5).decode(), "Content-Type": kind}
        words = "".join(word.title() for word in resource.split("-"))
        of = "Bucket" if key is None else "Object"
        call = Call(f"{method.title()}{of}{words}", method, bucket, key, {resource: "", **params}, sent, body)

        def finish(response: Response, attempt: Attempt) -> Document:
            return Document(self._session.document(call, response), response.headers)

        return self._session.run(call, finish)
