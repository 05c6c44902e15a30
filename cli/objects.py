"""What of a prefix a command takes: objects that a listing shows or a list names, and all their versions."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, TypeVar

from cosfs.errors import ConfigError, COSError, ObjectNotFoundError

if TYPE_CHECKING:
    from cosfs.client.model import ObjectInfo, ObjectVersion, Upload
    from cosfs.transfer.engine import Engine

    from .filters import Selection

I = TypeVar("I")  # noqa: E741 - an item
T = TypeVar("T")


class _Page(Protocol):
    @property
    def next_key_marker(self) -> str: ...


P = TypeVar("P", bound=_Page)

NO_HEADERS: Mapping[str, str] = MappingProxyType({})
OnFailure = Callable[[str, COSError], None]


async def selected(
    engine: Engine,
    bucket: str,
    prefix: str,
    selection: Selection,
    on_failure: OnFailure,
    *,
    page_size: int = 1000,
    headers: Mapping[str, str] = NO_HEADERS,
) -> AsyncGenerator[ObjectInfo, None]:
    """Find what is taken of the objects below prefix, in the order of their keys.

    Whole directories that are left out are not listed; named objects are asked for one by one, and
    on_failure(key, error) hears of those that cannot be had.
    """
    found = _listed(engine, bucket, prefix, selection, page_size)
    if selection.names is not None:
        keys = (prefix + name for name in selection.names if selection.filters(name))
        found = named(engine, bucket, keys, on_failure, headers)
    async with aclosing(found):
        async for info in found:
            if selection(info.key[len(prefix) :], info.size, info.last_modified):
                yield info


async def _listed(
    engine: Engine, bucket: str, prefix: str, selection: Selection, page_size: int
) -> AsyncGenerator[ObjectInfo, None]:
    from cosfs.client.model import ObjectInfo
    from cosfs.transfer.scan import list_objects

    async with list_objects(engine, bucket, prefix, page_size=page_size) as listing:
        async for info in listing:
            assert isinstance(info, ObjectInfo)
            relative = info.key[len(prefix) :]
            if selection.takes_name(relative):
                yield info
            elif "/" in relative:
                directory = relative[: relative.rfind("/") + 1]
                if selection.prunes(directory):
                    listing.skip(prefix + directory)


@asynccontextmanager
async def closing(stream: AsyncIterator[T]) -> AsyncIterator[None]:
    """Close a stream that is left early, and with it those it is made of."""
    try:
        yield
    finally:
        if isinstance(stream, AsyncGenerator):
            await stream.aclose()


def _always(_: object) -> bool:
    return True


async def mapped(
    engine: Engine,
    items: AsyncIterator[I] | Iterable[I],
    fn: Callable[[I], T],
    *,
    needs: Callable[[I], bool] = _always,
) -> AsyncGenerator[tuple[I, T | None, COSError | None], None]:
    """Call fn, which blocks, for many items at a time; yield each with its result, in their order.

    What does not need it goes by with None.
    """
    batch: list[I] = []
    # A generator is iterated over as it is: one more around it is felt with thousands of objects.
    async with aclosing(items if isinstance(items, AsyncGenerator) else _async(items)) as stream:
        async for item in stream:
            if not batch and not needs(item):
                yield item, None, None
                continue
            batch.append(item)
            if len(batch) >= 4 * engine.limit:
                for done in await _batch(engine, batch, fn, needs):
                    yield done
                batch = []
    for done in await _batch(engine, batch, fn, needs):
        yield done


async def _async(items: AsyncIterator[I] | Iterable[I]) -> AsyncGenerator[I, None]:
    if isinstance(items, AsyncIterator):
        async with closing(items):
            async for item in items:
                yield item
        return
    for item in items:
        yield item


async def _batch(
    engine: Engine, items: list[I], fn: Callable[[I], T], needs: Callable[[I], bool]
) -> list[tuple[I, T | None, COSError | None]]:
    found: list[tuple[I, T | None, COSError | None]] = [(item, None, None) for item in items]

    def call(place: int) -> T:
        return fn(items[place])

    def keep(place: int, value: T | None, error: Exception | None) -> None:
        if error is not None and (isinstance(error, ConfigError) or not isinstance(error, COSError)):
            raise error
        found[place] = (items[place], value, error)

    await engine.run_many(call, [place for place, item in enumerate(items) if needs(item)], keep)
    return found


async def named(
    engine: Engine,
    bucket: str,
    keys: Iterable[str],
    on_failure: OnFailure,
    headers: Mapping[str, str] = NO_HEADERS,
) -> AsyncGenerator[ObjectInfo, None]:
    """Ask for objects by their keys, many at a time, in the order given."""

    def head(key: str) -> ObjectInfo | None:
        return engine.client.head_object(bucket, key, headers=headers)

    async with aclosing(mapped(engine, keys, head)) as found:
        async for key, info, error in found:
            if error is not None:
                on_failure(key, error)
            elif info is not None:
                yield info


async def with_headers(
    engine: Engine,
    bucket: str,
    infos: AsyncIterator[ObjectInfo],
    on_failure: OnFailure,
    headers: Mapping[str, str] = NO_HEADERS,
) -> AsyncGenerator[ObjectInfo, None]:
    """Ask for what a listing does not say; what went away since it was listed is left out."""

    def head(info: ObjectInfo) -> ObjectInfo | None:
        return engine.client.head_object(bucket, info.key, headers=headers)

    asked = mapped(engine, infos, head, needs=lambda info: info.headers is None)
    async with aclosing(asked):
        async for listed, info, error in asked:
            if error is None:
                yield info or listed
            elif not isinstance(error, ObjectNotFoundError):
                on_failure(listed.key, error)


async def list_versions(engine: Engine, bucket: str, prefix: str) -> AsyncGenerator[ObjectVersion, None]:
    """Iterate over all versions and delete markers below prefix."""
    list_page = partial(engine.client.list_versions, bucket, prefix=prefix)
    async with aclosing(_pages(engine, list_page, "version_id_marker")) as pages:
        async for page in pages:
            for version in page.versions:
                yield version


async def list_uploads(engine: Engine, bucket: str, prefix: str = "") -> AsyncGenerator[Upload, None]:
    """Iterate over all unfinished uploads below prefix; what is aborted meanwhile disturbs no marker."""
    list_page = partial(engine.client.list_uploads, bucket, prefix=prefix)
    async with aclosing(_pages(engine, list_page, "upload_id_marker")) as pages:
        async for page in pages:
            for upload in page.uploads:
                yield upload


async def _pages(engine: Engine, list_page: Callable[..., P], id_marker: str) -> AsyncGenerator[P, None]:
    """Ask for one page after the other; a key and an id together say where the next begins."""
    markers: dict[str, str] = {}
    while True:
        page = await engine.run(partial(list_page, **markers))
        yield page
        if not page.next_key_marker:
            return
        markers = {"key_marker": page.next_key_marker, id_marker: getattr(page, f"next_{id_marker}")}
