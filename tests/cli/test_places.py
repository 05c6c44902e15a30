"""Names of sources and destinations, without any request."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.places import (
    Local,
    as_prefix,
    check_overlap,
    destination_key,
    destination_path,
    find_glob,
    name_of,
    operation,
    parse_place,
)
from cosfs.client.url import CosUrl
from cosfs.errors import UsageError


@pytest.mark.parametrize(
    ("destination", "key"),
    [
        ("cos://b", "f"),
        ("cos://b/", "f"),
        ("cos://b/p", "p"),
        ("cos://b/p/", "p/f"),
        ("cos://b/p/q", "p/q"),
        ("cos://b//", "/f"),
    ],
)
def test_destination_key(destination: str, key: str) -> None:
    place = parse_place(destination)
    assert isinstance(place, CosUrl)
    assert destination_key("f", place) == key


def test_destination_path(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    assert destination_path("a", "f") == "f"
    assert destination_path("a", "new/") == "new/a"
    assert destination_path("a", f"{tmp_path}/dir") == f"{tmp_path}/dir/a"
    assert destination_path("a", f"{tmp_path}/dir/") == f"{tmp_path}/dir/a"
    assert destination_path("a", ".") == "./a"
    assert destination_path("a", "/") == "/a"


@pytest.mark.parametrize(("key", "prefix"), [("", ""), ("x", "x/"), ("x/", "x/"), ("x/su", "x/su/")])
def test_recursive_prefix_ends_in_a_slash(key: str, prefix: str) -> None:
    assert as_prefix(key) == prefix


@pytest.mark.parametrize(
    ("text", "name"),
    [("cos://b/x/a", "a"), ("cos://b/x/", "x/"), ("cos://b/x//", "x//"), ("./d/f", "f"), ("d/", "d")],
)
def test_name_of(text: str, name: str) -> None:
    assert name_of(parse_place(text)) == name


def test_operation() -> None:
    local, remote = Local("f"), CosUrl("b", "k")
    assert operation(local, remote) == "upload"
    assert operation(remote, local) == "download"
    assert operation(remote, remote) == "copy"
    with pytest.raises(UsageError, match="neither"):
        operation(local, local)
    with pytest.raises(UsageError, match="bucket"):
        operation(local, CosUrl("", ""))


@pytest.mark.parametrize(
    "text", ["s3://b/k", "https://b.cos.ap-x.myqcloud.com/k?sign=1", "http://b.cos-website/k"]
)
def test_url_of_another_kind_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"Did you mean cos://b/k\?"):
        parse_place(text)


@pytest.mark.parametrize("text", ["cos:/b/k", "cos:b/k", "cos:b:k"])
def test_url_without_its_slashes_is_no_file(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"Did you mean cos://b/k\?"):
        parse_place(text)
    assert parse_place(f"./{text}") == Local(f"./{text}")
    (tmp_path / text.partition("/")[0]).mkdir()
    assert parse_place(text) == Local(text)


@pytest.mark.parametrize(
    ("source", "destination", "recursive"),
    [
        ("cos://b/x", "cos://b/x", False),
        ("cos://b/x", "cos://b/x", True),
        ("cos://b/x", "cos://b/x/", True),
        ("cos://b/x", "cos://b/x/y", True),
        ("cos://b", "cos://b/y", True),
    ],
)
def test_overlap_is_refused(source: str, destination: str, recursive: bool) -> None:
    first, second = parse_place(source), parse_place(destination)
    assert isinstance(first, CosUrl) and isinstance(second, CosUrl)
    with pytest.raises(UsageError):
        check_overlap(first, second, recursive=recursive)


def test_what_does_not_overlap_is_fine() -> None:
    check_overlap(CosUrl("b", "x"), CosUrl("b", "xy"), recursive=True)
    check_overlap(CosUrl("b", "x"), CosUrl("c", "x"), recursive=True)
    check_overlap(CosUrl("b", "x/y"), CosUrl("b", "x"), recursive=True)


@pytest.mark.parametrize(
    ("pattern", "base", "matching", "others"),
    [
        ("logs/*.gz", "logs/", ["logs/a.gz"], ["logs/a.txt", "logs/s/b.gz", "a.gz"]),
        ("logs/**.gz", "logs/", ["logs/a.gz", "logs/s/b.gz"], ["logs/a.txt"]),
        ("l?gs", "", ["logs", "lugs"], ["lgs", "l/gs"]),
        ("a[0-9]", "", ["a1"], ["ab"]),
        ("a[!0-9]", "", ["ab"], ["a1"]),
        ("x/a*/b", "x/", ["x/a1/b"], ["x/a1/c/b"]),
        ("a*\n", "", ["ab\n"], ["ab"]),
        ("a[^0-9]", "", ["ab"], ["a1", "a/"]),
        ("a[]]b", "", ["a]b"], ["ab", "a[]]b"]),
        ("a[!]]b", "", ["axb"], ["a]b", "a/b"]),
        ("a[z-a]", "", [], ["az", "a-"]),
        ("[[]b", "", ["[b"], ["b"]),
        ("[a&&b]", "", ["a", "&"], ["ab"]),
        ("[a||b][~~]", "", ["a~", "|~"], ["a"]),
        ("[a", "", ["[a"], ["a"]),
        ("[\\d]", "", ["d", "\\"], ["1"]),
    ],
)
def test_globs(pattern: str, base: str, matching: list[str], others: list[str]) -> None:
    glob = find_glob(pattern)
    assert glob is not None
    assert glob.base == base
    assert all(glob.matches(key) and key.startswith(glob.prefix) for key in matching)
    assert not any(glob.matches(key) for key in others)


def test_plain_key_is_no_glob() -> None:
    assert find_glob("logs/a.gz") is None
