"""kill -9 of the mount under load: everything acknowledged must be there afterwards.

Each run goes on with the mount that the run before it has judged, so that it costs one mount. What the
mount shows and what a plain client finds in the bucket, once the journal is empty, must be what the
programs were acknowledged.
"""

from __future__ import annotations

import errno
import random
import subprocess
import threading
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from cosfs.fuse.control import refresh
from scripts.stressing.busy import BusyWriter
from scripts.stressing.player import TROUBLE
from scripts.stressing.seen import Seen, Sight, look, stored
from scripts.stressing.world import World, within
from scripts.stressing.writer import Writer
from tests.mounting import Mounted

WRITERS = 4
SETTLED_WITHIN = 60.0
MOST = 300  # calls until the kill
LONGEST = 8.0  # seconds of load
VERSIONING = ("", "", "Enabled", "Suspended")  # of the bucket; "" leaves it as it is
FRESH_EVERY = 10  # runs; then it is unmounted, and the trees begin anew
# What happens to a mount at the end of its load, and how often.
ENDINGS = {
    "kill": 10,
    "kill, kill while it recovers": 4,
    "kill, some kills while it recovers": 3,
    "stop, kill": 2,
    "stop": 2,
    "kill, cos recover": 2,
    "kill, kill of cos recover": 2,
    "outage, kill": 2,
    "kill in an upload": 3,
    "outage, kill, some kills without COS": 2,
    "cos umount, kill": 2,
    "kill in a large directory": 1,
}
# What the mounts are told, one of them each.
OPTIONS: tuple[tuple[str, ...], ...] = (
    (),
    (),
    ("--metadata-ttl", "0.3s"),
    ("--metadata-ttl", "1h"),
    ("--max-pending", "100KB"),
    ("--concurrency", "2"),
    ("--block-size", "64KB"),
)
LISTING = 0.1  # of the runs begin with a mount that shows no attributes
LARGE = 1_030  # objects in a large directory: more than a page of a listing
SLOW_PARTS = (0.05, 0.1, 0.3)  # seconds that a part of an upload takes that is to be killed


@dataclass
class Result:
    """What a series of runs came to."""

    runs: int = 0
    kills: int = 0
    calls: int = 0
    looked_after: int = 0  # what COS was said to have, and was asked for past the mount
    cut_short: int = 0  # calls under way when the mount died
    in_uploads: int = 0  # kills that left multipart uploads open in COS
    modes: Counter[str] = field(default_factory=Counter)
    endings: Counter[str] = field(default_factory=Counter)
    kept_aside: int = 0
    conflicts: int = 0
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Series:
    """Runs one after the other on the same trees. What is known of a loss is kept below evidence."""

    options: tuple[str, ...] = ()  # of the mounts
    faulty = False  # calls may fail at any time
    writer_class: type[Writer] = BusyWriter
    expected_aside: tuple[str, ...] = ("never closed",)  # what may be kept aside, and said

    def __init__(self, world: World, seed: int, evidence: Path) -> None:
        self.world = world
        self.seed = seed
        self.evidence = evidence
        self.endings = ENDINGS
        self.result = Result()
        self.trees: list[Sight] = [{} for _ in range(WRITERS)]
        self.mounted: Mounted | None = None
        self.write_back = ""
        self._writers: list[Writer] = []
        self._trouble_at = self._killed_at = 0.0  # from then on calls may fail
        self._sees_modes = True
        self._large_directory = ""
        self._kept_aside = 0  # lines of the list that were judged
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
        elif not failure and self._large_directory:
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
        ending = chance.choices(list(self.endings), list(self.endings.values()))[0]
        self.result.endings[ending] += 1
        self._large_directory = f"large{seed}" if "large" in ending else ""
        if chance.random() < LISTING:
            if failure := self._unmount():
                return failure
            self._mount(chance, "--attributes", "listing")
        elif self.mounted is None:
            self._mount(chance)
        self.result.modes[self.write_back] += 1
        self._tell(f"{ending} of a mount in mode {self.write_back}")
        self._load(chance, seed, ending)
        self._count()
        self.world.keep_journal()
        if "cos recover" in ending:
            failure = self._recover(chance, killed="kill of cos recover" in ending)
            if failure:
                return failure
        elif "while it recovers" in ending or "without COS" in ending:
            for _ in range(chance.choice((2, 3, 4)) if "some kills" in ending else 1):
                self._mount_and_kill(chance, cut="without COS" in ending)
        elif ending == "stop" and (left := self.world.leavings(staging=False)):
            return f"it has stopped, but {left}"
        self._mount(chance)
        return self._judge()

    # What happens

    def _tell(self, what: str) -> None:
        self._story.append(f"{time.time():.4f} {what}")

    def _mount(self, chance: random.Random, *more: str) -> None:
        self.write_back = chance.choice(("close", "async"))
        options = (*chance.choice(OPTIONS), *more)
        self._sees_modes = "listing" not in more
        self._tell(f"mount, {self.write_back} {' '.join(options)}")
        self.mounted = self.world.mount(self.write_back, *self.options, *options)

    def _load(self, chance: random.Random, seed: int, ending: str) -> None:
        """Let programs work on the mount, and kill it."""
        in_upload = ending.endswith("upload")
        self._make_writers(seed, large=in_upload)
        try:
            self._disturb(chance)
            if in_upload:
                self.world.emulator.faults.latency(chance.choice(SLOW_PARTS), "UploadPart")
            for writer in self._writers:
                writer.start()
            self._wait_for_calls(chance)
            if in_upload:
                self.world.wait_for_request(chance.uniform(0.0, 0.3), "UploadPart")
            self._trouble_at = time.monotonic()
            if ending.startswith("outage"):
                self._tell("outage")
                self.world.cut()
                time.sleep(chance.uniform(0.0, 0.5))
            self._killed_at = time.monotonic()
            if ending.startswith("stop"):
                self._stop(chance, killed="kill" in ending)
            elif ending.startswith("cos umount"):
                self._kill_while_it_unmounts(chance)
            else:
                self._kill()
        finally:
            self.world.repair()
            self.world.emulator.faults.clear()
            self.result.in_uploads += self.world.open_uploads() > 0
            for writer in self._writers:
                writer.stopping.set()
                writer.join(30)

    def _make_writers(self, seed: int, *, large: bool = False) -> None:
        assert self.mounted is not None
        self._writers = []
        for number in range(WRITERS):
            top = self.mounted.path / f"w{number}"
            top.mkdir(exist_ok=True)
            self._writers.append(self._writer(top, seed * 10 + number, self.trees[number], large=large))
        if self._large_directory:
            self._fill(self._writers[0], self._large_directory)

    def _fill(self, writer: Writer, place: str) -> None:
        """Give a program a large directory, which it is to begin with."""
        files = [(f"{place}/{number:04}", b"%d" % number) for number in range(LARGE)]
        self.world.emulator.put_objects(
            self.world.bucket, [(f"{writer.top.name}/{path}", data) for path, data in files]
        )
        refresh(writer.top, recursive=True)
        writer.known = {
            **writer.known,
            place: Seen("directory"),
            **{path: Seen("file", data, 0o644, None, frozenset()) for path, data in files},
        }
        writer.large_directory = place

    def _count(self) -> None:
        self.result.calls += sum(writer.calls for writer in self._writers)
        self.result.cut_short += sum(writer.next is not None for writer in self._writers)

    def _wait_for_calls(self, chance: random.Random) -> None:
        """Let the programs work: as much on a busy machine as on another."""
        if self._large_directory:
            time.sleep(chance.uniform(0.0, 3.0))
            return
        wanted = chance.randrange(1, MOST)
        deadline = time.monotonic() + LONGEST
        while sum(writer.calls for writer in self._writers) < wanted and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(chance.uniform(0.0, 0.02))

    def _writer(self, top: Path, seed: int, known: Sight, *, large: bool) -> Writer:
        def is_in_cos(path: str, data: bytes) -> bool:
            self.result.looked_after += 1
            return self.world.has(f"{top.name}/{path}", data)

        sent = self.write_back == "close"
        writer = self.writer_class(top, seed, known, is_in_cos, sent_by_close=sent, large=large)
        writer.sees_modes = self._sees_modes
        writer.is_short = self.faulty  # a call that fails leaves what it has written until then
        return writer

    def _kill(self) -> None:
        assert self.mounted is not None
        self._tell("kill")
        self.mounted.kill()
        self.mounted.clean_up()
        self.mounted = None
        self.result.kills += 1

    def _stop(self, chance: random.Random, *, killed: bool) -> None:
        """Have a mount end while programs are at work in it, and perhaps kill it before it has."""
        assert self.mounted is not None
        self._tell("stop")
        for writer in self._writers:
            writer.is_short = True  # what is written of an open file is sent
        self.mounted.process.terminate()
        try:
            self.mounted.process.wait(
                chance.choice((0.1, 1.0)) * chance.random() if killed else SETTLED_WITHIN
            )
        except subprocess.TimeoutExpired:
            self._tell("it has not stopped yet")
        self._kill()

    def _kill_while_it_unmounts(self, chance: random.Random) -> None:
        """Have the programs end, and the mount with them, and kill it before it has, mostly."""
        assert self.mounted is not None
        for writer in self._writers:
            writer.stopping.set()
        for writer in self._writers:
            writer.join(SETTLED_WITHIN)
        self._tell("cos umount")
        process = self.world.unmount(self.mounted)
        time.sleep(chance.choice((0.2, 0.5, 1.0)) * chance.random())
        self._kill()
        process.wait(SETTLED_WITHIN)

    def _mount_and_kill(self, chance: random.Random, *, cut: bool = False) -> None:
        """Kill a mount while it recovers, mostly: it needs about a second until it serves.

        cut: COS is away meanwhile.
        """
        if cut:
            self._tell("outage")
            self.world.cut()
        mounted = self.world.start(chance.choice(("close", "async")), *self.options)
        self.mounted = mounted
        self.world.emulator.faults.latency(chance.choice((0.0, 0.01, 0.05)))
        if chance.random() < 0.3:
            self.world.emulator.faults.error("*", "ServiceUnavailable", 503, after=True, share=0.3, count=0)
        self._tell("mount")
        if cut:
            time.sleep(chance.uniform(0.2, 3.0))
        else:
            self.world.wait_for_request(chance.uniform(0.0, 0.4))
        self._kill()
        self.world.repair()
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

            def check(top: Path = top, writer: Writer = writer) -> str:
                return writer.judge(look(top))

            # From the first moment on it is as it must be, but for what is still being renamed.
            failure = within(SETTLED_WITHIN, "looking", check, self.world.is_renaming)
            failure = failure or self._misbehaved(writer)
            if failure:
                return f"w{number}: {failure}"
            self.trees[number] = writer.known
        return (
            within(SETTLED_WITHIN, "the journal", self.world.leavings)
            or self._bucket_differs()
            or self._said_wrong()
        )

    def _misbehaved(self, writer: Writer) -> str:
        """What a program was told that is not so."""
        if writer.is_alive():
            return "a call does not return"
        if writer.lies:
            return writer.lies[0]
        failure, at = writer.failure, writer.failed_at
        if failure is None or (failure.errno in (errno.ENOENT, errno.EINVAL) and at > self._killed_at):
            return ""  # below a mountpoint without a mount there is nothing, and nothing to be mapped
        return "" if self._may_fail(failure, at) else f"a call failed for no reason: {failure}"

    def _may_fail(self, failure: OSError, at: float) -> bool:
        """Whether a call may have failed like that at a time."""
        return failure.errno in TROUBLE and (self.faulty or at > self._trouble_at)

    def _said_wrong(self) -> str:
        """What is in recovered/ or in the logs and must not be there: nobody else is at work here."""
        lines = self.world.kept_aside()
        new, self._kept_aside = lines[self._kept_aside :], len(lines)
        for line in () if self.faulty else new:
            if not any(reason in line for reason in self.expected_aside):
                return f"kept aside: {line}"
        if len(new) > len(self._writers) and not self.faulty:
            return f"{len(new)} files kept aside of {len(self._writers)} calls cut short: {new[0]}"
        return self.world.mistakes()

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
        wanted: Sight = {}
        for number, tree in enumerate(self.trees):
            wanted |= {f"w{number}/{path}": node for path, node in tree.items()}
        found = stored(self.world.client, self.world.bucket)
        for path in sorted(wanted.keys() | found.keys()):
            here, there = wanted.get(path), found.get(path)
            if path in self._tops() and there is not None and there.kind == "directory":
                continue
            if here is not None and there is not None and there.kind == here.kind == "directory":
                here = replace(here, mode=here.mode and there.mode)  # None without an object of its own
            if here is None or not here.fits(there):
                self.result.conflicts += ".conflict-" in path
                return f"the bucket has another {path} than the mount: {there} and not {here}"
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
        self._kept_aside = 0
        self.world.empty()
        self.world.version(random.Random(self.seed + self.result.runs).choice(VERSIONING))
        self.trees = [{} for _ in range(WRITERS)]

    def _keep_evidence(self, seed: int) -> Path:
        """Keep the calls, the requests, the journals and the mounts' logs of a run."""
        kept = self.evidence / str(seed)
        calls = {f"w{number}.calls": writer.past for number, writer in enumerate(self._writers)}
        self.world.keep_evidence(kept, {"story": self._story, **calls})
        return kept
