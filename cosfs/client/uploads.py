"""Multipart uploads."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence

from cosfs.client import xml
from cosfs.client.body import Body, body_length, digest
from cosfs.client.checks import check_crc, combined, made_of, sums
from cosfs.client.headers import put_headers, put_result
from cosfs.client.http import Response
from cosfs.client.model import Headers, Part, PutResult, Upload
from cosfs.client.operations import add_params
from cosfs.client.retry import Attempt
from cosfs.client.session import NOTHING, Call
from cosfs.client.writing import Writing
from cosfs.errors import AlreadyExistsError, IntegrityError, NotFoundError, UsageError

__all__ = ["Uploads"]


class Uploads(Writing):
    """Multipart uploads."""

    def create_upload(
        self,
        bucket: str,
        key: str,
        *,
        headers: Headers = Headers(),  # noqa: B008 - frozen
        forbid_overwrite: bool = False,
        extra: Mapping[str, str] = NOTHING,
    ) -> Upload:
        """Open a multipart upload; the object will have these headers.

        If an answer was lost on the way, another upload may be open as well: then it is doubtful.
        """
        sent = {**put_headers(headers), **extra}
        if forbid_overwrite:
            sent["x-cos-forbid-overwrite"] = "true"
        call = Call("CreateUpload", "POST", bucket, key, {"uploads": ""}, sent)

        def finish(response: Response, attempt: Attempt) -> Upload:
            upload_id = self._session.parsed(call, response, xml.parse_upload_id)
            return Upload(bucket, key, upload_id, doubtful=attempt.uncertain)

        return self._session.run(call, finish)

    def upload_part(
        self,
        upload: Upload,
        number: int,
        body: Body,
        *,
        content_md5: bytes | None = None,
        crc64: int | Callable[[], int] | None = None,
        extra: Mapping[str, str] = NOTHING,
    ) -> Part:
        """Send one part and check that COS has the same bytes; number counts from 1 to 10,000.

        A part sent earlier under this number is replaced. Raises NotFoundError if the upload was
        completed or aborted meanwhile. A crc64 that is a function is called when the body has been
        sent: nothing need be read twice, but no MD5 goes along, and an answer without the CRC-64 of
        what was stored is an IntegrityError.
        """
        sent = {**extra}
        if callable(crc64):
            content_md5, computed = b"", crc64
        else:
            content_md5, known = sums(body, content_md5, crc64)
            sent["Content-MD5"] = b64encode(content_md5).decode()
            computed = None
        params = {"partNumber": str(number), "uploadId": upload.upload_id}
        call = Call("UploadPart", "PUT", upload.bucket, upload.key, params, sent, body)

        def finish(response: Response, attempt: Attempt) -> Part:
            self._session.document(call, response)
            result = put_result(response.headers)
            if computed is not None and result.crc64 is None:
                raise IntegrityError(f"{call.target}: {response.host} does not say what it has stored")
            crc = known if computed is None else computed()
            check_crc(result.crc64, crc, call.target)
            return Part(number, result.etag, body_length(body), crc, content_md5.hex())

        return self._session.run(call, finish)

    def upload_part_copy(
        self,
        upload: Upload,
        number: int,
        source_bucket: str,
        source_key: str,
        start: int,
        stop: int,
        *,
        if_match: str = "",
        source_version_id: str = "",
        extra: Mapping[str, str] = NOTHING,
    ) -> Part:
        """Have COS make one part of the bytes [start, stop) of an object."""
        if not 0 <= start < stop:
            raise UsageError(f"{start} to {stop} is not a range of bytes")
        sent = self._source(source_bucket, source_key, source_version_id, if_match)
        sent["x-cos-copy-source-range"] = f"bytes={start}-{stop - 1}"
        sent.update(extra)
        params = {"partNumber": str(number), "uploadId": upload.upload_id}
        call = Call(
            "UploadPartCopy", "PUT", upload.bucket, upload.key, params, sent, slow=True, work=stop - start
        )
        call.source = f"cos://{source_bucket}/{source_key}"

        def finish(response: Response, attempt: Attempt) -> Part:
            root = self._session.element(call, response, "CopyPartResult")
            return Part(number, (root.findtext("ETag") or "").strip().strip('"'), stop - start)

        return self._session.run(call, finish)

    def complete_upload(
        self, upload: Upload, parts: Sequence[Part], *, forbid_overwrite: bool = False
    ) -> PutResult:
        """Make the object of its parts, in the order of their numbers, and check its checksum.

        The checksum is checked if all parts have theirs. If the answer to an earlier try was lost
        and the upload is gone, the object is looked at before that counts as a failure.
        """
        ordered = sorted(parts, key=lambda part: part.number)
        body = xml.build_complete(ordered)
        sent = {"Content-Type": "application/xml", "Content-MD5": b64encode(digest(body).md5).decode()}
        if forbid_overwrite:
            sent["x-cos-forbid-overwrite"] = "true"
        call = Call(
            "CompleteUpload", "POST", upload.bucket, upload.key, {"uploadId": upload.upload_id}, sent, body
        )
        call.slow, call.work = True, sum(part.size for part in ordered)
        expected = combined(ordered)
        uncertain = False

        def operation(attempt: Attempt) -> PutResult:
            nonlocal uncertain
            uncertain = attempt.uncertain
            with self._session.send(call, attempt) as response:
                root = self._session.element(call, response, "CompleteMultipartUploadResult")
                result = put_result(response.headers)
            etag = (root.findtext("ETag") or "").strip().strip('"') or result.etag
            check_crc(result.crc64, expected, call.target)
            return PutResult(etag, result.crc64, result.version_id, result.last_modified)

        try:
            return self._session.run_operation(call, operation)
        except (NotFoundError, AlreadyExistsError) as error:
            gone = error.code in ("NoSuchUpload", "FileAlreadyExists")
            stored = self._stored(upload.bucket, upload.key) if uncertain and gone else None
            if stored is None or not made_of(stored, ordered, expected):
                raise
            return PutResult(stored.etag, stored.crc64, stored.version_id, stored.last_modified)

    def abort_upload(self, upload: Upload) -> None:
        """Throw an upload and its parts away; one that is gone is fine."""
        params = {"uploadId": upload.upload_id}
        try:
            self._drain(Call("AbortUpload", "DELETE", upload.bucket, upload.key, params))
        except NotFoundError as error:
            if error.code not in ("NoSuchUpload", ""):
                raise

    def list_parts(self, upload: Upload) -> list[Part]:
        """Return all parts COS holds of an upload, in the order of their numbers."""
        parts: list[Part] = []
        marker = ""
        while True:
            params = {"uploadId": upload.upload_id, "max-parts": "1000"}
            add_params(params, **{"part-number-marker": marker})
            call = Call("ListParts", "GET", upload.bucket, upload.key, params)
            page, marker = self._session.parse(call, xml.parse_parts)
            parts += page
            if not marker:
                return parts
