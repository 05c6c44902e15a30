"""`cos sync`: make the destination like the source, sending only what differs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from .options import command, complete_places
from .sync_options import comparing_options, deleting_options, watching_options
from .transfer_options import common_options

if TYPE_CHECKING:
    from .places import Place
    from .running import Run
    from .state import State
    from .sync_options import Options


@command("sync")
@click.argument("source", metavar="SOURCE", shell_complete=complete_places)
@click.argument("destination", metavar="DESTINATION", shell_complete=complete_places)
@comparing_options
@deleting_options
@watching_options
@common_options
@click.option("--recursive", "-r", is_flag=True, hidden=True, expose_value=False)  # coscli asks for it
@click.pass_context
def sync(ctx: click.Context, /, source: str, destination: str, **values: Any) -> int:
    """Make what is below the destination like what is below the source: up, down, or between buckets.

    Sent is what the destination lacks, what has another size, and what is newer at the source, unless
    an ETag shows that its content is the same. Nothing is deleted without --delete.

    \b
    Examples:
      cos sync ./local/ cos://bucket/path/
      cos sync cos://bucket/path/ ./local/ --delete --dryrun
      cos sync cos://bucket1/path/ cos://bucket2/path/ --checksum
      cos sync ./site/ cos://bucket/ --delete --max-delete 5% --exclude "*.tmp"
    """
    from .first_page import first_page
    from .places import operation, parse_place
    from .report import Report
    from .running import run_job
    from .selecting import own_files
    from .sync_options import Options
    from .transfer_options import pop_common, pop_setup

    state: State = ctx.find_root().obj
    setup = pop_setup(state, values)
    common = pop_common(ctx, values)
    own = own_files(state, setup.report, values["snapshot"])
    common["chosen"] = replace(common["chosen"], own_files=own)
    options = Options(**common, move=False, **values)
    places = parse_place(source), parse_place(destination)
    options.check(*places)
    report = Report(state, report_file=setup.report)

    async def job(run: Run) -> None:
        await _sync(run, options, *places)

    verbs = {"upload": "uploading", "download": "downloading", "copy": "copying"}
    ahead = None
    if not options.watch:
        ahead = first_page(state, options, *places) or first_page(state, options, *reversed(places))
    return run_job(
        state, job, report, verb=verbs[operation(*places)], setup=setup, many=True, first_page=ahead
    )


async def _sync(run: Run, options: Options, source: Place, destination: Place) -> None:
    from cosfs.client.url import CosUrl

    from .places import operation
    from .syncing import SyncCopy

    copying = SyncCopy(run, options, operation(source, destination))
    if isinstance(source, CosUrl):
        source = await copying.resolved(source)
    if isinstance(destination, CosUrl):
        destination = await copying.resolved(destination)
    # Once more with full names: cos://b and cos://b-1250000000 can be one bucket.
    options.check_overlap(source, destination)
    await copying.sync(source, destination)
