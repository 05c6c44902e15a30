"""What docs/emulator.md says can be done, can be done."""

from __future__ import annotations

import re
from pathlib import Path

import cosfs.emulator
from cosfs.emulator.service import HANDLERS
from cosfs.emulator.settings import SETTINGS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "emulator.md").read_text()


def test_the_example_runs() -> None:
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(block, "docs/emulator.md", "exec"), {})


def test_every_setting_is_listed() -> None:
    for name in SETTINGS:
        assert name in PAGE or name in ("intelligenttiering", "intelligent-tiering")


def test_operation_names_exist() -> None:
    paragraph = PAGE[PAGE.index("Operations are counted") : PAGE.index("`GetBucketLifecycle`")]
    for name in re.findall(r"`(\w+)`", paragraph):
        assert name in HANDLERS


def test_public_names_are_all_there() -> None:
    for name in cosfs.emulator.__all__:
        assert hasattr(cosfs.emulator, name)
