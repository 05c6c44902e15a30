"""What the emulator does by itself, in a thread of its own: copies, log files, lists, expiry.

Replication starts as soon as something waits for it. The rest is looked at every so often, and costs nothing
in a data directory where no bucket asks for it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from cosfs.emulator.context import Emulation
from cosfs.emulator.errors import CosError
from cosfs.emulator.inventory import Inventory
from cosfs.emulator.inventory_rules import ONCE
from cosfs.emulator.lifecycle import Lifecycle
from cosfs.emulator.replication import replicate
from cosfs.emulator.scan import HaltedError, Lock, Scan

log = logging.getLogger(__name__)

_HOUR = 3600


class Jobs:
    """The jobs of one emulator. `run` may be called from any thread but that of the event loop."""

    def __init__(self, emulation: Emulation, lock: Lock, interval: float) -> None:
        self._emulation = emulation
        self._store = emulation.store
        self._scan = Scan(self._store, lock, lambda: self._stopped)
        self._interval = interval
        self._inventory = Inventory(emulation, self._scan)
        self._wake = threading.Event()
        self._stopped = False
        self._one = threading.Lock()  # one run at a time
        self._passes: dict[
            int, tuple[int, bytes | None]
        ] = {}  # of each bucket: hour and rules of the last pass
        self._store.on_work = self._wake.set
        self._store.clock.on_move = self._wake.set
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to look by itself what is due; with an interval of 0, only `run` does anything."""
        if self._interval <= 0:
            return
        self._wake.set()
        self._thread = threading.Thread(target=self._loop, name="cos-emulator-jobs", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End soon, and write the log records that are still in memory."""
        self._stopped = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        self._emulation.access_log.deliver(self._scan.lock, everything=True)

    def run(self, *, by_itself: bool = False) -> None:
        """Do all that is due by the clock, and return when it is done.

        By itself, a bucket's lifecycle rules are only looked at every hour, and when they change.
        """
        with self._one:
            self._step(replicate, self._scan)
            if self._store.any_configured("lifecycle"):
                self._step(self._run_lifecycle, by_itself)
            if self._store.any_configured("inventory") or self._store.any_configured(ONCE):
                self._step(self._inventory.run)
            self._step(self._emulation.access_log.deliver, self._scan.lock)

    def _loop(self) -> None:
        while not self._stopped:
            self._wake.wait(self._interval)
            self._wake.clear()
            if not self._stopped:
                self.run(by_itself=True)

    def _step(self, work: Callable[..., object], *values: object) -> None:
        try:
            work(*values)
        except HaltedError:
            pass
        except CosError as error:  # a bucket went away meanwhile, or holds a document of an earlier version
            log.info("emulator: a job ended early: %s", error.message)
        except Exception:
            log.exception("emulator: a job failed")

    def _run_lifecycle(self, by_itself: bool) -> None:
        for bucket in self._store.configured_buckets("lifecycle"):
            with self._scan.lock:
                state = (self._store.now() // _HOUR, self._store.setting(bucket, "lifecycle"))
            if by_itself and self._passes.get(bucket.id) == state:
                continue
            self._step(self._run_bucket, bucket.name)
            self._passes[bucket.id] = state

    def _run_bucket(self, name: str) -> None:
        Lifecycle(self._emulation, self._scan, name).run()
