"""`cos cat`: objects to standard output."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

import click

from .options import OBJECT_URL, SIZE, command

if TYPE_CHECKING:
    from cosfs.client.url import CosUrl

    from .running import Run
    from .state import State

_RANGE = re.compile(r"(?:bytes=)?(\d*)-(\d*)")


@command("cat")
@click.argument("urls", type=OBJECT_URL, metavar="cos://BUCKET/KEY...", nargs=-1, required=True)
@click.option("--range", "byte_range", metavar="FIRST-LAST", help="These bytes, as in HTTP: 0-99, 100-, -50.")
@click.option("--offset", type=SIZE, metavar="SIZE", help="Begin at this byte.")
@click.option("--count", type=SIZE, metavar="SIZE", help="Write so many bytes.")
@click.option("--version-id", default="", metavar="ID", help="This version of the object.")
@click.pass_obj
def cat(
    state: State,
    urls: tuple[CosUrl, ...],
    byte_range: str | None,
    offset: int | None,
    count: int | None,
    version_id: str,
) -> int:
    """Write objects to standard output, one after the other.

    A whole object is verified; if its checksum is wrong, what is wrong is out already, and the
    exit code is 1.

    \b
    Examples:
      cos cat cos://bucket/file.txt
      cos cat cos://bucket/file.bin --range 0-1023 | od -A d -t x1
    """
    from cosfs.errors import UsageError

    from .report import Report
    from .running import run_job

    if byte_range is not None and (offset is not None or count is not None):
        raise UsageError("--range cannot be used together with --offset or --count")
    if version_id and len(urls) > 1:
        raise UsageError("--version-id is for one object")
    start, stop = _wanted(byte_range, offset, count)
    state.out.only_errors = True
    report = Report(state, writes_data=True)

    async def job(run: Run) -> None:
        for url in urls:
            await _write(run, url, start, stop, version_id)

    return run_job(state, job, report, verb="reading")


def _wanted(byte_range: str | None, offset: int | None, count: int | None) -> tuple[int, int | None]:
    """Return the range asked for, half open; a negative start counts from the end."""
    from cosfs.errors import UsageError

    if byte_range is None:
        start = offset or 0
        return start, None if count is None else start + count
    match = _RANGE.fullmatch(byte_range.strip())
    first, last = match.groups() if match else ("", "")
    if not (first or last) or (first and last and int(last) < int(first)):
        raise UsageError(f"{byte_range!r} is not a range", hint="Write for example 0-99, 100- or -50")
    if not first:
        return -int(last), None
    return int(first), int(last) + 1 if last else None


async def _write(run: Run, url: CosUrl, start: int, stop: int | None, version_id: str) -> None:
    from cosfs.errors import ConfigError, COSError
    from cosfs.transfer.download import download_stream

    from .running import Stdout

    client = run.engine.client
    sink = Stdout()
    try:
        bucket = await run.engine.run(client.resolve_bucket, url.bucket)
        if start < 0:
            info = await run.engine.run(partial(client.head_object, bucket, url.key, version_id=version_id))
            assert info is not None
            start = max(0, info.size + start)
        await download_stream(
            run.engine, bucket, url.key, sink, start=start, stop=stop, version_id=version_id
        )
        sink.flush()
    except ConfigError:
        raise
    except COSError as error:
        sink.flush()
        run.report.failure("cat", "", str(url), error)
