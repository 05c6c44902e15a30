"""Sync random trees with names that make trouble up and down, against an emulator of its own.

usage: stress_sync.py [--faults] [COUNT [FIRST_SEED]]
With --faults one request in twenty goes wrong, in every way. Exit code 1 and the seed, if a tree came back
changed, a second run had anything to do, or a run ended with another exit code than the truth.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from cli.main import run
from cosfs.client.client import CosClient
from cosfs.config import load_settings
from cosfs.emulator import Emulator
from scripts.ending import end_tidily
from tests.transfer.random_trees import exercise, exercise_with_faults

# So that there are objects in parts without large files.
CONFIG = "[default]\ncos =\n  multipart_threshold = 1MB\n  multipart_chunksize = 1MB\n"


def prepare(home: Path, emulator: Emulator) -> str:
    """Make the environment that of a user of the emulator; return a bucket."""
    (home / ".cos").mkdir(mode=0o700)
    (home / ".cos" / "config").write_text(CONFIG)
    (home / ".cos" / "config").chmod(0o600)
    os.environ |= {
        "HOME": str(home),
        "COS_ENDPOINT_URL": emulator.endpoint_url,
        "COS_SECRET_ID": emulator.secret_id,
        "COS_SECRET_KEY": emulator.secret_key,
        "COS_REGION": emulator.region,
    }
    return emulator.create_bucket("stress")


def open_uploads(bucket: str) -> int:
    """Return how many multipart uploads nobody finished or aborted."""
    with CosClient.from_settings(load_settings({})) as client:
        return len(client.list_uploads(bucket).uploads)


def main() -> int:
    end_tidily()
    numbers = [argument for argument in sys.argv[1:] if argument != "--faults"]
    with_faults = len(numbers) < len(sys.argv) - 1
    count = int(numbers[0]) if numbers else 200 if with_faults else 300
    first = int(numbers[1]) if len(numbers) > 1 else 1
    started, sent, codes = time.monotonic(), 0, Counter[int]()
    with tempfile.TemporaryDirectory(prefix="cos-stress-") as name, Emulator(Path(name, "store")) as emulator:
        bucket = prepare(Path(name), emulator)

        def cos(*args: str) -> int:
            return run(list(args))

        for seed in range(first, first + count):
            with tempfile.TemporaryDirectory(dir=name) as place:
                try:
                    if with_faults:
                        codes.update(exercise_with_faults(cos, emulator, bucket, Path(place), seed))
                    else:
                        sent += exercise(cos, bucket, Path(place), seed)
                except Exception as error:
                    print(f"seed {seed}: {type(error).__name__}: {error}")
                    return 1
            if (seed - first + 1) % 50 == 0:
                print(f"{seed - first + 1} trees", flush=True)
        left = open_uploads(bucket)
    what = f"runs by exit code {dict(codes)}" if with_faults else f"{sent} files sent or deleted"
    print(f"{count} trees, {what}, {left} uploads left open, {time.monotonic() - started:.0f} s: all right")
    return 1 if left else 0


if __name__ == "__main__":
    raise SystemExit(main())
