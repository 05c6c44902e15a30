"""How things are transferred, apart from what goes where: one value for all jobs of a command."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Literal, get_args

from cosfs.client.model import CustomerKey
from cosfs.errors import UsageError
from cosfs.records import dataclass
from cosfs.units import GIB

__all__ = ["DEFAULTS", "PART_COPY_THRESHOLD", "TransferOptions", "Verify"]

Verify = Literal["auto", "full", "none"]

# One request copies up to 5 GiB, but in one stream inside COS; parts copy side by side.
PART_COPY_THRESHOLD = 1 * GIB

# What COS takes, in bits a second.
_SLOWEST = 819_200
_FASTEST = 838_860_800


# Without slots: the headers below are made once and kept.
@dataclass(frozen=True)
class TransferOptions:
    """How uploads, downloads and copies are done.

    part_size 0 takes the setting. traffic_limit is what COS itself limits each request to, in bytes a
    second. resume None takes the setting; records are kept for large objects only. verify `auto` compares
    checksums in passing; `full` asks COS once more what it holds, and reads a downloaded file back;
    `none` compares lengths only (COS itself still checks the MD5 of every upload).

    preserve stores mode, owner and mtime of files with the objects and restores them;
    preserve_symlinks makes links of objects that are links. set_mtime gives a file the time of the
    object, fsync makes it durable before it replaces another, sparse leaves holes for zeros.

    customer_key is that of the object which is written or read, of a copy's source source_customer_key.
    """

    part_size: int = 0
    traffic_limit: int = 0
    resume: bool | None = None
    verify: Verify = "auto"
    preserve: bool = False
    preserve_symlinks: bool = False
    set_mtime: bool = True
    fsync: bool = False
    sparse: bool = False
    customer_key: CustomerKey | None = None
    source_customer_key: CustomerKey | None = None
    part_threshold: int = PART_COPY_THRESHOLD  # of server copies

    def __post_init__(self) -> None:
        if self.verify not in get_args(Verify):
            raise UsageError(f"verify is {', '.join(get_args(Verify))}, not {self.verify!r}")
        if self.traffic_limit and not _SLOWEST <= self.traffic_limit * 8 <= _FASTEST:
            raise UsageError("COS limits a request to between 100KB/s and 100MB/s, nothing else")

    @cached_property
    def key_headers(self) -> Mapping[str, str]:
        """What a request about the object needs that moves none of its bytes."""
        return self.customer_key.headers() if self.customer_key is not None else {}

    @cached_property
    def source_key_headers(self) -> Mapping[str, str]:
        """What a HEAD of a copy's source needs."""
        return self.source_customer_key.headers() if self.source_customer_key is not None else {}

    @cached_property
    def body_headers(self) -> Mapping[str, str]:
        """What a request needs that moves bytes of the object from here or to here."""
        limit = {"x-cos-traffic-limit": str(self.traffic_limit * 8)} if self.traffic_limit else {}
        return {**self.key_headers, **limit}

    @cached_property
    def copy_headers(self) -> Mapping[str, str]:
        """What a request needs that has COS copy bytes."""
        source = self.source_customer_key.source_headers() if self.source_customer_key is not None else {}
        return {**self.key_headers, **source}


DEFAULTS = TransferOptions()
