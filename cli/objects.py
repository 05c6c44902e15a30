"""What of a prefix a command takes: objects that a listing shows or a list names, and all their versions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from cosfs.errors import ConfigError, COSError, ObjectNotFoundError

if TYPE_CHECKING:
    from cosfs.client.model import ObjectInfo, ObjectVersion
    from cosfs.transfer.engine import Engine

    from .filters import Selection

OnFailure = Callable[[str, COSError], None]


async def selected(
    engine: Engine, bucket: str, prefix: str, selection: Selection, on_failure: OnFailure
) -> AsyncIterator[ObjectInfo]:
    """Find what is taken of the objects below prefix, in the order of their keys.

    Whole directories that are left out are not listed; named objects are asked for one by one, and
    on_failure(key, error) hears of those that cannot be had.
    """
    found = _listed(engine, bucket, prefix, selection)
    if selection.names is not None:
        keys = (prefix + name for name in selection.names if selection.filters(name))
        found = named(engine, bucket, keys, on_failure)
    async for info in found:
        if selection(info.key[len(prefix) :], info.size, info.last_modified):
            yield info


async def _listed(
    engine: Engine, bucket: str, prefix: str, selection: Selection
) -> AsyncIterator[ObjectInfo]:
    from cosfs.client.model import ObjectInfo
    from cosfs.transfer.scan import list_objects

    async with list_objects(engine, bucket, prefix) as listing:
        async for info in listing:
            assert isinstance(info, ObjectInfo)
            relative = info.key[len(prefix) :]
            if selection.takes_name(relative):
                yield info
            elif "/" in relative:
                directory = relative[: relative.rfind("/") + 1]
                if selection.prunes(directory):
                    listing.skip(prefix + directory)


async def named(
    engine: Engine, bucket: str, keys: Iterable[str], on_failure: OnFailure
) -> AsyncIterator[ObjectInfo]:
    """Ask for objects by their keys, many at a time, in the order given."""
    batch: list[str] = []
    for key in keys:
        batch.append(key)
        if len(batch) >= 4 * engine.limit:
            for info in await _heads(engine, bucket, batch, on_failure):
                yield info
            batch = []
    for info in await _heads(engine, bucket, batch, on_failure):
        yield info


async def with_headers(
    engine: Engine, bucket: str, infos: AsyncIterator[ObjectInfo], on_failure: OnFailure
) -> AsyncIterator[ObjectInfo]:
    """Ask for what a listing does not say; what went away since it was listed is left out."""

    def failed(key: str, error: COSError) -> None:
        if not isinstance(error, ObjectNotFoundError):
            on_failure(key, error)

    batch: list[ObjectInfo] = []
    async for info in infos:
        batch.append(info)
        if len(batch) >= 4 * engine.limit:
            for each in await _complete(engine, bucket, batch, failed):
                yield each
            batch = []
    for each in await _complete(engine, bucket, batch, failed):
        yield each


async def _complete(
    engine: Engine, bucket: str, infos: list[ObjectInfo], on_failure: OnFailure
) -> list[ObjectInfo]:
    asked = [info.key for info in infos if info.headers is None]
    found = {info.key: info for info in infos if info.headers is not None}
    found |= {info.key: info for info in await _heads(engine, bucket, asked, on_failure)}
    return [found[info.key] for info in infos if info.key in found]


async def _heads(engine: Engine, bucket: str, keys: list[str], on_failure: OnFailure) -> list[ObjectInfo]:
    found: dict[str, ObjectInfo] = {}

    def keep(key: str, info: ObjectInfo | None, error: Exception | None) -> None:
        if error is None:
            assert info is not None
            found[key] = info
        elif isinstance(error, COSError) and not isinstance(error, ConfigError):
            on_failure(key, error)
        else:
            raise error

    def head(key: str) -> ObjectInfo | None:
        return engine.client.head_object(bucket, key)

    await engine.run_many(head, keys, keep)
    return [found[key] for key in keys if key in found]


async def list_versions(engine: Engine, bucket: str, prefix: str) -> AsyncIterator[ObjectVersion]:
    """Iterate over all versions and delete markers below prefix."""
    key_marker = version_id_marker = ""
    while True:
        page = await engine.run(
            partial(
                engine.client.list_versions,
                bucket,
                prefix=prefix,
                key_marker=key_marker,
                version_id_marker=version_id_marker,
            )
        )
        for version in page.versions:
            yield version
        if not page.next_key_marker:
            return
        key_marker, version_id_marker = page.next_key_marker, page.next_version_id_marker
