"""docs/mounting.md: its lines for root work, and it has every metric."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.mounting import in_namespace

if TYPE_CHECKING:
    from cosfs.client.client import CosClient

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "mounting.md").read_text(encoding="utf-8")

# mount(8) looks for helpers in /sbin only. Nobody else sees what is laid over it in a namespace of our own.
AS_ROOT = """
set -e
cd "$1"
mount -t overlay overlay -o "lowerdir=$(realpath /sbin),upperdir=$1/upper,workdir=$1/work" "$(realpath /sbin)"
. ./helpers
mount -a -T fstab
cat data/file
mount -T fstab "$1/logs"
cat logs/new
test "$(stat -c %U data/file)" = "$(id -un)"
echo sent > data/sent
umount "$1/data" "$1/logs"
"""


def block(mark: str) -> str:
    found = re.search(rf"^<!-- {mark} -->\n```\w*\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, mark
    return found[1]


@pytest.mark.fuse
def test_helpers_and_fstab(
    cos_environment: dict[str, str], bucket: str, client: CosClient, tmp_path: Path
) -> None:
    client.put_object(bucket, "file", b"a file\n")
    client.put_object(bucket, "logs/new", b"a log\n")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(disk)], check=True)
    try:
        for name in ("upper", "work", "data", "logs"):
            (disk / name).mkdir()
        (disk / "helpers").write_text(block("helpers"))
        lines = block("fstab").replace("cos://bucket", f"cos://{bucket}").replace("/srv/", f"{disk}/")
        (disk / "fstab").write_text(lines)
        done = subprocess.run(
            in_namespace("sh", "-c", AS_ROOT, "sh", disk),
            env=cos_environment, capture_output=True, text=True, timeout=180,
        )  # fmt: skip
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
    assert (done.returncode, done.stdout) == (0, "a file\na log\n"), done.stderr
    assert client.get_range(bucket, "sent", 0, 100)[1] == b"sent\n"


def test_every_metric_is_there() -> None:
    source = (Path(__file__).resolve().parents[2] / "cosfs" / "fuse" / "gauges.py").read_text(
        encoding="utf-8"
    )
    made = set(re.findall(r'"(cosfs_\w+)"', source))
    told = set(re.findall(r"`(cosfs_\w+)`", PAGE))
    assert made and told == made
