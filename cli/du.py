"""`cos du`: sizes added up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from .options import BUCKET_URL, command, page_size_option
from .output import Column, Table, printable

if TYPE_CHECKING:
    from cosfs.client.client import CosClient
    from cosfs.client.model import ObjectInfo
    from cosfs.client.url import CosUrl

    from .state import State


@dataclass(slots=True)
class Total:
    """What lies below one prefix."""

    prefix: str
    size: int = 0
    objects: int = 0


@command("du")
@click.argument("urls", type=BUCKET_URL, metavar="cos://BUCKET[/PREFIX]...", nargs=-1, required=True)
@click.option("-h", "--human-readable", is_flag=True, help="Print sizes as 1.2 MB.")
@click.option("--depth", type=click.IntRange(0), default=0, metavar="N", help="Show N levels below as well.")
@page_size_option
@click.pass_obj
def du(state: State, urls: tuple[CosUrl, ...], human_readable: bool, depth: int, page_size: int) -> int:
    """Add up the sizes of all objects below a prefix.

    Prints size, number of objects and prefix; levels below come before what they belong to, as with
    the Unix tool.

    \b
    Examples:
      cos du cos://bucket
      cos du -h --depth 1 cos://bucket/photos/
    """
    client, form = state.client, state.format
    records: list[dict[str, object]] = []
    drawn = Table(state.out, [Column("Size", right=True), Column("Objects", right=True), Column("Prefix")])
    rows: list[tuple[str, str, str]] = []
    for url in urls:
        bucket = client.resolve_bucket(url.bucket)
        for total in add_up(_objects(client, bucket, url.key, page_size), url.key, depth):
            place = f"cos://{bucket}/{total.prefix}"
            if form in ("json", "jsonl"):
                record = {"Prefix": place, "Size": total.size, "Objects": total.objects}
                state.out.json_line(record) if form == "jsonl" else records.append(record)
                continue
            row = (_size(total.size, human_readable or form == "table"), str(total.objects), place)
            if form == "table":
                rows.append(row)
            else:
                state.out.line("\t".join((row[0], row[1], printable(place))))
    if form == "json":
        state.out.json(records)
    elif form == "table":
        drawn.rows(rows)
        drawn.end()
    return 0


def _size(size: int, human: bool) -> str:
    from cosfs.units import format_size

    return format_size(size) if human else str(size)


def _objects(client: CosClient, bucket: str, prefix: str, page_size: int) -> Iterator[ObjectInfo]:
    marker = ""
    while True:
        page = client.list_objects(bucket, prefix=prefix, marker=marker, max_keys=page_size)
        yield from page.objects
        if not page.truncated:
            return
        marker = page.next_marker


def add_up(objects: Iterator[ObjectInfo], prefix: str, depth: int) -> Iterator[Total]:
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
