"""Random calls against a filesystem in memory: the tests' own model, on and on with other seeds."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = "100"
TESTS = ("tests/fs/test_model.py", "tests/fuse/test_random.py")


def run(minutes: float, seed: int) -> int:
    """Run the tests of random calls again and again; the seed that fails is printed."""
    until = time.monotonic() + minutes * 60
    rounds = 0
    while time.monotonic() < until:
        environment = os.environ | {"COSFS_MODEL_EXAMPLES": EXAMPLES, "COS_TEST_SEED": str(seed + rounds)}
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
        command += [f"--hypothesis-seed={seed + rounds}", *TESTS]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"FAILED: seed {seed + rounds}\n{done.stdout[-6000:]}")
            return 1
        rounds += 1
        print(f"{rounds} rounds: {done.stdout.strip().splitlines()[-1]}", flush=True)
    return 0
