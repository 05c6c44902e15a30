"""`cos rb`: remove a bucket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import click

from .deleting import tell_deleted
from .options import BUCKET_URL, command, dryrun_option

if TYPE_CHECKING:
    from cosfs.client.model import ObjectId
    from cosfs.client.url import CosUrl

    from .report import Report
    from .running import Run
    from .state import State


_MOST_COUNTED = 20_000  # more takes too long for a question


@command("rb")
@click.argument("url", type=BUCKET_URL, metavar="cos://BUCKET")
@click.option(
    "--force",
    is_flag=True,
    help="First remove all objects, old versions and unfinished uploads. Somebody at a terminal is asked.",
)
@click.option("--all-versions", is_flag=True, help="The same, and a script has to say --yes too.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@dryrun_option
@click.pass_obj
def rb(state: State, url: CosUrl, force: bool, all_versions: bool, yes: bool, dryrun: bool) -> int:
    """Remove a bucket, which must be empty unless --force is given.

    \b
    Examples:
      cos rb cos://bucket
      cos rb cos://bucket --force
      cos rb cos://bucket --force --dryrun
    """
    from cosfs.errors import COSError, UsageError

    from .report import Report

    if url.key:
        raise UsageError(f"{url} names an object", hint=f"Use: cos rm {url}")
    bucket = state.client.resolve_bucket(url.bucket)
    report = Report(state)
    if force or all_versions:
        state.client.head_bucket(bucket)  # what is wrong with the bucket itself is said before anything else
        if not (yes or dryrun):
            _ask(state, bucket, needs_answer=not force)
        code = _empty(state, bucket, report, dryrun=dryrun)
        if code:
            return report.finish(code)
    if dryrun:
        if not (force or all_versions):
            _check_empty(state, bucket)
        report.would_set("remove_bucket", bucket)
        return report.finish()
    try:
        state.client.delete_bucket(bucket)
    except COSError as error:
        report.finish(error.exit_code)
        raise
    report.bucket("remove_bucket", bucket)
    return report.finish()


def _ask(state: State, bucket: str, *, needs_answer: bool) -> None:
    """Say how much goes away and ask; without a terminal --force is answer enough."""
    from .prompt import confirm, somebody_is_there

    if not (state.may_ask and somebody_is_there()):
        if needs_answer:
            confirm(state, f"Remove the bucket {bucket} and everything in it, old versions too?")
        return
    versions, more = _count_versions(state, bucket)
    page = state.client.list_uploads(bucket)
    uploads = f"{len(page.uploads):,}{' or more' if page.next_key_marker else ''}"
    counted = f"{versions:,}{' or more' if more else ''} objects and old versions"
    confirm(state, f"Remove the bucket {bucket} with {counted} and {uploads} unfinished uploads?")


def _count_versions(state: State, bucket: str) -> tuple[int, bool]:
    """Count objects, old versions and delete markers; return whether there are more than were counted."""
    count, key_marker, version_id_marker = 0, "", ""
    while count < _MOST_COUNTED:
        page = state.client.list_versions(bucket, key_marker=key_marker, version_id_marker=version_id_marker)
        count += len(page.versions)
        key_marker, version_id_marker = page.next_key_marker, page.next_version_id_marker
        if not key_marker:
            return count, False
    return count, True


def _check_empty(state: State, bucket: str) -> None:
    """Fail as COS would, which removes empty buckets only."""
    from cosfs.errors import BucketNotEmptyError

    if state.client.list_versions(bucket, max_keys=1).versions or state.client.list_uploads(bucket).uploads:
        raise BucketNotEmptyError(
            "the bucket is not empty",
            target=f"cos://{bucket}",
            hint="It may hold old versions or unfinished uploads too; cos rb --force removes all",
        )


def _empty(state: State, bucket: str, report: Report, *, dryrun: bool) -> int:
    """Remove all versions, delete markers and uploads; return the exit code."""
    from .running import run_job

    async def job(run: Run) -> None:
        await _delete_versions(run, bucket, dryrun=dryrun)
        await _abort_uploads(run, bucket, dryrun=dryrun)

    return run_job(state, job, report, verb="emptying", finish=False)


async def _delete_versions(run: Run, bucket: str, *, dryrun: bool) -> None:
    from cosfs.client.model import ObjectId
    from cosfs.transfer.delete import delete_many

    from .objects import list_versions

    async def everything() -> AsyncIterator[ObjectId]:
        async for version in list_versions(run.engine, bucket, ""):
            if run.stopping:
                return
            if dryrun:
                run.report.would_delete(f"cos://{bucket}/{version.key}", version.version_id)
                continue
            run.display.expect(0)
            yield ObjectId(version.key, version.version_id)

    await delete_many(run.engine, bucket, everything(), on_result=tell_deleted(run, bucket))


async def _abort_uploads(run: Run, bucket: str, *, dryrun: bool) -> None:
    from .objects import list_uploads

    async for upload in list_uploads(run.engine, bucket):
        if run.stopping:
            return
        if dryrun:
            run.report.would_change("abort", f"cos://{bucket}/{upload.key} ({upload.upload_id})")
        else:
            await run.engine.run(run.state.client.abort_upload, upload)
