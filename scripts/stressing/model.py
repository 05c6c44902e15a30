"""Random calls of ours and of another client, kills, remounts and faults, against a model in memory.

A round is a fresh bucket and several phases. After each phase the whole tree is compared with the model:
what only we touched must be exactly that; what others touched as well must be one of what seen.Open allows.
At the end of a round, and at each clean unmount, the bucket itself is compared.
"""

from __future__ import annotations

import random
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cosfs.errors import COSError
from cosfs.fuse.control import ask, refresh
from scripts.stressing.faults import spoil
from scripts.stressing.others import Others
from scripts.stressing.player import CutShort, Player, Versions, Wrong
from scripts.stressing.seen import Open, Seen, Sight, adopted, expected, look, stored
from scripts.stressing.world import World, within
from tests.mounting import Mounted
from tests.reference import Directory, File, Reference

SETTLED_WITHIN = 40.0
PHASES, CALLS = 5, 70


class Round:
    """One bucket and its mounts, one after the other."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.seed = seed
        self.chance = random.Random(seed)
        self.log: list[str] = []
        self.player = Player(self.chance, self.log)
        self.others = Others(self.player, world.client, world.bucket)
        self.mounted = self._mount()

    def run(self, phases: int = PHASES, calls: int = CALLS) -> None:
        """Raise Wrong, with the last calls, if anything is not as it must be."""
        try:
            for _ in range(phases):
                self._phase(calls)
            self._remount(again=False)
        except (Wrong, OSError, AssertionError) as error:
            text = "\n  ".join(self.log[-40:])
            raise Wrong(f"seed {self.seed}: {error}\nThe last calls:\n  {text}\n{self._said()}") from error
        finally:
            self.world.emulator.faults.clear()
            self.player.let_go()
            self.mounted.clean_up()

    def _said(self) -> str:
        return "The log of the mount:\n" + "\n".join(self.mounted.log_text().splitlines()[-15:])

    def _mount(self) -> Mounted:
        mode, ttl = self.chance.choice(("close", "async")), self.chance.choice(("0", "0.3s", "5s"))
        mounted = self.world.mount(mode, "--metadata-ttl", ttl, "--block-size", "64KB", "--readahead", "1MB")
        self.log.append(f"mounted: {mode}, {ttl}")
        self.player.top = mounted.path
        return mounted

    # A phase

    def _phase(self, calls: int) -> None:
        end = self.chance.choice((self._pause, self._pause, self._kill, self._kill_any_time, self._remount))
        faulty = self.chance.random() < 0.3
        self.player.troubled = faulty or end == self._kill_any_time
        self.log.append(f"phase: {end.__name__}, faults: {faulty}")
        self.world.emulator.faults.latency(self.chance.choice((0.0, 0.002, 0.01)))
        if faulty:
            spoil(self.world, self.chance)
        try:
            with self._killer(end == self._kill_any_time):
                for _ in range(calls):
                    self.player.act()
                    # Whether others came before a call that was cut short or after it, nobody knows.
                    if not self.player.troubled and self.chance.random() < 0.06:
                        self.others.act()
        except CutShort:
            end = end if self.mounted.process.poll() is None else self._kill
            self._settle_cut_short(killed=end != self._pause and end != self._remount)
            return
        end()

    @contextmanager
    def _killer(self, wanted: bool) -> Iterator[None]:
        timer = threading.Timer(self.chance.uniform(0.05, 1.5), self.mounted.process.kill)
        if wanted:
            timer.start()
        try:
            yield
        finally:
            timer.cancel()
            if wanted:
                timer.join()

    # Ends of a phase

    def _pause(self) -> None:
        """Close everything, have all sent, and compare."""
        self.player.close_all()
        self.player.safe.clear()
        self._settle([self.player.model])

    def _remount(self, *, again: bool = True) -> None:
        self._pause()
        code = self.mounted.unmount()
        if code:
            raise Wrong(f"the unmount ended with {code}")
        self._compare_bucket()
        self.mounted.clean_up()
        if again:
            self.mounted = self._mount()
            self._settle([self.player.model])

    def _kill(self) -> None:
        self.player.troubled = True
        self._die([(self.player.model, self.player.safe)])

    def _kill_any_time(self) -> None:
        self._kill()

    def _settle_cut_short(self, *, killed: bool) -> None:
        """A call may have done its work or not; killed: and nothing that was open is there for sure."""
        states = [
            (self.player.before, self.player.safe_before),
            (self.player.model, self.player.safe),
        ]
        self._die(states)

    def _die(self, states: list[tuple[Reference, Versions]]) -> None:
        """Kill the mount; what was not closed may be as it was, or partly as it was written."""
        self.mounted.kill()
        self.log.append("killed")
        self.world.keep_journal()
        self.player.let_go()
        self.world.emulator.faults.clear()
        self.mounted.clean_up()
        self.mounted = self._mount()
        for model, _ in states:
            model.handles.clear()
        self._settle([model for model, _ in states], [safe for _, safe in states])

    # Comparing

    def _settle(self, models: list[Reference], unsafe: list[Versions] | None = None) -> None:
        """Wait until all is sent; the tree must be one of the models, which is the model from now on."""
        self.world.emulator.faults.clear()
        failure = within(SETTLED_WITHIN, "sending", self._pending)
        found: Sight = {}
        answers: list[str] = []

        def judge() -> str:
            answers.clear()
            if self.player.open.allowed or unsafe:
                self._refresh()
            found.clear()
            found.update(look(self.player.top))
            for number, model in enumerate(models):
                answer = self._difference(model, found, unsafe[number] if unsafe else {})
                answers.append(answer)
                if not answer:
                    return ""
            return "; ".join(answers)

        failure = failure or within(
            SETTLED_WITHIN if unsafe or self.player.open.allowed else 1.0, "looking", judge
        )
        if failure:
            raise Wrong(failure)
        chosen = len(answers) - 1
        self._adopt(models[chosen], unsafe[chosen] if unsafe else {}, found)

    def _refresh(self) -> None:
        """Have the mount ask COS anew, of what others touched file by file: a listing shows no attributes."""
        refresh(self.player.top, recursive=True)
        for path in self.player.open.allowed:
            try:
                refresh(self.player.top / path)
            except COSError as error:
                self.log.append(f"refresh of {path}: {error}")

    def _pending(self) -> str:
        answer = next(ask(self.player.top, {"op": "status"}))
        count = answer.get("pending_files", 0)
        return f"{count} files are not sent: {answer}" if count else ""

    def _difference(self, model: Reference, found: Sight, unsafe: Versions) -> str:
        wanted = {path: expected(node) for path, node in model.nodes()}
        given = Open(dict(self.player.open.allowed), [*self.player.open.kept])
        for path, node in model.nodes():
            if isinstance(node, File) and node in unsafe and path not in given.allowed:
                given.allow(path, *_torn(unsafe[node], node, found.get(path)))
        for path in self.player.loose if unsafe else ():
            given.allow(path, found.get(path))
        return given.difference(found, wanted, self._aside())

    def _aside(self) -> list[bytes]:
        paths = self.world.cache.glob("*/recovered/*")
        return [path.read_bytes() for path in paths if path.is_file() and path.name != "LIST.txt"]

    def _adopt(self, model: Reference, unsafe: Versions, found: Sight) -> None:
        """What may be one or the other is now what was found; versions kept beside are removed."""
        known = dict(model.nodes())
        open_now = [*self.player.open.allowed, *self.player.loose]
        open_now += [path for path, node in known.items() if isinstance(node, File) and node in unsafe]
        for path in sorted({*open_now, *found}, key=lambda each: (each.count("/"), each)):
            seen = found.get(path)
            if path in known and path not in open_now:
                continue
            parent, name = self._parent_of(model, path, seen)
            if parent is None:
                continue
            if seen is None:
                parent.pop(name, None)
            elif not (seen.kind == "directory" and isinstance(parent.get(name), Directory)):
                parent[name] = adopted(seen)
        self.player.model = self.player.before = model
        self.player.open.allowed.clear()
        self.player.open.kept.clear()
        self.player.safe.clear()
        self.player.loose.clear()
        self.player.troubled = False

    @staticmethod
    def _parent_of(model: Reference, path: str, seen: Seen | None) -> tuple[Directory | None, str]:
        try:
            return model.parent(path)
        except OSError:
            if seen is not None:
                raise
            return None, ""

    def _compare_bucket(self) -> None:
        """With everything sent, the bucket is the model and nothing of the sending is left."""
        wanted = {path: expected(node) for path, node in self.player.model.nodes()}
        found = stored(self.world.client, self.world.bucket)
        for path, seen in found.items():
            if seen.kind == "directory" and seen.mode is None and path in wanted:
                wanted[path] = seen  # without an object of its own
        answer = Open().difference(found, wanted, ()) or self.world.leavings()
        if answer:
            raise Wrong(f"in the bucket: {answer}")


def _torn(before: list[bytes | None], node: File, found: Seen | None) -> list[Seen | None]:
    """What a kill may leave of a file that was being written: what was safe, what it is now, or each byte
    as it was at some moment in between.
    """
    safe, now = before[0], bytes(node.data)
    choices: list[Seen | None] = [Seen("file", now)]
    choices.append(None if safe is None else Seen("file", safe))
    if found is not None and found.kind == "file" and safe is not None:
        versions = [version for version in (*before, now) if version is not None]
        if any(len(found.data) == len(version) for version in versions):
            longest = max(len(version) for version in versions)
            padded = [version.ljust(longest, b"\0") for version in versions]
            if all(byte in bytes_then for byte, *bytes_then in zip(found.data, *padded, strict=False)):
                choices.append(found)
    return choices


def play(
    seed: int, *, phases: int = PHASES, calls: int = CALLS, evidence: Path | None = None
) -> tuple[int, int]:
    """Play one round; return how many calls were made, ours and those of others."""
    scratch = Path(tempfile.mkdtemp(prefix="cos-model-"))
    world = World(scratch)
    try:
        one = Round(world, seed)
        try:
            one.run(phases, calls)
        except Wrong:
            if evidence is not None:
                world.keep_evidence(evidence / str(seed), {"calls": one.log})
            raise
        return one.player.calls, one.others.calls
    finally:
        world.close()
        shutil.rmtree(scratch, ignore_errors=True)


def run(minutes: float, seed: int, evidence: Path) -> int:
    """Play rounds with one seed after the other; each that fails is printed, and told of below evidence."""
    until = time.monotonic() + minutes * 60
    rounds = failures = ours = theirs = 0
    while time.monotonic() < until:
        try:
            more = play(seed + rounds, evidence=evidence)
            ours, theirs = ours + more[0], theirs + more[1]
        except Wrong as error:
            failures += 1
            print(f"FAILED: {error}", flush=True)
        rounds += 1
        if rounds % 10 == 0:
            print(f"{rounds} rounds, {ours} calls, {theirs} of others, {failures} failures", flush=True)
    print(f"{rounds} rounds, {ours} calls, {theirs} of others, {failures} failures")
    return 1 if failures else 0
