"""An engine on the emulator, with small limits."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from cosfs.client.client import CosClient
from cosfs.emulator import Emulator
from cosfs.transfer import multipart
from cosfs.transfer.engine import Engine
from tests.transfer.support import SMALL_LIMITS, settled


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no upload stay open because the machine stood still for some seconds."""
    monkeypatch.setattr(multipart, "_ABORT_TIME", 60.0)
    monkeypatch.setattr("cosfs.transfer.engine._CLEAN_UP_TIME", 60.0)


@pytest.fixture(autouse=True)
def no_faults(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let no fault of one test strike another, and begin to count at zero."""
    yield
    if "emulator" in request.fixturenames:
        emulator: Emulator = request.getfixturevalue("emulator")
        emulator.faults.clear()


@pytest.fixture
async def engine(client: CosClient, bucket: str, emulator: Emulator) -> AsyncIterator[Engine]:
    async with Engine(client, SMALL_LIMITS) as running:
        emulator.requests.reset()
        yield running
        # A thread that comes back later would leave its connection behind.
        await settled(running)
