"""Programs that are killed while a call of theirs waits for COS, which gives no answer until the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cosfs.client.client import CosClient
from cosfs.emulator import Emulator
from tests.fuse.support import until
from tests.objects import keys, stored

pytestmark = pytest.mark.fuse
HOUR = 3600.0
ENDS_WITHIN = 100.0  # of a fault that lasts for an hour; usually it is 1
MIB = 1024 * 1024

WRITE = "fd = os.open(path, os.O_WRONLY | os.O_CREAT); os.write(fd, b'x' * 5000)\n"
CALLS = {
    "close": (WRITE + "os.close(fd)", "PutObject"),
    "fsync": (WRITE + "os.fsync(fd)", "PutObject"),
    "exit": (WRITE + "os.kill(os.getpid(), signal.SIGKILL)", "PutObject"),
    "large": (
        f"fd = os.open(path, os.O_WRONLY | os.O_CREAT)\nfor _ in range(20): os.write(fd, bytes({MIB}))\n"
        "print(flush=True); os.close(fd)",
        "UploadPart",
    ),
    "mkdir": ("os.mkdir(path)", "PutObject"),
    "rename": ("os.rename(path + '.old', path)", "CopyObject"),
    "fsync-of-a-directory": (
        "os.chmod(path + '.d', 0o700); os.fsync(os.open(path + '.d', os.O_RDONLY))",
        "PutObject",
    ),
}
LEAVES = {
    "close": {"f": 5000},
    "fsync": {"f": 5000},
    "exit": {"f": 5000},
    "large": {"f": 20 * MIB},
    "mkdir": {"f/": 0},
    "rename": {"f": 3},
    "fsync-of-a-directory": {"f.d/": 0},
}


@pytest.mark.parametrize("name", CALLS)
def test_a_killed_program_is_gone_and_its_change_goes_on(
    mountpoint: Path, client: CosClient, emulator: Emulator, name: str
) -> None:
    code, operation = CALLS[name]
    bucket, path = mountpoint.name, mountpoint / "f"
    (mountpoint / "f.old").write_bytes(b"old")
    (mountpoint / "f.d").mkdir()
    (mountpoint / "another").write_bytes(b"another")
    until(lambda: "another" in keys(client, bucket), "both files are in COS")
    fault = emulator.faults.latency(HOUR, operation, key="f*")
    before = emulator.requests[operation]
    program = subprocess.Popen(
        [sys.executable, "-c", f"import os, signal, sys\npath = sys.argv[1]\n{code}", str(path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    try:
        if name == "large":  # its first parts are sent while it is being written
            assert program.stdout is not None and program.stdout.readline()
        until(lambda: emulator.requests[operation] > before, "it waits for COS")
        program.kill()
        assert program.wait(ENDS_WITHIN) == -signal.SIGKILL
        assert (mountpoint / "another").read_bytes() == b"another"
        os.listdir(mountpoint)  # noqa: PTH208
    finally:
        emulator.faults.release(fault)
        program.kill()
        program.communicate(timeout=ENDS_WITHIN)
    for key, size in LEAVES[name].items():
        until(lambda key=key: key in keys(client, bucket), f"{key} is in COS")
        assert len(stored(client, bucket, key)) == size
