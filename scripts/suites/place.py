"""Where the suites run: an emulator and a mount of it, each a process of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TREE))

from tests.mounting import Mounted  # noqa: E402

BUCKET = "posix"
READY_WITHIN = 30.0


@dataclass(frozen=True)
class Place:
    """A mounted bucket; scratch is on the local disk."""

    mounted: Mounted
    scratch: Path
    write_back: str

    @property
    def path(self) -> Path:
        return self.mounted.path

    def directory(self, name: str) -> Path:
        """Make a directory in the mount that everybody may write into."""
        made = self.path / name
        made.mkdir(parents=True)
        made.chmod(0o777)
        return made


def _variables(process: subprocess.Popen[str], output: Path) -> dict[str, str]:
    """What `cos emulator` prints for its users."""
    deadline = time.monotonic() + READY_WITHIN
    while "COS_REGION" not in (text := output.read_text()):
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"posix: the emulator did not start:\n{text}")
        time.sleep(0.05)
    words = (line.removeprefix("export ").partition("=") for line in text.splitlines())
    return {name: value.strip("'\"") for name, _, value in words if name.startswith("COS_")}


@contextlib.contextmanager
def _emulator(scratch: Path) -> Iterator[dict[str, str]]:
    output = scratch / "emulator.env"
    command = [f"{TREE}/.venv/bin/cos", "emulator", "--data", str(scratch / "store"), "--bucket", BUCKET]
    with output.open("w") as out, (scratch / "emulator.log").open("w") as errors:
        process = subprocess.Popen(command, stdout=out, stderr=errors, text=True)
    try:
        yield _variables(process, output)
    finally:
        process.terminate()
        process.wait(30)


@contextlib.contextmanager
def open_place(write_back: str, *options: str) -> Iterator[Place]:
    """Mount a fresh bucket; nothing of it is left afterwards."""
    with tempfile.TemporaryDirectory(prefix="cos-posix-") as name:
        scratch = Path(name)
        scratch.chmod(0o755)  # the suites act as other users, too
        with _emulator(scratch) as variables:
            inherited = {n: v for n, v in os.environ.items() if not n.startswith("COS_")}
            environment = inherited | variables | {"HOME": str(scratch), "PATH": _path()}
            chosen = ("--write-back", write_back, *options)
            mounted = Mounted.start(f"cos://{BUCKET}", chosen, scratch, scratch / "cache", environment)
            try:
                mounted.wait_until_ready()
                yield Place(mounted, scratch, write_back)
            finally:
                mounted.clean_up()
                tell_warnings(mounted)


def _path() -> str:
    return f"{TREE}/.venv/bin:{os.environ['PATH']}"


def tell_warnings(mounted: Mounted) -> None:
    """Print what the mount found worth a warning; a suite provokes some on purpose."""
    lines = [line for line in mounted.log_text().splitlines() if "Traceback" in line or "ERROR" in line]
    for line in lines[:10]:
        print(f"  the mount's log: {line}", flush=True)
