"""What is taken by name, size, age and list, without any request."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import Any

import pytest

from cli.filters import Filters, Selection
from cli.places import Local
from cli.selecting import Chosen, Name, read_names, same_bucket
from cosfs.client.url import CosUrl
from cosfs.errors import UsageError
from cosfs.units import parse_moment

OUT = False


@pytest.mark.parametrize(
    ("rules", "size", "modified", "taken"),
    [
        ({}, 0, 0, True),
        ({"min_size": 10}, 9, 0, False),
        ({"min_size": 10}, 10, 0, True),
        ({"max_size": 10}, 10, 0, True),
        ({"max_size": 10}, 11, 0, False),
        ({"newer_than": 5.0}, 0, 5.0, False),
        ({"newer_than": 5.0}, 0, 5.1, True),
        ({"older_than": 5.0}, 0, 5.0, False),
        ({"older_than": 5.0}, 0, 4.9, True),
        ({"min_size": 1, "max_size": 2, "newer_than": 1.0, "older_than": 9.0}, 2, 5.0, True),
        ({"filters": Filters([(OUT, "*.log")])}, 0, 0, True),
        ({"filters": Filters([(OUT, "a*")])}, 0, 0, False),
        ({"names": ["a/b"]}, 0, 0, True),
        ({"names": ["a", "a/bc"]}, 0, 0, False),
    ],
)
def test_each_rule_must_be_satisfied(rules: dict[str, Any], size: int, modified: float, taken: bool) -> None:
    assert Selection(**rules)("a/b", size, modified) is taken


def test_only_directories_on_the_way_to_listed_names_are_looked_at() -> None:
    selection = Selection().only(["x/y/1", "b", "x-", "b"])
    assert selection.names == ["b", "x-", "x/y/1"]
    assert [selection.keeps(path) for path in ("x/", "x/y/", "x/z/", "b/", "b", "x-", "x")] == [
        True, True, False, False, True, True, False,
    ]  # fmt: skip


def test_nothing_asked_for_is_false() -> None:
    assert not Selection() and not Chosen(Selection())
    assert Selection(min_size=0) and Selection(names=[]) and Chosen(Selection(), [])


@pytest.mark.parametrize(
    "text", ["7d", "2h30m", "90", "2020-01-31", "2020-01-31 08:00", "2020-01-31T08:00:00Z"]
)
def test_ages_and_dates_are_points_in_time(text: str) -> None:
    assert 1.57e9 < parse_moment(text) <= time.time()


def test_an_age_is_counted_from_now() -> None:
    before = time.time()
    assert before - 86400 <= parse_moment("1d") <= time.time() - 86400
    assert parse_moment("2020-01-01T00:00:00Z") == 1577836800.0
    assert parse_moment("2020-01-01T08:00:00+08:00") == 1577836800.0


@pytest.mark.parametrize("text", ["", "yesterday", "7x", "-1d", "2020-13-01", "31.12.2020"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="neither an age nor a date"):
        parse_moment(text)


# --- lists of names


def names(tmp_path: Path, data: bytes, source: str | CosUrl, end: bytes = b"\n") -> list[str]:
    (tmp_path / "list").write_bytes(data)
    place = source if isinstance(source, CosUrl) else Local(source)
    found = Chosen(Selection(), list(read_names(str(tmp_path / "list"), end))).below(place).names
    assert found is not None
    return list(found)


def test_lines_are_paths_below_the_source(tmp_path: Path) -> None:
    data = b"# a comment\n\nb\r\n./a/c\nd/x\n./#1\na b \n\xff\n"
    assert names(tmp_path, data, "d/") == ["#1", "a b ", "a/c", "b", "d/x", "\udcff"]


def test_nul_ended_names_are_taken_as_they_are(tmp_path: Path) -> None:
    assert names(tmp_path, b"#a\0b\nc\0d\r\0", "d", b"\0") == ["#a", "b\nc", "d\r"]


def test_whole_names_must_lie_below_the_source(tmp_path: Path) -> None:
    assert names(tmp_path, b"/d/a\nb\n", "/d") == ["a", "b"]
    url = CosUrl("bucket", "p")
    assert names(tmp_path, b"cos://bucket-1250000000/p/a\ncos://bucket/p/b\nc/d\n", url) == ["a", "b", "c/d"]
    for line in (b"cos://bucket/other/a", b"cos://bucke/p/a", b"cos://bucket/p/", b"cos://bucket"):
        with pytest.raises(UsageError, match="is not below"):
            names(tmp_path, line, url)
    for line in (b"/e/a", b"../x", b"a/../../x", b"."):
        with pytest.raises(UsageError, match="is not below"):
            names(tmp_path, line, "/d")


def test_report_gives_what_failed(tmp_path: Path) -> None:
    events = [
        {"v": 1, "type": "transfer", "op": "upload", "status": "ok", "src": "d/done", "dst": "cos://b/done"},
        {
            "v": 1,
            "type": "transfer",
            "op": "upload",
            "status": "failed",
            "src": "d/d/1",
            "dst": "cos://b/d/1",
        },
        {
            "v": 1,
            "type": "transfer",
            "op": "upload",
            "status": "failed",
            "src_b64": "ZC//",
            "dst": "cos://b/x",
        },
        {"v": 1, "type": "summary", "ok": 1, "failed": 2},
    ]
    data = "".join(json.dumps(event, separators=(",", ":")) + "\n" for event in events).encode()
    assert names(tmp_path, data, "d") == ["d/1", "\udcff"]
    assert [each.text for each in read_names(str(tmp_path / "list"), b"\n")] == ["d/d/1", "d/\udcff"]
    with pytest.raises(UsageError, match="neither a name nor an event"):
        names(tmp_path, b'{"v":1,\n', "d")


def test_standard_input_is_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a\n/b\n")))
    assert list(read_names("-", b"\n")) == [Name("a"), Name("/b", whole=True)]


def test_list_that_cannot_be_read_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read the names"):
        list(read_names(str(tmp_path / "missing"), b"\n"))


def test_bucket_may_be_written_without_its_appid() -> None:
    assert same_bucket("b", "b-1250000000") and same_bucket("b-1250000000", "b") and same_bucket("b", "b")
    assert not same_bucket("b", "b-x") and not same_bucket("b", "c-1250000000")
