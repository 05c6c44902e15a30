"""Make a huge file and change a little of a huge object through a mount; show what is sent and fetched.

The exit code is 1 if a change of 4 KiB sends more than --limit MiB or fetches more than 1 MiB, or if COS
does not hold what was written. With the emulator it takes three times --gib of free disk.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cosfs.client.client import CosClient
from cosfs.config import load_settings
from cosfs.units import GIB, MIB
from scripts.benchmark.servers import BUCKET, Double, Local, Server
from scripts.ending import end_tidily
from scripts.mounting import Mount, mounted

FETCHED_MAX = MIB + 64 * 1024  # the block that a part is made from, and the heads of the answers
PIECE = 4096


@contextmanager
def client_of(server: Server) -> Iterator[CosClient]:
    options: dict[str, object] = {
        "endpoint_url": f"http://127.0.0.1:{server.port}",
        "region": "ap-guangzhou",
        "secret_id": server.secret_id,
        "secret_key": server.secret_key,
    }
    settings = load_settings(options, environ={"HOME": "/nonexistent"})
    with CosClient.from_settings(settings, options) as client:
        yield client


def make(client: CosClient, key: str, size: int) -> None:
    """An object of zeros, put together inside the server from small ones."""
    client.put_object(BUCKET, "piece", bytes(16 * MIB))
    source, length = "piece", 16 * MIB
    for name, total in (("larger", max(16 * MIB, size // 64)), (key, size)):
        upload = client.create_upload(BUCKET, name)
        starts = range(0, total, length)
        parts = [
            client.upload_part_copy(upload, number, BUCKET, source, 0, min(length, total - start))
            for number, start in enumerate(starts, 1)
        ]
        client.complete_upload(upload, parts)
        source, length = name, total
    for each in ("piece", "larger"):
        client.delete_object(BUCKET, each)


def write_at(path: Path, position: int, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(fd, data, position)
    finally:
        os.close(fd)


def grow(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.truncate(size)


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def tried(mount: Mount, name: str, work: Callable[[], None], limit: int) -> bool:
    """Do it, print what it took, and say whether that was little enough."""
    before, began = mount.counts(), time.monotonic()
    work()
    took, after = time.monotonic() - began, mount.counts()
    sent, fetched = (after[each] - before[each] for each in ("bytes_sent", "bytes_received"))
    requests = sum(after["requests"].values()) - sum(before["requests"].values())
    print(
        f"{name:24}{took:9.2f} s{requests:6} requests{sent:14,} bytes sent{fetched:14,} fetched", flush=True
    )
    return bool(sent <= limit and fetched <= FETCHED_MAX)


def main() -> int:
    end_tidily()
    cli = argparse.ArgumentParser(description=__doc__)
    cli.add_argument("--gib", type=int, default=10, help="size of the object")
    cli.add_argument("--limit", type=int, default=20, metavar="MIB", help="the most that one change may send")
    cli.add_argument("--server", help="a server double, as for scripts/bench; else the emulator")
    options = cli.parse_args()
    size, limit = options.gib * GIB, options.limit * MIB
    data, middle, odd = os.urandom(PIECE), size // 2 + 123 * PIECE, size // 3 + 7
    with served(options.server) as server, client_of(server) as client:
        if options.server:
            client.create_bucket(BUCKET)
        keys = (server.secret_id, server.secret_key)
        with mounted(f"cos://{BUCKET}", server.port, keys) as mount:
            path = mount.path / "new"
            grown = tried(mount, "a new file grown", lambda: grow(path, size), limit)
            path.unlink()
        make(client, "huge", size)
        with mounted(f"cos://{BUCKET}", server.port, keys) as mount:
            path = mount.path / "huge"
            fine = [
                grown,
                path.stat().st_size == size,
                tried(mount, "change in the middle", lambda: write_at(path, middle, data), limit),
                tried(mount, "change across a part", lambda: write_at(path, odd, data), limit),
                tried(mount, "append", lambda: append(path, data), limit),
                tried(mount, "cut that off again", lambda: os.truncate(path, size), limit),
            ]
            print(f"memory of the mount, at most: {mount.memory('VmHWM'):.0f} MB")
        for position in (middle, odd):
            around = client.get_range(BUCKET, "huge", position - 8, position + PIECE + 8)[1]
            fine.append(around == bytes(8) + data + bytes(8))
    if not all(fine):
        print("more was moved than needed, or the object is not what it should be")
    return 0 if all(fine) else 1


@contextmanager
def served(double: str | None) -> Iterator[Server]:
    server: Server = Double(double) if double else Local()
    try:
        yield server
    finally:
        server.stop()


if __name__ == "__main__":
    raise SystemExit(main())
