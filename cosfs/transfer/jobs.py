"""Interrupted transfers as jobs: gone on with, or given up for good."""

from __future__ import annotations

from pathlib import Path

import trio

from cosfs.client.model import Headers, Upload
from cosfs.errors import TransferError
from cosfs.transfer import opening
from cosfs.transfer.begun import LeftUploads
from cosfs.transfer.copy import copy_object
from cosfs.transfer.download import download_file
from cosfs.transfer.engine import Engine
from cosfs.transfer.model import TransferResult
from cosfs.transfer.paths import DestinationRoot, LocalTarget
from cosfs.transfer.reopen import doubt_of
from cosfs.transfer.resume import State
from cosfs.transfer.temporary import TemporaryFile
from cosfs.transfer.upload import upload_file
from cosfs.transfer.work import Progress

__all__ = ["abort_left", "discard", "resume"]


async def resume(engine: Engine, state: State, progress: Progress | None = None) -> TransferResult:
    """Do the rest of a transfer, as the command that began it would; a changed source is begun again."""
    options = state.transfer_options()
    if state.region:
        engine.client.know_region(state.bucket, state.region)
    if state.op == "upload":
        headers, forbid = _headers(state)
        return await upload_file(
            engine,
            state.source,
            state.bucket,
            state.key,
            headers=headers,
            progress=progress,
            forbid_overwrite=forbid,
            options=options,
        )
    if state.op == "copy":
        headers, forbid = _headers(state)
        return await copy_object(
            engine,
            state.source_bucket,
            state.source_key,
            state.bucket,
            state.key,
            headers=headers,
            storage_class=headers.storage_class,
            source_version_id=state.version_id,
            forbid_overwrite=forbid,
            progress=progress,
            options=options,
        )
    if not state.root:
        return await _download(engine, state, LocalTarget(state.destination), progress)
    with DestinationRoot(state.root) as root:
        relative = state.destination.removeprefix(state.root.rstrip("/") + "/")
        return await _download(engine, state, root.target(relative), progress)


async def _download(
    engine: Engine, state: State, target: LocalTarget, progress: Progress | None
) -> TransferResult:
    return await download_file(
        engine,
        state.bucket,
        state.key,
        target,
        version_id=state.version_id,
        progress=progress,
        options=state.transfer_options(),
    )


def _headers(state: State) -> tuple[Headers, bool]:
    """Return what the object will say about itself, and whether it must not replace another."""
    found = {name: state.headers[name] for name in Headers.__dataclass_fields__ if name in state.headers}
    return Headers(**found), bool(state.headers.get("forbid_overwrite"))


async def discard(engine: Engine, record_id: str) -> None:
    """Give a job up: abort its upload, remove its temporary file, forget it.

    Raises TransferError if a process works on it now. An upload that cannot be aborted stays in the list.
    """
    records = engine.records
    assert records is not None
    record = await trio.to_thread.run_sync(records.open, record_id)
    if record is None:
        if records.get(record_id) is None:
            return
        raise TransferError("a process works on this job now", hint="End that process first.")
    try:
        state = record.state
        if state.upload_id:
            if state.region:
                engine.client.know_region(state.bucket, state.region)
            await engine.run(opening.abort, engine, Upload(state.bucket, state.key, state.upload_id))
        elif state.asked:
            opening.look_for(engine, doubt_of(state))
        if state.temporary:
            await trio.to_thread.run_sync(_remove_temporary, state)
        await trio.to_thread.run_sync(record.remove)
    finally:
        record.release()


async def abort_left(engine: Engine, left: LeftUploads) -> None:
    """Abort what a killed process has left open; the first that cannot be aborted ends it."""
    for noted in left.uploads:
        await engine.run(opening.give_up, engine, noted)
        await trio.to_thread.run_sync(left.forget, noted)


def _remove_temporary(state: State) -> None:
    if not Path(state.destination).parent.is_dir():
        return
    found = TemporaryFile.reopen(LocalTarget(state.destination), state.temporary, state.file)
    if found is not None:
        found.discard()
