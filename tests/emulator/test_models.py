"""Listings and versioning over the socket, against models so plain that they can be read."""

from __future__ import annotations

import base64
import hashlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from cosfs.emulator import Emulator
from tests.emulator.signed import Answer, Signed

ALPHABET = "ab/é中 &+%~😀"
KEYS = st.lists(st.text(ALPHABET, min_size=1, max_size=6), min_size=1, max_size=14, unique=True)
STARTS = st.text(ALPHABET, max_size=3)
DELIMITERS = st.sampled_from(["", "/", "a", "中", "&"])
EXAMPLES = hypothesis_settings(max_examples=40)
_numbers = itertools.count()


@dataclass(frozen=True)
class Query:
    """What a listing is asked for; the marker may be any text, and often is one of the keys."""

    prefix: str
    delimiter: str
    marker: str
    limit: int
    encoded: bool

    def item(self, key: str) -> str:
        """Return what a listing shows for a key: itself, or the common prefix that it is below."""
        rest = key[len(self.prefix) :]
        if self.delimiter and self.delimiter in rest:
            return self.prefix + rest[: rest.index(self.delimiter) + 1]
        return key

    def skips(self, key: str) -> bool:
        """Tell whether a key is not behind the marker; one that is a common prefix has all below it done."""
        if key.encode() <= self.marker.encode():
            return True
        return self.item(self.marker) == self.marker != key and self.item(key) == self.marker and (
            self.marker.startswith(self.prefix) and self.marker.endswith(self.delimiter or "\0")
        )  # fmt: skip

    def text(self, marker_name: str, limit_name: str) -> str:
        """Write the query."""
        values = {"prefix": self.prefix, "delimiter": self.delimiter, marker_name: self.marker}
        pairs = [f"{name}={quote(value, safe='')}" for name, value in values.items() if value]
        return "&".join([*pairs, f"{limit_name}={self.limit}", *(["encoding-type=url"] * self.encoded)])

    def decode(self, texts: list[str]) -> list[str]:
        """Read keys of an answer."""
        return [unquote(text) for text in texts] if self.encoded else texts


@st.composite
def queries(draw: Callable[..., object], keys: list[str]) -> Query:
    marker = draw(
        st.one_of(st.just(""), st.sampled_from(keys), STARTS, st.sampled_from(keys).map(lambda k: k[:2]))
    )
    prefix = draw(st.one_of(st.just(""), STARTS, st.sampled_from(keys).map(lambda k: k[:2])))
    return Query(prefix, draw(DELIMITERS), marker, draw(st.integers(1, 8)), draw(st.booleans()))  # type: ignore[arg-type]


def rows_and_groups(query: Query, rows: list[tuple[str, object]]) -> list[tuple[str, object]]:
    """Return the items of a whole listing in order: a row with its detail, a common prefix once with None."""
    items: list[tuple[str, object]] = []
    for key, detail in rows:
        if not key.startswith(query.prefix):
            continue
        item = query.item(key)
        if item == key and not (query.delimiter and query.delimiter in key[len(query.prefix) :]):
            items.append((key, detail))
        elif (item, None) not in items:
            items.append((item, None))
    return items


@pytest.fixture
def fresh(timed: Emulator) -> Iterator[Callable[[], Signed]]:
    """Make buckets within one test."""
    connection = Signed(timed, "")

    def make() -> Signed:
        connection.bucket = timed.create_bucket(f"model{next(_numbers)}")
        return connection

    yield make
    connection.close()


def page(answer: Answer, query: Query, row: str) -> tuple[list[str], list[str], bool]:
    """Return keys, common prefixes and whether there is more."""
    keys, prefixes = answer.texts(f"{row}/Key"), answer.texts("CommonPrefixes/Prefix")
    return query.decode(keys), query.decode(prefixes), answer.texts("IsTruncated") == ["true"]


@EXAMPLES
@given(st.data())
def test_pages_of_objects_equal_a_model(fresh: Callable[[], Signed], data: st.DataObject) -> None:
    keys = data.draw(KEYS)
    wire = fresh()
    for key in keys:
        wire.ok("PUT", f"/{key}", b"x")
    gone = set(data.draw(st.lists(st.sampled_from(keys), max_size=3)))
    for key in gone:
        wire.ok("DELETE", f"/{key}")
    there = [(key, "x") for key in sorted(set(keys) - gone, key=str.encode)]

    for query in data.draw(st.lists(queries(keys), min_size=1, max_size=4)):
        left = rows_and_groups(query, [(key, detail) for key, detail in there if not query.skips(key)])
        expected, more = left[: query.limit], len(left) > query.limit
        shown = ([key for key, row in expected if row], [key for key, row in expected if not row], more)

        first = wire.ok("GET", "/?" + query.text("marker", "max-keys"))
        assert page(first, query, "Contents") == shown
        assert query.decode(first.texts("NextMarker")) == ([expected[-1][0]] if more else [])

        second = wire.ok("GET", "/?list-type=2&" + query.text("start-after", "max-keys"))
        assert page(second, query, "Contents") == shown
        assert second.texts("KeyCount") == [str(len(expected))]
        found = shown[0] + shown[1]
        while second.texts("IsTruncated") == ["true"]:
            token = quote(second.texts("NextContinuationToken")[0], safe="")
            more_of_it = f"/?list-type=2&{query.text('start-after', 'max-keys')}&continuation-token={token}"
            second = wire.ok("GET", more_of_it)
            keys_, groups, _ = page(second, query, "Contents")
            found += keys_ + groups
        assert sorted(found) == sorted(key for key, _ in left)


@EXAMPLES
@given(st.data())
def test_pages_of_versions_and_uploads_equal_a_model(
    fresh: Callable[[], Signed], data: st.DataObject
) -> None:
    keys = data.draw(KEYS)
    wire = fresh()
    wire.versioning()
    versions: dict[str, list[str]] = {}
    uploads: dict[str, list[str]] = {}
    for key in data.draw(st.lists(st.sampled_from(keys), min_size=1, max_size=10)):
        what = data.draw(st.sampled_from(["PUT", "PUT", "DELETE", "upload"]))
        if what == "upload":
            uploads.setdefault(key, []).append(wire.ok("POST", f"/{key}?uploads").texts("UploadId")[0])
        else:
            done = wire.ok(what, f"/{key}", b"x" if what == "PUT" else b"")
            versions.setdefault(key, []).insert(0, done.headers["x-cos-version-id"])

    for query in data.draw(st.lists(queries(keys), min_size=1, max_size=2)):
        _compare_pages(wire, query, versions, "versions", ("key-marker", "version-id-marker"), "VersionId")
        _compare_pages(wire, query, uploads, "uploads", ("key-marker", "upload-id-marker"), "UploadId")


def _compare_pages(
    wire: Signed, query: Query, rows: dict[str, list[str]], kind: str, markers: tuple[str, str], id_name: str
) -> None:
    """Follow a listing to its end and compare the whole with the model."""
    ordered = [
        (key, id_) for key in sorted(rows, key=str.encode) for id_ in rows[key] if not query.skips(key)
    ]
    expected = rows_and_groups(query, list(ordered))
    limit_name = "max-uploads" if kind == "uploads" else "max-keys"
    found: list[tuple[str, object]] = []
    position = query.text(markers[0], limit_name)
    for _ in range(len(expected) + 1):
        answer = wire.ok("GET", f"/?{kind}&{position}")
        nodes = [node for node in answer.tree if node.tag in ("Version", "DeleteMarker", "Upload")]
        shown = [(query.decode([node.findtext("Key") or ""])[0], node.findtext(id_name)) for node in nodes]
        groups = [(group, None) for group in query.decode(answer.texts("CommonPrefixes/Prefix"))]
        assert len(shown) + len(groups) <= query.limit
        found += sorted([*shown, *groups], key=lambda item: item[0].encode())
        if answer.texts("IsTruncated") != ["true"]:
            break
        following = query.decode(answer.texts("NextKeyMarker"))[0]
        rest = Query(query.prefix, query.delimiter, following, query.limit, query.encoded)
        position = rest.text(markers[0], limit_name)
        for id_ in answer.texts(f"Next{'Upload' if kind == 'uploads' else 'Version'}IdMarker"):
            position += f"&{markers[1]}={quote(id_, safe='')}"
    assert found == expected


# --- versioning


@dataclass
class Model:
    """What a bucket holds: by key its versions, newest first, as id and body; no body is a delete marker."""

    status: str = ""
    keys: dict[str, list[tuple[str, bytes | None]]] = field(default_factory=dict)

    def add(self, key: str, told: str | None, body: bytes | None) -> None:
        """Put a version, or a delete marker, on top; told is the id that the answer named."""
        versions = self.keys.setdefault(key, [])
        if self.status != "Enabled":
            versions[:] = [version for version in versions if version[0] != "null"]
        if self.status == "Enabled":
            assert told and told != "null"
            assert told not in [id_ for id_, _ in versions]
        else:
            assert told in (None, "null")
        versions.insert(0, (told if self.status == "Enabled" and told else "null", body))

    def remove(self, key: str, id_: str) -> None:
        """Erase a version."""
        self.keys[key] = [version for version in self.keys[key] if version[0] != id_]

    def current(self, key: str) -> bytes | None:
        """Return what a GET without a version answers."""
        versions = self.keys.get(key)
        return versions[0][1] if versions else None


CHANGES = (
    *("put", "put", "delete", "delete version", "delete version", "delete many"),
    *("copy", "multipart", "Enabled", "Suspended"),
)
NAMES = ("a", "a/b")
STEPS = st.lists(
    st.tuples(
        st.sampled_from(CHANGES),
        st.sampled_from(NAMES),
        st.sampled_from(NAMES),
        st.sampled_from([0, 0, 1, 2]),
    ),
    min_size=4,
    max_size=16,
)


@EXAMPLES
@given(st.sampled_from(["", "Enabled", "Suspended"]), STEPS)
def test_any_sequence_of_changes_equals_a_model(
    fresh: Callable[[], Signed], status: str, steps: list[tuple[str, str, str, int]]
) -> None:
    wire, model = fresh(), Model(status)
    if status:
        wire.versioning(status)
    for number, (step, key, other, place) in enumerate(steps):
        _step(wire, model, step, key, other, place, f"{number}".encode())
        _compare(wire, model, key)
        assert wire.listed() == [name for name in sorted(model.keys) if model.current(name) is not None]
    for key in NAMES:
        _compare(wire, model, key)
    shown = [(key, kind == "Version", id_ or "null", latest) for kind, key, id_, latest in wire.versions()]
    assert shown == [
        (key, body is not None, id_, not index)
        for key in sorted(model.keys)
        for index, (id_, body) in enumerate(model.keys[key])
    ]


def _step(wire: Signed, model: Model, step: str, key: str, other: str, place: int, body: bytes) -> None:
    versions = model.keys.get(key, [])
    match step:
        case "put":
            answer = wire.ok("PUT", f"/{key}", body)
            model.add(key, answer.headers.get("x-cos-version-id"), body)
        case "multipart":
            _multipart(wire, model, key, body)
        case "delete" if model.status:
            answer = wire.ok("DELETE", f"/{key}")
            assert answer.headers["x-cos-delete-marker"] == "true"
            model.add(key, answer.headers["x-cos-version-id"], None)
        case "delete":
            wire.ok("DELETE", f"/{key}")
            model.keys.pop(key, None)
        case "delete version" if place < len(versions):
            id_, content = versions[place]
            answer = wire.ok("DELETE", f"/{key}?versionId={id_}")
            assert answer.headers.get("x-cos-delete-marker") == ("true" if content is None else None)
            model.remove(key, id_)
        case "delete many":
            _delete_many(wire, model)
        case "copy":
            _copy(wire, model, key, other, place)
        case "Enabled" | "Suspended":
            wire.versioning(step)
            model.status = step


def _delete_many(wire: Signed, model: Model) -> None:
    named = "".join(f"<Object><Key>{name}</Key></Object>" for name in NAMES)
    body = f"<Delete>{named}</Delete>".encode()
    md5 = base64.b64encode(hashlib.md5(body).digest()).decode()
    deleted = wire.ok("POST", "/?delete", body, content_md5=md5).tree.findall("Deleted")
    for name, node in zip(NAMES, deleted, strict=True):
        if model.status:
            model.add(name, node.findtext("DeleteMarkerVersionId"), None)
        else:
            model.keys.pop(name, None)


def _multipart(wire: Signed, model: Model, key: str, body: bytes) -> None:
    upload = wire.ok("POST", f"/{key}?uploads").texts("UploadId")[0]
    etag = wire.ok("PUT", f"/{key}?partNumber=1&uploadId={upload}", body).headers["ETag"]
    part = f"<Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part>"
    done = wire.ok(
        "POST", f"/{key}?uploadId={upload}", f"<CompleteMultipartUpload>{part}</CompleteMultipartUpload>"
    )
    told = done.headers.get("x-cos-version-id")
    assert told == "null" if model.status == "Suspended" else bool(told) == bool(model.status)
    model.add(key, told, body)


def _copy(wire: Signed, model: Model, source: str, target: str, place: int) -> None:
    versions = model.keys.get(source, [])
    chosen = f"?versionId={versions[place][0]}" if place < len(versions) else ""
    body = versions[place][1] if chosen else model.current(source)
    answer = wire(
        "PUT", f"/{target}", x_cos_copy_source=f"/{wire.bucket}/{source}{chosen}",
        x_cos_metadata_directive="Replaced",
    )  # fmt: skip
    if body is None:
        assert answer.status >= 400
        return
    assert answer.status == 200, answer.body
    model.add(target, answer.headers.get("x-cos-version-id"), body)


def _compare(wire: Signed, model: Model, key: str) -> None:
    """Look at a key and at each of its versions."""
    current, versions = model.current(key), model.keys.get(key, [])
    answer = wire("GET", f"/{key}")
    assert (answer.status, answer.body if current is not None else b"") == (
        (200, current) if current is not None else (404, b"")
    )
    hidden = bool(versions) and current is None
    assert answer.headers.get("x-cos-delete-marker") == ("true" if hidden else None)
    if model.status and versions:
        assert answer.headers["x-cos-version-id"] == versions[0][0]
    for id_, body in versions:
        answer = wire("HEAD", f"/{key}?versionId={id_}")
        assert answer.status == (200 if body is not None else 404)
        if body is not None:
            assert answer.headers["Content-Length"] == str(len(body))
            assert wire.ok("GET", f"/{key}?versionId={id_}").body == body
