"""A mount that a script looks at from outside."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Mount:
    """A mount in a process of its own."""

    def __init__(self, source: str, port: int, keys: tuple[str, str], base: Path, *options: str) -> None:
        self.path = base / "mnt"
        self.path.mkdir()
        self._environment = {
            **os.environ,
            "HOME": str(base),
            "XDG_RUNTIME_DIR": str(base),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "COS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "COS_SECRET_ID": keys[0],
            "COS_SECRET_KEY": keys[1],
            "COS_REGION": "ap-guangzhou",
        }
        self.cos("mount", source, str(self.path), *options)
        self.pid = int(self.status()["pid"])

    def cos(self, *arguments: str) -> str:
        done = subprocess.run(
            ["cos", *arguments], env=self._environment, check=True, stdout=subprocess.PIPE, text=True
        )
        return done.stdout

    def status(self) -> dict[str, Any]:
        found: list[dict[str, Any]] = json.loads(self.cos("status", "--output", "json", str(self.path)))
        return found[0]

    def memory(self, name: str = "VmRSS") -> float:
        """MB that the mount takes."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1]) / 1000
        raise SystemExit("the mount has ended")

    def counts(self) -> dict[str, Any]:
        """What went to COS and came back: `requests` by operation, `bytes_sent`, `bytes_received`."""
        found: dict[str, Any] = self.status()["requests"]
        return found

    def requests(self) -> int:
        return sum(self.counts()["requests"].values())


@contextmanager
def mounted(source: str, port: int, keys: tuple[str, str], *options: str) -> Iterator[Mount]:
    """A mount of a source in the server at a port of this machine; its cache goes with it."""
    base = Path(tempfile.mkdtemp(prefix="cos-stress-"))
    mount = Mount(source, port, keys, base, *options)
    try:
        yield mount
    finally:
        mount.cos("umount", "--force", str(mount.path))
        shutil.rmtree(base)
