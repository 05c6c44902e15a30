"""List, walk and open very many files through a mount; show time, requests and the memory of the mount.

One directory holds --objects files, a tree holds --tree files 100 to a directory. The exit code is 1 if
the mount ever takes more than --limit MB.
"""

from __future__ import annotations

import argparse
import functools
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path

from scripts.bench_emulator import BUCKET, ID, KEY, running
from scripts.ending import end_tidily
from scripts.mounting import mounted

IN_ONE_DIRECTORY = 100
PART = 10_000


def names(objects: int, tree: int) -> Iterator[tuple[str, bytes]]:
    for number in range(objects):
        yield f"large/file-{number:08}", b"x"
    for number in range(tree):
        yield f"tree/{number // IN_ONE_DIRECTORY:06}/{number % IN_ONE_DIRECTORY:03}", b"x"


def serve(data: str, ready: Connection, objects: int, tree: int, latency: float) -> None:
    from cosfs.emulator import Emulator
    from cosfs.emulator import serve as serve_directory

    def fill(emulator: Emulator) -> None:
        emulator.create_bucket(BUCKET)
        each = names(objects, tree)
        while part := list(islice(each, PART)):
            emulator.put_objects(BUCKET, iter(part))
        if latency:
            emulator.faults.latency(latency)

    serve_directory(
        Path(data), prepared=fill, ready=lambda info: ready.send(info.endpoint_url),
        secret_id=ID, secret_key=KEY, jobs_interval=0,
    )  # fmt: skip


def shell(command: str, where: Path) -> str:
    return subprocess.run(
        command, shell=True, cwd=where, check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()


def expect(found: str, wanted: int, what: str) -> None:
    if int(found) != wanted:
        raise SystemExit(f"{what}: {found} instead of {wanted}")


def first_entry(path: Path) -> None:
    with os.scandir(path) as entries:
        next(entries)


def open_and_close(top: Path, count: int) -> None:
    for number in range(count):
        directory = number // IN_ONE_DIRECTORY
        (top / f"{directory:06}" / f"{number % IN_ONE_DIRECTORY:03}").read_bytes()


def main() -> None:
    end_tidily()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--tree", type=int, default=100_000)
    parser.add_argument(
        "--opens", type=int, default=100_000, help="files of the tree opened, read and closed"
    )
    parser.add_argument("--latency", type=float, default=0.0, metavar="SECONDS", help="of each request")
    parser.add_argument("--limit", type=float, default=300.0, metavar="MB")
    options = parser.parse_args()
    objects, tree, opens = options.objects, options.tree, min(options.opens, options.tree)
    start = functools.partial(serve, objects=objects, tree=tree, latency=options.latency)
    listing = ("--attributes", "listing")
    with (
        running(start, patience=1800) as server,
        mounted(f"cos://{BUCKET}", server.port, (ID, KEY), *listing) as mount,
    ):
        large, walked = mount.path / "large", mount.path / "tree"
        steps: list[tuple[str, Callable[[], object]]] = [
            ("first entry", lambda: first_entry(large)),
            ("ls -f | wc -l", lambda: expect(shell("ls -f large | wc -l", mount.path), objects + 2, "ls -f")),
            ("find | wc -l", lambda: expect(shell("find large | wc -l", mount.path), objects + 1, "find")),
            ("ls -l | wc -l", lambda: expect(shell("ls -l large | wc -l", mount.path), objects + 1, "ls -l")),
            ("find tree", lambda: expect(shell("find . -type f | wc -l", walked), tree, "find tree")),
            ("open, read, close", lambda: open_and_close(walked, opens // 2)),
            ("again as many", lambda: open_and_close(walked, opens)),
        ]
        print(f"{'':20}{'seconds':>10}{'requests':>10}{'MB now':>10}{'MB most':>10}")
        print(f"{'mounted':20}{'':20}{mount.memory():10.0f}{mount.memory('VmHWM'):10.0f}", flush=True)
        for name, step in steps:
            before, began = mount.requests(), time.monotonic()
            step()
            took = time.monotonic() - began
            print(
                f"{name:20}{took:10.1f}{mount.requests() - before:10}"
                f"{mount.memory():10.0f}{mount.memory('VmHWM'):10.0f}",
                flush=True,
            )
        most = mount.memory("VmHWM")
    if most > options.limit:
        raise SystemExit(f"the mount took {most:.0f} MB, above {options.limit:.0f}")


if __name__ == "__main__":
    main()
