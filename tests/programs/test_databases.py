"""Programs that lock files and write inside them: databases, counters."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.fuse.support import python, run
from tests.programs.conftest import Place

pytestmark = pytest.mark.fuse

WRITER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=150, isolation_level=None)
for number in range(12):
    db.execute("BEGIN IMMEDIATE")
    count, = db.execute("SELECT count(*) FROM t").fetchone()
    db.execute("INSERT INTO t VALUES (?, ?, ?)", (count, sys.argv[2], "x" * 700))
    db.execute("COMMIT")
"""

SQLITE = """
import sqlite3, sys
path, journal = sys.argv[1:]
db = sqlite3.connect(path)
assert db.execute(f"pragma journal_mode={journal}").fetchone()[0] == journal
db.execute("create table t (k integer primary key, v blob)")
for batch in range(5):
    with db:
        db.executemany("insert into t values (?, ?)", [(batch * 100 + i, bytes(500)) for i in range(100)])
try:
    with db:
        db.execute("delete from t")
        raise KeyError
except KeyError:
    pass
with db:
    db.execute("update t set v = zeroblob(700) where k % 3 = 0")
db.close()
db = sqlite3.connect(path)
assert db.execute("pragma integrity_check").fetchone()[0] == "ok"
assert db.execute("select count(*) from t").fetchone()[0] == 500
db.execute("vacuum")
db.close()
"""

COUNTER = """
import fcntl, sys
for _ in range(25):
    with open(sys.argv[1], "r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        number = int(file.read())
        file.seek(0)
        file.write(str(number + 1))
        file.flush()
        fcntl.flock(file, fcntl.LOCK_UN)
"""

MAPPING = """
import mmap, sys
with open(sys.argv[1], "r+b") as file, mmap.mmap(file.fileno(), 0) as mapping:
    for offset in range(0, len(mapping), 65536):
        mapping[offset : offset + 4] = b"page"
    mapping.flush()
"""


def together(code: str, *calls: tuple[str | Path, ...]) -> None:
    """Run Python code in several processes at once."""
    running = [subprocess.Popen([sys.executable, "-c", code, *map(str, each)]) for each in calls]
    try:
        assert [process.wait(150) for process in running] == [0] * len(calls)
    finally:
        for process in running:
            process.kill()
            process.wait()


@pytest.mark.parametrize("journal", ["delete", "truncate", "persist"])
def test_sqlite_with_several_writers(place: Place, journal: str, tmp_path: Path) -> None:
    path = place.path / "data.db"
    run("sqlite3", path, f"PRAGMA journal_mode={journal}; CREATE TABLE t (k INTEGER PRIMARY KEY, who, v);")
    together(WRITER, *((path, who) for who in ("a", "b", "c")))
    assert run("sqlite3", path, "PRAGMA integrity_check; SELECT count(*), max(k) FROM t;") == "ok\n36|35\n"
    run("sqlite3", path, "DELETE FROM t WHERE k % 2; VACUUM;")
    with path.open("rb") as file:
        os.fsync(file.fileno())
    (tmp_path / "copy.db").write_bytes(place.object("data.db"))
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert copy.execute("SELECT count(*) FROM t").fetchone() == (18,)


def test_sqlite_with_a_write_ahead_log(place: Place, tmp_path: Path) -> None:
    path = place.path / "data.db"
    python(SQLITE, path, "wal")
    with path.open("rb") as file:
        os.fsync(file.fileno())
    (tmp_path / "copy.db").write_bytes(place.object("data.db"))
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        assert copy.execute("pragma integrity_check").fetchone() == ("ok",)


def test_flock_between_processes(place: Place) -> None:
    path = place.path / "count"
    path.write_text("100")
    together(COUNTER, *[(path,)] * 4)
    place.arrives("count", b"200")


def test_flock_of_the_shell(place: Place) -> None:
    path = place.path / "lock"
    pipe = subprocess.PIPE
    holder = subprocess.Popen(["flock", path, "sh", "-c", "echo held; read line"], stdin=pipe, stdout=pipe)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    assert subprocess.run(["flock", "--nonblock", path, "true"], check=False).returncode == 1
    holder.communicate(b"\n", timeout=90)
    run("flock", "--nonblock", path, "true")


def test_mapped_writes(place: Place) -> None:
    size = 512 * 1024 + 100
    (place.path / "mapped").write_bytes(b"." * size)
    python(MAPPING, place.path / "mapped")
    expected = bytearray(b"." * size)
    for offset in range(0, size, 65536):
        expected[offset : offset + 4] = b"page"
    place.arrives("mapped", bytes(expected))
