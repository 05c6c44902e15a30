"""What the commands print, to the character; `WRITE_GOLDEN=1 pytest tests/cli/test_golden.py` writes it."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from cosfs.client.client import CosClient
    from cosfs.emulator import Emulator

Run = Callable[..., Any]
_numbers = itertools.count()
GOLDEN = Path(__file__).parent / "golden"
FORMATS = ("table", "json", "jsonl", "text", "lines")
COMMANDS = {
    "ls": ["ls", "{b}"],
    "ls-recursive": ["ls", "-r", "{b}", "--human-readable", "--summarize"],
    "ls-missing": ["ls", "{b}/nothing/"],
    "cp-upload": ["cp", "-r", "d", "{b}/new/"],
    "cp-download": ["cp", "{b}/a.txt", "here"],
    "cp-copy": ["cp", "{b}/a.txt", "{b}/b.txt"],
    "cp-dryrun": ["cp", "-r", "{b}/dir", "out", "--dryrun"],
    "cp-failure": ["cp", "{b}/missing", "here"],
    "cp-skip": ["cp", "-r", "{b}/odd", "out"],
    "mv": ["mv", "{b}/a.txt", "{b}/moved.txt"],
    "rm": ["rm", "{b}/a.txt"],
    "rm-recursive": ["rm", "-r", "{b}/dir/"],
    "du": ["du", "{b}", "--depth", "1"],
    "du-class": ["du", "{b}", "--group-by", "class", "-h"],
}

SIZES = {"a.txt": 5, "dir/b.bin": 1_300_000, "dir/sub/c": 0, "文件": 3, "odd//x": 1}


def normal(text: str, bucket: str) -> str:
    """Put what differs from run to run in one form of the same width."""
    text = text.replace(bucket, "BUCKET")
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "2026-01-31 08:00:00", text)
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "2026-01-31T08:00:00Z", text)
    text = re.sub(r'"ms":\d+', '"ms":0', text)
    return re.sub(r"(RequestId |_id\":\")[A-Za-z0-9_=]+", r"\1ID", text)


@pytest.fixture
def bucket(client: CosClient, emulator: Emulator) -> Iterator[str]:
    """A bucket whose name is as long in each run: tables depend on that."""
    name = f"golden-{next(_numbers):03}-1250000000"
    client.create_bucket(name)
    yield name
    emulator.requests.leave_out(name)


@pytest.mark.parametrize("name", COMMANDS)
def test_output(run: Run, client: CosClient, bucket: str, tmp_path: Path, name: str) -> None:
    (tmp_path / "d").mkdir(exist_ok=True)
    (tmp_path / "d" / "one").write_text("one")
    shown = ""
    for form in FORMATS:
        option = [] if form == "lines" else ["--output", form]
        # Each format in the same world: what the one before has made or removed is put right.
        restore(client, bucket)
        result = run(*(arg.format(b=f"cos://{bucket}") for arg in COMMANDS[name]), *option, code=None)
        shown += f"--- {form}: exit {result.code}\n{normal(result.out, bucket)}"
        shown += f"--- stderr\n{normal(result.err, bucket)}" if result.err else ""
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("WRITE_GOLDEN"):
        path.write_text(shown)
    assert shown == path.read_text()


def restore(client: CosClient, bucket: str) -> None:
    there = {info.key for info in client.list_objects(bucket).objects}
    for key in there - SIZES.keys():
        client.delete_object(bucket, key)
    for key in SIZES.keys() - there:
        client.put_object(bucket, key, b"x" * SIZES[key])
