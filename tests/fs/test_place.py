from __future__ import annotations

import os
from pathlib import Path

import pytest

from cosfs.errors import ConfigError
from cosfs.fs.place import check_private, lock_directory


@pytest.mark.parametrize(("mode", "hidden", "good"), [
    (0o700, False, True), (0o755, False, True), (0o775, False, False), (0o777, False, False),
    (0o700, True, True), (0o750, True, False), (0o705, True, False),
])  # fmt: skip
def test_directories_open_to_others_are_refused(tmp_path: Path, mode: int, hidden: bool, good: bool) -> None:
    tmp_path.chmod(mode)
    if good:
        check_private(tmp_path, hidden=hidden)
        return
    with pytest.raises(ConfigError, match=rf"mode 0{mode:o}.*chmod 700 {tmp_path}"):
        check_private(tmp_path, hidden=hidden)


def test_directories_of_others_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    with pytest.raises(ConfigError, match="belongs to another user"):
        check_private(tmp_path)


def test_a_lock_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    with pytest.raises(ConfigError, match="lock cannot be used: Is a directory"):
        lock_directory(tmp_path)
