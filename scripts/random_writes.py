"""Write at random into files of a directory, as databases do, and compare with a twin on the local disk.

usage: random_writes.py DIRECTORY
Leaves table.db and bytes.bin there; exit code 1 if they differ from their twins.
"""

from __future__ import annotations

import os
import random
import sqlite3
import sys
import tempfile
from pathlib import Path

ROWS = 2_000
SIZE = 4 * 1024 * 1024
WRITES = 300


def fill_table(path: Path) -> list[tuple[int, str]]:
    """Insert, update and delete in several transactions; return what the table then holds."""
    chance = random.Random(1)
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE words (id INTEGER PRIMARY KEY, word TEXT)")
    connection.executemany(
        "INSERT INTO words VALUES (?, ?)", ((n, "x" * chance.randrange(200)) for n in range(ROWS))
    )
    connection.commit()
    for n in range(5):
        connection.execute("UPDATE words SET word = ? WHERE id % 7 = ?", (f"changed {n}", n))
        connection.execute("DELETE FROM words WHERE id % 11 = ?", (n,))
        connection.commit()
    connection.close()
    connection = sqlite3.connect(path)  # once more from the file
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    rows = connection.execute("SELECT id, word FROM words ORDER BY id").fetchall()
    connection.close()
    return rows


def write_bytes(path: Path) -> None:
    """Write pieces at random places, cut the file, make it grow again."""
    chance = random.Random(2)
    path.write_bytes(chance.randbytes(SIZE))
    with path.open("r+b", buffering=0) as file:
        for n in range(WRITES):
            os.pwrite(file.fileno(), chance.randbytes(chance.randrange(1, 9_000)), chance.randrange(SIZE))
            if n % 100 == 99:
                file.truncate(chance.randrange(SIZE // 2, SIZE))
        os.pwrite(file.fileno(), b"beyond the end", SIZE + 100_000)
        os.fsync(file.fileno())


def main() -> int:
    there = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        rows = fill_table(there / "table.db")
        same_rows = rows == fill_table(here / "table.db")
        print(
            f"table.db: {len(rows)} rows after inserts, updates and deletes:",
            "equal" if same_rows else "DIFFERENT",
        )
        write_bytes(there / "bytes.bin")
        write_bytes(here / "bytes.bin")
        same_bytes = (there / "bytes.bin").read_bytes() == (here / "bytes.bin").read_bytes()
        print(f"bytes.bin: {WRITES} writes at random places:", "equal" if same_bytes else "DIFFERENT")
    return 0 if same_rows and same_bytes else 1


if __name__ == "__main__":
    raise SystemExit(main())
