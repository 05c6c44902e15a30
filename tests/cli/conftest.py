"""`cos` in this process, which is quick, and on a terminal, which is what people see."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fcntl import ioctl
from pathlib import Path
from typing import Any

import pytest

from tests.cli.trees import write


@dataclass(frozen=True)
class Result:
    """What one command line did."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


Run = Callable[..., Result]


@pytest.fixture
def run(
    cos_environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> Run:
    """Run a command line in this process: run("ls", "cos://bucket"); it starts in tmp_path."""
    from cli.main import run as run_program

    for name in [name for name in os.environ if name.startswith("COS_")]:
        monkeypatch.delenv(name)
    for name, value in cos_environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)

    def call(*args: object, code: int | None = 0, env: Mapping[str, str] | None = None) -> Result:
        capfdbinary.readouterr()
        with monkeypatch.context() as patched:
            for name, value in (env or {}).items():
                patched.setenv(name, value)
            got = run_program([str(arg) for arg in args])
        captured = capfdbinary.readouterr()
        result = Result(got, captured.out.decode("utf-8", "replace"), captured.err.decode())
        assert "Traceback" not in result.err
        if code is not None:
            assert got == code, f"exit code {got}: {result.err}"
        return result

    return call


class Terminal:
    """A process whose stderr, and unless told otherwise its stdin and stdout, are one terminal."""

    def __init__(
        self, args: list[str], environment: Mapping[str, str], directory: Path, *, stdout_pipe: bool = False
    ) -> None:
        self._master, slave = pty.openpty()
        ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
        stdout = subprocess.PIPE if stdout_pipe else slave
        self.process = subprocess.Popen(
            args,
            stdin=slave,
            stdout=stdout,
            stderr=slave,
            cwd=directory,
            env=environment,
            start_new_session=True,
            # Ctrl-C reaches only the process group in front of its own terminal.
            preexec_fn=lambda: ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self.text = ""

    def read_until(self, *texts: str, timeout: float = 60.0) -> str:
        """Read what the terminal shows until one of the texts is in it."""
        end = time.monotonic() + timeout
        while not any(text in self.text for text in texts):
            assert time.monotonic() < end, f"{texts} did not come: {self.text!r}"
            if not self._read_some():
                break
        assert any(text in self.text for text in texts), self.text
        return self.text

    def _read_some(self) -> bool:
        ready, _, _ = select.select([self._master], [], [], 0.2)
        if not ready:
            return self.process.poll() is None
        try:
            data = os.read(self._master, 65536)
        except OSError:
            return False  # the other side is closed
        self.text += data.decode("utf-8", "replace").replace("\r\n", "\n")
        return bool(data)

    @property
    def left(self) -> str:
        """What is still to be seen at the end, behind what was drawn and taken away again."""
        return self.text.rpartition("\x1b[J")[2]

    def type(self, text: str) -> None:
        """Type into the terminal."""
        os.write(self._master, text.encode())

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self.type("\x03")

    def finish(self, timeout: float = 60.0) -> int:
        """Read to the end; return the exit code."""
        end = time.monotonic() + timeout
        while self._read_some():
            assert time.monotonic() < end, f"it did not end: {self.text!r}"
        return self.process.wait(timeout=150)

    def close(self) -> None:
        """End the process and the terminal."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        os.close(self._master)


@pytest.fixture
def terminal(cos_environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    """Run `cos` on a terminal: terminal("ls", stdout_pipe=False, env={})."""
    opened: list[Terminal] = []

    def start(*args: object, stdout_pipe: bool = False, env: Mapping[str, str] | None = None) -> Terminal:
        environment = {**cos_environment, "TERM": "xterm-256color", **(env or {})}
        made = Terminal(["cos", *map(str, args)], environment, tmp_path, stdout_pipe=stdout_pipe)
        opened.append(made)
        return made

    yield start
    for each in opened:
        each.close()


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """The directory where commands start: f, and d with a.txt, b.log, sub/c.txt, sub/d.log."""
    (tmp_path / "f").write_text("f")
    write(tmp_path / "d", "a.txt", "b.log", "sub/c.txt", "sub/d.log")
    return tmp_path
