"""Keys that would be one file where case makes no difference."""

from __future__ import annotations

import os
import tempfile
import unicodedata


class CaseNames:
    """Remembers names, eight bytes each, and finds those that differ in case or composition alone."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def add(self, relative: str) -> bool:
        """Note a name; return whether one was there that differs only so."""
        folded = hash(unicodedata.normalize("NFC", relative).casefold())
        if folded in self._seen:
            return True
        self._seen.add(folded)
        return False


def ignores_case(directory: str) -> bool:
    """Whether the filesystem of a directory makes no difference between upper and lower case."""
    try:
        with tempfile.NamedTemporaryFile(prefix=".cos-", suffix=".tmp", dir=directory) as made:
            name = os.path.basename(made.name)  # noqa: PTH119
            return os.path.lexists(os.path.join(directory, name.upper()))  # noqa: PTH118
    except OSError:
        return False
