"""Random trees up, changed, synced, down: identical, and a second run has nothing to do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cli.main import run as run_program
from tests.transfer.random_trees import exercise, exercise_with_faults
from tests.transfer.support import open_uploads

if TYPE_CHECKING:
    from cosfs.client.client import CosClient
    from cosfs.emulator import Emulator


@pytest.fixture
def environment(
    cos_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, emulator: Emulator
) -> Iterator[None]:
    """That of a user of the emulator, whose larger files go in parts of a mebibyte."""
    for name in [name for name in os.environ if name.startswith("COS_")]:
        monkeypatch.delenv(name)
    for name, value in cos_environment.items():
        monkeypatch.setenv(name, value)
    config = Path(cos_environment["HOME"], ".cos", "config")
    config.parent.mkdir(mode=0o700)
    config.write_text("[default]\ncos =\n  multipart_threshold = 1MB\n  multipart_chunksize = 1MB\n")
    config.chmod(0o600)
    yield
    emulator.faults.clear()


@pytest.mark.parametrize("seed", range(1, 13))
def test_random_trees(seed: int, bucket: str, tmp_path: Path, environment: None) -> None:
    assert exercise(lambda *args: run_program(list(args)), bucket, tmp_path, seed) > 0


@pytest.mark.parametrize("seed", range(100, 106))
def test_random_trees_while_requests_fail(
    seed: int, bucket: str, emulator: Emulator, tmp_path: Path, environment: None, client: CosClient
) -> None:
    codes = exercise_with_faults(lambda *args: run_program(list(args)), emulator, bucket, tmp_path, seed)
    assert set(codes) <= {0, 1}
    assert open_uploads(client, bucket) == []
