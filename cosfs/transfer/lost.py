"""Uploads that COS may have opened although the answer never came: looked for, given up where that is safe.

Nothing in a listing tells our upload of a key from that of another client with the same credentials. Parts
do: whoever knows the id sends them. So only one that has stayed without any for an hour is aborted;
a younger one is named to the user, who knows what else writes to the key.
"""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Iterable

import trio

from cosfs.client.model import Upload
from cosfs.errors import COSError, NotFoundError
from cosfs.records import dataclass
from cosfs.transfer.begun import noted_ids
from cosfs.transfer.engine import Engine
from cosfs.transfer.model import Doubt

__all__ = ["Stray", "settle", "settle_doubt"]

log = logging.getLogger(__name__)

# So long no client takes for its first part.
_ABANDONED = 3600.0
# How far our clock may be off; where our own upload is in the listing, its time is what counts.
_SKEW = 900.0
_SECOND = 1.0  # what times in a listing are rounded to
_MOST = 100  # doubts, and uploads of one key, that are looked at


@dataclass(frozen=True, slots=True)
class Stray:
    """What is left to the user: an upload that may be ours, or, without one, a key nobody could look at."""

    bucket: str
    key: str
    upload: Upload | None

    def __str__(self) -> str:
        """Say what it is and how to be rid of it."""
        name = f"cos://{self.bucket}/{self.key}"
        if self.upload is None:
            words, text = ["ls", name], "an upload of it may have been left open, the answer was lost. See"
        else:
            words = ["abort", name, "--upload-id", self.upload.upload_id]
            text = "an upload without parts was left open when an answer was lost. If it is nobody else's"
        return f"{name}: {text}: {shlex.join(['cos', 'multipart', *words])}"


async def settle(engine: Engine, patience: float = 10.0) -> list[Stray]:
    """Look into the doubts of an engine; return what it takes somebody else to decide.

    Takes about patience seconds at most, and is not cancelled meanwhile.
    """
    doubts = sorted(engine.doubts, key=lambda doubt: (doubt.bucket, doubt.key, doubt.since))[:_MOST]
    engine.doubts.clear()
    found: dict[str, Stray] = {}

    async def look(doubt: Doubt) -> None:
        name = f"cos://{doubt.bucket}/{doubt.key}"
        found[name] = Stray(doubt.bucket, doubt.key, None)
        try:
            left = await settle_doubt(engine, doubt)
        except COSError as error:
            log.info("cannot look for lost uploads of %s: %s", name, error)
            if not isinstance(error, NotFoundError):
                return
            left = []
        found.pop(name, None)
        found.update((f"{name} {each.upload_id}", Stray(doubt.bucket, doubt.key, each)) for each in left)

    if doubts:
        with trio.move_on_after(patience, shield=True):
            async with trio.open_nursery() as nursery:
                for doubt in doubts:
                    nursery.start_soon(look, doubt)
    return list(found.values())


async def settle_doubt(engine: Engine, doubt: Doubt) -> list[Upload]:
    """Abort what is surely nobody's; return the uploads that may be the lost one, or somebody else's."""
    left: list[Upload] = []
    for upload in _candidates(doubt, await _listed(engine, doubt), _recorded(engine)):
        try:
            if await engine.run(engine.client.list_parts, upload):
                continue
        except NotFoundError:
            continue
        if time.time() - upload.initiated < _ABANDONED + _SKEW:
            left.append(upload)
            continue
        log.info("giving up an upload of cos://%s/%s that never got a part", doubt.bucket, doubt.key)
        await engine.run(engine.client.abort_upload, upload)
    return left


async def _listed(engine: Engine, doubt: Doubt) -> list[Upload]:
    """Return the open uploads of exactly this key."""
    page = await engine.run(_page, engine, doubt)
    return [upload for upload in page if upload.key == doubt.key][:_MOST]


def _page(engine: Engine, doubt: Doubt) -> list[Upload]:
    # Those of the key itself come first of all that begin with it.
    return list(engine.client.list_uploads(doubt.bucket, prefix=doubt.key).uploads)


def _candidates(doubt: Doubt, listed: Iterable[Upload], recorded: set[str]) -> list[Upload]:
    listed = list(listed)
    own = [upload for upload in listed if upload.upload_id == doubt.known]
    until = doubt.until or time.time()
    first, last = doubt.since - _SKEW, until + _SKEW
    if own:
        # By the server's clock: the lost one was opened before that which was heard of, not long before.
        last = own[0].initiated + _SECOND
        first = last - (until - doubt.since) - 2 * _SECOND
    people = {upload.initiator for upload in own}
    return [
        upload
        for upload in listed
        if upload.upload_id != doubt.known
        and upload.upload_id not in recorded
        and first <= upload.initiated <= last
        and (not people or upload.initiator in people)
    ]


def _recorded(engine: Engine) -> set[str]:
    """Return the uploads that this user's processes have open or are to go on with."""
    if engine.records is None:
        return set()
    kept = {state.upload_id for _, state in engine.records.all() if state.upload_id}
    return kept | noted_ids(engine.records.directory)
