"""cos mount, status and umount with a real mount; what it is like inside is tested elsewhere."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.mounting import is_mounted

if TYPE_CHECKING:
    from cosfs.client.client import CosClient

pytestmark = pytest.mark.fuse


@pytest.fixture
def here(cos: Any, cos_environment: dict[str, str], tmp_path: Path) -> Iterator[Path]:
    """A directory to mount on, unmounted at the end, in a world without other mounts of ours."""
    cos_environment["XDG_RUNTIME_DIR"] = str(tmp_path)
    path = tmp_path / "mnt"
    path.mkdir()
    yield path
    if is_mounted(path):
        cos("umount", "--force", path)
        subprocess.run(["umount", "-l", path], capture_output=True)


def test_life_of_a_mount(cos: Any, client: CosClient, bucket: str, here: Path) -> None:
    client.put_object(bucket, "p/k", b"content")
    mounted = cos("mount", f"cos://{bucket}/p", here, check=True)
    assert mounted.stdout == "" and "is mounted on" in mounted.stderr
    assert (here / "k").read_text() == "content"

    table = cos("status", "--output", "table", check=True).stdout
    assert f" {here} " in table and "running" in table
    status = {found["mountpoint"]: found for found in json.loads(cos("status", "--output", "json").stdout)}
    assert status[str(here)]["source"] == f"cos://{bucket}/p/"
    assert status[str(here)]["requests"]["requests"]["GetObject"] == 1
    one = cos("status", here.name, check=True).stdout
    assert f"Source\tcos://{bucket}/p/\n" in one and "Requests: GetObject\t1\n" in one

    again = cos("mount", f"cos://{bucket}", here)
    assert again.returncode == 252 and "already mounted" in again.stderr

    ended = cos("umount", here, check=True)
    assert ended.stdout == "" and not is_mounted(here) and list(here.iterdir()) == []
    assert str(here) not in cos("status", "--output", "json", check=True).stdout


def test_options_of_fstab(
    cos_environment: dict[str, str], cos: Any, client: CosClient, bucket: str, here: Path
) -> None:
    client.put_object(bucket, "k", b"content")
    options = "rw,_netdev,nofail,ro,umask=027,uid=12345,metadata_ttl=1s,noatime,x-systemd.automount"
    options += ",diratime,mand,iversion"
    done = subprocess.run(
        ["mount.cosfs", f"cos://{bucket}", str(here), "-o", options],
        env=cos_environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    info = (here / "k").stat()
    assert (info.st_uid, info.st_mode & 0o777) == (12345, 0o640)
    with pytest.raises(OSError, match="Read-only"):
        (here / "new").touch()
    cos("umount", here, check=True)


def test_source_that_cannot_be_mounted(cos: Any, here: Path) -> None:
    for args, code in (
        (["cos://nosuch-1250000000"], 254),
        (["cos://b", "--region", "///"], 252),
    ):
        done = cos("mount", args[0], here, *args[1:])
        assert done.returncode == code, done.stderr
        assert len(done.stderr.splitlines()) == 1 and not is_mounted(here)


def test_umount_says_what_is_in_the_way(cos: Any, bucket: str, here: Path) -> None:
    cos("mount", f"cos://{bucket}", here, check=True)
    with subprocess.Popen(["sleep", "60"], cwd=here) as user:
        try:
            done = cos("umount", here)
        finally:
            user.kill()
    assert done.returncode == 255 and "sleep" in done.stderr and is_mounted(here)
    cos("umount", here, check=True)
