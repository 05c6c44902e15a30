"""What the tests of the mount share: running programs, waiting for conditions, looking at trees."""

from __future__ import annotations

import errno
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

if TYPE_CHECKING:
    from cosfs.emulator import Emulator

T = TypeVar("T")


def environment(emulator: Emulator, home: Path) -> dict[str, str]:
    """The environment of a user of the emulator whose home is a directory of the test."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("COS_", "GIT_"))}
    return inherited | {
        "HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "LC_ALL": "C.UTF-8",
        "COS_ENDPOINT_URL": emulator.endpoint_url,
        "COS_SECRET_ID": emulator.secret_id,
        "COS_SECRET_KEY": emulator.secret_key,
        "COS_REGION": emulator.region,
    }


def run(*command: str | os.PathLike[str], cwd: Path | None = None, input: bytes | None = None) -> str:
    """Run a program to its end and return what it said; fail the test if it failed."""
    done = subprocess.run(
        [os.fspath(word) for word in command], cwd=cwd, input=input, capture_output=True, timeout=150
    )
    if done.returncode:
        text = (done.stdout + done.stderr).decode(errors="replace")
        pytest.fail(f"{shlex.join(map(str, command))} ended with {done.returncode}:\n{text}")
    return done.stdout.decode(errors="surrogateescape")


def python(code: str, *args: str | os.PathLike[str], cwd: Path | None = None) -> str:
    """Run Python code in a process of its own.

    A page fault in a mapping holds the interpreter lock, which the emulator in our own process
    needs to answer it.
    """
    return run(sys.executable, "-c", code, *args, cwd=cwd)


def until(condition: Callable[[], T], what: str, *, within: float = 60.0) -> T:
    """Return the first true answer of a condition; fail the test when it takes too long."""
    deadline = time.monotonic() + within
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            pytest.fail(f"not within {within:.0f} s: {what}")
        time.sleep(0.02)


class Spans:
    """How often something that is sent a while after the first change may have been sent, at most.

    With spans = Spans(), spans.of(0.2) is 0 unless the machine has stood still for so long since then.
    """

    def __init__(self) -> None:
        self._began = time.monotonic()

    def of(self, seconds: float) -> int:
        return int((time.monotonic() - self._began) / seconds)


@contextmanager
def fails_with(code: int) -> Iterator[None]:
    """Expect an OSError with this errno."""
    with pytest.raises(OSError) as caught:
        yield
    got = caught.value.errno
    assert got == code, f"{errno.errorcode.get(got or 0, got)} instead of {errno.errorcode[code]}"


def tree(top: Path) -> dict[str, bytes | str | None]:
    """Everything below a directory: the bytes of files, the targets of links, None for directories."""
    found: dict[str, bytes | str | None] = {}
    for directory, names, files in os.walk(top):
        for name in (*names, *files):
            path = Path(directory) / name
            where = str(path.relative_to(top))
            if path.is_symlink():
                found[where] = os.readlink(path)  # noqa: PTH115
            else:
                found[where] = None if path.is_dir() else path.read_bytes()
    return found


def make_tree(top: Path, *, directories: int = 4, files: int = 6) -> Mapping[str, bytes | str | None]:
    """Make a tree of small files, empty ones, links and an executable; return what tree() says of it."""
    top.mkdir(exist_ok=True)
    for number in range(directories):
        place = top / f"dir {number}" / "ü"
        place.mkdir(parents=True)
        for count in range(files):
            (place / f"file-{count}.txt").write_bytes(f"{number}/{count}\n".encode() * count * 50)
    script = top / "script"
    script.write_text("#!/bin/sh\necho ran\n")
    script.chmod(0o755)
    (top / "link").symlink_to("dir 0/ü/file-3.txt")
    (top / "dangling").symlink_to("nowhere")
    (top / "empty").mkdir()
    return tree(top)
