"""COS goes away, or stops taking the keys, while many files are on their way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cosfs.emulator import Emulator

Run = Callable[..., Any]
FILES = 400
BUCKET = "out-1250000000"


@pytest.fixture
def server() -> Iterator[Emulator]:
    """An emulator of its own, which comes and goes."""
    with Emulator(buckets=[BUCKET]) as running:
        yield running


@pytest.fixture
def env(server: Emulator) -> dict[str, str]:
    return {
        "COS_ENDPOINT_URL": server.endpoint_url,
        "COS_SECRET_ID": server.secret_id,
        "COS_SECRET_KEY": server.secret_key,
    }


@pytest.fixture
def tree(tmp_path: Path) -> str:
    (tmp_path / "d").mkdir()
    for number in range(FILES):
        (tmp_path / "d" / f"{number}").write_text("x")
    return "d"


def away(server: Emulator, operation: str, requests: int, seconds: float) -> threading.Thread:
    """Stop the server after so many requests; start it again after a while, unless seconds is 0."""

    def work() -> None:
        end = time.monotonic() + 20
        while server.requests[operation] < requests and time.monotonic() < end:
            time.sleep(0.002)
        server.stop()
        if seconds:
            time.sleep(seconds)
            server.start()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def slowly(server: Emulator, operation: str) -> None:
    """Let a request take so long that the server goes away in the midst of them."""
    server.faults.latency(0.05, operation, count=0)


def test_an_outage_of_a_moment_loses_no_file(
    run: Run, server: Emulator, env: dict[str, str], tree: str
) -> None:
    slowly(server, "PutObject")
    thread = away(server, "PutObject", 60, 1.5)
    result = run("cp", "-r", tree, f"cos://{BUCKET}/", env=env)
    thread.join()
    assert len(run("ls", "-r", f"cos://{BUCKET}", "--output", "text", env=env).lines) == FILES
    assert len([line for line in result.err.splitlines() if "waiting for it" in line]) == 1


def test_an_outage_that_lasts_ends_the_command(
    run: Run, server: Emulator, env: dict[str, str], tree: str, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text("[default]\noutage_timeout = 0.5\n")
    slowly(server, "PutObject")
    thread = away(server, "PutObject", 60, 0)
    result = run("cp", "-r", tree, f"cos://{BUCKET}/", "--config-file", "config", env=env, code=1)
    thread.join()
    assert "stopped: COS cannot be reached" in result.err
    server.start()  # for the end of the test


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "ExpiredToken"])
def test_keys_that_are_refused_end_the_command(
    run: Run, client: Any, bucket: str, emulator: Emulator, tree: str, code: str
) -> None:
    emulator.faults.error("PutObject", code, 403, skip=50, count=0)
    emulator.requests.reset()
    try:
        result = run("cp", "-r", tree, f"cos://{bucket}/", "--report", "r.jsonl", code=1)
        assert emulator.requests["PutObject"] < FILES
        assert result.err.count("stopped: ") == 1
    finally:
        emulator.faults.clear()
    retried = run("run", "--retry-failed", "r.jsonl", code=1)
    assert "run the command itself again" in retried.err
    assert "upload failed" not in retried.err


def test_a_wrong_secret_ends_the_command(run: Run, bucket: str, emulator: Emulator, tree: str) -> None:
    emulator.requests.reset()
    env = {"COS_SECRET_KEY": "x" * 32}
    result = run("cp", "-r", tree, f"cos://{bucket}/", env=env, code=1)
    assert "stopped: COS does not take these credentials" in result.err
    assert emulator.requests["PutObject"] < FILES


def test_a_report_that_was_cut_off_is_not_taken_for_all(
    run: Run, bucket: str, tmp_path: Path, tree: str
) -> None:
    run("cp", "-r", tree, f"cos://{bucket}/", "--report", "r.jsonl")
    report = tmp_path / "r.jsonl"
    run("run", "--retry-failed", "r.jsonl")
    report.write_bytes(report.read_bytes()[:5000])
    assert "has not come to its end" in run("run", "--retry-failed", "r.jsonl", code=1).err
