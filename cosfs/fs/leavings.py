"""Objects that are no longer part of the tree though COS still has them, because a file needs them.

A file that was removed while it is open still reads from its object; a file that was renamed
while it is changed still takes what it does not change from the object under its former name.
Such an object goes when nobody needs it any more, and before its key is written for another
file, what is needed of it is saved.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator

from cosfs.errors import FilesystemError, NotFoundError, PreconditionFailedError
from cosfs.fs.deleter import Deleter
from cosfs.fs.doomed import Doomed
from cosfs.fs.emptied import Place
from cosfs.fs.fetcher import Fetcher, Source
from cosfs.fs.inodes import FileNode
from cosfs.fs.journal import Journal
from cosfs.fs.marks import Mark
from cosfs.fs.records import Records
from cosfs.fs.staging import Staging
from cosfs.fs.tree import Tree

log = logging.getLogger(__name__)


class Leavings:
    """Knows those objects, by bucket and key."""

    def __init__(
        self,
        tree: Tree,
        fetcher: Fetcher,
        deleter: Deleter,
        journal: Journal,
        records: Records,
    ) -> None:
        self._tree = tree
        self._fetcher = fetcher
        self._deleter = deleter
        self._journal = journal
        self._records = records
        self._orphans: dict[Place, FileNode] = {}
        self._intents: dict[Place, int] = {}  # rows of the journal: to remove what was unlinked
        self._former: dict[Place, FileNode] = {}  # objects still under a former name
        self.foretold: set[Place] = set()  # the same, of files that are still to be taken over
        self.helpers: set[Place] = set()  # made to send something else, and soon to go
        tree.listings.is_leaving = self.is_leaving
        tree.listings.has_any_left = self.has_any_left
        tree.listings.emptied = deleter.emptied
        deleter.emptied.left = self._left

    # Files that were removed while open

    def orphan(self, node: FileNode, *, removed: bool = False) -> None:
        """A file that lost its name is still open: its object goes when the last handle does.

        removed: nothing takes its place, so if we die before that, the next mount removes it.
        """
        if removed:
            self.nameless(node)
        if node.expected == "":
            self.remove_objects(node, node.bucket, node.key)  # nobody reads them: all bytes are here
            return
        place = node.bucket, node.key
        self._orphans[place] = node
        if removed:
            self._intend(place, node.expected or "", marks_of(node.content))

    def nameless(self, node: FileNode) -> None:
        """An open file has lost its last name: if we die, what it has under former names goes as well."""
        for bucket, key, etag in node.obsolete:
            self._intend((bucket, key), etag, marks_of(node.content))

    def _intend(self, place: Place, etag: str, marks: Iterable[Mark]) -> None:
        if place not in self._intents:
            body = Doomed(etag, tuple(marks)).to_json()
            self._intents[place] = self._journal.add("delete", *place, body)

    def _as_intended(self, place: Place, etag: str, marks: Iterable[Mark]) -> None:
        """Carefully: since a file lost its name somebody else may have used that."""
        with self._journal.together():
            self._deleter.schedule(*place, etag, careful=True, marks=marks)
            self._journal.remove(*filter(None, [self._intents.pop(place, 0)]))

    def remove_objects(self, node: FileNode, bucket: str, key: str) -> None:
        """Have removed what COS has of a file under a key, or may have because no answer came."""
        marks = marks_of(node.content)
        if node.expected == "":
            self._deleter.schedule_unanswered(bucket, key, marks)
        else:
            self._deleter.schedule(bucket, key, node.expected or "", marks=marks)

    async def rescue(self, bucket: str, key: str) -> bool:
        """A key is about to be written: save what files of other names still read from it.

        These are files that were removed while open, and files that were renamed while changed.
        Returns whether COS still holds the object of such a file under the key.
        """
        there = await self._rescue_renamed(bucket, key)
        node = self._orphans.get((bucket, key))
        if node is None:
            return there
        content = node.content
        if content is None:
            assert node.info is not None
            base = Source(bucket, key, node.info.etag, node.info.size)
            content = node.content = Staging(self._journal.staging, base, remove=self._journal.retire)
        try:
            filled = await self._fill(content)
        except (NotFoundError, PreconditionFailedError) as exc:
            log.warning("a removed file that is still open can no longer be read: %s", exc)
            self._orphans.pop((bucket, key), None)
            self._deleter.hold(bucket, key, self._intents.pop((bucket, key), 0))
            return there
        if not filled or self._orphans.get((bucket, key)) is not node:
            return there  # closed meanwhile, and its removal scheduled
        del self._orphans[bucket, key]
        self._deleter.hold(bucket, key, self._intents.pop((bucket, key), 0))
        content.detach()
        return True

    async def _fill(self, content: Staging) -> bool:
        """Fetch what a file still needs; False if it needs nothing any more: it is sent or gone."""
        try:
            await content.fill(self._fetcher)
        except FilesystemError:
            if not content.is_closed:
                raise
        return not content.is_closed

    def keep(self, node: FileNode) -> None:
        """A file that was to be removed or replaced is not, after all."""
        for place in [place for place, orphan in self._orphans.items() if orphan is node]:
            del self._orphans[place]

    async def take(self, bucket: str, key: str) -> bool:
        """Make a key free to be written; returns whether COS has something under it of no use."""
        there = await self.rescue(bucket, key)
        return await self._deleter.claim(bucket, key) or there

    def has_any_left(self) -> bool:
        """Whether COS may have objects that are only left over."""
        return bool(self._orphans or self._former or self.helpers or self._deleter.is_busy)

    def _left(self) -> Iterator[Place]:
        yield from self._orphans
        yield from self._former
        yield from self.foretold
        yield from self.helpers
        yield from self._deleter.places

    def is_leaving(self, bucket: str, key: str, etag: str, since: float) -> bool:
        """Whether an object is no longer part of the tree though COS, asked at since, still had it.

        An object with another etag was put there by somebody since.
        """
        if (bucket, key) in self.helpers:
            return True
        orphan = self._orphans.get((bucket, key))
        if orphan is not None:
            return orphan.expected in (None, etag) or bool(marks_of(orphan.content))
        former = self._former.get((bucket, key))
        if former is not None:
            return (bucket, key, etag) in former.obsolete or bool(marks_of(former.content))
        return self._deleter.is_pending(bucket, key, etag, since)

    def bury(self, node: FileNode) -> None:
        """The last handle of a removed file is gone."""
        self.schedule_removal(node)
        self.let_go_bytes(node)

    def schedule_removal(self, node: FileNode) -> None:
        """The objects of a removed file are of no use to anybody."""
        self.abandon_former(node)
        for place, orphan in list(self._orphans.items()):
            if orphan is node:
                del self._orphans[place]
                self._as_intended(place, node.expected or "", marks_of(node.content))

    def let_go_bytes(self, node: FileNode) -> None:
        """The local bytes of a removed file that nobody has open go."""
        if node.content is not None:
            node.content.close()
            node.content = None
        node.attrs_dirty = False
        self._tree.table.drop_if_idle(node)

    # Files that were renamed while changed

    def left_behind(self, node: FileNode, bucket: str, key: str) -> bool:
        """A changed file gets another name: its object goes when the bytes are under that.

        Returns whether it has an object under the key.
        """
        base = node.content.kept.base if node.content is not None else None
        if base is None or (base.bucket, base.key) != (bucket, key):
            return False
        node.obsolete.append((bucket, key, base.etag))
        self._former[bucket, key] = node
        return True

    def adopt(self, node: FileNode) -> None:
        """Take over a file of an earlier mount, with what it has under former names."""
        for bucket, key, _ in node.obsolete:
            self._former[bucket, key] = node

    def came_back(self, node: FileNode, bucket: str, key: str) -> str:
        """The etag of the file's own object if it returns to the name that this still has, else ""."""
        if self._former.get((bucket, key)) is not node:
            return ""
        del self._former[bucket, key]
        etag = next(etag for *place, etag in node.obsolete if place == [bucket, key])
        node.obsolete.remove((bucket, key, etag))
        return etag

    async def _rescue_renamed(self, bucket: str, key: str) -> bool:
        node = self._former.get((bucket, key))
        if node is None or node.content is None:
            return False
        content = node.content.kept
        try:
            filled = await self._fill(content)
        except (NotFoundError, PreconditionFailedError) as exc:
            log.warning("what %s still needs of its former name is gone: %s", node.url, exc)
            self._forget_former(node, bucket, key)
            return False
        if not filled or self._former.get((bucket, key)) is not node:
            return False  # sent or removed meanwhile, and the old object with it
        etag = next((each for *place, each in node.obsolete if place == [bucket, key]), "")
        self._forget_former(node, bucket, key)
        if content.base is not None and (content.base.bucket, content.base.key) == (bucket, key):
            content.detach()
        with self._journal.together():
            if node.pending_id and content.promised:
                # If we die before the key is written, nothing else says that the object is no file any more.
                self._deleter.hold(bucket, key, self._journal.add("delete", bucket, key, {"etag": etag}))
            if node.pending_id:
                self._records.write(node)
        return True

    def _forget_former(self, node: FileNode, bucket: str, key: str) -> None:
        self._former.pop((bucket, key), None)
        self._deleter.hold(bucket, key, self._intents.pop((bucket, key), 0))
        node.obsolete = [entry for entry in node.obsolete if entry[:2] != (bucket, key)]

    def abandon_former(self, node: FileNode, marks: Iterable[Mark] = ()) -> None:
        """Nobody needs what a file has under former names any more.

        marks are of what may be there without an answer, if the file no longer tells.
        """
        marks = [*marks_of(node.content), *marks]
        for bucket, key, etag in node.obsolete:
            self._former.pop((bucket, key), None)
            self._as_intended((bucket, key), etag, marks)
        node.obsolete.clear()


def marks_of(content: Staging | None) -> list[Mark]:
    """What was sent without an answer, of a file and of those whose names it has taken over."""
    return [*content.sending, *content.replacing] if content is not None else []
