"""CosClient: the only door to COS. One method per operation, one request per method."""

from __future__ import annotations

import math
import re
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType

from cosfs.client import xml
from cosfs.client.auth import CredentialProvider, presign
from cosfs.client.body import Body, body_length, digest
from cosfs.client.checks import check_crc, combined, extent, made_of, sums
from cosfs.client.endpoint import Address, copy_source
from cosfs.client.headers import object_info, put_headers, put_result, whole_size
from cosfs.client.http import Response
from cosfs.client.model import (
    Bucket,
    DeleteFailure,
    Headers,
    ListPage,
    ObjectId,
    ObjectInfo,
    Part,
    PutResult,
    Upload,
    UploadPage,
    VersionPage,
)
from cosfs.client.retry import Attempt, Retrier
from cosfs.client.session import NOTHING, Call, ClientStats, Session
from cosfs.client.stream import ObjectStream
from cosfs.config import ClientSettings, Settings
from cosfs.errors import (
    AlreadyExistsError,
    COSError,
    CredentialsError,
    NetworkError,
    NotCosError,
    NotFoundError,
    ServiceError,
    UsageError,
)

__all__ = ["ClientStats", "CosClient", "ObjectStream"]

# A name that ends like this is a full one. Years and short numbers are part of many names.
_FULL_NAME = re.compile(r".+-\d{5,}")


class CosClient:
    """Speak with COS. Every method blocks, and may be called from any thread.

    Failed requests are repeated as `retry` says; what is raised in the end is one of
    cosfs.errors. credentials None sends everything unsigned.
    """

    def __init__(self, settings: ClientSettings, credentials: CredentialProvider | None) -> None:
        self.settings = settings
        self.credentials = credentials
        self._session = Session(settings, credentials)
        self._session.find_region = self._find_region
        self._buckets: dict[str, Bucket] | None = None
        self._buckets_since = 0.0
        self._buckets_lock = threading.Lock()

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        options: Mapping[str, object] = NOTHING,
        *,
        environ: Mapping[str, str] | None = None,
    ) -> CosClient:
        """Make a client with the credentials that options, environment and profile give."""
        if settings.client.anonymous:
            return cls(settings.client, None)
        from cosfs.client.credentials import find_credentials

        return cls(settings.client, find_credentials(settings, options, environ=environ))

    @property
    def stats(self) -> ClientStats:
        return self._session.stats

    @property
    def slow_listeners(self) -> list[Callable[[], None]]:
        """What is called, in any thread, when COS asks for fewer requests or does not answer in time."""
        return self._session.slow_listeners

    def cancel(self) -> None:
        """Make every request, waiting or running, fail soon with NetworkError. For good."""
        self._session.transport.cancel()

    def close(self) -> None:
        """Close all kept connections. The client can be used again afterwards."""
        self._session.transport.close()

    def __enter__(self) -> CosClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- for the control plane

    @property
    def retrier(self) -> Retrier:
        return self._session.retrier

    def address_of(self, bucket: str) -> Address:
        """Return where requests for a bucket go."""
        return self._session.endpoint.bucket(bucket, self.region_of(bucket))

    def proxy_of(self, bucket: str) -> str:
        """Return the URL of the proxy a bucket is reached through, password included; empty for none."""
        proxy = self._session.transport.proxies.choose(self.address_of(bucket))
        return proxy.full_url if proxy else ""

    # --- buckets

    def list_buckets(self) -> list[Bucket]:
        """Return all buckets of the account, with their regions."""
        buckets: list[Bucket] = []
        marker = ""
        while True:
            params = {"marker": marker} if marker else NOTHING
            call = Call("ListBuckets", "GET", params=params)
            page, marker = self._session.parse(call, xml.parse_buckets)
            buckets += page
            if not marker:
                break
        self._session.regions.update({b.name: b.region for b in buckets if b.region})
        with self._buckets_lock:
            self._buckets = {bucket.name: bucket for bucket in buckets}
            self._buckets_since = time.monotonic()
        return buckets

    def resolve_bucket(self, name: str) -> str:
        """Return the full name (with APPID) of a bucket; a name that cannot be completed stays as it is."""
        if _FULL_NAME.fullmatch(name):
            return name
        if self.settings.appid:
            return f"{name}-{self.settings.appid}"
        known = self._known_buckets()
        matches = [full for full in known if full.rpartition("-")[0] == name]
        return matches[0] if name not in known and len(matches) == 1 else name

    def know_region(self, bucket: str, region: str) -> None:
        """Take the region of a bucket as given; COS corrects one that is wrong."""
        self._session.regions[bucket] = region

    def region_of(self, bucket: str) -> str:
        """Return the region of a bucket, empty if there is no way to learn it."""
        region = self._session.region(bucket)
        if not region and self._session.endpoint.custom:
            try:
                region = self.head_bucket(bucket).region
            except ServiceError:
                return ""
        return region

    def known_region(self, bucket: str) -> str:
        """Return the region of a bucket if that is known without a request."""
        return self._session.regions.get(bucket) or self.settings.region

    def set_region(self, bucket: str, region: str) -> None:
        """Send requests for a bucket to a region, whatever the setting is."""
        self._session.regions[bucket] = region

    def create_bucket(
        self,
        bucket: str,
        *,
        region: str = "",
        acl: str = "",
        maz: bool = False,
        ofs: bool = False,
        headers: Mapping[str, str] = NOTHING,
    ) -> None:
        """Make a bucket. Raises AlreadyExistsError if it exists, whoever owns it.

        maz keeps the data in several availability zones, ofs makes directories real ones (metadata
        acceleration).
        """
        if region:
            self._session.regions[bucket] = region
        sent = {**headers, "x-cos-acl": acl} if acl else dict(headers)
        body = xml.build_bucket(maz=maz, ofs=ofs)
        if body:
            sent |= {"Content-MD5": b64encode(digest(body).md5).decode(), "Content-Type": "application/xml"}
        call = Call("CreateBucket", "PUT", bucket, headers=sent, body=body or None)
        try:
            self._drain(call, done_before=lambda error: error.code == "BucketAlreadyOwnedByYou")
        except COSError:
            if region:
                self._session.regions.pop(bucket, None)
            raise
        self._forget_buckets()

    def head_bucket(self, bucket: str) -> Bucket:
        """Return a bucket; raises BucketNotFoundError or PermissionDeniedError."""
        call = Call("HeadBucket", "HEAD", bucket)

        def finish(response: Response, attempt: Attempt) -> Bucket:
            region = response.headers.get("x-cos-bucket-region", "")
            if region:
                self._session.regions[bucket] = region
            return Bucket(bucket, region or self._session.region(bucket))

        return self._session.run(call, finish)

    def delete_bucket(self, bucket: str) -> None:
        """Remove an empty bucket."""
        call = Call("DeleteBucket", "DELETE", bucket)
        self._drain(call, done_before=lambda error: error.code == "NoSuchBucket")
        self._session.regions.pop(bucket, None)
        self._session.seen.discard(bucket)
        self._forget_buckets()

    def _known_buckets(self, oldest: float = math.inf) -> Mapping[str, Bucket]:
        """Return the buckets of the account, asked for again after oldest seconds; empty if that fails."""
        with self._buckets_lock:
            known, age = self._buckets, time.monotonic() - self._buckets_since
        if known is not None and age < oldest:
            return known
        try:
            self.list_buckets()
        except ServiceError:
            # Not allowed, and not going to be.
            with self._buckets_lock:
                self._buckets, self._buckets_since = {}, time.monotonic()
        except COSError:
            return known or {}
        return self._buckets or {}

    def _forget_buckets(self) -> None:
        with self._buckets_lock:
            self._buckets = None

    def _find_region(self, bucket: str) -> str:
        if self.credentials is None:
            return ""
        found = self._known_buckets().get(bucket) or self._known_buckets(60).get(bucket)
        return found.region if found else ""

    # --- listings

    def list_objects(
        self, bucket: str, *, prefix: str = "", delimiter: str = "", marker: str = "", max_keys: int = 1000
    ) -> ListPage:
        """Return one page of objects and common prefixes behind marker."""
        params = {"max-keys": str(max_keys), "encoding-type": "url"}
        _add(params, prefix=prefix, delimiter=delimiter, marker=marker)
        call = Call("ListObjects", "GET", bucket, params=params)
        return self._session.parse(call, xml.parse_objects)

    def list_versions(
        self,
        bucket: str,
        *,
        prefix: str = "",
        delimiter: str = "",
        key_marker: str = "",
        version_id_marker: str = "",
        max_keys: int = 1000,
    ) -> VersionPage:
        """Return one page of versions and delete markers."""
        params = {"versions": "", "max-keys": str(max_keys), "encoding-type": "url"}
        _add(params, prefix=prefix, delimiter=delimiter)
        _add(params, **{"key-marker": key_marker, "version-id-marker": version_id_marker})
        call = Call("ListVersions", "GET", bucket, params=params)
        return self._session.parse(call, xml.parse_versions)

    def list_uploads(
        self, bucket: str, *, prefix: str = "", key_marker: str = "", upload_id_marker: str = ""
    ) -> UploadPage:
        """Return one page of open multipart uploads."""
        params = {"uploads": "", "max-uploads": "1000", "encoding-type": "url"}
        _add(params, prefix=prefix, **{"key-marker": key_marker, "upload-id-marker": upload_id_marker})
        call = Call("ListUploads", "GET", bucket, params=params)
        return self._session.parse(call, lambda body: xml.parse_uploads(body, bucket))

    # --- reading objects

    def head_object(
        self,
        bucket: str,
        key: str,
        *,
        version_id: str = "",
        if_match: str = "",
        if_none_match: str = "",
        headers: Mapping[str, str] = NOTHING,
    ) -> ObjectInfo | None:
        """Return what COS knows about an object; None if it still has the etag if_none_match."""
        call = Call("HeadObject", "HEAD", bucket, key, _version(version_id))
        call.headers = {**headers, **_conditions(if_match, if_none_match)}

        def operation(attempt: Attempt) -> ObjectInfo | None:
            try:
                response = self._session.send(call, attempt)
            except ServiceError as error:
                self._explain(call, error, attempt)
                raise
            with response:
                if response.status == 304:
                    return None
                return object_info(key, response.headers, whole_size(response.headers, call.target))

        return self._session.run_operation(call, operation)

    def _explain(self, call: Call, error: ServiceError, attempt: Attempt) -> None:
        """Raise the reason of a HEAD error, which has no body to say it, if a GET tells one."""
        doubtful = error.status == 404 and call.bucket not in self._session.seen
        if error.code or not (doubtful or error.status in (400, 403)):
            return
        ranged = {**call.headers, "Range": "bytes=0-0"}
        reason = Call("GetObject", "GET", call.bucket, call.key, call.params, ranged)
        reason.redirected = call.redirected
        try:
            self._session.send(reason, attempt).close()
        except ServiceError as answer:
            # An empty object has no byte 0: then HEAD alone was refused.
            if answer.status != 416:
                raise

    def get_object(
        self,
        bucket: str,
        key: str,
        *,
        start: int = 0,
        stop: int | None = None,
        if_match: str = "",
        if_none_match: str = "",
        version_id: str = "",
        headers: Mapping[str, str] = NOTHING,
    ) -> ObjectStream:
        """Open the bytes [start, stop) of an object; they end with the object if it is shorter.

        headers are sent as they are (a traffic limit, the customer's key).
        Raises ServiceError with code InvalidRange if start is at or behind the end, unless it is
        0: an empty object gives an empty stream. An object that still has the etag if_none_match
        raises ServiceError with code NotModified.
        """
        if start < 0 or (stop is not None and stop < start):
            raise UsageError(f"{start} to {stop} is not a range of bytes")
        conditions = _conditions(if_match, if_none_match)
        if stop is not None and stop == start:
            return self._empty_stream(bucket, key, start, version_id, {**headers, **conditions})
        sent = {**headers, **conditions}
        if start or stop is not None:
            sent["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
        call = Call("GetObject", "GET", bucket, key, _version(version_id), sent)
        try:
            stream = self._session.run_operation(call, lambda attempt: self._open(call, start, stop, attempt))
        except ServiceError as error:
            if error.status == 416 and start == 0:
                return self._empty_stream(bucket, key, 0, version_id, {**headers, **conditions})
            raise
        stream.limit_silence_only()
        return stream

    def _empty_stream(
        self, bucket: str, key: str, start: int, version_id: str, conditions: Mapping[str, str]
    ) -> ObjectStream:
        """Return an empty range: there is no way to ask for one, so only the object is looked at."""
        info = self.head_object(bucket, key, version_id=version_id, headers=conditions)
        if info is None:
            raise _not_modified(f"cos://{bucket}/{key}")
        return ObjectStream(info, start, start, None)

    def _open(self, call: Call, start: int, stop: int | None, attempt: Attempt) -> ObjectStream:
        response = self._session.send(call, attempt)
        try:
            if response.status == 304:
                raise _not_modified(call.target)
            ranged = "Range" in call.headers
            first, last, size = extent(response, ranged, call.target)
            if first != start or (stop is not None and last > stop):
                raise NotCosError(f"{response.host} answered with other bytes than {start} to {stop}")
            if ranged and response.status == 206 and last != min(size, stop if stop is not None else size):
                raise NetworkError(f"{response.host} answered with fewer bytes than were asked for")
            info = object_info(call.key or "", response.headers, size)
        except BaseException:
            response.close()
            raise
        return ObjectStream(info, start, last, response, lambda n: self.stats.add(received=n))

    def get_range(
        self, bucket: str, key: str, start: int, stop: int, *, if_match: str = ""
    ) -> tuple[ObjectInfo, bytes]:
        """Return the bytes [start, stop) of an object, fewer only if it ends before.

        A body that breaks off is gone on with where it broke, as long as the object is the same.
        """
        if stop <= start:
            with self.get_object(bucket, key, start=start, stop=stop, if_match=if_match) as stream:
                return stream.info, b""
        pieces: list[bytes] = []
        filled, info = 0, None
        call = Call("GetObject", "GET", bucket, key, expects=stop - start)

        def operation(attempt: Attempt) -> None:
            nonlocal filled, info
            call.headers = {
                **_conditions(info.etag if info else if_match, ""),
                "Range": f"bytes={start + filled}-{stop - 1}",
            }
            with self._open(call, start + filled, stop, attempt) as stream:
                if info is not None and stream.info.size != info.size:
                    raise NotCosError(f"{call.target} has another size than a moment ago")
                info = stream.info
                for piece in stream.chunks():
                    pieces.append(piece)
                    filled += len(piece)

        try:
            self._session.run_operation(call, operation)
        except ServiceError as error:
            if error.status == 416 and start == 0:
                return self._empty_stream(bucket, key, 0, "", _conditions(if_match, "")).info, b""
            raise
        assert info is not None
        # Joining costs less than one large buffer: the memory of the pieces is at hand already.
        return info, pieces[0] if len(pieces) == 1 else b"".join(pieces)

    # --- writing objects

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
            if (
                stored is None
                or stored.crc64 != crc64
                or stored.size != body_length(body)
                or stored.headers is None
                or dict(stored.headers.metadata) != {n.lower(): v for n, v in headers.metadata.items()}
            ):
                raise
            return PutResult(stored.etag, stored.crc64, stored.version_id, stored.last_modified)

    def _stored(self, bucket: str, key: str, headers: Mapping[str, str] = NOTHING) -> ObjectInfo | None:
        """Return an object, None if there is none or it cannot be seen."""
        try:
            return self.head_object(bucket, key, headers=headers)
        except ServiceError:
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
        extra: Mapping[str, str] = NOTHING,
    ) -> PutResult:
        """Have COS copy an object of up to 5 GB. headers None keeps the source's, otherwise they replace all.

        extra headers are sent in either case: an ACL, encryption, customers' keys.

        A source that no longer has the etag if_match raises PreconditionFailedError.
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
        call = Call("CopyObject", "PUT", bucket, key, headers=sent, slow=True)

        def finish(response: Response, attempt: Attempt) -> PutResult:
            root = self._session.element(call, response, "CopyObjectResult")
            crc = (root.findtext("CRC64") or response.headers.get("x-cos-hash-crc64ecma", "")).strip()
            return PutResult(
                etag=(root.findtext("ETag") or "").strip().strip('"'),
                crc64=int(crc) if crc.isdigit() else None,
                version_id=response.headers.get("x-cos-version-id", "") or root.findtext("VersionId") or "",
                last_modified=xml.timestamp((root.findtext("LastModified") or "").strip()) or time.time(),
            )

        return self._session.run(call, finish)

    def _source(self, bucket: str, key: str, version_id: str, if_match: str) -> dict[str, str]:
        if not key:
            raise UsageError(f"cos://{bucket}/ is a bucket, not an object")
        sent = {"x-cos-copy-source": copy_source(bucket, self.region_of(bucket), key, version_id)}
        if if_match:
            sent["x-cos-copy-source-If-Match"] = _quoted(if_match)
        return sent

    def delete_object(self, bucket: str, key: str, *, version_id: str = "") -> None:
        """Remove an object, or one version of it; one that does not exist is fine."""
        self._drain(Call("DeleteObject", "DELETE", bucket, key, _version(version_id)))

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
        params = {"tagging": "", **_version(version_id)}
        return self._session.parse(Call("GetObjectTagging", "GET", bucket, key, params), xml.parse_tags)

    def restore_object(self, bucket: str, key: str, *, days: int, tier: str, version_id: str = "") -> None:
        """Ask for an archived object to be readable for some days; tier is Expedited, Standard or Bulk."""
        body = xml.build_restore(days, tier)
        sent = {"Content-MD5": b64encode(digest(body).md5).decode(), "Content-Type": "application/xml"}
        params = {"restore": "", **_version(version_id)}
        self._drain(Call("RestoreObject", "POST", bucket, key, params, sent, body))

    # --- multipart uploads

    def create_upload(
        self,
        bucket: str,
        key: str,
        *,
        headers: Headers = Headers(),  # noqa: B008 - frozen
        forbid_overwrite: bool = False,
        extra: Mapping[str, str] = NOTHING,
    ) -> Upload:
        """Open a multipart upload; the object will have these headers."""
        sent = {**put_headers(headers), **extra}
        if forbid_overwrite:
            sent["x-cos-forbid-overwrite"] = "true"
        call = Call("CreateUpload", "POST", bucket, key, {"uploads": ""}, sent)
        upload_id = self._session.parse(call, xml.parse_upload_id)
        return Upload(bucket, key, upload_id)

    def upload_part(
        self,
        upload: Upload,
        number: int,
        body: Body,
        *,
        content_md5: bytes | None = None,
        crc64: int | None = None,
        extra: Mapping[str, str] = NOTHING,
    ) -> Part:
        """Send one part and check that COS has the same bytes; number counts from 1 to 10,000.

        A part sent earlier under this number is replaced. Raises NotFoundError if the upload was
        completed or aborted meanwhile.
        """
        content_md5, crc64 = sums(body, content_md5, crc64)
        sent = {**extra, "Content-MD5": b64encode(content_md5).decode()}
        params = {"partNumber": str(number), "uploadId": upload.upload_id}
        call = Call("UploadPart", "PUT", upload.bucket, upload.key, params, sent, body)

        def finish(response: Response, attempt: Attempt) -> Part:
            self._session.document(call, response)
            result = put_result(response.headers)
            check_crc(result.crc64, crc64, call.target)
            return Part(number, result.etag, body_length(body), crc64, content_md5.hex())

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
        call = Call("UploadPartCopy", "PUT", upload.bucket, upload.key, params, sent, slow=True)

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
        call.slow = True
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
            _add(params, **{"part-number-marker": marker})
            call = Call("ListParts", "GET", upload.bucket, upload.key, params)
            page, marker = self._session.parse(call, xml.parse_parts)
            parts += page
            if not marker:
                return parts

    # --- the rest

    def presign(
        self,
        method: str,
        bucket: str,
        key: str,
        *,
        expires: float,
        params: Mapping[str, str] = NOTHING,
        headers: Mapping[str, str] = NOTHING,
    ) -> str:
        """Return a URL that allows method on an object for expires seconds, without credentials.

        headers must be sent as given by whoever uses it. The URL of a temporary key works no
        longer than the key.
        """
        if self.credentials is None:
            raise CredentialsError(
                "a URL can only be signed with credentials", hint="Leave --no-sign-request out"
            )
        address = self._session.endpoint.object(bucket, self.region_of(bucket), key)
        now = int(self._session.now())
        query = presign(
            method,
            address.signed_path,
            params,
            {"host": address.host_header, **{n.lower(): v for n, v in headers.items()}},
            self.credentials.get(),
            now - 60,
            now + max(1, round(expires)),
        )
        return f"{address.origin}{address.path}?{query}"

    def _drain(self, call: Call, done_before: Callable[[ServiceError], bool] = lambda error: False) -> None:
        """Send a call whose answer says no more than that it worked.

        done_before tells the error that means an earlier try, whose answer was lost, has worked.
        """

        def operation(attempt: Attempt) -> None:
            try:
                with self._session.send(call, attempt) as response:
                    self._session.document(call, response)
            except ServiceError as error:
                if not (attempt.uncertain and done_before(error)):
                    raise

        self._session.run_operation(call, operation)


# --- small things ----------------------------------------------------------------------------


def _add(params: dict[str, str], **values: str) -> None:
    """Add the parameters that are not empty."""
    params.update({name: value for name, value in values.items() if value})


def _version(version_id: str) -> Mapping[str, str]:
    return {"versionId": version_id} if version_id else NOTHING


def _quoted(etag: str) -> str:
    return etag if etag == "*" or etag.startswith('"') else f'"{etag}"'


def _conditions(if_match: str, if_none_match: str) -> dict[str, str]:
    conditions = {}
    if if_match:
        conditions["If-Match"] = _quoted(if_match)
    if if_none_match:
        conditions["If-None-Match"] = _quoted(if_none_match)
    return conditions


def _not_modified(target: str) -> ServiceError:
    return ServiceError("the object has not changed", status=304, code="NotModified", target=target)
