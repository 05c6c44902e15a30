"""Keeping what a sync is about to replace or delete, under its name in another place."""

from __future__ import annotations

import os
import shutil

import trio

from cosfs.client.model import ObjectInfo
from cosfs.transfer.copy import copy_object
from cosfs.transfer.download import download_file
from cosfs.transfer.engine import Engine
from cosfs.transfer.paths import DestinationRoot
from cosfs.transfer.scan import LocalEntry
from cosfs.transfer.sides import BucketSide, Entry, LocalSide, TreeSide
from cosfs.transfer.upload import upload_file

__all__ = ["Backup"]


class Backup:
    """Copies entries of a sync's destination to another place, which keeps the newest of each name."""

    def __init__(self, engine: Engine, destination: TreeSide, place: TreeSide) -> None:
        self.place = place
        self._engine = engine
        self._destination = destination
        self._root: DestinationRoot | None = None

    async def keep(self, entry: Entry) -> None:
        """Copy one entry; return when the copy is verified."""
        if entry.is_directory:
            return
        if isinstance(entry.item, ObjectInfo):
            assert isinstance(self._destination, BucketSide)
            await self._keep_object(self._destination.bucket, entry.item, entry.relative)
        elif isinstance(self.place, LocalSide):
            target = self.place.name(self._disk_name(entry.item))
            await trio.to_thread.run_sync(_keep_file, entry.item.path, target)
        elif not entry.item.link_target:
            key = self.place.prefix + entry.relative
            await upload_file(self._engine, entry.item.path, self.place.bucket, key)

    async def _keep_object(self, bucket: str, info: ObjectInfo, relative: str) -> None:
        if isinstance(self.place, BucketSide):
            key = self.place.prefix + relative
            await copy_object(self._engine, bucket, info.key, self.place.bucket, key, info=info)
            return
        if self._root is None:
            self._root = DestinationRoot(self.place.path)
        if relative.endswith("/") and not info.size:
            self._root.make_directory(relative)
            return
        target = self._root.target(relative)
        await download_file(self._engine, bucket, info.key, target, info=info)

    def _disk_name(self, item: LocalEntry) -> str:
        return item.path[len(self._destination.name("")) :]

    def close(self) -> None:
        """Close the directory that backups went to."""
        if self._root is not None:
            self._root.close()
            self._root = None


def _keep_file(path: str, target: str) -> None:
    """Give a file a second name: what replaces the first one by a rename leaves this one as it is."""
    os.makedirs(os.path.dirname(target), exist_ok=True)  # noqa: PTH103, PTH120 - keeps every byte of the name
    try:
        os.unlink(target)  # noqa: PTH108
    except FileNotFoundError:
        pass
    try:
        os.link(path, target, follow_symlinks=False)
    except OSError:
        # Another disk, or one without links.
        shutil.copy2(path, target, follow_symlinks=False)
