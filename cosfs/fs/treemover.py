"""Moving everything below a prefix to another one: copies, many at a time, and what they leave to do."""

from __future__ import annotations

import errno
import logging
from collections.abc import Collection
from dataclasses import dataclass

import trio

from cosfs.client.client import CosClient
from cosfs.client.model import ObjectInfo
from cosfs.errors import AlreadyExistsError, FilesystemError, NotFoundError
from cosfs.fs import names
from cosfs.fs.background import together
from cosfs.fs.commit import Committer
from cosfs.fs.helpers import is_helper
from cosfs.fs.remote import Remote
from cosfs.fs.sender import ONE_COPY_MAX
from cosfs.transfer.copy import copy_object
from cosfs.transfer.engine import Engine
from cosfs.transfer.looker import Arguments
from cosfs.units import MIB

log = logging.getLogger(__name__)

PARALLEL = 32
SMALL = 8 * MIB  # up to here objects are copied in a second process, so many with one message:
TOGETHER = 32
GROUPS = 3


@dataclass(frozen=True, slots=True)
class Copied:
    """What was made of an object under another key."""

    source_etag: str
    etag: str


@dataclass(slots=True)
class _Move:
    """An object and the key it gets; free tells that nothing of ours is there."""

    info: ObjectInfo
    new_key: str
    free: bool = False


def _arguments(bucket: str, move: _Move, new_bucket: str) -> Arguments:
    """What copies an object."""
    info = move.info
    return (new_bucket, move.new_key, bucket, info.key), {
        "if_match": info.etag,
        "storage_class": info.storage_class,
        "forbid_overwrite": move.free,
        "size": info.size,
    }


class TreeMover:
    """Copies every object below one prefix to another; remembers what it did.

    resume is for a move that was interrupted: what is at its new place already stays as it is; left are
    objects (bucket, key, etag) that files of that time have left there when they got other names.
    """

    def __init__(
        self,
        remote: Remote,
        engine: Engine,
        committer: Committer,
        *,
        resume: bool = False,
        left: Collection[tuple[str, str, str]] = (),
    ) -> None:
        self._remote = remote
        self._engine = engine
        self._committer = committer
        self._resume = resume
        self._left = left
        self.copied: list[tuple[str, str]] = []  # source key, etag
        self.made: dict[str, Copied] = {}  # by the new key
        self.stayed: list[str] = []  # sources of a resumed move whose new keys are taken
        self._claimed: list[str] = []  # new keys
        self._tried: dict[str, str] = {}  # etags of sources, by new keys that were free or are directories

    async def copy_all(self, bucket: str, prefix: str, new_bucket: str, new_prefix: str) -> None:
        """Copy page by page; the first failure stops everything."""
        marker = ""
        slots, groups = trio.CapacityLimiter(PARALLEL), trio.CapacityLimiter(GROUPS)
        while True:
            since = trio.current_time()
            page = await self._remote.metadata(
                self._remote.client.list_objects, bucket, prefix=prefix, marker=marker
            )
            for info in page.objects:
                names.check_key(new_prefix + info.key[len(prefix) :])
            moves = [
                _Move(info, new_prefix + info.key[len(prefix) :])
                for info in page.objects
                if not self._is_leaving(bucket, info, since)
            ]
            async with together() as nursery:
                for start in range(0, len(moves), TOGETHER):
                    some = moves[start : start + TOGETHER]
                    nursery.start_soon(self._some, groups, slots, bucket, some, new_bucket)
            marker = page.next_marker
            if not marker:
                return

    def _is_leaving(self, bucket: str, info: ObjectInfo, since: float) -> bool:
        """Objects that are only waiting to be removed, or that help to make others, are not part of it."""
        if is_helper(info):
            return True  # it goes when it has served, wherever what it serves is by then
        place = bucket, info.key, info.etag
        return place in self._left or self._committer.leavings.is_leaving(*place, since)

    async def _some(
        self,
        groups: trio.CapacityLimiter,
        slots: trio.CapacityLimiter,
        bucket: str,
        moves: list[_Move],
        new_bucket: str,
    ) -> None:
        """Copy some objects: small ones in a second process, the others and what fails there one by one."""
        async with groups:
            for move in moves:
                await self._claim(move, new_bucket)
            small = [move for move in moves if move.free and move.info.size <= SMALL]
            made = await self._remote.create_aside(
                new_bucket,
                "copy_object",
                [_arguments(bucket, move, new_bucket) for move in small],
                sum([len(move.new_key) + 256 for move in small]),
            )
            done = set()
            for move, result in zip(small, made, strict=True):
                if result is not None:
                    self._note(move, result.etag)
                    done.add(move.new_key)
        async with together() as nursery:
            for move in moves:
                if move.new_key not in done:
                    nursery.start_soon(self._one, slots, bucket, move, new_bucket)

    async def _claim(self, move: _Move, new_bucket: str) -> None:
        """Have the new key of an object to ourselves; note what is about to be tried there."""
        is_dir = move.new_key.endswith("/")
        move.free = not await self._committer.leavings.take(new_bucket, move.new_key) and not is_dir
        self._claimed.append(move.new_key)
        if move.free or is_dir:
            self._tried[move.new_key] = move.info.etag

    def _note(self, move: _Move, etag: str) -> None:
        self.made[move.new_key] = Copied(move.info.etag, etag or move.info.etag)
        self.copied.append((move.info.key, move.info.etag))

    async def _one(self, slots: trio.CapacityLimiter, bucket: str, move: _Move, new_bucket: str) -> None:
        info, new_key = move.info, move.new_key
        async with slots:
            try:
                made = await self._copy(bucket, move, new_bucket)
            except AlreadyExistsError:
                there = await self._twin(bucket, info, new_bucket, new_key)
                if there is None:
                    if not self._resume:
                        raise FilesystemError(errno.ENOTEMPTY) from None
                    log.error(
                        "cos://%s/%s exists already; cos://%s/%s stays", new_bucket, new_key, bucket, info.key
                    )
                    self.stayed.append(info.key)
                    return
                made = there
            self._note(move, made)

    async def _copy(self, bucket: str, move: _Move, new_bucket: str) -> str:
        """Copy one object; return the etag of the copy."""
        info, new_key = move.info, move.new_key
        if info.size > ONE_COPY_MAX:
            async with self._committer.uploads.intent(new_bucket, new_key):
                done = await copy_object(
                    self._engine, bucket, info.key, new_bucket, new_key, storage_class=info.storage_class
                )
            return done.etag
        args, kwargs = _arguments(bucket, move, new_bucket)
        client: CosClient = self._remote.client
        result = await self._remote.change(client.copy_object, *args, **kwargs)
        return result.etag

    async def _twin(self, bucket: str, info: ObjectInfo, new_bucket: str, new_key: str) -> str | None:
        """The etag of what is in the way of a copy if it is that copy: its answer was lost."""
        head = self._remote.client.head_object
        source = await self._remote.metadata(head, bucket, info.key)
        there = await self._remote.metadata(head, new_bucket, new_key)
        if source is None or there is None or source.crc64 is None:
            return None
        return there.etag if (there.size, there.crc64) == (source.size, source.crc64) else None

    async def find_copies(self, bucket: str, prefix: str, new_bucket: str, new_prefix: str) -> None:
        """Find what an earlier process has copied, to undo it."""
        marker = ""
        while True:
            since = trio.current_time()
            page = await self._remote.metadata(
                self._remote.client.list_objects, bucket, prefix=prefix, marker=marker
            )
            for info in page.objects:
                if self._is_leaving(bucket, info, since):
                    continue
                new_key = new_prefix + info.key[len(prefix) :]
                try:
                    twin = await self._twin(bucket, info, new_bucket, new_key)
                except NotFoundError:
                    continue
                if twin is not None and new_key not in self.made:
                    self.made[new_key] = Copied(info.etag, twin)
            marker = page.next_marker
            if not marker:
                return

    @property
    def etags(self) -> dict[str, str]:
        """Of the copies, by their keys."""
        return {key: copy.etag for key, copy in self.made.items()}

    def moved(self, prefix: str) -> list[tuple[str, str]]:
        """What is to be removed now, the name of the directory included though it may have no object."""
        if self.stayed or any(key == prefix for key, _ in self.copied):
            return self.copied
        return [*self.copied, (prefix, "")]

    def undo(self, new_bucket: str, keep: str = "") -> None:
        """Have the copies made so far removed, but for the key keep; the sources are still all there."""
        made = [(key, copy.etag) for key, copy in self.made.items() if key != keep]
        self._committer.deleter.schedule_all(new_bucket, made)
        for key, etag in self._tried.items():
            if key not in self.made and key != keep:  # perhaps only the answer was lost
                directory = key.endswith("/")
                self._committer.deleter.schedule(new_bucket, key, etag, careful=True, directory=directory)
        for key in self.made:
            self._committer.deleter.replaced(new_bucket, key)
        for key in self._claimed:
            if key not in self.made:  # what was to be removed there before is to be removed all the same
                self._committer.deleter.not_replaced(new_bucket, key)
