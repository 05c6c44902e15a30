"""What files of an earlier mount need of objects under names that they had before.

A file that was renamed while it was changed takes what it does not change from the object under
its former name. That object is no file any more, and has to stay until the file was sent.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from cosfs.errors import NotFoundError, PreconditionFailedError
from cosfs.fs.filesystem import Filesystem
from cosfs.fs.journal import Record
from cosfs.fs.staging import Staging

log = logging.getLogger(__name__)

Place = tuple[str, str, str]  # bucket, key, etag


def left_behind(records: Iterable[Record]) -> set[Place]:
    """The objects that files whose bytes are to be sent have under former names.

    A file that was never closed keeps the object, and its name: its bytes were promised to nobody.
    """
    return {place for record in records if record.kind == "file" for place in _former(record)}


def _former(record: Record) -> list[Place]:
    return [(bucket, key, etag) for bucket, key, etag in record.body.get("obsolete", ())]


async def without_former(fs: Filesystem, record: Record, bucket: str, prefix: str) -> Record:
    """A record that needs nothing below a prefix, because this is about to be written anew."""
    going = [place for place in _former(record) if place[0] == bucket and place[1].startswith(prefix)]
    if not going or damage(record, fs.journal.staging):
        return record
    content = Staging.from_json(fs.journal.staging, record.body["content"], fs.journal.retire)
    try:
        base = content.base
        if base is not None and (base.bucket, base.key, base.etag) in going:
            await _fill(fs, record, content)
        body = {
            **record.body,
            "content": content.to_json(),
            "obsolete": [place for place in _former(record) if place not in going],
        }
        with fs.journal.together():
            fs.journal.replace(record.id, record.kind, record.bucket, record.key, body)
            fs.deleter.schedule_all(bucket, [(key, etag) for _, key, etag in going])
    finally:
        content.close(keep=True)
    return replace(record, body=body)


async def _fill(fs: Filesystem, record: Record, content: Staging) -> None:
    """Have all bytes of a file here."""
    try:
        await content.fill(fs.fetcher)
    except (NotFoundError, PreconditionFailedError) as exc:
        log.warning("what %s still needs of its former name is gone: %s", record.key, exc)
        return
    content.detach()
    await content.make_durable()


def damage(record: Record, staging: Path) -> str:
    """What is wrong with the bytes of a record, "" if nothing is."""
    content = record.body["content"]
    end = max((stop for _, stop in content["changed"]), default=0)
    if not content["path"]:
        return "" if content.get("data") or not end else "its staging file is not named"
    path = staging / Path(content["path"]).name
    try:
        size = path.stat().st_size
    except OSError as exc:
        return f"its staging file {path} is missing ({exc.strerror})"
    if content.get("durable"):
        end = min(end, content["durable"][1])  # what was written since was acknowledged to nobody
    return f"its staging file was cut to {size} bytes, {end} were written" if size < end else ""
