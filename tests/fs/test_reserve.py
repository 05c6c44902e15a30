from __future__ import annotations

import os
from pathlib import Path

import pytest

from cosfs.errors import UsageError
from cosfs.fs.reserve import Reserve

GIB = 1 << 30


def test_default_reserve_fits_the_filesystem() -> None:
    reserve = Reserve()
    assert reserve.of(100 * GIB) == 5 * GIB
    assert reserve.of(10_000 * GIB) == 10 * GIB
    assert reserve.of(8 * GIB) == GIB // 2
    assert reserve.of(GIB) == GIB // 10


@pytest.mark.parametrize(
    ("text", "of_100_gib"),
    [("2GB", 2 * GIB), ("0", 0), ("10%", 10 * GIB), ("2.5 %", 5 * GIB // 2), ("0%", 0)],
)
def test_chosen_reserve(text: str, of_100_gib: int) -> None:
    assert Reserve.parse(text).of(100 * GIB) == of_100_gib


@pytest.mark.parametrize("text", ["", "%", "100%", "-1%", "x%", "much", "nan%"])
def test_what_is_no_reserve(text: str) -> None:
    with pytest.raises(UsageError):
        Reserve.parse(text)


def test_spare_space_is_what_is_above_the_reserve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status = os.statvfs_result((4096, 4096, 1 << 20, 1 << 18, 1 << 18, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: status)
    assert Reserve(size=GIB // 2).spare(tmp_path) == GIB // 2
    assert Reserve(share=0.5).spare(tmp_path) == -GIB
