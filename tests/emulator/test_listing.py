"""Listings against a model that sorts everything, page by page, and the seeks that make them quick."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from cosfs.emulator.listing import list_objects, list_uploads, list_versions
from cosfs.emulator.store import Bucket, Bytes, Properties, Store
from cosfs.emulator.uploads import Uploads
from tests.emulator.asking import BUCKET, Asker, texts, xml

KEYS = st.lists(st.text("ab/é~", min_size=1, max_size=6), min_size=1, max_size=25, unique=True)
EMPTY = Bytes([], 0, "d41d8cd98f00b204e9800998ecf8427e", "0")


def model(keys: list[str], prefix: str, delimiter: str) -> list[str]:
    """Return keys and common prefixes in the order of a listing."""
    items = set()
    for key in keys:
        if not key.startswith(prefix):
            continue
        rest = key[len(prefix) :]
        if delimiter and delimiter in rest:
            items.add(prefix + rest[: rest.index(delimiter) + 1])
        else:
            items.add(key)
    return sorted(items, key=str.encode)


@hypothesis_settings(max_examples=60)
@given(KEYS, st.text("ab/é", max_size=2), st.sampled_from(["", "/", "a"]), st.integers(1, 4))
def test_pages_put_together_are_the_whole(
    tmp_path_factory: pytest.TempPathFactory, keys: list[str], prefix: str, delimiter: str, limit: int
) -> None:
    store = _store(tmp_path_factory)
    bucket = _fresh(store)
    uploads = Uploads(store)
    for key in keys:
        store.put(bucket, key, EMPTY, Properties())
        uploads.create(bucket, key, Properties())
    expected = model(keys, prefix, delimiter)

    marker, seen = "", []
    for _ in range(len(expected) + 1):
        page = list_objects(store, bucket, prefix, delimiter, marker, limit)
        got = sorted([row[0].decode() for row in page.rows] + page.prefixes, key=str.encode)
        assert len(got) <= limit
        seen += got
        marker = page.next_marker
        if not page.truncated:
            break
    assert seen == expected

    for lister in (list_versions, list_uploads):
        markers, found = ("", ""), []
        for _ in range(len(expected) + 1):
            page = lister(store, bucket, prefix, delimiter, markers, limit)
            found += sorted([row[0].decode() for row in page.rows] + page.prefixes, key=str.encode)
            last = page.last_row[1] if page.last_row and not page.last_prefix else ""
            markers = (page.next_marker, last)
            if not page.truncated:
                break
        assert found == expected


_opened: list[Store] = []
_numbers = itertools.count()


def _store(factory: pytest.TempPathFactory) -> Store:
    if not _opened:
        _opened.append(Store(factory.mktemp("listing")))
    return _opened[0]


def _fresh(store: Store) -> Bucket:
    name = f"l{next(_numbers)}-1"
    store.create_bucket(name, "x")
    return store.bucket(name)


@pytest.fixture(scope="module", autouse=True)
def _close() -> Iterator[None]:
    yield
    for store in _opened:
        store.close()


def fill(ask: Asker, *keys: str) -> None:
    for key in keys:
        assert ask("PUT", "/" + key, b"x").status == 200


def test_a_marker_that_is_a_common_prefix_skips_what_is_below(ask: Asker) -> None:
    fill(ask, "a/1", "a/2", "b", "c/1")
    page = ask("GET", "/?max-keys=1&delimiter=/")
    assert texts(page, "CommonPrefixes/Prefix") == ["a/"]
    assert texts(page, "NextMarker") == ["a/"]
    assert texts(page, "IsTruncated") == ["true"]
    rest = ask("GET", "/?delimiter=/&marker=a/")
    assert texts(rest, "Contents/Key") == ["b"]
    assert texts(rest, "CommonPrefixes/Prefix") == ["c/"]
    assert texts(rest, "NextMarker") == []


def test_an_object_named_like_the_prefix_is_listed(ask: Asker) -> None:
    fill(ask, "d/", "d/x", "d/e/y")
    page = ask("GET", "/?prefix=d/&delimiter=/")
    assert texts(page, "Contents/Key") == ["d/", "d/x"]
    assert texts(page, "CommonPrefixes/Prefix") == ["d/e/"]
    assert texts(ask("GET", "/?prefix=d/&delimiter=/&marker=d/"), "Contents/Key") == ["d/x"]


def test_order_is_that_of_bytes(ask: Asker) -> None:
    keys = ["Z", "a", "a!", "a-", "a/", "é", "中", "\U0001f600", "\ufb00"]
    bucket = ask.store.bucket(BUCKET)
    for key in keys:
        ask.store.put(bucket, key, EMPTY, Properties())
    listed = [unquote(key) for key in texts(ask("GET", "/?encoding-type=url"), "Contents/Key")]
    assert listed == sorted(keys, key=str.encode)


@pytest.mark.parametrize(
    "key", ["/x", "a//b", "../x", "new\nline", "中 文+&%<>", "k" * 800, "a\\b", "\x01\x7f"]
)
def test_hostile_keys_are_listed_encoded(ask: Asker, key: str) -> None:
    ask.store.put(ask.store.bucket(BUCKET), key, EMPTY, Properties())
    assert texts(ask("GET", "/?encoding-type=url"), "Contents/Key") == [quote(key, safe="/")]
    if key.isprintable():
        assert texts(ask("GET", "/"), "Contents/Key") == [key]


def test_limits_of_a_page(ask: Asker) -> None:
    fill(ask, "a", "b")
    assert texts(ask("GET", "/?max-keys=0"), "IsTruncated") == ["false"]
    assert texts(ask("GET", "/?max-keys=5000"), "MaxKeys") == ["1000"]
    for bad in ("max-keys=-1", "max-keys=x", "encoding-type=base64"):
        assert ask("GET", f"/?{bad}").status == 400
    assert texts(ask("GET", "/?delimiter=ab"), "Code") == ["InvalidDelimiter"]


def test_version_two_serves_s3_tools(ask: Asker) -> None:
    fill(ask, "a", "b/1", "c", "d")
    page = ask("GET", "/?list-type=2&max-keys=2&delimiter=/")
    assert texts(page, "KeyCount") == ["2"]
    assert texts(page, "Contents/Owner") == []
    token = quote(texts(page, "NextContinuationToken")[0])
    rest = ask("GET", f"/?list-type=2&delimiter=/&continuation-token={token}")
    assert texts(rest, "Contents/Key") == ["c", "d"]
    assert texts(ask("GET", "/?list-type=2&start-after=c"), "Contents/Key") == ["d"]
    assert ask("GET", "/?list-type=2&continuation-token=%00").status == 400


def test_fields_of_an_entry(ask: Asker) -> None:
    fill(ask, "a")
    tree = xml(ask("GET", "/"))
    assert [node.tag for node in tree] == ["Name", "Prefix", "Marker", "MaxKeys", "IsTruncated", "Contents"]
    entry = {node.tag: node.text for node in tree.iterfind("Contents/*")}
    assert entry["ETag"] == '"9dd4e461268c8034f5c8564e155c67a6"'
    assert entry["LastModified"] == "2023-11-14T22:13:20.000Z"
    assert entry["Size"] == "1"
    assert entry["StorageClass"] == "STANDARD"
    assert tree.findtext("Contents/Owner/ID") == "1250000000"


def test_a_page_of_many_keys_does_not_read_them_all(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.create_bucket(BUCKET, "x")
    bucket = store.bucket(BUCKET)
    columns = (
        "bucket, key, version, live, marker, size, etag, crc64, modified, storage_class, headers, tags, acl, "
        "appendable, restored, expiry"
    )
    with store.db.transaction():
        store.db.executemany(
            f"INSERT INTO versions ({columns}) "
            "VALUES (?, ?, 'null', 1, 0, 0, '', '0', 0, '', '', '', '', 0, 0, 0)",
            ((bucket.id, f"d{n // 10000:02}/{n % 10000:05}".encode()) for n in range(200_000)),
        )
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 100

    store.db._connection.set_progress_handler(step, 100)  # counts what SQLite does, in steps of its machine
    page = list_objects(store, bucket, "", "/", "", 1000)
    assert page.prefixes == [f"d{n:02}/" for n in range(20)]
    assert list_versions(store, bucket, "", "/", ("", ""), 1000).prefixes == page.prefixes
    assert steps < 5_000
    for marker in ("", "d10/05000", "d19/09000"):
        steps = 0
        assert len(list_objects(store, bucket, "", "", marker, 999).rows) == 999
        assert 5_000 < steps < 50_000  # all keys take two million
    store.close()
