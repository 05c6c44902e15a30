"""Any order of operations, against a reference made of a dict and byte arrays."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from cosfs.client.client import CosClient
from cosfs.emulator import Emulator
from cosfs.errors import COSError
from cosfs.fs.inodes import DirNode, FileNode
from cosfs.units import MIB
from tests.fs.support import Files, content, fs_settings, nothing_staged, running
from tests.reference import Directory, File, Reference, Tree

_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def slow_changes(emulator: Emulator) -> None:
    """Every change in COS takes a while, so that things happen meanwhile."""
    emulator.faults.latency(0.003, "[PCUD]*")


# --- what is there


async def tree(files: Files) -> Tree:
    """The same of the filesystem, by reading everything."""
    found: Tree = {}

    async def visit(path: str) -> None:
        for name in await files.list(path):
            below = f"{path}{name}"
            node = await files.stat(below)
            mode = node.attrs.mode & 0o7777
            if isinstance(node, FileNode):
                data = await files.get(below)
                assert node.size == len(data)
                found[below] = (mode, data)
            else:
                found[below] = (mode, None)
                await visit(f"{below}/")

    await visit("")
    return found


# --- the operations

PATHS = ["a", "b", "d", "e", "d/a", "d/b", "d/d", "e/a", "d/d/a"]
paths = st.sampled_from(PATHS)
slots = st.integers(0, 2)
OPEN_FLAGS = [
    os.O_RDONLY,
    os.O_RDWR,
    os.O_RDWR | os.O_CREAT,
    os.O_RDWR | os.O_CREAT | os.O_TRUNC,
    os.O_RDONLY | os.O_CREAT,
]


def operations(largest: int) -> st.SearchStrategy[list[tuple[Any, ...]]]:
    """Lists of calls: small files mostly, offsets up to largest."""
    offsets = st.sampled_from([0, 0, 1, 5, 40, largest // 3, largest])
    sizes = st.sampled_from([0, 1, 7, 64, largest // 2, largest])
    seeds = st.integers(0, 200)
    one = st.one_of(
        st.tuples(st.just("open"), slots, paths, st.sampled_from(OPEN_FLAGS)),
        st.tuples(st.just("open"), slots, paths, st.sampled_from(OPEN_FLAGS[2:4])),
        st.tuples(st.just("write"), slots, offsets, sizes, seeds),
        st.tuples(st.just("write"), slots, offsets, sizes, seeds),
        st.tuples(st.just("read"), slots, offsets, sizes),
        st.tuples(st.just("close"), slots),
        st.tuples(st.just("fsync"), slots),
        st.tuples(st.just("put"), paths, sizes, seeds),
        st.tuples(st.just("truncate"), paths, sizes),
        st.tuples(st.just("chmod"), paths, st.sampled_from([0o600, 0o755])),
        st.tuples(st.just("unlink"), paths),
        st.tuples(st.just("rename"), paths, paths),
        st.tuples(st.just("rename"), paths, paths),
        st.tuples(st.just("mkdir"), st.sampled_from(["d", "e", "d/d"])),
        st.tuples(st.just("rmdir"), st.sampled_from(["d", "e", "d/d"])),
        st.tuples(st.just("foreign put"), paths, sizes, seeds),
        st.tuples(st.just("foreign delete"), paths),
        st.tuples(st.just("drain")),
        st.tuples(st.just("fsync behind"), slots),
        st.tuples(st.just("fsync behind"), slots),
    )
    return st.lists(one, min_size=4, max_size=40)


BEGINNING: list[tuple[Any, ...]] = [
    ("mkdir", "d"),
    ("mkdir", "d/d"),
    ("put", "a", 64, 1),
    ("put", "d/a", 7, 2),
    ("put", "d/d/a", 64, 3),
    ("open", 0, "d/a", os.O_RDWR),
    ("open", 1, "b", os.O_RDWR | os.O_CREAT),
    ("write", 1, 5, 7, 4),
]


class Comparison:
    """Does each operation in both and compares what comes of it."""

    def __init__(self, files: Files, nursery: trio.Nursery) -> None:
        self.files = files
        self.nursery = nursery
        self.reference = Reference()
        self.handles: dict[int, int] = {}
        self.flags: dict[int, int] = {}
        self.foreign = b""

    async def do(self, name: str, *args: Any) -> None:
        """Do one operation; both must answer the same, or fail with the same error."""
        results: list[Any] = []
        for side in (self._model, self._real):
            try:
                results.append(await side(name, *args))
            except (OSError, COSError) as exc:
                results.append(("error", errno.errorcode[exc.errno or 0]))
            if results[0] == "skip":
                return
        assert results[0] == results[1], (name, args, results)

    async def _model(self, name: str, *args: Any) -> Any:
        model = self.reference
        match name, *args:
            case "open", slot, path, flags:
                if slot in self.handles:
                    return "skip"
                model.open(slot, path, flags)
            case "close", slot:
                if slot not in self.handles:
                    return "skip"
                del model.handles[slot]
            case (("fsync" | "fsync behind"), slot):
                return None if slot in self.handles else "skip"
            case "write", slot, offset, size, seed:
                if slot not in self.handles or not self.flags[slot] & os.O_RDWR:
                    return "skip"
                if size:
                    model.handles[slot].write(offset, content(size, seed))
            case "read", slot, offset, size:
                if slot not in self.handles:
                    return "skip"
                return bytes(model.handles[slot].data[offset : offset + size])
            case "put", path, size, seed:
                model.open(-1, path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                model.handles.pop(-1).write(0, content(size, seed))
            case "truncate", path, size:
                model.file(path).truncate(size)
            case "chmod", path, mode:
                model.walk(path).mode = mode
            case (("foreign put" | "foreign delete"), path, *more):
                return self._foreign(name, path, *more)
            case ("drain",):
                return None
            case _:
                return getattr(model, name)(*args)

    def _foreign(self, name: str, path: str, *more: Any) -> Any:
        """Others change only what is not in use here: what else happens is a conflict."""
        try:
            directory, last = self.reference.parent(path)
        except OSError:
            return "skip"
        node = directory.get(last)
        if isinstance(node, Directory) or node in self.reference.handles.values():
            return "skip"
        if name == "foreign delete":
            if node is None:
                return "skip"
            del directory[last]
        else:
            # Different each time: the same bytes put again within a second cannot be told apart.
            self.foreign = b"%d" % next(_numbers) + content(*more)
            directory[last] = File(bytearray(self.foreign))

    async def _real(self, name: str, *args: Any) -> Any:
        files = self.files
        match name, *args:
            case "open", slot, path, flags:
                self.handles[slot] = await files.open(path, flags)
                self.flags[slot] = flags
            case "close", slot:
                await files.close(self.handles.pop(slot))
            case "fsync", slot:
                await files.fs.fsync(self.handles[slot])
            case "fsync behind", slot:
                # What comes next happens while the file is on its way.
                started = trio.Event()
                self.nursery.start_soon(self._fsync, self.handles[slot], started)
                await started.wait()
            case "write", slot, offset, size, seed:
                if size:
                    await files.write(self.handles[slot], content(size, seed), offset)
            case "read", slot, offset, size:
                return await files.read(self.handles[slot], offset, size)
            case "put", path, size, seed:
                await files.put(path, content(size, seed))
            case "foreign put", path, _size, _seed:
                await files.fs.drain()
                await files.upload(path, self.foreign)
            case "foreign delete", path:
                await files.fs.drain()
                await files.delete(path)
            case ("drain",):
                await files.fs.drain()
            case _:
                return await _plain(getattr(files, name)(*args))

    async def _fsync(self, fh: int, started: trio.Event) -> None:
        started.set()
        await self.files.fs.fsync(fh)

    async def close_all(self) -> None:
        for slot in list(self.handles):
            await self.do("close", slot)

    async def compare(self, files: Files) -> None:
        assert await tree(files) == self.reference.tree()


async def _plain(call: Any) -> None:
    await call


async def check(
    client: CosClient, steps: list[tuple[Any, ...]], *, kill: bool = False, **changes: Any
) -> None:
    """Do the steps and compare; then compare with what a fresh filesystem finds."""
    bucket = f"model-{next(_numbers)}-1250000000"
    await trio.to_thread.run_sync(client.create_bucket, bucket)
    directory = Path(tempfile.mkdtemp())
    try:
        chosen = fs_settings(bucket, directory, metadata_ttl=0.0, grace=0.0, **changes)
        with trio.fail_after(150), trio.CancelScope() as scope:
            async with running(client, chosen) as files, trio.open_nursery() as nursery:
                comparison = Comparison(files, nursery)
                for step in BEGINNING + steps:
                    await comparison.do(*step)
                await comparison.compare(files)
                await comparison.close_all()
                await comparison.compare(files)
                if kill:
                    scope.cancel()
                    await trio.lowlevel.checkpoint()
                else:
                    await files.fs.drain()
                    await assert_tidy(files)
        with trio.fail_after(150):
            async with running(client, chosen) as files:
                await comparison.compare(files)
                await files.fs.drain()
                await assert_tidy(files)
        assert (await trio.to_thread.run_sync(client.list_uploads, bucket)).uploads == []
    finally:
        shutil.rmtree(directory)


async def assert_tidy(files: Files) -> None:
    """With nothing open and everything sent, nothing of the sending is left."""
    assert files.journal.records() == []
    await nothing_staged(files)
    for node in files.tree.table.nodes.values():
        if isinstance(node, FileNode):
            assert node.content is None and not node.changed and not node.opens
            assert not node.unlinked or node.nlookup
        else:
            assert isinstance(node, DirNode) and not node.opens


EXAMPLES = hypothesis_settings(
    max_examples=int(os.environ.get("COSFS_MODEL_EXAMPLES", "30")),
    deadline=None,
    derandomize="COSFS_MODEL_EXAMPLES" not in os.environ,
    suppress_health_check=list(HealthCheck),
)


@EXAMPLES
@given(steps=operations(200))
async def test_any_order_of_operations_in_close_mode(client: CosClient, steps: list[tuple[Any, ...]]) -> None:
    await check(client, steps)


@EXAMPLES
@given(steps=operations(200))
async def test_any_order_of_operations_in_async_mode(client: CosClient, steps: list[tuple[Any, ...]]) -> None:
    await check(client, steps, write_back="async")


@EXAMPLES
@given(steps=operations(200))
async def test_killed_mount_loses_nothing_that_was_closed(
    client: CosClient, steps: list[tuple[Any, ...]]
) -> None:
    await check(client, steps, write_back="async", kill=True)


@hypothesis_settings(EXAMPLES, max_examples=EXAMPLES.max_examples // 3)
@given(steps=operations(5 * MIB // 2))
async def test_any_order_of_operations_on_large_files(
    client: CosClient, steps: list[tuple[Any, ...]]
) -> None:
    await check(client, steps, multipart_threshold=2 * MIB)
