from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from cosfs.client.model import Headers, ObjectInfo
from cosfs.fs import attrdb
from cosfs.fs.attrdb import AttributeStore

BUCKET = "b-1250000000"


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The levels of what a store logged: threads of tests that have ended may log as well."""
    return [record.levelname for record in caplog.records if record.name == attrdb.__name__]


HEADERS = Headers(
    content_type="text/plain",
    cache_control="no-cache",
    content_disposition="inline",
    content_encoding="gzip",
    content_language="de",
    expires="0",
    storage_class="STANDARD_IA",
    metadata={"mode": "33188", "mtime": "5"},
    extra={"x-cos-acl": "private"},
)


def listed(key: str = "k", etag: str = "e", modified: float = 1_700_000_000.25) -> ObjectInfo:
    return ObjectInfo(key, 5, etag, modified)


def full(key: str = "k", etag: str = "e", modified: float = 1_700_000_000.0) -> ObjectInfo:
    return ObjectInfo(key, 5, etag, modified, crc64=(1 << 64) - 2, version_id="v", headers=HEADERS)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "attributes.db"


@contextmanager
def opened(path: Path, max_rows: int = 1000) -> Iterator[AttributeStore]:
    store = AttributeStore(path, max_rows=max_rows)
    try:
        yield store
    finally:
        store.close()


@pytest.mark.parametrize("reopen", [False, True])
def test_listed_objects_get_what_was_remembered(path: Path, reopen: bool) -> None:
    bare = replace(full("bare"), headers=Headers(), crc64=None, version_id="")
    with opened(path) as store:
        store.put_many([(BUCKET, full()), (BUCKET, bare), ("other-1250000000", full("x"))])
        if not reopen:
            found = store.get_many(BUCKET, [listed(), listed("x"), listed("bare")])
    if reopen:
        with opened(path) as store:
            found = store.get_many(BUCKET, [listed(), listed("x"), listed("bare")])
    # Time and size are the listing's, which knows them as well or better.
    assert found == {
        "k": replace(full(), last_modified=1_700_000_000.25),
        "bare": replace(bare, last_modified=1_700_000_000.25),
    }


@pytest.mark.parametrize("changed", [listed(etag="f"), listed(modified=1_700_000_001.0)])
def test_changed_objects_are_not_known(path: Path, changed: ObjectInfo) -> None:
    with opened(path) as store:
        store.put_many([(BUCKET, full())])
        assert store.get_many(BUCKET, [changed]) == {}
    with opened(path) as store:
        assert store.get_many(BUCKET, [changed]) == {}
        store.put_many([(BUCKET, full(etag=changed.etag, modified=changed.last_modified))])
    with opened(path) as store:
        assert list(store.get_many(BUCKET, [changed])) == ["k"]
        assert store.get_many(BUCKET, [listed()]) == {}


def test_only_whole_answers_are_kept(path: Path) -> None:
    archived = replace(full("cold"), storage_class="ARCHIVE")
    with opened(path) as store:
        store.put_many([(BUCKET, listed()), (BUCKET, archived)])
        asked = [listed(), replace(listed("cold"), storage_class="ARCHIVE")]
        assert store.get_many(BUCKET, asked) == {}


def test_the_oldest_are_forgotten(path: Path) -> None:
    with opened(path, max_rows=10) as store:
        store.put_many((BUCKET, full(f"{number:02}")) for number in range(10))
    with opened(path, max_rows=10) as store:
        store.put_many([(BUCKET, full("00")), (BUCKET, full("10"))])
    with opened(path, max_rows=10) as store:
        found = store.get_many(BUCKET, [listed(f"{number:02}") for number in range(11)])
        assert sorted(found) == ["00", *(f"{number:02}" for number in range(2, 11))]


def test_is_written_without_being_closed(path: Path) -> None:
    with opened(path) as store:
        store.put_many([(BUCKET, full())])
        deadline = time.monotonic() + 90
        with sqlite3.connect(path) as other:
            while not other.execute("SELECT count(*) FROM objects").fetchone()[0]:
                assert time.monotonic() < deadline
                time.sleep(0.02)
        other.close()


@pytest.mark.parametrize("content", [b"no database at all" * 500, b"SQLite format 3\0" + b"\xff" * 5000])
def test_damaged_database_starts_empty(path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with opened(path) as store:
        store.put_many([(BUCKET, full())])
    with opened(path) as store:
        assert list(store.get_many(BUCKET, [listed()])) == ["k"]
    assert said(caplog) == ["WARNING"]


def test_damage_under_way_starts_empty(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with opened(path) as store:
        store.put_many((BUCKET, full(str(number))) for number in range(2000))
    damaged = bytearray(path.read_bytes())
    damaged[4096:] = b"\xff" * (len(damaged) - 4096)
    with opened(path, max_rows=5000) as store:
        path.write_bytes(damaged)
        asked = [listed(str(number)) for number in range(2000)]
        store.get_many(BUCKET, asked)
        store.put_many([(BUCKET, full("7"))])
    with opened(path) as store:
        assert list(store.get_many(BUCKET, asked)) == ["7"]
    assert set(said(caplog)) == {"WARNING"}


def test_nonsense_in_a_row_is_a_miss(path: Path) -> None:
    with opened(path) as store:
        store.put_many((BUCKET, full(str(number))) for number in range(4))
    with sqlite3.connect(path) as other:
        other.execute("UPDATE objects SET headers = '{' WHERE name LIKE '%/1'")
        other.execute("UPDATE objects SET headers = '{\"what\": 1}' WHERE name LIKE '%/2'")
    other.close()
    with opened(path) as store:
        found = store.get_many(BUCKET, [listed(str(number)) for number in range(4)])
    assert sorted(found) == ["0", "3"]


def test_another_version_of_the_format_starts_empty(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE objects (something)")
        other.execute("PRAGMA user_version = 99")
    other.close()
    with opened(path) as store:
        store.put_many([(BUCKET, full())])
    with opened(path) as store:
        assert list(store.get_many(BUCKET, [listed()])) == ["k"]


def test_unusable_path_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_bytes(b"")
    with opened(tmp_path / "file" / "attributes.db") as store:
        store.put_many([(BUCKET, full())])
    assert said(caplog) == ["WARNING"]


def test_many_threads_at_once(path: Path) -> None:
    failures: list[BaseException] = []
    names = [str(number) for number in range(300)]

    def work(seed: int) -> None:
        try:
            for number in range(seed, 300, 4):
                store.put_many([(BUCKET, full(names[number]))])
                assert names[number] in store.get_many(BUCKET, [listed(name) for name in names])
        except BaseException as error:
            failures.append(error)

    with opened(path) as store:
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert len(store.get_many(BUCKET, [listed(name) for name in names])) == 300


def test_a_page_of_a_listing_costs_two_searches_of_an_index(path: Path) -> None:
    statements: list[str] = []
    with opened(path, max_rows=100_000) as store:
        store.put_many((BUCKET, full(f"photos/image-{number:04}.jpg")) for number in range(3000))
    with opened(path, max_rows=100_000) as store:
        connection = store._connection
        assert connection is not None
        connection.set_trace_callback(statements.append)
        page = [listed(f"photos/image-{number:04}.jpg") for number in range(1000, 2000)]
        assert len(store.get_many(BUCKET, page)) == 1000
        connection.set_trace_callback(None)
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statements[0]}")]
    assert len(statements) == 2
    assert all(step.startswith("SEARCH") for step in plan)
