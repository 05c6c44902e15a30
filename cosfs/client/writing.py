"""Objects that are stored, copied, restored and removed."""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Mapping, Sequence

from cosfs.client import xml
from cosfs.client.body import Body, body_length, digest
from cosfs.client.checks import check_crc, sums
from cosfs.client.endpoint import copy_source
from cosfs.client.headers import put_headers, put_result
from cosfs.client.http import Response
from cosfs.client.model import DeleteFailure, Headers, ObjectId, ObjectInfo, PutResult
from cosfs.client.operations import quoted, version_params
from cosfs.client.reading import Reading
from cosfs.client.retry import Attempt
from cosfs.client.session import NOTHING, Call
from cosfs.errors import AlreadyExistsError, ServiceError, UsageError

__all__ = ["Writing"]


class Writing(Reading):
    """Objects that are stored, copied, restored and removed."""

    def put_object(
        self,
        bucket: str,
        key: str,
        body: Body,
        *,
        headers: Headers = Headers(),  # noqa: B008 - frozen
        content_md5: bytes | None = None,
        crc64: int | None = None,
        forbid_overwrite: bool = False,
        extra: Mapping[str, str] = NOTHING,
    ) -> PutResult:
        """Store an object and check that COS has the same bytes.

        content_md5 and crc64 are computed here unless both are given. extra headers are of the
        request, not of the object. With forbid_overwrite an existing object raises
        AlreadyExistsError; COS does not promise that of two such requests at once only one succeeds.
        """
        content_md5, crc64 = sums(body, content_md5, crc64)
        sent = put_headers(headers)
        sent["Content-MD5"] = b64encode(content_md5).decode()
        if forbid_overwrite:
            sent["x-cos-forbid-overwrite"] = "true"
        if extra:
            sent.update(extra)
        call = Call("PutObject", "PUT", bucket, key, headers=sent, body=body)
        uncertain = False

        def finish(response: Response, attempt: Attempt) -> PutResult:
            self._session.document(call, response)
            result = put_result(response.headers)
            check_crc(result.crc64, crc64, call.target)
            return result

        def operation(attempt: Attempt) -> PutResult:
            nonlocal uncertain
            uncertain = attempt.uncertain
            response = self._session.send(call, attempt)
            with response:
                return finish(response, attempt)

        try:
            return self._session.run_operation(call, operation)
        except AlreadyExistsError:
            # The answer to the first try was lost: the object that is in the way may be ours.
            stored = self._stored(bucket, key, extra) if forbid_overwrite and uncertain else None
            if stored is None or not _same(stored, crc64, body_length(body), headers):
                raise
            return PutResult(stored.etag, stored.crc64, stored.version_id, stored.last_modified)

    def _stored(
        self, bucket: str, key: str, headers: Mapping[str, str] = NOTHING, version_id: str = ""
    ) -> ObjectInfo | None:
        """Return an object, None if there is none or it may not be seen."""
        try:
            return self.head_object(bucket, key, version_id=version_id, headers=headers)
        except ServiceError as error:
            if error.status >= 500:
                raise
            return None

    def copy_object(
        self,
        bucket: str,
        key: str,
        source_bucket: str,
        source_key: str,
        *,
        source_version_id: str = "",
        if_match: str = "",
        headers: Headers | None = None,
        storage_class: str = "",
        forbid_overwrite: bool = False,
        size: int = 0,
        extra: Mapping[str, str] = NOTHING,
    ) -> PutResult:
        """Have COS copy an object of up to 5 GB. headers None keeps the source's, otherwise they replace all.

        extra headers are sent in either case: an ACL, encryption, customers' keys. size is that of the
        object, if it is known: the larger it is, the longer the answer is waited for.

        A source that no longer has the etag if_match raises PreconditionFailedError. With forbid_overwrite
        an existing object raises AlreadyExistsError, under the reservation of put_object.
        """
        sent = put_headers(headers) if headers is not None else {}
        sent["x-cos-metadata-directive"] = "Copy" if headers is None else "Replaced"
        if storage_class:
            sent["x-cos-storage-class"] = storage_class
        if forbid_overwrite:
            sent["x-cos-forbid-overwrite"] = "true"
        sent |= self._source(source_bucket, source_key, source_version_id, if_match)
        sent.update(extra)
        if "x-cos-tagging" in sent:
            # The tags have a directive of their own, and without it the source's are kept.
            sent["x-cos-tagging-directive"] = "Replaced"
        call = Call("CopyObject", "PUT", bucket, key, headers=sent, slow=True, work=size)
        call.source = f"cos://{source_bucket}/{source_key}"
        uncertain = False

        def operation(attempt: Attempt) -> PutResult:
            nonlocal uncertain
            uncertain = attempt.uncertain
            with self._session.send(call, attempt) as response:
                return finish(response)

        def finish(response: Response) -> PutResult:
            root = self._session.element(call, response, "CopyObjectResult")
            crc = (root.findtext("CRC64") or response.headers.get("x-cos-hash-crc64ecma", "")).strip()
            return PutResult(
                etag=(root.findtext("ETag") or "").strip().strip('"'),
                crc64=int(crc) if crc.isdigit() else None,
                version_id=response.headers.get("x-cos-version-id", "") or root.findtext("VersionId") or "",
                last_modified=xml.timestamp((root.findtext("LastModified") or "").strip()) or time.time(),
            )

        try:
            return self._session.run_operation(call, operation)
        except AlreadyExistsError:
            # As of put_object: it may be our copy, which is known by the source.
            if not (forbid_overwrite and uncertain):
                raise
            source = self._stored(source_bucket, source_key, version_id=source_version_id)
            copied = self._stored(bucket, key)
            if (
                source is None
                or source.etag != (if_match or source.etag)
                or copied is None
                or not _same(copied, source.crc64, source.size, headers or source.headers)
            ):
                raise
            return PutResult(copied.etag, copied.crc64, copied.version_id, copied.last_modified)

    def _source(self, bucket: str, key: str, version_id: str, if_match: str) -> dict[str, str]:
        if not key:
            raise UsageError(f"cos://{bucket}/ is a bucket, not an object")
        sent = {"x-cos-copy-source": copy_source(bucket, self.region_of(bucket), key, version_id)}
        if if_match:
            sent["x-cos-copy-source-If-Match"] = quoted(if_match)
        return sent

    def delete_object(self, bucket: str, key: str, *, version_id: str = "") -> None:
        """Remove an object, or one version of it; one that does not exist is fine."""
        self._drain(Call("DeleteObject", "DELETE", bucket, key, version_params(version_id)))

    def delete_objects(self, bucket: str, objects: Sequence[ObjectId]) -> list[DeleteFailure]:
        """Remove up to 1,000 objects in one request; return those that could not be removed.

        Keys that XML cannot carry (control characters) are removed one by one.
        """
        if len(objects) > 1000:
            raise UsageError(f"COS removes at most 1,000 objects at once, not {len(objects)}")
        if any(not item.key for item in objects):
            raise UsageError(f"an empty key is not an object of cos://{bucket}")
        together = [item for item in objects if xml.expressible(item.key)]
        failed: list[DeleteFailure] = []
        if together:
            body = xml.build_delete(together)
            sent = {"Content-MD5": b64encode(digest(body).md5).decode(), "Content-Type": "application/xml"}
            call = Call("DeleteObjects", "POST", bucket, params={"delete": ""}, headers=sent, body=body)
            failed += self._session.parse(call, xml.parse_delete)
        for item in objects:
            if not xml.expressible(item.key):
                try:
                    self.delete_object(bucket, item.key, version_id=item.version_id)
                except ServiceError as error:
                    failed.append(DeleteFailure(item.key, item.version_id, error.code, error.message))
                except UsageError as error:
                    failed.append(DeleteFailure(item.key, item.version_id, "InvalidURI", error.message))
        return failed

    def object_tags(self, bucket: str, key: str, *, version_id: str = "") -> str:
        """Return the tags of an object as `x-cos-tagging` takes them (`a=1&b=2`); empty if it has none."""
        params = {"tagging": "", **version_params(version_id)}
        return self._session.parse(Call("GetObjectTagging", "GET", bucket, key, params), xml.parse_tags)

    def restore_object(self, bucket: str, key: str, *, days: int, tier: str, version_id: str = "") -> None:
        """Ask for an archived object to be readable for some days; tier is Expedited, Standard or Bulk."""
        body = xml.build_restore(days, tier)
        sent = {"Content-MD5": b64encode(digest(body).md5).decode(), "Content-Type": "application/xml"}
        params = {"restore": "", **version_params(version_id)}
        self._drain(Call("RestoreObject", "POST", bucket, key, params, sent, body))


def _same(stored: ObjectInfo, crc64: int | None, size: int | None, headers: Headers | None) -> bool:
    """Whether an object surely has this content and these metadata."""
    return (
        crc64 is not None
        and stored.crc64 == crc64
        and stored.size == size
        and stored.headers is not None
        and headers is not None
        and dict(stored.headers.metadata) == {n.lower(): v for n, v in headers.metadata.items()}
    )
