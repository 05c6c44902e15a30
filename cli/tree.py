"""`cos tree`: what is below a prefix, drawn as a tree."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import click

from .options import BUCKET_URL, command, page_size_option
from .output import printable

if TYPE_CHECKING:
    from cosfs.client.url import CosUrl

    from .state import State

_IN_MEMORY = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Options:
    depth: int | None
    sizes: bool
    dirs_only: bool
    page_size: int


@dataclass(frozen=True, slots=True)
class Node:
    """One line: a name at a depth (0 is right below the prefix); size None for a directory."""

    depth: int
    name: str
    size: int | None


@command("tree")
@click.argument("url", type=BUCKET_URL, metavar="cos://BUCKET[/PREFIX]")
@click.option("--depth", "-L", type=click.IntRange(1), metavar="N", help="Go only N levels down.")
@click.option("--sizes", "-s", is_flag=True, help="Show the size of each object.")
@click.option("--dirs-only", "-d", is_flag=True, help="Show directories alone.")
@page_size_option
@click.pass_obj
def tree(state: State, /, url: CosUrl, **values: Any) -> int:
    """Draw what is below a prefix as a tree.

    A directory is what ends in / in keys. Memory does not grow with the number of objects.

    \b
    Examples:
      cos tree cos://bucket/photos/
      cos tree cos://bucket --depth 2 --dirs-only
    """
    from cosfs.units import format_size

    options = Options(**values)
    bucket = state.client.resolve_bucket(url.bucket)
    base = url.key[: url.key.rfind("/") + 1]
    found = nodes(_objects(state, bucket, url.key, options), base, options)
    if state.format in ("json", "jsonl"):
        return _print_records(state, found)
    directories = objects = 0
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as file:
        drawing = _Drawing(file)
        for node in found:
            drawing.add(node)
            directories += node.size is None
            objects += node.size is not None
        state.out.line(printable(f"cos://{bucket}/{base}"))
        for trunk, node in drawing.lines():
            size = f"[{format_size(node.size)}]  " if options.sizes and node.size is not None else ""
            name = printable(node.name)
            if node.size is None:
                name = state.out.paint(name, "blue", stdout=True)
            state.out.line(f"{trunk}{size}{name}")
    counts = f"{directories} {'directory' if directories == 1 else 'directories'}"
    if not options.dirs_only:
        counts += f", {objects} {'object' if objects == 1 else 'objects'}"
    state.out.line("")
    state.out.line(counts)
    if not directories and not objects and url.key:
        state.out.error(f"nothing found at {printable(str(url))}")
        return 1
    return 0


def _print_records(state: State, found: Iterable[Node]) -> int:
    records = (
        {"Depth": node.depth, "Name": node.name, **({} if node.size is None else {"Size": node.size})}
        for node in found
    )
    if state.format == "json":
        state.out.json({"Nodes": list(records)})
    else:
        for record in records:
            state.out.json_line(record)
    return 0


def _objects(state: State, bucket: str, prefix: str, options: Options) -> Iterator[tuple[str, int | None]]:
    """Yield keys with their sizes, and directories that are not looked into with None, in order."""
    from .listing import Range, ahead, object_pages

    if options.depth is None:
        wanted = Range(bucket, prefix, page_size=options.page_size)
        for page in ahead(object_pages(state.client, wanted)):
            yield from ((info.key, info.size) for info in page.items)
        return
    yield from _level(state, bucket, prefix, options.depth, options.page_size)


def _level(
    state: State, bucket: str, prefix: str, depth: int, page_size: int
) -> Iterator[tuple[str, int | None]]:
    """List level by level: what lies deeper is not listed, however much it is."""
    from heapq import merge

    from .listing import Range, ahead, object_pages

    wanted = Range(bucket, prefix, "/", page_size=page_size)
    for page in ahead(object_pages(state.client, wanted)):
        objects: list[tuple[str, int | None]] = [(info.key, info.size) for info in page.items]
        prefixes: list[tuple[str, int | None]] = [(name, None) for name in page.prefixes]
        for key, size in merge(objects, prefixes, key=_order):
            yield key, size
            if size is None and depth > 1:
                for below in _level(state, bucket, key, depth - 1, page_size):
                    if below[0] != key:
                        yield below


def _order(item: tuple[str, int | None]) -> bytes:
    return item[0].encode("utf-8", "surrogatepass")


def nodes(objects: Iterable[tuple[str, int | None]], base: str, options: Options) -> Iterator[Node]:
    """Yield the lines for keys that come in byte order: each directory before what is in it."""
    opened: list[str] = []
    for key, size in objects:
        *parents, name = key[len(base) :].split("/")
        common = 0
        while common < min(len(opened), len(parents)) and opened[common] == parents[common]:
            common += 1
        del opened[common:]
        for parent in parents[common:]:
            yield Node(len(opened), f"{parent}/", None)
            opened.append(parent)
        if name and size is not None and not options.dirs_only:
            yield Node(len(parents), name, size)


class _Drawing:
    """Lines with their branches: whether more follows on a level is known only later.

    The lines wait in a file; in memory is one byte for each, whether it is the last on its level.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._last = bytearray()
        self._open: list[int] = []  # the newest line on each level

    def add(self, node: Node) -> None:
        del self._open[node.depth + 1 :]
        if len(self._open) > node.depth:
            self._last[self._open[node.depth]] = 0
            self._open.pop()
        self._open.append(len(self._last))
        self._last.append(1)
        size = "" if node.size is None else str(node.size)
        name = node.name.encode("utf-8", "surrogatepass")
        self._file.write(b"%d\0%s\0%d\n" % (node.depth, size.encode(), len(name)) + name + b"\n")

    def lines(self) -> Iterator[tuple[str, Node]]:
        """Yield each line with the branches before it."""
        self._file.seek(0)
        trunk: list[str] = []
        for last in self._last:
            depth, size, length = self._file.readline().rstrip(b"\n").split(b"\0")
            name = self._file.read(int(length) + 1)[:-1].decode("utf-8", "surrogatepass")
            node = Node(int(depth), name, int(size) if size else None)
            del trunk[node.depth :]
            yield "".join(trunk) + ("└── " if last else "├── "), node
            trunk.append("    " if last else "│   ")
