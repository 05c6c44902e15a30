"""One command, timed from outside: seconds, CPU seconds, peak memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# A small process in between: a child forked from this one would be told to have used its memory.
_LAUNCHER = """
import json, os, resource, sys, time
started = time.monotonic()
null = os.open(os.devnull, os.O_RDWR)
out = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
err = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
moves = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, out, 1), (os.POSIX_SPAWN_DUP2, err, 2)]
pid = os.posix_spawnp(sys.argv[3], sys.argv[3:], os.environ, file_actions=moves)
_, status, used = os.wait4(pid, 0)
print(json.dumps([time.monotonic() - started, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024,
                  os.waitstatus_to_exitcode(status)]))
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """seconds of wall time, cpu in seconds, rss in MiB; failure is empty when it worked."""

    seconds: float
    cpu: float
    rss: float
    requests: int = 0
    failure: str = ""


def run(words: Sequence[str], environment: Mapping[str, str], work: Path, limit: float) -> Measured:
    """Run one command in the directory work; one that takes longer than limit seconds has failed."""
    output, errors = work / "stdout.txt", work / "stderr.txt"
    path = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
    launched = [sys.executable, "-S", "-E", "-c", _LAUNCHER, str(output), str(errors), *words]
    with subprocess.Popen(
        launched, env={**path, **environment}, cwd=work, stdout=subprocess.PIPE, text=True, process_group=0
    ) as process:
        try:
            told, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return Measured(limit, 0.0, 0.0, failure=f"more than {limit:.0f} s")
    seconds, cpu, rss, code = json.loads(told)
    failure = ""
    if code:
        text = errors.read_text(errors="replace") + output.read_text(errors="replace")
        failure = f"exit {code}: {' '.join(text.split())[-160:]}"
    return Measured(seconds, cpu, rss, failure=failure)
