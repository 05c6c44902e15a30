"""A session of a program, on the emulator."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import cosfs
from cosfs.emulator import Emulator


@pytest.fixture
def session(emulator: Emulator) -> Iterator[cosfs.Session]:
    options = {
        "endpoint_url": emulator.endpoint_url,
        "region": emulator.region,
        "secret_id": emulator.secret_id,
        "secret_key": emulator.secret_key,
    }
    with cosfs.Session(**options) as opened:
        yield opened
    emulator.faults.clear()
