"""`cos restore`: archived objects made readable for some days."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from .options import (
    BUCKET_URL,
    DURATION,
    RenamedOption,
    command,
    dryrun_option,
    pop_selection,
    recursive_option,
    selection_options,
)
from .output import printable

if TYPE_CHECKING:
    from cosfs.client.client import CosClient
    from cosfs.client.model import ObjectInfo
    from cosfs.client.url import CosUrl

    from .running import Run
    from .selecting import Chosen
    from .state import State

_AGAIN = 30.0  # seconds between two looks of --wait


@dataclass(frozen=True, slots=True)
class Options:
    recursive: bool
    days: int
    tier: str
    wait: bool
    interval: float
    version_id: str
    dryrun: bool
    chosen: Chosen


@command("restore")
@click.argument("urls", type=BUCKET_URL, metavar="cos://BUCKET/KEY...", nargs=-1, required=True)
@recursive_option
@click.option(
    "--days",
    cls=RenamedOption,
    coscli=("-d",),
    type=click.IntRange(1, 365),
    default=7,
    show_default=True,
    help="How long they stay readable.",
)
@click.option(
    "--tier",
    cls=RenamedOption,
    coscli=("--mode", "-m"),
    type=click.Choice(["Expedited", "Standard", "Bulk"], case_sensitive=False),
    default="Standard",
    show_default=True,
    help="How fast: minutes (not for DEEP_ARCHIVE), hours, or half a day and cheaper.",
)
@click.option("--wait", is_flag=True, help="Return when they can be read.")
@click.option(
    "--interval", type=DURATION, default=_AGAIN, metavar="TIME", help="How often --wait looks; default 30s."
)
@click.option("--version-id", default="", metavar="ID", help="This version of the object.")
@dryrun_option
@selection_options
@click.pass_context
def restore(ctx: click.Context, /, urls: tuple[CosUrl, ...], **values: Any) -> int:
    """Make archived objects readable for some days.

    What is not archived, or readable already, is left alone.

    \b
    Examples:
      cos restore cos://bucket/old.tar --days 3 --wait
      cos restore cos://bucket/2020/ --recursive --tier Bulk
    """
    from cosfs.errors import UsageError

    from .report import Report
    from .running import run_job

    state: State = ctx.find_root().obj
    chosen = pop_selection(ctx, values)
    options = Options(chosen=chosen, **{**values, "recursive": values["recursive"] or chosen.names_files})
    if options.interval <= 0:
        raise UsageError("--interval must be longer than nothing")
    for url in urls:
        if options.recursive:
            options.chosen.below(url)
            if options.version_id:
                raise UsageError("--version-id names one version, --recursive many objects")
        elif options.chosen:
            raise UsageError("filters need --recursive")
        elif not url.key or url.key.endswith("/"):
            raise UsageError(f"{url} is a prefix", hint="Add --recursive to restore everything below it")
    report = Report(state)

    async def job(run: Run) -> None:
        waiting: list[tuple[str, str]] = []
        for url in urls:
            waiting += await _restore(run, options, url)
        if options.wait and not options.dryrun:
            await _wait(run, options, waiting)

    return run_job(state, job, report, verb="restoring")


async def _restore(run: Run, options: Options, url: CosUrl) -> list[tuple[str, str]]:
    """Ask for what is below a URL; return bucket and key of all that is on its way."""
    from cosfs.errors import COSError

    engine, report = run.engine, run.report
    bucket = await engine.run(engine.client.resolve_bucket, url.bucket)
    asked: list[tuple[str, str]] = []

    def told(info: ObjectInfo, note: str | None, error: Exception | None) -> None:
        target = f"cos://{bucket}/{info.key}"
        run.display.finish()
        if isinstance(error, COSError):
            report.failure("restore", "", target, error, version_id=options.version_id)
        elif error is not None:
            raise error
        else:
            asked.append((bucket, info.key))
            report.changed("restore", target, version_id=options.version_id, note=note or "")

    ask = partial(_ask, engine.client, bucket, options)
    async with aclosing(_archived(run, options, url, bucket)) as infos, engine.flow("request", told) as flow:
        async for info in infos:
            if run.stopping:
                break
            if options.dryrun:
                target = f"cos://{bucket}/{info.key}"
                report.would_change("restore", target, version_id=options.version_id)
                continue
            run.display.expect(0)
            await flow.put(info, ask, info)
    return asked


async def _archived(run: Run, options: Options, url: CosUrl, bucket: str) -> AsyncGenerator[ObjectInfo, None]:
    """Find the objects that cannot be read now, as far as a listing says that."""
    from cosfs.client.model import ARCHIVED_CLASSES
    from cosfs.errors import COSError

    from .objects import selected

    engine, report = run.engine, run.report

    def failed(key: str, error: COSError) -> None:
        report.failure("restore", "", f"cos://{bucket}/{key}", error)

    if options.recursive:
        chosen = options.chosen.below(url)
        async with aclosing(selected(engine, bucket, url.key, chosen, failed)) as infos:
            async for info in infos:
                if info.storage_class in ARCHIVED_CLASSES:
                    yield info
        return
    try:
        one = await engine.run(
            partial(engine.client.head_object, bucket, url.key, version_id=options.version_id)
        )
    except COSError as error:
        failed(url.key, error)
        return
    assert one is not None  # only a conditional request has no answer
    if one.archived:
        yield one
    else:
        report.left_out("restore", "", f"cos://{bucket}/{url.key}", "readable")
        run.state.out.talk(f"cos://{bucket}/{printable(url.key)} can be read already")


def _ask(client: CosClient, bucket: str, options: Options, info: ObjectInfo) -> str:
    """Ask COS for one object; return how that stands."""
    from cosfs.errors import ServiceError

    try:
        client.restore_object(
            bucket, info.key, days=options.days, tier=options.tier, version_id=options.version_id
        )
    except ServiceError as error:
        if error.code != "RestoreAlreadyInProgress":
            raise
        return "on its way already"
    return f"{options.tier}, for {options.days} {'day' if options.days == 1 else 'days'}"


async def _wait(run: Run, options: Options, waiting: list[tuple[str, str]]) -> None:
    """Return when all can be read, or a signal came."""
    import trio

    from cosfs.errors import COSError

    head = run.engine.client.head_object
    while waiting and not run.stopping:
        left = []
        for bucket, key in waiting:
            try:
                info = await run.engine.run(partial(head, bucket, key, version_id=options.version_id))
            except COSError as error:
                run.report.failure("restore", "", f"cos://{bucket}/{key}", error)
                continue
            assert info is not None
            if info.archived:
                left.append((bucket, key))
        if left:
            run.state.out.talk(f"{len(left)} of {len(waiting)} not readable yet")
            await trio.sleep(options.interval)
        waiting = left
