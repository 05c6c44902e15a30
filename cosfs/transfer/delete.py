"""Removing very many objects: a thousand a request, several requests at once."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Sequence
from contextlib import aclosing
from functools import partial

from cosfs.client.model import DeleteFailure, ObjectId
from cosfs.errors import COSError, ServiceError
from cosfs.records import dataclass
from cosfs.transfer.engine import Engine

__all__ = ["BATCH", "DeleteCounts", "delete_many"]

BATCH = 1000
_BATCHES_AHEAD = 8

OnResult = Callable[[ObjectId, DeleteFailure | None], None]


@dataclass(slots=True)
class DeleteCounts:
    deleted: int = 0
    failed: int = 0


async def delete_many(
    engine: Engine,
    bucket: str,
    objects: Iterable[ObjectId] | AsyncIterable[ObjectId],
    *,
    on_result: OnResult | None = None,
    batch: int = BATCH,
) -> DeleteCounts:
    """Delete objects as they are named; on_result hears of each, with its failure if it has one.

    A request that fails as a whole is a failure of each of its objects; the others go on. Objects that
    do not exist count as deleted, as COS has it.
    """
    counts = DeleteCounts()

    def told(
        batch: Sequence[ObjectId], failures: list[DeleteFailure] | None, error: Exception | None
    ) -> None:
        if error is not None and not isinstance(error, COSError):
            raise error
        failed = {(failure.key, failure.version_id): failure for failure in failures or ()}
        for item in batch:
            failure = _failure(item, error) if error is not None else _find(failed, item)
            counts.failed += failure is not None
            counts.deleted += failure is None
            if on_result is not None:
                on_result(item, failure)

    delete = partial(engine.client.delete_objects, bucket)
    async with aclosing(_batches(objects, batch)) as batches:
        await engine.run_many(delete, batches, told, kind="delete", backlog=_BATCHES_AHEAD)
    return counts


def _find(failed: dict[tuple[str, str], DeleteFailure], item: ObjectId) -> DeleteFailure | None:
    # An answer may leave out the version that the request named.
    return failed.get((item.key, item.version_id)) or failed.get((item.key, ""))


def _failure(item: ObjectId, error: Exception) -> DeleteFailure:
    if isinstance(error, ServiceError) and error.code:
        return DeleteFailure(item.key, item.version_id, error.code, error.message, error.hint)
    return DeleteFailure(item.key, item.version_id, type(error).__name__, str(error))


async def _batches(
    objects: Iterable[ObjectId] | AsyncIterable[ObjectId], size: int
) -> AsyncGenerator[list[ObjectId], None]:
    batch: list[ObjectId] = []
    if isinstance(objects, AsyncIterable):
        async for item in objects:
            batch.append(item)
            if len(batch) >= size:
                yield batch
                batch = []
    else:
        for item in objects:
            batch.append(item)
            if len(batch) >= size:
                yield batch
                batch = []
    if batch:
        yield batch
