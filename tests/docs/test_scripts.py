"""The scripts: the demo on a small tree, twice; a second setup that has nothing to do; a bench in small."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.benchmark.rows import rows
from tests.mounting import is_mounted
from tests.waiting import until

TREE = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(600)


def run(*command: str | Path, env: dict[str, str] | None = None, timeout: float = 280) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture
def small_tree(tmp_path: Path) -> Path:
    for name in ("a.py", "b c.txt", "package/one.py", "package/deep/two.py", "other/three.txt"):
        path = tmp_path / "small" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"import {path.stem}\nthe line of {name}\n" * 20)
    return tmp_path / "small"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """Directory of a demo that leaves nothing running, even where it fails."""
    directory = tmp_path / "demo"
    yield directory
    if is_mounted(directory / "mnt"):
        subprocess.run(["umount", "-l", directory / "mnt"], check=False)
    if (directory / "emulator.pid").exists():
        os.kill(int((directory / "emulator.pid").read_text()), signal.SIGKILL)


def test_setup_has_nothing_to_do_the_second_time() -> None:
    run(TREE / "scripts" / "setup")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert run(TREE / "scripts" / "setup") == ""
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1, "of the processor"


@pytest.mark.fuse
def test_demo(small_tree: Path, place: Path) -> None:
    output = run(TREE / "scripts" / "demo", small_tree, env={"DEMO_DIR": str(place)})
    assert " 0 failed" in output
    assert "5 files" in output
    assert not place.exists()


@pytest.mark.fuse
def test_demo_can_stay_and_the_next_one_takes_over(small_tree: Path, place: Path) -> None:
    output = run(TREE / "scripts" / "demo", "--keep", small_tree, env={"DEMO_DIR": str(place)})
    assert is_mounted(place / "mnt")
    assert "cos umount" in output
    run(TREE / "scripts" / "demo", small_tree, env={"DEMO_DIR": str(place)})
    assert not is_mounted(place / "mnt")
    assert not place.exists()


@pytest.mark.fuse
def test_demo_cleans_up_when_it_is_interrupted(small_tree: Path, place: Path) -> None:
    process = subprocess.Popen(
        [TREE / "scripts" / "demo", small_tree],
        env={**os.environ, "DEMO_DIR": str(place)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    until(lambda: is_mounted(place / "mnt"), "the demo has mounted")
    os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does
    assert process.wait(120) == 130
    assert not is_mounted(place / "mnt")
    assert not place.exists()


def test_the_emulator_is_measured() -> None:
    printed = run(TREE / "scripts" / "bench-emulator", "--seconds", "0.05")
    for name in ("HEAD", "GET 4 KiB", "PUT 4 KiB", "GET 1 MiB", "GET 8 MiB", "PUT 8 MiB", "list 1,000 keys"):
        assert f"{name} " in printed


def test_listings_are_measured() -> None:
    options = ("--objects", "4000", "--rounds", "3", "--limit", "5000")
    printed = run(TREE / "scripts" / "bench-listings", *options)
    for name in ("keys, anywhere", "keys of a directory", "common prefixes, 9 keys each", "versions"):
        assert name in printed


@pytest.mark.fuse
def test_bench_of_the_mount_measures_ours_in_every_row(tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    options = ["--programs", "cos", "--latency", "0", "--scale", "0.01", "--out", found]
    output = run(TREE / "scripts" / "bench", "mount", *options)
    figures = json.loads(found.read_text())["figures"]
    assert len(figures) == len(rows())
    assert not [key for key, rounds in figures.items() if rounds[0]["failure"]], output
    assert all(f"| {row.title} |" in output for row in rows())
    # One row anew; the others stay as they are.
    run(TREE / "scripts" / "bench", "mount", *options, "--rows", "stat")
    again = json.loads(found.read_text())["figures"]
    assert {key for key in figures if figures[key] != again[key]} == {"0/stat/cos"}
