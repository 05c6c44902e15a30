"""kill -9 of the mount under load: everything acknowledged must be there afterwards."""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from dataclasses import dataclass, field

from scripts.stressing.faults import spoil
from scripts.stressing.world import World, within
from scripts.stressing.writer import Directory, File, Tree, Writer, look

WRITERS = 4
SETTLED_WITHIN = 60.0
FRESH_EVERY = 10  # runs; then the trees begin anew


@dataclass
class Result:
    """What a series of runs came to."""

    runs: int = 0
    calls: int = 0
    cut_short: int = 0  # calls under way when the mount died
    modes: Counter[str] = field(default_factory=Counter)
    kept_aside: int = 0
    conflicts: int = 0
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Series:
    """Runs one after the other on the same trees."""

    def __init__(self, world: World, seed: int, *, faulty: bool = False) -> None:
        self.world = world
        self.seed = seed
        self.faulty = faulty
        self.result = Result()
        self.trees: list[Tree] = [{} for _ in range(WRITERS)]

    def run(self, runs: int) -> Result:
        started = time.monotonic()
        for number in range(runs):
            failure = self.one(self.seed + number)
            self.result.runs += 1
            if failure:
                self.result.failures.append(f"seed {self.seed + number}: {failure}")
                print(f"FAILED: seed {self.seed + number}: {failure}", flush=True)
                self._begin_anew()
            elif number % FRESH_EVERY == FRESH_EVERY - 1:
                print(f"{number + 1} runs, {self.result.calls} calls, all right", flush=True)
                self._begin_anew()
        self.result.seconds = time.monotonic() - started
        self.result.kept_aside += len(self.world.kept_aside())
        return self.result

    def _begin_anew(self) -> None:
        self.result.kept_aside += len(self.world.kept_aside())
        shutil.rmtree(self.world.cache, ignore_errors=True)
        marker = ""
        while page := self.world.client.list_objects(self.world.bucket, marker=marker):
            for info in page.objects:
                self.world.client.delete_object(self.world.bucket, info.key)
            marker = page.next_marker
            if not marker:
                break
        self.trees = [{} for _ in range(WRITERS)]

    def one(self, seed: int) -> str:
        """One run; returns what went wrong."""
        chance = random.Random(seed)
        write_back = chance.choice(("close", "async"))
        self.result.modes[write_back] += 1
        mounted = self.world.mount(write_back)
        writers = []
        try:
            for number in range(WRITERS):
                (mounted.path / f"w{number}").mkdir(exist_ok=True)
                writer = Writer(mounted.path / f"w{number}", seed * 10 + number, self.trees[number])
                writers.append(writer)
            self._disturb(chance)
            for writer in writers:
                writer.start()
            time.sleep(chance.uniform(0.02, 1.5))
            mounted.kill()
            for writer in writers:
                writer.stopping.set()
                writer.join(30)
        finally:
            self.world.emulator.faults.clear()
            mounted.clean_up()
        self.result.calls += sum(writer.calls for writer in writers)
        self.result.cut_short += sum(writer.next is not None for writer in writers)
        return self._judge(writers, chance)

    def _disturb(self, chance: random.Random) -> None:
        """Slow the server down a little, so that the mount dies between any two requests."""
        self.world.emulator.faults.latency(chance.choice((0.0, 0.003, 0.02)))
        if self.faulty:
            spoil(self.world, chance)

    def _judge(self, writers: list[Writer], chance: random.Random) -> str:
        """Mount again, look at everything, unmount, look at the bucket itself."""
        again = self.world.mount(chance.choice(("close", "async")))
        try:
            for number, writer in enumerate(writers):
                top = again.path / f"w{number}"
                failure = within(
                    SETTLED_WITHIN, "looking", lambda top=top, writer=writer: writer.difference(look(top))
                )
                if failure:
                    return f"w{number}: {failure}"
                self.trees[number] = look(top)
            code = again.unmount()
            if code:
                return f"the unmount ended with {code}: {again.log_text()[-2000:]}"
        finally:
            again.clean_up()
        return self._bucket_differs() or self.world.leavings()

    def _bucket_differs(self) -> str:
        wanted: Tree = {}
        for number, tree in enumerate(self.trees):
            wanted |= {f"w{number}/{path}": node for path, node in tree.items()}
        stored = {path: node for path, node in self.world.stored().items() if "/" in path}
        for path in sorted(wanted.keys() | stored.keys()):
            here, there = wanted.get(path), stored.get(path)
            if (
                isinstance(here, Directory)
                and there is None
                and any(p.startswith(f"{path}/") for p in stored)
            ):
                continue  # a directory without an object of its own
            if here != there:
                if isinstance(there, File) and ".conflict-" in path:
                    self.result.conflicts += 1
                return f"the bucket has another {path} than the mount"
        return ""
