"""A server, a network and credentials that fail in every way, under load.

Ten minutes without a network are shortened, COMPRESSION times as a rule: the outage, and by as much what the
settings of the mount say of times (--io-timeout, --retry-max, --read-timeout). The mount itself knows nothing
of it, and its looks whether COS is back (every 10 s at most) are as far apart as ever. Keys live for seconds.
"""

from __future__ import annotations

import errno
import itertools
import json
import random
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from cosfs.emulator import Credential
from scripts.stressing.crash import SETTLED_WITHIN, Result, Series
from scripts.stressing.world import World, within
from tests.line import Line
from tests.mounting import Mounted

COMPRESSION = 20
OUTAGE = 600.0  # seconds; and the defaults of the settings
SETTINGS = {"--io-timeout": 60.0, "--retry-max": 300.0, "--read-timeout": 30.0}
KEY_LIFE = 3  # seconds
ROTATED_EVERY = 1.5
ANSWERED_WITHIN = 3.0  # seconds in which a call that was refused for its keys says so
SHORT = (0.2, 4.0)  # seconds, of an outage that is none of the long ones
OUTAGES = {
    "long": 2,
    "short": 3,
    "none": 4,
}  # before the mount is killed, and how often
HOW = ("refused", "unanswered")
KEYS = ("for good", "of a role", "of a program")
ROLE = "qcs::cam::uin/100000000001:roleName/emulator"
CACHED = b"read before the outage" * 1000


class FaultWorld(World):
    """The mount reaches the emulator by a line that can be cut; whoever looks past the mount does not."""

    def __init__(self, scratch: Path) -> None:
        super().__init__(scratch)
        self.line = Line(int(self.emulator.endpoint_url.rpartition(":")[2]))
        self.environment["COS_ENDPOINT_URL"] = f"http://127.0.0.1:{self.line.port}"
        self.is_up = True

    def close(self) -> None:
        self.line.close()
        super().close()

    def cut(self, how: str = "refused") -> None:
        """Have connections refused, or lead nowhere."""
        self.is_up = False
        self.line.cut(how)

    def repair(self) -> None:
        if not self.is_up:
            self.line.repair()
        self.is_up = True


def spoil(world: World, chance: random.Random) -> None:
    """Make the server fail in several ways, each now and then."""
    faults = world.emulator.faults
    for operation in ("PutObject", "CopyObject", "UploadPart", "CompleteMultipartUpload", "DeleteObjects"):
        kind = chance.choice(("none", "before", "after", "reset", "reset-after", "slow-down"))
        share = chance.uniform(0.05, 0.4)
        if kind in ("before", "after"):
            faults.error(operation, "ServiceUnavailable", 503, count=0, after=kind == "after", share=share)
        elif kind == "slow-down":
            faults.error(operation, "SlowDown", 503, count=0, share=share)
        elif kind.startswith("reset"):
            faults.reset(operation, count=0, after=kind == "reset-after", share=share)
    if chance.random() < 0.5:
        faults.truncate("GetObject", offset=1000, count=0, share=0.2)
    _hold_up(world, chance)


def _hold_up(world: World, chance: random.Random) -> None:
    """Have answers and bodies stop: for a while, or for longer than anybody waits.

    What writes waits less long before its work: what COS does after the mount has sent the request again, and
    more after it, nobody can guard against.
    """
    faults, seconds = world.emulator.faults, chance.choice((0.5, 2.0, 6.0))
    kind = chance.choice(("none", "answer", "answers", "body", "bodies", "drip"))
    if kind == "answer":
        faults.latency(seconds, chance.choice(("GetObject", "HeadObject", "ListObjects")), count=3, share=0.1)
    elif kind == "answers":
        faults.latency(1.0, "*", count=20, share=0.03)
        faults.latency(seconds, "Head*", count=5, share=0.03)
    elif kind == "body":
        faults.stall(seconds, "GetObject", 1000, count=5, share=0.2)
        faults.stall(seconds, "ListObjects", 100, count=2, share=0.2)
    elif kind == "bodies":
        # A small body is all there, and would be stored though the mount has long sent it again.
        faults.stall_request(min(seconds, 1.0), "PutObject", 0, count=5, share=0.1)
        faults.stall_request(seconds, "UploadPart", 100_000, count=3, share=0.2)
    elif kind == "drip":
        faults.slow(50, chance.choice(("GetObject", "ListObjects")), count=3, share=0.2)


@dataclass
class Keys:
    """Where the mount has its keys from. Those of a program are replaced while COS is there."""

    world: FaultWorld

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._numbers = iter(range(1, 1 << 30))
        self._end = float("inf")  # of the last keys that a program gave
        self._lapses: list[tuple[float, float]] = []  # when its keys had ended and there were no others yet
        emulator = self.world.emulator
        self._given = {"COS_SECRET_ID": emulator.secret_id, "COS_SECRET_KEY": emulator.secret_key}

    @property
    def _home(self) -> Path:
        return Path(self.world.environment["HOME"])

    def use(self, kind: str) -> None:
        """Give mounts that begin from now on keys of a kind."""
        self.close()
        self._note_lapse()
        self._end = float("inf")
        for name in self._given:
            self.world.environment.pop(name, None)
        if kind == "for good":
            self.world.environment.update(self._given)
        elif kind == "of a role":
            self._profile(
                f"assume_role = {ROLE}\nduration_seconds = {KEY_LIFE}\n"
                f"sts_endpoint = {self.world.environment['COS_ENDPOINT_URL']}\n"
                f"secret_id = {self._given['COS_SECRET_ID']}\nsecret_key = {self._given['COS_SECRET_KEY']}\n"
            )
        else:
            self._profile(f"credential_process = cat {self._home / 'keys'}\n")
            self._rotate()
            self._thread = threading.Thread(target=self._keep_rotating, daemon=True)
            self._thread.start()

    def _profile(self, text: str) -> None:
        path = self._home / ".cos" / "credentials"
        path.write_text(f"[default]\n{text}")
        path.chmod(0o600)

    def _keep_rotating(self) -> None:
        while not self._stop.wait(ROTATED_EVERY):
            if self.world.is_up:
                self._rotate()

    def _rotate(self) -> None:
        number, ends, now = next(self._numbers), time.time() + KEY_LIFE, time.monotonic()
        made = Credential(f"AKIDrotated{number}", f"secret{number}", f"token{number}", ends)
        self.world.emulator.add_credential(made)
        keys = {
            "SecretId": made.secret_id,
            "SecretKey": made.secret_key,
            "Token": made.token,
            "ExpiredTime": ends,
        }
        new = self._home / "keys.new"
        new.write_text(json.dumps(keys))
        new.replace(self._home / "keys")
        self._note_lapse()
        self._end = now + KEY_LIFE

    def _note_lapse(self) -> None:
        if self._end < time.monotonic():
            self._lapses.append((self._end, time.monotonic()))

    def had_ended(self, at: float) -> bool:
        """Whether a program gave no good keys at a time: not while COS was away, nor on a busy machine."""
        lapses = [*self._lapses, (self._end, float("inf"))]
        return any(start <= at <= end + ANSWERED_WITHIN for start, end in lapses)

    def close(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._thread = None
        self._stop = threading.Event()


class FaultSeries(Series):
    """As a series of kills; and in many runs the mount has to outlive an outage first, under load."""

    faulty = True

    def __init__(
        self, world: FaultWorld, seed: int, evidence: Path, compression: float = COMPRESSION
    ) -> None:
        super().__init__(world, seed, evidence)
        settings = {name: f"{seconds / compression:g}" for name, seconds in SETTINGS.items()}
        self.options = tuple(itertools.chain(*settings.items()))
        self.outage = OUTAGE / compression
        self.lined = world
        self.keys = Keys(world)

    def run(self, runs: int) -> Result:
        try:
            return super().run(runs)
        finally:
            self.keys.close()

    def _mount(self, chance: random.Random, *more: str) -> None:
        kind = chance.choice(KEYS)
        self._tell(f"keys {kind}")
        self.keys.use(kind)
        super()._mount(chance, *more)

    def one(self, seed: int) -> str:
        chance = random.Random(f"outage {seed}")
        length = chance.choices(list(OUTAGES), list(OUTAGES.values()))[0]
        if length != "none":
            if self.mounted is None:
                self._mount(chance)
            seconds = self.outage if length == "long" else chance.uniform(*SHORT)
            failure = self._outlive(chance, seed + (1 << 24), seconds, chance.choice(HOW))
            if failure:
                return f"after an outage: {failure}"
        return super().one(seed)

    def _outlive(self, chance: random.Random, seed: int, seconds: float, how: str) -> str:
        """Have COS away for some time, under load; the mount has to get over it by itself."""
        mounted = self.mounted
        assert mounted is not None
        self.result.endings[f"outage, {how}"] += 1
        self._tell(f"outage of {seconds:.1f} s, {how}, of a mount in mode {self.write_back}")
        self._make_writers(seed)
        cached = self._cache_a_file(mounted)
        self._disturb(chance)
        for writer in self._writers:
            writer.start()
        self._wait_for_calls(chance)
        failure = ""
        self.lined.cut(how)
        try:
            time.sleep(seconds)
            if cached.read_bytes() != CACHED:
                failure = "a file in the cache is another one while COS is away"
        except OSError as error:
            failure = f"a file in the cache cannot be read while COS is away: {error}"
        finally:
            self.lined.repair()
        self._tell("COS is back")
        for writer in self._writers:
            writer.stopping.set()
            writer.join(SETTLED_WITHIN)
            if writer.is_alive():
                failure = failure or f"a call goes on for ever: {writer.past[-1]}"
        self.world.emulator.faults.clear()
        self._count()

        def clear_up() -> str:
            cached.unlink(missing_ok=True)
            return ""

        return failure or within(SETTLED_WITHIN, "removing a file", clear_up) or self._settled()

    def _settled(self) -> str:
        """What a failed call has begun may still happen, and be seen after a while; then it stays so."""
        return within(2 * SETTLED_WITHIN, "the journal", self.world.leavings) or within(
            SETTLED_WITHIN, "the mount", self._judge
        )

    def _may_fail(self, failure: OSError, at: float) -> bool:
        return super()._may_fail(failure, at) or (failure.errno == errno.EACCES and self.keys.had_ended(at))

    def _compare(self, mounted: Mounted) -> str:
        failure = super()._compare(mounted)
        mistake = "Traceback" in mounted.log_text()
        return failure or ("the mount's log has a traceback" if mistake else "")

    def _cache_a_file(self, mounted: Mounted) -> Path:
        path = mounted.path / "cached"
        if not path.exists():
            path.write_bytes(CACHED)
        path.read_bytes()
        return path

    def _disturb(self, chance: random.Random) -> None:
        super()._disturb(chance)
        spoil(self.world, chance)
