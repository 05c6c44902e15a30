"""Attributes that a listing does not carry: asked for by HEAD, many at a time, and remembered.

They are fetched only for what somebody asks about, and ahead of whoever walks a directory.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import trio

from cosfs.client.model import Headers, ListPage, ObjectInfo
from cosfs.errors import COSError, FilesystemError, NotFoundError, PermissionDeniedError, ServiceError
from cosfs.fs import facts
from cosfs.fs.attrdb import AttributeStore
from cosfs.fs.background import Background
from cosfs.fs.inodes import DirNode, FileNode, Ino, Node
from cosfs.fs.kernelcache import KernelCache, NoKernel
from cosfs.fs.listing import Entry, Listing
from cosfs.fs.remote import Remote
from cosfs.fs.settings import FsSettings
from cosfs.fs.walks import Walks
from cosfs.fs.writes import Writes
from cosfs.transfer import attributes
from cosfs.transfer.looker import UNANSWERED

log = logging.getLogger(__name__)

_NO_HEADERS = Headers()
_CUSTOMER_KEY = "SsecDecryptHeaderInvalid"
TRIES = 3  # while what is asked for is written at the same time
EXPECTED = 16  # attributes fetched at once for somebody who has read the names of a directory


class Heads:
    """Fetches attributes. background runs the requests that go ahead of a reader."""

    def __init__(
        self,
        remote: Remote,
        settings: FsSettings,
        background: Background,
        store: AttributeStore | None = None,
    ) -> None:
        self._remote = remote
        self._settings = settings
        self._background = background
        self._store = store
        self._flights: dict[tuple[Ino, bytes], trio.Event] = {}
        self._denied = False
        self._told = False  # that some objects have keys of the customer
        self.kernel: KernelCache = NoKernel()
        self.writes = Writes()
        # Whether a GET of the entry's bytes is on its way, or was: it brings the attributes.
        self.comes_with_bytes: Callable[[DirNode, Listing, Entry], bool] = lambda parent, listing, entry: (
            False
        )
        self.walks: Walks | None = None  # may know of a directory's object already

    async def ensure_known(self, node: Node, *, always: bool = False) -> None:
        """Fetch the attributes that a listing does not carry, if they are wanted.

        always: whatever the settings say, as they are about to be changed.
        """
        if (self._settings.attributes == "listing" and not always) or facts.local(node):
            return
        parent = node.parent
        if node.known and isinstance(node, DirNode):
            self._check_again(node)
            return
        if parent is not None and parent.listing is not None:
            self._go_ahead(parent, parent.listing, node)
        if node.known:
            return
        if parent is None:
            await self._know_marker(node)
            return
        await self._know(parent, node.name)

    async def look_at(self, parent: DirNode, listing: Listing, entry: Entry) -> None:
        """Return when the attributes of an entry are known, or will not be; those behind it are on their way.

        Nothing is waited for where files are read one after the other: their bytes bring the attributes.
        """
        if self._denied or not self._settings.head_ahead or listing.contents.window:
            return
        ahead = listing.attributes.passed(entry.index, self._settings.head_ahead, EXPECTED)
        if ahead:
            listing.attributes.cut(listing.count)
            self.fetch(parent, listing.between(ahead.start, ahead.stop))
        await self._landed(parent, entry.name)

    def _go_ahead(self, parent: DirNode, listing: Listing, node: Node) -> None:
        """Have the next attributes ready before who asks for one after the other gets there."""
        if node.known and not listing.attributes.window:
            return
        entry = listing.get(node.name)
        if entry is None or self.comes_with_bytes(parent, listing, entry):
            return
        expected = EXPECTED if parent.read_until > trio.current_time() else 0
        ahead = listing.attributes.passed(entry.index, self._settings.head_ahead, expected)
        if ahead:
            listing.attributes.cut(listing.count)
            self.fetch(parent, listing.between(ahead.start, ahead.stop))

    def fetch(self, parent: DirNode, entries: Iterable[Entry]) -> None:
        """Start the HEADs of those entries whose attributes are not known or on their way."""
        wanted = []
        for entry in entries:
            child = parent.children.get(entry.name)
            known = (
                child.known
                if child is not None
                else entry.info is not None and entry.info.headers is not None
            )
            if known or entry.removed or (parent.ino, entry.name) in self._flights:
                continue
            key = self._key_of(parent, entry.name)
            if key is not None:
                wanted.append((entry.name, key))
        if wanted:
            self.expect(parent, [name for name, _ in wanted])
            self._background.start_soon(self._know_many, parent, wanted)

    def expect(self, parent: DirNode, names: Iterable[bytes]) -> None:
        """Attributes of these are on their way: whoever wants them waits for told() or land()."""
        for name in names:
            if (parent.ino, name) not in self._flights:
                self._flights[parent.ino, name] = trio.Event()

    def told(self, parent: DirNode, name: bytes, info: ObjectInfo, since: float) -> None:
        """An answer to a GET of the file of that etag, sent at since, brought its attributes."""
        entry = parent.listing.get(name) if parent.listing is not None else None
        node = parent.children.get(name)
        known = node.info if isinstance(node, FileNode) else entry.info if entry is not None else None
        if known is not None and known.key == info.key and known.etag == info.etag:
            self._answered(parent, name, info.key, info, since)
        self.land(parent, name)

    def land(self, parent: DirNode, name: bytes) -> None:
        """Nobody needs to wait any longer for the attributes of a name."""
        flight = self._flights.pop((parent.ino, name), None)
        if flight is not None:
            flight.set()

    async def _know_many(self, parent: DirNode, wanted: list[tuple[bytes, str]]) -> None:
        since = trio.current_time()
        bucket, left = parent.bucket, dict(wanted)

        def head(item: tuple[bytes, str]) -> ObjectInfo | None:
            return self._remote.client.head_object(bucket, item[1])

        def answered(item: tuple[bytes, str], info: ObjectInfo | None, error: Exception | None) -> None:
            name, key = item
            del left[name]
            if error is None or isinstance(error, NotFoundError):
                self._answered(parent, name, key, info, since)
            elif isinstance(error, PermissionDeniedError):
                self._denied_to(parent, name, error)
            else:
                log.debug("attributes of %r ahead of time: %s", name, error)
            self.land(parent, name)

        def told(keys: Sequence[str], answers: Sequence[ObjectInfo | int]) -> None:
            found = []
            for key, answer in zip(keys, answers, strict=True):
                name = names_of[key]
                if answer == UNANSWERED or name not in left:
                    continue
                del left[name]
                info = answer if isinstance(answer, ObjectInfo) else None
                if self._note(parent, name, key, info, since) and info is not None:
                    found.append(info)
                self.land(parent, name)
            self.remember(bucket, found)

        names_of = {key: name for name, key in wanted}
        try:
            await self._remote.look(bucket, list(names_of), told)
            if left:
                await self._remote.many(head, list(left.items()), answered, bucket=bucket)
        except (COSError, FilesystemError) as exc:
            log.debug("attributes ahead of time: %s", exc)  # whoever wants them asks himself, and is told
        finally:
            for name in left:
                self.land(parent, name)

    def _check_again(self, node: DirNode) -> None:
        """See, without letting anybody wait, whether a directory's attributes are still those of its marker.

        A listing of its parent says nothing of them, and one of its own does: so nothing is asked while the
        parent is being walked.
        """
        now, parent = trio.current_time(), node.parent
        if now < node.marker_until or parent is None or parent.is_buckets or parent.read_until > now:
            return
        node.marker_until = now + self._settings.metadata_ttl
        if not node.attrs_dirty:
            self._background.start_soon(self._look_at_marker, node)

    async def _look_at_marker(self, node: DirNode) -> None:
        before, key = node.marker, node.key
        try:
            info = await self.ask(node.bucket, key)
        except COSError as exc:
            log.debug("attributes of %s: %s", node.url, exc)
            return
        unchanged = info is None if before is None else info is not None and facts.same(before, info)
        if unchanged or node.marker is not before or node.unlinked or node.attrs_dirty or node.key != key:
            return
        self._apply_marker(node, info)
        self.kernel.forget_inode(node.ino)

    async def _know(self, parent: DirNode, name: bytes) -> None:
        """HEAD one entry and note the answer; many askers share one request."""
        if await self._landed(parent, name):
            node = parent.children.get(name)
            if node is None or node.known:
                return
        self._flights[parent.ino, name] = event = trio.Event()
        try:
            await self._know_now(parent, name)
        finally:
            if self._flights.get((parent.ino, name)) is event:
                del self._flights[parent.ino, name]
            event.set()

    async def _landed(self, parent: DirNode, name: bytes) -> bool:
        """Wait for attributes that are on their way; False if none are, or not soon.

        Where COS is slow, what goes ahead may wait as long as others have questions.
        """
        flight = self._flights.get((parent.ino, name))
        if flight is None:
            return False
        with trio.move_on_after(self._remote.patience.io_timeout / 4):
            await flight.wait()
        return flight.is_set()

    async def _know_now(self, parent: DirNode, name: bytes) -> None:
        key = self._key_of(parent, name)
        if key is None:
            return
        for _ in range(TRIES):
            since = trio.current_time()
            try:
                info = await self.ask(parent.bucket, key)
            except PermissionDeniedError as exc:
                self._denied_to(parent, name, exc)
                return
            except ServiceError as exc:
                if exc.code != _CUSTOMER_KEY:
                    raise
                self._withheld(parent, name, exc)
                return
            self._answered(parent, name, key, info, since)
            node = parent.children.get(name)
            if node is None or node.known or not self.writes.wrote(parent.bucket, key, since):
                return

    def _key_of(self, parent: DirNode, name: bytes) -> str | None:
        """The key to ask for; None if nothing needs to be asked."""
        node = parent.children.get(name)
        entry = parent.listing.get(name) if parent.listing is not None else None
        if node is not None:
            is_dir, component = node.is_dir, node.component
        elif entry is not None:
            is_dir, component = entry.is_dir, entry.component
        else:
            return None
        key = parent.child_key(component) + ("/" if is_dir else "")
        if is_dir and isinstance(node, DirNode) and self.walks is not None:
            told, marker = self.walks.marker(parent.bucket, key, self._settings.metadata_ttl)
            if told and (marker is None or marker.headers is not None):
                self._apply_marker(node, marker)
                return None
        return key

    def _answered(
        self, parent: DirNode, name: bytes, key: str, info: ObjectInfo | None, since: float
    ) -> None:
        """Note what COS said of a key, here and for later mounts."""
        if self._note(parent, name, key, info, since) and info is not None:
            self.remember(parent.bucket, [info])

    def _note(self, parent: DirNode, name: bytes, key: str, info: ObjectInfo | None, since: float) -> bool:
        """Note what COS said of a key when it was asked at since; None: it has no such object.

        Returns whether it is what later mounts should know.
        """
        node = parent.children.get(name)
        entry = parent.listing.get(name) if parent.listing is not None else None
        if key.endswith("/"):
            if self.writes.wrote(parent.bucket, key, since):
                return False  # written meanwhile, and known from that
            marker = info or ObjectInfo(key, 0, "", time.time())
            if entry is not None and entry.is_dir:
                entry.info = replace(marker, headers=marker.headers or _NO_HEADERS)
            if isinstance(node, DirNode):
                self._apply_marker(node, info)
            return False
        if info is None or (node is not None and facts.sent_after(node, since)):
            return False  # gone meanwhile: the next lookup says so; or written, and known from that
        if self.writes.wrote(parent.bucket, key, since):
            return False  # the same, of a file that was forgotten since
        if entry is not None and not entry.is_dir:
            entry.info = info
        if isinstance(node, FileNode) and not facts.local(node):
            facts.set_info(node, info, self._settings.defaults)
        return True

    def _denied_to(self, parent: DirNode, name: bytes, error: PermissionDeniedError) -> None:
        """Attributes cannot be read: defaults are shown from now on."""
        if not self._denied:
            log.warning("attributes cannot be read, defaults are shown: %s", error)
        self._denied = True
        node = parent.children.get(name)
        if node is not None:
            node.known = True

    def _withheld(self, parent: DirNode, name: bytes, error: ServiceError) -> None:
        """COS tells attributes to those with the key alone: the file has defaults, and can be removed."""
        log.log(logging.DEBUG if self._told else logging.WARNING, "defaults are shown: %s", error)
        self._told = True
        node = parent.children.get(name)
        if node is not None:
            node.known = True

    async def _know_marker(self, node: Node) -> None:
        """Attributes of the root of a mounted prefix."""
        assert isinstance(node, DirNode)
        info = await self.ask(node.bucket, node.prefix) if node.prefix else None
        self._apply_marker(node, info)

    def _apply_marker(self, node: DirNode, info: ObjectInfo | None) -> None:
        node.marker = info
        node.marker_until = trio.current_time() + self._settings.metadata_ttl
        node.known = True
        if info is not None and not node.attrs_dirty:
            node.attrs = attributes.decode(info, self._settings.defaults, is_dir=True)

    async def ask(self, bucket: str, key: str) -> ObjectInfo | None:
        """HEAD an object; None if there is none."""
        try:
            return await self._remote.small_question(self._remote.client.head_object, bucket, key)
        except NotFoundError:
            return None

    # Across mounts

    def remember(self, bucket: str, infos: list[ObjectInfo]) -> None:
        """Keep attributes for later mounts (a small write to a local database)."""
        if self._store is not None and infos:
            self._store.put_many([(bucket, info) for info in infos if info.headers is not None])

    def recall(self, bucket: str, page: ListPage) -> ListPage:
        """Add remembered attributes to a page of a listing. Runs in a worker thread."""
        if self._store is None or not page.objects:
            return page
        known = self._store.get_many(bucket, page.objects)
        return replace(page, objects=[known.get(info.key, info) for info in page.objects])
