"""Keys that must not become paths, and directories that must not be followed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosfs.errors import TransferError
from cosfs.transfer.paths import (
    Collisions,
    DestinationRoot,
    decode_key,
    encode_key,
    encode_name,
    key_problem,
    plain_target,
    split_key,
)

HOSTILE = [
    "",
    "/",
    "/a",
    "a//b",
    "a//",
    "..",
    "../x",
    "a/../../x",
    ".",
    "a/./b",
    "a\0b",
    "x" * 256,
    "好" * 86,
]


@pytest.mark.parametrize("key", HOSTILE)
def test_hostile_keys_are_refused_with_a_reason(key: str) -> None:
    assert key_problem(key)


@pytest.mark.parametrize(
    "key", ["a", "a/b", "a/", "...", "a/..b", "x" * 255, "好" * 85, "a\nb", "a\\b", "-rf", " "]
)
def test_odd_keys_are_fine(key: str) -> None:
    assert key_problem(key) == ""


@pytest.mark.parametrize("key", [key for key in HOSTILE if key and len(key) < 80])
def test_encoded_hostile_keys_are_fine_and_decode(key: str) -> None:
    encoded = encode_key(key)
    assert key_problem(encoded) == ""
    assert decode_key(encoded) == key


@pytest.mark.parametrize(
    ("key", "encoded"),
    [
        ("../x", "%2E%2E/x"),
        ("a//b", "a/%2Fb"),
        ("a%2Fb", "a%252Fb"),
        ("100%", "100%"),
        ("a/", "a/"),
        ("a//", "a/%2F"),
    ],
)
def test_encoding(key: str, encoded: str) -> None:
    assert encode_key(key) == encoded


@given(st.text("./%2Fa\0é", min_size=1))
def test_encoding_is_lossless(key: str) -> None:
    encoded = encode_key(key)
    assert decode_key(encoded) == key
    assert key_problem(encoded) == ""


@given(st.lists(st.text("./%2Fa\0", min_size=1), unique=True))
def test_encoding_keeps_keys_apart(keys: list[str]) -> None:
    assert len({split_key(encode_key(key)) for key in keys if not key.endswith("/")}) == len(
        [key for key in keys if not key.endswith("/")]
    )


def test_names_that_are_not_utf8_are_percent_encoded() -> None:
    assert encode_name(b"caf\xe9-\xc3\xa9") == "caf%E9-é"


def test_collisions_are_found_whatever_sorts_between() -> None:
    collisions = Collisions()
    keys = sorted(["a", "a-b", "a.txt", "a/c", "a/c/d", "ab", "ab/", "b/", "b/c", "c"], key=str.encode)
    found = {key: collisions.add(key) for key in keys}
    assert {key: file for key, file in found.items() if file} == {"a/c": "a", "a/c/d": "a", "ab/": "ab"}


def test_target_creates_missing_directories(tmp_path: Path) -> None:
    with DestinationRoot(tmp_path / "new") as root:
        root.target("a/b/file").hold_parent().__exit__()
        root.make_directory("d/e/")
    assert (tmp_path / "new/a/b").is_dir()
    assert (tmp_path / "new/d/e").is_dir()


@pytest.mark.parametrize("key", HOSTILE)
def test_target_refuses_hostile_keys(tmp_path: Path, key: str) -> None:
    with DestinationRoot(tmp_path) as root, pytest.raises(TransferError):
        root.target(key)


def test_planted_symlink_is_not_followed(tmp_path: Path) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    outside.mkdir()
    inside.mkdir()
    (inside / "link").symlink_to(outside)
    with DestinationRoot(inside) as root:
        for key in ("link/file", "link/deeper/file"):
            with pytest.raises(TransferError, match="symbolic link"):
                root.target(key).hold_parent()
    assert list(outside.iterdir()) == []


def test_root_may_be_a_symlink(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with DestinationRoot(tmp_path / "link") as root:
        root.target("a/b").hold_parent().__exit__()
    assert (tmp_path / "real/a").is_dir()


def test_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with DestinationRoot(tmp_path) as root, pytest.raises(NotADirectoryError) as caught:
        root.target("a/b").hold_parent()
    assert caught.value.filename == f"{tmp_path}/a"


def test_walk_leaves_no_descriptor_open(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    (tmp_path / "a").write_text("")
    with DestinationRoot(tmp_path) as root:
        os.close(root.open_directory(["x", "y"]))
        for number in range(100):
            root.target(f"{number}/{number}/file").hold_parent().__exit__()
        with pytest.raises(NotADirectoryError):
            root.open_directory(["a", "b"])
    assert len(list(Path("/proc/self/fd").iterdir())) <= before  # what others left may be collected now


def test_plain_target_makes_the_directories_of_a_path(tmp_path: Path) -> None:
    target = plain_target(tmp_path / "x/y/file")
    target.hold_parent().__exit__()
    assert target.name == "file"
    assert (tmp_path / "x/y").is_dir()
