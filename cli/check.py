"""`cos check`: compare two trees, wherever they are."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import command, complete_places, pop_selection, selection_options
from .places import (
    Local,
    Place,
    as_prefix,
    destination_key,
    destination_path,
    name_of,
    parse_place,
)

if TYPE_CHECKING:
    from cosfs.transfer.check import Finding
    from cosfs.transfer.sides import Entry, Problem, TreeSide

    from .running import Run
    from .selecting import Chosen
    from .state import State


@dataclass(frozen=True, slots=True)
class Options:
    chosen: Chosen
    size_only: bool
    one_way: bool
    download: bool
    encoded_names: bool
    follow_symlinks: bool
    one_file_system: bool


@command("check")
@click.argument("source", metavar="SOURCE", shell_complete=complete_places)
@click.argument("destination", metavar="DESTINATION", shell_complete=complete_places)
@selection_options
@click.option("--size-only", is_flag=True, help="Compare sizes, not contents.")
@click.option("--one-way", is_flag=True, help="Do not mind what only the destination has.")
@click.option("--download", is_flag=True, help="Read everything and compare every byte.")
@click.option(
    "--key-policy",
    type=click.Choice(["skip", "encode"]),
    default="skip",
    help="encode: local names were percent-encoded by a transfer with this option.",
)
@click.option("--follow-symlinks/--no-follow-symlinks", default=True, help="Compare what links point to.")
@click.option("--one-file-system", is_flag=True, help="Do not go into directories on other filesystems.")
@click.option("--concurrency", type=click.IntRange(1, 1024), metavar="N", help="Comparisons at a time.")
@click.option("--report", metavar="FILE", help="Write every difference to FILE, one JSON object a line.")
@click.pass_context
def check(ctx: click.Context, /, source: str, destination: str, **values: Any) -> int:
    """Compare what is below two places, in COS or here, without changing anything.

    Contents of equal size are compared by ETag, or by the CRC64 that COS keeps. Exit code 1 if
    anything is missing at the destination, is there alone, or differs.

    \b
    Examples:
      cos check ./local/ cos://bucket/path/
      cos check cos://bucket1/path/ cos://bucket2/path/ --one-way
      cos check ./backup/ cos://bucket/backup/ --download
    """
    from .progress import Style
    from .report import Report
    from .running import run_job
    from .selecting import own_files
    from .transfer_options import Setup

    state: State = ctx.find_root().obj
    settings = state.settings.transfer
    if concurrency := values.pop("concurrency"):
        settings = replace(settings, max_concurrent_requests=concurrency)
    setup = Setup(settings, values.pop("report"), Style(), False, False)
    chosen = replace(pop_selection(ctx, values), own_files=own_files(state, setup.report))
    options = Options(chosen=chosen, encoded_names=values.pop("key_policy") == "encode", **values)
    places = parse_place(source), parse_place(destination)
    _check_places(*places, options)
    report = Report(state, report_file=setup.report, compares=True)

    async def job(run: Run) -> None:
        await _Checking(run, options).run(*places)

    return run_job(state, job, report, verb="comparing", setup=setup)


def _check_places(source: Place, destination: Place, options: Options) -> None:
    from cosfs.errors import UsageError

    for place in (source, destination):
        if isinstance(place, Local):
            if place.is_stream:
                raise UsageError("- is a stream, and check compares files", hint="Use cos hash")
            if not os.path.exists(place.path):  # noqa: PTH110 - Path would drop a trailing slash
                raise UsageError(f"{place}: no such file or directory")
        elif not place.bucket:
            raise UsageError("cos:// names no bucket", hint="Write cos://bucket/key")
    options.chosen.below(source)


class _Checking:
    """One comparison, reported as it goes."""

    def __init__(self, run: Run, options: Options) -> None:
        self._run = run
        self._engine = run.engine
        self._report = run.report
        self._options = options
        self._target = ""  # of one file or object

    async def run(self, source: Place, destination: Place) -> None:
        """Compare two places."""
        from cosfs.transfer.check import CheckOptions, check

        options = self._options
        selector = options.chosen.below(source, destination)
        source, destination = await self._resolved(source), await self._resolved(destination)
        pair = await self._pair(source, destination)
        if pair is None:
            self._one, self._other = self._side(source), self._side(destination)
        asked = CheckOptions(selector, options.size_only, options.download, options.one_way)
        await check(self._engine, self._one, self._other, asked, self, pair)
        self._run.display.complete = True
        if not (self._report.unchanged or self._report.different or self._report.total):
            self._run.state.out.warn(f"nothing to compare below {source} and {destination}")

    async def _resolved(self, place: Place) -> Place:
        if isinstance(place, Local):
            return place
        name = await self._engine.run(self._engine.client.resolve_bucket, place.bucket)
        return replace(place, bucket=name)

    def _side(self, place: Place) -> TreeSide:
        from cosfs.transfer.sides import BucketSide, LocalSide

        if not isinstance(place, Local):
            return BucketSide(self._engine, place.bucket, as_prefix(place.key))
        return LocalSide(
            place.path,
            symlinks="follow" if self._options.follow_symlinks else "skip",
            one_filesystem=self._options.one_file_system,
            encoded_names=self._options.encoded_names,
        )

    # --- one file or object

    async def _pair(self, source: Place, destination: Place) -> tuple[Entry | None, Entry | None] | None:
        """Return the entries of two single files or objects; None if the source is a tree."""
        one = await self._single(source)
        if one is None:
            return None
        if isinstance(destination, Local):
            destination = Local(destination_path(name_of(source), destination.path))
        else:
            destination = replace(destination, key=destination_key(name_of(source), destination))
        self._target = str(destination)
        self._one, self._other = self._parent(source), self._parent(destination)
        return one, await self._single(destination)

    def _parent(self, place: Place) -> TreeSide:
        if isinstance(place, Local):
            return self._side(Local(place.path.rpartition("/")[0] or ("/" if place.path[:1] == "/" else ".")))
        return self._side(replace(place, key=place.key[: place.key.rfind("/") + 1]))

    async def _single(self, place: Place) -> Entry | None:
        from cosfs.errors import ObjectNotFoundError
        from cosfs.transfer.compare import object_side
        from cosfs.transfer.sides import Entry

        if isinstance(place, Local):
            return _file(place.path)
        if not place.key or place.key.endswith("/"):
            return None
        try:
            info = await self._engine.run(self._engine.client.head_object, place.bucket, place.key)
        except ObjectNotFoundError:
            return None
        assert info is not None
        return Entry(name_of(place), object_side(info), info)

    # --- what is found

    def found(self, finding: Finding) -> None:
        """Report one difference, or count what is the same."""
        self._run.display.expect(0)
        self._run.display.finish()
        if finding.status == "same":
            self._report.unchanged += 1
            return
        source = self._one.name(finding.source.relative) if finding.source else ""
        target = self._target or self._other.name(finding.relative)
        self._report.difference(finding.status, source, target, finding.reason)

    def problem(self, problem: Problem, *, at_source: bool) -> None:
        """Report what cannot be read."""
        self._report.skip("check", problem.path, "unreadable", problem.reason)

    def failed(self, source: Entry, destination: Entry, error: Exception) -> None:
        """Report two that could not be compared."""
        one, other = self._one.name(source.relative), self._other.name(destination.relative)
        self._report.failure("check", one, other, error)


def _file(path: str) -> Entry | None:
    """Return the entry of one file; None for a directory, or if there is none."""
    from cosfs.transfer.scan import stat_entry
    from cosfs.transfer.sides import Entry, file_side

    if not Path(path).is_file():
        return None
    item = stat_entry(path, Path(path).name)
    return Entry(item.relative, file_side(item), item)
