"""`cos bench`: how fast this machine's way to a bucket is, and which settings suit it."""

from __future__ import annotations

import os
import secrets
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import BUCKET_URL, DURATION, SIZE, command
from .output import Column, table

if TYPE_CHECKING:
    from cosfs.client.client import CosClient
    from cosfs.client.url import CosUrl

    from .state import State

_LEVELS = (1, 4, 16, 32, 64)
_LATENCIES = 20
_SMALL = 4096
_PIECE = 8 * 1024 * 1024
# What is not faster by more than this is not worth more requests at a time.
_GAIN = 1.05


@dataclass(frozen=True, slots=True)
class Measured:
    """One row: so many bytes, or requests, with so many requests at a time."""

    what: str
    concurrency: int
    seconds: float
    bytes: int = 0
    requests: int = 0

    @property
    def rate(self) -> float:
        """Bytes, or requests where no bytes count, a second."""
        return (self.bytes or self.requests) / max(self.seconds, 1e-9)


@dataclass(frozen=True, slots=True)
class Options:
    size: int
    time: float
    small: int


@command("bench")
@click.argument("url", type=BUCKET_URL, metavar="cos://BUCKET[/PREFIX]")
@click.option(
    "--size",
    type=SIZE,
    default=256 * 1024 * 1024,
    metavar="SIZE",
    help="Move at most this much in one measurement; default 256MB.",
)
@click.option(
    "--time",
    type=DURATION,
    default=5.0,
    metavar="TIME",
    help="Aim at so long for one measurement; default 5s.",
)
@click.option(
    "--small", type=click.IntRange(1, 10_000), default=200, metavar="N", help="Small objects; default 200."
)
@click.pass_obj
def bench(state: State, /, url: CosUrl, **values: Any) -> int:
    """Measure latency and speed to a bucket, up and down, and suggest settings.

    Objects are written below .cos-bench-… in the prefix, with what that costs, and removed at the end.

    \b
    Examples:
      cos bench cos://bucket/tmp/ --size 16MB --time 1s
    """
    import trio

    from cosfs.errors import UsageError

    options = Options(**values)
    if options.time <= 0 or options.size < _PIECE:
        raise UsageError("--time must be longer than nothing, and --size 8MB at least")
    client = state.client
    bucket = client.resolve_bucket(url.bucket)
    base = url.key if not url.key or url.key.endswith("/") else f"{url.key}/"
    prefix = f"{base}.cos-bench-{secrets.token_hex(4)}/"
    try:
        rows = _latency(client, bucket)
        state.out.talk("measuring with 1, 4, 16, 32 and 64 requests at a time ...")
        with tempfile.TemporaryDirectory(prefix="cos-bench-") as directory:
            rows += trio.run(_Bench(state, bucket, prefix, options, Path(directory)).run)
    finally:
        _clean_up(state, bucket, prefix)
    _show(state, rows)
    return 0


def _latency(client: CosClient, bucket: str) -> list[Measured]:
    took = []
    client.head_bucket(bucket)  # connects
    for _ in range(_LATENCIES):
        began = time.monotonic()
        client.head_bucket(bucket)
        took.append(time.monotonic() - began)
    took.sort()
    return [
        Measured("latency, median", 1, took[len(took) // 2], requests=1),
        Measured("latency, 95 %", 1, took[int(len(took) * 0.95)], requests=1),
    ]


def _clean_up(state: State, bucket: str, prefix: str) -> None:
    """Remove what was written, all versions of it, and uploads that were broken off."""
    from cosfs.client.model import ObjectId
    from cosfs.errors import COSError

    client = state.client
    try:
        while found := client.list_objects(bucket, prefix=prefix).objects:
            if client.delete_objects(bucket, [ObjectId(one.key) for one in found]):
                break
        for upload in client.list_uploads(bucket, prefix=prefix).uploads:
            client.abort_upload(upload)
        while versions := client.list_versions(bucket, prefix=prefix).versions:
            if client.delete_objects(bucket, [ObjectId(one.key, one.version_id) for one in versions]):
                break
    except COSError as error:
        state.out.warn(f"something may be left below cos://{bucket}/{prefix}: {error}")


class _Bench:
    def __init__(self, state: State, bucket: str, prefix: str, options: Options, directory: Path) -> None:
        self._client = state.client
        self._settings = state.settings.transfer
        self._bucket = bucket
        self._prefix = prefix
        self._options = options
        self._directory = directory

    async def run(self) -> list[Measured]:
        rows = []
        size = _PIECE
        for concurrency in _LEVELS:
            up = await self._up(concurrency, size)
            down = await self._down(concurrency, size)
            rows += [up, down]
            # The next level has more to do if this one was done too soon to say much.
            wanted = min(up.rate, down.rate) * self._options.time
            size = max(size, min(self._options.size, int(wanted) // _PIECE * _PIECE))
        rows += await self._small()
        return sorted(rows, key=lambda row: row.what)

    def _limits(self, concurrency: int) -> Any:
        return replace(
            self._settings,
            max_concurrent_requests=concurrency,
            max_small_requests=max(concurrency, self._settings.max_small_requests),
            max_buffer_memory=max(self._settings.max_buffer_memory, 2 * concurrency * 1024 * 1024),
            multipart_threshold=_PIECE,
            resume=False,
        )

    async def _up(self, concurrency: int, size: int) -> Measured:
        from cosfs.transfer.engine import Engine
        from cosfs.transfer.upload import upload_file

        path = self._directory / "up"
        _fill(path, size)
        async with Engine(self._client, self._limits(concurrency)) as engine:
            began = time.monotonic()
            await upload_file(engine, path, self._bucket, f"{self._prefix}{size}")
            return Measured("up", concurrency, time.monotonic() - began, size)

    async def _down(self, concurrency: int, size: int) -> Measured:
        from cosfs.transfer.download import download_file
        from cosfs.transfer.engine import Engine

        path = self._directory / "down"
        async with Engine(self._client, self._limits(concurrency)) as engine:
            began = time.monotonic()
            await download_file(engine, self._bucket, f"{self._prefix}{size}", path)
            took = time.monotonic() - began
        path.unlink()
        return Measured("down", concurrency, took, size)

    async def _small(self) -> list[Measured]:
        from cosfs.transfer.bulk import DownloadJob, Job, UploadJob, transfer_many
        from cosfs.transfer.engine import Engine
        from cosfs.transfer.paths import DestinationRoot

        path = self._directory / "small"
        _fill(path, _SMALL)
        keys = [f"{self._prefix}small/{number}" for number in range(self._options.small)]
        rows = []
        async with Engine(self._client, self._settings) as engine:
            begin = time.monotonic()
            jobs: list[Job] = [UploadJob(str(path), _SMALL, self._bucket, key) for key in keys]
            await transfer_many(engine, jobs, on_result=_done)
            most = self._settings.max_small_requests
            rows.append(Measured("small up", most, time.monotonic() - begin, requests=len(keys)))
            page = await engine.run(
                partial(self._client.list_objects, self._bucket, prefix=f"{self._prefix}small/")
            )
            with DestinationRoot(self._directory / "got") as root:
                jobs = [
                    DownloadJob(self._bucket, info, root.target(info.key.rsplit("/", 1)[1]))
                    for info in page.objects
                ]
                begin = time.monotonic()
                await transfer_many(engine, jobs, on_result=_done)
                rows.append(Measured("small down", most, time.monotonic() - begin, requests=len(jobs)))
        return rows


def _done(_: Any, __: Any, error: Exception | None) -> None:
    if error is not None:
        raise error


def _fill(path: Path, size: int) -> None:
    """Write bytes that nothing on the way can make fewer."""
    piece = os.urandom(min(size, _PIECE))
    with path.open("wb") as file:
        for start in range(0, size, len(piece)):
            file.write(piece[: size - start])


# --- what comes of it


def suggest(rows: Sequence[Measured]) -> int:
    """Return with how many requests at a time it is about as fast as it gets, in both directions."""
    best = 1
    for what in ("up", "down"):
        ways = sorted((row for row in rows if row.what == what), key=lambda row: row.concurrency)
        chosen = ways[0]
        for row in ways[1:]:
            if row.rate > chosen.rate * _GAIN:
                chosen = row
        best = max(best, chosen.concurrency)
    return best


def _show(state: State, rows: list[Measured]) -> None:
    from cosfs.units import format_size

    wanted, now = suggest(rows), state.settings.transfer.max_concurrent_requests
    if state.format in ("json", "jsonl"):
        records = [
            {
                "What": row.what,
                "Concurrency": row.concurrency,
                "Bytes": row.bytes,
                "Requests": row.requests,
                "Seconds": round(row.seconds, 4),
            }
            for row in rows
        ]
        document = {"Measurements": records, "Suggested": {"max_concurrent_requests": wanted}}
        state.out.json(document) if state.format == "json" else state.out.json_line(document)
        return
    shown = []
    for row in rows:
        if row.bytes:
            speed = f"{format_size(int(row.rate))}/s"
        elif row.requests == 1:
            speed = f"{row.seconds * 1000:.1f} ms"
        else:
            speed = f"{row.rate:.0f} objects/s"
        moved = format_size(row.bytes) if row.bytes else str(row.requests)
        shown.append((row.what, str(row.concurrency), moved, speed))
    columns = [Column("What"), *(Column(title, right=True) for title in ("At a time", "Moved", "Speed"))]
    if state.format == "table":
        table(state.out, columns, shown)
    else:
        state.out.lines("\t".join(row) for row in shown)
    if wanted == now:
        state.out.line(f"{now} requests at a time, as now, suit this way.")
    else:
        profile = state.settings.profile
        state.out.line(f"{wanted} requests at a time would suit this way better than {now}:")
        state.out.line(f"cos configure set {profile}.cos.max_concurrent_requests {wanted}")
