"""Each row of the tables in docs/copying.md does what it says there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from cosfs.client.client import CosClient

PAGE = Path(__file__).resolve().parents[2] / "docs" / "copying.md"
ROW = re.compile(
    r"^\| `(?P<command>[^`]+)` \| (?P<code>\d+) \|(?P<new>[^|]*)\|(?P<gone>[^|]*)\|$", re.MULTILINE
)
ROWS = [match.groupdict() for match in ROW.finditer(PAGE.read_text())]
FILES = ("f", "g", "d/a.txt", "d/sub/b.txt")
KEYS = ("x/a", "x/sub/b", "y")


def names(cell: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", cell))


def test_all_rows_of_the_page_are_read() -> None:
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert len(lines) == len(ROWS) > 80
    assert len({row["command"] for row in ROWS}) == len(ROWS)


@pytest.fixture
def other(client: CosClient, bucket: str) -> str:
    name = f"other-{bucket}"
    client.create_bucket(name)
    return name


@pytest.mark.parametrize("row", ROWS, ids=[row["command"] for row in ROWS])
def test_row(
    row: dict[str, str],
    client: CosClient,
    bucket: str,
    other: str,
    tmp_path: Path,
    cos_environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    from cli.main import run

    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "e").mkdir()
    for key in KEYS:
        client.put_object(bucket, key, key.encode())

    def world() -> set[str]:
        found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
        for short, full in (("bucket", bucket), ("other", other)):
            found |= {f"cos://{short}/{info.key}" for info in client.list_objects(full).objects}
        return found

    for name, value in cos_environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    before = world()
    args = shlex.split(row["command"])
    args = [
        arg.replace("cos://bucket", f"cos://{bucket}").replace("cos://other", f"cos://{other}")
        for arg in args
    ]
    if "-" in args[:2]:
        code = subprocess.run(
            [sys.executable, "-m", "cli", *args], input=b"text", cwd=tmp_path, timeout=120,
            env={**cos_environment, "PYTHONPATH": os.fspath(PAGE.parents[1])},
        ).returncode  # fmt: skip
    else:
        code = run(args)
    after = world()
    assert code == int(row["code"]), capfdbinary.readouterr().err.decode()
    assert (after - before, before - after) == (names(row["new"]), names(row["gone"]))
