"""Who is let go because it was killed, and who waits."""

from __future__ import annotations

import errno
import signal
from pathlib import Path
from typing import Any

import pytest
import trio

from cosfs.errors import FilesystemError
from cosfs.fs import callers
from cosfs.fs.callers import Callers, is_dying
from tests.fs.support import until

PID = 4321


def bit(number: int) -> int:
    return 1 << number - 1


def process(
    proc: Path,
    state: str = "D",
    *,
    own: int = 0,
    shared: int = 0,
    caught: int = 0,
    ignored: int = 0,
    blocked: int = 0,
    flags: int = 0x400000,
    code: int = 0,
) -> None:
    """What proc(5) says of a process."""
    directory = proc / str(PID)
    directory.mkdir()
    masks = {"SigPnd": own, "ShdPnd": shared, "SigBlk": blocked, "SigIgn": ignored, "SigCgt": caught}
    lines = ["Name:\t(o) d", f"State:\t{state}", *(f"{name}:\t{mask:016x}" for name, mask in masks.items())]
    (directory / "status").write_text("\n".join(lines) + "\n", encoding="utf-8")
    fields = [state, "1", "1", "1", "0", "-1", str(flags), *["0"] * 42, str(code)]
    (directory / "stat").write_text(f"{PID} ((o) d) {' '.join(fields)}\n", encoding="utf-8")


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(callers, "PROC", tmp_path)
    return tmp_path


INT, TERM = bit(signal.SIGINT), bit(signal.SIGTERM)
KILL, WINCH, URG = bit(signal.SIGKILL), bit(signal.SIGWINCH), bit(signal.SIGURG)


@pytest.mark.parametrize(
    "given",
    [
        {"own": KILL},
        {"own": KILL, "blocked": ~0 & (1 << 64) - 1},
        {"shared": INT},
        {"own": TERM, "caught": INT},
        {"shared": bit(signal.SIGRTMIN + 3)},
        {"flags": 0x400004, "code": signal.SIGINT},
        {"flags": 0x400004, "code": 0x80 | signal.SIGABRT},
    ],
)
def test_who_dies_of_a_signal_is_dying(proc: Path, given: dict[str, Any]) -> None:
    process(proc, **given)
    assert is_dying(PID)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"shared": INT, "caught": INT},
        {"own": INT, "ignored": INT},
        {"shared": TERM, "blocked": TERM},
        {"shared": WINCH | URG},
        {"flags": 0x400004, "code": 0},
        {"flags": 0x400004, "code": 1 << 8},
    ],
)
def test_who_handles_a_signal_or_ends_by_itself_is_not(proc: Path, given: dict[str, Any]) -> None:
    process(proc, **given)
    assert not is_dying(PID)


def test_who_is_not_stuck_is_not(proc: Path) -> None:
    process(proc, "S", own=KILL)
    assert not is_dying(PID)


@pytest.mark.usefixtures("proc")
def test_who_is_gone_or_unknown_is_not() -> None:
    assert not is_dying(PID)
    assert not is_dying(0)


async def test_the_wait_of_the_killed_ends_and_others_go_on(proc: Path) -> None:
    process(proc, own=KILL)
    waiting, told, done = Callers(), list[int](), trio.Event()

    async def call(pid: int) -> None:
        waiting.begin(pid)
        try:
            with waiting.may_leave(), waiting.may_leave():
                await done.wait()
            told.append(0)
        except FilesystemError as exc:
            told.append(exc.errno)
        finally:
            waiting.end()

    with trio.fail_after(100):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waiting.run)
            async with trio.open_nursery() as calls:
                calls.start_soon(call, PID)
                calls.start_soon(call, PID + 1)
                calls.start_soon(call, 0)
                await until(lambda: told)
                assert told == [errno.EINTR]
                done.set()
            nursery.cancel_scope.cancel()
    assert told == [errno.EINTR, 0, 0]
