"""Random trees up, changed, synced, down: identical, and a second run has nothing to do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cli.main import run as run_program
from tests.transfer.random_trees import exercise


@pytest.mark.parametrize("seed", range(1, 13))
def test_random_trees(
    seed: int, bucket: str, tmp_path: Path, cos_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("COS_")]:
        monkeypatch.delenv(name)
    for name, value in cos_environment.items():
        monkeypatch.setenv(name, value)
    assert exercise(lambda *args: run_program(list(args)), bucket, tmp_path, seed) > 0
