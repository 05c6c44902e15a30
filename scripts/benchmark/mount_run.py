"""`scripts/bench mount`: all rows on all mounts, in turn, each within a limit of time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scripts.benchmark.cells import Lab, open_lab
from scripts.benchmark.mounts import Mount, Mounted, find_mounts, mounted
from scripts.benchmark.programs import ROOT, version_of
from scripts.benchmark.rows import Row, make_sources, rows
from scripts.benchmark.servers import BUCKET, Server

RESULTS = ROOT / ".bench" / "mount.json"
OURS_LONGER = 10
_WORKLOAD = Path(__file__).with_name("workload.py")


@dataclass(frozen=True, slots=True)
class Figures:
    """One row on one mount, once. rest: seconds until the server had it all; failure: why there is none."""

    seconds: float = 0.0
    rest: float = 0.0
    cpu: float = 0.0
    rss: float = 0.0
    requests: int = 0
    mount_seconds: float = 0.0
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What shall be measured. limit: seconds for one row of a peer."""

    names: Sequence[str]
    programs: Sequence[str]
    latencies: Sequence[int]
    rounds: int
    limit: float
    scale: float


class _WorkError(Exception):
    """A row that did not come to its end."""


class Results:
    """All figures so far, in a file which the next run adds to."""

    def __init__(self, path: Path, *, fresh: bool) -> None:
        self.path = path
        self.data: dict[str, Any] = {"facts": {}, "figures": {}}
        if path.exists() and not fresh:
            self.data = json.loads(path.read_text())

    def forget(self, latency: int, row: str, mount: str) -> None:
        self.data["figures"].pop(f"{latency}/{row}/{mount}", None)

    def add(self, latency: int, row: str, mount: str, figures: Figures) -> None:
        self.data["figures"].setdefault(f"{latency}/{row}/{mount}", []).append(asdict(figures))

    def of(self, latency: int, row: str, mount: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.data["figures"].get(f"{latency}/{row}/{mount}", [])
        return found

    def save(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        written = self.path.with_suffix(".new")
        written.write_text(json.dumps(self.data, indent=1))
        written.replace(self.path)


def _chains(plan: Plan) -> list[list[Row]]:
    """Return the wanted rows, each list of them for one mount; one that follows another brings it along."""
    every = rows(plan.scale)
    wanted = [row for row in every if not plan.names or row.name in plan.names]
    unknown = set(plan.names) - {row.name for row in every}
    if unknown:
        raise SystemExit(f"bench: no such row: {', '.join(sorted(unknown))}")
    chains: dict[str, list[Row]] = {}
    for row in every:
        if row in wanted or any(other.after == row.name for other in wanted):
            chains.setdefault(row.after or row.name, []).append(row)
    return list(chains.values())


def _chosen(plan: Plan) -> list[Mount]:
    every = find_mounts()
    unknown = set(plan.programs) - {mount.name for mount in every}
    if unknown:
        known = ", ".join(mount.name for mount in every)
        raise SystemExit(f"bench: not there: {', '.join(sorted(unknown))}; there are: {known}")
    return [mount for mount in every if not plan.programs or mount.name in plan.programs]


def run(plan: Plan, server: Server, results: Results) -> None:
    """Measure what the plan says; results are saved after each mount, so that stopping loses nothing."""
    mounts, chains = _chosen(plan), _chains(plan)
    with open_lab() as lab:
        make_sources(lab.work, plan.scale)
        results.data["facts"] = {
            "server": server.name,
            "cores": os.cpu_count(),
            "rounds": max(plan.rounds, results.data["facts"].get("rounds", 0)),
            "scale": plan.scale,
            "limit": plan.limit,
            "versions": {m.name: version_of(m.version, lab.home) for m in find_mounts() if m.version},
        }
        for latency in plan.latencies:
            for chain in chains:
                for row in chain:
                    for mount in mounts:
                        results.forget(latency, row.name, mount.name)
                for number in range(plan.rounds):
                    first = number % len(mounts)
                    # In turn, so that what else the machine does strikes all alike; each time another begins.
                    for mount in mounts[first:] + mounts[:first]:
                        _measure(chain, mount, server, lab, latency, plan, results)
                        results.save()


def _measure(
    chain: list[Row],
    mount: Mount,
    server: Server,
    lab: Lab,
    latency: int,
    plan: Plan,
    results: Results,
) -> None:
    todo = [row for row in chain if mount.does(row.name)]
    # Nothing is learned from running again what cannot be done or takes too long.
    if not todo or any(each["failure"] for each in results.of(latency, todo[0].name, mount.name)):
        return
    server.set_latency(0)
    server.clear()
    for seed in {row.seed for row in todo if row.seed}:
        server.seed(seed.prefix, seed.count, seed.size, directories=seed.directories, markers=True)
    if mount.works and any("{lab}/large" in work for work in mount.works.values()):
        _make_large(lab.work / "large", chain[0].size)
    done = []
    try:
        with mounted(mount, server, lab.work, lab.home) as place:
            for row in todo:
                server.set_latency(latency)
                done.append(row)
                limit = _limit(plan, results, latency, row, mount)
                figures = _row(row, mount, place, server, lab, limit)
                _tell(latency, row, mount, figures)
                results.add(latency, row.name, mount.name, figures)
                if figures.failure:
                    break
    except RuntimeError as exc:
        figures = Figures(failure=str(exc))
        _tell(latency, todo[0], mount, figures)
        results.add(latency, todo[0].name, mount.name, figures)
        done = todo[:1]
    finally:
        with suppress(OSError):
            server.set_latency(0)
    for row in todo[len(done) :]:
        results.add(latency, row.name, mount.name, Figures(failure=f"{todo[0].title}: it did not end"))


def _limit(plan: Plan, results: Results, latency: int, row: Row, mount: Mount) -> float:
    """Return how long a row may take: a peer until it is certainly slower than ours."""
    if mount.is_ours:
        return plan.limit * OURS_LONGER
    ours = results.of(latency, row.name, mount.like(row.name))
    return max(plan.limit, *(1.1 * each["seconds"] for each in ours), 0.0)


def _row(row: Row, mount: Mount, place: Mounted, server: Server, lab: Lab, limit: float) -> Figures:
    server.reset()
    place.forget_memory()
    before = place.cpu()
    words = mount.works.get(row.name, row.work)
    places = {
        "mnt": str(place.path), "lab": str(lab.work), "count": str(row.count), "size": str(row.size),
        "port": str(server.port), "bucket": BUCKET,
    }  # fmt: skip
    started = time.perf_counter()
    failure, rest = "", 0.0
    told: Mapping[str, Any] = {"seconds": 0.0}
    try:
        told = _work([word.format(**places) for word in words.split()], lab, limit)
        if row.found and told["found"] != row.found:
            raise _WorkError(f"{told['found']} instead of {row.found}")
        ended = time.perf_counter()
        _wait_for(row, mount, server, started + limit)
        rest = time.perf_counter() - ended
    except _WorkError as exc:
        failure = str(exc)
    return Figures(
        round(told["seconds"], 4), round(rest, 4), round(place.cpu() - before, 2), round(place.memory(), 1),
        server.requests(), round(place.ready, 3), failure,
    )  # fmt: skip


def _work(words: Sequence[str], lab: Lab, limit: float) -> Mapping[str, Any]:
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(lab.home), "LC_ALL": "C", "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
    }  # fmt: skip
    command = [sys.executable, "-S", "-E", str(_WORKLOAD), *words]
    with subprocess.Popen(
        command, cwd=lab.work, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, process_group=0,
    ) as process:  # fmt: skip
        try:
            output, errors = process.communicate(timeout=limit)
        except BaseException as exc:
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(exc, subprocess.TimeoutExpired):
                raise _WorkError(f"> {limit:.0f} s") from None
            raise
    if process.returncode:
        raise _WorkError(f"it fails: {' '.join(errors.split())[-120:]}")
    told: Mapping[str, Any] = json.loads(output)
    return told


def _wait_for(row: Row, mount: Mount, server: Server, until: float) -> None:
    """Return when the server has what it should have, and no more of what it should not."""
    while True:
        wrong = ""
        if row.stored:
            prefix, count, size = row.stored
            found, held = server.stored(prefix)
            if found < count or (size and held != size):
                wrong = f"the server has {found} objects, {held} bytes of {count}, {size}"
        if row.gone and (left := server.stored(row.gone)[0]):
            wrong = f"the server still has {left} objects"
        if not wrong:
            return
        if time.perf_counter() > until:
            raise _WorkError(f"{wrong} after the limit of time")
        time.sleep(0.01)


def _make_large(path: Path, size: int) -> None:
    if not path.exists():
        block = os.urandom(2**20)
        with path.open("wb") as file:
            for _ in range(size // len(block)):
                file.write(block)


def _tell(latency: int, row: Row, mount: Mount, figures: Figures) -> None:
    told = figures.failure or (
        f"{figures.seconds:7.2f} s + {figures.rest:5.2f}  cpu {figures.cpu:6.2f}  {figures.rss:4.0f} MiB"
        f"  {figures.requests} requests"
    )
    print(f"{latency:3} ms  {row.name:12} {mount.name:14} {told}", file=sys.stderr, flush=True)
