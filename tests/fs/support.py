"""A filesystem without a kernel: what the kernel would ask, by path."""

from __future__ import annotations

import errno
import os
import random
import stat
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio

from cosfs.client.client import CosClient
from cosfs.client.model import ObjectInfo
from cosfs.config import TransferSettings
from cosfs.emulator import Emulator
from cosfs.errors import COSError, FilesystemError, NotFoundError
from cosfs.fs.assembly import assemble
from cosfs.fs.attrdb import AttributeStore
from cosfs.fs.background import Background, together
from cosfs.fs.blocks import BlockCache
from cosfs.fs.calls import Caller, DirHandle
from cosfs.fs.filesystem import Filesystem
from cosfs.fs.inodes import FileNode, InodeTable, Node
from cosfs.fs.journal import Journal
from cosfs.fs.metadata import Change
from cosfs.fs.recovery import Recovered, left_over, recover
from cosfs.fs.remote import Remote
from cosfs.fs.reserve import Reserve
from cosfs.fs.rights import Action
from cosfs.fs.settings import FsSettings
from cosfs.fs.tree import Tree
from cosfs.transfer.attributes import Defaults
from cosfs.transfer.engine import Engine
from cosfs.units import MIB
from tests.objects import keys
from tests.waiting import PATIENCE

ME = Caller(uid=1000, gid=1000, umask=0o022)
ALL_OF_IT = Reserve(size=0)  # blocks are cached however full the disk of the tests is
DEFAULTS = Defaults(uid=1000, gid=1000)
TRANSFER = TransferSettings(
    max_concurrent_requests=8,
    multipart_threshold=3 * MIB,
    multipart_chunksize=MIB,
    max_buffer_memory=16 * MIB,
)


def fs_settings(bucket: str, cache_dir: Path, **changes: Any) -> FsSettings:
    """Small sizes; parts cannot be smaller than 1 MiB."""
    chosen: dict[str, Any] = {
        "prefix": "",
        "metadata_ttl": 60.0,
        "block_size": 64 * 1024,
        "fetch_size": 256 * 1024,
        "readahead": 4 * MIB,
        "cache_size": 64 * MIB,
        "cache_reserve": ALL_OF_IT,
        "multipart_threshold": 3 * MIB,
        "part_size": MIB,
    }
    return FsSettings(bucket=bucket, cache_dir=cache_dir, defaults=DEFAULTS, **{**chosen, **changes})


@dataclass
class Files:
    """A running filesystem and the calls of a kernel, by path.

    Like the kernel it counts a reference for each name that it has looked up.
    """

    fs: Filesystem
    cache: BlockCache
    client: CosClient
    bucket: str
    recovered: Recovered = field(default_factory=Recovered)

    @property
    def tree(self) -> Tree:
        return self.fs.tree

    @property
    def journal(self) -> Journal:
        return self.fs.journal

    # Names

    async def node(self, path: str) -> Node:
        """Walk to a path, one lookup a name."""
        node: Node = self.tree.root
        for name in _names(path):
            if not node.is_dir:
                raise FilesystemError(errno.ENOTDIR)
            node = await self.fs.lookup(node.ino, name)
            node.nlookup += 1
        return node

    async def file(self, path: str) -> FileNode:
        node = await self.node(path)
        assert isinstance(node, FileNode)
        return node

    async def parent(self, path: str) -> tuple[int, bytes]:
        """The number of the directory of a path, and the last name."""
        *parents, name = _names(path)
        node = await self.node(os.fsdecode(b"/".join(parents)))
        if not node.is_dir:
            raise FilesystemError(errno.ENOTDIR)
        return node.ino, name

    async def exists(self, path: str) -> bool:
        try:
            await self.node(path)
        except FilesystemError as exc:
            if exc.errno == errno.ENOENT:
                return False
            raise
        return True

    async def stat(self, path: str) -> Node:
        return await self.fs.getattr((await self.node(path)).ino)

    async def mode(self, path: str) -> int:
        return stat.S_IMODE((await self.stat(path)).attrs.mode)

    async def list(self, path: str = "") -> list[str]:
        """The names in a directory, in the order in which they are shown."""
        return [os.fsdecode(name) for name in await self.names(path)]

    async def names(self, path: str = "") -> list[bytes]:
        node = await self.node(path)
        fh = await self.fs.opendir(node.ino)
        try:
            return [entry async for entry in self.entries(fh)]
        finally:
            self.fs.releasedir(fh)

    async def entries(self, fh: int) -> AsyncIterator[bytes]:
        index = 0
        handle, listing = await self.fs.readdir(fh, 0)
        assert isinstance(handle, DirHandle)
        while await listing.load_until(index):
            entry = listing.at(index)
            index += 1
            if not entry.removed:
                yield entry.name

    async def mkdir(self, path: str, mode: int = 0o755) -> Node:
        parent, name = await self.parent(path)
        node = await self.fs.mkdir(parent, name, mode, ME)
        node.nlookup += 1
        return node

    async def rmdir(self, path: str) -> None:
        await self.fs.rmdir(*await self.parent(path))

    async def unlink(self, path: str) -> None:
        await self.fs.unlink(*await self.parent(path))

    async def rename(self, old: str, new: str, flags: int = 0) -> None:
        await self.fs.rename(*await self.parent(old), *await self.parent(new), flags)

    async def symlink(self, path: str, target: bytes) -> Node:
        node = await self.fs.symlink(*await self.parent(path), target, ME)
        node.nlookup += 1
        return node

    async def chmod(self, path: str, mode: int) -> None:
        await self.fs.setattr((await self.node(path)).ino, Change(mode=mode))

    async def truncate(self, path: str, size: int) -> None:
        await self.fs.setattr((await self.node(path)).ino, Change(size=size))

    # Bytes

    async def create(self, path: str, mode: int = 0o644, flags: int = os.O_WRONLY | os.O_CREAT) -> int:
        fh, node = await self.fs.create(*await self.parent(path), mode, flags, ME)
        node.nlookup += 1
        return fh

    async def open(self, path: str, flags: int = os.O_RDONLY) -> int:
        """Open as the kernel does: it cuts by a setattr of its own."""
        if flags & os.O_CREAT and not await self.exists(path):
            return await self.create(path, flags=flags)
        node = await self.node(path)
        fh = await self.fs.open(node.ino, flags & ~(os.O_TRUNC | os.O_CREAT))
        if flags & os.O_TRUNC:
            await self.fs.setattr(node.ino, Change(size=0))
        return fh

    async def write(self, fh: int, data: bytes, offset: int = 0, *, step: int = 128 * 1024) -> None:
        """Write in requests of at most step bytes."""
        for start in range(0, len(data), step) or [0]:
            piece = data[start : start + step]
            assert await self.fs.write(fh, offset + start, piece) == len(piece)

    async def read(self, fh: int, offset: int, length: int, *, step: int = 128 * 1024) -> bytes:
        out = bytearray()
        while len(out) < length:
            piece = await self.fs.read(fh, offset + len(out), min(step, length - len(out)))
            if not piece:
                break
            out += piece
        return bytes(out)

    async def close(self, fh: int) -> None:
        """flush and release; an error of the first is the error of close()."""
        try:
            await self.fs.flush(fh)
        finally:
            await self.fs.release(fh)

    @asynccontextmanager
    async def opened(self, path: str, flags: int = os.O_RDWR) -> AsyncIterator[int]:
        fh = await self.open(path, flags)
        try:
            yield fh
        except BaseException:
            await self.fs.release(fh)
            raise
        await self.close(fh)

    async def put(self, path: str, data: bytes) -> None:
        """Write a whole file: create or cut, write, close."""
        async with self.opened(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as fh:
            if data:
                await self.write(fh, data)

    async def get(self, path: str) -> bytes:
        """Read a whole file."""
        async with self.opened(path, os.O_RDONLY) as fh:
            return await self.read(fh, 0, 1 << 40)

    # What is in COS, whatever the filesystem believes

    async def stored(self, key: str) -> bytes | None:
        """The object under a key, None if there is none."""
        return await trio.to_thread.run_sync(stored, self.client, self.bucket, key)

    async def keys(self, prefix: str = "") -> list[str]:
        return await trio.to_thread.run_sync(keys, self.client, self.bucket, prefix)

    async def head(self, key: str) -> ObjectInfo:
        """What COS says of an object."""
        info = await trio.to_thread.run_sync(self.client.head_object, self.bucket, key)
        assert info is not None
        return info

    async def metadata(self, key: str) -> dict[str, str]:
        info = await self.head(key)
        assert info.headers is not None
        return dict(info.headers.metadata)

    async def upload(self, key: str, data: bytes = b"", **kwargs: Any) -> str:
        """Put an object behind the filesystem's back; return its etag."""

        def put() -> str:
            return self.client.put_object(self.bucket, key, data, **kwargs).etag

        return await trio.to_thread.run_sync(put)

    async def delete(self, key: str) -> None:
        """Remove an object behind the filesystem's back."""
        await trio.to_thread.run_sync(self.client.delete_object, self.bucket, key)

    async def removed(self) -> None:
        """Wait until what was removed is removed in COS."""
        assert await self.fs.deleter.drain()


def _names(path: str) -> list[bytes]:
    return [name for name in os.fsencode(path).split(b"/") if name]


def stored(client: CosClient, bucket: str, key: str) -> bytes | None:
    try:
        with client.get_object(bucket, key) as stream:
            return b"".join(stream.chunks())
    except NotFoundError:
        return None


def open_below(directory: Path) -> list[str]:
    """Files of a directory that this process has open."""
    links = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # another thread has closed it meanwhile
            links.append(os.readlink(descriptor))  # noqa: PTH115
    return [link for link in links if link.startswith(f"{directory.resolve()}/")]


@asynccontextmanager
async def running(
    client: CosClient, settings: FsSettings, *, recovering: bool = True, trusting: bool = True
) -> AsyncIterator[Files]:
    """A filesystem composed as a mount composes it.

    Left regularly it sends everything, as an unmount does; cancelled or failed it ends as if killed:
    what is in the journal stays there. trusting: removals have worked before, and writing in the topmost
    directory, so COS is not waited for.
    """
    cache = BlockCache(
        settings.cache_dir / "blocks",
        size_limit=settings.cache_size,
        block_size=settings.block_size,
        memory_limit=32 * MIB,
        reserve=settings.cache_reserve,
    )
    journal = Journal(settings.cache_dir)
    records = left_over(journal)
    full = settings.attributes == "full"
    store = AttributeStore(settings.cache_dir / "attributes.db") if full else None
    nodes = InodeTable()
    try:
        async with Engine(client, TRANSFER) as engine, together() as nursery:
            background = Background(nursery)
            fs = assemble(Remote(client), settings, engine, background, cache, journal, store)
            nodes = fs.tree.table
            if trusting:
                for action in Action:
                    fs.rights.worked(action, settings.bucket, settings.prefix)
            files = Files(fs, cache, client, settings.bucket)
            if recovering:
                files.recovered = await recover(fs, records)
            try:
                yield files
                await fs.drain()
                for node in fs.pending_files:
                    fs.committer.promise(node)
            finally:
                nursery.cancel_scope.cancel()
    finally:
        for node in nodes.files():
            if node.content is not None:
                node.content.close(keep=True)
        cache.close()
        journal.close()
        if store is not None:
            store.close()


@contextmanager
def counted(emulator: Emulator) -> Iterator[Counter[str]]:
    """What was asked of COS inside the block, by operation; filled when it is left."""
    emulator.requests.reset()
    found: Counter[str] = Counter()
    yield found
    found.update(emulator.requests.snapshot())


async def until(condition: Callable[[], Any], seconds: float = PATIENCE) -> None:
    """Wait for what threads or the emulator bring about; they have no events."""
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.005)


async def nothing_staged(files: Files) -> None:
    """Wait until no bytes are staged: what is no longer needed goes here, or a thread is at it."""
    files.journal.sync()
    await until(lambda: not any(files.journal.staging.iterdir()))


async def requests_sent(emulator: Emulator, operation: str, count: int = 1) -> None:
    await until(lambda: emulator.requests[operation] >= count)


async def fails(number: int, call: Awaitable[object]) -> None:
    """Expect an errno of a call."""
    with pytest.raises(COSError) as caught:
        await call
    assert caught.value.errno == number


def content(size: int, seed: int = 0) -> bytes:
    """Bytes that differ everywhere."""
    return random.Random(seed).randbytes(size)


def kept_files(files: Files) -> dict[str, bytes]:
    """What is in recovered/, by name, without the list."""
    directory = files.fs.settings.cache_dir / "recovered"
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.name != "LIST.txt"}
