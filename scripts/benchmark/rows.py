"""What is done to a mount: the rows of its tables."""

from __future__ import annotations

import io
import os
import random
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

GIB = 1024**3
SMALL = 4096


@dataclass(frozen=True, slots=True)
class Seed:
    """Objects that the bucket holds before the mount begins."""

    prefix: str
    count: int
    size: int = SMALL
    directories: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """One row.

    work: words for workload.py, in which {mnt}, {lab}, {count} and {size} stand for places and numbers.
    stored: a prefix, how many objects and how many bytes the server has below it when all is done.
    after: the row that is done before it, on the same mount.
    """

    name: str
    title: str
    work: str
    count: int = 1
    size: int = SMALL
    seed: Seed | None = None
    found: int = 0
    stored: tuple[str, int, int] | None = None
    gone: str = ""
    after: str = ""


FILES, TREE = 1000, 2000


def rows(scale: float = 1.0) -> list[Row]:
    """Return all rows; a scale below 1 makes them smaller, to try the script itself."""

    def many(count: int) -> int:
        return max(2, round(count * scale))

    large = max(2**20, round(GIB * scale) // 2**20 * 2**20)
    few, more, files = many(FILES), many(10 * FILES), many(TREE)
    big = Seed("big/", 1, large)
    k1, k10 = Seed("k1/", few), Seed("k10/", more)
    tree_bytes = sum(len(data) for _, data in tree(files))
    one = "{mnt}/big/f000000"
    return [
        Row("read", "sequential read, 1 GiB, cold", f"read {one}", 1, large, big, large),
        Row("reread", "the same once more", f"read {one}", 1, large, big, large, after="read"),
        Row("write", "sequential write, 1 GiB, closed", "write {mnt}/w {size}", 1, large,
            stored=("w", 1, large)),
        Row("random", "200 random reads of 4 KiB, cold", f"at_random {one} {{count}}", many(200), large, big,
            many(200) * SMALL),
        Row("create", "1,000 x 4 KiB created", "create {mnt}/new {count} {size}", few,
            stored=("new/f", few, few * SMALL)),
        Row("small", "1,000 x 4 KiB read, cold", "read_small {mnt}/k1 {count}", few, SMALL, k1, few * SMALL),
        Row("ls", "`ls -l` of 1,000, cold", "command ls -l {mnt}/k1", few, 0, k1, few),
        Row("ls_again", "`ls -l` of 1,000 once more", "command ls -l {mnt}/k1", few, 0, k1, few, after="ls"),
        Row("ls_10k", "`ls -l` of 10,000, cold", "command ls -l {mnt}/k10", more, 0, k10, more),
        Row("ls_10k_again", "`ls -l` of 10,000 once more", "command ls -l {mnt}/k10", more, 0, k10, more,
            after="ls_10k"),
        Row("find", "`find` of 10,000 in 100 directories", "command find {mnt}/tree -type f", more, 0,
            Seed("tree/", more, directories=many(100)), more),
        Row("stat", "stat of 1,000, cold", "stat {mnt}/k1 {count}", few, SMALL, k1, few * SMALL),
        Row("rm", "`rm -r` of 1,000", "command rm -r {mnt}/k1", few, 0, k1, gone="k1/f"),
        Row("mv", "a directory of 1,000 renamed", "command mv {mnt}/k1 {mnt}/k2", few, 0, k1,
            stored=("k2/f", few, few * SMALL), gone="k1/f"),
        Row("untar", "2,000 files unpacked by `tar`",
            "command tar xf {lab}/tree.tar -C {mnt} --no-same-owner", files, 0,
            stored=("un/", files, tree_bytes)),
        Row("clone", "`git clone` of 300 files", "command git clone -q file://{lab}/source.git {mnt}/clone",
            many(300), 0, stored=("clone/", many(300), 0)),
    ]  # fmt: skip


def tree(count: int) -> list[tuple[str, bytes]]:
    """Return names and contents of small files like those of a source tree; always the same."""
    chance = random.Random(4)
    return [
        (
            f"un/d{number % max(1, count // 20):03}/f{number:05}.txt",
            chance.randbytes(chance.randint(50, 16000)),
        )
        for number in range(count)
    ]


def make_sources(lab: Path, scale: float) -> None:
    """Write into the lab what the rows unpack and clone."""
    by_name = {row.name: row for row in rows(scale)}
    with tarfile.open(lab / "tree.tar", "w") as archive:
        for name, data in tree(by_name["untar"].count):
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.mode = len(data), 1_700_000_000, 0o644
            archive.addfile(info, io.BytesIO(data))
    source = lab / "source"
    for name, data in tree(by_name["clone"].count):
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    person = {
        f"GIT_{who}_{what}": "bench@localhost"
        for who in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    }
    environment = {**os.environ, **person, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    for words in (
        ["init", "-q", "-b", "main", str(source)],
        ["-C", str(source), "add", "-A"],
        ["-C", str(source), "commit", "-q", "-m", "all"],
        ["clone", "-q", "--bare", str(source), str(lab / "source.git")],
    ):
        subprocess.run(["git", *words], env=environment, check=True, stdin=subprocess.DEVNULL)
