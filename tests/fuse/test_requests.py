"""What operations of programs cost, in requests that the server counted."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cosfs.client.model import Headers
from cosfs.fs.commit import ATTRIBUTE_DELAY
from cosfs.fs.deleter import DELAY
from cosfs.fs.openfiles import ASYNC_DELAY
from tests.fuse.support import Spans, make_tree, run, until
from tests.fuse.users import alive
from tests.mounting import Mounted

if TYPE_CHECKING:
    from cosfs.client.client import CosClient
    from cosfs.emulator import Emulator
    from tests.conftest import Cos

Mount = Callable[..., Mounted]
MIB = 1024 * 1024


class Requests:
    """What was asked of the server since the counting began."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator

    @property
    def counts(self) -> dict[str, int]:
        return self._emulator.requests.snapshot()

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def bytes_received(self) -> int:
        return self._emulator.requests.bytes_received

    @property
    def bytes_sent(self) -> int:
        return self._emulator.requests.bytes_sent

    def settle(self, path: Path) -> None:
        """Wait until what was removed and changed in a directory is in COS."""
        fd = os.open(path, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)


@pytest.fixture
def counted(emulator: Emulator) -> Callable[[], Requests]:
    def begin() -> Requests:
        emulator.requests.reset()
        return Requests(emulator)

    return begin


@pytest.fixture
def calm(mount: Mount, bucket: str) -> Callable[..., Path]:
    """A mount that asks nothing again while the test runs; its root has been listed."""

    def make(*options: str, listed: bool = True) -> Path:
        path = mount(f"cos://{bucket}", "--metadata-ttl", "60s", *options).path
        if listed:
            names(path)
        return path

    return make


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def put_many(client: CosClient, bucket: str, prefix: str, count: int, data: bytes = b"x") -> None:
    for number in range(count):
        client.put_object(bucket, f"{prefix}{number:04}", data)


@contextmanager
def unchanged(requests: Requests) -> Iterator[None]:
    before = requests.counts
    yield
    assert requests.counts == before


# --- looking


def test_ls_l_of_a_thousand_files_is_one_request(
    calm: Callable[..., Path], bucket: str, client: CosClient, counted: Callable[[], Requests]
) -> None:
    put_many(client, bucket, "many/", 1000)
    path = calm("--attributes", "listing")
    requests = counted()
    assert len(run("ls", "-l", path / "many").splitlines()) == 1001
    assert requests.counts == {"ListObjects": 1}
    with unchanged(requests):
        run("ls", "-l", path / "many")
        run("find", path / "many", "-size", "+0")


def test_names_alone_cost_no_heads(
    calm: Callable[..., Path], bucket: str, client: CosClient, counted: Callable[[], Requests]
) -> None:
    put_many(client, bucket, "many/", 300)
    put_many(client, bucket, "larger/", 10, b"x" * 5000)
    path = calm()
    (path / "many").stat()
    (path / "larger").stat()
    requests = counted()
    assert len(os.listdir(path / "many")) == 300  # noqa: PTH208
    assert requests.counts == {"ListObjects": 1}
    # No symbolic link is as large as these, so their kind is known from the listing.
    assert len(run("find", path / "larger", "-type", "f").splitlines()) == 10
    assert requests.counts == {"ListObjects": 2}


def test_attributes_are_asked_for_once_across_mounts(
    mount: Mount, bucket: str, client: CosClient, counted: Callable[[], Requests]
) -> None:
    put_many(client, bucket, "many/", 200)
    first = mount(f"cos://{bucket}", "--metadata-ttl", "60s")
    requests = counted()
    run("ls", "-l", first.path / "many")
    assert 200 <= requests.counts["HeadObject"] <= 201
    with unchanged(requests):
        run("ls", "-l", first.path / "many")
        run("find", first.path / "many", "-mtime", "-1")
    first.unmount()
    second = mount(f"cos://{bucket}", "--metadata-ttl", "60s", cache_dir=first.cache_dir)
    requests = counted()
    run("ls", "-l", second.path / "many")
    assert requests.counts.get("HeadObject", 0) <= 1


def test_attributes_of_our_own_files_are_never_asked_for(
    mount: Mount, bucket: str, counted: Callable[[], Requests]
) -> None:
    first = mount(f"cos://{bucket}", "--metadata-ttl", "60s")
    requests = counted()
    spans = Spans()
    for number in range(50):
        (first.path / f"{number:02}").write_bytes(b"x")
    seconds = 1 + spans.of(1.0)
    run("ls", "-l", first.path)
    assert "HeadObject" not in requests.counts
    first.unmount()
    second = mount(f"cos://{bucket}", cache_dir=first.cache_dir)
    requests = counted()
    run("ls", "-l", second.path)
    # The date of an object that was on its way when a second ended is not known before it is listed.
    assert requests.counts.pop("HeadObject", 0) <= seconds
    assert requests.counts["ListObjects"] == 1 and requests.total <= 1 + seconds


def test_name_in_an_unlisted_directory_is_one_list(
    calm: Callable[..., Path], bucket: str, client: CosClient, counted: Callable[[], Requests]
) -> None:
    put_many(client, bucket, "dir/", 20)
    path = calm("--attributes", "listing")
    requests = counted()
    (path / "dir/0007").stat()
    assert requests.counts == {"ListObjects": 1}
    with unchanged(requests):
        for number in range(20):
            (path / f"dir/{number:04}").stat()
            assert not (path / f"dir/absent-{number}").exists()


# --- reading


def test_cat_of_a_small_file_is_one_get_then_none(
    mount: Mount, bucket: str, client: CosClient, counted: Callable[[], Requests]
) -> None:
    client.put_object(bucket, "file", b"content")
    first = mount(f"cos://{bucket}", "--metadata-ttl", "60s")
    (first.path / "file").stat()
    requests = counted()
    assert run("cat", first.path / "file") == "content"
    assert requests.counts == {"GetObject": 1}
    with unchanged(requests):
        assert run("cat", first.path / "file") == "content"
    first.unmount()
    second = mount(f"cos://{bucket}", cache_dir=first.cache_dir)
    requests = counted()
    assert run("cat", second.path / "file") == "content"
    assert "GetObject" not in requests.counts
    assert requests.total <= 2


def test_random_read_is_one_get_of_one_block(
    calm: Callable[..., Path], bucket: str, client: CosClient, counted: Callable[[], Requests]
) -> None:
    client.put_object(bucket, "large", os.urandom(MIB) * 20)
    path = calm() / "large"
    path.stat()
    requests = counted()
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    assert len(os.pread(fd, 4096, 13 * MIB + 8192)) == 4096
    os.close(fd)
    assert requests.counts == {"GetObject": 1}
    assert requests.bytes_sent < 1.1 * MIB


# --- writing


def test_new_file_is_one_put(
    calm: Callable[..., Path], tmp_path: Path, counted: Callable[[], Requests]
) -> None:
    path = calm()
    (tmp_path / "file").write_bytes(b"content")
    requests = counted()
    run("cp", tmp_path / "file", path / "copied")
    assert requests.counts == {"PutObject": 1}
    run("cp", "-p", tmp_path / "file", path / "with-attributes")
    assert requests.counts == {"PutObject": 2}
    run("touch", path / "empty")
    assert requests.counts == {"PutObject": 3}


@pytest.mark.parametrize(
    "line",
    [
        'echo text > "$1"',
        'printf text | cat > "$1"',
        'printf text | dd of="$1" status=none',
        '( exec 3> "$1"; printf text >&3 )',
        ': > "$1"',
        'umask 077; printf text | tee "$1"',
    ],
)
@pytest.mark.parametrize("old", [None, b"old"])
def test_redirection_of_a_shell_is_one_put(
    calm: Callable[..., Path], counted: Callable[[], Requests], line: str, old: bytes | None
) -> None:
    path = calm()
    if old is not None:
        (path / "file").write_bytes(old)
    requests = counted()
    run("sh", "-c", line, "sh", path / "file")
    # What is replaced is looked at first: somebody may have changed it.
    assert requests.counts == {"PutObject": 1} | ({} if old is None else {"HeadObject": 1})


def test_empty_file_is_in_cos_when_its_last_descriptor_is_closed(
    calm: Callable[..., Path], client: CosClient, bucket: str
) -> None:
    fd = os.open(calm() / "empty", os.O_WRONLY | os.O_CREAT)
    os.close(os.dup(fd))
    assert client.list_objects(bucket).objects == []
    os.close(fd)
    assert [info.key for info in client.list_objects(bucket).objects] == ["empty"]


def test_empty_file_is_in_cos_when_closed_though_another_mount_has_it_open(
    mount: Mount, client: CosClient, bucket: str
) -> None:
    """It has the same inode number there, as in a mount that was killed."""
    client.put_object(bucket, "file", b"old")
    other = os.open(mount(f"cos://{bucket}").path / "file", os.O_WRONLY)
    try:
        os.close(os.open(mount(f"cos://{bucket}").path / "file", os.O_WRONLY | os.O_TRUNC))
        assert client.head_object(bucket, "file").size == 0
    finally:
        os.close(other)


def test_empty_file_is_in_cos_when_fsync_returns(
    calm: Callable[..., Path], client: CosClient, bucket: str
) -> None:
    with (calm() / "empty").open("wb") as file:
        os.fsync(file.fileno())
        assert [info.key for info in client.list_objects(bucket).objects] == ["empty"]


def test_first_file_in_a_fresh_mount_is_at_most_two_requests(
    calm: Callable[..., Path], tmp_path: Path, counted: Callable[[], Requests]
) -> None:
    path = calm(listed=False)
    (tmp_path / "file").write_bytes(b"content")
    requests = counted()
    run("cp", tmp_path / "file", path / "file")
    assert requests.counts == {"ListObjects": 1, "PutObject": 1}


def test_tree_costs_one_put_each(
    calm: Callable[..., Path], tmp_path: Path, counted: Callable[[], Requests]
) -> None:
    expected = make_tree(tmp_path / "source")
    path = calm()
    requests = counted()
    spans = Spans()
    run("cp", "-a", tmp_path / "source", path / "copy")
    more = spans.of(ATTRIBUTE_DELAY)
    run("sync", "-f", path)
    # Each directory is made with one PUT, and gets its time with another when it is full.
    directories = 1 + sum(data is None for data in expected.values())
    links = sum(isinstance(data, str) for data in expected.values())
    until(lambda: requests.counts["PutObject"] >= len(expected) + 1, "everything is sent")
    assert requests.counts["PutObject"] <= len(expected) + 1 + directories + more
    assert requests.counts.get("CopyObject", 0) <= links + more
    assert requests.total <= len(expected) + 1 + directories + links + more


def test_saving_by_rename_is_one_put_in_async_mode(
    calm: Callable[..., Path], counted: Callable[[], Requests]
) -> None:
    path = calm("--write-back", "async")
    requests = counted()
    with (path / "temporary").open("wb") as file:
        file.write(b"saved")
        (path / "temporary").rename(path / "final")
    requests.settle(path)
    until(lambda: requests.counts.get("PutObject"), "it is sent")
    assert requests.counts == {"PutObject": 1}


def test_file_removed_before_it_was_sent_costs_nothing(
    calm: Callable[..., Path], counted: Callable[[], Requests]
) -> None:
    path = calm("--write-back", "async")
    requests = counted()
    spans = Spans()
    for number in range(20):
        (path / f"{number}").write_bytes(b"x")
        (path / f"{number}").unlink()
    more = spans.of(ASYNC_DELAY)
    requests.settle(path)
    assert requests.counts.get("PutObject", 0) <= more
    assert names(path) == []


def test_append_to_a_large_object_sends_little(
    calm: Callable[..., Path], bucket: str, client: CosClient, counted: Callable[[], Requests]
) -> None:
    client.put_object(bucket, "large", os.urandom(MIB) * 40)
    path = calm() / "large"
    path.stat()
    requests = counted()
    with path.open("ab") as file:
        file.write(b"appended")
    assert requests.total <= 6, requests.counts
    assert requests.bytes_received < 3 * MIB
    assert requests.bytes_sent < 3 * MIB


def test_attributes_of_one_file_are_one_copy(
    calm: Callable[..., Path], bucket: str, client: CosClient, counted: Callable[[], Requests]
) -> None:
    client.put_object(bucket, "file", b"content")
    path = calm() / "file"
    path.stat()
    requests = counted()
    spans = Spans()
    path.chmod(0o600)
    os.utime(path, (1, 1))
    os.setxattr(path, "user.note", b"x")
    more = spans.of(ATTRIBUTE_DELAY)
    with path.open("rb") as file:
        os.fsync(file.fileno())
    assert requests.counts.keys() == {"CopyObject"} and 1 <= requests.counts["CopyObject"] <= 1 + more


# --- changing the tree


def test_directories_and_links(calm: Callable[..., Path], counted: Callable[[], Requests]) -> None:
    path = calm()
    requests = counted()
    (path / "dir").mkdir()
    assert requests.counts == {"PutObject": 1}
    (path / "link").symlink_to("dir")
    assert requests.counts == {"PutObject": 2}
    (path / "dir").rmdir()
    (path / "link").unlink()
    requests.settle(path)
    assert requests.total <= 4, requests.counts


def test_rename_of_a_file_is_two_requests(
    calm: Callable[..., Path], bucket: str, client: CosClient, counted: Callable[[], Requests]
) -> None:
    for key in ("first", "old"):
        client.put_object(bucket, key, b"content")
    path = calm()
    run("mv", path / "first", path / "renamed")  # which asks whether these keys may remove
    (path / "old").stat()
    requests = counted()
    run("mv", path / "old", path / "new")
    requests.settle(path)
    assert requests.counts == {"CopyObject": 1, "DeleteObject": 1}


def test_rename_of_a_directory_is_a_copy_each(
    calm: Callable[..., Path], bucket: str, client: CosClient, counted: Callable[[], Requests]
) -> None:
    put_many(client, bucket, "old/", 250)
    path = calm()
    (path / "old").stat()
    requests = counted()
    run("mv", path / "old", path / "new")
    requests.settle(path)
    assert requests.counts["CopyObject"] == 250
    assert requests.total <= 250 + 6, requests.counts


def test_rm_r_sends_batches(
    calm: Callable[..., Path], bucket: str, client: CosClient, counted: Callable[[], Requests]
) -> None:
    put_many(client, bucket, "many/", 1000)
    path = calm("--attributes", "listing")
    requests = counted()
    spans = Spans()
    run("rm", "-r", path / "many")
    requests.settle(path)
    assert client.list_objects(bucket).objects == []
    # A batch each while, however many names a slow machine removes meanwhile.
    assert requests.total <= 8 + spans.of(DELAY), requests.counts


def test_git_status_again_asks_nothing(calm: Callable[..., Path], counted: Callable[[], Requests]) -> None:
    work = calm() / "repository"
    make_tree(work)
    git = ["git", "-C", work, "-c", "user.name=Test", "-c", "user.email=test@example.org"]
    run("git", "init", "--quiet", work)
    run(*git, "add", ".")
    run(*git, "commit", "--quiet", "-m", "first")

    def asked() -> int:
        requests = counted()
        assert run(*git, "status", "--porcelain") == ""
        return requests.total

    # Git writes its index anew for as long as a file is as new as the index: a second at most.
    until(lambda: asked() <= 3, "a git status that asks next to nothing")


def _helpers(mounted: Mounted) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{mounted.pid}/task/{mounted.pid}/children").read_text().split()]


@pytest.fixture
def many(client: CosClient, bucket: str) -> dict[str, int]:
    """Names and modes of files in `many/`."""
    modes = {f"f{number:03}": 0o600 + number % 0o100 for number in range(200)}
    for name, mode in modes.items():
        client.put_object(
            bucket, f"many/{name}", b"x", headers=Headers(metadata={"mode": str(0o100000 + mode)})
        )
    return modes


def _shown(directory: Path) -> dict[str, int]:
    return {entry.name: entry.stat().st_mode & 0o7777 for entry in os.scandir(directory)}


def test_attributes_of_a_directory_are_read_with_its_names(
    mount: Mount, counted: Callable[[], Requests], bucket: str, many: dict[str, int], cos: Cos
) -> None:
    mounted = mount(f"cos://{bucket}", "--metadata-ttl", "60s")
    (helper,) = _helpers(mounted)
    seen = counted()
    assert _shown(mounted.path / "many") == many
    assert seen.counts["HeadObject"] <= len(many) + 1
    status = cos("stats", mounted.path, "--prometheus").stdout
    lookups = re.search(r'^cosfs_operation_seconds_count\{operation="lookup"\} (\d+)', status, re.MULTILINE)
    assert lookups is not None
    assert int(lookups[1]) < len(many) // 2
    mounted.process.kill()
    mounted.process.wait()
    until(lambda: not alive(helper), "its second process has ended")


def test_attributes_are_read_though_the_second_process_is_killed(
    mount: Mount, counted: Callable[[], Requests], bucket: str, many: dict[str, int], cos: Cos
) -> None:
    mounted = mount(f"cos://{bucket}", "--metadata-ttl", "60s")
    (helper,) = _helpers(mounted)
    os.kill(helper, signal.SIGKILL)
    until(lambda: not _helpers(mounted), "it was noticed")
    seen = counted()
    assert _shown(mounted.path / "many") == many
    assert seen.counts["HeadObject"] <= len(many) + 1


def test_names_alone_cost_no_attributes_beyond_those_that_were_asked_for(
    mount: Mount, counted: Callable[[], Requests], bucket: str, many: dict[str, int]
) -> None:
    mounted = mount(f"cos://{bucket}", "--metadata-ttl", "60s")
    seen = counted()
    assert sorted(path.name for path in (mounted.path / "many").iterdir()) == sorted(many)
    assert seen.counts.get("HeadObject", 0) <= 1
