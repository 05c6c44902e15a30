"""What COS holds, as frozen values. No requests, no XML."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import field

from cosfs.errors import ServiceError, UsageError
from cosfs.records import dataclass

STANDARD = "STANDARD"
ARCHIVED_CLASSES = frozenset({"ARCHIVE", "DEEP_ARCHIVE", "MAZ_ARCHIVE"})


@dataclass(frozen=True, slots=True)
class Bucket:
    """One bucket; name is the full `name-appid`, created in Unix seconds."""

    name: str
    region: str
    created: float = 0.0


@dataclass(frozen=True, slots=True)
class Headers:
    """What a PUT can say about an object besides its bytes; empty text means "not given".

    metadata maps the suffix of `x-cos-meta-<suffix>` to its value as it is on the wire
    (ASCII; percent-encoding is the caller's). extra holds any other request header by its
    wire name (`x-cos-acl`, `x-cos-tagging`, SSE).
    """

    content_type: str = ""
    cache_control: str = ""
    content_disposition: str = ""
    content_encoding: str = ""
    content_language: str = ""
    expires: str = ""
    storage_class: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CustomerKey:
    """A key of the user's own that COS encrypts an object with and does not keep (SSE-C): 32 bytes.

    Whoever reads the object, looks at it or copies it must send the key again.
    """

    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.key) != 32:
            raise UsageError(f"a key for SSE-C has 32 bytes, this one has {len(self.key)}")

    def headers(self, prefix: str = "x-cos-") -> dict[str, str]:
        """Return the headers for reading and writing the object."""
        name = f"{prefix}server-side-encryption-customer-"
        md5 = hashlib.md5(self.key, usedforsecurity=False).digest()
        return {
            f"{name}algorithm": "AES256",
            f"{name}key": base64.b64encode(self.key).decode(),
            f"{name}key-MD5": base64.b64encode(md5).decode(),
        }

    def source_headers(self) -> dict[str, str]:
        """Return the headers for copying from the object."""
        return self.headers("x-cos-copy-source-")


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object. A listing fills the first five fields; HEAD and GET fill all.

    etag has its quotes stripped. last_modified is in Unix seconds. crc64 is the CRC-64/XZ of
    the whole object, None when COS did not say. headers is None when it is not known (a
    listing does not carry metadata).
    """

    key: str
    size: int
    etag: str
    last_modified: float
    storage_class: str = STANDARD
    crc64: int | None = None
    version_id: str = ""
    headers: Headers | None = None
    restore: str = ""  # the x-cos-restore header

    @property
    def archived(self) -> bool:
        """Whether a GET is refused until the object is restored."""
        return self.storage_class in ARCHIVED_CLASSES and 'ongoing-request="false"' not in self.restore


@dataclass(frozen=True, slots=True)
class ListPage:
    """One page of a listing: objects and common prefixes, each in UTF-8 byte order of keys."""

    objects: Sequence[ObjectInfo]
    prefixes: Sequence[str]
    next_marker: str  # empty when this is the last page

    @property
    def truncated(self) -> bool:
        return bool(self.next_marker)


@dataclass(frozen=True, slots=True)
class ObjectVersion:
    """One version or delete marker from a listing of versions."""

    key: str
    version_id: str
    is_latest: bool
    is_delete_marker: bool
    size: int = 0
    etag: str = ""
    last_modified: float = 0.0
    storage_class: str = STANDARD


@dataclass(frozen=True, slots=True)
class VersionPage:
    versions: Sequence[ObjectVersion]
    prefixes: Sequence[str]
    next_key_marker: str
    next_version_id_marker: str


@dataclass(frozen=True, slots=True)
class Upload:
    """An open multipart upload; initiated in Unix seconds (0 when we opened it just now).

    initiator is who opened it, known from listings. doubtful: an answer was lost when it was opened, so
    there may be another one whose id nobody was told.
    """

    bucket: str
    key: str
    upload_id: str
    initiated: float = 0.0
    initiator: str = field(default="", compare=False)
    doubtful: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class UploadPage:
    uploads: Sequence[Upload]
    next_key_marker: str
    next_upload_id_marker: str


@dataclass(frozen=True, slots=True)
class Part:
    """One part that COS holds. crc64 and md5 are not known of one from a listing or a part copy."""

    number: int
    etag: str
    size: int
    crc64: int | None = None
    md5: str = ""


@dataclass(frozen=True, slots=True)
class PutResult:
    """What COS said about an object it just stored."""

    etag: str
    crc64: int | None
    version_id: str = ""
    last_modified: float = 0.0  # the answer's Last-Modified or, without it, its Date


@dataclass(frozen=True, slots=True)
class ObjectId:
    """A key and, when one version is meant, its id."""

    key: str
    version_id: str = ""


@dataclass(frozen=True, slots=True)
class DeleteFailure:
    key: str
    version_id: str
    code: str
    message: str
    hint: str = ""

    def error(self, target: str = "") -> ServiceError:
        """Return what a request for this object alone would have raised."""
        return ServiceError(self.message, code=self.code, target=target, hint=self.hint)
