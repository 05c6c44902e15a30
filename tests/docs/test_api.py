"""Every example of docs/api.md runs as it stands there, one after the other with a bucket `demo`."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from cosfs.client.client import CosClient
from cosfs.errors import AlreadyExistsError

PAGE = Path(__file__).resolve().parents[2] / "docs" / "api.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
# What each prints, in the order of the page.
PRINTED = [
    "b'buy milk\\n'\nb'milk'\n9\n",
    "20000000 crc64\n",
    "ended\n",
    "['tree/a.txt', 'tree/dir/b.txt', 'tree/dir/c.txt']\n['tree/a.txt', 'tree/dir/']\n",
    "2 0 True\nupload cos://demo-1250000000/site/index.html\n",
    "[7, 8]\n",
    "",
]


def test_every_example_has_its_expectation() -> None:
    assert len(EXAMPLES) == len(PRINTED) == 7


def test_the_types_are_told_to_programs_that_use_the_package() -> None:
    root = PAGE.parents[1]
    data = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    assert "py.typed" in data["cosfs"] and (root / "cosfs" / "py.typed").is_file()


@pytest.mark.parametrize("number", range(len(PRINTED)))
def test_example(number: int, cos_environment: dict[str, str], client: CosClient, tmp_path: Path) -> None:
    try:
        client.create_bucket("demo-1250000000")
    except AlreadyExistsError:
        pass
    done = subprocess.run(
        [sys.executable, "-c", EXAMPLES[number]],
        env=cos_environment, cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    printed = done.stdout
    if number == 3:
        assert "'demo-1250000000'" in printed.splitlines()[-1]
        printed = "".join(printed.splitlines(keepends=True)[:-1])
    assert printed == PRINTED[number]
    if number == 2:
        assert not client.list_uploads("demo-1250000000").uploads
    if number == 4:
        assert (tmp_path / "mirror/index.html").read_text() == "<h1>hello again</h1>"
