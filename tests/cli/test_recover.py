"""`cos recover`: what a dead mount left gets to COS without a mount."""

from __future__ import annotations

import base64
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cosfs.client.client import CosClient
from cosfs.client.model import Headers
from cosfs.emulator import Emulator
from cosfs.fs.journal import Journal
from cosfs.fs.place import lock_directory
from cosfs.fs.records import attributes_to_json, headers_to_json
from cosfs.transfer.attributes import Attributes
from tests.cli.conftest import Run
from tests.objects import stored

Leave = Callable[..., Path]


def body_of(data: bytes, expected: str = "") -> dict[str, Any]:
    """What the journal says of a new file, closed and not sent."""
    content = {
        "path": "",
        "data": base64.b64encode(data).decode(),
        "size": len(data),
        "base": None,
        "base_limit": 0,
        "changed": [[0, len(data)]],
    }
    attrs = Attributes(stat.S_IFREG | 0o640, 5, 6, 1_000, 1_000, 1_000)
    return {
        "content": content,
        "headers": headers_to_json(Headers()),
        "expected": expected,
        "obsolete": [],
        "attributes": attributes_to_json(attrs),
    }


@pytest.fixture
def leave(tmp_path: Path, bucket: str) -> Leave:
    """Leave a cache directory with files that were not sent: leave(name=b"data")."""

    def make(directory: str = "cache/mine", **files: bytes) -> Path:
        path = tmp_path / directory
        path.mkdir(parents=True)
        journal = Journal(path)
        for name, data in files.items():
            journal.add("file", bucket, name, body_of(data))
        journal.close()
        return path

    return make


def test_what_is_left_is_sent(run: Run, leave: Leave, client: CosClient, bucket: str) -> None:
    path = leave(a=b"alpha", b=b"beta")
    done = run("recover", path.parent)
    assert "2 files sent" in done.out and str(path) in done.out
    assert stored(client, bucket, "a") == b"alpha"
    assert stored(client, bucket, "b") == b"beta"
    headers = client.head_object(bucket, "a").headers
    assert headers is not None and headers.metadata["mode"] == str(stat.S_IFREG | 0o640)
    assert "0 files sent" in run("recover", path).out


def test_only_of_one_source(
    run: Run, leave: Leave, client: CosClient, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = leave("xdg/cosfs/mine", a=b"alpha", b=b"beta")
    env = {"XDG_CACHE_HOME": str(path.parent.parent)}
    assert "1 files sent" in run("recover", f"cos://{bucket}/a", env=env).out
    assert [info.key for info in client.list_objects(bucket).objects] == ["a"]
    assert "1 files sent" in run("recover", env=env).out
    assert "nothing is left" in run("recover", env={"XDG_CACHE_HOME": str(path)}).err


def test_what_cos_refuses_stays_or_is_kept_aside(
    run: Run, leave: Leave, emulator: Emulator, client: CosClient, bucket: str
) -> None:
    path = leave(a=b"alpha")
    fault = emulator.faults.error("PutObject", "AccessDenied", 403, count=0)
    try:
        done = run("recover", path, code=1)
        assert "1 left" in done.out and "AccessDenied" in done.err
        done = run("recover", path, "--give-up", code=1)
        assert "1 kept" in done.out and "recovered" in done.err
    finally:
        emulator.faults.remove(fault)
    [kept] = [file for file in (path / "recovered").iterdir() if file.name != "LIST.txt"]
    assert kept.read_bytes() == b"alpha" and kept.name.endswith("-a")
    assert f"cos://{bucket}/a" in (path / "recovered" / "LIST.txt").read_text()
    assert "0 files sent" in run("recover", path).out
    assert not client.list_objects(bucket).objects


def test_a_directory_in_use_is_left_to_its_mount(run: Run, leave: Leave) -> None:
    path = leave(a=b"alpha")
    lock = lock_directory(path)
    try:
        assert f"pid {os.getpid()}" in run("recover", path, code=253).err
    finally:
        os.close(lock)


def test_wrong_places(run: Run) -> None:
    assert "is not a directory" in run("recover", "no-such-place", code=252).err
