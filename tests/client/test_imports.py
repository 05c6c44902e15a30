"""What an import brings along: a command that only prints help must not load an HTTP library."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {
    "urllib3",
    "requests",
    "qcloud_cos",
    "tencentcloud",
    "http.client",
    "email.parser",
    "rich",
    "trio",
    "click",
}


@pytest.mark.parametrize(
    "module",
    [
        "cosfs.config",
        "cosfs.client.auth",
        "cosfs.client.credentials",
        "cosfs.client.client",
        "cosfs.client.control",
    ],
)
def test_import_is_light(module: str) -> None:
    code = f"import {module}, sys; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert HEAVY & set(done.stdout.split()) == set()
