"""Settings of one mount. Cheap to import: the command line builds it before anything else."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from cosfs.fs.reserve import DEFAULT_RESERVE, Reserve
from cosfs.profiles import home_of

MIB = 1024 * 1024


def default_cache_dir() -> Path:
    """Where blocks, unsent files and the journal live unless the user says otherwise."""
    base = os.environ.get("XDG_CACHE_HOME") or str(home_of(os.environ) / ".cache")
    return Path(base) / "cosfs"


@dataclass(frozen=True, slots=True)
class MountSettings:
    """Sizes in bytes, times in seconds. bucket "" mounts all buckets; prefix is "" or ends with "/"."""

    bucket: str
    prefix: str
    mountpoint: Path
    read_only: bool = False
    as_of: float | None = None  # the moment that is shown, in Unix seconds; None: now, and changes
    allow_other: bool = False
    uid: int | None = None  # owner of what carries no owner; None: who mounts
    gid: int | None = None
    umask: int = 0o022
    file_mode: int | None = None  # None: 0666 less umask
    dir_mode: int | None = None  # None: 0777 less umask
    cache_dir: Path | None = None  # None: default_cache_dir(); see fs/place.py
    cache_size: int = 10 * 1024 * MIB
    cache_reserve: Reserve = DEFAULT_RESERVE
    io_timeout: float = 60.0
    block_size: int = MIB
    readahead: int = 64 * MIB
    prefetch: int | None = None  # files up to this size may be fetched whole; None: a quarter of the cache
    metadata_ttl: float = 5.0
    attributes: str = "full"  # full | listing
    write_back: str = "close"  # close | async
    max_pending: int = 0  # bytes closed and not sent (async) at which writers wait; 0: as the disk has room
    retry_max: float = 300.0  # the longest pause between two tries of what could not be sent
    part_size: int = 0  # 0: as in the transfer settings
    concurrency: int = 0  # 0: as in the transfer settings
    foreground: bool = False
    log: str = ""  # stderr | syslog | journald; empty: stderr in the foreground, else a file
    log_file: Path | None = None
    log_size: int = 50 * MIB  # the file is rotated then; 0: never
    log_keep: int = 3  # rotated files
    log_level: str = "info"  # debug | info | warning | error
    debug: bool = False
    metrics: str = ""  # address and port where metrics are served too
    metrics_remote: bool = False  # even to other machines
    fsname: str = ""  # in the kernel's table of mounts; empty: the source
    fuse_options: tuple[str, ...] = field(default=())  # passed to the kernel: nosuid, noexec, noatime ...

    @property
    def source(self) -> str:
        """The source as the user writes it."""
        return f"cos://{self.bucket}/{self.prefix}" if self.bucket else "cos://"
