"""The options of cp and mv, and what of them makes no sense. No requests."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cosfs.client.url import CosUrl
from cosfs.errors import UsageError
from cosfs.records import dataclass

from .places import Local, Place, as_prefix, check_overlap, destination_key, name_of, operation
from .transfer_options import Common

Pair = tuple[Place, Place]


@dataclass(frozen=True, slots=True)
class Options(Common):
    """The options of cp and mv."""

    recursive: bool
    no_glob: bool
    version_id: str = ""
    expected_size: int = 0

    def check(self, sources: Sequence[Place], destination: Place) -> list[Pair]:
        """Refuse what makes no sense, before any request; return what is to be copied where."""
        if self.chosen and not self.recursive:
            raise UsageError("--include, --exclude and other filters need --recursive")
        if len(sources) > 1 and not _takes_many(destination):
            raise UsageError(
                f"{destination} cannot take several sources",
                hint="Write a / behind it to make it a directory",
            )
        for source in sources:
            operation(source, destination)
            self._check_source(source)
            self.chosen.below(source)
            self._check_stream(source, destination)
            if isinstance(source, CosUrl) and isinstance(destination, CosUrl):
                self.check_overlap(source, destination)
        if self.recursive and isinstance(destination, Local):
            there = Path(destination.path)
            if there.exists() and not there.is_dir():
                raise UsageError(f"{destination} is no directory", hint="A recursive copy needs one")
        return [(source, destination) for source in sources]

    def check_overlap(self, source: CosUrl, destination: CosUrl) -> None:
        """Refuse to copy something onto or into itself, except to change what is stored beside it."""
        if not self.recursive:
            destination = replace(destination, key=destination_key(name_of(source), destination))
        changes = bool(self.choice.given or self.metadata_directive or self.copy_props == "none")
        changes = changes and not self.move
        if not (changes and self.is_in_place(source, destination)):
            check_overlap(source, destination, recursive=self.recursive)

    def is_in_place(self, source: CosUrl, destination: CosUrl) -> bool:
        """Whether the source is copied onto itself."""
        if source.bucket != destination.bucket:
            return False
        if self.recursive:
            return as_prefix(source.key) == as_prefix(destination.key)
        return source.key == destination.key

    def _check_source(self, source: Place) -> None:
        if isinstance(source, CosUrl):
            if not self.recursive and not source.key:
                raise UsageError(f"{source} is a bucket", hint="Add --recursive to copy what is in it")
            if self.version_id and self.recursive:
                raise UsageError("--version-id is for one object", hint="Leave out --recursive")
            return
        if self.version_id:
            raise UsageError(f"--version-id is for a source in COS, which {source} is not")
        if source.is_stream:
            return
        if self.preserve_symlinks and not self.recursive and os.path.islink(source.path):  # noqa: PTH114
            return
        try:
            mode = os.stat(source.path).st_mode  # noqa: PTH116 - Path would drop a trailing slash
        except OSError as error:
            raise UsageError(f"{source}: {(error.strerror or str(error)).lower()}") from None
        if stat.S_ISDIR(mode) and not self.recursive:
            raise UsageError(f"{source} is a directory", hint="Add --recursive to copy what is in it")
        if not stat.S_ISDIR(mode) and self.recursive:
            raise UsageError(f"{source} is not a directory", hint="Leave out --recursive to copy one file")
        if stat.S_ISSOCK(mode):
            raise UsageError(f"{source} is a socket", hint="Use - to upload what another program writes")

    def _check_stream(self, source: Place, destination: Place) -> None:
        streams = [place for place in (source, destination) if isinstance(place, Local) and place.is_stream]
        if streams and (self.recursive or self.move):
            raise UsageError("- is one stream", hint="Use cp without --recursive")
        nameless = isinstance(destination, CosUrl) and (not destination.key or destination.key.endswith("/"))
        if streams and streams[0] is source and nameless:
            raise UsageError(
                f"{destination} is no name for what comes from standard input",
                hint=f"Write {str(destination).rstrip('/')}/NAME",
            )


def _takes_many(destination: Place) -> bool:
    if isinstance(destination, CosUrl):
        return not destination.key or destination.key.endswith("/")
    return destination.path.endswith("/") or Path(destination.path).is_dir()
