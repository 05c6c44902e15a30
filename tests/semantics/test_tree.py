"""Directories, renames, links."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cosfs.client.client import CosClient
from tests.mounting import Mounted
from tests.semantics.conftest import Outside, names, settle

RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2


def rename_with(flags: int, old: Path, new: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), flags):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def test_prefixes_are_directories(mount_bucket: Callable[..., Path], outside: Outside) -> None:
    outside.put("a/b/c", b"deep")
    top = mount_bucket()
    assert (top / "a").is_dir()
    assert [str(path.relative_to(top)) for path in sorted(top.rglob("*"))] == ["a", "a/b", "a/b/c"]


def test_emptied_directory_stays(mount_bucket: Callable[..., Path], outside: Outside) -> None:
    outside.put("dir/only", b"x")
    top = mount_bucket("--metadata-ttl", "0.1s")
    (top / "dir" / "only").unlink()
    settle(top / "dir")
    time.sleep(0.3)  # beyond the time names are believed
    assert (top / "dir").is_dir()
    assert list((top / "dir").iterdir()) == []
    (top / "dir").rmdir()
    settle(top)
    assert outside.listing() == []


def test_new_directory_is_in_cos(mount_bucket: Callable[..., Path], outside: Outside) -> None:
    (mount_bucket() / "dir").mkdir()
    assert outside.listing() == ["dir/"]


def test_rmdir_refuses_what_is_not_empty(mount_bucket: Callable[..., Path], outside: Outside) -> None:
    outside.put("dir/file", b"x")
    with pytest.raises(OSError) as raised:
        (mount_bucket() / "dir").rmdir()
    assert raised.value.errno == errno.ENOTEMPTY
    assert outside.listing() == ["dir/file"]


def test_directory_times_follow_changes_in_it(mount_bucket: Callable[..., Path]) -> None:
    top = mount_bucket()
    (top / "dir").mkdir()
    os.utime(top / "dir", (1_000_000_000, 1_000_000_000))
    before = (top / "dir").stat().st_mtime
    (top / "dir" / "file").write_bytes(b"x")
    assert (top / "dir").stat().st_mtime > before


def test_link_counts_of_directories(mount_bucket: Callable[..., Path], outside: Outside) -> None:
    outside.put("given/below/file", b"x")
    top = mount_bucket("--metadata-ttl", "60s")
    assert (top / "given").stat().st_nlink == 1
    names(top / "given")
    (top / "made" / "one").mkdir(parents=True)
    (top / "made" / "two").mkdir()
    assert (top / "made").stat().st_nlink == 4
    (top / "made" / "one").rename(top / "given" / "one")
    assert (top / "made").stat().st_nlink == 3
    assert (top / "given").stat().st_nlink == 4
    (top / "made" / "two").rmdir()
    assert (top / "made").stat().st_nlink == 2


def test_file_is_renamed(mount_bucket: Callable[..., Path], outside: Outside) -> None:
    outside.put("old", b"content", mode=str(stat.S_IFREG | 0o640))
    top = mount_bucket()
    (top / "old").rename(top / "new")
    assert outside.get("new") == b"content"
    assert stat.S_IMODE((top / "new").stat().st_mode) == 0o640
    assert not (top / "old").exists()


def test_rename_replaces_a_file(mount_bucket: Callable[..., Path], outside: Outside) -> None:
    outside.put("one", b"1")
    outside.put("two", b"2")
    top = mount_bucket()
    (top / "one").rename(top / "two")
    assert (top / "two").read_bytes() == b"1"
    assert outside.get("two") == b"1"


def test_directory_is_renamed_with_all_in_it(mount_bucket: Callable[..., Path], outside: Outside) -> None:
    for number in range(30):
        outside.put(f"old/{number % 3}/{number}", str(number).encode())
    top = mount_bucket()
    (top / "old").rename(top / "new")
    assert not (top / "old").exists()
    assert sum(path.is_file() for path in (top / "new").rglob("*")) == 30
    assert (top / "new" / "2" / "5").read_bytes() == b"5"


def test_rename_onto_a_directory_with_content_is_refused(
    mount_bucket: Callable[..., Path], outside: Outside
) -> None:
    outside.put("one/file", b"x")
    outside.put("two/file", b"x")
    top = mount_bucket()
    with pytest.raises(OSError) as raised:
        (top / "one").rename(top / "two")
    assert raised.value.errno == errno.ENOTEMPTY


def test_rename_between_buckets(
    mount: Callable[..., Mounted], client: CosClient, bucket: str, outside: Outside
) -> None:
    other = bucket.replace("test-", "other-")
    client.create_bucket(other)
    outside.put("dir/file", b"content")
    top = mount("cos://").path
    (top / bucket / "dir").rename(top / other / "moved")
    assert (top / other / "moved" / "file").read_bytes() == b"content"
    assert not (top / bucket / "dir").exists()


def test_rename_noreplace_is_honoured(mount_bucket: Callable[..., Path], outside: Outside) -> None:
    outside.put("one", b"1")
    outside.put("two", b"2")
    top = mount_bucket()
    with pytest.raises(FileExistsError):
        rename_with(RENAME_NOREPLACE, top / "one", top / "two")
    assert outside.get("two") == b"2"


def test_rename_exchange_is_refused(mount_bucket: Callable[..., Path], outside: Outside) -> None:
    outside.put("one", b"1")
    outside.put("two", b"2")
    top = mount_bucket()
    with pytest.raises(OSError) as raised:
        rename_with(RENAME_EXCHANGE, top / "one", top / "two")
    assert raised.value.errno == errno.EINVAL


def test_hard_links_are_refused(mount_bucket: Callable[..., Path], outside: Outside) -> None:
    outside.put("one", b"1")
    top = mount_bucket()
    with pytest.raises(PermissionError):
        (top / "two").hardlink_to(top / "one")


def test_symbolic_links(mount_bucket: Callable[..., Path], outside: Outside) -> None:
    outside.put("dir/file", b"content")
    top = mount_bucket()
    (top / "link").symlink_to("dir/file")
    assert (top / "link").readlink() == Path("dir/file")
    assert (top / "link").read_bytes() == b"content"
    assert (top / "link").lstat().st_size == 8


def test_fifos_sockets_and_devices(
    mount_bucket: Callable[..., Path], mount: Callable[..., Mounted], bucket: str
) -> None:
    top = mount_bucket()
    os.mkfifo(top / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(top / "socket"))
    again = mount(f"cos://{bucket}").path
    assert stat.S_ISFIFO((again / "fifo").lstat().st_mode)
    assert stat.S_ISSOCK((again / "socket").lstat().st_mode)


def test_buckets_are_directories_of_the_root(
    mount: Callable[..., Mounted], client: CosClient, bucket: str, outside: Outside
) -> None:
    outside.put("file", b"content")
    top = mount("cos://").path
    assert bucket in names(top)
    assert (top / bucket / "file").read_bytes() == b"content"


def test_mkdir_and_rmdir_make_and_remove_buckets(
    mount: Callable[..., Mounted], client: CosClient, bucket: str
) -> None:
    top = mount("cos://").path
    new = bucket.replace("test-", "made-")
    (top / new).mkdir()
    assert new in {each.name for each in client.list_buckets()}
    (top / new).rmdir()
    assert new not in {each.name for each in client.list_buckets()}


def test_what_is_no_name_of_a_bucket_is_refused_by_name(mount: Callable[..., Mounted]) -> None:
    made = mount("cos://")
    with pytest.raises(OSError) as raised:
        (made.path / "Bad_Name").mkdir()
    assert raised.value.errno == errno.EINVAL
    assert "mkdir of 'cos://Bad_Name' failed" in made.log_text()


def test_prefix_is_mounted_alone(mount: Callable[..., Mounted], bucket: str, outside: Outside) -> None:
    outside.put("in/file", b"content")
    outside.put("out", b"content")
    top = mount(f"cos://{bucket}/in").path
    assert names(top) == ["file"]
    (top / "new").write_bytes(b"x")
    assert "in/new" in outside.listing()


def test_change_of_others_is_seen_after_the_ttl(mount_bucket: Callable[..., Path], outside: Outside) -> None:
    top = mount_bucket("--metadata-ttl", "0.2s")
    outside.put("file", b"one")
    time.sleep(0.3)
    assert (top / "file").read_bytes() == b"one"
    outside.put("file", b"second")
    outside.put("new", b"x")
    time.sleep(0.3)
    assert (top / "file").read_bytes() == b"second"
    assert names(top) == ["file", "new"]


def test_read_only_refuses_changes(mount_bucket: Callable[..., Path], outside: Outside) -> None:
    outside.put("file", b"content")
    top = mount_bucket("--read-only")
    for change in (
        lambda: (top / "new").write_bytes(b""),
        lambda: (top / "file").unlink(),
        lambda: (top / "dir").mkdir(),
        lambda: (top / "file").chmod(0o600),
    ):
        with pytest.raises(OSError) as raised:
            change()
        assert raised.value.errno == errno.EROFS
    assert (top / "file").read_bytes() == b"content"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may remount")
def test_remounting_switches_between_read_only_and_writable(
    mount_bucket: Callable[..., Path], outside: Outside
) -> None:
    top = mount_bucket("--write-back", "async")

    def remount(mode: str) -> int:
        return subprocess.run(["mount", "-i", "-o", f"remount,{mode}", top], capture_output=True).returncode

    with (top / "file").open("wb") as file:
        file.write(b"content")
        assert remount("ro")  # as on a disk: it is busy
    assert remount("ro") == 0
    with pytest.raises(OSError) as raised:
        (top / "new").write_bytes(b"")
    assert raised.value.errno == errno.EROFS
    settle(top / "file")
    assert outside.get("file") == b"content"
    assert remount("rw") == 0
    (top / "new").write_bytes(b"")


def test_remounting_does_not_make_a_read_only_mount_writable(
    mount_bucket: Callable[..., Path], outside: Outside
) -> None:
    outside.put("file", b"content")
    top = mount_bucket("--read-only")
    subprocess.run(["mount", "-i", "-o", "remount,rw", top], capture_output=True)  # only root may
    with pytest.raises(OSError) as raised:
        (top / "file").unlink()
    assert raised.value.errno == errno.EROFS


def test_statfs_says_how_long_names_may_be(mount_bucket: Callable[..., Path]) -> None:
    facts = os.statvfs(mount_bucket())
    assert facts.f_namemax == 255
    assert facts.f_bavail * facts.f_frsize > 1 << 40


def test_git_and_tar_work(mount_bucket: Callable[..., Path], tmp_path: Path) -> None:
    top = mount_bucket()
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    for number in range(20):
        (tmp_path / "tree" / "sub" / f"file {number}").write_text(f"{number}\n" * 50)
    environment = {
        **os.environ,
        "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@example.org", "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@example.org", "HOME": str(tmp_path),
    }  # fmt: skip
    script = f"""
        set -e
        tar c -C {tmp_path} tree | tar x -C {top}
        diff -r {tmp_path}/tree {top}/tree
        cd {top}/tree && git init -q && git add . && git commit -q -m one && git fsck --strict
        test -z "$(git status --porcelain)"
    """
    done = subprocess.run(["sh", "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
