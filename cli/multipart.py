"""`cos multipart`: uploads that were begun and never finished, which are stored and billed all the same."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from .listing import Range, upload_pages
from .options import BUCKET_URL, DURATION, OBJECT_URL, command, dryrun_option, group, recursive_option
from .output import Column, Table, printable, utc_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cosfs.client.model import Upload
    from cosfs.client.url import CosUrl

    from .running import Run
    from .state import State


@group("multipart")
def multipart() -> None:
    """List and abort multipart uploads that were not finished, and list their parts."""


@command("ls")
@click.argument("url", type=BUCKET_URL, metavar="cos://BUCKET[/PREFIX]")
@click.option(
    "--older-than", type=DURATION, default=0.0, metavar="AGE", help="Only those begun so long ago: 12h, 7d."
)
@click.option("--upload-id", default="", metavar="ID", hidden=True, help="As coscli: list the parts of this.")
@click.pass_context
def uploads(ctx: click.Context, /, url: CosUrl, older_than: float, upload_id: str) -> int:
    """List the unfinished uploads below a prefix: when they were begun, their ids and keys.

    \b
    Examples:
      cos multipart ls cos://bucket
      cos multipart ls cos://bucket/videos/ --older-than 7d
    """
    state: State = ctx.find_root().obj
    if upload_id:
        return _parts(state, url, upload_id)
    client = state.client
    bucket = client.resolve_bucket(url.bucket)
    is_old = _older_than(older_than)
    records = (
        {
            "Key": each.key,
            "UploadId": each.upload_id,
            "Initiated": utc_time(each.initiated),
        }
        for page in upload_pages(client, Range(bucket, url.key))
        for each in page.items
        if is_old(each)
    )
    columns = [Column("Initiated"), Column("Upload ID"), Column("Key")]
    return _show(state, "Uploads", columns, records, ("Initiated", "UploadId", "Key"))


@command("parts")
@click.argument("url", type=OBJECT_URL, metavar="cos://BUCKET/KEY")
@click.argument("upload_id", metavar="UPLOAD_ID")
@click.pass_obj
def parts(state: State, url: CosUrl, upload_id: str) -> int:
    """List the parts of one unfinished upload: number, size, ETag.

    \b
    Examples:
      cos multipart parts cos://bucket/video.mp4 1585130821cbb7df1d11846c
    """
    return _parts(state, url, upload_id)


def _parts(state: State, url: CosUrl, upload_id: str) -> int:
    from cosfs.client.model import Upload

    client = state.client
    found = client.list_parts(Upload(client.resolve_bucket(url.bucket), url.key, upload_id))
    records = ({"PartNumber": part.number, "Size": part.size, "ETag": f'"{part.etag}"'} for part in found)
    columns = [Column("Part", right=True), Column("Size", right=True), Column("ETag")]
    return _show(state, "Parts", columns, records, ("PartNumber", "Size", "ETag"))


@command("abort")
@click.argument("url", type=BUCKET_URL, metavar="cos://BUCKET/KEY|PREFIX")
@click.option("--upload-id", default="", metavar="ID", help="This upload of the key alone.")
@click.option(
    "--older-than", type=DURATION, default=0.0, metavar="AGE", help="Only those begun so long ago: 12h, 7d."
)
@recursive_option
@dryrun_option
@click.pass_obj
def abort(state: State, url: CosUrl, upload_id: str, older_than: float, recursive: bool, dryrun: bool) -> int:
    """Abort unfinished uploads of a key or, with --recursive, of all below a prefix.

    Their parts are removed; whoever still sends one of them fails.

    \b
    Examples:
      cos multipart abort cos://bucket/video.mp4
      cos multipart abort cos://bucket --recursive --older-than 7d
    """
    from .report import Report
    from .running import run_job

    if not url.key and not recursive:
        raise click.UsageError(f"{url} is a bucket; add --recursive to abort all uploads below it")
    if upload_id and recursive:
        raise click.UsageError("--upload-id is of one key; leave out --recursive")
    report = Report(state)

    async def job(run: Run) -> None:
        await _abort_all(run, url, upload_id, older_than, recursive=recursive, dryrun=dryrun)

    return run_job(state, job, report, verb="aborting")


async def _abort_all(
    run: Run, url: CosUrl, upload_id: str, older_than: float, *, recursive: bool, dryrun: bool
) -> None:
    from cosfs.errors import COSError

    from .objects import list_uploads

    client = run.state.client
    bucket = await run.engine.run(client.resolve_bucket, url.bucket)

    is_old = _older_than(older_than)
    found = False

    async def wanted() -> AsyncIterator[Upload]:
        nonlocal found
        async for each in list_uploads(run.engine, bucket, url.key):
            if run.stopping:
                return
            if not is_old(each):
                continue
            if not recursive and (each.key != url.key or upload_id not in ("", each.upload_id)):
                continue
            found = True
            if dryrun:
                run.report.would_delete(_name(each))
                continue
            run.display.expect(0)
            yield each

    def on_result(upload: Upload, _: None, error: Exception | None) -> None:
        run.display.finish()
        if error is None:
            run.report.deleted(_name(upload))
        elif isinstance(error, COSError):
            run.report.failure("delete", "", _name(upload), error)
        else:
            raise error

    await run.engine.run_many(client.abort_upload, wanted(), on_result)
    if not found:
        named = f"no upload {printable(upload_id)} of" if upload_id else "no unfinished upload at"
        run.state.out.warn(f"there is {named} {printable(str(url))}")


def _older_than(seconds: float) -> Callable[[Upload], bool]:
    """Return what tells uploads that began so long ago; all did if it is 0."""
    limit = time.time() - seconds
    return lambda upload: not seconds or upload.initiated <= limit


def _name(upload: Upload) -> str:
    return f"cos://{upload.bucket}/{upload.key}?uploadId={upload.upload_id}"


def _show(
    state: State,
    title: str,
    columns: Sequence[Column],
    records: Iterator[dict[str, Any]],
    names: Sequence[str],
) -> int:
    out = state.out
    if state.format == "json":
        out.json({title: list(records)})
        return 0
    if state.format == "jsonl":
        for record in records:
            out.json_line(record)
        return 0
    rows = ([str(record[name]) for name in names] for record in records)
    if state.format == "table":
        drawn = Table(out, columns)
        drawn.rows(rows)
        drawn.end()
    else:
        out.lines("\t".join(printable(cell) for cell in row) for row in rows)
    return 0


for each in (uploads, parts, abort):
    multipart.add_command(each)
