"""`cos cache` on real mounts."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cosfs.client.client import CosClient
from cosfs.emulator import Emulator
from tests.conftest import Cos
from tests.mounting import Mounted

pytestmark = pytest.mark.fuse
KIB = 1024
FILES = {"a/one": 3000 * KIB, "a/two": 10, "ab": 20, "b/three": 2000 * KIB}


@pytest.fixture
def mounted(mount: Callable[..., Mounted], client: CosClient, bucket: str) -> Mounted:
    for key, size in FILES.items():
        client.put_object(bucket, key, key[-1].encode() * size)
    return mount(f"cos://{bucket}", "--metadata-ttl", "60s")


def info(cos: Cos, mounted: Mounted) -> dict[str, Any]:
    (found,) = json.loads(
        cos("cache", "info", "--cache-dir", mounted.cache_dir, "--output", "json", check=True).stdout
    )
    assert isinstance(found, dict)
    return found


def settled(cos: Cos, mounted: Mounted, blocks: int) -> dict[str, Any]:
    """Wait until so many blocks have reached the disk."""
    deadline = time.monotonic() + 90
    while (found := info(cos, mounted))["Blocks"] != blocks:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found


def test_warm_fetches_what_is_missing_and_reading_costs_nothing(
    cos: Cos, mounted: Mounted, bucket: str, emulator: Emulator
) -> None:
    tried = cos("cache", "warm", "--dryrun", mounted.path / "a", check=True)
    assert tried.stdout.count("(dryrun) warm:") == 2
    assert info(cos, mounted)["Blocks"] == 0
    done = cos("cache", "warm", mounted.path / "a", mounted.path / "ab", "--output", "json", check=True)
    expected = FILES["a/one"] + FILES["a/two"] + FILES["ab"]
    assert json.loads(done.stdout) == {"Files": 3, "Fetched": expected, "Present": 0, "LeftOut": 0}
    again = cos("cache", "warm", mounted.path / "a", "--output", "json", check=True)
    assert json.loads(again.stdout)["Fetched"] == 0
    emulator.requests.reset()
    assert (mounted.path / "a/one").read_bytes() == b"e" * FILES["a/one"]
    assert emulator.requests["GetObject"] == 0
    found = settled(cos, mounted, 5)
    assert found["Buckets"] == [{"Bucket": bucket, "Blocks": 5, "Size": found["Buckets"][0]["Size"]}]
    assert found["Limit"] == 10 << 30
    assert [each["Mountpoint"] for each in found["Mounts"]] == [str(mounted.path)]


def test_warm_leaves_out_what_does_not_fit(
    cos: Cos, mount: Callable[..., Mounted], client: CosClient, bucket: str
) -> None:
    for number in range(4):
        client.put_object(bucket, f"{number}", b"x" * 1500 * KIB)
    mounted = mount(f"cos://{bucket}", "--cache-size", "4MB")
    done = cos("cache", "warm", mounted.path, "--output", "json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["LeftOut"] == 2
    assert "2 files" in done.stderr
    assert "left out" in done.stderr


def test_clear_forgets_what_it_is_told_and_mounts_go_on(
    cos: Cos, mounted: Mounted, bucket: str, emulator: Emulator
) -> None:
    cos("cache", "warm", mounted.path, check=True)
    settled(cos, mounted, 7)
    own = sorted(path.name for path in mounted.own_dir.iterdir())
    where = ("--cache-dir", mounted.cache_dir)
    assert cos("cache", "clear", *where).returncode == 252
    assert cos("cache", "clear", "--all", mounted.path, *where).returncode == 252
    assert cos("cache", "clear", "/tmp", *where).returncode == 252
    assert "4 blocks" in cos("cache", "clear", "--dryrun", mounted.path / "a", *where, check=True).stdout
    assert info(cos, mounted)["Blocks"] == 7
    assert "4 blocks" in cos("cache", "clear", mounted.path / "a", *where, check=True).stdout
    assert "1 block," in cos("cache", "clear", f"cos://{bucket}/ab", *where, check=True).stdout
    assert info(cos, mounted)["Blocks"] == 2
    assert "2 blocks" in cos("cache", "clear", "--all", *where, check=True).stdout
    assert not list((mounted.cache_dir / "blocks").glob("??/*"))
    assert sorted(path.name for path in mounted.own_dir.iterdir()) == own
    assert (mounted.path / "b/three").read_bytes() == b"e" * FILES["b/three"]


def test_verify_removes_what_is_damaged(cos: Cos, mounted: Mounted) -> None:
    cos("cache", "warm", mounted.path, check=True)
    settled(cos, mounted, 7)
    where = ("--cache-dir", mounted.cache_dir)
    assert cos("cache", "verify", *where, check=True).stdout.startswith("7 blocks are good, 0 were")
    path = max((mounted.cache_dir / "blocks").glob("??/*"), key=lambda each: each.stat().st_size)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    done = cos("cache", "verify", *where, "--output", "json")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert (found["Good"], found["Removed"]) == (6, 1)
    assert not path.exists()
    assert cos("cache", "verify", *where).returncode == 0


def test_text_and_table(cos: Cos, mounted: Mounted, bucket: str) -> None:
    cos("cache", "warm", mounted.path / "ab", check=True)
    settled(cos, mounted, 1)
    where = ("--cache-dir", mounted.cache_dir)
    for form in ("text", "table"):
        shown = cos("cache", "info", *where, "--output", form, check=True).stdout
        assert f"Bucket {bucket}" in shown
        assert str(mounted.cache_dir / "blocks") in shown


def test_nothing_there_and_nothing_mounted(cos: Cos, tmp_path: Path) -> None:
    assert cos("cache", "info", "--cache-dir", tmp_path / "none", check=True).stdout == ""
    assert cos("cache", "verify", "--cache-dir", tmp_path / "none", check=True).stdout.startswith("0 blocks")
    done = cos("cache", "warm", tmp_path)
    assert done.returncode == 252
    assert "in no mount" in done.stderr
