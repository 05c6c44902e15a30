"""`cos rm`: remove objects."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from .deleting import tell_deleted
from .options import (
    BUCKET_URL,
    command,
    dryrun_option,
    page_size_option,
    pop_selection,
    selection_options,
)
from .output import printable
from .places import find_glob

if TYPE_CHECKING:
    from cosfs.client.model import ObjectId
    from cosfs.client.url import CosUrl

    from .running import Run
    from .selecting import Chosen
    from .state import State

    Named = tuple[CosUrl, Sequence[ObjectId] | None]  # None: not counted yet


@dataclass(frozen=True, slots=True)
class Options:
    recursive: bool
    dryrun: bool
    version_id: str
    all_versions: bool
    yes: bool
    max_delete: int | None
    page_size: int
    chosen: Chosen


@command("rm")
@click.argument("urls", type=BUCKET_URL, metavar="cos://BUCKET/KEY...", nargs=-1, required=True)
@click.option("--recursive", "-r", is_flag=True, help="Remove everything below the prefix.")
@dryrun_option
@selection_options
@click.option("--version-id", default="", metavar="ID", help="Remove this version for good.")
@click.option("--all-versions", is_flag=True, help="Remove all versions and delete markers for good.")
@click.option(
    "--yes", "-y", "--force", "-f", is_flag=True, help="Do not ask before a whole bucket is emptied."
)
@click.option(
    "--max-delete", type=click.IntRange(0), metavar="N", help="Remove nothing at all if it would be more."
)
@page_size_option
@click.pass_context
def rm(ctx: click.Context, /, urls: tuple[CosUrl, ...], **values: Any) -> int:
    """Remove objects, a thousand with each request.

    A filter on a URL that ends in / means everything below it, as if --recursive were given. An
    object that does not exist counts as removed. On a terminal, a question is asked before all
    objects of a bucket are removed; all versions of all objects need --yes where there is none.

    \b
    Examples:
      cos rm cos://bucket/file.txt
      cos rm cos://bucket/path/ --recursive
      cos rm cos://bucket/path/ --include "*.log" --dryrun
    """
    from .report import Report
    from .running import run_job

    state: State = ctx.find_root().obj
    chosen = pop_selection(ctx, values)
    values["recursive"] = values["recursive"] or chosen.names_files
    options = Options(chosen=chosen, **values)
    for url in urls:
        _check(url, options)
    _ask(state, urls, options)
    report = Report(state)

    async def job(run: Run) -> None:
        held = None if options.max_delete is None else await _counted_first(run, urls, options)
        if held is None and options.max_delete is not None:
            return
        named = list(zip(urls, held if held is not None else [None] * len(urls), strict=True))
        for group in _together(named, options):
            await _remove(run, group, options)

    return run_job(state, job, report, verb="removing")


def _is_recursive(url: CosUrl, options: Options) -> bool:
    return options.recursive or (bool(options.chosen) and (not url.key or url.key.endswith("/")))


def _check(url: CosUrl, options: Options) -> None:
    from cosfs.errors import UsageError

    if options.version_id and options.all_versions:
        raise UsageError("--version-id names one version, --all-versions all", hint="Leave one of them out")
    if _is_recursive(url, options):
        options.chosen.below(url)
        if options.version_id:
            raise UsageError("--version-id names one version", hint="Use --all-versions with --recursive")
        return
    if options.chosen:
        raise UsageError(
            f"filters need --recursive or a URL that ends in /, which {url} does not",
            hint=f"Write {url}/ or add --recursive",
        )
    if not url.key:
        raise UsageError(
            f"{url} is a bucket",
            hint="Add --recursive to empty it, or use cos rb to remove the bucket itself",
        )


def _ask(state: State, urls: tuple[CosUrl, ...], options: Options) -> None:
    """Ask before buckets are emptied: people only, as scripts mean what they say with aws too.

    What aws cannot do, and nothing brings back, a script has to confirm.
    """
    from .prompt import confirm, somebody_is_there

    emptied = [url for url in urls if _is_recursive(url, options) and not url.key and not options.chosen]
    if not emptied or options.yes or options.dryrun:
        return
    if options.all_versions or (state.may_ask and somebody_is_there()):
        versions = ", and all old versions of them" if options.all_versions else ""
        confirm(state, f"Remove all objects of {printable(', '.join(map(str, emptied)))}{versions}?")


def _together(named: Sequence[Named], options: Options) -> Iterator[list[Named]]:
    """Yield what is removed together: single keys of one bucket. What has to be listed may fail, alone."""
    group: list[Named] = []
    for each in named:
        alone = options.all_versions or _is_recursive(each[0], options)
        if group and (alone or group[0][0].bucket != each[0].bucket):
            yield group
            group = []
        if alone:
            yield [each]
        else:
            group.append(each)
    if group:
        yield group


async def _remove(run: Run, group: Sequence[Named], options: Options) -> None:
    """Remove what URLs of one bucket mean, or what was counted of each before."""
    from cosfs.transfer.delete import delete_many

    bucket = await run.engine.run(run.state.client.resolve_bucket, group[0][0].bucket)
    numbers: list[int] = []

    async def chosen() -> AsyncGenerator[ObjectId, None]:
        for url, held in group:
            numbers.append(0)
            recursive = _is_recursive(url, options)
            found = _candidates(run, bucket, url.key, options, recursive) if held is None else _each(held)
            async with aclosing(found) as ids:
                async for each in ids:
                    if run.stopping:
                        return
                    numbers[-1] += 1
                    if options.dryrun:
                        run.report.would_delete(f"cos://{bucket}/{each.key}", each.version_id)
                    else:
                        run.display.expect(0)
                        yield each

    async with aclosing(chosen()) as ids:
        await delete_many(run.engine, bucket, ids, on_result=tell_deleted(run, bucket))
    run.display.complete = True
    for (url, _), number in zip(group, numbers, strict=False):  # fewer if it was stopped
        _remark(run, url, options, _is_recursive(url, options), number)


async def _counted_first(run: Run, urls: Sequence[CosUrl], options: Options) -> list[list[ObjectId]] | None:
    """Return what each URL means, before anything is removed; None, and a failure, if that is too much."""
    from cosfs.errors import TransferError

    held: list[list[ObjectId]] = []
    count = 0
    for url in urls:
        bucket = await run.engine.run(run.state.client.resolve_bucket, url.bucket)
        held.append([])
        async with aclosing(_candidates(run, bucket, url.key, options, _is_recursive(url, options))) as found:
            async for each in found:
                held[-1].append(each)
                count += 1
                if count > (options.max_delete or 0):
                    run.report.fail(
                        TransferError(
                            f"more than {options.max_delete} objects would be removed, so none was",
                            hint="Look at them with --dryrun, or raise --max-delete",
                        )
                    )
                    return None
    return held


async def _each(ids: Iterable[ObjectId]) -> AsyncGenerator[ObjectId, None]:
    for each in ids:
        yield each


async def _candidates(
    run: Run, bucket: str, key: str, options: Options, recursive: bool
) -> AsyncGenerator[ObjectId, None]:
    from cosfs.client.model import ObjectId
    from cosfs.client.url import CosUrl
    from cosfs.errors import ObjectNotFoundError

    from .objects import list_versions, selected

    if not recursive and not options.all_versions:
        yield ObjectId(key, options.version_id)
        return
    prefix = key if not recursive or not key or key.endswith("/") else f"{key}/"
    base = prefix if recursive else ""
    selection = options.chosen.below(CosUrl(bucket, key)) if recursive else options.chosen.selection
    if options.all_versions:
        async with aclosing(list_versions(run.engine, bucket, prefix)) as versions:
            async for version in versions:
                if not recursive and version.key != key:
                    continue
                if selection(version.key[len(base) :], version.size, version.last_modified):
                    yield ObjectId(version.key, version.version_id)
        return
    if selection.names is not None and not selection.looks_at_state:
        for name in selection.names:
            if selection.filters(name):
                yield ObjectId(prefix + name)
        return

    def failed(key: str, error: Exception) -> None:
        if not isinstance(error, ObjectNotFoundError):
            run.report.failure("delete", "", f"cos://{bucket}/{key}", error)

    found = selected(run.engine, bucket, prefix, selection, failed, page_size=options.page_size)
    async with aclosing(found):
        async for info in found:
            yield ObjectId(info.key)


def _remark(run: Run, url: CosUrl, options: Options, recursive: bool, number: int) -> None:
    """Say what the user may not have expected."""
    from cosfs.client.failures import escape_hint

    out = run.state.out
    if run.report.failed:
        return
    if not number:
        out.warn(f"nothing to remove at {printable(str(url))}")
    elif not recursive and url.key.endswith("/"):
        out.talk(f"only the object {printable(url.key)!r} itself; --recursive takes everything below it")
    elif not recursive and (hint := escape_hint(url.key)):
        out.talk(f"rm takes a key as it is written. {hint}")
    elif not recursive and not options.version_id and find_glob(url.key):
        out.talk(
            "rm takes a key as it is written; to remove by pattern use --include on a URL that ends in /"
        )
