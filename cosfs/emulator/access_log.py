"""Access logs of buckets: what was asked of a bucket, delivered as objects into the bucket that it names.

As on COS a file holds five minutes, and delivery is best effort: records wait in memory, so a crash loses the
last five minutes of them. The fields are those of COS's documentation, in its order.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from cosfs.emulator import messages
from cosfs.emulator.errors import CosError
from cosfs.emulator.reading import value
from cosfs.emulator.records import Bucket, Bytes, Properties, received_bytes
from cosfs.emulator.requestlog import Entry
from cosfs.emulator.store import Store

if TYPE_CHECKING:
    from cosfs.emulator.context import Call

PERIOD = 300
_MOST = 20_000  # records of a bucket that wait in memory; then their file comes early
FIELDS = (
    *("eventVersion", "bucketName", "qcsRegion", "eventTime", "eventSource", "eventName", "remoteIp"),
    *("userSecretKeyId", "reservedField", "reqBytesSent", "deltaDataSize", "reqPath", "reqMethod"),
    *("userAgent", "resHttpCode", "resErrorCode", "resErrorMsg", "resBytesSent", "resTotalTime"),
    *("logSourceType", "storageClass", "accountId", "resTurnAroundTime", "requester", "requestId"),
    *("objectSize", "versionId", "targetStorageClass", "referer", "requestUri"),
)
_STORING = ("PutObject", "AppendObject", "UploadPart")
_PROPERTIES = Properties(headers=json.dumps({"Content-Type": "text/plain"}))


def read_logging(document: bytes) -> tuple[str, str] | None:
    """Return bucket and prefix that log files go to, None if the document switches logging off."""
    enabled = messages.parse(document, "BucketLoggingStatus").find("LoggingEnabled")
    if enabled is None:
        return None
    return value(enabled, "TargetBucket"), (enabled.findtext("TargetPrefix") or "").strip()


class AccessLog:
    """The records of one emulator that are not delivered yet."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._mutex = threading.Lock()
        self._lines: defaultdict[tuple[int, int], list[str]] = defaultdict(list)  # by bucket and period

    @property
    def wanted(self) -> bool:
        """Tell whether any bucket has its requests logged; cheap, since every request asks."""
        return self._store.any_configured("logging")

    def note(self, call: Call, entry: Entry, error: CosError | None) -> None:
        """Keep a record of a request that has ended, if its bucket wants one. Under the lock."""
        if not call.name or self._store.resolve(call.name) != call.name:
            return  # about no bucket, or one that is not there (any more)
        bucket, now = self._store.bucket(call.name), self._store.now()
        if self._store.derived(bucket, "logging", read_logging) is None:
            return
        fields = {**_common(bucket, now), **_of_request(call), **_of_entry(entry)}
        if error is not None:
            fields |= {"resErrorCode": error.code, "resErrorMsg": error.message}
        line = " ".join(_written(fields.get(name)) for name in FIELDS)
        with self._mutex:
            lines = self._lines[bucket.id, now - now % PERIOD]
            lines.append(line)
        if len(lines) == _MOST:
            self._store.on_work()

    def deliver(self, lock: AbstractContextManager[Any], *, everything: bool = False) -> int:
        """Write the files of the periods that are over, or of all; return how many."""
        now = self._store.now()
        with self._mutex:
            due = [
                place
                for place, lines in self._lines.items()
                if everything or place[1] + PERIOD <= now or len(lines) >= _MOST
            ]
            files = {place: self._lines.pop(place) for place in sorted(due)}
        written = 0
        for (bucket, start), lines in files.items():
            content = self._content(lines)
            with lock:
                written += self._write(self._store.bucket_of(bucket), start, content)
        return written

    def _content(self, lines: Iterable[str]) -> Bytes:
        receiver = self._store.files.receive()
        receiver.write("".join(line + "\n" for line in lines).encode())
        return received_bytes(receiver.finish())

    def _write(self, bucket: Bucket | None, start: int, content: Bytes) -> bool:
        target = self._store.derived(bucket, "logging", read_logging) if bucket is not None else None
        if target is None or self._store.resolve(target[0]) != target[0]:
            for piece in content.pieces:
                if piece.file:
                    self._store.files.remove(piece.file)
            return False
        day, clock = (
            time.strftime("%Y/%m/%d", time.gmtime(start)),
            time.strftime("%Y%m%d%H%M%S", time.gmtime(start)),
        )
        key = f"{target[1]}{day}/{clock}_{secrets.token_hex(8)}_000"
        self._store.put(self._store.bucket(target[0]), key, content, _PROPERTIES)
        return True


def _common(bucket: Bucket, now: int) -> dict[str, object]:
    return {
        "eventVersion": "1.0",
        "bucketName": bucket.name,
        "qcsRegion": bucket.region,
        "eventTime": messages.iso_time_short(now),
        "logSourceType": "USER",
    }


def _of_request(call: Call) -> dict[str, object]:
    asking, known = call.principal, call.identity.secret_id
    return {
        "eventSource": call.host.partition(":")[0],
        "userSecretKeyId": known,
        "accountId": call.owner.uin,
        "requester": f"{asking.account}:{asking.uin}" if known else "",
        "reqPath": "/" + quote(call.key),
        "userAgent": call.headers.get("user-agent"),
        "referer": call.headers.get("referer"),
        "versionId": call.parameters.get("versionid"),
        "storageClass": call.headers.get("x-cos-storage-class", "STANDARD" if call.key else ""),
        "targetStorageClass": call.headers.get("x-cos-storage-class") if "Copy" in call.operation else "",
    }


def _of_entry(entry: Entry) -> dict[str, object]:
    stored = entry.received if entry.operation in _STORING and entry.status == 200 else 0
    whole = {"PutObject": entry.received, "GetObject": entry.sent}.get(entry.operation)
    return {
        "eventName": entry.operation,
        "remoteIp": entry.client.rpartition(":")[0],
        "reqMethod": entry.method.lower(),
        "reqBytesSent": entry.received,
        "deltaDataSize": stored,
        "resHttpCode": entry.status,
        "resBytesSent": entry.sent,
        "resTotalTime": round(entry.ms),
        "resTurnAroundTime": round(entry.ms),
        "requestId": entry.request_id,
        "objectSize": whole if entry.status == 200 else None,
        "requestUri": entry.target,
    }


def _written(value: object) -> str:
    """Write a field so that blanks and line ends in it do not look like those between fields."""
    return quote(str(value), safe="/:;,.()*?=&@+~!$'[]{}<>|%") if value not in (None, "") else "-"
