"""Checksums of files and objects of any size, read as little as possible."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from functools import partial
from typing import Any

from cosfs.client.body import FileBody
from cosfs.client.crc64 import crc64
from cosfs.client.model import ObjectInfo
from cosfs.records import dataclass
from cosfs.transfer.engine import LARGE, Engine
from cosfs.transfer.options import DEFAULTS, TransferOptions
from cosfs.transfer.readahead import download_stream
from cosfs.transfer.receive import Source, tells_md5
from cosfs.transfer.upload import open_regular
from cosfs.transfer.work import Meter, MeteredFile, Progress

__all__ = ["ALGORITHMS", "Sums", "hash_file", "hash_object"]

ALGORITHMS = ("crc64", "md5", "sha1", "sha256")


@dataclass(frozen=True, slots=True)
class Sums:
    """Checksums by algorithm, CRC64 in decimal as COS has it; known_from says `stored`, `etag` or `read`."""

    size: int
    values: dict[str, str]
    known_from: dict[str, str]


class _Hasher:
    """Computes several checksums in one pass; a stream to write to."""

    def __init__(self, algorithms: Sequence[str]) -> None:
        self._crc: int | None = 0 if "crc64" in algorithms else None
        self._others: dict[str, Any] = {
            name: hashlib.new(name, usedforsecurity=False) for name in algorithms if name != "crc64"
        }
        self.size = 0

    def write(self, data: memoryview, /) -> int:
        for hashing in self._others.values():
            hashing.update(data)
        if self._crc is not None:
            self._crc = crc64(data, self._crc)
        self.size += len(data)
        return len(data)

    def sums(self) -> dict[str, str]:
        found = {name: hashing.hexdigest() for name, hashing in self._others.items()}
        return found if self._crc is None else {"crc64": str(self._crc), **found}


async def hash_file(
    engine: Engine, path: str, algorithms: Sequence[str], progress: Progress | None = None
) -> Sums:
    """Compute the checksums of a local file in one pass."""
    return await engine.run(_hash_file, engine, path, algorithms, progress, kind=LARGE)


def _hash_file(engine: Engine, path: str, algorithms: Sequence[str], progress: Progress | None) -> Sums:
    hasher = _Hasher(algorithms)
    fd = open_regular(path)
    try:
        meter = Meter(engine, progress)
        body: FileBody = MeteredFile(fd, 0, os.fstat(fd).st_size, meter)
        for chunk in body.chunks():
            hasher.write(chunk)
        meter.flush()
    finally:
        os.close(fd)
    return Sums(hasher.size, hasher.sums(), dict.fromkeys(algorithms, "read"))


async def hash_object(
    engine: Engine,
    bucket: str,
    key: str,
    algorithms: Sequence[str],
    *,
    version_id: str = "",
    progress: Progress | None = None,
    options: TransferOptions = DEFAULTS,
) -> Sums:
    """Return the checksums of an object: those COS has from a HEAD, the others by reading it."""
    head = partial(engine.client.head_object, version_id=version_id, headers=options.key_headers)
    info = await engine.run(head, bucket, key)
    assert info is not None
    values = _stored(Source(bucket, key, info, version_id, options), info)
    known = {name: "stored" if name == "crc64" else "etag" for name in values}
    missing = [name for name in algorithms if name not in values]
    if missing:
        hasher = _Hasher(missing)
        await download_stream(
            engine, bucket, key, hasher, info=info, version_id=version_id, progress=progress, options=options
        )
        values |= hasher.sums()
        known |= dict.fromkeys(missing, "read")
    elif progress is not None:
        progress(info.size)
    return Sums(info.size, {name: values[name] for name in algorithms}, {n: known[n] for n in algorithms})


def _stored(source: Source, info: ObjectInfo) -> dict[str, str]:
    found = {}
    if info.crc64 is not None:
        found["crc64"] = str(info.crc64)
    if tells_md5(source, info):
        found["md5"] = info.etag.lower()
    return found
