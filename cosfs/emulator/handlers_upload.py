"""Handlers of multipart uploads."""

from __future__ import annotations

from collections.abc import Callable

from cosfs.emulator import encryption, messages
from cosfs.emulator.accounts import arn
from cosfs.emulator.attributes import check_overwrite, object_url, properties
from cosfs.emulator.context import Call
from cosfs.emulator.digests import Digest
from cosfs.emulator.errors import CosError
from cosfs.emulator.handlers_bucket import owner, xml
from cosfs.emulator.handlers_copy import find_source
from cosfs.emulator.messages import document, element, elements, escape, iso_time, url_encode
from cosfs.emulator.numerals import whole
from cosfs.emulator.store import Bytes, Version, received_bytes
from cosfs.emulator.uploads import MAX_PART_NUMBER, Part, Upload
from cosfs.emulator.values import Later, Piece, Response

_XMLNS = ' xmlns="http://www.qcloud.com/document/product/436/7751"'
_COPY_CHUNK = 1024 * 1024


def create(call: Call) -> Response:
    """Open an upload."""
    bucket = call.bucket
    check_overwrite(call, bucket)
    made, echoed = properties(call, bucket)
    upload = call.emulation.uploads.create(bucket, call.key, made)
    told = elements({"Bucket": bucket.name, "Key": call.key, "UploadId": upload.id})
    return Response(
        headers={"Content-Type": "application/xml", **echoed},
        body=document("InitiateMultipartUploadResult", told),
    )


def _upload(call: Call) -> Upload:
    return call.emulation.uploads.get(call.bucket, call.key, call.parameters["uploadid"])


def _part_number(call: Call) -> int:
    number = call.number("partnumber", 0)
    if not 1 <= number <= MAX_PART_NUMBER:
        raise CosError("InvalidArgument", "Part number must be an integer between 1 and 10000, inclusive.")
    return number


def put_part(call: Call) -> Response:
    """Store one part."""
    upload = _upload(call)
    encryption.check_part_key(call, upload.properties.headers)
    part = call.emulation.uploads.put_part(upload, _part_number(call), received_bytes(call.body))
    echoed = encryption.echoed(upload.properties.headers)
    return Response(200, {"ETag": f'"{part.etag}"', "x-cos-hash-crc64ecma": part.crc64, **echoed})


def copy_part(call: Call) -> Later:
    """Make a part of a range of an object: its pieces are shared, its digests computed by reading it once."""
    upload = _upload(call)  # a wrong id is told before the long work
    if encryption.SOURCE_PREFIX + "key" in call.headers:
        encryption.check_part_key(call, upload.properties.headers)
    number = _part_number(call)
    source_bucket, row = find_source(call)
    start, stop = _source_range(call.headers.get("x-cos-copy-source-range", ""), row.size)
    if stop - start > call.emulation.limits.object_size:
        raise CosError("EntityTooLarge")
    content = call.store.content(row, start, stop)

    def work() -> Bytes:
        return _digested(call, row, content.pieces, stop - start)

    def then(made: Bytes) -> Response:
        try:
            part = call.emulation.uploads.put_part(_upload(call), number, made)
        finally:
            content.release()
        headers = {"x-cos-copy-source-version-id": row.version} if source_bucket.versioning else {}
        told = elements({"ETag": f'"{part.etag}"', "LastModified": iso_time(part.modified)})
        return xml(document("CopyPartResult", told), **headers)

    return Later(work, then)


def _source_range(text: str, size: int) -> tuple[int, int]:
    if not text.strip():
        return 0, size
    start, _, end = text.strip().removeprefix("bytes=").partition("-")
    first, last = whole(start), whole(end)
    if first is None or last is None:
        raise CosError("InvalidArgument", "x-cos-copy-source-range is not valid.")
    if not first <= last < size:
        raise CosError("InvalidRange")
    return first, last + 1


def _digested(call: Call, row: Version, pieces: list[Piece], size: int) -> Bytes:
    if size == row.size and "-" not in row.etag:
        return Bytes(pieces, size, row.etag, row.crc64)
    etag, crc64 = call.emulation.ranges.of(pieces, lambda: _read(call, pieces))
    return Bytes(pieces, size, etag, crc64)


def _read(call: Call, pieces: list[Piece]) -> tuple[str, str]:
    """Return ETag and CRC-64 of the bytes of pieces."""
    digest = Digest()
    for piece in pieces:
        if not piece.file:
            digest.update(piece.data)
            continue
        with call.store.files.path(piece.file).open("rb") as file:
            file.seek(piece.start)
            left = piece.length
            while left:
                data = file.read(min(left, _COPY_CHUNK))
                digest.update(data)
                left -= len(data)
    return digest.md5.hex(), str(digest.crc64)


def complete(call: Call) -> Response:
    """Make an object of the listed parts."""
    bucket, upload = call.bucket, _upload(call)
    chosen = _chosen(call, upload)
    check_overwrite(call, bucket)
    row = call.emulation.uploads.complete(bucket, upload, chosen)
    told = elements(
        {
            "Location": object_url(call),
            "Bucket": bucket.name,
            "Key": call.key,
            "ETag": f'"{row.etag}"',
        }
    )
    headers = {"Content-Type": "application/xml", "x-cos-hash-crc64ecma": row.crc64}
    headers.update(encryption.echoed(row.headers))
    if bucket.versioning:
        headers["x-cos-version-id"] = row.version
    attributes = _XMLNS if call.identity.scheme != "aws" else ""
    return Response(200, headers, document("CompleteMultipartUploadResult", told, attributes), chunked=True)


def _chosen(call: Call, upload: Upload) -> list[Part]:
    """Check the list of parts against what arrived."""
    tree = messages.parse(call.body.data, "CompleteMultipartUpload")
    arrived = {part.number: part for part in call.emulation.uploads.parts(upload)}
    chosen: list[Part] = []
    for node in tree.iterfind("Part"):
        number = whole(messages.text(node, "PartNumber").strip())
        etag = messages.text(node, "ETag").strip().strip('"')
        if number is None:
            raise CosError("MalformedXML")
        if chosen and number <= chosen[-1].number:
            raise CosError("InvalidPartOrder")
        part = arrived.get(number)
        if part is None or part.etag != etag.lower():
            raise CosError("InvalidPart", nodes={"PartNumber": str(number)})
        chosen.append(part)
    if not chosen:
        raise CosError("MalformedXML")
    if any(part.size < call.emulation.limits.min_part_size for part in chosen[:-1]):
        raise CosError("EntityTooSmall")
    return chosen


def abort(call: Call) -> Response:
    """Forget an upload."""
    call.emulation.uploads.abort(_upload(call))
    return Response(204)


def list_parts(call: Call) -> Response:
    """Answer a page of the parts that arrived."""
    bucket, upload = call.bucket, _upload(call)
    limit = call.number("max-parts", 1000, 0, 1000)
    after = call.number("part-number-marker", 0)
    encoding = call.parameters.get("encoding-type", "")
    parts = call.emulation.uploads.parts(upload, after, limit + 1)
    truncated, parts = len(parts) > limit > 0, parts[:limit]
    head = elements(
        {
            "Bucket": bucket.name,
            "EncodingType": encoding or None,
            "Key": url_encode(call.key) if encoding == "url" else call.key,
            "UploadId": upload.id,
        }
    )
    rows = "".join(
        f"<Part><PartNumber>{part.number}</PartNumber><LastModified>{iso_time(part.modified)}</LastModified>"
        f"<ETag>&quot;{escape(part.etag)}&quot;</ETag><Size>{part.size}</Size></Part>"
        for part in parts
    )
    tail = elements(
        {
            "NextPartNumberMarker": parts[-1].number if truncated else None,
            "StorageClass": upload.properties.storage_class,
            "MaxParts": limit,
            "IsTruncated": truncated,
        }
    )
    mine = arn(call.owner.uin)
    middle = owner(mine) + element("PartNumberMarker", after) + owner(mine, "Initiator")
    return xml(document("ListPartsResult", head + middle + rows + tail))


HANDLERS: dict[str, Callable[[Call], Response | Later]] = {
    "CreateMultipartUpload": create,
    "UploadPart": put_part,
    "UploadPartCopy": copy_part,
    "CompleteMultipartUpload": complete,
    "AbortMultipartUpload": abort,
    "ListParts": list_parts,
}
