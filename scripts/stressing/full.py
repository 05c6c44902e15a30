"""A disk that is full: the cache directory has no room left under load, and the mount is killed as well.

Calls may fail with ENOSPC then. What was acknowledged stays, and everything goes on when there is room again.
"""

from __future__ import annotations

import errno
import os
import random
import subprocess
import time
from pathlib import Path

from scripts.stressing.crash import SETTLED_WITHIN, Series
from scripts.stressing.world import World, within

SIZE = 64 << 20
LEFT = (0, 0, 4096, 30_000, 300_000)  # bytes of room that others leave


class FullWorld(World):
    """The cache directory is on a small disk in memory, which others can fill."""

    def __init__(self, scratch: Path) -> None:
        super().__init__(scratch)
        disk = scratch / "disk"
        disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(disk)], check=True)
        self.disk = disk
        self.cache = disk / "cache"

    def close(self) -> None:
        subprocess.run(["umount", "-l", str(self.disk)], check=True)
        super().close()

    def fill(self, left: int) -> None:
        """Take all room but some bytes."""
        room = os.statvfs(self.disk)
        with (self.disk / "ballast").open("ab") as ballast:
            size = ballast.tell() + room.f_bavail * room.f_frsize - left
            try:
                os.posix_fallocate(ballast.fileno(), 0, max(size, 1))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise

    def empty_out(self) -> None:
        """Make room."""
        (self.disk / "ballast").unlink(missing_ok=True)

    def empty(self) -> None:
        self.empty_out()
        super().empty()


class FullSeries(Series):
    """As a series of kills, but that the disk is filled under load before most of them."""

    options = ("--cache-reserve", "4MB", "--cache-size", "16MB")

    def __init__(self, world: FullWorld, seed: int, evidence: Path) -> None:
        super().__init__(world, seed, evidence)
        self.small = world

    def one(self, seed: int) -> str:
        chance = random.Random(f"full {seed}")
        failure = ""
        if chance.random() < 0.4:
            if self.mounted is None:
                self._mount(chance)
            failure = self._outlive(chance, seed + (1 << 24))
        return f"after a full disk: {failure}" if failure else super().one(seed)

    def _outlive(self, chance: random.Random, seed: int) -> str:
        """Have no room for a while, and room again: the mount gets over it by itself."""
        self._tell(f"full for a while, of a mount in mode {self.write_back}")
        self._make_writers(seed)
        for writer in self._writers:
            writer.start()
        self._wait_for_calls(chance)
        self._trouble_at = time.monotonic()
        self.small.fill(chance.choice(LEFT))
        time.sleep(chance.uniform(0.1, 1.5))
        for writer in self._writers:
            writer.stopping.set()
            writer.join(SETTLED_WITHIN)
            writer.is_short = True
        self.small.empty_out()
        self._tell("there is room again")
        self._count()
        return within(SETTLED_WITHIN, "the journal", self.world.leavings) or self._judge()

    def _wait_for_calls(self, chance: random.Random) -> None:
        super()._wait_for_calls(chance)
        if chance.random() < 0.7:
            self._trouble_at = time.monotonic()
            left = chance.choice(LEFT)
            self._tell(f"full but for {left} bytes")
            self.small.fill(left)
            time.sleep(chance.uniform(0.0, 0.7))

    def _kill(self) -> None:
        super()._kill()
        for writer in self._writers:
            writer.is_short = True  # where there was no room for the rest
        self.small.empty_out()

    def _may_fail(self, failure: OSError, at: float) -> bool:
        return super()._may_fail(failure, at) or failure.errno == errno.ENOSPC
