"""The emulator's database on a disk that is full for a while."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path

import pytest

from cosfs.emulator import database
from cosfs.emulator.database import Database
from tests.waiting import until


class FullAtFirst:
    """A connection whose first checkpoints find no room."""

    def __init__(self, connection: sqlite3.Connection, tries: list[bool]) -> None:
        self._connection, self._tries = connection, tries

    def execute(self, sql: str) -> sqlite3.Cursor:
        full = len(self._tries) < 3
        self._tries.append(not full)
        if full:
            raise sqlite3.OperationalError("database or disk is full")
        return self._connection.execute(sql)

    def close(self) -> None:
        self._connection.close()


def test_the_log_is_folded_in_when_there_is_room_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries: list[bool] = []
    connect, connections = Database._connect, iter((False, True))

    def connected(self: Database) -> object:
        connection = connect(self)
        return FullAtFirst(connection, tries) if next(connections) else connection

    monkeypatch.setattr(Database, "_connect", connected)
    monkeypatch.setattr(database, "_CHECKPOINT_EVERY", 0.01)
    with caplog.at_level(logging.WARNING):
        opened = Database(tmp_path / "db")
        until(lambda: True in tries, "a checkpoint succeeds")
        opened.close()
    assert [record.message for record in caplog.records if "grows" in record.message] == [
        f"emulator: the log of {tmp_path / 'db'} is kept and grows: database or disk is full"
    ]


def test_what_ended_a_transaction_is_told_when_sqlite_has_rolled_it_back(tmp_path: Path) -> None:
    opened = Database(tmp_path / "db")
    try:
        with pytest.raises(sqlite3.OperationalError, match="disk is full"), opened.transaction():
            opened.execute("ROLLBACK")  # as SQLite does by itself when it finds no room
            raise sqlite3.OperationalError("database or disk is full")
        with opened.transaction():
            opened.execute("INSERT INTO locks VALUES (1, 2)")
        assert opened.one("SELECT until FROM locks") == (2,)
    finally:
        opened.close()
