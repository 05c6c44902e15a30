"""What is measured against: a fast server double, or the emulator where there is none."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from typing import Protocol

from cosfs.emulator import Emulator

BUCKET = "bench-1250000000"


class Server(Protocol):
    """A server with an empty bucket; latency is added to each request, in milliseconds."""

    name: str
    port: int
    secret_id: str
    secret_key: str

    def clear(self) -> None: ...
    def seed(
        self, prefix: str, count: int, size: int, *, directories: int = 0, markers: bool = False
    ) -> None: ...
    def set_latency(self, milliseconds: int) -> None: ...
    def reset(self) -> None: ...
    def requests(self) -> int: ...
    def stored(self, prefix: str) -> tuple[int, int]: ...
    def stop(self) -> None: ...


class Double:
    """A program that holds objects in memory and checks no signature; controlled by URLs."""

    name = "server double"
    secret_id, secret_key = "AKIDtest", "secrettest"

    def __init__(self, program: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        # COS always tells the CRC-64. MD5 of large bodies that came without one would only cost CPU.
        command = [program, "--port", str(self.port), "--crc64", "--md5-max", "1048576"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise SystemExit(f"bench: {program} does not answer")

    def _ask(self, path: str, **query: object) -> dict[str, int]:
        url = f"http://127.0.0.1:{self.port}/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=60) as answer:
            found: dict[str, int] = json.loads(answer.read() or b"{}")
        return found

    def clear(self) -> None:
        self._ask("_clear")

    def seed(
        self, prefix: str, count: int, size: int, *, directories: int = 0, markers: bool = False
    ) -> None:
        self._ask(
            "_seed", bucket=BUCKET, prefix=prefix, n=count, size=size, dirs=directories, markers=int(markers)
        )

    def set_latency(self, milliseconds: int) -> None:
        self._ask("_config", latency_ms=milliseconds)

    def reset(self) -> None:
        self._ask("_reset")

    def requests(self) -> int:
        return self._ask("_stats")["total"]

    def stored(self, prefix: str) -> tuple[int, int]:
        """Return how many objects lie below a prefix, and their bytes."""
        found = self._ask("_count", bucket=BUCKET, prefix=prefix)
        return found["objects"], found["bytes"]

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()


class Local:
    """The emulator, in this process: it shares the interpreter with nothing that is measured."""

    name = "emulator"

    def __init__(self) -> None:
        self._emulator = Emulator(buckets=[BUCKET]).start()
        self.port = int(self._emulator.endpoint_url.rpartition(":")[2])
        self.secret_id, self.secret_key = self._emulator.secret_id, self._emulator.secret_key

    def clear(self) -> None:
        store = self._emulator.service.emulation.store
        with self._emulator.service.lock:
            store.db.execute("DELETE FROM versions")
            store.db.execute("DELETE FROM pieces WHERE owner > 0")

    def seed(
        self, prefix: str, count: int, size: int, *, directories: int = 0, markers: bool = False
    ) -> None:
        data = bytes(size)
        below = [f"d{number:03}/" for number in range(directories)] or [""]
        keys = [f"{prefix}{below[number % len(below)]}f{number:06}" for number in range(count)]
        objects = [(key, data) for key in keys]
        if markers:
            objects += [(f"{prefix}{name}", b"") for name in {"", *below}]
        self._emulator.put_objects(BUCKET, objects)

    def set_latency(self, milliseconds: int) -> None:
        self._emulator.faults.clear()
        if milliseconds:
            self._emulator.faults.latency(milliseconds / 1000)

    def reset(self) -> None:
        self._emulator.requests.reset()

    def requests(self) -> int:
        return self._emulator.requests.total

    def stored(self, prefix: str) -> tuple[int, int]:
        low, high = prefix.encode(), prefix.encode() + b"\xff"
        row = self._emulator.service.emulation.store.db.one(
            "SELECT count(*), coalesce(sum(size), 0) FROM versions WHERE live = 1 AND key BETWEEN ? AND ?",
            low,
            high,
        )
        assert row is not None
        return row[0], row[1]

    def stop(self) -> None:
        self._emulator.stop()
