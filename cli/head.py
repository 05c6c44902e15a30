"""`cos head` and `cos tail`: the first and the last lines of objects, without reading the rest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from .options import DURATION, OBJECT_URL, SIZE, apply, command

if TYPE_CHECKING:
    from cosfs.client.client import CosClient
    from cosfs.client.model import ObjectInfo
    from cosfs.client.url import CosUrl

    from .state import State

# The first request of a run; each further one asks for four times as much.
_FIRST = 16 * 1024
_MOST = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Source:
    """One version of one object."""

    client: CosClient
    bucket: str
    key: str
    version_id: str = ""

    def __str__(self) -> str:
        return f"cos://{self.bucket}/{self.key}"

    def info(self) -> ObjectInfo:
        info = self.client.head_object(self.bucket, self.key, version_id=self.version_id)
        assert info is not None  # only a conditional request has no answer
        return info

    def read(self, start: int, stop: int, etag: str) -> bytes:
        """Return bytes [start, stop); PreconditionFailedError when the object is another one by now."""
        return self.client.get_range(
            self.bucket, self.key, start, stop, if_match=etag, version_id=self.version_id
        )[1]


_url_arguments = apply(
    click.argument("urls", type=OBJECT_URL, metavar="cos://BUCKET/KEY...", nargs=-1, required=True),
    click.option("--lines", "-n", type=click.IntRange(0), default=10, metavar="N", help="Default 10."),
    click.option("--bytes", "-c", "count", type=SIZE, metavar="SIZE", help="So many bytes instead."),
    click.option("--version-id", default="", metavar="ID", help="This version of the object."),
)


@command("head")
@_url_arguments
@click.pass_obj
def head(state: State, /, urls: tuple[CosUrl, ...], **values: Any) -> int:
    """Write the first lines of objects to standard output; the rest is not read.

    \b
    Examples:
      cos head cos://bucket/log.txt
      cos head -n 1 cos://bucket/table.csv
      cos head -c 512 cos://bucket/file.bin | od -c
    """
    return _each(state, urls, values, _head)


@command("tail")
@_url_arguments
@click.option("--follow", "-f", is_flag=True, help="Go on as the object grows, until interrupted.")
@click.option(
    "--interval", type=DURATION, default=2.0, metavar="TIME", help="How often --follow looks; default 2s."
)
@click.pass_obj
def tail(state: State, /, urls: tuple[CosUrl, ...], **values: Any) -> int:
    """Write the last lines of objects to standard output; the rest is not read.

    \b
    Examples:
      cos tail cos://bucket/log.txt
      cos tail -n 100 cos://bucket/log.txt
      cos tail -f cos://bucket/growing.log
    """
    from cosfs.errors import UsageError

    follow, interval = values.pop("follow"), values.pop("interval")
    if follow and (len(urls) > 1 or values["version_id"]):
        raise UsageError("--follow follows one object, and no old version of it")
    if follow and interval <= 0:
        raise UsageError("--interval must be longer than nothing")
    if not follow:
        return _each(state, urls, values, _tail)

    def going_on(source: Source, info: ObjectInfo, lines: int, count: int | None) -> Iterator[bytes]:
        yield from _tail(source, info, lines, count)
        yield from _growth(state, source, info, interval)

    return _each(state, urls, values, going_on)


Reader = Callable[[Source, "ObjectInfo", int, int | None], Iterator[bytes]]


def _each(state: State, urls: tuple[CosUrl, ...], values: dict[str, Any], read: Reader) -> int:
    """Write what read yields of each object; several get a head line each, as with the Unix tools."""
    from cosfs.errors import ConfigError, COSError, UsageError

    if values["version_id"] and len(urls) > 1:
        raise UsageError("--version-id is for one object")
    code = 0
    for number, url in enumerate(urls):
        bucket = state.client.resolve_bucket(url.bucket)
        source = Source(state.client, bucket, url.key, values["version_id"])
        try:
            info = source.info()
            if len(urls) > 1:
                state.out.line(f"{chr(10) if number else ''}==> {url} <==")
            for piece in read(source, info, values["lines"], values["count"]):
                state.out.write(piece, flush=True)
        except ConfigError:
            raise
        except COSError as error:
            state.out.flush()
            state.out.error(str(error))
            code = 1
    return code


def _head(source: Source, info: ObjectInfo, lines: int, count: int | None) -> Iterator[bytes]:
    stop = info.size if count is None else min(count, info.size)
    position, step, left = 0, _FIRST if count is None else _MOST, lines
    while position < stop and (count is not None or left):
        data = source.read(position, min(stop, position + step), info.etag)
        position, step = position + len(data), min(4 * step, _MOST)
        if count is None:
            end = _end_of_line(data, left)
            left -= data.count(b"\n", 0, end)
            data = data[:end]
        yield data


def _end_of_line(data: bytes, number: int) -> int:
    """Return where the numberth line ends; the length if it ends later."""
    end = 0
    for _ in range(number):
        end = data.find(b"\n", end) + 1
        if not end:
            return len(data)
    return end


def _tail(source: Source, info: ObjectInfo, lines: int, count: int | None) -> Iterator[bytes]:
    start, known = max(0, info.size - count) if count is not None else info.size, b""
    if count is None and lines:
        start, known = _start_of_tail(source, info, lines)
    stop = info.size - len(known)
    while start < stop:
        data = source.read(start, min(stop, start + _MOST), info.etag)
        start += len(data)
        yield data
    yield known[max(0, start - stop) :]


def _start_of_tail(source: Source, info: ObjectInfo, lines: int) -> tuple[int, bytes]:
    """Return where the last lines begin, and the end of the object as far as it is in memory by then."""
    stop, step, left, known = info.size, _FIRST, lines, b""
    while stop:
        start = max(0, stop - step)
        data = source.read(start, stop, info.etag)
        # A newline at the very end ends the last line and begins none.
        search = len(data) - 1 if stop == info.size and data.endswith(b"\n") else len(data)
        if stop + len(known) == info.size and len(data) + len(known) <= _MOST:
            known = data + known
        while (found := data.rfind(b"\n", 0, search)) >= 0:
            left -= 1
            if not left:
                return start + found + 1, known
            search = found
        stop, step = start, min(4 * step, _MOST)
    return 0, known


def _growth(state: State, source: Source, info: ObjectInfo, interval: float) -> Iterator[bytes]:
    """Yield what is added to an object, for ever."""
    from cosfs.errors import ObjectNotFoundError, PreconditionFailedError

    while True:
        time.sleep(interval)
        try:
            now = source.info()
            if now.etag == info.etag:
                continue
            start = info.size
            if now.size < info.size:
                state.out.talk(f"{source} has become shorter")
                start = 0
            while start < now.size:
                data = source.read(start, min(now.size, start + _MOST), now.etag)
                start += len(data)
                yield data
            info = now
        except PreconditionFailedError:
            continue  # replaced while it was read: the next look shows the new one
        except ObjectNotFoundError:
            state.out.warn(f"{source} is not there any more", once=True)
