"""What a transfer says about itself when it is done."""

from __future__ import annotations

from cosfs.client.model import PutResult
from cosfs.records import dataclass

__all__ = ["Doubt", "TransferResult", "upload_result"]


@dataclass(slots=True, eq=False)
class Doubt:
    """COS was asked to open an upload, and may have opened one that we know nothing of.

    until is when no answer came any more; known is the id of the upload that was heard of.
    """

    bucket: str
    key: str
    since: float
    until: float = 0.0
    known: str = ""


@dataclass(frozen=True, slots=True)
class TransferResult:
    """One object that was moved whole.

    verified says how its bytes were compared with what COS holds: `crc64`, `md5` (of a part-less
    ETag), `size` when COS gave neither, or `none` if nobody wanted to know. attempts counts tries
    of the whole object, none for what was there already (verified is `content` then).
    """

    size: int
    etag: str = ""
    crc64: int | None = None
    version_id: str = ""
    verified: str = "crc64"
    attempts: int = 1
    last_modified: float = 0.0  # of the object in COS, Unix seconds


def upload_result(size: int, result: PutResult, crc64: int | None, attempt: int) -> TransferResult:
    """Describe an upload whose Content-MD5 COS has checked, and its CRC unless COS gave none."""
    verified = "md5" if result.crc64 is None else "crc64"
    known = crc64 if result.crc64 is None else result.crc64
    return TransferResult(
        size, result.etag, known, result.version_id, verified, attempt, result.last_modified
    )
