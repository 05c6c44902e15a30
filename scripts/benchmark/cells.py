"""What is measured: a cell prepares the server, runs one command of a program and checks what came of it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from scripts.benchmark.measure import Measured, run
from scripts.benchmark.programs import Program, find_programs
from scripts.benchmark.servers import Server

MIB = 1024 * 1024
SMALL = 4096
LIMIT = 300.0  # seconds


@dataclass(frozen=True, slots=True)
class Cell:
    """One row of the tables. count objects of size bytes; down cells begin with them in the bucket."""

    name: str
    title: str
    what: str
    count: int
    size: int

    @property
    def is_download(self) -> bool:
        return self.what.startswith("get")


CELLS = [
    Cell("start", "start (`--version`)", "start", 0, 0),
    Cell("up_1g", "1 GiB up", "put", 1, 1024 * MIB),
    Cell("down_1g", "1 GiB down", "get", 1, 1024 * MIB),
    Cell("up_2k", "2,000 x 4 KiB up", "put tree", 2000, SMALL),
    Cell("down_2k", "2,000 x 4 KiB down", "get tree", 2000, SMALL),
    Cell("copy_2k", "2,000 x 4 KiB copied", "copy tree", 2000, SMALL),
    Cell("up_10k", "10,000 x 4 KiB up", "put tree", 10_000, SMALL),
    Cell("down_10k", "10,000 x 4 KiB down", "get tree", 10_000, SMALL),
    Cell("sync_10k", "sync of 10,000 unchanged", "sync", 10_000, SMALL),
    Cell("rm_2k", "2,000 removed", "remove", 2000, SMALL),
    Cell("ls_100k", "100,000 listed", "list", 100_000, 10),
]


class Lab:
    """Local files to send and room to receive, on the disk that TMPDIR names."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.home = work / "home"
        self.home.mkdir()
        self._places = count()

    def source(self, cell: Cell) -> Path:
        """Return a file or a directory with what a cell uploads; made once."""
        path = self.work / f"source-{cell.count}x{cell.size}"
        if path.exists():
            return path
        if cell.count == 1:
            with path.open("wb") as file:
                for _ in range(cell.size // MIB):
                    file.write(os.urandom(MIB))
        else:
            path.mkdir()
            for number in range(cell.count):
                (path / f"f{number:06}").write_bytes(os.urandom(cell.size))
        return path

    def empty(self, size: int) -> Path:
        """Return a new place for downloads of files of a size.

        Small files of before stay until the end: ext4 takes no inode that was freed in the last minute and
        looks at each of them, so that a new file costs 8 to 360 us.
        """
        path = self.work / f"received-{next(self._places)}"
        if size >= MIB:
            for before in self.work.glob("received-*"):
                shutil.rmtree(before)
        path.mkdir()
        return path


@contextmanager
def open_lab() -> Iterator[Lab]:
    """Make a lab and remove it."""
    with tempfile.TemporaryDirectory(prefix="cos-bench-") as directory:
        yield Lab(Path(directory))


def measure(cell: Cell, program: Program, server: Server, lab: Lab, latency: int) -> Measured:
    """Run one cell once."""
    if cell.what not in program.commands:
        return Measured(0, 0, 0, failure="it cannot do this")
    places = {
        "home": str(lab.home), "key": "k", "to": "to", "src": "", "dst": str(lab.empty(cell.size) / "d"),
    }  # fmt: skip
    environment = program.environment(server, lab.home)
    if program.commands[cell.what].endswith("{dst}/") or cell.what == "get tree":
        Path(places["dst"]).mkdir()
    server.set_latency(0)
    server.clear()
    _prepare(cell, program, server, lab, places, environment)
    server.set_latency(latency)
    server.reset()
    measured = run(program.words(cell.what, places), environment, lab.work, LIMIT)
    measured = replace(measured, requests=server.requests())
    server.set_latency(0)
    if measured.failure:
        return measured
    return replace(measured, failure=_wrong(cell, server, lab, places))


def _prepare(
    cell: Cell,
    program: Program,
    server: Server,
    lab: Lab,
    places: dict[str, str],
    environment: Mapping[str, str],
) -> None:
    if cell.what in ("put", "put tree", "sync"):
        places["src"] = str(lab.source(cell))
    if cell.what == "sync":
        run(program.words("sync", places), environment, lab.work, LIMIT)
    elif cell.what == "get":
        # The double tells no CRC-64 of what it makes up itself, COS of everything.
        places |= {"src": str(lab.source(cell)), "key": "k/f000000"}
        ours = find_programs()[0]
        run(ours.words("put", places), ours.environment(server, lab.home), lab.work, LIMIT)
    elif cell.what in ("get tree", "copy tree", "remove", "list"):
        server.seed("k/", cell.count, cell.size)


def _wrong(cell: Cell, server: Server, lab: Lab, places: Mapping[str, str]) -> str:
    """Return what is not as it should be afterwards; empty if all is well."""
    whole = (cell.count, cell.count * cell.size)
    checks: dict[str, Callable[[], tuple[int, int]]] = {
        "put": lambda: server.stored("k"),
        "put tree": lambda: server.stored("k/"),
        "sync": lambda: server.stored("k/"),
        "copy tree": lambda: server.stored("to/"),
        "get": lambda: _received(Path(places["dst"])),
        "get tree": lambda: _received(Path(places["dst"])),
        "list": lambda: ((lab.work / "stdout.txt").read_text().count("f0"), whole[1]),
    }
    if cell.what == "remove":
        left = server.stored("k/")[0]
        return f"{left} objects are left" if left else ""
    found = checks[cell.what]() if cell.what in checks else whole
    return "" if found == whole else f"{found} instead of {whole}"


def _received(path: Path) -> tuple[int, int]:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return len(files), sum(file.stat().st_size for file in files)
