"""COS goes away, or stops taking the keys, while many files are on their way."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cosfs.emulator import Emulator
from tests.conftest import Cos

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
    """Stop the server after so many requests; start it again after a while, unless seconds is 0.

    More requests than a command sends before it has an answer: what never answered is not waited for.
    """

    def work() -> None:
        end = time.monotonic() + 90
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
    cos: Cos, server: Emulator, env: dict[str, str], tree: str
) -> None:
    slowly(server, "PutObject")
    thread = away(server, "PutObject", 150, 1.5)
    result = cos("cp", "-r", tree, f"cos://{BUCKET}/", env=env, check=True)
    thread.join()
    assert len(cos("ls", "-r", f"cos://{BUCKET}", "--output", "text", env=env).stdout.splitlines()) == FILES
    assert 1 <= result.stderr.count("waiting for it") < 5  # not once for each file


def test_an_outage_before_the_first_answer_is_waited_for_if_that_was_asked_for(
    cos: Cos, server: Emulator, env: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "config").write_text("[default]\noutage_timeout = 60\nmax_retries = 1\n")
    (tmp_path / "file").write_text("x")
    server.stop()
    with subprocess.Popen(
        ["cos", "cp", "file", f"cos://{BUCKET}/", "--config-file", "config"],
        env={**cos.environment, **env}, cwd=tmp_path, stderr=subprocess.PIPE, text=True,
    ) as command:  # fmt: skip
        assert command.stderr is not None
        told = command.stderr.readline()
        server.start()
        assert command.wait(60) == 0
    assert "refuses connections; waiting for it, up to" in told
    assert cos("cat", f"cos://{BUCKET}/file", env=env).stdout == "x"


def test_an_outage_that_lasts_ends_the_command(
    cos: Cos, server: Emulator, env: dict[str, str], tree: str, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text("[default]\noutage_timeout = 0.5\n")
    slowly(server, "PutObject")
    thread = away(server, "PutObject", 150, 0)
    result = cos("cp", "-r", tree, f"cos://{BUCKET}/", "--config-file", "config", env=env)
    thread.join()
    assert result.returncode == 1
    assert "stopped: COS cannot be reached" in result.stderr
    server.start()  # for the end of the test


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "ExpiredToken"])
def test_keys_that_are_refused_end_the_command(
    cos: Cos, bucket: str, emulator: Emulator, tree: str, code: str
) -> None:
    emulator.faults.error("PutObject", code, 403, skip=50, count=0)
    emulator.requests.reset()
    try:
        result = cos("cp", "-r", tree, f"cos://{bucket}/", "--report", "r.jsonl")
        assert emulator.requests["PutObject"] < FILES and result.returncode == 1
        assert result.stderr.count("stopped: ") == 1
    finally:
        emulator.faults.clear()
    retried = cos("run", "--retry-failed", "r.jsonl")
    assert retried.returncode == 1 and "run the command itself again" in retried.stderr
    assert "upload failed" not in retried.stderr


def test_a_wrong_secret_ends_the_command(cos: Cos, bucket: str, emulator: Emulator, tree: str) -> None:
    emulator.requests.reset()
    env = {"COS_SECRET_KEY": "x" * 32}
    result = cos("cp", "-r", tree, f"cos://{bucket}/", env=env)
    assert result.returncode == 1 and "stopped: COS does not take these credentials" in result.stderr
    assert emulator.requests["PutObject"] < FILES


def test_a_report_that_was_cut_off_is_not_taken_for_all(
    cos: Cos, bucket: str, tmp_path: Path, tree: str
) -> None:
    cos("cp", "-r", tree, f"cos://{bucket}/", "--report", "r.jsonl", check=True)
    report = tmp_path / "r.jsonl"
    cos("run", "--retry-failed", "r.jsonl", check=True)
    report.write_bytes(report.read_bytes()[:5000])
    retried = cos("run", "--retry-failed", "r.jsonl")
    assert retried.returncode == 1 and "has not come to its end" in retried.stderr
