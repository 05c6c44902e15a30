"""Random calls, kills, remounts, faults and another client; scripts/stress model runs longer."""

from __future__ import annotations

import pytest

from scripts.stressing.model import play

pytestmark = pytest.mark.fuse


@pytest.mark.parametrize("seed", [1, 2])
def test_a_mount_is_what_the_model_says(seed: int) -> None:
    ours, _ = play(seed, phases=3, calls=40)
    assert ours > 30
