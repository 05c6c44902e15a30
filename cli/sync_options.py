"""The options that only sync has, and what of them makes no sense. No requests."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from cosfs.client.url import CosUrl, is_cos_url
from cosfs.errors import UsageError
from cosfs.records import dataclass

from .options import DURATION, F, ParamType, apply
from .places import Local, Place, as_prefix, operation, parse_place
from .transfer_options import Common

if TYPE_CHECKING:
    from cosfs.transfer.plan import DeleteLimit, SyncOptions

_LIMIT = re.compile(r"(\d+)|(\d+(?:\.\d+)?)%", re.ASCII)


class LimitType(ParamType):
    """A number, or a percentage."""

    name = "limit"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> DeleteLimit:
        from cosfs.transfer.plan import DeleteLimit

        if isinstance(value, DeleteLimit):
            return value
        found = _LIMIT.fullmatch(value)
        if found is None or (found[2] and float(found[2]) > 100):
            self.fail(f"{value!r} is neither a number nor a percentage such as 5%", param, ctx)
        return DeleteLimit(float(found[1] or found[2]), percent=found[2] is not None)


comparing_options: Callable[[F], F] = apply(
    click.option("--size-only", is_flag=True, help="Equal sizes are enough to leave a file alone."),
    click.option(
        "--exact-timestamps",
        is_flag=True,
        help="Downloads: any difference in time counts, not only that of a newer object.",
    ),
    click.option("--existing", is_flag=True, help="Send nothing that the destination does not have."),
    click.option(
        "--snapshot",
        metavar="FILE",
        help="Remember in FILE what was equal; what looks the same on both sides is not compared again.",
    ),
)

deleting_options: Callable[[F], F] = apply(
    click.option(
        "--delete",
        is_flag=True,
        help="Delete what only the destination has, once all was sent without a failure. What filters leave "
        "out stays.",
    ),
    click.option(
        "--delete-excluded", is_flag=True, help="The same, and delete what filters leave out as well."
    ),
    click.option(
        "--max-delete",
        type=LimitType(),
        metavar="N|P%",
        help="Delete nothing if it would be more: a number, or a share of what the destination has.",
    ),
    click.option(
        "--allow-empty-source", is_flag=True, help="Delete even if the source is empty or does not exist."
    ),
    click.option(
        "--backup-dir",
        metavar="DIR|cos://…",
        help="Copy what is replaced or deleted there first, under its name.",
    ),
    click.option(
        "--track-renames",
        is_flag=True,
        help="To COS: what was renamed is copied there instead of sent again, found by size and ETag.",
    ),
)

watching_options: Callable[[F], F] = apply(
    click.option("--watch", is_flag=True, help="To COS: go on and send what changes, until interrupted."),
    click.option(
        "--watch-interval",
        type=DURATION,
        default=300.0,
        metavar="TIME",
        help="With --watch, compare everything again so often (default 5m).",
    ),
)


@dataclass(frozen=True, slots=True)
class Options(Common):
    """The options of sync."""

    size_only: bool
    exact_timestamps: bool
    existing: bool
    snapshot: str | None
    delete: bool
    delete_excluded: bool
    max_delete: DeleteLimit | None
    allow_empty_source: bool
    backup_dir: str | None
    track_renames: bool
    watch: bool
    watch_interval: float

    def check(self, source: Place, destination: Place) -> None:
        """Refuse what makes no sense, before any request."""
        way = operation(source, destination)
        for place in (source, destination):
            if isinstance(place, Local) and place.is_stream:
                raise UsageError("- is a stream, and sync compares trees", hint="Use cos cp")
        if isinstance(source, Local):
            self._check_source(source)
        if isinstance(destination, Local) and _kind(destination.path) not in ("directory", ""):
            raise UsageError(f"{destination} is not a directory")
        self.chosen.below(source)
        self.check_overlap(source, destination)
        if self.size_only and self.checksum:
            raise UsageError(
                "--size-only compares no contents and --checksum does", hint="Leave one of them out"
            )
        if way == "download" and self.track_renames:
            raise UsageError("--track-renames copies within COS", hint="Leave it out for downloads")
        if self.watch and way != "upload":
            raise UsageError(
                "--watch follows a local directory; COS tells of no changes",
                hint="Run sync again and again, with --snapshot to make that cheap.",
            )
        if self.watch and self.dryrun:
            raise UsageError("--watch with --dryrun would never do anything")
        if self.snapshot and is_cos_url(self.snapshot):
            raise UsageError("--snapshot needs a file on this machine")
        if (self.max_delete or self.allow_empty_source) and not (self.delete or self.delete_excluded):
            raise UsageError("--max-delete and --allow-empty-source concern --delete, which is not there")

    def _check_source(self, source: Local) -> None:
        kind = _kind(source.path)
        if kind not in ("directory", ""):
            raise UsageError(f"{source} is not a directory", hint="Use cos cp to copy one file")
        if not kind and not self.allow_empty_source:
            raise UsageError(f"{source}: no such directory")

    def check_overlap(self, source: Place, destination: Place) -> None:
        """Refuse places of which one is in another."""
        check_apart(source, destination)
        if self.backup_dir is not None:
            backup = parse_place(self.backup_dir)
            for place in (source, destination):
                check_apart(backup, place)

    @property
    def plan(self) -> SyncOptions:
        """The same for the library, apart from the filters, which depend on the source."""
        from cosfs.transfer.compare import Rules
        from cosfs.transfer.plan import SyncOptions

        return SyncOptions(
            Rules(
                self.size_only,
                self.exact_timestamps,
                self.checksum,
                self.update,
                self.no_overwrite,
                self.existing,
            ),
            delete=self.delete,
            delete_excluded=self.delete_excluded,
            max_delete=self.max_delete,
            allow_empty_source=self.allow_empty_source,
            keep_dirs=self.keep_dirs,
            encode_names=self.key_policy == "encode",
            track_renames=self.track_renames,
        )


def check_apart(one: Place, other: Place) -> None:
    """Raise UsageError if one place is, or lies in, the other."""
    if isinstance(one, CosUrl) and isinstance(other, CosUrl):
        first, second = as_prefix(one.key), as_prefix(other.key)
        overlap = one.bucket == other.bucket and (first.startswith(second) or second.startswith(first))
    elif isinstance(one, Local) and isinstance(other, Local):
        paths = [os.path.join(os.path.realpath(place.path), "") for place in (one, other)]  # noqa: PTH118
        overlap = paths[0].startswith(paths[1]) or paths[1].startswith(paths[0])
    else:
        return
    if overlap:
        raise UsageError(f"{one} and {other} overlap", hint="Choose places of which none is in the other")


def _kind(path: str) -> str:
    """Say what is at a path; empty if nothing is."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - Path would drop a trailing slash
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise UsageError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    return "directory" if stat.S_ISDIR(mode) else "other"
