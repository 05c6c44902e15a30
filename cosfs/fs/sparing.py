"""Attributes of what is looked up only to be removed are not asked for: `rm -r` needs none.

The kernel looks a name up before it removes it, and does not say why. Once names are removed one after the
other, a look-up is answered without a HEAD, and with attributes that the kernel does not keep: whoever wants
to know them has it ask again. Then these were not looked up to be removed, and it is as before for a while.
"""

from __future__ import annotations

import stat

import trio

from cosfs.fs.inodes import FileNode, Node

__all__ = ["Sparing"]

SYMLINK_MAX = 4095  # a larger object cannot be a symbolic link
FEW = 2  # removals in a row that are still chance
WITHIN = 1.0  # seconds from one to the next
NOT_FOR = 10.0  # seconds


class Sparing:
    """Watches removals and what is asked between them, in all of a mount."""

    def __init__(self) -> None:
        self._removed = 0  # in a row
        self._last = 0.0
        self._not_before = 0.0

    def removed(self) -> None:
        """A name was removed."""
        now = trio.current_time()
        self._removed = self._removed + 1 if now - self._last < WITHIN else 1
        self._last = now

    def wanted(self) -> None:
        """Somebody asks for attributes that were not told when the name was looked up."""
        self._not_before = trio.current_time() + NOT_FOR

    def may_spare(self, node: Node) -> bool:
        """Whether a file that is looked up now is most likely about to be removed, and the kernel can do so.

        It must know what kind of file it is, and in a directory with the sticky bit whose.
        """
        if self._removed <= FEW or not isinstance(node, FileNode):
            return False
        now = trio.current_time()
        if now - self._last >= WITHIN or now < self._not_before:
            return False
        if node.known:
            return True  # those behind it need not be fetched ahead
        parent, info = node.parent, node.info
        return (
            parent is not None
            and parent.known
            and not parent.attrs.mode & stat.S_ISVTX
            and info is not None
            and info.size > SYMLINK_MAX
        )
