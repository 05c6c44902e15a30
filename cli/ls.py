"""`cos ls`: buckets, prefixes, objects, versions, unfinished uploads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from cosfs.records import dataclass

from .options import ANY_URL, RenamedOption, command, page_size_option
from .output import Column, json_text, local_time, printable, table, utc_time

if TYPE_CHECKING:
    from cosfs.client.client import CosClient
    from cosfs.client.model import Bucket
    from cosfs.client.url import CosUrl

    from .listing import Page, Range
    from .ls_output import Kind
    from .state import State

_UNSORTED = 10_000  # items are held beside those that are among the first so far


@dataclass(frozen=True, slots=True)
class Options:
    """How to list one bucket."""

    url: CosUrl
    recursive: bool
    human_readable: bool
    summarize: bool
    all_versions: bool
    incomplete: bool
    page_size: int
    max_items: int | None
    start_after: str
    sort: str | None
    null: bool
    urls: bool

    @property
    def cut(self) -> int:
        """How many characters of a key the short form leaves away."""
        return 0 if self.recursive or self.incomplete else self.url.key.rfind("/") + 1


@command("ls")
@click.argument("url", type=ANY_URL, default="cos://", metavar="[cos://BUCKET[/PREFIX]]")
@click.option("--recursive", "-r", is_flag=True, help="List all objects below the prefix.")
@click.option("--human-readable", is_flag=True, help="Print sizes as 1.2 MB.")
@click.option("--summarize", is_flag=True, help="Print the number of objects and their size at the end.")
@click.option("--all-versions", is_flag=True, help="List all versions and delete markers.")
@click.option("--incomplete", is_flag=True, help="List unfinished multipart uploads below the prefix.")
@page_size_option
@click.option(
    "--max-items",
    cls=RenamedOption,
    coscli=("--limit",),
    type=click.IntRange(1),
    metavar="N",
    help="Stop after so many.",
)
@click.option("--start-after", default="", metavar="KEY", help="Begin after this key.")
@click.option(
    "--sort",
    type=click.Choice(["size", "time", "key"]),
    help="Largest, newest or alphabetically first; holds the whole listing in memory.",
)
@click.option("-0", "--null", is_flag=True, help="Print exact keys, each ended by a NUL byte.")
@click.option("--url", "urls", is_flag=True, help="Print keys as cos:// URLs.")
@click.pass_obj
def ls(state: State, /, **options: Any) -> int:
    """List buckets, or what is below a prefix.

    Without --recursive, what is below the next / is shown as one line (PRE dir/). On a terminal the
    result is a table; piped, it is lines as `aws s3 ls` prints them; --output text prints keys alone.
    Control characters in keys are shown as \\n, \\x1b and so on; -0 and json give the exact key.

    \b
    Examples:
      cos ls
      cos ls cos://bucket/photos/ --human-readable --summarize
      cos ls cos://bucket --recursive --sort size --max-items 10
      cos ls cos://bucket --recursive -0 | xargs -0 -n1 echo
    """
    from cosfs.errors import UsageError

    wanted = Options(**options)
    if wanted.all_versions and wanted.incomplete:
        raise UsageError("--all-versions and --incomplete list different things")
    if not wanted.url.bucket:
        if wanted.all_versions or wanted.incomplete or wanted.recursive:
            raise UsageError("this lists buckets", hint="Name one: cos://BUCKET")
        _print_buckets(state, state.client.list_buckets())
        return 0
    return _list_bucket(state, wanted)


# --- buckets


def _print_buckets(state: State, buckets: list[Bucket]) -> None:
    out, form = state.out, state.format
    records = [{"Name": b.name, "Region": b.region, "CreationDate": utc_time(b.created)} for b in buckets]
    if form == "json":
        out.json({"Buckets": records})
    elif form == "jsonl":
        out.lines(json_text(record) for record in records)
    elif form == "table":
        rows = [(b.name, b.region, local_time(b.created)) for b in buckets]
        table(out, [Column("Bucket"), Column("Region"), Column("Created")], rows)
    elif form == "text":
        out.lines(printable(b.name) for b in buckets)
    else:
        out.lines(f"{local_time(b.created)} {printable(b.name)}" for b in buckets)


# --- what is in a bucket


def _list_bucket(state: State, options: Options) -> int:
    from .listing import Range, ahead
    from .ls_output import Look, printer

    client = state.client
    bucket = client.resolve_bucket(options.url.bucket)
    find, kind = _finder(options)
    delimiter = "" if options.recursive or options.incomplete else "/"
    # Sorted, the first so many are known only when all are.
    limit = None if options.sort else options.max_items
    wanted = Range(bucket, options.url.key, delimiter, options.start_after, options.page_size, limit)
    look = Look(bucket, options.cut, options.urls, options.human_readable, options.summarize)
    shown = printer(state.out, state.format, kind, look, null=options.null)
    items = size = found = 0
    pages = ahead(find(client, wanted))
    for page in _sorted(pages, options, kind) if options.sort else pages:
        shown.page(page)
        items += len(page.items)
        found += len(page)
        size += sum(map(kind.size, page.items))
    shown.end(items, size)
    if options.max_items is not None and found >= options.max_items:
        state.out.talk(f"stopped after {found} items (--max-items)")
    if not found and options.url.key:
        state.out.flush()
        state.out.error(f"nothing found at {printable(str(options.url))}{_pattern_hint(options.url)}")
        return 1
    return 0


def _pattern_hint(url: CosUrl) -> str:
    """Say what finds keys by a pattern if this looks like one, which cp and mv would take it for."""
    from cosfs.client.failures import escape_hint

    from .places import find_glob

    if hint := escape_hint(url.key):
        return f". {hint}"
    glob = find_glob(url.key)
    if glob is None:
        return ""
    base = printable(f"cos://{url.bucket}/{glob.base}")
    return f"; ls takes * ? [ as they are: cos find {base} --name PATTERN lists what matches"


def _finder(options: Options) -> tuple[Callable[[CosClient, Range], Iterator[Page[Any]]], Kind]:
    """Return what lists what was asked for, and how that looks."""
    from . import listing, ls_output

    if options.all_versions:
        return listing.version_pages, ls_output.VERSIONS
    if options.incomplete:
        return listing.upload_pages, ls_output.UPLOADS
    return listing.object_pages, ls_output.OBJECTS


def _sorted(pages: Iterator[Page[Any]], options: Options, kind: Kind) -> Iterator[Page[Any]]:
    """Read everything and yield it in another order: prefixes first, then items, at most --max-items.

    With a limit, what cannot be among the first so many is not kept: the whole bucket would be in memory.
    """
    from .listing import Page

    items: list[Any] = []
    prefixes: list[str] = []
    limit = options.max_items
    keys: dict[str, Callable[[Any], Any]] = {"key": _key, "size": kind.size, "time": _time}

    def sort() -> None:
        items.sort(key=keys[options.sort or "time"], reverse=options.sort != "key")
        if limit is not None:
            del items[limit:]

    for page in pages:
        items += page.items
        prefixes += page.prefixes
        if limit is not None and len(items) > limit + _UNSORTED:
            sort()
    sort()
    prefixes = prefixes[:limit]
    rest = islice(items, None if limit is None else limit - len(prefixes))
    yield Page([], prefixes)
    while some := list(islice(rest, 1000)):
        yield Page(some)


def _key(item: Any) -> str:
    key: str = item.key
    return key


def _time(item: Any) -> float:
    moment: float = item.initiated if hasattr(item, "initiated") else item.last_modified
    return moment
