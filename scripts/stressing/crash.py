"""kill -9 of the mount under load: everything acknowledged must be there afterwards.

Each run goes on with the mount that the run before it has judged, so that it costs one mount. What the
mount shows and what a plain client finds in the bucket, once the journal is empty, must be what the
programs were acknowledged.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from scripts.stressing.world import World, within
from scripts.stressing.writer import Directory, Tree, Writer, look
from tests.mounting import Mounted

WRITERS = 4
SETTLED_WITHIN = 60.0
LONGEST = 1.5  # seconds of load
FRESH_EVERY = 10  # runs; then it is unmounted, and the trees begin anew
# What happens to a mount at the end of its load, and how often.
ENDINGS = {
    "kill": 10,
    "kill, kill while it recovers": 4,
    "kill, cos recover": 2,
    "kill, kill of cos recover": 2,
    "outage, kill": 2,
}


@dataclass
class Result:
    """What a series of runs came to."""

    runs: int = 0
    kills: int = 0
    calls: int = 0
    cut_short: int = 0  # calls under way when the mount died
    modes: Counter[str] = field(default_factory=Counter)
    endings: Counter[str] = field(default_factory=Counter)
    kept_aside: int = 0
    conflicts: int = 0
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Series:
    """Runs one after the other on the same trees. What is known of a loss is kept below evidence."""

    options: tuple[str, ...] = ()  # of the mounts

    def __init__(self, world: World, seed: int, evidence: Path) -> None:
        self.world = world
        self.seed = seed
        self.evidence = evidence
        self.result = Result()
        self.trees: list[Tree] = [{} for _ in range(WRITERS)]
        self.mounted: Mounted | None = None
        self.write_back = ""
        self._writers: list[Writer] = []
        self._story: list[str] = []

    def run(self, runs: int) -> Result:
        started = time.monotonic()
        try:
            for number in range(runs):
                self._run(number)
        finally:
            self._leave()
        self.result.seconds = time.monotonic() - started
        self.result.kept_aside += len(self.world.kept_aside())
        return self.result

    def _run(self, number: int) -> None:
        seed = self.seed + number
        self._story.clear()
        failure = self.one(seed)
        if not failure and number % FRESH_EVERY == FRESH_EVERY - 1:
            failure = self._unmount()
            print(f"{number + 1} runs, {self.result.calls} calls", flush=True)
            if not failure:
                self._begin_anew()
        self.result.runs += 1
        if failure:
            kept = self._keep_evidence(seed)
            self.result.failures.append(f"seed {seed}: {failure}")
            print(f"FAILED: seed {seed}: {failure}\n  {self._story}\n  see {kept}", flush=True)
            self._leave()
            self._begin_anew()

    def one(self, seed: int) -> str:
        """One run; returns what went wrong."""
        chance = random.Random(seed)
        ending = chance.choices(list(ENDINGS), list(ENDINGS.values()))[0]
        self.result.endings[ending] += 1
        if self.mounted is None:
            self._mount(chance)
        self.result.modes[self.write_back] += 1
        self._tell(f"{ending} of a mount in mode {self.write_back}")
        self._load(chance, seed, outage=ending.startswith("outage"))
        self._count()
        self.world.keep_journal()
        if "cos recover" in ending:
            failure = self._recover(chance, killed="kill of cos recover" in ending)
            if failure:
                return failure
        elif "while it recovers" in ending:
            self._mount_and_kill(chance)
        self._mount(chance)
        return self._judge()

    # What happens

    def _tell(self, what: str) -> None:
        self._story.append(f"{time.time():.4f} {what}")

    def _mount(self, chance: random.Random) -> None:
        self.write_back = chance.choice(("close", "async"))
        self._tell(f"mount, {self.write_back}")
        self.mounted = self.world.mount(self.write_back, *self.options)

    def _load(self, chance: random.Random, seed: int, *, outage: bool) -> None:
        """Let programs work on the mount, and kill it."""
        self._make_writers(seed)
        try:
            self._disturb(chance)
            for writer in self._writers:
                writer.start()
            time.sleep(chance.uniform(0.02, LONGEST))
            if outage:
                self._tell("outage")
                self.world.cut()
                time.sleep(chance.uniform(0.0, 0.5))
            self._kill()
            for writer in self._writers:
                writer.stopping.set()
                writer.join(30)
        finally:
            self.world.repair()
            self.world.emulator.faults.clear()

    def _make_writers(self, seed: int) -> None:
        assert self.mounted is not None
        self._writers = []
        for number in range(WRITERS):
            top = self.mounted.path / f"w{number}"
            top.mkdir(exist_ok=True)
            self._writers.append(Writer(top, seed * 10 + number, self.trees[number]))

    def _count(self) -> None:
        self.result.calls += sum(writer.calls for writer in self._writers)
        self.result.cut_short += sum(writer.next is not None for writer in self._writers)

    def _kill(self) -> None:
        assert self.mounted is not None
        self._tell("kill")
        self.mounted.kill()
        self.mounted.clean_up()
        self.mounted = None
        self.result.kills += 1

    def _mount_and_kill(self, chance: random.Random) -> None:
        """Kill a mount while it recovers, mostly: it needs about a second until it serves."""
        mounted = self.world.start(chance.choice(("close", "async")), *self.options)
        self.mounted = mounted
        self.world.emulator.faults.latency(chance.choice((0.0, 0.01, 0.05)))
        self._tell("mount")
        self.world.wait_for_request(chance.uniform(0.0, 0.4))
        self._kill()
        self.world.emulator.faults.clear()

    def _recover(self, chance: random.Random, *, killed: bool) -> str:
        self._tell("cos recover")
        if killed:
            self.world.emulator.faults.latency(chance.choice((0.0, 0.01, 0.05)))
        process = self.world.recover()
        if killed:
            self.world.wait_for_request(chance.uniform(0.0, 0.4))
            self._tell("kill of cos recover")
            process.kill()
            self.result.kills += 1
        output, _ = process.communicate(timeout=SETTLED_WITHIN)
        self.world.emulator.faults.clear()
        if killed:
            return ""
        text = output.decode(errors="replace")
        self._tell(text)
        if process.returncode and "kept in recovered" not in text:
            return f"cos recover ended with {process.returncode}: {text}"
        records = self.world.leavings()
        return f"after cos recover: {records}" if records else ""

    def _disturb(self, chance: random.Random) -> None:
        """Slow the server down a little, so that the mount dies between any two requests."""
        self.world.emulator.faults.latency(chance.choice((0.0, 0.003, 0.02)))

    # What became of it

    def _judge(self) -> str:
        """Look at everything through the mount, and past it when the mount has sent everything."""
        mounted = self.mounted
        assert mounted is not None
        watchdog = threading.Timer(2 * SETTLED_WITHIN, mounted.process.kill)
        watchdog.start()
        try:
            return self._compare(mounted)
        finally:
            watchdog.cancel()

    def _compare(self, mounted: Mounted) -> str:
        for number, writer in enumerate(self._writers):
            top = mounted.path / f"w{number}"

            def check(top: Path = top, writer: Writer = writer, number: int = number) -> str:
                self.trees[number] = look(top)
                return writer.difference(self.trees[number])

            failure = within(SETTLED_WITHIN, "looking", check)
            if failure:
                return f"w{number}: {failure}"
        return within(SETTLED_WITHIN, "the journal", self.world.leavings) or self._bucket_differs()

    def _unmount(self) -> str:
        """End a mount as it should end; its journal must be empty."""
        mounted, self.mounted = self.mounted, None
        if mounted is None:
            return ""
        try:
            code = mounted.unmount()
            if code:
                return f"the unmount ended with {code}: {mounted.log_text()[-2000:]}"
        finally:
            mounted.clean_up()
        return self.world.leavings() or self._bucket_differs()

    def _bucket_differs(self) -> str:
        wanted: Tree = {}
        for number, tree in enumerate(self.trees):
            wanted |= {f"w{number}/{path}": node for path, node in tree.items()}
        stored = self.world.stored()
        for path in sorted(wanted.keys() | stored.keys()):
            here, there = wanted.get(path), stored.get(path)
            if path in self._tops() and isinstance(there, Directory):
                continue
            if (
                isinstance(here, Directory)
                and there is None
                and any(p.startswith(f"{path}/") for p in stored)
            ):
                continue  # a directory without an object of its own
            if here != there:
                self.result.conflicts += ".conflict-" in path
                return f"the bucket has another {path} than the mount: {there!r:.80} and not {here!r:.80}"
        return ""

    @staticmethod
    def _tops() -> list[str]:
        return [f"w{number}" for number in range(WRITERS)]

    # Between the runs

    def _leave(self) -> None:
        mounted, self.mounted = self.mounted, None
        if mounted is not None:
            mounted.kill()
            mounted.clean_up()

    def _begin_anew(self) -> None:
        self._leave()
        self.result.kept_aside += len(self.world.kept_aside())
        self.world.empty()
        self.trees = [{} for _ in range(WRITERS)]

    def _keep_evidence(self, seed: int) -> Path:
        """Keep the calls, the requests, the journals and the mounts' logs of a run."""
        kept = self.evidence / str(seed)
        calls = {f"w{number}.calls": writer.past for number, writer in enumerate(self._writers)}
        self.world.keep_evidence(kept, {"story": self._story, **calls})
        return kept
