"""The socket of a running mount: how it goes, and send everything. control.py asks."""

from __future__ import annotations

import errno
import json
import logging
import math
import os
from dataclasses import asdict
from typing import Any

import trio

from cosfs.errors import COSError, FilesystemError
from cosfs.fs.inodes import FileNode, Ino
from cosfs.fs.refresh import Refresher
from cosfs.fs.warming import warm
from cosfs.fuse import registry
from cosfs.fuse.gauges import sample
from cosfs.fuse.running import Mount, unsent
from cosfs.fuse.sockets import listen, serve

log = logging.getLogger("cosfs.mount")


async def answer_forever(running: Mount) -> None:
    listener = listen(registry.socket_path(running.mount.mountpoint, ours=True))

    async def handle(stream: trio.SocketStream) -> None:
        try:
            await _answer(running, stream)
        except (trio.BrokenResourceError, ValueError, KeyError) as exc:
            log.debug("control socket: %s", exc)
        except OSError as exc:
            log.warning("whoever asks for the status is not answered: %s", exc)

    await serve(handle, [listener], "whoever asks for the status")


async def _answer(running: Mount, stream: trio.SocketStream) -> None:
    line = b""
    while not line.endswith(b"\n"):
        more = await stream.receive_some(4096)
        if not more:
            return
        line += more
    request = json.loads(line)
    if request["op"] == "status":
        await _reply(stream, running.status())
    elif request["op"] == "metrics":
        await _reply(stream, sample(running))
    elif request["op"] == "drain":
        await _drain(running, stream, float(request.get("timeout") or 0))
    elif request["op"] == "refresh":
        await _reply(stream, await _refresh(running, request))
    elif request["op"] == "warm":
        await _reply(stream, await _warm(running, int(request["inode"])))


async def _reply(stream: trio.SocketStream, answer: dict[str, Any]) -> None:
    await stream.send_all(json.dumps(answer).encode() + b"\n")


async def _drain(running: Mount, stream: trio.SocketStream, timeout: float) -> None:
    """Send everything, telling how much is left four times a second."""
    fs = running.fs
    assert fs is not None
    done = trio.Event()

    async def work() -> None:
        try:
            await fs.drain()
        finally:
            done.set()

    # Not in a nursery of our own: what was begun goes on if the asker gives up.
    running.background.start_soon(work)
    with trio.move_on_after(timeout or math.inf):
        while not done.is_set():
            with trio.move_on_after(0.25):
                await done.wait()
                break
            await _reply(stream, _left(running))
    await _reply(stream, {**_left(running), "done": True})


async def _refresh(running: Mount, request: dict[str, Any]) -> dict[str, Any]:
    """Believe nothing about a path; path is relative to the mountpoint."""
    assert running.fs is not None
    names = [name for name in os.fsencode(request["path"]).split(b"/") if name not in (b"", b".")]
    try:
        running.fs.rights.forget()
        done = await Refresher(running.fs.tree).refresh(names, recursive=bool(request.get("recursive")))
    except COSError as exc:
        return {"done": True, "error": str(exc), "exit_code": exc.exit_code}
    await trio.to_thread.run_sync(running.kernel.wait, abandon_on_cancel=True)
    return {"done": True, **asdict(done)}


async def _warm(running: Mount, inode: int) -> dict[str, Any]:
    fs = running.fs
    assert fs is not None
    node = fs.tree.table.get(Ino(inode))
    try:
        if not isinstance(node, FileNode):
            raise FilesystemError(errno.ESTALE, "it is no file any longer")
        await fs.tree.refresh(node)
        return {"done": True, **asdict(await warm(fs.fetcher, node))}
    except COSError as exc:
        return {"done": True, "error": str(exc), "exit_code": exc.exit_code}


def _left(running: Mount) -> dict[str, Any]:
    assert running.fs is not None
    pending = running.fs.pending
    return {
        "pending": running.pending_count(),
        "files": len(pending),
        "bytes": sum(unsent(node) for node in pending),
        "names": [node.url for node in pending[:10]],
    }
