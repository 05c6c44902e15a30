"""How much of the processors a process asks for."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from cosfs.transfer import processors

PIPES: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}


def use(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_what_every_thread_uses_is_counted() -> None:
    before = processors.wanted()
    done, leave = threading.Event(), threading.Event()

    def other() -> None:
        use(0.3)
        done.set()
        leave.wait()

    thread = threading.Thread(target=other)
    thread.start()
    assert done.wait(60)
    # The kernel may be some milliseconds behind.
    assert processors.wanted() - before > 0.2
    leave.set()
    thread.join()


def test_what_another_process_uses_is_counted() -> None:
    with subprocess.Popen([sys.executable, "-c", "print(sum(range(3_000_000))); input()"], **PIPES) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdout.readline()
        used = processors.wanted(other.pid) - processors.wanted()
        other.stdin.close()
    assert used > 0.01
    assert processors.wanted(other.pid) >= 0  # it has ended


def test_without_the_kernels_figures_what_was_used_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors, "_TASKS", "/proc/self/nothing")
    before = time.process_time()
    assert before <= processors.wanted() <= time.process_time()


def test_there_is_a_processor() -> None:
    assert processors.count() >= 1
