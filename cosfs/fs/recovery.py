"""Finishing what an earlier process left in the journal.

Files that were promised become files of this mount at once (adoption.py) and are sent under the
same rules as any other; if somebody changed the object meanwhile both are kept. A removal is
repeated only if the object is still the one that was to be removed. A rename half done is
finished, or undone if it cannot be. What can be neither is kept (salvage.py) and told.
"""

from __future__ import annotations

import itertools
import logging
from dataclasses import dataclass, field

import trio

from cosfs.client.model import Headers, ObjectInfo
from cosfs.errors import (
    BucketNotFoundError,
    COSError,
    NotFoundError,
    PreconditionFailedError,
)
from cosfs.fs.adoption import adopt_file, expected
from cosfs.fs.attrdb import DATABASE, forget
from cosfs.fs.background import together
from cosfs.fs.filesystem import Filesystem
from cosfs.fs.former import damage, left_behind, without_former
from cosfs.fs.inodes import DirNode, FileNode
from cosfs.fs.journal import Journal, Record
from cosfs.fs.marks import Mark, is_one_of, mark_of
from cosfs.fs.records import headers_from_json
from cosfs.fs.resetting import reset_attributes
from cosfs.fs.salvage import Salvage
from cosfs.fs.sender import is_same
from cosfs.fs.settings import MIB
from cosfs.fs.staging import Staging
from cosfs.fs.unrenaming import finish_file_rename, finish_tree_rename

log = logging.getLogger(__name__)

RETRY_DELAYS = (2.0, 5.0, 15.0, 60.0)
FILLED_MAX = 64 * MIB  # up to here the unchanged bytes of a file never closed are fetched, to keep it whole
PARALLEL = 32  # attributes set at once
LATER = frozenset({"move", "rename"})  # other records wait for these


@dataclass(slots=True)
class Recovered:
    """What became of the records that were found; left are those that COS does not take now."""

    sent: int = 0
    removed: int = 0
    moved: int = 0
    attributes: int = 0
    uploads: int = 0
    conflicts: int = 0
    kept: int = 0  # moved to recovered/
    left: int = 0
    errors: list[str] = field(default_factory=list)  # of what is left

    def __str__(self) -> str:
        return (
            f"{self.sent} files sent, {self.removed} objects removed, {self.moved} renamed, "
            f"{self.attributes} attributes set, {self.uploads} uploads given up, "
            f"{self.conflicts} conflicts, {self.kept} kept in recovered/, {self.left} left"
        )


def left_over(journal: Journal) -> list[Record]:
    """The records of earlier mounts; staging files that none of them names are removed.

    To be called before anything is served: afterwards the journal has records of our own.
    """
    journal.sync()  # what a killed mount has written may be in the kernel's page cache only
    for path in journal.sweep():
        log.info("removed %s, a staging file of a file that nobody was promised", path)
    records = journal.records()
    # COS may have them anew by now, in the second of their Last-Modified: only the answer was lost.
    forget(journal.directory / DATABASE, {place for record in records for place in _written(record)})
    return records


def _written(record: Record) -> list[tuple[str, str]]:
    """The objects that a record says are being written."""
    to = record.body.get("to")
    return [(record.bucket, record.key), *([(to[0], to[1])] if to else [])]


class Recovery:
    """One recovery. give_up: what COS does not take goes to recovered/ instead of being tried on."""

    def __init__(self, fs: Filesystem, records: list[Record], *, give_up: bool = False) -> None:
        self._fs = fs
        self._journal = fs.journal
        self._give_up = give_up
        self._records = records
        self._adopted: list[FileNode | DirNode] = []
        self._is_idle = not records
        self._retryable = False
        self._conflicts = fs.committer.conflicts.count
        self.salvage = Salvage(fs.settings.cache_dir)
        self.done = Recovered()
        self.tried = trio.Event()  # everything that was left, once
        if self._is_idle:
            self.tried.set()

    @property
    def left(self) -> int:
        """How many records nobody has taken over yet."""
        return len(self._records)

    async def begin(self, seconds: float) -> None:
        """To be called before anything is served: what was closed, removed, renamed or changed in its mode
        is seen so from the first moment on.

        Takes some seconds at most; what is not done by then goes on in run().
        """
        renames = [r for r in self._records if r.kind in LATER]
        self._foretell()
        for record in self._records:
            if record.kind == "delete":
                # All at once, before anybody can write these names anew.
                self._fs.deleter.adopt(record)
                self.done.removed += 1
            elif record.kind == "emptied":
                self._fs.deleter.emptied.adopt(record)
        self._records = [r for r in self._records if r.kind not in ("delete", "emptied")]
        if renames:
            with trio.move_on_after(seconds):
                await self._try(self._finish_renames)
        self._adopt()
        with trio.move_on_after(seconds):
            await self._set_attributes()

    async def _set_attributes(self) -> None:
        """Nobody may look at these files, rename them, or set their modes again, before they have those they
        had; those of files never closed as well.
        """
        slots = trio.CapacityLimiter(PARALLEL)
        due = [r for r in self._records if _has_set(r) and not self._waits(r)]

        async def one(record: Record) -> None:
            async with slots:
                await self._try(self._reset, record)

        async with together() as nursery:
            for record in due:
                if record.kind == "attributes":
                    nursery.start_soon(one, record)
            for record in due:
                if record.kind == "open":  # one by one: each may take megabytes
                    await self._try(self._keep_open_file, record)

    async def run(self, *, once: bool = False) -> Recovered:
        """Work off the rest; what COS cannot take now is tried again until it can, unless once."""
        if self._is_idle:
            return self.done
        for delay in itertools.chain(RETRY_DELAYS, itertools.repeat(RETRY_DELAYS[-1])):
            await self._pass(once=once)
            self._count_left()
            self.tried.set()
            if once or not self._worth_another_try():
                break
            await trio.sleep(delay)
        self.done.sent += sum(isinstance(node, FileNode) and not node.changed for node in self._adopted)
        self.done.conflicts = self._fs.committer.conflicts.count - self._conflicts
        log.warning("an earlier mount left work: %s", self.done)
        return self.done

    async def _pass(self, *, once: bool) -> None:
        self._retryable = False
        await self._try(self._finish_renames)
        self._adopt()
        for record in [r for r in self._records if r.kind not in LATER]:
            if not self._waits(record):
                await self._try(self._one, record)
        self._foretell()
        if once:
            await self._fs.drain()
        else:
            await self._until_tried()
            self._fs.deleter.settle()
        self._keep_what_has_no_bucket()

    async def _try(self, fn, *args) -> None:  # type: ignore[no-untyped-def]
        try:
            await fn(*args)
        except (COSError, OSError) as exc:
            log.error("what an earlier mount left is still not done: %s", exc)
            self._retryable |= isinstance(exc, COSError) and exc.may_pass
            self.done.errors.append(str(exc))

    def _gone(self, record: Record) -> None:
        """A record is worked off."""
        self._journal.remove(record.id)
        self._records = [r for r in self._records if r.id != record.id]

    # Renames

    async def _finish_renames(self) -> None:
        for record in [r for r in self._records if r.kind in LATER]:
            if record.kind == "move":
                self._records = await finish_file_rename(self._fs, record, self._records, self.salvage)
            else:
                await self._free_names(record)
                # What is recorded below the old name gets its new one with it.
                self._records = await finish_tree_rename(self._fs, record, self._records, self.salvage)
            self.done.moved += 1

    async def _free_names(self, rename: Record) -> None:
        """Nothing below the new name of a directory is needed any more by files that were there before."""
        for record in self._records:
            new = await without_former(self._fs, record, *rename.body["to"])
            self._records = [new if r.id == record.id else r for r in self._records]

    def _waits(self, record: Record) -> bool:
        """Whether a record is about a name that an unfinished rename touches."""
        for other in self._records:
            if other.kind not in LATER or other.id == record.id:
                continue
            places = [(other.bucket, other.key), tuple(other.body["to"])]
            if any(record.bucket == bucket and record.key.startswith(key) for bucket, key in places):
                return True
        return False

    # Files

    def _adopt(self) -> None:
        """Make the files that were promised files of this mount."""
        for record in [r for r in self._records if r.kind == "file" and not self._waits(r)]:
            content = self._content(record)
            if content is None:
                continue
            node = adopt_file(self._fs, record, content)
            if node is None:
                content.close(keep=True)
                continue  # sent without a place in the tree
            self._adopted.append(node)
            self._records = [r for r in self._records if r.id != record.id]
        self._foretell()

    def _foretell(self) -> None:
        """Tell what files that are not taken over yet need of their former names."""
        self._fs.committer.leavings.foretold = {(b, key) for b, key, _ in left_behind(self._records)}

    def _content(self, record: Record) -> Staging | None:
        """The local bytes of a record; None if they are damaged, which is told."""
        content = Staging.from_json(self._journal.staging, record.body["content"], self._journal.retire)
        why = damage(record, self._journal.staging)
        if not why:
            return content
        self.salvage.keep(record.bucket, record.key, why, content)
        self.done.kept += 1
        self._gone(record)
        return None

    async def _one(self, record: Record) -> None:
        if record.kind == "upload":
            at = record.body.get("at", record.written)
            try:
                found = await self._fs.committer.uploads.give_up(
                    record.bucket, record.key, record.body["upload_id"], at
                )
            except BucketNotFoundError:
                found = 0
            self.done.uploads += found
            self._gone(record)
        elif record.kind == "file":
            await self._send_without_place(record)
        elif record.kind == "open":
            await self._keep_open_file(record)
        elif record.kind == "attributes":
            await self._reset(record)

    async def _reset(self, record: Record) -> None:
        node = await reset_attributes(self._fs, record, self.salvage)
        self.done.attributes += 1
        if node is not None:
            self._adopted.append(node)
            self._records = [r for r in self._records if r.id != record.id]
        else:
            self._gone(record)

    async def _keep_open_file(self, record: Record) -> None:
        """Bytes of a file that was never closed: nobody was promised them, and nobody shall miss them."""
        content = Staging.from_json(self._journal.staging, record.body["content"], self._journal.retire)
        found = await self._sent_unanswered(record, content)
        if found is not None and is_one_of(found, [_last_mark(record, content)]):
            self._gone(record)  # attributes and all; first, or a crash here would leave it without its bytes
            content.close()
            return
        if content.size <= FILLED_MAX and not damage(record, self._journal.staging):
            try:
                await content.fill(self._fs.fetcher)
            except (NotFoundError, PreconditionFailedError) as exc:
                log.info("the unchanged bytes of %s are gone: %s", record.key, exc)
        if self.salvage.keep(record.bucket, record.key, "was being written, and never closed", content):
            self.done.kept += 1
        if record.body.get("set"):
            etag = found.etag if found is not None else record.body["etag"]
            body = {"attributes": record.body["attributes"], "etag": etag}
            self._journal.replace(record.id, "attributes", record.bucket, record.key, body)
            rest = Record(record.id, "attributes", record.bucket, record.key, body, record.written)
            self._records = [rest if r.id == record.id else r for r in self._records]
            await self._reset(rest)
        else:
            self._gone(record)

    async def _sent_unanswered(self, record: Record, content: Staging) -> ObjectInfo | None:
        """The object, if it is a version of a file that was sent just before the crash."""
        if not content.sending:
            return None
        try:
            found = await self._fs.remote.metadata(
                self._fs.remote.client.head_object, record.bucket, record.key
            )
        except NotFoundError:
            return None
        return found if found is not None and is_one_of(found, content.sending) else None

    async def _send_without_place(self, record: Record) -> None:
        """Send a file that is outside of what is mounted."""
        content = self._content(record)
        if content is None:
            return
        try:
            await self._send(record, content)
        except BucketNotFoundError:
            self.salvage.keep(record.bucket, record.key, "the bucket is gone", content)
            self.done.kept += 1
            self._gone(record)
            return
        except COSError as exc:
            if self._give_up:
                self.salvage.keep(record.bucket, record.key, str(exc), content)
                self.done.kept += 1
                self._gone(record)
                return
            content.close(keep=True)
            raise
        except BaseException:
            content.close(keep=True)
            raise
        self._gone(record)  # first, or a crash here would leave a record without its bytes
        self._fs.deleter.replaced(record.bucket, record.key)
        self.done.sent += 1
        content.close()

    async def _send(self, record: Record, content: Staging) -> None:
        """Send a file; both are kept if somebody was faster."""
        fs = self._fs
        bucket, key = record.bucket, record.key
        before: str | None = expected(fs, record)
        removed = fs.deleter.expected(bucket, key)
        headers = headers_from_json(record.body["headers"])
        if await fs.deleter.claim(bucket, key):
            before = removed  # before this was written
        found: ObjectInfo | None
        try:
            found = await fs.remote.metadata(fs.remote.client.head_object, bucket, key)
        except NotFoundError:
            found = None
        if found is not None and before is not None and found.etag != before:
            if not await is_same(content, headers, found):
                await fs.committer.conflicts.keep_recovered(bucket, key, content, headers)
        else:
            await self._put(bucket, key, content, headers)
        fs.tree.ask_again(bucket, key)
        for old_bucket, old_key, etag in record.body["obsolete"]:
            fs.deleter.schedule(old_bucket, old_key, etag, careful=True)

    async def _put(self, bucket: str, key: str, content: Staging, headers: Headers) -> None:
        sender = self._fs.committer.sender
        try:
            await sender.put_whole(bucket, key, content, headers, forbid=False)
        except (NotFoundError, PreconditionFailedError):
            if not await sender.is_gone(content.base):
                raise
            await self._fs.committer.conflicts.keep_recovered(bucket, key, content, headers)

    # How it goes

    async def _until_tried(self) -> None:
        """Wait until each file was tried; whoever uses the mount may have sent or removed it himself."""
        outbox = self._fs.committer.outbox
        for node in self._adopted:
            while node_changed(node) and (due := outbox.trouble(node)) is not None and not due.tries:  # noqa: ASYNC110
                await trio.sleep(0.02)

    def _keep_what_has_no_bucket(self) -> None:
        for node in list(self._adopted):
            due = self._fs.committer.outbox.trouble(node)
            cause = due.cause if due is not None else None
            if not node_changed(node) or cause is None or not isinstance(node, FileNode):
                continue
            content = node.content
            hopeless = isinstance(cause, BucketNotFoundError) or self._give_up
            if content is None or not hopeless or node.opens:
                continue
            why = "the bucket is gone" if isinstance(cause, BucketNotFoundError) else str(cause)
            self.salvage.keep(node.bucket, node.key, why, content)
            node.content = None
            self._fs.committer.drop(node)
            self._fs.tree.lose(node)
            self._adopted.remove(node)
            self.done.kept += 1

    def _count_left(self) -> None:
        waiting = [node for node in self._adopted if node_changed(node)]
        self.done.left = len(waiting) + len(self._records)
        troubles = [self._fs.committer.outbox.trouble(node) for node in waiting]
        causes = [due.cause for due in troubles if due is not None and due.cause is not None]
        self._retryable |= any(cause.may_pass for cause in causes)
        self.done.errors += [str(cause) for cause in causes]
        self.done.errors = self.done.errors[-20:]

    def _worth_another_try(self) -> bool:
        """Whether time may help. A file that COS refuses is tried on by the outbox, for ever but rarely."""
        return bool(self.done.left) and self._retryable


def _last_mark(record: Record, content: Staging) -> Mark:
    """What an object is known by that has all of a file."""
    return mark_of(content.size, headers_from_json(record.body["headers"]))


def _has_set(record: Record) -> bool:
    """Whether a record tells of attributes that an object or directory was given."""
    return record.kind == "attributes" or (record.kind == "open" and record.body.get("set", False))


def node_changed(node: FileNode | DirNode) -> bool:
    """Whether COS does not have a node as it is here."""
    if node.unlinked:
        return False
    return node.changed if isinstance(node, FileNode) else node.attrs_dirty


async def recover(fs: Filesystem, records: list[Record], *, once: bool = False) -> Recovered:
    """Work off records of earlier mounts."""
    recovery = Recovery(fs, records)
    await recovery.begin(60.0)
    return await recovery.run(once=once)
