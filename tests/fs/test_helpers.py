from __future__ import annotations

import time

from cosfs.client.model import ObjectInfo
from cosfs.fs.helpers import PROBE, SHOWN_AFTER, is_helper, new_helper


def test_helpers_are_told_from_files() -> None:
    def told(key: str, size: int, age: float = 0.0) -> bool:
        return is_helper(ObjectInfo(key, size, "", time.time() - age))

    zeros, _token = new_helper("d/file")
    assert told(zeros, 1 << 20) and not told(zeros, 1 << 20, SHOWN_AFTER + 60)
    assert told(PROBE, 1) and told(f"d/a{PROBE}.txt", 1) and not told(PROBE, 1, SHOWN_AFTER + 60)
    assert not told(PROBE, 2) and not told("d/.cos-zeros-photos", 1) and not told("d/a.cosfs", 1)
