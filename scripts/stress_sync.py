"""Sync random trees with names that make trouble up and down, against an emulator of its own.

usage: stress_sync.py [COUNT [FIRST_SEED]]
Exit code 1 and the seed, if a tree came back changed or a second run had anything to do.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cli.main import run
from cosfs.emulator import Emulator
from tests.transfer.random_trees import exercise


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    started, sent = time.monotonic(), 0
    with tempfile.TemporaryDirectory(prefix="cos-stress-") as name, Emulator(Path(name, "store")) as emulator:
        os.environ |= {
            "HOME": name,
            "COS_ENDPOINT_URL": emulator.endpoint_url,
            "COS_SECRET_ID": emulator.secret_id,
            "COS_SECRET_KEY": emulator.secret_key,
            "COS_REGION": emulator.region,
        }
        bucket = emulator.create_bucket("stress")
        for seed in range(first, first + count):
            with tempfile.TemporaryDirectory(dir=name) as place:
                try:
                    sent += exercise(lambda *args: run(list(args)), bucket, Path(place), seed)
                except Exception as error:
                    print(f"seed {seed}: {type(error).__name__}: {error}")
                    return 1
            if seed % 50 == 0:
                print(f"{seed - first + 1} trees", flush=True)
    print(f"{count} trees, {sent} files sent or deleted, {time.monotonic() - started:.0f} s: all equal")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
