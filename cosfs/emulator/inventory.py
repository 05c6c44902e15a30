"""Inventories: lists of all objects as CSV files with a manifest, made by the clock or once."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import time
from collections.abc import Iterator
from typing import IO, cast
from urllib.parse import quote

from cosfs.emulator.context import Emulation
from cosfs.emulator.inventory_rules import ONCE, InventoryRules, read_inventory
from cosfs.emulator.messages import iso_time
from cosfs.emulator.records import Bucket, Properties, Version, inline_bytes, received_bytes
from cosfs.emulator.scan import Scan

_VERSION_FIELDS = ("VersionId", "IsLatest", "IsDeleteMarker")
_BATCH = 1000  # rows that are formatted at once


class Inventory:
    """Makes the inventories of one emulator."""

    def __init__(self, emulation: Emulation, scan: Scan) -> None:
        self._store, self._appid = emulation.store, emulation.appid
        self._scan = scan

    def run(self) -> int:
        """Make all lists that are due; return how many."""
        made = 0
        for bucket, rules, name in self._due():
            self._make(bucket, rules)
            with self._scan.lock:
                if name == ONCE:
                    self._store.delete_setting(bucket, ONCE, rules.id)
                self._store.set_run(bucket, name, rules.id)
            made += 1
        return made

    def _due(self) -> list[tuple[Bucket, InventoryRules, str]]:
        store, due = self._store, []
        with self._scan.lock:
            for bucket in store.configured_buckets(ONCE):
                due += [
                    (bucket, read_inventory(text, once=True), ONCE) for text in store.settings(bucket, ONCE)
                ]
            for bucket in store.configured_buckets("inventory"):
                for text in store.settings(bucket, "inventory"):
                    rules = read_inventory(text)
                    last = store.last_run(bucket, "inventory", rules.id)
                    if last is None:
                        store.set_run(bucket, "inventory", rules.id)
                    elif rules.enabled and rules.next_run(last) <= store.now():
                        due.append((bucket, rules, "inventory"))
        return due

    def _make(self, bucket: Bucket, rules: InventoryRules) -> None:
        now = self._store.now()
        schema = ["Appid", "Bucket", "Key", *(_VERSION_FIELDS if rules.all_versions else ()), *rules.fields]
        short = bucket.name.rpartition("-")[0]
        counted = _Counted()
        receiver = self._store.files.receive()
        try:
            with gzip.GzipFile("", "wb", 6, cast(IO[bytes], receiver), mtime=0) as packed:
                for rows in self._rows(bucket, rules, counted):
                    packed.write(_csv([[self._appid, short, *row] for row in rows]))
        except BaseException:
            receiver.discard()
            raise
        listed = receiver.finish()
        start = "/".join(
            part for part in (rules.target_prefix.strip("/"), self._appid, short, rules.id) if part
        )
        key = f"{start}/{listed.md5.hex()}.csv.gz"
        manifest = _manifest(self._appid, short, rules, schema, counted, key, listed.size, listed.md5.hex())
        folder = f"{start}/{time.strftime('%Y%m%d', time.gmtime(now))}"
        with self._scan.lock:
            if self._store.resolve(rules.target) != rules.target:
                receiver.discard()
                return
            target = self._store.bucket(rules.target)
            self._store.put(target, key, received_bytes(listed), _typed("application/gzip"))
            self._store.put(
                target, f"{folder}/manifest.json", inline_bytes(manifest), _typed("application/json")
            )
            checksum = hashlib.md5(manifest, usedforsecurity=False).hexdigest().encode()
            self._store.put(
                target, f"{folder}/manifest.checksum", inline_bytes(checksum), _typed("text/plain")
            )

    def _rows(self, bucket: Bucket, rules: InventoryRules, counted: _Counted) -> Iterator[list[list[str]]]:
        rows: list[list[str]] = []
        for row, latest in self._versions(bucket, rules):
            counted.listed(row)
            if not set(rules.tags) <= {(name, value) for name, value in json.loads(row.tags or "[]")}:
                continue
            counted.filtered(row)
            rows.append(_row(row, latest, rules))
            if len(rows) == _BATCH:
                yield rows
                rows = []
        yield rows

    def _versions(self, bucket: Bucket, rules: InventoryRules) -> Iterator[tuple[Version, bool]]:
        if not rules.all_versions:
            return ((row, True) for row in self._scan.current(bucket, rules.prefix))
        return ((row, newer is None) for row, newer in self._scan.versions(bucket, rules.prefix))


class _Counted:
    """How much was seen, and how much of it is in the list."""

    def __init__(self) -> None:
        self.seen = self.seen_bytes = self.kept = self.kept_bytes = 0

    def listed(self, row: Version) -> None:
        self.seen += 1
        self.seen_bytes += row.size

    def filtered(self, row: Version) -> None:
        self.kept += 1
        self.kept_bytes += row.size


def _row(row: Version, latest: bool, rules: InventoryRules) -> list[str]:
    cells = [quote(row.key)]
    if rules.all_versions:
        cells += [row.version, str(latest).lower(), str(bool(row.marker)).lower()]
    return [*cells, *(_cell(row, field) for field in rules.fields)]


def _cell(row: Version, field: str) -> str:
    match field:
        case "Size":
            return str(row.size)
        case "LastModifiedDate":
            return iso_time(row.modified)
        case "ETag":
            return row.etag
        case "StorageClass":
            return row.storage_class
        case "IsMultipartUploaded":
            return str("-" in row.etag).lower()
        case "ReplicationStatus":
            return row.replication
        case "Tag":
            return "&".join(f"{quote(name)}={quote(value)}" for name, value in json.loads(row.tags or "[]"))
        case "Crc64":
            return row.crc64
    headers = {name.lower(): value for name, value in json.loads(row.headers).items()}
    return "&".join(
        f"{name}={quote(value)}" for name, value in headers.items() if name.startswith("x-cos-meta-")
    )


def _csv(rows: list[list[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8", "surrogateescape")


def _manifest(
    appid: str, source: str, rules: InventoryRules, schema: list[str], counted: _Counted, key: str, size: int,
    md5: str,
) -> bytes:  # fmt: skip
    content = {
        "sourceAppid": appid,
        "sourceBucket": source,
        "destinationAppid": rules.target.rpartition("-")[2],
        "destinationBucket": rules.target.rpartition("-")[0],
        "fileFormat": "CSV",
        "listObjectCount": str(counted.seen),
        "listStorageSize": str(counted.seen_bytes),
        "filterObjectCount": str(counted.kept),
        "filterStorageSize": str(counted.kept_bytes),
        "fileSchema": ", ".join(schema),
        "files": [{"key": key, "size": str(size), "md5Checksum": md5}],
    }
    return json.dumps(content, indent=1).encode()


def _typed(content_type: str) -> Properties:
    return Properties(headers=json.dumps({"Content-Type": content_type}))
