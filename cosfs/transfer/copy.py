"""Objects to objects, by the server itself: one request, or parts many at once when large."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import field, replace
from types import MappingProxyType

from cosfs.client.model import Headers, ObjectInfo, Part, PutResult
from cosfs.client.url import CosUrl
from cosfs.errors import IntegrityError, PermissionDeniedError, PreconditionFailedError
from cosfs.records import dataclass
from cosfs.transfer.engine import SMALL, Engine
from cosfs.transfer.model import TransferResult
from cosfs.transfer.options import DEFAULTS, PART_COPY_THRESHOLD, TransferOptions
from cosfs.transfer.parts import part_ranges, part_size
from cosfs.transfer.reopen import as_state, begun_part_size, claim, held, open_upload, send_missing
from cosfs.transfer.resume import State
from cosfs.transfer.work import Meter, Progress
from cosfs.units import MIB

__all__ = ["PART_COPY_THRESHOLD", "CopyRequest", "copy_object", "copy_small"]

log = logging.getLogger(__name__)

_COPY_PART_SIZE = 128 * MIB
NO_EXTRA: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class CopyRequest:
    """What is copied where; headers None keeps all that the source says about itself.

    COS never keeps the storage class by itself: empty means STANDARD.
    """

    source_bucket: str
    source_key: str
    bucket: str
    key: str
    info: ObjectInfo | None = None
    headers: Headers | None = None
    storage_class: str = ""
    source_version_id: str = ""
    forbid_overwrite: bool = False
    extra: Mapping[str, str] = field(default_factory=dict)  # such as an ACL: sent whatever headers are
    options: TransferOptions = DEFAULTS

    def __str__(self) -> str:
        return f"cos://{self.source_bucket}/{self.source_key} to cos://{self.bucket}/{self.key}"


async def copy_object(
    engine: Engine,
    source_bucket: str,
    source_key: str,
    bucket: str,
    key: str,
    *,
    info: ObjectInfo | None = None,
    headers: Headers | None = None,
    storage_class: str = "",
    source_version_id: str = "",
    forbid_overwrite: bool = False,
    extra: Mapping[str, str] = NO_EXTRA,
    progress: Progress | None = None,
    options: TransferOptions = DEFAULTS,
) -> TransferResult:
    """Copy an object of any size on the server; the copy is verified before this returns.

    headers replaces what the object says about itself, None keeps it; extra headers (ACL, encryption, tags)
    are sent in either case. info saves a HEAD. Objects from options.part_threshold on are copied in
    parts, from one version of the source. A source replaced meanwhile is begun again once.
    """
    request = CopyRequest(
        source_bucket,
        source_key,
        bucket,
        key,
        info,
        headers,
        storage_class,
        source_version_id,
        forbid_overwrite,
        extra,
        options,
    )
    for attempt in (1, 2):
        try:
            return await _copy_once(engine, request, progress, attempt)
        except (IntegrityError, PreconditionFailedError) as error:
            if attempt == 2:
                raise
            log.info("%s is copied again: %s", request, error)
            request = replace(request, info=None)
    raise AssertionError("unreachable")


async def _copy_once(
    engine: Engine, request: CopyRequest, progress: Progress | None, attempt: int
) -> TransferResult:
    info = request.info
    if info is None:
        info = await engine.run(_head_source, engine, request)
        request = replace(request, info=info)
    if info.size >= request.options.part_threshold:
        return await _copy_parts(engine, request, progress, attempt)
    result = await engine.run(_copy_single, engine, request, attempt, kind=SMALL)
    if progress is not None:
        progress(info.size)
    return result


def _head_source(engine: Engine, request: CopyRequest) -> ObjectInfo:
    info = engine.client.head_object(
        request.source_bucket,
        request.source_key,
        version_id=request.source_version_id,
        headers=request.options.source_key_headers,
    )
    assert info is not None
    return info


# --- one request ---


def copy_small(engine: Engine, request: CopyRequest, progress: Progress | None = None) -> TransferResult:
    """Copy a small object with one request; blocking, for worker threads. Needs request.info."""
    try:
        result = _copy_single(engine, request, 1)
    except (IntegrityError, PreconditionFailedError) as error:
        log.info("%s is copied again: %s", request, error)
        result = _copy_single(engine, replace(request, info=_head_source(engine, request)), 2)
    Meter(engine, progress).settle(result.size)
    return result


def _copy_single(engine: Engine, request: CopyRequest, attempt: int) -> TransferResult:
    """Copy with one request and verify, in a worker thread."""
    info = request.info
    assert info is not None
    result = engine.client.copy_object(
        request.bucket,
        request.key,
        request.source_bucket,
        request.source_key,
        source_version_id=request.source_version_id,
        if_match=info.etag,
        headers=request.headers,
        storage_class=request.storage_class,
        forbid_overwrite=request.forbid_overwrite,
        extra={**request.extra, **request.options.copy_headers},
    )
    if request.options.verify == "none":
        return _result(info, result, result.crc64, "none", attempt)
    if request.options.verify == "auto" and _is_md5(info.etag) and result.etag == info.etag:
        # Same MD5 on both sides: COS has computed it of what it wrote, no further request needed.
        return _result(info, result, info.crc64 if result.crc64 is None else result.crc64, "md5", attempt)
    crc, verified = _verify(engine, request, info, result)
    return _result(info, result, crc, verified, attempt)


def _is_md5(etag: str) -> bool:
    return len(etag) == 32 and "-" not in etag


def _verify(
    engine: Engine, request: CopyRequest, info: ObjectInfo, result: PutResult
) -> tuple[int | None, str]:
    """Compare the checksums of source and copy; ask for those nobody has told."""
    source_crc = info.crc64
    if source_crc is None:
        source_crc = _head_source(engine, request).crc64
    crc = result.crc64
    if crc is None or request.options.verify == "full":
        copied = engine.client.head_object(request.bucket, request.key, headers=request.options.key_headers)
        assert copied is not None
        crc = copied.crc64
        if copied.size != info.size:
            raise IntegrityError(f"{request}: the copy has {copied.size} bytes instead of {info.size}")
    if crc is None or source_crc is None:
        return crc, "size"
    if crc != source_crc:
        raise IntegrityError(f"{request}: the checksum of the copy is {crc}, of the source {source_crc}")
    return crc, "crc64"


def _result(
    info: ObjectInfo, result: PutResult, crc: int | None, verified: str, attempt: int
) -> TransferResult:
    return TransferResult(
        info.size, result.etag, crc, result.version_id, verified, attempt, result.last_modified
    )


# --- in parts ---


async def _copy_parts(
    engine: Engine, request: CopyRequest, progress: Progress | None, attempt: int
) -> TransferResult:
    info = request.info
    assert info is not None
    if info.headers is None:
        # A listing does not say what the object carries, and parts do not carry it over.
        info = await engine.run(_head_source, engine, request)
    headers = await engine.run(_copied_headers, engine, request, info)
    moved = 0

    def copied(part: Part) -> None:
        nonlocal moved
        moved += part.size
        if progress is not None:
            progress(part.size)

    length = part_size(info.size, request.options.part_size or _COPY_PART_SIZE)
    source = CosUrl(request.source_bucket, request.source_key)
    target = CosUrl(request.bucket, request.key)
    record = await claim(engine, "copy", str(source), str(target), info.size, request.options)
    length = begun_part_size(record, info.size, length)
    wanted = State("copy", "", "", info.size, length, request.bucket, request.key)
    wanted.etag, wanted.version_id = info.etag, request.source_version_id
    wanted.source_bucket, wanted.source_key = request.source_bucket, request.source_key
    wanted.headers = as_state(headers, forbid_overwrite=request.forbid_overwrite)
    try:
        upload = await open_upload(
            engine, record, wanted, headers, request.options, forbid_overwrite=request.forbid_overwrite
        )
    except BaseException:
        if record is not None:
            record.release()
        raise
    for part in upload.parts.values():
        copied(part)
    copy = upload.copier(
        request.source_bucket, request.source_key, if_match=info.etag, version_id=request.source_version_id
    )
    try:
        async with upload, held(engine, record, upload):
            await send_missing(upload, record, copy, part_ranges(info.size, length), copied)
            stored = await upload.complete()
        crc, verified = stored.crc64, "none"
        if request.options.verify != "none":
            crc, verified = await engine.run(_verify, engine, request, info, stored)
    except (IntegrityError, PreconditionFailedError):
        if progress is not None:
            progress(-moved)
        raise
    return _result(info, stored, crc, verified, attempt)


def _copied_headers(engine: Engine, request: CopyRequest, info: ObjectInfo) -> Headers:
    """Return what an upload must say so that its parts make the same object as one copy request would."""
    headers = request.headers or info.headers or Headers()
    if request.storage_class or request.headers is None:
        headers = replace(headers, storage_class=request.storage_class)
    extra = {**headers.extra, **request.extra}
    if "x-cos-tagging" not in extra:
        try:
            tags = engine.client.object_tags(
                request.source_bucket, request.source_key, version_id=request.source_version_id
            )
        except PermissionDeniedError as error:
            log.warning("%s: the tags are not copied: %s", request, error)
        else:
            extra |= {"x-cos-tagging": tags} if tags else {}
    return replace(headers, extra=extra)
