"""Believing nothing about a path: what `cos refresh` does in the mount."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from cosfs.fs import facts
from cosfs.fs.inodes import DirNode, FileNode, Node
from cosfs.fs.tree import Tree

SHOWN = 20  # names of changes that were kept


@dataclass(slots=True)
class Refreshed:
    """What was done.

    state: new, changed, unchanged, gone, absent, or local (changed here and not yet in COS, so that COS was
    not asked). forgotten counts the names below that are asked about again when somebody wants them, in so
    many directories; kept are URLs of what was changed here and stays as it is.
    """

    state: str
    forgotten: int = 0
    directories: int = 0
    kept: list[str] = field(default_factory=list)
    kept_count: int = 0


class Refresher:
    """Asks COS about one name now, and about everything below it when somebody wants it."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    async def refresh(self, path: Sequence[bytes], *, recursive: bool = False) -> Refreshed:
        """Refresh a path, given by its names from the root of the mount.

        A directory is read again; with recursive, so is every directory below it.
        """
        node: Node = self._tree.root
        state = "changed"
        for name in path:
            if not isinstance(node, DirNode):
                return Refreshed("absent")
            child = node.children.get(name)
            if child is None or name is path[-1]:
                state = await self._name(node, name)
                child = node.children.get(name)
            if child is None:
                return Refreshed(state)  # nobody has looked at it: there is nothing to forget
            node = child
        done = Refreshed(state)
        if isinstance(node, DirNode):
            for directory in list(_directories(node)) if recursive else [node]:
                self._forget(directory, done)
            if node.is_buckets:
                await self._tree.listing(node)
        elif facts.local(node):
            _keep(node, done)
        return done

    async def _name(self, parent: DirNode, name: bytes) -> str:
        """Ask COS about one name and have the kernel ask us."""
        before = parent.children.get(name)
        if before is not None and facts.local(before):
            self._tree.kernel.forget_inode(before.ino)
            return "local"
        listed = parent.listing is not None and parent.listing.get(name) is not None
        old = _state(before)
        parent.tombstones.pop(name, None)  # what is still to be removed is hidden all the same
        found = await self._tree.ask(parent, name)
        if found is None or not isinstance(before, DirNode) or found is not before:
            # A directory that is still there keeps its name: somebody may be inside.
            self._tree.kernel.forget_name(parent.ino, name)
        if found is None:
            return "gone" if before is not None or listed else "absent"
        self._tree.kernel.forget_inode(found.ino)
        if before is None and not listed:
            return "new"
        return "unchanged" if found is before and _state(found) == old else "changed"

    def _forget(self, directory: DirNode, done: Refreshed) -> None:
        done.directories += 1
        if not directory.is_buckets:
            directory.distrusted = True
        if not directory.attrs_dirty and directory.parent is not None:
            directory.known = directory.is_bucket
        listing, directory.listing = directory.listing, None
        for name in directory.absent:
            self._tree.kernel.forget_name(directory.ino, name)
        directory.absent.clear()
        for name in [name for name in directory.recent if not _is_local(directory.children.get(name))]:
            del directory.recent[name]  # COS knows better by now
        directory.tombstones.clear()
        for name, child in directory.children.items():
            if facts.local(child):
                _keep(child, done)
                continue
            child.expires = 0.0
            if isinstance(child, FileNode):
                child.known = False
                if child.info is not None:
                    child.info = replace(child.info, headers=None)
                self._tree.kernel.forget_name(directory.ino, name)
            self._tree.kernel.forget_inode(child.ino)
        done.forgotten += len(listing) if listing is not None else len(directory.children)


def _keep(node: Node, done: Refreshed) -> None:
    done.kept_count += 1
    if len(done.kept) < SHOWN:
        done.kept.append(node.url)


def _is_local(node: Node | None) -> bool:
    return node is not None and facts.local(node)


def _state(node: Node | None) -> object:
    """What COS said about a node, to be compared."""
    if isinstance(node, FileNode):
        return node.info and (node.info.etag, node.info.size, int(node.info.last_modified), node.attrs)
    return node.attrs if node is not None else None


def _directories(top: DirNode) -> Iterator[DirNode]:
    """A directory and all below it that anybody knows."""
    yield top
    for child in list(top.children.values()):
        if isinstance(child, DirNode):
            yield from _directories(child)
