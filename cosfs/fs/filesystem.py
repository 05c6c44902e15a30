"""The semantics: one coroutine per filesystem call. Knows no FUSE.

Errors are COSError (its errno is what the call fails with) or OSError. A handler waits for COS
only where it must; what it starts and does not wait for belongs to the nursery of `run()`.
"""

from __future__ import annotations

from cosfs.fs.entries import Entries
from cosfs.fs.inodes import FileNode
from cosfs.fs.metadata import Metadata
from cosfs.fs.outbox import Changed


class Filesystem(Entries, Metadata):
    """Everything a mount does, by inode numbers and handles."""

    async def drain(self) -> None:
        """Send everything that is pending."""
        await self.committer.drain()
        await self.deleter.drain()
        await self.committer.uploads.settle()

    @property
    def open_handles(self) -> tuple[int, int, int]:
        """How many files and directories are open, and how many files COS lacks bytes of."""
        dirty = {handle.node for handle in self._files.values() if handle.node.dirty}
        return len(self._files), len(self._dirs), len(dirty)

    @property
    def pending(self) -> list[Changed]:
        """All that COS does not have as it is here; of directories, their attributes."""
        return list(self.committer.changed())

    @property
    def pending_files(self) -> list[FileNode]:
        return [node for node in self.tree.table.files() if node.changed and not node.unlinked]
