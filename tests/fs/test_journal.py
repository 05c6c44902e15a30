"""What must survive the process."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from cosfs.errors import ConfigError, FilesystemError
from cosfs.fs.journal import Journal
from cosfs.fs.recovery import left_over
from tests.waiting import until


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_records_come_back_in_order(directory: Path) -> None:
    journal = Journal(directory)
    one = journal.add("file", "b", "k", {"content": {"path": ""}})
    two = journal.add("delete", "b", "ünï/cödé\n", {"etag": "e"})
    journal.replace(one, "open", "b2", "k2", {"x": [1, None]})
    journal.close()
    again = Journal(directory)
    assert [(r.id, r.kind, r.bucket, r.key, r.body) for r in again.records()] == [
        (one, "open", "b2", "k2", {"x": [1, None]}),
        (two, "delete", "b", "ünï/cödé\n", {"etag": "e"}),
    ]
    again.remove(one, two)
    assert again.records() == []
    again.close()


def test_numbers_are_never_used_twice(directory: Path) -> None:
    journal = Journal(directory)
    first = journal.add("delete", "b", "k", {})
    journal.remove(first)
    assert journal.add("delete", "b", "k", {}) > first
    journal.close()


def test_many_records_are_written_together_or_not_at_all(directory: Path) -> None:
    journal = Journal(directory)
    numbers = journal.add_many("delete", "b", [(f"k{i}", {"etag": str(i)}) for i in range(100)])
    assert [r.id for r in journal.records()] == numbers
    with pytest.raises(TypeError):
        journal.add_many("delete", "b", [("fine", {}), ("bad", {"x": object()})])
    assert len(journal.records()) == 100
    journal.remove(*numbers)
    assert journal.records() == []
    journal.close()


def test_a_killed_process_loses_nothing(directory: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from cosfs.fs.journal import Journal\n"
        "j = Journal(Path(sys.argv[1])); j.add('file', 'b', 'k', {'n': 1}); j.sync(); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(directory)])
    assert done.returncode == -9
    journal = Journal(directory)
    assert [(r.key, r.body) for r in journal.records()] == [("k", {"n": 1})]
    journal.close()


def test_sync_does_not_hold_up_others(directory: Path) -> None:
    journal = Journal(directory)
    journal.sync()
    with journal._lock:
        thread = threading.Thread(target=journal.sync)
        thread.start()
        thread.join(90)
        assert not thread.is_alive()
    journal.close()


def test_staging_files_go_when_no_loss_of_power_brings_their_record_back(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cosfs.fs.journal.RETIRED_FOR", 1000.0)
    forced: list[bool] = []
    journal = Journal(directory)
    path = journal.staging / "sent.data"
    path.write_bytes(b"x")
    number = journal.add("file", "b", "k", {"content": {"path": path.name}})
    journal.sync()
    journal.remove(number)
    fdatasync = os.fdatasync

    def force(fd: int) -> None:
        forced.append(path.exists())
        fdatasync(fd)

    monkeypatch.setattr(os, "fdatasync", force)
    journal.retire(path)
    assert path.exists()
    journal.sync()
    assert forced == [True] and not path.exists()
    path.write_bytes(b"x")
    journal.retire(path)
    journal.close()
    assert not path.exists()


def test_retired_files_outlive_a_thread_that_cannot_be_started(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(directory)
    files = [journal.staging / name for name in ("one", "two")]
    for path in files:
        path.write_bytes(b"x")

    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        journal.retire(files[0])
    monkeypatch.setattr("cosfs.fs.journal.RETIRED_FOR", 0.0)
    journal.retire(files[1])
    until(lambda: not any(path.exists() for path in files), "both are removed")
    journal.close()


def test_a_disk_that_takes_nothing_any_more_is_told_of(directory: Path) -> None:
    journal = Journal(directory)
    journal._db.execute("pragma query_only = on")
    with pytest.raises(FilesystemError) as caught:
        journal.add("file", "b", "k", {})
    assert caught.value.errno == errno.EIO
    assert "disk of the cache directory" in caught.value.hint
    journal.close()


def test_nothing_is_safe_in_a_directory_that_was_removed(directory: Path) -> None:
    journal = Journal(directory)
    journal.add("file", "b", "k", {})
    journal.sync()
    shutil.rmtree(directory)
    journal.add("file", "b", "l", {})
    with pytest.raises(OSError) as caught:
        journal.sync()
    assert caught.value.errno == errno.EIO
    journal.close()


def test_many_retired_bytes_do_not_wait(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cosfs.fs.journal.RETIRED_FOR", 1000.0)
    monkeypatch.setattr("cosfs.fs.journal.RETIRED_MOST", 10_000)
    journal = Journal(directory)
    paths = [journal.staging / f"{number}.data" for number in range(4)]
    for path in paths:
        path.write_bytes(b"x" * 5000)
        journal.retire(path)
    until(lambda: not any(path.exists() for path in paths[:2]), "they are removed")
    journal.close()


def test_sweep_removes_staging_files_that_no_record_names(directory: Path) -> None:
    journal = Journal(directory)
    named, stray = journal.staging / "named.data", journal.staging / "stray.data"
    for path in (named, stray):
        path.write_bytes(b"x")
    journal.add("file", "b", "k", {"content": {"path": str(named)}})
    journal.add("delete", "b", "other", {})
    assert journal.sweep() == [stray]
    assert list(journal.staging.iterdir()) == [named]
    journal.close()


def test_staging_files_are_private(directory: Path) -> None:
    journal = Journal(directory)
    assert journal.staging.stat().st_mode & 0o777 == 0o700
    journal.close()


def test_a_full_disk_leaves_the_journal_usable(directory: Path) -> None:
    journal = Journal(directory)
    journal.add("file", "b", "k", {})
    pages = journal._db.execute("pragma page_count").fetchone()[0]
    journal._db.execute(f"pragma max_page_count = {pages}")
    with pytest.raises(FilesystemError) as failure:
        journal.add_many("file", "b", [("k", {"x": "y" * 10_000})] * 3)
    assert failure.value.errno == errno.ENOSPC
    journal._db.execute("pragma max_page_count = 1000000")
    journal.add("delete", "b", "k", {})
    assert [r.kind for r in journal.records()] == ["file", "delete"]
    journal.close()


def test_a_transaction_that_fails_leaves_no_number_that_is_another_record_later(directory: Path) -> None:
    """Whoever writes a record keeps its number, and writes it anew when there is room again."""
    journal = Journal(directory)
    done = journal.add("delete", "b", "done", {})
    pages = journal._db.execute("pragma page_count").fetchone()[0]
    journal._db.execute(f"pragma max_page_count = {pages}")
    with pytest.raises(FilesystemError), journal.together():
        mine = journal.add("file", "b", "mine", {"x": 1})
        journal.remove(done)
        journal.add("file", "b", "too large", {"x": "y" * 30_000})
    journal._db.execute("pragma max_page_count = 1000000")
    other = journal.add("file", "b", "other", {})
    journal.replace(mine, "file", "b", "mine", {"x": 2})
    journal.remove()
    found = {r.id: (r.key, r.body) for r in journal.records()}
    assert found == {mine: ("mine", {"x": 2}), other: ("other", {})}
    journal.close()


def test_a_log_made_longer_ahead_holds_what_is_written_into_it(directory: Path) -> None:
    """Round after round, also when SQLite begins the log anew, and after a kill."""
    script = (
        "import os, sys; from pathlib import Path; from cosfs.fs.journal import WAL_SIZE, Journal\n"
        "journal = Journal(Path(sys.argv[1]))\n"
        "log = journal.directory / 'journal.db-wal'\n"
        "for i in range(1500):\n"
        "    journal.add('file', 'b', f'k{i}', {'data': 'x' * 4000})\n"
        "    if i % 100 == 0:\n"
        "        journal.sync()\n"
        "        assert log.stat().st_size >= WAL_SIZE\n"
        "os.kill(os.getpid(), 9)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, directory], capture_output=True, text=True)
    assert ended.returncode == -9, ended.stderr
    journal = Journal(directory)
    assert [record.key for record in journal.records()] == [f"k{i}" for i in range(1500)]
    journal.close()


def test_a_log_is_not_made_longer_where_there_is_no_room(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(directory)
    journal.add("file", "b", "before", {})
    log = directory / "journal.db-wal"
    size = log.stat().st_size

    def full(fd: int, data: bytes, offset: int) -> int:
        written = os_pwrite(fd, data[:100], offset)
        assert written
        raise OSError(errno.ENOSPC, "no room")

    os_pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", full)
    journal.sync()
    monkeypatch.undo()
    assert log.stat().st_size == size
    journal.add("file", "b", "after", {})
    assert [record.key for record in journal.records()] == ["before", "after"]
    journal.close()


def test_changes_that_leave_nothing_to_write_write_nothing(directory: Path) -> None:
    journal = Journal(directory)
    kept = journal.add("file", "b", "k", {})
    statements: list[str] = []
    journal._db.set_trace_callback(statements.append)
    with journal.together():
        pass
    assert statements == []
    with pytest.raises(ValueError, match="no"), journal.together():
        journal.remove(kept)
        raise ValueError("no")
    assert statements[0] == "begin immediate" and statements[-1] == "rollback"
    journal._db.set_trace_callback(None)
    assert [record.id for record in journal.records()] == [kept]
    journal.close()


def _empty(directory: Path) -> None:
    (directory / "journal.db").write_bytes(b"")


def _lose(directory: Path) -> None:
    (directory / "journal.db").unlink()


def _rot(directory: Path) -> None:
    """A page in the middle has other bytes."""
    with (directory / "journal.db").open("r+b") as file:
        file.seek(4096 * 3)
        file.write(b"rot " * 1024)


def _rot_a_record(directory: Path) -> None:
    with closing(sqlite3.connect(directory / "journal.db")) as database:
        database.execute("update record set body = substr(body, 2) where id = 1")
        database.commit()


def _cut(directory: Path) -> None:
    os.truncate(directory / "journal.db", 4096 * 2)


def _make_another(directory: Path) -> None:
    _lose(directory)
    with closing(sqlite3.connect(directory / "journal.db")) as database:
        database.execute("create table record (other)")


def _make_newer(directory: Path) -> None:
    with closing(sqlite3.connect(directory / "journal.db")) as database:
        database.execute("pragma user_version = 99")


def _make_a_directory(directory: Path) -> None:
    _lose(directory)
    (directory / "journal.db").mkdir()


def _lose_staging(directory: Path) -> None:
    shutil.rmtree(directory / "staging")
    (directory / "staging").write_bytes(b"")


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (_empty, "it is empty"),
        (_lose, "it is empty"),
        (_rot, "damaged|malformed"),
        (_rot_a_record, "Extra data"),
        (_cut, "damaged|malformed"),
        (_make_another, "no such column"),
        (_make_newer, "newer version"),
        (_make_a_directory, "unable to open"),
        (_lose_staging, "File exists"),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else "",
)
def test_a_damaged_journal_is_told_and_nothing_beside_it_is_touched(
    directory: Path, harm: Callable[[Path], None], says: str
) -> None:
    journal = Journal(directory)
    path = journal.staging / "unsent.data"
    path.write_bytes(b"x")
    for number in range(20):
        journal.add("file", "b", f"k{number}", {"content": {"path": path.name}, "more": "x" * 2000})
    journal.close()
    harm(directory)
    with pytest.raises(ConfigError, match=says) as caught:
        left_over(Journal(directory))
    assert caught.value.hint
    assert harm is _lose_staging or path.read_bytes() == b"x"


def test_a_journal_that_is_gone_is_told_though_nothing_is_staged(directory: Path) -> None:
    """What is small is in the journal alone."""
    journal = Journal(directory)
    journal.add("file", "b", "k", {"content": {"path": "", "data": "eA=="}})
    journal.close()
    _lose(directory)
    with pytest.raises(ConfigError, match="it is empty or gone"):
        Journal(directory)


def test_a_log_without_its_database_is_kept(directory: Path) -> None:
    journal = Journal(directory)
    journal.add("delete", "b", "k", {"etag": "e"})
    shutil.copy(directory / "journal.db-wal", directory / "log")
    journal.close()
    _empty(directory)
    (directory / "log").rename(directory / "journal.db-wal")
    with pytest.raises(ConfigError, match="it is empty"):
        Journal(directory)
    assert (directory / "journal.db-wal").stat().st_size
