"""Programs that work in one directory at the same time, and kills of the mount.

Each round lets some programs make a few calls each in trees that they share. What is found then must be
what some order of these calls leaves (orders.py), and stay so: when everything was sent, in the bucket, and
in the next mount when this one was killed.
"""

from __future__ import annotations

import errno
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from scripts.stressing.crash import OPTIONS, Result
from scripts.stressing.exclusive import NOREPLACE, rename_exclusive
from scripts.stressing.orders import Call, Done, Orders, begin
from scripts.stressing.seen import Seen, Sight, look, stored
from scripts.stressing.world import World, within
from tests.mounting import Mounted

ARENAS = 3  # trees in which something happens at the same time
SETTLED_WITHIN = 60.0
FRESH_EVERY = 40  # rounds; then the trees begin anew
FILES, DIRECTORIES = ("a", "b"), ("d", "e", "d/f")
SIZES = (0, 1, 300, 5_000, 70_000, 1_200_000)
SIZE_WEIGHTS = (1, 4, 8, 8, 4, 1)
# What a call answers where names are other than its program may have thought.
ORDINARY = frozenset({errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY, errno.EISDIR, errno.ENOTDIR, errno.EINVAL})
GONE = frozenset({errno.ENOTCONN, errno.ECONNABORTED, errno.ENODEV, errno.EIO, errno.EINTR, errno.ENOENT})
ENDINGS = {"go on": 10, "have all sent": 5, "kill": 4, "kill under load": 3, "unmount": 1}
SLOW = ("PutObject", "CopyObject", "DeleteObjects", "ListObjects", "HeadObject", "UploadPart", "*")


class Program(threading.Thread):
    """Makes its calls one after the other, whatever they answer."""

    def __init__(self, top: Path, calls: list[Call], pauses: list[float], start: threading.Barrier) -> None:
        super().__init__(daemon=True)
        self.top = top
        self.done: list[Done] = []
        self.wrong = ""
        self._calls, self._pauses, self._start = calls, pauses, start
        self._descriptors: dict[int, int] = {}
        self.is_killed = False

    def run(self) -> None:
        self._start.wait()
        for call, pause in zip(self._calls, self._pauses, strict=True):
            time.sleep(pause)
            if call.name in ("write", "ftruncate", "fsync", "close") and call.slot not in self._descriptors:
                continue  # it could not be opened
            done = Done(call, time.monotonic())
            self.done.append(done)
            try:
                self._make(call)
            except OSError as error:
                if self.is_killed and error.errno in GONE:
                    break
                done.answer = errno.errorcode[error.errno or 0]
                if error.errno not in ORDINARY:
                    self.wrong = f"{call}: {error}"
            else:
                done.answer = ""
            done.ended = time.monotonic()
        for descriptor in self._descriptors.values():
            try:
                os.close(descriptor)
            except OSError:
                pass

    def _make(self, call: Call) -> None:
        paths = [self.top / path for path in call.paths]
        if call.name == "open":
            self._descriptors[call.slot] = os.open(paths[0], call.flags, 0o644)
        elif call.name == "write":
            done = os.pwrite(self._descriptors[call.slot], call.data, max(call.size, 0))
            if done < len(call.data):
                raise OSError(errno.EIO, f"{done} bytes were written")
        elif call.name == "ftruncate":
            os.ftruncate(self._descriptors[call.slot], call.size)
        elif call.name == "fsync":
            os.fsync(self._descriptors[call.slot])
        elif call.name == "close":
            os.close(self._descriptors.pop(call.slot))
        elif call.name == "rename" and call.flags:
            rename_exclusive(*paths)
        else:
            simple: dict[str, Callable[[], object]] = {
                "rename": lambda: paths[0].rename(paths[1]),
                "unlink": paths[0].unlink,
                "rmdir": paths[0].rmdir,
                "mkdir": lambda: paths[0].mkdir(0o755),
                "truncate": lambda: os.truncate(paths[0], call.size),
                "chmod": lambda: paths[0].chmod(call.flags),
            }
            simple[call.name]()


class Script:
    """Makes up what programs do."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        same = chance.random() < 0.4
        self._same = (
            [chance.randbytes(chance.choices(SIZES, SIZE_WEIGHTS)[0]) for _ in range(2)] if same else []
        )

    def calls(self) -> list[Call]:
        """What one program does."""
        kinds = {
            self._write: 10, self._change: 6, self._save: 6, self._append: 4, self._move: 8,
            self._move_all: 8, self._remove: 5, self._swap: 3, self._make_anew: 4, self._cut: 2,
            self._chmod: 2, self._rotate: 3, self._write_under_way: 5,
        }  # fmt: skip
        found: list[Call] = []
        for _ in range(self.chance.choice((1, 1, 2, 3))):
            found += self.chance.choices(list(kinds), list(kinds.values()))[0]()
        return found[:12] if all(call.name != "open" for call in found[:12]) else found

    def _data(self) -> bytes:
        if self._same and self.chance.random() < 0.8:
            return self.chance.choice(self._same)
        return self.chance.randbytes(self.chance.choices(SIZES, SIZE_WEIGHTS)[0])

    def _directory(self) -> str:
        return self.chance.choice(DIRECTORIES)

    def _file(self) -> str:
        place = self.chance.choice(("", *DIRECTORIES))
        return f"{place}/{self.chance.choice(FILES)}".lstrip("/")

    def _written(self, *, at_end: bool = False) -> list[Call]:
        calls, offset = [], 0
        for _ in range(self.chance.choice((1, 1, 2))):
            data = self._data()
            if data:
                calls.append(Call("write", size=-1 if at_end else offset, data=data))
            offset += len(data)
        if self.chance.random() < 0.15:
            calls.append(Call("ftruncate", size=self.chance.choice((0, 100, 6_000))))
        if self.chance.random() < 0.15:
            calls.append(Call("fsync"))
        return calls

    def _write(self) -> list[Call]:
        flags = os.O_RDWR | os.O_CREAT | self.chance.choice((os.O_TRUNC, os.O_TRUNC, os.O_EXCL, 0))
        return [Call("open", (self._file(),), flags=flags), *self._written(), Call("close")]

    def _change(self) -> list[Call]:
        data = self._data()[:3_000] or b"x"
        change = Call("write", size=self.chance.choice((0, 7, 4_096)), data=data)
        return [Call("open", (self._file(),), flags=os.O_RDWR), change, Call("close")]

    def _append(self) -> list[Call]:
        flags = os.O_WRONLY | os.O_APPEND | self.chance.choice((0, os.O_CREAT))
        return [Call("open", (self._file(),), flags=flags), *self._written(at_end=True), Call("close")]

    def _save(self) -> list[Call]:
        path = self._file()
        return [*self._new(f"{path}.tmp"), Call("rename", (f"{path}.tmp", path))]

    def _new(self, path: str) -> list[Call]:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        return [Call("open", (path,), flags=flags), *self._written(), Call("close")]

    def _write_under_way(self) -> list[Call]:
        """A file gets another name, or loses it, while it is written."""
        path = self._file()
        calls = self._new(path)
        between = self.chance.choice((self._move, self._move_all, self._remove, self._rotate))()
        return [*calls[:-1], *between, *calls[1:]]

    def _move(self) -> list[Call]:
        flags = NOREPLACE if self.chance.random() < 0.2 else 0
        return [Call("rename", (self._file(), self._file()), flags=flags)]

    def _move_all(self) -> list[Call]:
        return [
            Call("rename", (self._directory(), self._directory())) for _ in range(self.chance.choice((1, 2)))
        ]

    def _remove(self) -> list[Call]:
        return [Call("unlink", (self._file(),))]

    def _swap(self) -> list[Call]:
        one, other = self._file(), self._file()
        return [
            Call("rename", (one, f"{one}.tmp")),
            Call("rename", (other, one)),
            Call("rename", (f"{one}.tmp", other)),
        ]

    def _rotate(self) -> list[Call]:
        path = self._file()
        return [Call("rename", (f"{path}.1", f"{path}.2")), Call("rename", (path, f"{path}.1"))]

    def _make_anew(self) -> list[Call]:
        """A directory goes with what is in it, and comes back."""
        place = self._directory()
        gone = [Call("unlink", (f"{place}/{name}",)) for name in FILES if self.chance.random() < 0.7]
        calls = [*gone, Call("rmdir", (place,)), Call("mkdir", (place,))]
        return (
            calls
            if self.chance.random() < 0.5
            else [*calls, *self._new(f"{place}/{self.chance.choice(FILES)}")]
        )

    def _cut(self) -> list[Call]:
        return [Call("truncate", (self._file(),), size=self.chance.choice((0, 10, 6_000)))]

    def _chmod(self) -> list[Call]:
        return [Call("chmod", (self._file(),), flags=self.chance.choice((0o600, 0o755)))]


class Arena:
    """A tree, and the programs that are at work in it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.known: Sight = {}
        self.programs: list[Program] = []

    def prepare(self, top: Path, chance: random.Random, start: threading.Barrier, programs: int) -> None:
        script = Script(chance)
        self.programs = []
        for _ in range(programs):
            calls = script.calls()
            most = chance.choice((0.0, 0.002, 0.02, 0.1))
            pauses = [chance.uniform(0.0, most) for _ in calls]
            self.programs.append(Program(top / self.name, calls, pauses, start))

    def judge(self, found: Sight, *, killed: bool) -> str | None:
        """Why a tree cannot be what the programs have left, "" if it can; None if nobody knows."""
        orders = Orders([program.done for program in self.programs])
        if not orders.explore(begin(self.known, len(self.programs))):
            return None
        if not orders.ends:
            return "no order of the calls answers what they did"
        reasons = Counter[str]()
        for end in orders.ends:
            wanted, _ = end.sight()
            unsafe = {number for number, node in end.nodes if node.unsafe} if killed else set()
            loose = set().union(*(orders.names.get(number, set()) for number in unsafe))
            reason = _difference(found, wanted, loose)
            if not reason:
                return ""
            reasons[reason] += 1
        return f"no order of {len(orders.ends)} leaves that, for instance {min(reasons, key=len)}"

    def told(self) -> list[str]:
        """What the programs did, in the order in which they began it."""
        lines = [
            (done.begun, f"{done.begun:.4f}-{done.ended:.4f} {number}: {done.call} {done.answer}")
            for number, program in enumerate(self.programs)
            for done in program.done
        ]
        return [f"before: {path}: {seen}" for path, seen in sorted(self.known.items())] + [
            line for _, line in sorted(lines)
        ]


def _difference(found: Sight, wanted: Sight, loose: set[str]) -> str:
    for path in sorted(found.keys() | wanted.keys()):
        if path not in loose and (path not in wanted or not wanted[path].fits(found.get(path))):
            return f"{path}: {found.get(path)} instead of {wanted.get(path)}"
    return ""


class Races:
    """Rounds one after the other in the same trees."""

    def __init__(self, world: World, seed: int, evidence: Path) -> None:
        self.world, self.seed, self.evidence = world, seed, evidence
        self.result = Result()
        self.mounted: Mounted | None = None
        self.write_back = ""
        self.unknown = 0  # rounds with too many orders to try
        self._story: list[str] = []
        self._told: dict[str, list[str]] = {}
        self._begin_anew()

    def run(self, runs: int) -> Result:
        started = time.monotonic()
        try:
            for number in range(runs):
                failure = self.one(self.seed + number)
                self.result.runs += 1
                if failure:
                    self._failed(self.seed + number, failure)
                if failure or number % FRESH_EVERY == FRESH_EVERY - 1:
                    self._begin_anew()
                if number % 50 == 49:
                    print(f"{number + 1} rounds, {self.result.calls} calls", flush=True)
        finally:
            self._leave()
        self.result.seconds = time.monotonic() - started
        print(f"{self.unknown} rounds had too many orders to try")
        return self.result

    def _failed(self, seed: int, failure: str) -> None:
        kept = self.evidence / str(seed)
        self.world.keep_evidence(kept, {"story": self._story, **self._told})
        self.result.failures.append(f"seed {seed}: {failure}")
        print(f"FAILED: seed {seed}: {failure}\n  {self._story}\n  see {kept}", flush=True)

    def one(self, seed: int) -> str:
        """One round; returns what went wrong."""
        chance = random.Random(seed)
        self._story.clear()
        ending = chance.choices(list(ENDINGS), list(ENDINGS.values()))[0]
        if self.mounted is None:
            self._mount(chance)
        self.result.modes[self.write_back] += 1
        self._story.append(f"{ending}, {self.write_back}")
        self._disturb(chance)
        failure = self._load(chance, killed=ending == "kill under load")
        self.world.emulator.faults.clear()
        if failure:
            return failure
        if ending == "have all sent":
            return self._all_sent()
        if ending == "unmount":
            return self._unmount()
        if ending.startswith("kill"):
            return self._killed(chance)
        return ""

    def _disturb(self, chance: random.Random) -> None:
        """Have some requests take longer than others, so that calls meet in the midst of them."""
        faults = self.world.emulator.faults
        for _ in range(chance.choice((0, 1, 2))):
            faults.latency(chance.choice((0.01, 0.05, 0.2)), chance.choice(SLOW))
        if chance.random() < 0.15:
            faults.error(
                chance.choice(SLOW[:3]),
                "ServiceUnavailable",
                503,
                after=chance.random() < 0.5,
                count=2,
                share=0.5,
            )
        if chance.random() < 0.15:
            faults.reset(chance.choice(SLOW[:3]), after=True, count=2, share=0.5)

    def _load(self, chance: random.Random, *, killed: bool) -> str:
        assert self.mounted is not None
        counts = [chance.choice((2, 2, 3)) for _ in self.arenas]
        start = threading.Barrier(sum(counts) + 1)
        for arena, count in zip(self.arenas, counts, strict=True):
            (self.mounted.path / arena.name).mkdir(exist_ok=True)
            arena.prepare(self.mounted.path, chance, start, count)
        programs = [program for arena in self.arenas for program in arena.programs]
        for program in programs:
            program.start()
        start.wait()
        if killed:
            time.sleep(chance.choice((0.01, 0.05, 0.2, 0.5)) * chance.random())
            for program in programs:
                program.is_killed = True
            self._kill()
        for program in programs:
            program.join(SETTLED_WITHIN)
        self._told = {f"{arena.name}.calls": arena.told() for arena in self.arenas}
        if any(program.is_alive() for program in programs):
            return "a call does not return"
        for program in programs:
            self.result.calls += sum(done.answer is not None for done in program.done)
            self.result.cut_short += any(done.answer is None for done in program.done)
            if program.wrong:
                return f"{program.top.name}: {program.wrong}"
        self._send_slowly(chance)
        if killed:
            self._mount(chance)
        return self._judge(killed=killed)

    def _send_slowly(self, chance: random.Random) -> None:
        """Have what is left be on its way for a while; whoever looks need not wait."""
        faults = self.world.emulator.faults
        faults.clear()
        if chance.random() < 0.4:
            for operation in ("PutObject", "CopyObject", "DeleteObjects", "UploadPart"):
                faults.latency(chance.choice((0.0, 0.1, 0.4)), operation)

    def _judge(self, *, killed: bool) -> str:
        assert self.mounted is not None
        for arena in self.arenas:
            top = self.mounted.path / arena.name
            found: Sight = {}

            def check(arena: Arena = arena, top: Path = top, found: Sight = found) -> str:
                found.clear()
                found.update(_plain(look(top)) if top.exists() else {})
                answer = arena.judge(found, killed=killed)
                self.unknown += answer is None
                return answer or ""

            failure = within(SETTLED_WITHIN, "looking", check, self.world.is_renaming)
            if failure:
                self._told["found"] = [f"{path}: {seen}" for path, seen in sorted(found.items())]
                return f"{arena.name}: {failure}"
            arena.known = found
            for program in arena.programs:
                program.done = []
        return ""

    def _killed(self, chance: random.Random) -> str:
        if self._story[0].startswith("kill,"):
            self._kill()
            self._mount(chance)
            failure = self._is_as_known()
            if failure:
                return f"after a kill: {failure}"
        return self._all_sent() if chance.random() < 0.5 else ""

    def _all_sent(self) -> str:
        return (
            within(SETTLED_WITHIN, "the journal", self.world.leavings)
            or self._is_as_known()
            or self._in_cos()
        )

    def _is_as_known(self) -> str:
        assert self.mounted is not None
        for arena in self.arenas:
            top = self.mounted.path / arena.name

            def check(arena: Arena = arena, top: Path = top) -> str:
                return _difference(_plain(look(top)), arena.known, set())

            failure = within(SETTLED_WITHIN, "looking", check, self.world.is_renaming)
            if failure:
                return f"{arena.name}: {failure}"
        return self.world.mistakes()

    def _in_cos(self) -> str:
        found = stored(self.world.client, self.world.bucket)
        for path in [path for path, seen in found.items() if seen.kind == "directory" and seen.mode is None]:
            found[path] = Seen("directory", mode=0o755)
        wanted = {f"{arena.name}/{path}": seen for arena in self.arenas for path, seen in arena.known.items()}
        tops = {arena.name for arena in self.arenas}
        answer = _difference(_plain(found), wanted, tops)
        return f"in the bucket: {answer}" if answer else ""

    def _unmount(self) -> str:
        mounted, self.mounted = self.mounted, None
        assert mounted is not None
        code = mounted.unmount()
        mounted.clean_up()
        if code:
            return f"the unmount ended with {code}"
        return self.world.leavings() or self._in_cos() or self.world.mistakes()

    def _mount(self, chance: random.Random) -> None:
        self.write_back, options = (
            chance.choice(("close", "async", "async")),
            chance.choice((*OPTIONS, ("--metadata-ttl", "0"))),
        )
        self._story.append(f"mount, {self.write_back} {options}")
        self.mounted = self.world.mount(self.write_back, *options)

    def _kill(self) -> None:
        assert self.mounted is not None
        self.mounted.kill()
        self.mounted.clean_up()
        self.world.keep_journal()
        self.mounted = None
        self.result.kills += 1

    def _leave(self) -> None:
        mounted, self.mounted = self.mounted, None
        if mounted is not None:
            mounted.kill()
            mounted.clean_up()

    def _begin_anew(self) -> None:
        self._leave()
        self.world.emulator.faults.clear()
        self.world.empty()
        self.arenas = [Arena(f"t{number}") for number in range(ARENAS)]


def _plain(found: Sight) -> Sight:
    """Without times and attributes, which no program here sets."""
    return {path: Seen(seen.kind, seen.data, seen.mode) for path, seen in found.items()}
