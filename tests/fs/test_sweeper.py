"""What a walk leaves behind in memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cosfs.fs import sweeper as sweeper_module
from cosfs.fs.inodes import DirNode
from cosfs.fs.sweeper import Sweeper
from tests.fs.conftest import Make
from tests.fs.support import Files


def _expired(files: Files) -> None:
    """Let everything that is believed for some time be too old."""
    tree = files.tree
    tree.settings = replace(tree.settings, metadata_ttl=0.0, grace=0.0)
    for node in tree.table.nodes.values():
        node.expires = 0.0
        if isinstance(node, DirNode):
            node.recent.clear()


async def test_stale_listings_are_dropped_and_read_again(
    filesystem: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = await filesystem()
    files.client.put_object(files.bucket, "d/a", b"x")
    assert await files.list("d") == ["a"]
    sweeper = Sweeper(files.tree, lambda parent, name: None)
    assert sweeper.drop_listings() == 0
    _expired(files)
    assert sweeper.drop_listings() == 0, "they are of use while COS cannot be reached"
    monkeypatch.setattr(sweeper_module, "STALE_MAX", 0)
    assert sweeper.drop_listings() >= 1
    assert await files.list("d") == ["a"]


async def test_kernel_is_asked_to_forget_idle_names_above_the_limit(filesystem: Make) -> None:
    files = await filesystem()
    for number in range(5):
        files.client.put_object(files.bucket, f"f{number}", b"x")
    nodes = [await files.node(f"f{number}") for number in range(5)]
    asked: list[bytes] = []
    sweeper = Sweeper(files.tree, lambda parent, name: asked.append(name), max_nodes=3)
    assert sweeper.forget_nodes() == 3, "the root, five files; three may stay"
    assert set(asked) <= {node.name for node in nodes}


async def test_open_files_are_not_forgotten(filesystem: Make) -> None:
    files = await filesystem()
    files.client.put_object(files.bucket, "open", b"x")
    node = await files.node("open")
    fh = await files.fs.open(node.ino, 0)
    asked: list[bytes] = []
    sweeper = Sweeper(files.tree, lambda parent, name: asked.append(name), max_nodes=0)
    _expired(files)
    sweeper.forget_nodes()
    assert asked == []
    await files.fs.release(fh)
