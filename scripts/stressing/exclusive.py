"""A call that Python has no function for."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

NOREPLACE = 1
_HERE = ctypes.c_int(-100)  # AT_FDCWD
_libc = ctypes.CDLL(None, use_errno=True)


def rename_exclusive(old: Path, new: Path) -> None:
    """Rename, but replace nothing."""
    if _libc.renameat2(_HERE, os.fsencode(old), _HERE, os.fsencode(new), NOREPLACE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(old))
