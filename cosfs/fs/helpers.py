"""Objects that mounts make for a moment: to send something else, or to ask what is allowed.

Each goes when it has served, and no mount shows it while it is young. What a mount that never came back has
left is shown after a day, so that somebody can remove it.
"""

from __future__ import annotations

import os
import re
import time

from cosfs.client.model import ObjectInfo

__all__ = ["PROBE", "is_helper", "new_helper"]

SHOWN_AFTER = 24 * 3600.0  # seconds
PROBE = ".cosfs-may-write"  # part of keys that only servers which take any checksum store something under
_LEAD = ".cos-zeros-"
_COMMON = ".cos"  # what names of helpers are told from most others by
_ZEROS = re.compile(rf"(?:.*/)?{re.escape(_LEAD)}[0-9a-f]{{16}}", re.DOTALL)


def new_helper(beside: str) -> tuple[str, str]:
    """The key of an object of zeros in the directory of another one, and what makes it unique."""
    token = os.urandom(8).hex()
    return f"{beside.rpartition('/')[0]}/{_LEAD}{token}".lstrip("/"), token


def is_helper(info: ObjectInfo) -> bool:
    """Whether an object is only there for a while."""
    if _COMMON not in info.key or info.last_modified <= time.time() - SHOWN_AFTER:
        return False
    return _ZEROS.fullmatch(info.key) is not None or (PROBE in info.key and info.size == 1)
