"""Another client of the same bucket, and what may come of it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from cosfs.client.client import CosClient
from cosfs.client.model import Headers
from cosfs.errors import NotFoundError
from cosfs.fuse.control import ask
from scripts.stressing.player import NAMES, Player, Wrong
from scripts.stressing.seen import Seen, expected, stored_one
from tests.reference import File


class Others:
    """Changes objects behind the mount's back. What may be found afterwards is noted in player.open."""

    def __init__(self, player: Player, client: CosClient, bucket: str) -> None:
        self.player = player
        self.client = client
        self.bucket = bucket
        self.calls = 0

    def act(self) -> None:
        """Do something to one file of ours, or beside it."""
        paths = self.player.files()
        if not paths:
            return
        path = self.player.chance.choice(paths)
        node = self.player.model.file(path)
        kinds: list[Callable[[str, File], None]] = [self.new]
        if self.settled(path, node):
            # COS has what is here; else what we do is a race that nobody can judge.
            kinds += [self.put, self.put, self.delete, self.metadata]
            kinds += [self.put_while_written, self.put_while_written, self.delete_while_written]
            kinds += [self.put_then_ours, self.put_then_rename, self.put_then_unlink, self.put_then_chmod]
        self.calls += 1
        self.player.chance.choice(kinds)(path, node)

    def settled(self, path: str, node: File) -> bool:
        """Whether COS has a file of ours as it is here, with its attributes, and will not get it again."""
        status = next(ask(self.player.top, {"op": "status"}))
        if any(entry["url"].endswith(f"/{path}") for entry in status["pending"]):
            return False
        try:
            return expected(node).fits(stored_one(self.client, self.bucket, path))
        except NotFoundError:
            return False

    # Alone

    def _put(self, path: str) -> Seen:
        """Put new bytes, with or without attributes."""
        data = b"%d " % self.calls + self.player.data()
        mode = self.player.chance.choice((None, 0o640))
        metadata = {} if mode is None else {"mode": str(stat.S_IFREG | mode)}
        self.client.put_object(self.bucket, path, data, headers=Headers(metadata=metadata))
        self._log("put", path, len(data))
        return Seen("file", data, 0o644 if mode is None else mode, None, frozenset())

    def _log(self, what: str, *args: object) -> None:
        self.player.log.append(f"others {what}{args}")

    def put(self, path: str, _node: File) -> None:
        self.player.open.allow(path, self._put(path))

    def delete(self, path: str, _node: File) -> None:
        self.client.delete_object(self.bucket, path)
        self._log("delete", path)
        self.player.open.allow(path, None)
        self._may_be_gone(path)

    def _may_be_gone(self, path: str) -> None:
        """Directories that only objects in them make go with the last of these."""
        place = path.rpartition("/")[0]
        while place:
            self.player.open.allow(place, None, Seen("directory"))
            place = place.rpartition("/")[0]

    def metadata(self, path: str, node: File) -> Seen:
        """Change the attributes alone, as cosfs does."""
        headers = Headers(metadata={"mode": str(stat.S_IFREG | 0o600), "mtime": "1000000000"})
        self.client.copy_object(self.bucket, path, self.bucket, path, headers=headers)
        self._log("metadata", path)
        seen = Seen("file", bytes(node.data), 0o600, 1_000_000_000 * 10**9, frozenset())
        self.player.open.allow(path, seen)
        return seen

    def new(self, path: str, _node: File) -> None:
        """Put an object where nothing is, or below a prefix that is no directory yet."""
        place = path.rpartition("/")[0]
        name = self.player.chance.choice(NAMES)
        if self.player.chance.random() < 0.3:
            name = f"{name}/{self.player.chance.choice(NAMES)}"
        target = f"{place}/{name}".lstrip("/")
        first = target if "/" not in name else target.rpartition("/")[0]
        taken = {each for each, _ in self.player.model.nodes()}
        if first in taken or target in taken or self.player.open.concerns(first):
            return
        if self.client.list_objects(self.bucket, prefix=first, max_keys=1).objects:
            return  # what we removed is still there: our removal, on its way, would take theirs
        theirs = self._put(target)
        if first != target:
            self.player.open.allow(first, Seen("directory"))
        self.player.open.allow(target, theirs)

    # Against us

    def put_while_written(self, path: str, node: File) -> None:
        """Theirs comes while ours is open: both are kept."""
        ours, whole = self._write(path, node, lambda: self.player.open.allow(path, self._put(path)))
        theirs = self.player.open.allowed[path][0]
        assert theirs is not None
        self.player.open.keep("theirs", theirs.data, path)
        if whole:
            self.player.open.keep("ours", ours, path)
        else:
            self.player.open.kept.append(("our change", lambda found: ours[-20:] in found, (path,)))

    def delete_while_written(self, path: str, node: File) -> None:
        """Ours is written again, or what was written is kept beside it."""

        def delete() -> None:
            self.client.delete_object(self.bucket, path)
            self._log("delete", path)

        ours, whole = self._write(path, node, delete)
        self._may_be_gone(path)
        self.player.open.allow(path, *([] if whole else [None]), Seen("file", ours))
        if whole:
            self.player.open.keep("ours", ours, path)
        else:
            self.player.open.kept.append(("our change", lambda found: ours[-20:] in found, (path,)))

    def _write(self, path: str, node: File, meanwhile: Callable[[], None]) -> tuple[bytes, bool]:
        """Write a file of ours while something happens; return what it is then, and if all was written."""
        chance = self.player.chance
        whole = chance.random() < 0.5
        new = chance.randbytes(chance.choice((20, 5_000, 1_500_000)))
        flags = os.O_WRONLY | (os.O_TRUNC if whole else os.O_APPEND)
        descriptor = os.open(self.player.top / path, flags)
        try:
            self._write_all(descriptor, new[:10])
            meanwhile()
            self._write_all(descriptor, new[10:])
        except OSError as error:
            self._stale(error, "write", path)
        self._close(descriptor, path)
        self._log("against our write", path, len(new), whole)
        return new if whole else bytes(node.data) + new, whole

    @staticmethod
    def _write_all(descriptor: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view[:131072]) :]

    def _close(self, descriptor: int, path: str) -> None:
        try:
            os.close(descriptor)
        except OSError as error:
            self._stale(error, "close", path)

    def _stale(self, error: OSError, call: str, path: str) -> None:
        """A call may fail because of what others did, for no other reason."""
        self._log("told", call, path, error.strerror)
        if error.errno not in (errno.ESTALE, errno.ENOENT) and not self.player.troubled:
            raise Wrong(f"{call} of {path}: {error}") from error

    def put_then_ours(self, path: str, _node: File) -> None:
        """Ours is opened after theirs came: ours replaces it if it was seen, else both are kept."""
        theirs = self._put(path)
        ours = self.player.data()
        try:
            descriptor = os.open(self.player.top / path, os.O_WRONLY | os.O_TRUNC)
            try:
                self._write_all(descriptor, ours)
            finally:
                self._close(descriptor, path)
        except OSError as error:
            self._stale(error, "write", path)
            self.player.open.allow(path, theirs)
            return
        self.player.open.allow(path, theirs, Seen("file", ours))
        self.player.open.keep("ours", ours, path)

    def put_then_rename(self, path: str, _node: File) -> None:
        """Theirs goes along, or stays."""
        place = path.rpartition("/")[0]
        target = f"{place}/{self.player.chance.choice(NAMES)}".lstrip("/")
        taken = {each for each, _ in self.player.model.nodes()}
        if target in taken or self.player.open.concerns(target):
            return
        theirs = self._put(path)
        try:
            (self.player.top / path).rename(self.player.top / target)
        except OSError as error:
            self._stale(error, "rename", path)
        self._log("then our rename", path, target)
        moved = Seen("file", theirs.data)
        self.player.open.allow(path, None, theirs)
        self.player.open.allow(target, None, moved)
        self.player.open.keep("theirs", theirs.data, path, target)

    def put_then_unlink(self, path: str, _node: File) -> None:
        theirs = self._put(path)
        try:
            (self.player.top / path).unlink()
        except OSError as error:
            self._stale(error, "unlink", path)
        self._log("then our unlink", path)
        self.player.open.allow(path, None, theirs)

    def put_then_chmod(self, path: str, _node: File) -> None:
        theirs = self._put(path)
        try:
            (self.player.top / path).chmod(0o755)
        except OSError as error:
            self._stale(error, "chmod", path)
        self._log("then our chmod", path)
        self.player.open.allow(path, Seen("file", theirs.data))
