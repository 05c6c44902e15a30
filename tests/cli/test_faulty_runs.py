"""A few of the runs of scripts/stress-transfer: some that end with errors, some that do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from cosfs.client.client import CosClient
from cosfs.emulator import Emulator
from tests.cli.conftest import Run
from tests.transfer.faulty_runs import CONFIG, Faulty


@pytest.mark.parametrize("seed", [2, 18, 34, 51])
def test_what_a_command_says_it_did_is_done(
    run: Run,
    emulator: Emulator,
    client: CosClient,
    bucket: str,
    cos_environment: dict[str, str],
    tmp_path: Path,
    seed: int,
) -> None:
    home = Path(cos_environment["HOME"])
    (home / ".cos").mkdir(mode=0o700)
    (home / ".cos/config").write_text(CONFIG)
    faulty = Faulty(
        lambda *args: ((done := run(*args, code=None)).code, done.err),
        emulator, client, bucket, home, tmp_path / "place",
    )  # fmt: skip
    (tmp_path / "place").mkdir()
    faulty.exercise(seed)
