"""`cos mount --as-of`: a versioned bucket as it was."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cosfs.emulator import Emulator
from tests.fuse.support import fails_with, tree
from tests.fuse.users import User, user_of
from tests.mounting import is_mounted

DAY = 86400.0
SOURCE = "cos://past-1250000000"

pytestmark = pytest.mark.fuse


@pytest.fixture
def other(server: Emulator, tmp_path: Path) -> Iterator[User]:
    server.clock.advance(-30 * DAY)
    with user_of(server, tmp_path.resolve() / "home") as made:
        assert made.cos("mb", SOURCE).returncode == 0
        yield made


def test_the_tree_as_it_was(server: Emulator, other: User) -> None:
    user, path = other, other.mountpoint
    assert user.cos("versioning", "enable", SOURCE).returncode == 0
    server.clock.advance(20 * DAY)

    def change(do: Callable[[], object]) -> None:
        user.mount(SOURCE)
        do()
        assert user.cos("umount", path).returncode == 0

    def first() -> None:
        (path / "dir/sub").mkdir(parents=True)
        (path / "dir/sub/file").write_bytes(b"first" * 1000)
        (path / "gone").write_text("was here")
        (path / "gone").chmod(0o600)
        (path / "link").symlink_to("dir/sub/file")

    def second() -> None:
        (path / "dir/sub/file").write_bytes(b"second")
        (path / "gone").unlink()
        (path / "later").mkdir()
        (path / "later/file").write_text("new")

    change(first)
    server.clock.advance(5 * DAY)
    change(second)
    server.clock.advance(5 * DAY)
    user.mount(SOURCE, "--as-of", "7d ago")
    assert tree(path) == {
        "dir": None, "dir/sub": None, "dir/sub/file": b"first" * 1000, "gone": b"was here",
        "link": "dir/sub/file",
    }  # fmt: skip
    assert (path / "gone").stat().st_mode & 0o777 == 0o600
    assert time.time() - (path / "gone").stat().st_mtime > -DAY
    for change_it in (
        lambda: (path / "new").touch(), lambda: (path / "gone").unlink(),
        lambda: (path / "gone").chmod(0o644), lambda: (path / "gone").write_text("x"),
        lambda: (path / "dir").rename(path / "other"),
    ):  # fmt: skip
        with fails_with(errno.EROFS):
            change_it()
    found = user.one()
    assert found["read_only"] and abs(found["as_of"] - (time.time() - 7 * DAY)) < 600
    assert "As of\t" in user.cos("status", path).stdout
    # The present can be mounted at the same time, and shows itself.
    present = user.home / "present"
    present.mkdir()
    assert user.cos("mount", SOURCE, present).returncode == 0
    assert tree(present)["dir/sub/file"] == b"second"
    (present / "dir/sub/file").write_bytes(b"third")
    assert (path / "dir/sub/file").read_bytes() == b"first" * 1000
    assert user.cos("umount", present, path).returncode == 0
    date = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 2 * DAY))
    user.mount("cos://", "-o", f"as_of={date}")
    assert tree(path / "past-1250000000")["dir/sub/file"] == b"second"
    assert user.cos("umount", path).returncode == 0
    before = set((user.home / ".cache/cosfs").iterdir())
    user.mount(f"{SOURCE}/dir", "--as-of", "11d")
    assert tree(path) == {}
    assert user.cos("umount", path).returncode == 0
    assert set((user.home / ".cache/cosfs").iterdir()) == before  # nothing stays behind


def test_requests_for_the_past(server: Emulator, other: User) -> None:
    assert other.cos("versioning", "enable", SOURCE).returncode == 0
    server.clock.advance(29 * DAY)
    server.put_objects("past-1250000000", ((f"{n:03}", b"x" * n) for n in range(1, 101)))
    server.clock.advance(DAY)
    other.mount(SOURCE, "--as-of", "1h", "--attributes", "listing")
    server.requests.reset()
    assert len(tree(other.mountpoint)) == 100
    assert server.requests["ListObjectVersions"] == 1
    assert server.requests["GetObject"] == 100 and server.requests.total == 101
    assert len(tree(other.mountpoint)) == 100
    assert server.requests.total == 101


@pytest.mark.parametrize(
    ("moment", "code", "says"),
    [
        ("1h", 255, "cos://past-1250000000 keeps no old versions"),
        ("2999-01-01", 252, "has not been yet"),
        ("yesterday", 252, "neither an age nor a date"),
    ],
)
def test_moments_that_cannot_be_shown(other: User, moment: str, code: int, says: str) -> None:
    done = other.cos("mount", SOURCE, other.mountpoint, "--as-of", moment)
    assert done.returncode == code and says in done.stderr, (done.returncode, done.stderr)
    assert not is_mounted(other.mountpoint)


def test_an_unversioned_bucket_among_all(server: Emulator, other: User) -> None:
    other.mount("cos://", "--as-of", "0s")
    with fails_with(errno.EOPNOTSUPP):
        list((other.mountpoint / "past-1250000000").iterdir())
    assert "keeps no old versions" in other.log()
