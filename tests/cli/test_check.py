"""cos check: what it finds, between which places, and what it says."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cosfs.units import MIB
from tests.transfer.support import content

if TYPE_CHECKING:
    from cosfs.client.client import CosClient
    from cosfs.emulator import Emulator

Run = Callable[..., Any]


@pytest.fixture
def differing(tmp_path: Path, client: CosClient, bucket: str) -> Path:
    """d and cos://bucket/p: same, other (in content), short (in size), here only, there only."""
    for name, text in (("same", "same"), ("s/other", "here"), ("short", "12"), ("here", "x")):
        path = tmp_path / "d" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for key, text in (("same", "same"), ("s/other", "rehe"), ("short", "1"), ("there", "x"), ("marker/", "")):
        client.put_object(bucket, f"p/{key}", text.encode())
    return tmp_path


def test_equal_trees(run: Run, client: CosClient, bucket: str, tmp_path: Path, emulator: Emulator) -> None:
    (tmp_path / "d").mkdir()
    for number in range(20):
        (tmp_path / "d" / str(number)).write_text(str(number))
    run("sync", "d", f"cos://{bucket}/p")
    emulator.requests.reset()
    assert run("check", "d", f"cos://{bucket}/p").out == ""
    assert emulator.requests.snapshot() == {"ListObjects": 1}


def test_golden_output(run: Run, bucket: str, differing: Path) -> None:
    there = f"cos://{bucket}/p"
    lines = [
        f"differs: d/s/other and {there}/s/other: content",
        f"differs: d/short and {there}/short: size 2 and 1",
        f"extra: {there}/there",
        f"missing: {there}/here",
    ]
    for output in ((), ("--output", "text"), ("--output", "table")):
        assert sorted(run("check", "d", there, *output, code=1).lines) == lines
    reverse = run("check", there, "d", code=1)
    assert "missing: d/there" in reverse.lines and "extra: d/here" in reverse.lines


def test_golden_json(run: Run, bucket: str, differing: Path) -> None:
    there = f"cos://{bucket}/p"
    events = run("check", "d", there, "--output", "jsonl", "--report", "r", code=1).events
    assert sorted(events[:-1], key=lambda event: str(event["dst"])) == [
        {"v": 1, "type": "check", "status": "missing", "src": "d/here", "dst": f"{there}/here"},
        {
            "v": 1, "type": "check", "status": "differs", "src": "d/s/other", "dst": f"{there}/s/other",
            "reason": "content",
        },
        {
            "v": 1, "type": "check", "status": "differs", "src": "d/short", "dst": f"{there}/short",
            "reason": "size 2 and 1",
        },
        {"v": 1, "type": "check", "status": "extra", "dst": f"{there}/there"},
    ]  # fmt: skip
    assert events[-1] | {"unchanged": 1, "different": 4, "exit": 1} == events[-1]
    lines = (differing / "r").read_text().splitlines()
    assert [json.loads(line)["type"] for line in lines][-5:] == ["check"] * 4 + ["summary"]
    document = run("check", "d", there, "--output", "json", code=1).json
    assert len(document["Results"]) == 4 and document["Summary"]["different"] == 4


def test_options(run: Run, bucket: str, differing: Path) -> None:
    there = f"cos://{bucket}/p"
    assert len(run("check", "d", there, "--size-only", code=1).lines) == 3
    assert "extra" not in run("check", "d", there, "--one-way", code=1).out
    run("check", "d", there, "--include", "same")
    run("check", "d", there, "--exclude", "*her*", "--exclude", "short")
    assert run("check", "d", there, "--quiet", code=1).out == ""


def test_download_compares_every_byte(run: Run, client: CosClient, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/f").write_bytes(content(3 * MIB + 5))
    client.put_object(bucket, "p/f", content(3 * MIB + 5))
    client.put_object(bucket, "q/f", content(3 * MIB + 4) + b"?")
    run("check", "d", f"cos://{bucket}/p", "--download")
    run("check", "d", f"cos://{bucket}/q", "--download", code=1)
    run("check", f"cos://{bucket}/p", f"cos://{bucket}/q", "--download", code=1)


def test_what_came_in_parts_is_compared_by_its_crc(
    run: Run, bucket: str, tmp_path: Path, emulator: Emulator
) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/f").write_bytes(content(20 * MIB))
    run("sync", "d", f"cos://{bucket}/p")
    emulator.requests.reset()
    run("check", "d", f"cos://{bucket}/p")
    assert emulator.requests.snapshot() == {"ListObjects": 1, "HeadObject": 1}
    with (tmp_path / "d/f").open("r+b") as file:
        file.seek(10 * MIB)
        file.write(b"changed")
    run("check", "d", f"cos://{bucket}/p", code=1)


def test_objects_that_kms_encrypts_are_compared_by_their_crc(run: Run, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/f").write_bytes(b"content")
    for prefix in ("p", "q"):
        run("sync", "d", f"cos://{bucket}/{prefix}", "--sse", "cos/kms")
    run("check", "d", f"cos://{bucket}/p")
    run("check", f"cos://{bucket}/p", f"cos://{bucket}/q")
    (tmp_path / "d/f").write_bytes(b"CONTENT")
    run("check", "d", f"cos://{bucket}/p", code=1)
    run("sync", "d", f"cos://{bucket}/q", "--checksum", "--sse", "cos/kms")
    run("check", f"cos://{bucket}/p", f"cos://{bucket}/q", code=1)


def test_two_directories_and_two_buckets(run: Run, client: CosClient, bucket: str, differing: Path) -> None:
    run("sync", f"cos://{bucket}/p", "e")
    assert sorted(run("check", "d", "e", code=1).lines) == [
        "differs: d/s/other and e/s/other: content",
        "differs: d/short and e/short: size 2 and 1",
        "extra: e/there",
        "missing: e/here",
    ]
    run("check", "d", "d")
    run("sync", f"cos://{bucket}/p", f"cos://{bucket}/q")
    run("check", f"cos://{bucket}/p", f"cos://{bucket}/q")
    client.put_object(bucket, "q/same", b"SAME")
    result = run("check", f"cos://{bucket}/p", f"cos://{bucket}/q", code=1)
    assert result.lines == [f"differs: cos://{bucket}/p/same and cos://{bucket}/q/same: content"]


def test_single_files(run: Run, client: CosClient, bucket: str, differing: Path) -> None:
    key = f"cos://{bucket}/p"
    run("check", "d/same", f"{key}/same")
    run("check", "d/same", f"{key}/")
    run("check", f"{key}/same", "d")
    run("check", f"{key}/same", f"{key}/")
    assert run("check", "d/short", f"{key}/same", code=1).lines == [
        f"differs: d/short and {key}/same: size 2 and 4"
    ]
    assert run("check", "d/short", f"{key}/nowhere", code=1).lines == [f"missing: {key}/nowhere"]


def test_names_that_no_path_can_have(run: Run, client: CosClient, bucket: str, tmp_path: Path) -> None:
    client.put_object(bucket, "p/a//b", b"x")
    client.put_object(bucket, "p/..", b"y")
    run("sync", f"cos://{bucket}/p", "d", "--key-policy", "encode")
    run("check", f"cos://{bucket}/p", "d", "--key-policy", "encode")
    run("check", f"cos://{bucket}/p", "d", code=1)


def test_what_cannot_be_read_is_told(
    run: Run, client: CosClient, bucket: str, tmp_path: Path, emulator: Emulator
) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/link").symlink_to("nowhere")
    assert "link" in run("check", "d", f"cos://{bucket}/p", code=2).err
    os.unlink(tmp_path / "d/link")  # noqa: PTH108
    (tmp_path / "d/f").write_bytes(content(20 * MIB))
    run("sync", "d", f"cos://{bucket}/p")
    emulator.faults.error("HeadObject", "AccessDenied", 403)
    emulator.faults.error("GetObject", "AccessDenied", 403)
    assert "check failed: d/f to" in run("check", "d", f"cos://{bucket}/p", code=1).err
    run("check", "cos://nothing-1250000000/p", "d", code=1)


@pytest.mark.parametrize(
    ("args", "words"),
    [(("-", "cos://b"), "stream"), (("none", "cos://b"), "no such"), ((".", "cos://"), "names no")],
)
def test_usage_errors(run: Run, args: tuple[str, ...], words: str, emulator: Emulator) -> None:
    emulator.requests.reset()
    assert words in run("check", *args, code=252).err
    assert emulator.requests.total == 0
