"""Memory of `cos sync` and `cos check` does not depend on how many objects are compared."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from cosfs.emulator import Emulator

PROGRAM = """
import sys
from cli.main import run
code = run(sys.argv[1:])
# Not ru_maxrss: it begins with the memory of the process that started this one.
print(code, next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
FEW, MANY = 2_000, 25_000


def peak(environment: dict[str, str], *args: str) -> int:
    """Return the most memory a command line took, in MB."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *args],
        env=environment,
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=120,
    )
    code, kilobytes = done.stdout.splitlines()[-1].split()
    assert code == "0"
    return int(kilobytes) // 1024


def test_peak_memory(cos_environment: dict[str, str], emulator: Emulator, bucket: str) -> None:
    found = {}
    for count in (FEW, MANY):
        for side in ("p", "q"):
            emulator.put_objects(bucket, ((f"{count}{side}/{number:06}", b"x") for number in range(count)))
        places = [f"cos://{bucket}/{count}{side}" for side in ("p", "q")]
        for command in (("sync", "--delete"), ("check",)):
            emulator.requests.reset()
            found[command[0], count] = peak(cos_environment, *command, *places)
            assert emulator.requests["ListObjects"] == 2 * count // 1000
    for name in ("sync", "check"):
        # A list of the further names alone would take more.
        assert found[name, MANY] - found[name, FEW] < 5 and found[name, MANY] < 80, found
