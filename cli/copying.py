"""What single transfers and those of a tree have in common: options, labels, headers, failures."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Mapping
from copy import copy
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from cosfs.client.url import CosUrl
from cosfs.errors import AlreadyExistsError, ConfigError, COSError, ServiceError, TransferError

from .headers import CONTENT_FIELDS
from .places import Operation

if TYPE_CHECKING:
    from cosfs.client.model import Headers, ObjectInfo
    from cosfs.transfer.model import TransferResult

    from .running import Run
    from .transfer_options import Common

Progress = Callable[[int], None]


class Copying:
    """One source and one destination, under the options of a command."""

    def __init__(self, run: Run, options: Common, operation: Operation) -> None:
        self.run = run
        self.options = options
        self.engine = run.engine
        self.client = run.engine.client
        self.report = run.report
        self.display = run.display
        self.operation: Operation = operation
        self.label = "move" if options.move else operation
        # Copies onto their source change what is stored beside the bytes; COS takes that only as a whole.
        self.in_place = False

    async def resolved(self, url: CosUrl) -> CosUrl:
        """Return url with the full name of its bucket."""
        return replace(url, bucket=await self.engine.run(self.client.resolve_bucket, url.bucket))

    def failed(self, source: str, target: str, error: Exception) -> None:
        """Report a transfer that did not happen."""
        if self.options.no_overwrite and isinstance(error, AlreadyExistsError):
            self.report.left_out(self.label, source, target, "exists")
        else:
            self.report.failure(self.label, source, target, error)

    def claims(self, source: str, target: str) -> bool:
        """Whether a target is free for this source; reports a failure if another source has become it."""
        taken = self.run.taken
        if taken is None or target.endswith("/"):  # directories are made once more without harm
            return True
        if target in taken:
            error = TransferError("another source of this command is there already")
            self.report.failure(self.label, source, target, error)
            return False
        taken.add(target)
        return True

    async def single(
        self,
        source: str,
        target: str,
        size: int,
        transfer: Callable[[Progress], Awaitable[TransferResult]],
        remove: Callable[[], Awaitable[None]],
    ) -> None:
        """Do, show and report one transfer."""
        if not self.claims(source, target):
            return
        if self.options.dryrun:
            self.report.would(self.label, source, target)
            return
        self.display.expect(size, source)
        started = time.monotonic()
        try:
            result = await transfer(self.display.advance)
            if self.options.move:
                try:
                    await remove()
                except (OSError, ServiceError) as error:
                    raise not_removed(error) from None
        except ConfigError:
            raise
        except (COSError, OSError) as error:
            self.failed(source, target, error)
        else:
            self.run.transferred(self.operation, source, target)
            self.report.done(self.label, source, target, result, time.monotonic() - started)
        self.display.finish()

    def left_archived(self, source: str, info: ObjectInfo) -> bool:
        """Whether an object is left out because it must be restored first; says so unless asked not to."""
        if not info.archived or self.options.force_archive_transfer:
            return False
        if self.options.ignore_archive_warnings:
            self.report.left_out(self.label, source, "", "archived")
        else:
            self.report.skip(
                self.label, source, "archived",
                "it is archived; restore it first, or try anyway with --force-archive-transfer",
            )  # fmt: skip
        return True

    # --- what a copy says about itself

    @property
    def replaces_metadata(self) -> bool:
        """Whether a copy carries only what the options say."""
        return self.options.metadata_directive == "REPLACE" or self.options.copy_props == "none"

    @property
    def copies_need_headers(self) -> bool:
        """Whether a copy must say again what its source says, which a listing does not show."""
        return bool(self._changes or self.in_place) and not self.replaces_metadata

    @property
    def _changes(self) -> frozenset[str]:
        """The options that change metadata, which a copy can only keep or replace as a whole."""
        return self.options.choice.given & {"metadata", *CONTENT_FIELDS}

    @cached_property
    def copy_extra(self) -> Mapping[str, str]:
        """Headers of a copy beside its metadata: access, encryption, tags."""
        extra = dict(self.options.choice.headers.extra)
        if "x-cos-tagging" in extra:
            extra["x-cos-tagging-directive"] = "Replaced"
        elif self.options.copy_props in ("none", "metadata-directive"):
            extra |= {"x-cos-tagging-directive": "Replaced", "x-cos-tagging": ""}
        return extra

    def copy_headers(self, info: ObjectInfo, key: str) -> Headers | None:
        """Return the metadata of a copy; None keeps all that the source says."""
        from cosfs.client.model import Headers

        choice = self.options.choice
        if self.replaces_metadata:
            return replace(choice.for_name(key), extra={})
        if not self._changes and not self.in_place:
            return None
        # Only what is named changes: losing the rest of the metadata is not what anybody asked for.
        base, new = info.headers or Headers(), choice.headers
        changed = {
            name: getattr(new, name)
            for name in Headers.__dataclass_fields__
            if name not in ("metadata", "extra") and getattr(new, name)
        }
        return replace(base, **changed, metadata={**base.metadata, **new.metadata})


async def nothing() -> None:
    """Remove nothing: the source of a move is no file and no object."""


def not_removed(error: OSError | ServiceError) -> COSError:
    """Return the error of a move that ended half-way: both ends are there."""
    text = "it was copied, but cannot be removed: "
    if isinstance(error, OSError):
        return TransferError(text + (error.strerror or str(error)).lower())
    told = copy(error)
    told.message = text + error.message
    return told


def exists(path: str) -> bool:
    """Whether there is anything at path, be it a link to nothing."""
    return os.path.lexists(path)
