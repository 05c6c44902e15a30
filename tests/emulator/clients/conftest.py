"""Programs of others, unmodified and pointed at an emulator by configuration alone.

Each module names in CLIENTS what it drives; the end of a run tells their versions. scripts/setup --tests
installs them all: one that is missing fails its tests.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from qcloud_cos import CosS3Client

from cosfs.emulator import Emulator
from tests.emulator.clients.versions import version_of
from tests.emulator.conftest import sdk_for

REGION = "ap-guangzhou"
_numbers = itertools.count(1)
_driven: set[str] = set()


def pytest_collection_finish(session: pytest.Session) -> None:
    for item in session.items:
        _driven.update(getattr(getattr(item, "module", None), "CLIENTS", ()))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say which programs these tests were about."""
    if _driven:
        named = ", ".join(f"{name} {version_of(name)}" for name in sorted(_driven))
        terminalreporter.write_line(f"clients driven: {named}")


@pytest.fixture
def bucket(emulator: Emulator) -> Iterator[str]:
    """Full name of a new, empty bucket of the emulator that all tests share."""
    name = emulator.create_bucket(f"client{next(_numbers)}")
    yield name
    emulator.faults.clear()
    emulator.requests.leave_out(name)


@pytest.fixture(params=["address", "proxy"])
def sdk(emulator: Emulator, request: pytest.FixtureRequest) -> CosS3Client:
    """Tencent's Python SDK, told an address to connect to, or a proxy."""
    if request.param == "address":
        return sdk_for(emulator)
    return proxied(emulator)


def proxied(emulator: Emulator, **options: Any) -> CosS3Client:
    """Tencent's Python SDK with the host names of the real service, and the emulator as its proxy."""
    proxies = {"http": emulator.endpoint_url}
    return sdk_for(
        emulator, **{"IP": None, "Port": None, "ServiceDomain": None, "Proxies": proxies, **options}
    )


@dataclass
class Program:
    """Run a program of others as a shell would; its home is a directory of the test."""

    command: Sequence[str]
    directory: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def start(self, *arguments: str | os.PathLike[str]) -> subprocess.Popen[str]:
        """Start it, with all it says in one pipe."""
        environment = {
            "HOME": str(self.directory),
            "PATH": os.environ["PATH"],
            "LC_ALL": "C.UTF-8",
            # What these programs ask the world, such as for a newer version of themselves, ends here.
            "https_proxy": "http://127.0.0.1:9",
            **self.environment,
        }
        return subprocess.Popen(
            [*self.command, *map(os.fspath, arguments)], env=environment, cwd=self.directory, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def __call__(self, *arguments: str | os.PathLike[str]) -> str:
        """Return what it said; the test fails unless it ends well."""
        return self.together(arguments)[0]

    def together(self, *commands: Sequence[str | os.PathLike[str]]) -> list[str]:
        """Run several at once; return what each said."""
        started = [self.start(*arguments) for arguments in commands]
        try:
            ended = [_end(process) for process in started]
        finally:
            for process in started:
                process.kill()  # nothing, unless the test was interrupted
        for arguments, (code, text) in zip(commands, ended, strict=True):
            assert code == 0, f"{self.command[0]} {arguments} ended with {code}: {text}"
        return [text for _, text in ended]

    def refused(self, *arguments: str | os.PathLike[str]) -> str:
        """Return what it said; the test fails if it ends well."""
        code, text = _end(self.start(*arguments))
        assert code, f"{self.command[0]} {arguments} ended well: {text}"
        return text


def _end(process: subprocess.Popen[str], timeout: float = 150) -> tuple[int | None, str]:
    with process:
        try:
            text, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            return None, process.communicate()[0]
        except BaseException:
            process.kill()
            raise
    return process.returncode, text


def found(command: str) -> str:
    """Return the path of an installed program."""
    path = shutil.which(command)
    assert path, f"{command} is missing: run scripts/setup --tests"
    return path


@pytest.fixture
def coscmd(emulator: Emulator, bucket: str, tmp_path: Path) -> Program:
    """Tencent's coscmd with a configuration file, its home and its working directory in tmp_path."""
    lines = {
        "secret_id": emulator.secret_id, "secret_key": emulator.secret_key, "bucket": bucket,
        "region": REGION, "schema": "http", "part_size": "1", "multiupload_threshold": "20", "retry": "1",
    }  # fmt: skip
    text = "".join(f"{name} = {value}\n" for name, value in lines.items())
    (tmp_path / ".cos.conf").write_text(f"[common]\n{text}")
    command = [str(Path(sys.executable).with_name("coscmd"))]
    return Program(command, tmp_path, {"http_proxy": emulator.endpoint_url})


@contextlib.contextmanager
def mounting(process: subprocess.Popen[str], path: Path) -> Iterator[Path]:
    """Wait until a program that mounts in the foreground has done so; unmount it whatever happens."""
    told: list[str] = []
    reader = threading.Thread(target=lambda: told.extend(process.stdout or ()), daemon=True)
    reader.start()
    try:
        deadline = time.monotonic() + 60
        while not path.is_mount():
            assert process.poll() is None, f"{process.args} ended: {''.join(told)}"
            assert time.monotonic() < deadline, f"{process.args} did not mount: {''.join(told)}"
            time.sleep(0.02)
        yield path
        unmounted = subprocess.run(["fusermount3", "-u", path], capture_output=True, text=True, timeout=100)
        assert unmounted.returncode == 0, unmounted.stderr
        process.wait(100)
        reader.join(5)
    finally:
        if process.poll() is None:
            subprocess.run(["fusermount3", "-uz", path], capture_output=True, timeout=30)
            process.kill()
        process.wait(30)
        reader.join(5)
        if process.stdout:
            process.stdout.close()
