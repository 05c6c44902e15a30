"""The clock that tests move: what follows it, and what must not."""

from __future__ import annotations

import sqlite3
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

from cosfs.emulator import Clock, Emulator
from tests.emulator.asking import BUCKET, Asker
from tests.emulator.signed import Signed

DAY = 86400


def test_clock_moves_and_runs_on() -> None:
    now = [100.0]
    clock = Clock(lambda: now[0])
    clock.advance(50)
    now[0] += 1
    assert (clock(), clock.machine()) == (151, 101)
    clock.set(datetime(2030, 1, 1, tzinfo=UTC))
    assert clock() == datetime(2030, 1, 1, tzinfo=UTC).timestamp()
    clock.reset()
    assert clock() == 101


def test_last_modified_follows_the_clock_and_date_does_not(timed: Emulator, wire: Signed) -> None:
    timed.clock.advance(400 * DAY)
    wire.ok("PUT", "/key", b"data")
    answer = wire.ok("HEAD", "/key")  # its signature is of today and good
    shown = parsedate_to_datetime(answer.headers["Last-Modified"]).timestamp()
    assert abs(shown - time.time() - 400 * DAY) < 600
    assert abs(parsedate_to_datetime(answer.headers["Date"]).timestamp() - time.time()) < 600


def test_clock_stays_moved_over_a_restart(tmp_path: Path) -> None:
    with Emulator(tmp_path / "data") as emulator:
        emulator.clock.advance(DAY)
        emulator.stop()
        emulator.start()
        assert emulator.service.emulation.store.clock() > time.time() + DAY - 600


# --- listings that lag behind


def test_stale_listings_show_an_earlier_state(timed: Emulator, wire: Signed) -> None:
    for key in ("changed", "gone", "same"):
        wire.ok("PUT", f"/{key}", b"1")
    timed.faults.stale(500)
    wire.ok("PUT", "/changed", b"22")
    wire.ok("PUT", "/changed", b"333")
    wire.ok("PUT", "/new/one", b"1")
    wire.ok("DELETE", "/gone")

    listed = wire.ok("GET", "/")
    assert listed.texts("Contents/Key") == ["changed", "gone", "same"]
    assert listed.texts("Contents/Size") == ["1", "1", "1"]
    assert wire.listed("marker=changed&max-keys=1") == ["gone"]
    assert wire("HEAD", "/gone").status == 404  # only listings lag
    assert wire.ok("HEAD", "/new/one")

    timed.clock.advance(501)
    listed = wire.ok("GET", "/?delimiter=/")
    assert listed.texts("Contents/Key") == ["changed", "same"]
    assert listed.texts("Contents/Size") == ["3", "1"]
    assert listed.texts("CommonPrefixes/Prefix") == ["new/"]


def test_stale_listings_with_versions(timed: Emulator, wire: Signed) -> None:
    wire.versioning()
    wire.ok("PUT", "/a", b"1")
    timed.faults.stale(500)
    wire.ok("DELETE", "/a")
    assert wire.listed() == ["a"]
    timed.faults.clear()
    assert wire.listed() == []


# --- data of an earlier version


def test_data_directory_without_the_newer_columns_is_opened(ask: Asker) -> None:
    ask("PUT", "/key", b"data")
    ask.close()
    database = sqlite3.connect(ask.root / "metadata.sqlite")
    for column in ("replication", "accessed"):
        database.execute(f"ALTER TABLE versions DROP COLUMN {column}")
    database.execute("DROP TABLE replications")
    database.commit()
    database.close()
    ask.open()
    assert ask.get("key") == b"data"
    ask("PUT", "/other", b"more")
    assert ask.get("other") == b"more"
    assert ask.store.bucket(BUCKET)
