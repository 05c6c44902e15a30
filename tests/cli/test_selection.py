"""The options that choose what of a source is taken, on cp, mv and rm."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from cosfs.client.client import CosClient
    from cosfs.emulator import Emulator

Run = Callable[..., Any]


def keys(client: CosClient, bucket: str, prefix: str = "") -> list[str]:
    return [info.key[len(prefix) :] for info in client.list_objects(bucket, prefix=prefix).objects]


def put(client: CosClient, bucket: str, *names: str) -> None:
    for number, name in enumerate(names):
        client.put_object(bucket, name, b"x" * number)


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """d with files of 0 to 4 bytes: a, b, s/c, s/d, t/e; b is of 2001."""
    for number, name in enumerate(("a", "b", "s/c", "s/d", "t/e")):
        path = tmp_path / "d" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * number)
    os.utime(tmp_path / "d/b", (1e9, 1e9))
    return tmp_path


@pytest.mark.parametrize(
    ("options", "taken"),
    [
        (["--min-size", "2"], ["s/c", "s/d", "t/e"]),
        (["--max-size", "1"], ["a", "b"]),
        (["--min-size", "1", "--max-size", "3"], ["b", "s/c", "s/d"]),
        (["--older-than", "30d"], ["b"]),
        (["--newer-than", "2010-01-01"], ["a", "s/c", "s/d", "t/e"]),
        (["--include", "s/*", "--max-size", "2"], ["s/c"]),
    ],
)
def test_upload_by_size_and_age(
    run: Run, client: CosClient, bucket: str, local: Path, options: list[str], taken: list[str]
) -> None:
    run("cp", "-r", "d", f"cos://{bucket}/p", *options)
    assert keys(client, bucket, "p/") == taken


@pytest.mark.parametrize(
    ("options", "left"),
    [
        (["--min-size", "2"], ["a", "b"]),
        (["--max-size", "1"], ["c/1", "c/2"]),
        (["--older-than", "1h"], ["a", "b", "c/1", "c/2"]),
        (["--newer-than", "1h", "--exclude", "c/*"], ["c/1", "c/2"]),
    ],
)
def test_removal_and_move_by_size_and_age(
    run: Run, client: CosClient, bucket: str, tmp_path: Path, options: list[str], left: list[str]
) -> None:
    for prefix in ("p/", "q/"):
        put(client, bucket, *(prefix + name for name in ("a", "b", "c/1", "c/2")))
    run("rm", f"cos://{bucket}/p/", *options)
    run("mv", "-r", f"cos://{bucket}/q/", "out", *options)
    assert keys(client, bucket, "p/") == keys(client, bucket, "q/") == left


def test_upload_of_listed_files(run: Run, client: CosClient, bucket: str, local: Path) -> None:
    (local / "list").write_text("t/e\na\n# comment\nd/a\ns\n")
    result = run("cp", "d", f"cos://{bucket}", "--files-from", "list", code=1)
    assert keys(client, bucket) == ["a", "t/e"]
    assert "upload failed: d/d/a: no such file" in result.err
    assert "upload failed: d/s: is a directory" in result.err


def test_copy_and_download_of_listed_objects_list_nothing(
    run: Run, client: CosClient, bucket: str, local: Path, emulator: Emulator
) -> None:
    put(client, bucket, "p/a", "p/b c", "p/s/d", "p/other")
    (local / "list").write_bytes(b"s/d\0b c\0missing\0")
    emulator.requests.reset()
    result = run("cp", f"cos://{bucket}/p", "out", "--files-from0", "list", code=1)
    assert sorted(str(path.relative_to(local / "out")) for path in (local / "out").rglob("*")) == [
        "b c",
        "s",
        "s/d",
    ]
    assert f"download failed: cos://{bucket}/p/missing" in result.err
    assert emulator.requests["ListObjects"] == 0
    run("cp", f"cos://{bucket}/p", f"cos://{bucket}/q", "--files-from0", "list", code=1)
    assert keys(client, bucket, "q/") == ["b c", "s/d"]


def test_removal_of_listed_objects(
    run: Run, client: CosClient, bucket: str, tmp_path: Path, emulator: Emulator
) -> None:
    put(client, bucket, "p/a", "p/b", "p/c", "p/d")
    (tmp_path / "list").write_text(f"a\ncos://{bucket}/p/b\nmissing\n")
    emulator.requests.reset()
    run("rm", f"cos://{bucket}/p/", "--files-from", "list")
    assert emulator.requests["ListObjects"] == 0 and emulator.requests["DeleteObjects"] == 1
    assert keys(client, bucket) == ["p/c", "p/d"]
    (tmp_path / "list").write_text("c\nd\n")
    run("rm", f"cos://{bucket}/p/", "--files-from", "list", "--min-size", "3")
    assert keys(client, bucket) == ["p/c"]


@pytest.mark.parametrize(
    "options",
    [
        ["-r", "--min-size", "many"],
        ["-r", "--max-size", "-1"],
        ["-r", "--newer-than", "yesterday"],
        ["-r", "--older-than", "2020-02-31"],
        ["-r", "--include", "[a"],
        ["-r", "--exclude-from", "missing"],
        ["--files-from", "missing"],
        ["--files-from", "outside"],
    ],
)
@pytest.mark.parametrize("command", ["cp", "mv", "rm"])
def test_what_cannot_be_read_is_a_usage_error_before_any_request(
    run: Run, bucket: str, local: Path, emulator: Emulator, command: str, options: list[str]
) -> None:
    (local / "outside").write_text("cos://other-1250000000/x\n")
    places = [f"cos://{bucket}/p/"] if command == "rm" else [f"cos://{bucket}/p/", "out"]
    emulator.requests.reset()
    run(command, *places, *options, code=252)
    assert emulator.requests.total == 0


@pytest.mark.parametrize("option", [["--min-size", "1"], ["--newer-than", "1d"], ["--include", "*"]])
def test_filters_need_recursive(run: Run, bucket: str, local: Path, option: list[str]) -> None:
    result = run("cp", "d/a", f"cos://{bucket}/a", *option, code=252)
    assert "need --recursive" in result.err
