"""Programs of others, unmodified and pointed at an emulator by configuration alone.

Each module names in CLIENTS what it drives; the end of a run tells their versions. scripts/setup --tests
installs them all: one that is missing fails its tests.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
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
    yield emulator.create_bucket(f"client{next(_numbers)}")
    emulator.faults.clear()


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

    def start(self, *arguments: str | os.PathLike[str], **options: Any) -> subprocess.Popen[str]:
        """Start it, with its output in pipes."""
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
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
        )  # fmt: skip

    def __call__(self, *arguments: str | os.PathLike[str], timeout: float = 60) -> str:
        """Return what it printed; the test fails unless it ends well."""
        return self.end(self.start(*arguments), timeout)

    def refused(self, *arguments: str | os.PathLike[str], timeout: float = 60) -> str:
        """Return what it printed and complained; the test fails if it ends well."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=timeout)
        assert process.returncode, f"{process.args} ended well: {out}{err}"
        return out + err

    def end(self, process: subprocess.Popen[str], timeout: float = 60) -> str:
        """Wait for one that was started; return what it printed."""
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            pytest.fail(f"{process.args} did not end: {out}{err}")
        assert process.returncode == 0, f"{process.args} ended with {process.returncode}: {out}{err}"
        return out


def found(command: str) -> str:
    """Return the path of an installed program."""
    path = shutil.which(command)
    assert path, f"{command} is missing: run scripts/setup --tests"
    return path
