"""Directory entries without attributes.

pyfuse3 answers every readdir as readdirplus: each entry carries attributes, and the kernel makes
an inode of it. An object's attributes cost a HEAD, and an inode with a guessed type cannot be
corrected later (the kernel calls an inode whose type changes bad). The protocol has an answer:
an entry whose node id is 0 is a plain name with its inode number, and the kernel looks it up
when somebody asks. pyfuse3 sets node id and inode number together, so the node id is cleared in
the struct itself, at an offset that is checked before it is ever used.
"""

from __future__ import annotations

import ctypes
from typing import Any

import pyfuse3

_MAGIC = 0x5AC3_71D0_0B1E_C7F5


def _find_offset() -> int:
    """Where EntryAttributes keeps fuse_entry_param.ino, with st_ino three words behind it.

    fuse_entry_param is {ino, generation, struct stat {st_dev, st_ino, ...}, ...}.
    """
    probe = pyfuse3.EntryAttributes()
    probe.st_ino = _MAGIC
    size = type(probe).__basicsize__
    raw = ctypes.string_at(id(probe), size)
    needle = _MAGIC.to_bytes(8, "little")
    offset = raw.find(needle, object.__basicsize__)
    if offset < 0 or raw.find(needle, offset + 8) != offset + 24:
        raise RuntimeError("this version of pyfuse3 keeps directory entries in an unknown way")
    return offset


_OFFSET = _find_offset()


def make_plain(entry: Any) -> None:
    """Keep the entry's inode number but tell the kernel nothing else about it."""
    ctypes.c_uint64.from_address(id(entry) + _OFFSET).value = 0
