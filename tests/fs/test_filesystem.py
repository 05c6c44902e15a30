"""The semantics, call by call."""

from __future__ import annotations

from cosfs.emulator import Emulator
from tests.fs.support import Files, counted


async def test_a_small_new_file_is_one_put(files: Files, emulator: Emulator) -> None:
    await files.list()
    with counted(emulator) as requests:
        await files.put("a", b"hello")
    assert requests == {"PutObject": 1}
    assert await files.stored("a") == b"hello"
    assert await files.get("a") == b"hello"
