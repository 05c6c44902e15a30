"""Objects that mounts make to send something else: no mount shows them while they are young.

Each goes when it has served. What a mount that never came back has left is shown after a day, so that
somebody can remove it.
"""

from __future__ import annotations

import os
import re
import time

from cosfs.client.model import ObjectInfo

__all__ = ["is_helper", "new_helper"]

SHOWN_AFTER = 24 * 3600.0  # seconds
_LEAD = ".cos-zeros-"
_NAME = re.compile(rf"(?:.*/)?{re.escape(_LEAD)}[0-9a-f]{{16}}", re.DOTALL)


def new_helper(beside: str) -> tuple[str, str]:
    """The key of an object of zeros in the directory of another one, and what makes it unique."""
    token = os.urandom(8).hex()
    return f"{beside.rpartition('/')[0]}/{_LEAD}{token}".lstrip("/"), token


def is_helper(info: ObjectInfo) -> bool:
    """Whether an object is only there for a while, to make another one of it."""
    return (
        _LEAD in info.key
        and _NAME.fullmatch(info.key) is not None
        and info.last_modified > time.time() - SHOWN_AFTER
    )
