"""What single transfers and those of a tree have in common: options, labels, headers, failures."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from cosfs.client.url import CosUrl
from cosfs.errors import AlreadyExistsError, ConfigError, COSError

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

    async def resolved(self, url: CosUrl) -> CosUrl:
        """Return url with the full name of its bucket."""
        return replace(url, bucket=await self.engine.run(self.client.resolve_bucket, url.bucket))

    def failed(self, source: str, target: str, error: Exception) -> None:
        """Report a transfer that did not happen."""
        if self.options.no_overwrite and isinstance(error, AlreadyExistsError):
            self.report.left_out(self.label, source, target, "exists")
        else:
            self.report.failure(self.label, source, target, error)

    async def single(
        self,
        source: str,
        target: str,
        size: int,
        transfer: Callable[[Progress], Awaitable[TransferResult]],
        remove: Callable[[], Awaitable[None]],
    ) -> None:
        """Do, show and report one transfer."""
        if self.options.dryrun:
            self.report.would(self.label, source, target)
            return
        self.display.expect(size, source)
        started = time.monotonic()
        try:
            result = await transfer(self.display.advance)
            if self.options.move:
                await remove()
        except ConfigError:
            raise
        except (COSError, OSError) as error:
            self.failed(source, target, error)
        else:
            self.report.done(self.label, source, target, result, time.monotonic() - started)
        self.display.finish()

    def copy_headers(self, info: ObjectInfo, key: str) -> Headers | None:
        """Return what a copy says about itself; None keeps all that the source says."""
        from cosfs.client.model import Headers

        choice = self.options.choice
        if self.options.metadata_directive == "REPLACE":
            return choice.for_name(key)
        if not choice.given - {"storage_class"}:
            return None
        # Only what is named changes: losing the rest of the metadata is not what anybody asked for.
        base, new = info.headers or Headers(), choice.headers
        changed = {
            name: getattr(new, name)
            for name in Headers.__dataclass_fields__
            if name not in ("metadata", "extra") and getattr(new, name)
        }
        return replace(
            base, **changed, metadata={**base.metadata, **new.metadata}, extra={**base.extra, **new.extra}
        )


async def nothing() -> None:
    """Remove nothing: the source of a move is no file and no object."""


def exists(path: str) -> bool:
    """Whether there is anything at path, be it a link to nothing."""
    return os.path.lexists(path)
