"""What is mounted: all buckets, one, a prefix; options; what others change meanwhile."""

# The calls themselves are tested, so they are written as such.
# ruff: noqa: PTH208
from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fuse.support import fails_with, tree, until
from tests.mounting import Mounted
from tests.objects import keys, stored

if TYPE_CHECKING:
    from cosfs.client.client import CosClient

MIB = 1024 * 1024
Mount = Callable[..., Mounted]


# --- the root of all buckets


def test_buckets_are_made_and_removed(all_buckets: Mounted, client: CosClient) -> None:
    root = all_buckets.path
    (root / "short-name").mkdir()
    (root / "full-name-1250000000").mkdir()
    names = {bucket.name for bucket in client.list_buckets()}
    assert {"short-name-1250000000", "full-name-1250000000"} <= names
    assert {"short-name-1250000000", "full-name-1250000000"} <= set(os.listdir(root))
    (root / "short-name/file").write_text("x")
    assert (root / "short-name-1250000000/file").read_text() == "x"
    for name in ("short-name", "short-name-1250000000"):
        with fails_with(errno.EEXIST):
            (root / name).mkdir()
    with fails_with(errno.ENOTEMPTY):
        (root / "short-name-1250000000").rmdir()
    (root / "short-name-1250000000/file").unlink()
    (root / "short-name").rmdir()
    (root / "full-name-1250000000").rmdir()
    names = {bucket.name for bucket in client.list_buckets()}
    assert not {"short-name-1250000000", "full-name-1250000000"} & names
    assert not {"short-name-1250000000", "full-name-1250000000"} & set(os.listdir(root))
    (root / "full-name-1250000000").mkdir()
    (root / "full-name-1250000000").rmdir()


def test_only_buckets_live_at_the_root(all_buckets: Mounted, mountpoint: Path) -> None:
    root = all_buckets.path
    for call in (
        lambda: (root / "file").touch(),
        lambda: (root / "link").symlink_to("x"),
        lambda: os.mkfifo(root / "fifo"),
        lambda: mountpoint.rename(root / "renamed-1250000000"),
    ):
        with fails_with(errno.EPERM):
            call()
    with pytest.raises(OSError):
        (root / "Not_A_Bucket_Name").mkdir()
    assert mountpoint.is_dir()


def test_bucket_made_elsewhere_appears(mount: Mount, client: CosClient) -> None:
    path = mount("cos://", "--metadata-ttl", "0.2s").path
    assert not (path / "elsewhere-1250000000").exists()
    client.create_bucket("elsewhere-1250000000")
    until((path / "elsewhere").is_dir, "the new bucket is found")
    assert "elsewhere-1250000000" in os.listdir(path)


# --- options


def test_read_only(mount: Mount, bucket: str, client: CosClient) -> None:
    client.put_object(bucket, "dir/file", b"text")
    path = mount(f"cos://{bucket}", "--read-only").path
    assert (path / "dir/file").read_bytes() == b"text"
    for call in (
        lambda: (path / "new").touch(),
        lambda: (path / "new").mkdir(),
        lambda: (path / "dir/file").unlink(),
        lambda: (path / "dir/file").chmod(0o600),
        lambda: (path / "dir/file").open("ab"),
        lambda: (path / "dir").rename(path / "other"),
        lambda: os.setxattr(path / "dir/file", "user.x", b"1"),
    ):
        with fails_with(errno.EROFS):
            call()
    assert keys(client, bucket) == ["dir/file"]


def test_owner_and_modes_of_what_carries_none(mount: Mount, bucket: str, client: CosClient) -> None:
    client.put_object(bucket, "dir/file", b"text")

    def shown(*options: str) -> tuple[str, str, int, int]:
        mounted = mount(f"cos://{bucket}", *options)
        file, directory = (mounted.path / "dir/file").stat(), (mounted.path / "dir").stat()
        assert (directory.st_uid, directory.st_gid) == (file.st_uid, file.st_gid)
        mounted.unmount()
        return oct(file.st_mode & 0o7777), oct(directory.st_mode & 0o7777), file.st_uid, file.st_gid

    me = (os.geteuid(), os.getegid())
    assert shown() == ("0o644", "0o755", *me)
    assert shown("--umask", "027") == ("0o640", "0o750", *me)
    assert shown("--file-mode", "0600", "--dir-mode", "711") == ("0o600", "0o711", *me)
    assert shown("--uid", "12", "--gid", "34", "--umask", "0") == ("0o666", "0o777", 12, 34)
    assert shown("-o", "uid=0,gid=12,fmode=0444,dmode=0555") == ("0o444", "0o555", 0, 12)


def test_prefix_is_all_there_is(mount: Mount, bucket: str, client: CosClient) -> None:
    client.put_object(bucket, "data/in", b"in")
    client.put_object(bucket, "out", b"out")
    path = mount(f"cos://{bucket}/data").path
    assert tree(path) == {"in": b"in"}
    (path / "new").write_text("new")
    (path / "dir").mkdir()
    assert keys(client, bucket) == ["data/dir/", "data/in", "data/new", "out"]


# --- what others do


def test_changes_of_others_are_seen(mount: Mount, bucket: str, client: CosClient) -> None:
    client.put_object(bucket, "file", b"first")
    client.put_object(bucket, "gone", b"x")
    path = mount(f"cos://{bucket}", "--metadata-ttl", "0.2s").path
    assert (path / "file").read_bytes() == b"first"
    client.put_object(bucket, "file", b"second version")
    client.put_object(bucket, "new", b"new")
    client.delete_object(bucket, "gone")
    until(lambda: (path / "file").read_bytes() == b"second version", "the new content is read")
    until(lambda: sorted(os.listdir(path)) == ["file", "new"], "the listing follows")
    assert not (path / "gone").exists()
    assert (path / "new").read_bytes() == b"new"


def test_object_replaced_under_an_open_handle(mount: Mount, bucket: str, client: CosClient) -> None:
    old, new = b"a" * (3 * MIB), b"b" * (3 * MIB)
    client.put_object(bucket, "file", old)
    path = mount(f"cos://{bucket}", "--metadata-ttl", "0.1s", "--readahead", "0").path / "file"
    with path.open("rb", buffering=0) as file:
        got = file.read(100)
        client.put_object(bucket, "file", new)
        try:
            while piece := file.read(256 * 1024):
                got += piece
        except OSError as error:
            assert error.errno == errno.ESTALE
        assert got == old[: len(got)]
    until(lambda: path.read_bytes() == new, "reopened, the file is the new one")


def test_conflict_keeps_both(mount: Mount, bucket: str, client: CosClient) -> None:
    client.put_object(bucket, "file", b"base")
    path = mount(f"cos://{bucket}").path
    file = (path / "file").open("r+b", buffering=0)
    file.write(b"MINE")
    client.put_object(bucket, "file", b"theirs")
    with fails_with(errno.ESTALE):
        file.close()
    assert stored(client, bucket, "file") == b"theirs"
    (other,) = [key for key in keys(client, bucket) if key != "file"]
    assert other.startswith("file.conflict-") and stored(client, bucket, other) == b"MINE"
