"""A session of a program, on the emulator."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import cosfs
from cosfs.emulator import Emulator
from tests.objects import options_of


@pytest.fixture
def session(emulator: Emulator) -> Iterator[cosfs.Session]:
    with cosfs.Session(**options_of(emulator)) as opened:
        yield opened
    emulator.faults.clear()
