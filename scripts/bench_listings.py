"""Measure pages of 1,000 in a bucket of very many objects.

Half of the objects lie 1,000 to a directory, half 9 to a directory. Pages begin all over the bucket;
each is asked for once with the database just opened, then again and again. Exit code 1 if the median of a
page's time, from the request sent to the answer read, is above --limit.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import random
import socket
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from scripts.bench_emulator import BUCKET, ID, KEY, MIB, Figure, Running, receive, request, running
from scripts.ending import end_tidily

LARGE, SMALL = 1000, 9  # keys in a directory of either half


@dataclass(frozen=True)
class Pages:
    """Pages of one kind, and the places they begin at."""

    name: str
    queries: tuple[str, ...]


def key(number: int, objects: int) -> str:
    """Name the object of a number; the order of names is that of numbers."""
    half = objects // 2
    if number < half:
        return f"large/{number // LARGE:06}/{number % LARGE:04}"
    return f"small/{(number - half) // SMALL:06}/{(number - half) % SMALL}"


def kinds(objects: int, places: int) -> list[Pages]:
    """Choose where pages begin."""
    chosen = random.Random(1)
    anywhere = [key(chosen.randrange(objects), objects) for _ in range(places)]
    half = objects // 2
    large = [f"large/{chosen.randrange(max(1, half // LARGE)):06}/" for _ in range(places)]
    below = "prefix=small/&delimiter=/"
    small = [f"small/{chosen.randrange(max(1, half // SMALL - 1000)):06}/" for _ in range(places)]
    return [
        Pages("keys, anywhere", tuple(f"marker={at}" for at in anywhere)),
        Pages("keys of a directory", tuple(f"prefix={at}&delimiter=/" for at in large)),
        Pages("common prefixes, 1,000 keys each", ("prefix=large/&delimiter=/",)),
        Pages("common prefixes, 9 keys each", tuple(f"{below}&marker={at}" for at in small)),
        Pages("versions, anywhere", tuple(f"versions&key-marker={at}" for at in anywhere)),
    ]


def fill(emulator: Any, objects: int) -> None:
    emulator.create_bucket(BUCKET)
    for start in range(0, objects, 10_000):
        numbers = range(start, min(start + 10_000, objects))
        emulator.put_objects(BUCKET, ((key(number, objects), b"x") for number in numbers))


def serve(data: str, ready: Connection, objects: int) -> None:
    from cosfs.emulator import Emulator
    from cosfs.emulator import serve as serve_directory

    with Emulator(data, secret_id=ID, secret_key=KEY, jobs_interval=0) as emulator:
        fill(emulator, objects)
    serve_directory(Path(data), ready=lambda info: ready.send(info.endpoint_url))


def ask(connection: socket.socket, buffer: bytearray, query: str) -> float:
    """Return the milliseconds that a page takes."""
    data = request(Figure("page", "GET", f"/?{query}&max-keys=1000"))
    start = time.perf_counter()
    connection.sendall(data)
    receive(connection, buffer, "GET")
    return (time.perf_counter() - start) * 1000


def measure(pages: Pages, server: Running, rounds: int) -> Iterator[float]:
    """Return the slowest first page, the median, the slowest, and what one costs the server."""
    buffer = bytearray(MIB)
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield max(ask(connection, buffer, query) for query in pages.queries)
        asked = list(itertools.islice(itertools.cycle(pages.queries), rounds))
        cpu = server.cpu()
        times = [ask(connection, buffer, query) for query in asked]
        cpu = server.cpu() - cpu
        yield statistics.median(times)
        yield max(times)
        yield cpu / rounds * 1000


def main() -> None:
    end_tidily()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--places", type=int, default=20, help="where pages of a kind begin")
    parser.add_argument("--rounds", type=int, default=200, help="pages of a kind")
    parser.add_argument("--limit", type=float, default=30.0, metavar="MS")
    options = parser.parse_args()
    slow = []
    print(f"{'ms':34}{'first':>8}{'median':>8}{'slowest':>9}{'CPU':>8}")
    with running(functools.partial(serve, objects=options.objects), patience=600) as server:
        for pages in kinds(options.objects, options.places):
            first, median, slowest, cpu = measure(pages, server, options.rounds)
            print(f"{pages.name:34}{first:8.1f}{median:8.1f}{slowest:9.1f}{cpu:8.1f}", flush=True)
            if median > options.limit:
                slow.append(pages.name)
    if slow:
        raise SystemExit(f"above {options.limit:g} ms: {', '.join(slow)}")


if __name__ == "__main__":
    main()
