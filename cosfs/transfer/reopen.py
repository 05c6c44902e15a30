"""Multipart uploads that go on where an earlier process stopped: of files, and of server copies."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import trio

from cosfs.client.model import Headers, Part, Upload
from cosfs.errors import COSError, NotFoundError
from cosfs.transfer import opening
from cosfs.transfer.engine import Engine, open_nursery
from cosfs.transfer.model import Doubt
from cosfs.transfer.multipart import MultipartUpload, Piece
from cosfs.transfer.options import TransferOptions
from cosfs.transfer.parts import MAX_PART_SIZE, MAX_PARTS, MIN_PART_SIZE, part_count, part_range
from cosfs.transfer.resume import Operation, Record, State, can_be_resumed, saving, tell_unsaved

__all__ = ["as_state", "begun_part_size", "claim", "doubt_of", "held", "open_upload", "send_missing"]

log = logging.getLogger(__name__)

# What must be the same for parts of before to be of use.
_SAME = ("size", "part_size", "bucket", "key", "file", "etag", "version_id", "headers")


async def claim(
    engine: Engine, op: Operation, source: str, destination: str, size: int, options: TransferOptions
) -> Record | None:
    """Return the record of a transfer; None if it is small, shall not or cannot be resumed."""
    wanted = engine.settings.resume if options.resume is None else options.resume
    # Who has the key of an encrypted object is not written down, and without it there is no going on.
    encrypted = options.customer_key is not None or options.source_customer_key is not None
    if engine.records is None or not wanted or encrypted or size < engine.settings.resume_threshold:
        return None
    return await trio.to_thread.run_sync(engine.records.claim, op, source, destination)


def begun_part_size(record: Record | None, size: int, length: int) -> int:
    """Return the size of the parts that were sent already, or else length: settings may be others now."""
    if record is None or not record.state.upload_id or record.state.size != size:
        return length
    begun = record.state.part_size
    fits = MIN_PART_SIZE <= begun <= MAX_PART_SIZE and part_count(size, begun) <= MAX_PARTS
    return begun if fits else length


def as_state(headers: Headers, *, forbid_overwrite: bool) -> dict[str, Any]:
    """Return what an object will say about itself as a record keeps it."""
    found: dict[str, Any] = {name: getattr(headers, name) for name in Headers.__dataclass_fields__}
    return found | {
        "metadata": dict(headers.metadata),
        "extra": dict(headers.extra),
        "forbid_overwrite": forbid_overwrite,
    }


async def open_upload(
    engine: Engine,
    record: Record | None,
    wanted: State,
    headers: Headers,
    options: TransferOptions,
    *,
    forbid_overwrite: bool = False,
) -> MultipartUpload:
    """Return the upload that a record remembers, with the parts that COS holds; otherwise a new one.

    Only our own upload is looked at, by its id. One of something else (the file was changed, the options
    are others) is aborted.
    """
    if record is not None and record.state.upload_id:
        found = await _reopened(engine, record.state, wanted, options, forbid_overwrite)
        if found is not None:
            return found
    if record is None:
        return await MultipartUpload.create(
            engine, wanted.bucket, wanted.key, headers, forbid_overwrite, options
        )
    if record.state.asked:
        # A process was killed while it waited for the answer.
        opening.look_for(engine, doubt_of(record.state))
    return await _recorded(engine, record, wanted, headers, options, forbid_overwrite)


def doubt_of(state: State) -> Doubt:
    """Return what is to be found out about an upload that was asked for and whose id is not known."""
    return Doubt(state.bucket, state.key, state.asked, state.asked)


async def _recorded(
    engine: Engine,
    record: Record,
    wanted: State,
    headers: Headers,
    options: TransferOptions,
    forbid_overwrite: bool,
) -> MultipartUpload:
    """Open an upload; the record tells of it before and after."""
    state = record.state
    state.begin_again()
    for name in (*_SAME, "source_bucket", "source_key"):
        setattr(state, name, getattr(wanted, name))
    state.region = engine.client.known_region(wanted.bucket)
    state.keep_options(options)
    state.asked = time.time()
    await _save(record)
    try:
        upload = await MultipartUpload.create(
            engine, wanted.bucket, wanted.key, headers, forbid_overwrite, options
        )
    except BaseException:
        record.remove()
        raise
    state.asked, state.upload_id = 0.0, upload.upload.upload_id
    try:
        if await _save(record):
            opening.forget(engine, upload.upload)
    except BaseException:
        await upload.abort()
        raise
    return upload


async def _save(record: Record) -> bool:
    try:
        await trio.to_thread.run_sync(record.save)
    except OSError as error:
        tell_unsaved(error)
        return False
    return True


async def _reopened(
    engine: Engine, state: State, wanted: State, options: TransferOptions, forbid_overwrite: bool
) -> MultipartUpload | None:
    upload = Upload(state.bucket, state.key, state.upload_id)
    if any(getattr(state, name) != getattr(wanted, name) for name in _SAME):
        log.info("cos://%s/%s is begun again: the source is another than before", state.bucket, state.key)
        try:
            await engine.run(opening.abort, engine, upload)
        except COSError as error:
            log.warning("could not abort the upload of %r: %s", state.key, error)
            opening.keep_in_mind(engine, upload)
        return None
    try:
        listed = await engine.run(engine.client.list_parts, upload)
    except NotFoundError:
        return None
    found = MultipartUpload(engine, upload, forbid_overwrite=forbid_overwrite, options=options)
    for part in listed:
        recorded = state.done.get(str(part.number))
        start, stop = part_range(part.number, state.size, state.part_size)
        if recorded is not None and part.etag == recorded[0] and part.size == stop - start:
            found.parts[part.number] = Part(part.number, part.etag, part.size, recorded[2], recorded[1])
    state.done = {number: done for number, done in state.done.items() if int(number) in found.parts}
    return found


async def send_missing(
    upload: MultipartUpload,
    record: Record | None,
    send: Callable[[Piece], Part],
    pieces: Iterable[Piece],
    on_part: Callable[[Part], None] | None = None,
) -> None:
    """Send the parts that COS does not hold, and note each that it does from then on."""
    missing = (piece for piece in pieces if piece[0] not in upload.parts)
    if record is None:
        await upload.send_all(send, missing, on_part)
        return
    done = record.state.done
    async with open_nursery() as nursery:
        changed: Callable[[], None] = await nursery.start(partial(saving, record))

        def keep(part: Part) -> None:
            done[str(part.number)] = [part.etag, part.md5, part.crc64]
            changed()
            if on_part is not None:
                on_part(part)

        await upload.send_all(send, missing, keep)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def held(engine: Engine, record: Record | None, upload: MultipartUpload) -> AsyncIterator[None]:
    """Keep an upload and its record if the with block fails and it can be resumed; else be rid of both.

    The upload goes first: of one that is open and that no record tells of, nobody would know.
    """
    if record is None:
        yield
        return
    with trio.CancelScope(shield=True) as shield:
        shield.shield = False
        try:
            yield
        except BaseException as error:
            shield.shield = True
            wanted = bool(upload.parts) and can_be_resumed(error)
            upload.kept = wanted and await trio.to_thread.run_sync(record.keep)
            if upload.kept:
                opening.forget(engine, upload.upload)
                if engine.records is not None:
                    engine.records.kept.append(record.id)
            elif await upload.abort():
                await trio.to_thread.run_sync(record.remove)
            raise
        else:
            shield.shield = True
            await trio.to_thread.run_sync(record.remove)
        finally:
            record.release()
