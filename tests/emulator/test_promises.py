"""What is promised about storage, in the small; scripts/stress-emulator shows it at full length."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "stress_emulator.py"


def test_kills_under_concurrent_writers_and_a_large_object() -> None:
    command = [sys.executable, str(SCRIPT), "--kills", "5", "--large", "0.2", "--quiet", "--seed", "5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kill 5:" in done.stdout and "205 MiB:" in done.stdout
