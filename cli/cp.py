"""`cos cp`: files and objects, up, down, and between buckets."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from .headers import header_options, pop_headers
from .options import (
    RATE,
    SIZE,
    F,
    apply,
    command,
    dryrun_option,
    pop_selection,
    recursive_option,
    selection_options,
)

if TYPE_CHECKING:
    from .copy_options import Options
    from .places import Place
    from .running import Run
    from .state import State

transfer_options: Callable[[F], F] = apply(
    recursive_option,
    dryrun_option,
    selection_options,
    header_options,
    click.option(
        "--metadata-directive",
        type=click.Choice(["COPY", "REPLACE"], case_sensitive=False),
        help="Between buckets: keep the source's metadata, or take only what the options say.",
    ),
    click.option("--no-overwrite", is_flag=True, help="Leave what exists at the destination alone."),
    click.option(
        "--key-policy",
        type=click.Choice(["skip", "error", "encode"]),
        default="skip",
        help="What to do with keys no path can have (.., //): skip (default), fail, or percent-encode.",
    ),
    click.option("--no-glob", is_flag=True, help="Take * ? [ ] in a cos:// source as they are."),
    click.option(
        "--follow-symlinks/--no-follow-symlinks", default=True, help="Upload what links point to (default)."
    ),
    click.option("--keep-dirs", is_flag=True, help="Upload empty directories as objects that end in /."),
    click.option(
        "--concurrency", type=click.IntRange(1, 1024), metavar="N", help="Requests at the same time."
    ),
    click.option("--part-size", type=SIZE, metavar="SIZE", help="Parts of large files; raised where needed."),
    click.option("--max-bandwidth", type=RATE, metavar="RATE", help="Bytes a second of the whole command."),
    click.option("--report", metavar="FILE", help="Write every result to FILE, one JSON object a line."),
)


@command("cp")
@click.argument("places", nargs=-1, required=True, metavar="SOURCE... DESTINATION")
@transfer_options
@click.option("--version-id", default="", metavar="ID", help="Copy this version of the source object.")
@click.option(
    "--expected-size", type=SIZE, default=0, metavar="SIZE", help="Size of standard input, if known."
)
@click.pass_context
def cp(ctx: click.Context, /, places: tuple[str, ...], **values: Any) -> int:
    """Copy files and objects. One side at least is in COS; - is standard input or output.

    A destination that ends in / (or is a bucket, or an existing directory) takes the name of the
    source; any other is the new name. With --recursive, what is below the source goes below the
    destination. Every transfer is verified, and a file appears whole or not at all.

    \b
    Examples:
      cos cp file.txt cos://bucket/path/file.txt
      cos cp ./dir/ cos://bucket/path/ --recursive --exclude "*.tmp"
      cos cp cos://bucket/path/ ./local/ --recursive
      cos cp cos://bucket1/file cos://bucket2/file
      cos cp 'cos://bucket/logs/*.gz' ./logs/
      tar cz dir | cos cp - cos://bucket/dir.tar.gz
    """
    return start(ctx, places, values, move=False)


def start(ctx: click.Context, places: tuple[str, ...], values: dict[str, Any], *, move: bool) -> int:
    """Check the command line of cp or mv as a whole, then run it."""
    from .copy_options import Options
    from .places import Local, operation, parse_place
    from .report import Report
    from .running import run_job, transfer_settings

    state: State = ctx.find_root().obj
    if len(places) < 2:
        raise click.UsageError("a destination is missing", ctx)
    settings = transfer_settings(
        state,
        concurrency=values.pop("concurrency"),
        part_size=values["part_size"],
        max_bandwidth=values.pop("max_bandwidth"),
    )
    report_file = values.pop("report")
    chosen = pop_selection(ctx, values)
    values["recursive"] = values["recursive"] or chosen.names_files
    options = Options(chosen=chosen, choice=pop_headers(values), move=move, **values)
    sources, destination = [parse_place(text) for text in places[:-1]], parse_place(places[-1])
    pairs = options.check(sources, destination)
    if isinstance(destination, Local) and destination.is_stream:
        state.out.only_errors = True
    report = Report(state, report_file=report_file)

    async def job(run: Run) -> None:
        # One object's size is known before its first byte moves; that of a tree when it is listed.
        run.display.complete = len(pairs) == 1 and not options.recursive
        for source, target in pairs:
            await _copy(run, options, source, target)

    verbs = {"upload": "uploading", "download": "downloading", "copy": "copying"}
    verb = "moving" if move else verbs[operation(*pairs[0])]
    return run_job(state, job, report, verb=verb, settings=settings)


async def _copy(run: Run, options: Options, source: Place, destination: Place) -> None:
    """Copy one source as the command line names it."""
    from cosfs.client.url import CosUrl

    from .places import Local, operation
    from .singles import SingleCopy
    from .trees import TreeCopy

    way = operation(source, destination)
    copying = TreeCopy(run, options, way) if options.recursive else SingleCopy(run, options, way)
    if isinstance(source, CosUrl):
        source = await copying.resolved(source)
    if isinstance(destination, CosUrl):
        destination = await copying.resolved(destination)
    if isinstance(source, Local):
        assert isinstance(destination, CosUrl)
        await copying.upload(source, destination)
        return
    if isinstance(destination, CosUrl):
        # Once more with full names: cos://b and cos://b-1250000000 can be one bucket.
        options.check_overlap(source, destination)
    await copying.fetch(source, destination)
