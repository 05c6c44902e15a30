"""The same random calls on the mount and on a local directory must have the same results.

They are the same in each run, unless COS_TEST_SEED=N says otherwise, or COS_TEST_SEED=any; a failure names
its seed. COS_TEST_STEPS=N makes it longer.
"""

# The calls themselves are tested, so they are written as such.
# ruff: noqa: PTH101, PTH102, PTH104, PTH106, PTH108, PTH112, PTH114, PTH115, PTH116, PTH208, PTH211
from __future__ import annotations

import errno
import os
import random
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fuse.support import tree, until
from tests.mounting import Mounted

SEED = (
    random.SystemRandom().randrange(1, 1 << 32)
    if os.environ.get("COS_TEST_SEED") == "any"
    else int(os.environ.get("COS_TEST_SEED", "20260105"))
)
STEPS = int(os.environ.get("COS_TEST_STEPS", "0"))
NAMES = ("a", "b", "c", "d d", "é")
Call = tuple[str, tuple[Any, ...]]


# --- one file


class Pair:
    """The same file twice, open several times: on the mount and locally."""

    def __init__(self, mounted: Path, local: Path) -> None:
        self.paths = (mounted, local)
        self.handles: list[tuple[int, int]] = []

    def open(self, flags: int) -> None:
        self.handles.append(tuple(os.open(path, flags, 0o644) for path in self.paths))  # type: ignore[arg-type]

    def close(self, index: int) -> None:
        for fd in self.handles.pop(index):
            os.close(fd)

    def both(self, index: int, call: Callable[[int], object]) -> None:
        mounted, local = (call(fd) for fd in self.handles[index])
        assert mounted == local

    def compare(self) -> None:
        mounted, local = self.paths
        assert mounted.stat().st_size == local.stat().st_size
        assert mounted.read_bytes() == local.read_bytes()


def step(pair: Pair, chance: random.Random, size: int, log: list[tuple[object, ...]]) -> None:
    """One random call on a file of up to size bytes, much as fsx makes them."""
    offset = chance.choice((chance.randrange(size), chance.randrange(size) & ~4095))
    length = min(chance.choice((1, 10, 4096, chance.randrange(1, 70_000))), size - offset)
    data = chance.randbytes(length)
    index = chance.randrange(len(pair.handles))
    names = ("write", "read", "truncate", "append", "reopen", "fsync", "open", "close", "compare")
    name = chance.choices(names, (30, 30, 6, 5, 4, 3, 4, 4, 1))[0]
    log.append((name, offset, length, index))
    if name == "write":
        pair.both(index, lambda fd: os.pwrite(fd, data, offset))
    elif name == "read":
        pair.both(index, lambda fd: os.pread(fd, length, offset))
    elif name == "truncate":
        pair.both(index, lambda fd: os.ftruncate(fd, offset))
    elif name == "append":
        pair.both(index, lambda fd: (os.lseek(fd, 0, os.SEEK_END), os.write(fd, data)))
    elif name == "fsync":
        pair.both(index, os.fsync)
    elif name == "open" and len(pair.handles) < 4:
        pair.open(os.O_RDWR)
    elif name == "close" and len(pair.handles) > 1:
        pair.close(index)
    elif name == "reopen":
        while pair.handles:
            pair.close(0)
        pair.open(os.O_RDWR | chance.choice((0, 0, 0, os.O_TRUNC)))
    elif name == "compare":
        pair.compare()


@pytest.mark.parametrize(("size", "steps"), [(200_000, 700), (40_000_000, 120)])
def test_one_file(mountpoint: Path, tmp_path: Path, size: int, steps: int) -> None:
    chance = random.Random(SEED)
    pair = Pair(mountpoint / "file", tmp_path / "file")
    pair.open(os.O_RDWR | os.O_CREAT)
    log: list[tuple[object, ...]] = []
    try:
        for _ in range(STEPS or steps):
            step(pair, chance, size, log)
        while pair.handles:
            pair.close(0)
        pair.compare()
    except BaseException as error:
        error.add_note(f"COS_TEST_SEED={SEED}; the last calls: {log[-30:]}")
        raise
    finally:
        while pair.handles:
            pair.close(0)


# --- a tree


class TwoTrees:
    """Runs calls below two directories and compares what comes of them."""

    def __init__(self, mounted: Path, local: Path) -> None:
        self.tops = (mounted, local)
        self.open: dict[str, tuple[int, int]] = {}

    def agree(self) -> bool:
        """Whether both hold the same; not yet if that is still being changed meanwhile."""
        mounted, local = self.tops
        try:
            return tree(mounted) == tree(local)
        except OSError as error:
            assert error.errno in RACES | {errno.ESTALE}
            return False

    def call(self, name: str, *args: Any) -> None:
        results = []
        for top in self.tops:
            try:
                results.append(getattr(self, f"do_{name}")(top, *args))
            except OSError as error:
                results.append(errno.errorcode[error.errno or 0])
        assert results[0] == results[1], (name, args)

    @staticmethod
    def do_write(top: Path, path: str, data: bytes) -> None:
        (top / path).write_bytes(data)

    @staticmethod
    def do_append(top: Path, path: str, data: bytes) -> None:
        with (top / path).open("ab") as file:
            file.write(data)

    @staticmethod
    def do_create(top: Path, path: str) -> None:
        os.close(os.open(top / path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))

    @staticmethod
    def do_read(top: Path, path: str) -> bytes:
        return (top / path).read_bytes()

    @staticmethod
    def do_truncate(top: Path, path: str, size: int) -> None:
        os.truncate(top / path, size)

    @staticmethod
    def do_mkdir(top: Path, path: str) -> None:
        os.mkdir(top / path)

    @staticmethod
    def do_rmdir(top: Path, path: str) -> None:
        os.rmdir(top / path)

    @staticmethod
    def do_unlink(top: Path, path: str) -> None:
        os.unlink(top / path)

    @staticmethod
    def do_rename(top: Path, old: str, new: str) -> None:
        os.rename(top / old, top / new)

    @staticmethod
    def do_symlink(top: Path, path: str, target: str) -> None:
        os.symlink(target, top / path)

    @staticmethod
    def do_readlink(top: Path, path: str) -> str:
        return os.readlink(top / path)

    @staticmethod
    def do_chmod(top: Path, path: str, mode: int) -> None:
        os.chmod(top / path, mode)

    @staticmethod
    def do_utime(top: Path, path: str, moment: int) -> None:
        os.utime(top / path, ns=(moment, moment))

    @staticmethod
    def do_list(top: Path, path: str) -> list[str]:
        return sorted(os.listdir(top / path))

    @staticmethod
    def do_stat(top: Path, path: str) -> tuple[int, ...]:
        info = os.lstat(top / path)
        size = info.st_size if not stat.S_ISDIR(info.st_mode) else 0
        return info.st_mode, info.st_uid, info.st_gid, size

    @staticmethod
    def do_mtime(top: Path, path: str, moment: int) -> int:
        os.utime(top / path, ns=(moment, moment))
        return os.stat(top / path).st_mtime_ns

    @staticmethod
    def do_removetree(top: Path, path: str) -> None:
        if os.path.isdir(top / path) and not os.path.islink(top / path):
            shutil.rmtree(top / path)
        else:
            os.unlink(top / path)


WEIGHTS = {
    "write": 20, "append": 6, "create": 6, "read": 12, "truncate": 5, "mkdir": 16, "rmdir": 6, "unlink": 10,
    "rename": 18, "symlink": 3, "readlink": 2, "chmod": 4, "utime": 2, "list": 8, "stat": 10, "mtime": 3,
    "removetree": 2,
}  # fmt: skip


def tree_call(chance: random.Random) -> Call:
    """One call with random arguments."""

    def path() -> str:
        return "/".join(chance.choice(NAMES) for _ in range(chance.choices((1, 2, 3), (5, 4, 2))[0]))

    name = chance.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    more: dict[str, Callable[[], tuple[Any, ...]]] = {
        "write": lambda: (chance.randbytes(chance.choice((0, 1, 100, 20_000))),),
        "append": lambda: (chance.randbytes(50),),
        "truncate": lambda: (chance.randrange(30_000),),
        "rename": lambda: (path(),),
        "symlink": lambda: (path(),),
        "chmod": lambda: (chance.choice((0o600, 0o644, 0o755, 0o777)),),
        "utime": lambda: (chance.randrange(1 << 61),),
        "mtime": lambda: (chance.randrange(1 << 61),),
    }
    return name, (path(), *more.get(name, tuple)())


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--write-back", "async"),
        ("--metadata-ttl", "0"),
        ("--metadata-ttl", "0", "--write-back", "async", "--block-size", "64KB", "--cache-size", "100KB"),
    ],
    ids=["close", "async", "forgetful", "forgetful-async"],
)
def test_a_tree(mount: Callable[..., Mounted], bucket: str, tmp_path: Path, options: tuple[str, ...]) -> None:
    chance = random.Random(SEED)
    (tmp_path / "local").mkdir()
    first = mount(f"cos://{bucket}", *options)
    both = TwoTrees(first.path, tmp_path / "local")
    log = []
    try:
        for step in range(STEPS or 500):
            name, args = tree_call(chance)
            log.append((name, *(arg if not isinstance(arg, bytes) else len(arg) for arg in args)))
            both.call(name, *args)
            if step % 100 == 99:
                assert tree(first.path) == tree(tmp_path / "local")
        assert first.unmount() == 0
        again = mount(f"cos://{bucket}").path
        assert tree(again) == tree(tmp_path / "local")
        until(lambda: attributes(again) == attributes(tmp_path / "local"), "attributes agree")
    except BaseException as error:
        error.add_note(f"COS_TEST_SEED={SEED}; the last calls: {log[-40:]}")
        raise


def attributes(top: Path) -> dict[str, tuple[int, ...]]:
    """Mode, owner and, of files, size of everything below a directory."""
    return {name: TwoTrees.do_stat(top, name) for name in tree(top)}


# --- many at once

# What a program may be told when another one changes the same names: nothing else.
RACES = frozenset(
    {errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY, errno.EINVAL, errno.ELOOP}
)


def work(top: Path, seed: int, steps: int) -> str:
    """Make random calls below a directory; return what failed as it never should."""
    chance = random.Random(seed)
    calls = TwoTrees(top, top)
    for _ in range(steps):
        name, args = tree_call(chance)
        try:
            getattr(calls, f"do_{name}")(top, *args)
        except OSError as error:
            if error.errno not in RACES:
                return f"{name}{args[:2]!r:.100}: {error}"
    return ""


@pytest.mark.parametrize("write_back", ["close", "async"])
def test_many_processes(mount: Callable[..., Mounted], bucket: str, write_back: str) -> None:
    first = mount(f"cos://{bucket}", "--write-back", write_back)
    code = "import sys; from pathlib import Path; from tests.fuse.test_random import work; "
    code += "sys.exit(work(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])) or None)"
    root = Path(__file__).resolve().parents[2]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, first.path, str(SEED + number), str(STEPS or 150)],
            stderr=subprocess.PIPE, text=True, cwd=root,
        )
        for number in range(4)
    ]  # fmt: skip
    said = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0, 0], f"COS_TEST_SEED={SEED}: {said}"
    before = tree(first.path)
    assert first.unmount() == 0
    assert tree(mount(f"cos://{bucket}").path) == before, f"COS_TEST_SEED={SEED}"


@pytest.mark.parametrize("write_back", ["close", "async"])
def test_killed_at_any_moment(
    mount: Callable[..., Mounted], bucket: str, tmp_path: Path, write_back: str
) -> None:
    chance = random.Random(SEED)
    (tmp_path / "local").mkdir()
    log: list[tuple[object, ...]] = []
    cache = tmp_path / "cache"
    try:
        for _ in range(4):
            options = ("--write-back", write_back, "--metadata-ttl", "0.2s")
            mounted = mount(f"cos://{bucket}", *options, cache_dir=cache)
            both = TwoTrees(mounted.path, tmp_path / "local")
            until(both.agree, "all that was done before is there")
            for _ in range(chance.randrange(STEPS or 80)):
                name, args = tree_call(chance)
                log.append((name, *(arg if not isinstance(arg, bytes) else len(arg) for arg in args)))
                both.call(name, *args)
            mounted.kill()
            log.append(("killed",))
    except BaseException as error:
        error.add_note(f"COS_TEST_SEED={SEED}; the last calls: {log[-60:]}")
        raise
