"""What others do in the bucket is seen, here and in the kernel; what is changed here is not lost by it."""

from __future__ import annotations

import errno
import json
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Cos
from tests.fuse.support import until
from tests.mounting import Mounted
from tests.semantics.conftest import Outside, names, settle

SHORT = ("--metadata-ttl", "0.2s")
LONG = ("--metadata-ttl", "10m")  # nothing is seen by itself
REGULAR = stat.S_IFREG


Refresh = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def refresh(cos: Cos) -> Refresh:
    """Run `cos refresh` and return what it says."""

    def run(*arguments: str | Path) -> list[dict[str, Any]]:
        answers: list[dict[str, Any]] = json.loads(
            cos("refresh", "--output", "json", *arguments, check=True).stdout
        )
        return answers

    return run


@dataclass
class Seen:
    """A way in which changes come to be seen: after the time to live, or by `cos refresh`."""

    options: tuple[str, ...]
    refresh: Refresh | None

    @contextmanager
    def __call__(self, top: Path) -> Iterator[None]:
        """Change something inside; it is seen when this is left."""
        yield
        if self.refresh is None:
            time.sleep(0.4)
        else:
            self.refresh("--recursive", top)


@pytest.fixture(params=["ttl", "refresh"])
def seen(request: pytest.FixtureRequest, refresh: Refresh) -> Seen:
    return Seen(SHORT, None) if request.param == "ttl" else Seen(LONG, refresh)


def test_new_and_removed_names_are_seen(
    mount_bucket: Callable[..., Path], outside: Outside, seen: Seen
) -> None:
    outside.put("dir/old", b"x")
    top = mount_bucket(*seen.options)
    assert names(top / "dir") == ["old"] and not (top / "dir" / "new").exists()
    with seen(top):
        outside.put("dir/new", b"yes")
        outside.client.delete_object(outside.bucket, "dir/old")
    assert (top / "dir" / "new").read_bytes() == b"yes"
    assert not (top / "dir" / "old").exists()
    assert names(top / "dir") == ["new"]


def test_new_content_is_seen(mount_bucket: Callable[..., Path], outside: Outside, seen: Seen) -> None:
    outside.put("file", b"first")
    top = mount_bucket(*seen.options)
    assert (top / "file").read_bytes() == b"first"
    with seen(top):
        outside.put("file", b"another")
    assert (top / "file").stat().st_size == 7
    assert (top / "file").read_bytes() == b"another"


def test_a_change_of_attributes_alone_is_seen(
    mount_bucket: Callable[..., Path], outside: Outside, seen: Seen
) -> None:
    outside.put("file", b"same", mode=str(REGULAR | 0o600))
    outside.put("dir/", b"", mode=str(stat.S_IFDIR | 0o700))
    top = mount_bucket(*seen.options)
    assert stat.S_IMODE((top / "file").stat().st_mode) == 0o600
    assert stat.S_IMODE((top / "dir").stat().st_mode) == 0o700
    time.sleep(1.1)  # dates of objects are whole seconds
    with seen(top):
        outside.put("file", b"same", mode=str(REGULAR | 0o644))
        outside.put("dir/", b"", mode=str(stat.S_IFDIR | 0o755))
    assert stat.S_IMODE((top / "file").stat().st_mode) == 0o644
    until(lambda: stat.S_IMODE((top / "dir").stat().st_mode) == 0o755, "the first look has it asked for")


def test_files_and_directories_take_each_others_place(
    mount_bucket: Callable[..., Path], outside: Outside, seen: Seen
) -> None:
    outside.put("one", b"file")
    outside.put("two/below", b"x")
    top = mount_bucket(*seen.options)
    assert (top / "one").is_file() and (top / "two" / "below").is_file()
    with seen(top):
        outside.client.delete_object(outside.bucket, "one")
        outside.put("one/below", b"now a directory")
        outside.client.delete_object(outside.bucket, "two/below")
        outside.put("two", b"now a file")
    assert (top / "one" / "below").read_bytes() == b"now a directory"
    assert (top / "two").read_bytes() == b"now a file"


def test_refresh_of_a_file_says_what_has_become_of_it(
    mount_bucket: Callable[..., Path], outside: Outside, refresh: Refresh
) -> None:
    for name in ("changed", "gone", "same"):
        outside.put(name, b"1")
    top = mount_bucket(*LONG)
    assert [(top / name).read_bytes() for name in ("changed", "gone", "same")] == [b"1"] * 3
    assert not (top / "new").exists()
    outside.put("changed", b"22")
    outside.put("new", b"n")
    outside.client.delete_object(outside.bucket, "gone")
    paths = [top / name for name in ("changed", "gone", "same", "new", "never")]
    assert [answer["state"] for answer in refresh(*paths)] == [
        "changed",
        "gone",
        "unchanged",
        "new",
        "absent",
    ]
    assert (top / "changed").read_bytes() == b"22" and (top / "new").read_bytes() == b"n"
    assert not (top / "gone").exists()


def test_refresh_of_a_directory_is_not_of_those_below_unless_recursive(
    mount_bucket: Callable[..., Path], outside: Outside, refresh: Refresh
) -> None:
    outside.put("dir/sub/old", b"x")
    top = mount_bucket(*LONG)
    assert names(top / "dir" / "sub") == ["old"]
    # Short of memory, the kernel forgets directories, and we what we know of them: no open one.
    held = os.open(top / "dir" / "sub", os.O_RDONLY)
    try:
        outside.put("dir/sub/new", b"x")
        assert refresh(top / "dir")[0]["directories"] == 1
        assert names(top / "dir" / "sub") == ["old"]
        assert refresh("-r", top / "dir")[0]["directories"] == 2
        assert names(top / "dir" / "sub") == ["new", "old"]
    finally:
        os.close(held)


def test_refresh_keeps_what_is_changed_here_and_says_so(
    mount_bucket: Callable[..., Path], outside: Outside, refresh: Refresh
) -> None:
    outside.put("file", b"old")
    top = mount_bucket(*LONG)
    with (top / "file").open("wb") as file:
        file.write(b"mine")
        file.flush()
        (answer,) = refresh(top)
        assert answer["kept_count"] == 1 and answer["kept"][0].endswith("/file")
        assert (top / "file").read_bytes() == b"mine"
    assert outside.get("file") == b"mine"


def test_refresh_outside_of_mounts_is_refused(cos: Cos, tmp_path: Path) -> None:
    done = cos("refresh", tmp_path)
    assert done.returncode == 252 and "is in no mount" in done.stderr


def test_a_listing_that_shows_a_new_name_makes_it_known_at_once(
    mount_bucket: Callable[..., Path], outside: Outside
) -> None:
    top = mount_bucket("--metadata-ttl", "0.5s")
    for count in range(50):
        assert not (top / f"new{count}").exists()  # the kernel believes this for longer than it takes to look
        outside.put(f"new{count}", b"x")
        while f"new{count}" not in names(top):
            assert not (top / f"new{count}").exists() or f"new{count}" in names(top)
            time.sleep(0.05)
        settle(top)  # the notification is on its way while the names are
        soon = _soon_there(top / f"new{count}", 0.3)
        until((top / f"new{count}").exists, "the kernel knows it")
        if soon:
            break  # without the notification it is none of them; a busy machine is late for some
    else:
        pytest.fail("the kernel was not told")


def _soon_there(path: Path, seconds: float) -> bool:
    """Whether a path is there well before the kernel would ask by itself."""
    deadline = time.monotonic() + seconds
    while not path.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_an_open_file_that_is_replaced_is_one_or_the_other(
    mount_bucket: Callable[..., Path], outside: Outside
) -> None:
    size = 6 << 20
    outside.put("file", b"a" * size)
    top = mount_bucket(*SHORT)
    with (top / "file").open("rb", buffering=0) as old:
        first = os.pread(old.fileno(), 4096, 0)
        outside.put("file", b"b" * size)
        time.sleep(0.4)
        assert (top / "file").read_bytes() == b"b" * size, "whoever opens it now has the new one"
        read = first
        for offset in range(0, size, 1 << 20):
            try:
                read += os.pread(old.fileno(), 1 << 20, offset)
            except OSError as error:
                assert error.errno == errno.ESTALE
        assert set(read) == set(b"a"), "the pages of the new one are not shown to who opened the old one"
        assert os.fstat(old.fileno()).st_ino != (top / "file").stat().st_ino


def test_a_file_removed_by_others_while_written_here_is_kept(
    mount: Callable[..., Mounted], bucket: str, outside: Outside
) -> None:
    outside.put("dir/file", b"old")
    made = mount(f"cos://{bucket}", *SHORT)
    with (made.path / "dir" / "file").open("r+b") as file:
        file.write(b"mine")
        file.flush()
        outside.client.delete_object(bucket, "dir/file")
        time.sleep(0.4)
        assert names(made.path / "dir") == ["file"], "directory and file stay for what was written"
    assert outside.get("dir/file") == b"mine"
    assert "removed by somebody else" in made.log_text()


def test_a_bucket_that_comes_or_goes_is_seen(
    mount: Callable[..., Mounted], outside: Outside, refresh: Refresh
) -> None:
    top = mount("cos://").path
    made = outside.bucket.replace("test-", "later-")
    assert made not in names(top)
    outside.client.create_bucket(made)
    refresh(top)
    assert made in names(top)
    (top / made / "file").write_bytes(b"x")
    outside.client.delete_object(made, "file")
    outside.client.delete_bucket(made)
    refresh(top)
    assert made not in names(top) and not (top / made).exists()
