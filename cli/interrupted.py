"""`cos jobs`: large transfers that were interrupted."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import click

from .options import DURATION, dryrun_option, group
from .output import Column, fields, printable, table, utc_time, wide_table

if TYPE_CHECKING:
    from cosfs.transfer.begun import LeftUploads
    from cosfs.transfer.resume import Records
    from cosfs.transfer.resume import State as Job
    from cosfs.transfer.traces import Left

    Leavings = Left | LeftUploads

    from .report import Report
    from .running import Run
    from .state import State

_WEEK = 7 * 86400.0


@group("jobs")
def jobs() -> None:
    """Show, resume and clean up large transfers that were interrupted.

    Uploads, downloads and server copies of objects from 64 MB on are remembered in ~/.cos/resume
    while they run. The same command, or 'cos jobs resume', goes on where they stopped. Of smaller ones,
    and of uploads from a pipe, it is remembered what a killed command leaves, so that it can be cleaned.
    """


@jobs.command("list")
@click.pass_obj
def list_jobs(state: State) -> int:
    """List the jobs: id, kind, how much is done, from where to where.

    Kind `files` is what a killed command left beside the targets of its downloads, `uploads` what it
    left open in COS of uploads in parts that are not gone on with; both can only be cleaned.

    \b
    Examples:
      cos jobs list
      cos jobs list --output json
    """
    records = _records(state)
    found = [_describe(records, job_id, job) for job_id, job in records.all()]
    with _left(records) as left:
        found += [_describe_left(records, each) for each in left]
    if state.format == "json":
        state.out.json({"Jobs": found})
    elif state.format == "jsonl":
        for each in found:
            state.out.json_line(each)
    elif not found:
        state.out.talk("nothing was interrupted")
    elif state.format == "table":
        columns = [Column("ID"), Column("Kind"), Column("State"), Column("Done", right=True)]
        columns += [Column("Changed"), Column("Source"), Column("Destination")]
        wide_table(state.out, columns, [_row(each) for each in found])
    else:
        state.out.lines("\t".join(printable(cell) for cell in _row(each)) for each in found)
    return 0


@jobs.command("show")
@click.argument("job_id", metavar="ID")
@click.pass_obj
def show(state: State, job_id: str) -> int:
    """Show one job. The beginning of its id is enough.

    \b
    Examples:
      cos jobs show 3f2a9c1e
    """
    records = _records(state)
    with _left(records) as left:
        files = _matching(left, job_id)
        if files is not None:
            record = _describe_left(records, files)
        else:
            job_id = records.match(job_id)
            record = _describe(records, job_id, _get(records, job_id))
    if state.format in ("json", "jsonl"):
        state.out.json(record) if state.format == "json" else state.out.json_line(record)
        return 0
    pairs = [(name, str(value)) for name, value in record.items() if value not in ("", None)]
    if state.format == "table":
        table(state.out, [Column("Name"), Column("Value")], pairs)
    else:
        fields(state.out, pairs)
    return 0


@jobs.command("resume")
@click.argument("job_ids", metavar="ID...", nargs=-1, required=True)
@click.pass_obj
def resume(state: State, job_ids: tuple[str, ...]) -> int:
    """Do the rest of jobs, as the command that began them would. The beginning of an id is enough.

    A source that has changed since is transferred from its start. What `cos mv` began is copied, and
    its source is left alone.

    \b
    Examples:
      cos jobs resume 3f2a9c1e
    """
    from cosfs.errors import UsageError

    from .report import Report
    from .running import run_job

    records = _records(state)
    with _left(records) as left:
        for job_id in job_ids:
            if _matching(left, job_id) is not None:
                raise UsageError(
                    f"{job_id} is nothing that can be gone on with: what a killed command left",
                    hint=f"'cos jobs clean {job_id}' removes them",
                )
    wanted = {found: _get(records, found) for found in map(records.match, job_ids)}

    async def job(run: Run) -> None:
        for job_id, each in wanted.items():
            if not run.stopping:
                await _resume(run, job_id, each)

    return run_job(state, job, Report(state), verb="resuming")


async def _resume(run: Run, job_id: str, job: Job) -> None:
    from cosfs.errors import ConfigError, COSError, TransferError
    from cosfs.transfer.jobs import resume as go_on

    if run.engine.records is not None and run.engine.records.is_running(job_id):
        busy = TransferError("a process works on this job now", hint="Wait for its end")
        run.report.failure(job.op, job.source, job.destination, busy)
        return

    run.display.expect(job.size, job.source)
    started = time.monotonic()
    try:
        result = await go_on(run.engine, job, run.display.advance)
    except ConfigError:
        raise
    except (COSError, OSError) as error:
        run.report.failure(job.op, job.source, job.destination, error)
    else:
        run.report.done(job.op, job.source, job.destination, result, time.monotonic() - started)
    run.display.finish()


@jobs.command("clean")
@click.argument("job_ids", metavar="[ID]...", nargs=-1)
@click.option(
    "--older-than", type=DURATION, metavar="AGE", help="Jobs that nothing was done for since (default 7d)."
)
@dryrun_option
@click.pass_obj
def clean(state: State, job_ids: tuple[str, ...], older_than: float | None, dryrun: bool) -> int:
    """Give jobs up: abort their uploads, remove their temporary files and forget them.

    What a killed command has left of downloads and uploads of any size is removed as well.

    Without an id, all that are older than 7 days; --older-than 0s takes all. Jobs that a process works
    on now are left alone.

    \b
    Examples:
      cos jobs clean
      cos jobs clean --older-than 0s
      cos jobs clean 3f2a9c1e
    """
    from cosfs.transfer.traces import Left

    from .report import Report
    from .running import run_job

    if job_ids and older_than is not None:
        raise click.UsageError("give ids or --older-than, not both")
    records = _records(state)
    report = Report(state)
    with _left(records) as left:
        if job_ids:
            named = [_matching(left, each) for each in job_ids]
            files = [each for each in named if each is not None]
            others = [each for each in job_ids if _matching(left, each) is None]
            wanted = {each: _get(records, each) for each in map(records.match, others)}
        else:
            limit = time.time() - (_WEEK if older_than is None else older_than)
            idle = {each: job for each, job in records.all() if not records.is_running(each)}
            wanted = {each: job for each, job in idle.items() if job.updated <= limit}
            files = [each for each in left if each.updated <= limit]
            if younger := len(idle) + len(left) - len(wanted) - len(files):
                state.out.talk(f"younger jobs left alone: {younger}; --older-than 0s takes all")
        if dryrun:
            for each in (*wanted, *(each.id for each in files)):
                report.would_delete(each)
            return report.finish()
        for found in files:
            if isinstance(found, Left):
                _remove_files(report, records, found)
        uploads = [each for each in files if not isinstance(each, Left)]
        given_up: list[str | LeftUploads] = [*wanted, *uploads]

        async def job(run: Run) -> None:
            for each in given_up:
                if not run.stopping:
                    await _discard(run, each)

        return run_job(state, job, report, verb="cleaning") if given_up else report.finish()


@contextmanager
def _left(records: Records) -> Iterator[list[Leavings]]:
    """Lock what killed commands have left: beside the targets of their downloads, and open in COS."""
    from cosfs.transfer.begun import LeftUploads, left_uploads
    from cosfs.transfer.traces import left_behind

    found: list[Leavings] = [*left_behind(records.directory), *left_uploads(records.directory)]
    kept = records.temporaries()
    try:
        yield [each for each in found if isinstance(each, LeftUploads) or each.files(kept)]
    finally:
        for each in found:
            each.close()


def _matching(left: list[Leavings], prefix: str) -> Leavings | None:
    return next((each for each in left if prefix and each.id.startswith(prefix)), None)


def _remove_files(report: Report, records: Records, left: Left) -> None:
    for directory in left.directories:
        try:
            left.clean(directory, records.temporaries())
        except OSError as error:
            report.failure("delete", "", directory, error)
            return
    report.deleted(left.id)


async def _discard(run: Run, wanted: str | LeftUploads) -> None:
    from cosfs.errors import ConfigError, COSError
    from cosfs.transfer.jobs import abort_left, discard

    run.display.expect(0)
    job_id = wanted if isinstance(wanted, str) else wanted.id
    try:
        if isinstance(wanted, str):
            await discard(run.engine, wanted)
        else:
            await abort_left(run.engine, wanted)
    except ConfigError:
        raise
    except (COSError, OSError) as error:
        run.report.failure("delete", "", job_id, error)
    else:
        run.report.deleted(job_id)
    run.display.finish()


def _records(state: State) -> Records:
    from cosfs.transfer.resume import Records

    return Records(state.settings.resume_path)


def _get(records: Records, job_id: str) -> Job:
    from cosfs.errors import UsageError

    job = records.get(job_id)
    if job is None:
        raise UsageError(
            f"the record of job {job_id} cannot be read", hint=f"Remove {records.directory}/{job_id}.json"
        )
    return job


def _describe(records: Records, job_id: str, job: Job) -> dict[str, Any]:
    return {
        "Id": job_id,
        "Kind": job.op,
        "State": "running" if records.is_running(job_id) else "interrupted",
        "Source": job.source,
        "Destination": job.destination,
        "Size": job.size,
        "Done": job.done_bytes,
        "Created": utc_time(job.created),
        "Changed": utc_time(job.updated),
        "UploadId": job.upload_id,
        "TemporaryFile": job.temporary,
    }


def _describe_left(records: Records, left: Leavings) -> dict[str, Any]:
    from cosfs.transfer.traces import Left

    return _describe_files(records, left) if isinstance(left, Left) else _describe_uploads(left)


def _describe_uploads(left: LeftUploads) -> dict[str, Any]:
    names = [f"cos://{each.bucket}/{each.key}" for each in left.uploads]
    ids = [each.upload_id for each in left.uploads]
    return {
        "Id": left.id,
        "Kind": "uploads",
        "State": "interrupted",
        "Source": "",
        "Destination": names[0] if len(names) == 1 else _common(names),
        "Size": 0,
        "Done": 0,
        "Created": utc_time(min(each.since for each in left.uploads)),
        "Changed": utc_time(left.updated),
        "UploadId": ids[0] if len(ids) == 1 else f"{len(ids)} uploads",
        "TemporaryFile": "",
    }


def _common(names: list[str]) -> str:
    """Return the longest prefix that all objects are below."""
    parts = os.path.commonpath([name.rpartition("/")[0] for name in names]).split("/")
    return "/".join(["cos:", "", *parts[1:], ""]) if len(parts) > 1 else "cos://"


def _describe_files(records: Records, left: Left) -> dict[str, Any]:
    files = left.files(records.temporaries())
    sizes = 0
    for path in files:
        with suppress(OSError):
            sizes += os.stat(path).st_blocks * 512  # noqa: PTH116
    return {
        "Id": left.id,
        "Kind": "files",
        "State": "killed",
        "Source": "",
        "Destination": os.path.commonpath([os.path.dirname(path) for path in files]),  # noqa: PTH120
        "Size": sizes,
        "Done": 0,
        "Created": "",
        "Changed": utc_time(left.updated),
        "UploadId": "",
        "TemporaryFile": files[0] if len(files) == 1 else f"{len(files)} files",
    }


def _row(described: dict[str, Any]) -> Sequence[str]:
    from cosfs.units import format_size

    size = described["Size"]
    share = f"{100 * described['Done'] // size if size else 100}% of {format_size(size)}"
    if described["Kind"] == "uploads":
        share = ""  # nobody has counted
    ends = (described["Source"], described["Destination"])
    return (described["Id"][:12], described["Kind"], described["State"], share, described["Changed"], *ends)
