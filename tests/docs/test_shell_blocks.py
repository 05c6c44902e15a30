"""Every shell block that a page marks with <!-- run --> works, in the order of the page."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.mounting import is_mounted

TREE = Path(__file__).resolve().parents[2]
PAGES = [TREE / "README.md", *sorted((TREE / "docs").glob("*.md"))]
BLOCK = re.compile(r"^<!-- run -->\n```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def script(page: Path) -> str:
    return "".join(BLOCK.findall(page.read_text(encoding="utf-8")))


def runnable() -> list[Path]:
    return [page for page in PAGES if script(page)]


def clean_up(directory: Path) -> None:
    for path in directory.iterdir():
        if is_mounted(path):
            subprocess.run(["umount", "-l", str(path)], check=False)


def test_the_tour_is_among_them() -> None:
    assert TREE / "README.md" in runnable()


def test_every_marked_block_is_found() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert text.count("<!-- run -->") == len(BLOCK.findall(text)), page


@pytest.mark.fuse
@pytest.mark.parametrize("page", runnable(), ids=lambda page: page.name)
def test_page(page: Path, cos_environment: dict[str, str], tmp_path: Path) -> None:
    process = subprocess.Popen(
        ["bash", "-euxo", "pipefail", "-c", script(page)],
        env=cos_environment,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=200)
    finally:
        clean_up(tmp_path)
        try:
            os.killpg(process.pid, signal.SIGTERM)
        except ProcessLookupError:
            pass
    assert process.returncode == 0, output
