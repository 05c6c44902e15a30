"""A disk that can lose its power: what was written to it and not flushed may be there afterwards, or not.

A file of qemu-storage-daemon (FUSE) is the disk, a loop device makes the kernel's own filesystems work on
it, and the driver blklogwrites records each write and each flush that arrives. When the power is lost, the
daemon is killed, so that what the kernel's page cache holds can go nowhere, and the disk is made anew from
the record: all up to the last flush, and of what came later any part.
"""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SIZE = 400 << 20  # btrfs and xfs want 300 MB at least
NEEDED = {
    "qemu-storage-daemon": "qemu-utils",
    "qemu-img": "qemu-utils",
    "losetup": "mount",
}
MAKERS = {"mkfs.ext4": "e2fsprogs", "mkfs.xfs": "xfsprogs", "mkfs.btrfs": "btrfs-progs"}
SECTOR = 512  # of the record
FLUSH, DISCARD = 1, 4  # flags of entries, dm-log-writes.txt of the kernel
_SUPER = struct.Struct("<QQQI")
_MAGIC = 0x6A736677736872
_ENTRY = struct.Struct("<QQQ")  # sector, sectors, flags
READY_WITHIN = 10.0


@dataclass(frozen=True, slots=True)
class Format:
    """How a filesystem is made and mounted."""

    kind: str  # as mount(8) calls it
    make: tuple[str, ...]
    options: str = "defaults"


_EXT4 = ("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0")
FILESYSTEMS = {
    "ext4": Format("ext4", (*_EXT4, "-b", "4096")),
    "ext4-1k": Format("ext4", (*_EXT4, "-b", "1024")),
    "ext4-writeback": Format("ext4", (*_EXT4, "-b", "4096"), "data=writeback"),
    "ext4-nodelalloc": Format("ext4", (*_EXT4, "-b", "4096"), "nodelalloc"),
    "ext4-discard": Format("ext4", (*_EXT4, "-b", "4096"), "discard"),
    "xfs": Format("xfs", ("mkfs.xfs", "-q", "-f")),
    "btrfs": Format("btrfs", ("mkfs.btrfs", "-q", "-f")),
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One write, or a flush of all that were done before it."""

    offset: int
    size: int
    flags: int
    data_at: int  # in the record


@dataclass
class Lost:
    """What one loss of power came to."""

    writes: int = 0
    flushes: int = 0
    unflushed: int = 0
    dropped: int = 0


def missing(filesystem: str) -> str:
    """Say what this machine lacks for a disk with a filesystem, "" if nothing."""
    if os.geteuid() != 0:
        return "only root can mount the disk that loses its power"
    if not Path("/dev/loop-control").exists():
        return "this kernel has no loop devices"
    maker = FILESYSTEMS[filesystem].make[0]
    needed = {**NEEDED, maker: MAKERS[maker]}
    packages = {package for program, package in needed.items() if not shutil.which(program)}
    return f"apt-get install {' '.join(sorted(packages))}" if packages else ""


class Disk:
    """A filesystem at `path`, made by `format()`, there from `plug()` to `lose_power()` or `unplug()`.

    tear: bytes that are written as a whole or not.
    """

    def __init__(self, scratch: Path, filesystem: str, tear: int) -> None:
        self.path = scratch / "disk"
        self.path.mkdir()
        self.filesystem = filesystem
        self.tear = tear
        self._format = FILESYSTEMS[filesystem]
        self._scratch = scratch
        self._image, self._record, self._export = scratch / "image", scratch / "record", scratch / "export"
        self._plugged = 0
        self.is_repaired = False  # whether it could be mounted only after a check
        self._changes = scratch / "changes"
        self._daemon: subprocess.Popen[bytes] | None = None
        self._loop = ""

    def format(self) -> None:
        self.unplug()
        self._image.unlink(missing_ok=True)
        with self._image.open("wb") as image:
            image.truncate(SIZE)
        _run(*self._format.make, str(self._image))

    def plug(self) -> None:
        """Have the filesystem mounted, its journal replayed by the kernel."""
        self._record.write_bytes(b"")
        self._plugged += 1
        self._export = self._scratch / f"export-{self._plugged}"
        self._export.write_bytes(b"")
        image, changes = str(self._image), str(self._changes)
        _run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", image, changes)
        self._daemon = subprocess.Popen(
            ["qemu-storage-daemon",
             "--blockdev", f"qcow2,node-name=live,file.driver=file,file.filename={self._changes}",
             "--blockdev", f"file,node-name=record,filename={self._record}",
             "--blockdev", f"blklogwrites,node-name=disk,file=live,log=record,log-sector-size={SECTOR}",
             "--export", f"fuse,id=disk,node-name=disk,mountpoint={self._export},writable=on,growable=off"],
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + READY_WITHIN
        while self._export.stat().st_size != SIZE:
            if self._daemon.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("qemu-storage-daemon did not start")
            time.sleep(0.01)
        self._loop = _run("losetup", "--show", "-f", str(self._export)).strip()
        self._mount()

    def _mount(self) -> None:
        """As a machine does when it starts: what cannot be mounted is checked first.

        ext4 has the sum of its superblock in the second half of it, and looks at it before it replays its
        journal: where 512 bytes are written at once, it may be torn.
        """
        command = ("mount", "-t", self._format.kind, "-o", self._format.options, self._loop, str(self.path))
        self.is_repaired = False
        try:
            _run(*command)
        except SystemExit:
            if self._format.kind != "ext4":
                raise
            self.is_repaired = True
            subprocess.run(["e2fsck", "-fy", self._loop], check=False, capture_output=True)
            _run(*command)

    def lose_power(self, chance: random.Random) -> Lost:
        """What nobody flushed is there or not as chance has it, in any order and torn between sectors."""
        assert self._daemon is not None
        self._daemon.kill()
        self._take_out()
        return self._replay(chance)

    def unplug(self) -> None:
        """End as a machine that is switched off tidily, or clean up after any failure."""
        if self._daemon is None:
            return
        self._take_out()
        self._replay(None)

    def _take_out(self) -> None:
        subprocess.run(["umount", str(self.path)], check=False, stderr=subprocess.DEVNULL)
        if os.path.ismount(self.path):
            subprocess.run(["umount", "-l", str(self.path)], check=False)
        if self._loop:
            _run("losetup", "-d", self._loop)
            self._loop = ""
        # Lazily: a process that is just ending may still have something open on the dead disk.
        subprocess.run(["umount", "-l", str(self._export)], check=False, stderr=subprocess.DEVNULL)
        assert self._daemon is not None
        self._daemon.terminate()  # if it was not killed
        try:
            self._daemon.wait(READY_WITHIN)
        except subprocess.TimeoutExpired:
            self._daemon.kill()
            self._daemon.wait()
        self._daemon = None

    def _replay(self, chance: random.Random | None) -> Lost:
        entries = list(_entries(self._record))
        flushes = [number for number, entry in enumerate(entries) if entry.flags & FLUSH]
        safe = flushes[-1] if flushes else -1
        if chance is None:
            safe = len(entries)
        lost = Lost(writes=len(entries) - len(flushes), flushes=len(flushes))
        share = chance.choice((0.0, 0.5, 0.9, 1.0)) if chance is not None else 1.0  # of what is kept
        with self._image.open("r+b") as image, self._record.open("rb") as record:
            for number, entry in enumerate(entries):
                pieces = [(0, entry.size)]
                if number > safe and chance is not None and entry.size:
                    pieces = self._survivors(entry, chance, share)
                    lost.unflushed += 1
                    lost.dropped += not pieces
                for start, stop in pieces:
                    _apply(entry, start, stop, record.fileno(), image.fileno())
        self._changes.unlink()
        return lost

    def _survivors(self, entry: Entry, chance: random.Random, share: float) -> list[tuple[int, int]]:
        """What of an entry reached the disk: all or nothing, or any of its sectors."""
        if share == 1.0 or chance.random() < 0.5:
            return [(0, entry.size)] if chance.random() < share else []
        ends = [*range(self.tear - entry.offset % self.tear, entry.size, self.tear), entry.size]
        return [piece for piece in zip([0, *ends], ends, strict=False) if chance.random() < share]


def _entries(record: Path) -> Iterator[Entry]:
    """What was recorded; the count in the header is behind."""
    size = record.stat().st_size
    with record.open("rb") as stream:
        magic, _, _, sector = _SUPER.unpack(stream.read(_SUPER.size).ljust(_SUPER.size, b"\0"))
        if magic not in (0, _MAGIC) or (magic and sector != SECTOR):
            raise SystemExit(f"{record} is no record of writes")
        place = SECTOR
        while place + _ENTRY.size <= size:
            stream.seek(place)
            first, sectors, flags = _ENTRY.unpack(stream.read(_ENTRY.size))
            place += SECTOR
            data = 0 if flags & DISCARD else sectors * SECTOR
            if not (sectors or flags) or place + data > size:
                return  # the last one was being recorded
            yield Entry(first * SECTOR, sectors * SECTOR, flags, place)
            place += data


def _apply(entry: Entry, start: int, stop: int, record: int, image: int) -> None:
    """Write what an entry says, from start to stop of it."""
    if entry.flags & DISCARD:
        data = bytes(stop - start)
    else:
        data = os.pread(record, stop - start, entry.data_at + start)
    os.pwrite(image, data, entry.offset + start)


def _run(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
