"""`cos stat`: one object or bucket in full."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .options import BUCKET_URL, command
from .output import Column, fields, json_text, table, utc_time

if TYPE_CHECKING:
    from cosfs.client.model import ObjectInfo
    from cosfs.client.url import CosUrl

    from .output import Output
    from .state import State


@command("stat")
@click.argument("urls", type=BUCKET_URL, metavar="cos://BUCKET[/KEY]...", nargs=-1, required=True)
@click.option("--version-id", default="", metavar="ID", help="This version of the object.")
@click.pass_obj
def stat(state: State, urls: tuple[CosUrl, ...], version_id: str) -> int:
    """Show all that COS knows of objects or buckets: size, times, headers, metadata, checksums.

    \b
    Examples:
      cos stat cos://bucket/file.txt
      cos stat cos://bucket/file.txt --output json
    """
    client, out, form = state.client, state.out, state.format
    records = []
    for url in urls:
        bucket = client.resolve_bucket(url.bucket)
        if url.key:
            record = _object(client.head_object(bucket, url.key, version_id=version_id), bucket)
        else:
            found = client.head_bucket(bucket)
            record = {"Bucket": found.name, "Region": found.region}
        if form == "jsonl":
            out.line(json_text(record))
        elif form != "json":
            _show(out, form, record)
        records.append(record)
    if form == "json":
        out.json(records[0] if len(records) == 1 else records)
    return 0


def _object(info: ObjectInfo | None, bucket: str) -> dict[str, object]:
    assert info is not None  # only a conditional request has no answer
    record: dict[str, object] = {
        "Bucket": bucket,
        "Key": info.key,
        "Size": info.size,
        "LastModified": utc_time(info.last_modified),
        "ETag": f'"{info.etag}"',
        "StorageClass": info.storage_class,
    }
    if info.crc64 is not None:
        record["CRC64"] = str(info.crc64)
    if info.version_id:
        record["VersionId"] = info.version_id
    if info.restore:
        record["Restore"] = info.restore
    if info.headers is not None:
        given = {
            "ContentType": info.headers.content_type,
            "CacheControl": info.headers.cache_control,
            "ContentDisposition": info.headers.content_disposition,
            "ContentEncoding": info.headers.content_encoding,
            "ContentLanguage": info.headers.content_language,
            "Expires": info.headers.expires,
        }
        record.update({name: value for name, value in given.items() if value})
        record["Metadata"] = dict(info.headers.metadata)
        if info.headers.extra:
            record["Headers"] = dict(info.headers.extra)
    return record


def _for_people(name: str, value: str) -> str:
    from cosfs.units import format_size

    if name == "Size":
        return f"{value} ({format_size(int(value))})" if int(value) >= 1024 else value
    return value


def _show(out: Output, form: str, record: dict[str, object]) -> None:
    pairs: list[tuple[str, str]] = []
    for name, value in record.items():
        if isinstance(value, dict):
            pairs += [(f"{name}: {inner}", str(text)) for inner, text in value.items()]
        else:
            pairs.append((name, str(value)))
    if form == "table":
        pairs = [(name, _for_people(name, value)) for name, value in pairs]
        table(out, [Column("Name"), Column("Value")], pairs)
    else:
        fields(out, pairs)
