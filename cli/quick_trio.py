"""Trio, imported without starting a program: it is a third of all that a transfer imports."""

from __future__ import annotations

import ctypes
import sys
from types import ModuleType


def import_trio() -> None:
    """Import trio for all who import it later.

    It names its threads by a function of libpthread, which ctypes.util would find by running ldconfig and
    reading the list of all libraries. Where there is none of this name (musl) the threads have no names.
    """
    if "trio" in sys.modules or "ctypes.util" in sys.modules or not sys.platform.startswith("linux"):
        return
    finder = ModuleType("ctypes.util")
    finder.find_library = "lib{}.so.0".format  # type: ignore[attr-defined]
    sys.modules[finder.__name__] = ctypes.util = finder
    try:
        import trio  # noqa: F401
    finally:
        del sys.modules[finder.__name__], ctypes.util
