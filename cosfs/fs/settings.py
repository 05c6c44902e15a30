"""Settings of the filesystem, one frozen value handed down by the mount."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from cosfs.fs.reserve import DEFAULT_RESERVE, Reserve
from cosfs.transfer.attributes import Defaults

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class FsSettings:
    """Sizes in bytes, times in seconds.

    bucket "" means all buckets. prefix is "" or ends with "/".
    """

    bucket: str
    prefix: str
    cache_dir: Path
    defaults: Defaults
    read_only: bool = False
    metadata_ttl: float = 5.0  # how long names and attributes are believed without asking COS
    buckets_ttl: float = 30.0  # the same for the list of buckets, which changes rarely
    attributes: str = "full"  # full: modes, owners and times by HEAD; listing: only what lists tell
    write_back: str = "close"  # close: close() waits for COS; async: for the local journal
    block_size: int = MIB
    readahead: int = 64 * MIB  # per mount, not per file; bounds the memory of reading
    prefetch: int | None = None  # files up to this size may be fetched whole; None: a quarter of the cache
    fetch_size: int = 8 * MIB  # one GET of a sequential reader
    blocks_dir: Path | None = None  # of the block cache; None: in cache_dir, for this mount alone
    cache_size: int = 10 * 1024 * MIB
    cache_reserve: Reserve = DEFAULT_RESERVE  # left free of the cache's filesystem
    realm: str = ""  # the service that the blocks come from
    io_timeout: float = 60.0  # how long a call waits while COS gives no answer
    multipart_threshold: int = 16 * MIB
    part_size: int = 8 * MIB
    max_copy_part: int = 1024 * MIB  # one Upload Part - Copy; COS allows 5 GiB, smaller ones run side by side
    max_pending: int = 0  # bytes closed and not sent (async) at which writers wait; 0: as the disk has room
    retry_max: float = 300.0  # the longest pause between two tries to send something
    grace: float = 10.0  # COS lists late: our own change outweighs a listing for so long
    head_ahead: int = 256  # attributes fetched ahead of a reader of a directory, at most; 0: nothing is
    extra: dict[str, str] = field(default_factory=dict)  # headers of every PUT (x-cos-storage-class ...)
