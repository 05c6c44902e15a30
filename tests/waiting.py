"""Waiting for what other threads do."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 100.0  # a machine may stand still for a while, and have much else to do


def until(condition: Callable[[], object], what: str) -> None:
    """Return as soon as a condition holds; fail when it does not for a long time."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE:.0f} s: {what}"
        time.sleep(0.005)
