"""`cos stat`: one object or bucket in full."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .options import BUCKET_URL, command
from .output import Column, fields, json_text, table, utc_time

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cosfs.client.client import CosClient
    from cosfs.client.model import ObjectInfo, ObjectVersion
    from cosfs.client.url import CosUrl

    from .output import Output
    from .state import State


@command("stat")
@click.argument("urls", type=BUCKET_URL, metavar="cos://BUCKET[/KEY]...", nargs=-1, required=True)
@click.option("--version-id", default="", metavar="ID", help="This version of the object.")
@click.option("--all-versions", is_flag=True, help="All versions of the object, and its delete markers.")
@click.pass_obj
def stat(state: State, urls: tuple[CosUrl, ...], version_id: str, all_versions: bool) -> int:
    """Show all that COS knows of objects or buckets: size, times, headers, metadata, checksums.

    \b
    Examples:
      cos stat cos://bucket/file.txt
      cos stat cos://bucket/file.txt --output json
      cos stat cos://bucket/file.txt --all-versions
    """
    from cosfs.errors import UsageError

    if version_id and all_versions:
        raise UsageError("--version-id names one version, --all-versions all", hint="Leave one of them out")
    if (version_id or all_versions) and not all(url.key for url in urls):
        raise UsageError("a bucket has no versions", hint="Name an object: cos://bucket/key")
    out, form = state.out, state.format
    records: list[dict[str, object]] = []
    for record in _records(state.client, urls, version_id, all_versions=all_versions):
        if form == "jsonl":
            out.line(json_text(record))
        elif form != "json":
            if records and form != "table":
                out.line("")
            _show(out, form, record)
        records.append(record)
    if form == "json":
        out.json(records[0] if len(urls) == 1 and not all_versions else records)
    return 0


def _records(
    client: CosClient, urls: tuple[CosUrl, ...], version_id: str, *, all_versions: bool
) -> Iterator[dict[str, object]]:
    for url in urls:
        bucket = client.resolve_bucket(url.bucket)
        if not url.key:
            found = client.head_bucket(bucket)
            yield {"Bucket": found.name, "Region": found.region}
        elif all_versions:
            yield from _versions(client, bucket, url.key)
        else:
            yield _object(client.head_object(bucket, url.key, version_id=version_id), bucket)


def _versions(client: CosClient, bucket: str, key: str) -> Iterator[dict[str, object]]:
    """Yield all that is known of each version of a key, the newest first."""
    from cosfs.errors import ObjectNotFoundError

    found = False
    for version in _listed(client, bucket, key):
        found = True
        state = {"IsLatest": version.is_latest, "IsDeleteMarker": version.is_delete_marker}
        if version.is_delete_marker:
            known = {"Bucket": bucket, "Key": key, "LastModified": utc_time(version.last_modified)}
            yield {**known, "VersionId": version.version_id, **state}
        else:
            yield _object(client.head_object(bucket, key, version_id=version.version_id), bucket) | state
    if not found:
        raise ObjectNotFoundError(
            "the object does not exist and has no versions", target=f"cos://{bucket}/{key}"
        )


def _listed(client: CosClient, bucket: str, key: str) -> Iterator[ObjectVersion]:
    key_marker = version_id_marker = ""
    while True:
        page = client.list_versions(
            bucket, prefix=key, key_marker=key_marker, version_id_marker=version_id_marker
        )
        for version in page.versions:
            if version.key != key:
                return  # names that only begin like it come later
            yield version
        key_marker, version_id_marker = page.next_key_marker, page.next_version_id_marker
        if not key_marker:
            return


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
