"""`cos ls`: buckets, prefixes, objects."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Protocol

import click

from .options import ANY_URL, command, page_size_option
from .output import Column, Output, Table, json_text, local_time, printable, table, utc_time

if TYPE_CHECKING:
    from cosfs.client.client import CosClient
    from cosfs.client.model import Bucket, ListPage, ObjectInfo
    from cosfs.client.url import CosUrl

    from .state import State


@dataclass(frozen=True, slots=True)
class Options:
    """How to list one bucket."""

    url: CosUrl
    recursive: bool
    human_readable: bool
    summarize: bool
    page_size: int
    max_items: int | None
    start_after: str
    null: bool
    urls: bool

    @property
    def cut(self) -> int:
        """How many characters of a key the short form leaves away."""
        return 0 if self.recursive else self.url.key.rfind("/") + 1


@command("ls")
@click.argument("url", type=ANY_URL, default="cos://", metavar="[cos://BUCKET[/PREFIX]]")
@click.option("--recursive", "-r", is_flag=True, help="List all objects below the prefix.")
@click.option("--human-readable", is_flag=True, help="Print sizes as 1.2 MB.")
@click.option("--summarize", is_flag=True, help="Print the number of objects and their size at the end.")
@page_size_option
@click.option("--max-items", type=click.IntRange(1), metavar="N", help="Stop after so many.")
@click.option("--start-after", default="", metavar="KEY", help="Begin after this key.")
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
      cos ls cos://bucket --recursive -0 | xargs -0 -n1 echo
    """
    wanted = Options(**options)
    if not wanted.url.bucket:
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


# --- objects


def _list_bucket(state: State, options: Options) -> int:
    client = state.client
    bucket = client.resolve_bucket(options.url.bucket)
    printer = _printer(state.out, state.format, options, bucket)
    objects = size = found = 0
    for page in _pages(client, bucket, options):
        printer.page(page)
        objects += len(page.objects)
        found += len(page.objects) + len(page.prefixes)
        size += sum(info.size for info in page.objects)
    printer.end(objects, size)
    if options.max_items is not None and found >= options.max_items:
        state.out.talk(f"stopped after {found} items (--max-items)")
    if not found and options.url.key:
        state.out.flush()
        state.out.error(f"nothing found at {printable(str(options.url))}")
        return 1
    return 0


def _pages(client: CosClient, bucket: str, options: Options) -> Iterator[ListPage]:
    """List page by page, never more than asked for."""
    marker, left = options.start_after, options.max_items
    while left is None or left > 0:
        page = client.list_objects(
            bucket,
            prefix=options.url.key,
            delimiter="" if options.recursive else "/",
            marker=marker,
            max_keys=options.page_size if left is None else min(left, options.page_size),
        )
        yield page
        if not page.truncated:
            return
        marker = page.next_marker
        if left is not None:
            left -= len(page.objects) + len(page.prefixes)


class Printer(Protocol):
    def page(self, page: ListPage) -> None: ...
    def end(self, objects: int, size: int) -> None: ...


def _printer(out: Output, form: str, options: Options, bucket: str) -> Printer:
    kinds: dict[str, Callable[[Output, Options, str], Printer]] = {
        "json": JsonPrinter,
        "jsonl": JsonLinesPrinter,
        "table": TablePrinter,
        "text": TextPrinter,
    }
    make = NullPrinter if options.null else kinds.get(form, LinesPrinter)
    return make(out, options, bucket)


@dataclass(slots=True)
class _Base:
    out: Output
    options: Options
    bucket: str

    def name(self, key: str) -> str:
        """Return a key as it is shown: whole, below the last /, or as a URL."""
        return f"cos://{self.bucket}/{key}" if self.options.urls else key[self.options.cut :]

    def full(self, key: str) -> str:
        return f"cos://{self.bucket}/{key}" if self.options.urls else key

    def size(self, size: int) -> str:
        if not self.options.human_readable:
            return str(size)
        from cosfs.units import format_size

        return format_size(size)

    def summary(self, objects: int, size: int) -> None:
        if self.options.summarize:
            self.out.lines(["", f"Total Objects: {objects}", f"   Total Size: {self.size(size)}"])


class NullPrinter(_Base):
    def page(self, page: ListPage) -> None:
        keys = [*page.prefixes, *(info.key for info in page.objects)]
        if keys:
            text = "".join(f"{self.full(key)}\0" for key in keys)
            self.out.write(text.encode("utf-8", "surrogateescape"), flush=True)

    def end(self, objects: int, size: int) -> None:
        pass  # a summary would be read as a key


class TextPrinter(_Base):
    def page(self, page: ListPage) -> None:
        self.out.lines(printable(self.full(prefix)) for prefix in page.prefixes)
        self.out.lines(printable(self.full(info.key)) for info in page.objects)

    def end(self, objects: int, size: int) -> None:
        self.summary(objects, size)


class LinesPrinter(_Base):
    """What `aws s3 ls` prints, to the column."""

    def page(self, page: ListPage) -> None:
        self.out.lines(f"{'PRE':>30} {printable(self.name(prefix))}" for prefix in page.prefixes)
        self.out.lines(
            f"{local_time(info.last_modified)} {self.size(info.size):>10} {printable(self.name(info.key))}"
            for info in page.objects
        )

    def end(self, objects: int, size: int) -> None:
        self.summary(objects, size)


class TablePrinter(_Base):
    __slots__ = ("_drawn", "_table")

    def __init__(self, out: Output, options: Options, bucket: str) -> None:
        super().__init__(out, options, bucket)
        self._table = Table(out, [Column("Key"), Column("Size"), Column("Last Modified")])
        self._drawn = False

    def page(self, page: ListPage) -> None:
        from cosfs.units import format_size

        rows = [(self.name(prefix), "-", "") for prefix in page.prefixes]
        rows += [
            (self.name(info.key), format_size(info.size), local_time(info.last_modified))
            for info in page.objects
        ]
        if rows:
            self._table.rows(rows)
            self._drawn = True

    def end(self, objects: int, size: int) -> None:
        if self._drawn:
            self._table.end()
        self.summary(objects, size)


def record(info: ObjectInfo) -> dict[str, object]:
    """Return an object as the JSON outputs show it, with COS's own names."""
    return {
        "Key": info.key,
        "Size": info.size,
        "LastModified": utc_time(info.last_modified),
        "ETag": f'"{info.etag}"',
        "StorageClass": info.storage_class,
    }


class JsonLinesPrinter(_Base):
    def page(self, page: ListPage) -> None:
        self.out.lines(json_text({"Prefix": prefix}) for prefix in page.prefixes)
        self.out.lines(json_text(record(info)) for info in page.objects)

    def end(self, objects: int, size: int) -> None:
        if self.options.summarize:
            self.out.json_line({"TotalObjects": objects, "TotalSize": size})


class JsonPrinter(_Base):
    """One document, written while it is listed; many prefixes, which come last, wait in a file."""

    __slots__ = ("_count", "_prefixes")

    def __init__(self, out: Output, options: Options, bucket: str) -> None:
        super().__init__(out, options, bucket)
        self._count = 0
        self._prefixes: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=1 << 20)  # noqa: SIM115
        out.write(b'{"Objects": [')

    def page(self, page: ListPage) -> None:
        for info in page.objects:
            self.out.write(f"{',' if self._count else ''}\n  {json_text(record(info))}".encode())
            self._count += 1
        for prefix in page.prefixes:
            comma = "," if self._prefixes.tell() else ""
            self._prefixes.write(f"{comma}\n  {json_text({'Prefix': prefix})}".encode())
        self.out.flush()

    def end(self, objects: int, size: int) -> None:
        self.out.write(b'\n], "CommonPrefixes": [' if self._count else b'], "CommonPrefixes": [')
        self._prefixes.seek(0)
        while block := self._prefixes.read(1 << 16):
            self.out.write(block)
        self._prefixes.close()
        tail = {"Summary": {"TotalObjects": objects, "TotalSize": size}} if self.options.summarize else {}
        self.out.write(f"]{', ' + json_text(tail)[1:-1] if tail else ''}}}\n".encode(), flush=True)
