"""Buckets, their regions, and what is listed in them."""

from __future__ import annotations

import math
import re
import threading
import time
from base64 import b64encode
from collections.abc import Mapping

from cosfs.client import xml
from cosfs.client.auth import CredentialProvider
from cosfs.client.body import digest
from cosfs.client.http import Response
from cosfs.client.model import Bucket, ListPage, UploadPage, VersionPage
from cosfs.client.operations import Operations, add_params
from cosfs.client.retry import Attempt
from cosfs.client.session import NOTHING, Call
from cosfs.client.waiting import offload
from cosfs.config import ClientSettings
from cosfs.errors import COSError, ServiceError

__all__ = ["Buckets"]

# A name that ends like this is a full one. Years and short numbers are part of many names.
_FULL_NAME = re.compile(r".+-\d{5,}")


class Buckets(Operations):
    """Buckets, their regions, and what is listed in them."""

    def __init__(self, settings: ClientSettings, credentials: CredentialProvider | None) -> None:
        super().__init__(settings, credentials)
        self._session.find_region = self._find_region
        self._buckets: dict[str, Bucket] | None = None
        self._buckets_since = 0.0
        self._buckets_lock = threading.Lock()
        self._listing_lock = threading.Lock()

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
        if self.is_full_name(name):
            return name
        if self.settings.appid:
            return f"{name}-{self.settings.appid}"
        known = self._known_buckets()
        matches = [full for full in known if full.rpartition("-")[0] == name]
        return matches[0] if name not in known and len(matches) == 1 else name

    def is_full_name(self, name: str) -> bool:
        """Whether the name of a bucket is taken as it is."""
        return _FULL_NAME.fullmatch(name) is not None

    def know_region(self, bucket: str, region: str) -> None:
        """Take the region of a bucket as given; COS corrects one that is wrong."""
        self._session.regions[bucket] = region

    def region_of(self, bucket: str) -> str:
        """Return the region of a bucket, empty if there is no way to learn it."""
        region = self._session.region(bucket)
        if not region and not self._session.endpoint.needs_region(bucket):
            try:
                region = self.head_bucket(bucket).region
            except ServiceError:
                return ""
        return region

    def known_region(self, bucket: str) -> str:
        """Return the region of a bucket if that is known without a request."""
        return self._session.regions.get(bucket) or self.settings.region

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
                self._session.learn_region(bucket, region)
            return Bucket(bucket, region or self._session.region(bucket))

        return self._session.run(call, finish)

    def is_reachable(self, bucket: str, timeout: float) -> bool:
        """Return whether COS answers anything at all within timeout seconds; one try.

        An empty bucket asks the account.
        """
        call = Call("HeadBucket", "HEAD", bucket) if bucket else Call("ListBuckets", "GET")
        return self._session.is_answered(call, timeout)

    def delete_bucket(self, bucket: str) -> None:
        """Remove an empty bucket."""
        call = Call("DeleteBucket", "DELETE", bucket)
        self._drain(call, done_before=lambda error: error.code == "NoSuchBucket")
        self._session.regions.pop(bucket, None)
        self._session.region_file.set(bucket, "")
        self._session.seen.discard(bucket)
        self._forget_buckets()

    def _known_buckets(self, oldest: float = math.inf) -> Mapping[str, Bucket]:
        """Return the buckets of the account, asked for again after oldest seconds; empty if that fails."""
        with self._buckets_lock:
            known, age = self._buckets, time.monotonic() - self._buckets_since
        if known is not None and age < oldest:
            return known
        return offload(lambda: self._list_once(oldest))

    def _list_once(self, oldest: float) -> Mapping[str, Bucket]:
        """List the buckets, once for all who want them at this moment."""
        with self._listing_lock:
            with self._buckets_lock:
                known, age = self._buckets, time.monotonic() - self._buckets_since
            return known if known is not None and age < oldest else self._list_known(known)

    def _list_known(self, known: Mapping[str, Bucket] | None) -> Mapping[str, Bucket]:
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

    def versioning_of(self, bucket: str) -> str:
        """Return whether a bucket keeps old versions: "Enabled", "Suspended", or "" if it never did."""
        call = Call("GetBucketVersioning", "GET", bucket, params={"versioning": ""})
        return self._session.parse(call, xml.parse_versioning)

    # --- listings

    def list_objects(
        self, bucket: str, *, prefix: str = "", delimiter: str = "", marker: str = "", max_keys: int = 1000
    ) -> ListPage:
        """Return one page of objects and common prefixes behind marker."""
        params = {"max-keys": str(max_keys), "encoding-type": "url"}
        add_params(params, prefix=prefix, delimiter=delimiter, marker=marker)
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
        add_params(params, prefix=prefix, delimiter=delimiter)
        add_params(params, **{"key-marker": key_marker, "version-id-marker": version_id_marker})
        call = Call("ListVersions", "GET", bucket, params=params)
        return self._session.parse(call, xml.parse_versions)

    def list_uploads(
        self, bucket: str, *, prefix: str = "", key_marker: str = "", upload_id_marker: str = ""
    ) -> UploadPage:
        """Return one page of open multipart uploads."""
        params = {"uploads": "", "max-uploads": "1000", "encoding-type": "url"}
        add_params(params, prefix=prefix, **{"key-marker": key_marker, "upload-id-marker": upload_id_marker})
        call = Call("ListUploads", "GET", bucket, params=params)
        return self._session.parse(call, lambda body: xml.parse_uploads(body, bucket))
