"""rclone: copy, sync, check and a mount, as TencentCOS through a proxy and as any S3 at an address."""

from __future__ import annotations

import json
import os
import urllib.request
from pathlib import Path

import pytest

from cosfs.emulator import Emulator
from tests.emulator.clients.conftest import REGION, Program, found, mounting
from tests.emulator.clients.mounted_work import MIB, work
from tests.emulator.clients.test_s3fs import stored
from tests.emulator.conftest import sdk_for
from tests.waiting import until

CLIENTS = ("rclone",)
FORMS = ["TencentCOS", "Other", "Other-v2"]


def rclone_for(emulator: Emulator, form: str, home: Path) -> Program:
    lines = {
        "type": "s3", "provider": form.split("-")[0], "env_auth": "false",
        "access_key_id": emulator.secret_id, "secret_access_key": emulator.secret_key,
        "upload_cutoff": "5Mi", "chunk_size": "5Mi",
    }  # fmt: skip
    if form == "TencentCOS":
        lines |= {"endpoint": f"http://cos.{REGION}.myqcloud.com", "region": REGION}
    else:
        lines |= {"endpoint": emulator.endpoint_url, "region": REGION}
    if form == "Other-v2":
        lines |= {"region": "other-v2-signature", "v2_auth": "true"}
    config = home / "rclone.conf"
    config.write_text("[cos]\n" + "".join(f"{name} = {value}\n" for name, value in lines.items()))
    # An address is never asked through a proxy, so this serves both.
    environment = {"http_proxy": emulator.endpoint_url, "RCLONE_CONFIG": str(config), "RCLONE_RETRIES": "1"}
    return Program([found("rclone")], home, environment)


@pytest.fixture(params=FORMS)
def rclone(emulator: Emulator, tmp_path: Path, request: pytest.FixtureRequest) -> Program:
    return rclone_for(emulator, request.param, tmp_path)


def make_tree(root: Path) -> Path:
    (root / "sub").mkdir(parents=True)
    (root / "a").write_bytes(os.urandom(200_000))
    (root / "sub" / "中 b+c.txt").write_text("text")
    (root / "sub" / "empty").touch()
    (root / "big").write_bytes(os.urandom(12 * MIB + 5))
    return root


def test_copy_sync_and_check(rclone: Program, emulator: Emulator, bucket: str, tmp_path: Path) -> None:
    tree, there = make_tree(tmp_path / "tree"), f"cos:{bucket}/dir"
    emulator.requests.reset()
    rclone("copy", tree, there)
    assert emulator.requests["UploadPart"] == 3
    listed = rclone("lsf", "-R", "--files-only", there).splitlines()
    assert sorted(listed) == ["a", "big", "sub/empty", "sub/中 b+c.txt"]
    assert "0 differences found" in rclone("check", "-v", tree, there)
    assert "0 differences found" in rclone("check", "-v", "--download", tree, there)
    emulator.requests.reset()
    rclone("sync", tree, there)
    assert (emulator.requests["PutObject"], emulator.requests["UploadPart"]) == (0, 0)
    (tree / "a").write_text("changed")
    (tree / "sub" / "empty").unlink()
    rclone("sync", tree, there)
    assert (emulator.requests["PutObject"], emulator.requests["DeleteObject"]) == (1, 1)
    rclone("copy", there, tmp_path / "back")
    for name in ("a", "big", "sub/中 b+c.txt"):
        assert (tmp_path / "back" / name).read_bytes() == (tree / name).read_bytes()
        assert int((tmp_path / "back" / name).stat().st_mtime) == int((tree / name).stat().st_mtime)


def test_objects(rclone: Program, emulator: Emulator, bucket: str, tmp_path: Path) -> None:
    tree, there = make_tree(tmp_path / "tree"), f"cos:{bucket}"
    rclone("copy", tree, there)
    assert rclone("cat", f"{there}/sub/中 b+c.txt") == "text"
    assert rclone("cat", "--offset", "1", "--count", "2", f"{there}/sub/中 b+c.txt") == "ex"
    assert json.loads(rclone("size", "--json", there))["count"] == 4
    rclone("copyto", f"{there}/big", f"{there}/copied")
    rclone("moveto", f"{there}/a", f"{there}/moved")
    rclone("delete", f"{there}/sub")
    assert sorted(rclone("lsf", there, "--files-only").split()) == ["big", "copied", "moved"]
    assert stored(sdk_for(emulator), bucket)["copied"] == (tree / "big").read_bytes()
    rclone("touch", "--timestamp", "2020-02-03T04:05:06", f"{there}/moved")
    assert "2020-02-03 04:05:06" in rclone("lsl", f"{there}/moved")


def test_buckets(rclone: Program, emulator: Emulator, bucket: str) -> None:
    name = bucket.replace("client", "rclone")
    rclone("mkdir", f"cos:{name}")
    assert name in rclone("lsd", "cos:")
    rclone("rmdir", f"cos:{name}")
    assert not sdk_for(emulator).bucket_exists(Bucket=name)
    sdk_for(emulator).create_multipart_upload(Bucket=bucket, Key="open")
    assert "open" in rclone("backend", "list-multipart-uploads", f"cos:{bucket}")
    rclone("backend", "cleanup", "-o", "max-age=0s", f"cos:{bucket}")
    assert "Upload" not in sdk_for(emulator).list_multipart_uploads(Bucket=bucket)


@pytest.mark.parametrize("form", ["TencentCOS", "Other"])
def test_links(emulator: Emulator, bucket: str, tmp_path: Path, form: str) -> None:
    """Not with signatures of version 2: the links it makes then have none."""
    rclone = rclone_for(emulator, form, tmp_path)
    sdk_for(emulator).put_object(Bucket=bucket, Key="目 录/k", Body=b"x")
    link = rclone("link", "--expire", "1m", f"cos:{bucket}/目 录/k").strip()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": emulator.endpoint_url}))
    with opener.open(link, timeout=90) as answer:
        assert answer.read() == b"x"


def test_versions(rclone: Program, emulator: Emulator, bucket: str) -> None:
    sdk = sdk_for(emulator)
    sdk.put_bucket_versioning(Bucket=bucket, Status="Enabled")
    for body in (b"1", b"22"):
        sdk.put_object(Bucket=bucket, Key="k.txt", Body=body)
    listed = rclone("lsf", "--s3-versions", f"cos:{bucket}").split()
    old = next(name for name in listed if name != "k.txt")
    assert len(listed) == 2
    assert rclone("cat", "--s3-versions", f"cos:{bucket}/{old}") == "1"


@pytest.mark.fuse
def test_a_mount(rclone: Program, emulator: Emulator, bucket: str, tmp_path: Path) -> None:
    mountpoint = tmp_path / "mount"
    mountpoint.mkdir()
    options = ["--vfs-cache-mode", "writes", "--vfs-write-back", "0s", "--cache-dir", tmp_path / "cache"]
    big = os.urandom(12 * MIB + 5)
    with mounting(rclone.start("mount", f"cos:{bucket}", mountpoint, *options), mountpoint):
        expected = work(mountpoint, big)
        # Closing a file only begins to send it, and unmounting does not wait for the end.
        until(lambda: stored(sdk_for(emulator), bucket) == expected, "all is sent")
    assert stored(sdk_for(emulator), bucket) == expected
    with mounting(rclone.start("mount", f"cos:{bucket}", mountpoint, *options), mountpoint):
        assert (mountpoint / "big").read_bytes() == big
