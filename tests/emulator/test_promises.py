"""What is promised about storage, in the small; scripts/stress-emulator shows it at full length."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]


def test_kills_under_concurrent_writers_and_a_large_object() -> None:
    command = [sys.executable, "-m", "scripts.stress_emulator"]
    command += ["--kills", "5", "--large", "0.2", "--quiet", "--seed", "5"]
    done = subprocess.run(command, cwd=TREE, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kill 5:" in done.stdout and "205 MiB:" in done.stdout
