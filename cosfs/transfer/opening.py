"""Opening and ending multipart uploads, each noted on disk while it is open; blocking, for worker threads."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from cosfs.client.model import Headers, Part, PutResult, Upload
from cosfs.errors import COSError, NotFoundError
from cosfs.transfer.begun import Noted
from cosfs.transfer.engine import Engine
from cosfs.transfer.model import Doubt
from cosfs.transfer.options import TransferOptions

__all__ = ["abort", "complete", "create", "forget", "give_up", "keep_in_mind", "look_for"]

log = logging.getLogger(__name__)


def create(
    engine: Engine, bucket: str, key: str, headers: Headers, forbid_overwrite: bool, options: TransferOptions
) -> Upload:
    """Open an upload; what a killed process has left open of the key is given up."""
    call: Callable[[], Upload] = partial(
        engine.client.create_upload,
        bucket,
        key,
        headers=headers,
        forbid_overwrite=forbid_overwrite,
        extra=options.key_headers,
    )
    notes = engine.open_uploads
    if notes is None:
        return call()
    for left in notes.take_left(bucket, key):
        if not left.upload_id:
            engine.doubts.add(Doubt(bucket, key, left.since, left.since))
            continue
        try:
            give_up(engine, left)
        except COSError as error:
            log.warning("could not abort an earlier upload of %r: %s", key, error)
    return notes.open(bucket, key, engine.client.known_region(bucket), call)


def complete(engine: Engine, upload: Upload, parts: list[Part], forbid_overwrite: bool) -> PutResult:
    """Make the object of its parts."""
    result = engine.client.complete_upload(upload, parts, forbid_overwrite=forbid_overwrite)
    forget(engine, upload)
    return result


def abort(engine: Engine, upload: Upload) -> None:
    """Abort an upload; one that is gone, if only with its bucket, is fine."""
    try:
        engine.client.abort_upload(upload)
    except NotFoundError:
        pass
    forget(engine, upload)


def forget(engine: Engine, upload: Upload) -> None:
    """Take an upload out of the note of this process: it is over, or a record tells of it."""
    if engine.open_uploads is not None:
        engine.open_uploads.over(upload)


def keep_in_mind(engine: Engine, upload: Upload) -> None:
    """Note an upload that is open and could not be aborted."""
    if engine.open_uploads is not None:
        engine.open_uploads.keep(upload, engine.client.known_region(upload.bucket))


def look_for(engine: Engine, doubt: Doubt) -> None:
    """Have an upload whose id nobody knows looked for at the end of the work; noted until then."""
    engine.doubts.add(doubt)
    if engine.open_uploads is not None:
        region = engine.client.known_region(doubt.bucket)
        engine.open_uploads.doubt(Noted(doubt.bucket, doubt.key, region, doubt.since))


def give_up(engine: Engine, left: Noted) -> None:
    """Abort what another process has left open, or have it looked for."""
    if left.region:
        engine.client.know_region(left.bucket, left.region)
    if left.upload_id:
        abort(engine, Upload(left.bucket, left.key, left.upload_id))
    else:
        look_for(engine, Doubt(left.bucket, left.key, left.since, left.since))
