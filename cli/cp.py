"""`cos cp`: files and objects, up, down, and between buckets."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from .options import SIZE, F, apply, command, complete_places, recursive_option
from .transfer_options import common_options

if TYPE_CHECKING:
    from .copy_options import Options
    from .places import Local, Place
    from .running import Run
    from .singles import SingleCopy
    from .state import State
    from .trees import TreeCopy

copy_options: Callable[[F], F] = apply(
    recursive_option,
    common_options,
    click.option("--no-glob", is_flag=True, help="Take * ? [ ] in a cos:// source as they are."),
)


@command("cp")
@click.argument(
    "places", nargs=-1, required=True, metavar="SOURCE... DESTINATION", shell_complete=complete_places
)
@copy_options
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
    from .first_page import first_object, first_page
    from .places import Local, operation, parse_place
    from .report import Report
    from .running import run_job
    from .selecting import own_files
    from .transfer_options import pop_common, pop_setup

    state: State = ctx.find_root().obj
    if len(places) < 2:
        raise click.UsageError("a destination is missing", ctx)
    setup = pop_setup(state, values)
    common = pop_common(ctx, values)
    common["chosen"] = replace(common["chosen"], own_files=own_files(state, setup.report))
    values["recursive"] = values["recursive"] or common["chosen"].names_files
    options = Options(**common, move=move, **values)
    sources, destination = [parse_place(text) for text in places[:-1]], parse_place(places[-1])
    pairs = options.check(sources, destination)
    to_stdout = isinstance(destination, Local) and _is_stdout(destination)
    if to_stdout:
        state.out.only_errors = True
    report = Report(state, report_file=setup.report, writes_data=to_stdout)

    async def job(run: Run) -> None:
        # One object's size is known before its first byte moves; that of a tree when it is listed.
        run.display.complete = len(pairs) == 1 and not options.recursive
        if len(pairs) > 1 or options.key_policy == "encode":
            run.taken = set()
        for source, target in pairs:
            await _copy(run, options, source, target)

    verbs = {"upload": "uploading", "download": "downloading", "copy": "copying"}
    verb = "moving" if move else verbs[operation(*pairs[0])]
    page = first_page(state, options, *pairs[0]) if options.recursive else None
    single = len(pairs) == 1 and not options.recursive
    found = first_object(state, options, *pairs[0]) if single else None
    # A large download is much as well.
    many = options.recursive or operation(*pairs[0]) == "download"
    return run_job(state, job, report, verb=verb, setup=setup, many=many, first_page=page, first_object=found)


def _is_stdout(place: Local) -> bool:
    """Whether data goes where results go otherwise."""
    if place.is_stream or not os.path.islink(place.path):  # noqa: PTH114 - Path would drop a trailing slash
        return place.is_stream
    from cosfs.transfer.download import own_descriptor

    return own_descriptor(place.path) == 1


async def _copy(run: Run, options: Options, source: Place, destination: Place) -> None:
    """Copy one source as the command line names it."""
    from cosfs.client.url import CosUrl

    from .places import Local, operation

    copying = _copying(options)(run, options, operation(source, destination))
    if isinstance(source, CosUrl):
        source = await copying.resolved(source)
        if options.source_region:
            run.engine.client.know_region(source.bucket, options.source_region)
    if isinstance(destination, CosUrl):
        destination = await copying.resolved(destination)
    if isinstance(source, Local):
        assert isinstance(destination, CosUrl)
        await copying.upload(source, destination)
        return
    if isinstance(destination, CosUrl):
        # Once more with full names: cos://b and cos://b-1250000000 can be one bucket.
        options.check_overlap(source, destination)
        copying.in_place = options.recursive and options.is_in_place(source, destination)
    await copying.fetch(source, destination)


def _copying(options: Options) -> type[TreeCopy] | type[SingleCopy]:
    """Return what copies; the other is not imported."""
    if options.recursive:
        from .trees import TreeCopy

        return TreeCopy
    from .singles import SingleCopy

    return SingleCopy
