"""fsx: random reads, writes, truncations and mappings of one file, each read compared with what is due."""

from __future__ import annotations

import subprocess

from scripts.suites.place import Place

OPERATIONS = 3_000
LIMIT = 900.0
COMMON = """
[weights]
close_open = 2
invalidate = 1
mapread = 8
mapwrite = 8
read = 10
write = 10
truncate = 6
fsync = 0.5
fdatasync = 0.5
posix_fallocate = 3
sendfile = 2
posix_fadvise = 1
copy_file_range = 4
"""
# Small files go in one request, large ones in parts: both, and what lies between.
SIZES = {
    "small": f"flen = 262144\n[opsize]\nmax = 65536\n{COMMON}",
    "parts": f"flen = 67108864\n[opsize]\nmax = 6291456\n{COMMON}",
}


def run(place: Place, program: str, seed: int) -> bool:
    good = True
    for number, (name, settings) in enumerate(SIZES.items()):
        config = place.scratch / f"fsx-{name}.toml"
        config.write_text(settings)
        artifacts = place.scratch / "fsx"
        artifacts.mkdir(exist_ok=True)
        operations = OPERATIONS if name == "small" else OPERATIONS // 10
        command = [
            program, "-q", "-f", str(config), "-N", str(operations), "-S", str(seed + number),
            "-P", str(artifacts), str(place.path / f"fsx-{name}"),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=LIMIT)
        good = good and done.returncode == 0
        print(f"  fsx, {name}: {operations} operations, seed {seed + number}: {_verdict(done)}", flush=True)
    return good


def _verdict(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode == 0:
        return "all as expected"
    return f"exit code {done.returncode}\n{(done.stdout + done.stderr)[-3000:]}"
