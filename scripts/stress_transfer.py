"""Run cp and sync against an emulator of its own that fails at random, and look at what they leave.

usage: stress_transfer.py [COUNT [FIRST_SEED]]
Exit code 1 and the seed, if anything was not as the command said.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
import time
from pathlib import Path

from cli.main import run
from cosfs.client.client import CosClient
from cosfs.config import load_settings
from cosfs.emulator import Emulator
from scripts.ending import end_tidily
from tests.transfer.faulty_runs import CONFIG, Faulty


def captured(*args: str) -> tuple[int, str]:
    """Run a command line in this process; return its exit code and what it wrote to stderr."""
    with contextlib.redirect_stderr(io.StringIO()) as told:
        code = run(list(args))
    return code, told.getvalue()


def main() -> int:
    end_tidily()
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="cos-stress-") as name, Emulator(Path(name, "store")) as emulator:
        home = Path(name)
        (home / ".cos").mkdir(mode=0o700)
        (home / ".cos/config").write_text(CONFIG)
        os.environ |= {
            "HOME": name,
            "COS_ENDPOINT_URL": emulator.endpoint_url,
            "COS_SECRET_ID": emulator.secret_id,
            "COS_SECRET_KEY": emulator.secret_key,
            "COS_REGION": emulator.region,
        }
        bucket = emulator.create_bucket("stress")
        faulty = Faulty(
            captured,
            emulator,
            CosClient.from_settings(load_settings()),
            bucket,
            home,
            home,
        )
        for seed in range(first, first + count):
            with tempfile.TemporaryDirectory(dir=name) as place:
                faulty.place = Path(place)
                try:
                    faulty.exercise(seed)
                except Exception as error:
                    print(f"seed {seed}: {type(error).__name__}: {error}")
                    return 1
            if seed % 50 == 0:
                print(f"{seed - first + 1} runs", flush=True)
    seconds = time.monotonic() - started
    print(
        f"{count} runs, {faulty.failed} ended with errors and were run again, "
        f"{faulty.strays} uploads were named as left open, {seconds:.0f} s: all as told"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
