"""`cos du`: sizes added up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from cosfs.records import dataclass

from .options import BUCKET_URL, GLOBAL_OPTIONS, Command, command, page_size_option
from .output import Column, printable, table

if TYPE_CHECKING:
    from cosfs.client.model import ObjectVersion
    from cosfs.client.url import CosUrl

    from .listing import Page
    from .state import State


@dataclass(slots=True)
class Total:
    """What lies below one prefix, or what of it is in one storage class."""

    prefix: str
    size: int = 0
    objects: int = 0
    storage_class: str = ""


@dataclass(frozen=True, slots=True)
class Options:
    human_readable: bool
    depth: int
    group_by: str | None
    all_versions: bool
    page_size: int


@command("du")
@click.argument("urls", type=BUCKET_URL, metavar="cos://BUCKET[/PREFIX]...", nargs=-1, required=True)
@click.option("-h", "--human-readable", is_flag=True, help="Print sizes as 1.2 MB.")
@click.option(
    "--summarize",
    "-s",
    is_flag=True,
    hidden=True,
    expose_value=False,
    help="What du -s asks for is the default.",
)
@click.option("--depth", type=click.IntRange(0), default=0, metavar="N", help="Show N levels below as well.")
@click.option(
    "--group-by",
    type=click.Choice(["class", "prefix"]),
    help="A line for each storage class, or for each prefix on the next level (as --depth 1).",
)
@click.option("--all-versions", is_flag=True, help="Count old versions, too.")
@page_size_option
@click.pass_obj
def du(state: State, /, urls: tuple[CosUrl, ...], **values: Any) -> int:
    """Add up the sizes of all objects below a prefix.

    Prints size, number of objects and prefix; levels below come before what they belong to, as with
    the Unix tool.

    \b
    Examples:
      cos du cos://bucket
      cos du -h --depth 1 cos://bucket/photos/
      cos du -h --group-by class --all-versions cos://bucket
    """
    from cosfs.errors import UsageError

    options = Options(**values)
    if options.group_by == "class" and options.depth:
        raise UsageError("--group-by class adds up the whole prefix, --depth parts of it")
    if state.format == "json":
        state.out.json([_record(total) for total in _totals(state, urls, options)])
    elif state.format == "jsonl":
        for total in _totals(state, urls, options):
            state.out.json_line(_record(total))
    elif state.format == "table":
        titles = ["Storage class"] if options.group_by == "class" else []
        columns = [Column("Size", right=True), Column("Objects", right=True)]
        rows = [_row(total, human=True) for total in _totals(state, urls, options)]
        table(state.out, [*columns, *(Column(title) for title in [*titles, "Prefix"])], rows)
    else:
        for total in _totals(state, urls, options):
            row = _row(total, human=options.human_readable)
            state.out.line("\t".join(printable(cell) for cell in row), flush=True)
    return 0


def _like_coscli() -> Command:
    """Make `lsdu`: as du, with one level below shown."""
    params = [param for param in du.params if param.name != "depth" and param not in GLOBAL_OPTIONS]
    depth = click.Option(["--depth"], type=click.IntRange(0), default=1, metavar="N", help="Levels shown.")
    return Command("lsdu", callback=du.callback, help=du.help, params=[*params, depth])


lsdu = _like_coscli()


def _totals(state: State, urls: Iterable[CosUrl], options: Options) -> Iterator[Total]:
    """Yield what is to be printed; prefixes as URLs."""
    from .listing import Range, ahead, object_pages, version_pages

    for url in urls:
        bucket = state.client.resolve_bucket(url.bucket)
        wanted = Range(bucket, url.key, page_size=options.page_size)
        pages: Iterator[Page[Any]]
        if options.all_versions:
            pages = map(_without_markers, ahead(version_pages(state.client, wanted)))
        else:
            pages = ahead(object_pages(state.client, wanted))
        for total in _grouped(pages, url.key, options):
            total.prefix = f"cos://{bucket}/{total.prefix}"
            yield total


def _without_markers(page: Page[ObjectVersion]) -> Page[ObjectVersion]:
    from .listing import Page

    return Page([version for version in page.items if not version.is_delete_marker])


def _grouped(pages: Iterator[Page[Any]], prefix: str, options: Options) -> Iterator[Total]:
    if options.group_by == "class":
        return _by_class(pages, prefix)
    depth = max(options.depth, 1) if options.group_by == "prefix" else options.depth
    if depth:
        return add_up((item for page in pages for item in page.items), prefix, depth)
    return iter([_sum(pages, prefix)])


def _record(total: Total) -> dict[str, object]:
    named = {"StorageClass": total.storage_class} if total.storage_class else {}
    return {"Prefix": total.prefix, **named, "Size": total.size, "Objects": total.objects}


def _row(total: Total, *, human: bool) -> tuple[str, ...]:
    from cosfs.units import format_size

    size = format_size(total.size) if human else str(total.size)
    named = (total.storage_class,) if total.storage_class else ()
    return (size, str(total.objects), *named, total.prefix)


def _sum(pages: Iterator[Page[Any]], prefix: str) -> Total:
    total = Total(prefix)
    for page in pages:
        total.objects += len(page.items)
        total.size += sum([item.size for item in page.items])
    return total


def _by_class(pages: Iterator[Page[Any]], prefix: str) -> Iterator[Total]:
    """Yield the totals of the storage classes, the largest first."""
    totals: dict[str, Total] = {}
    for page in pages:
        for item in page.items:
            total = totals.get(item.storage_class)
            if total is None:
                total = totals[item.storage_class] = Total(prefix, storage_class=item.storage_class)
            total.size += item.size
            total.objects += 1
    yield from sorted(totals.values(), key=lambda total: total.size, reverse=True)


def add_up(objects: Iterator[Any], prefix: str, depth: int) -> Iterator[Total]:
    """Yield the total of each prefix down to depth, then that of prefix itself.

    Keys come in byte order, so all keys below one prefix follow each other and a stack of open
    totals, one per level, is all that must be remembered.
    """
    base = prefix[: prefix.rfind("/") + 1]
    root = Total(prefix)
    stack: list[Total] = []
    for info in objects:
        parents = info.key[len(base) :].split("/")[:-1][:depth]
        while stack and (len(stack) > len(parents) or not info.key.startswith(stack[-1].prefix)):
            yield _close(stack, root)
        opened = range(len(stack), len(parents))
        stack += [Total(base + "/".join(parents[: level + 1]) + "/") for level in opened]
        innermost = stack[-1] if stack else root
        innermost.size += info.size
        innermost.objects += 1
    while stack:
        yield _close(stack, root)
    yield root


def _close(stack: list[Total], root: Total) -> Total:
    closed = stack.pop()
    outer = stack[-1] if stack else root
    outer.size += closed.size
    outer.objects += closed.objects
    return closed
