"""What a killed filesystem leaves of files that were open and never closed."""

from __future__ import annotations

import os

import pytest

from cosfs.client.model import Headers
from cosfs.emulator import Emulator
from cosfs.fs import commit
from cosfs.fs.metadata import Change
from cosfs.fs.recovery import Recovery
from tests.fs.conftest import Filesystems, killed_in_close, restarted
from tests.fs.support import Files, kept_files, nothing_staged, until

LATER = 60.0


async def test_what_was_never_closed_is_kept_aside(
    first: Files, filesystem: Filesystems, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator.faults.clear()
    await first.upload("old", b"0123456789")
    first.tree.forget_all()
    fh = await first.create("reports (new).txt")
    await first.write(fh, b"data")
    other = await first.open("old", os.O_RDWR)
    await first.write(other, b"XY", 4)
    await until(lambda: len(first.journal.records()) == 2)
    second = await restarted(filesystem, emulator, first)
    assert await second.keys() == ["old"]
    assert await second.stored("old") == b"0123456789"
    await nothing_staged(second)
    assert second.journal.records() == []
    assert second.recovered.kept == 2
    kept = kept_files(second)
    assert sorted(kept.values()) == [b"0123XY6789", b"data"]
    assert any(name.endswith("reports_new_.txt") for name in kept)
    text = (second.fs.settings.cache_dir / "recovered" / "LIST.txt").read_text()
    assert text.count("never closed") == 2
    assert all(name in text for name in kept)


async def test_a_time_set_a_moment_ago_is_not_that_of_bytes_nobody_was_promised(
    filesystem: Filesystems, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "ATTRIBUTE_DELAY", LATER)
    files = await filesystem("cache")
    names = ("before", "meanwhile", "mode")
    for name in names:
        await files.upload(name, b"old", headers=Headers(metadata={"mtime": "1000000000"}))
    for name in names:
        node = await files.file(name)
        if name == "before":
            await files.fs.setattr(node.ino, Change(mtime_ns=12 * 10**17))
        fh = await files.open(name, os.O_WRONLY)
        await files.write(fh, b"new", 3)
        if name == "meanwhile":
            await files.fs.setattr(node.ino, Change(mtime_ns=12 * 10**17))
        if name == "mode":
            await files.chmod(name, 0o600)
    await until(lambda: [r.kind for r in files.journal.records()] == ["open"] * 3)
    await filesystem.kill(files)
    monkeypatch.setattr(commit, "ATTRIBUTE_DELAY", 0.01)
    second = await filesystem("cache", recovering=False)
    recovery = Recovery(second.fs, second.journal.records())

    async def look() -> dict[str, int]:
        assert await second.mode("mode") == 0o600
        assert await second.get("before") == b"old"
        return {name: (await second.stat(name)).attrs.mtime_ns for name in names}

    await recovery.begin(60.0)
    assert await look() == {"before": 12 * 10**17, "meanwhile": 12 * 10**17, "mode": 10**18}
    await recovery.run(once=True)
    assert await look() == {"before": 12 * 10**17, "meanwhile": 12 * 10**17, "mode": 10**18}


async def test_a_time_set_before_a_close_that_was_cut_short_is_seen_from_the_first_moment_on(
    filesystem: Filesystems, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "ATTRIBUTE_DELAY", LATER)
    files = await filesystem("cache")
    await files.put("a", b"old bytes")
    await files.fs.setattr((await files.file("a")).ino, Change(mtime_ns=12 * 10**17))
    fh = await files.open("a", os.O_WRONLY)
    await files.write(fh, b"new", 0)
    await until(lambda: [record.kind for record in files.journal.records()] == ["open"])
    await killed_in_close(filesystem, monkeypatch, files, fh, arrives=False)
    second = await filesystem("cache", recovering=False)
    recovery = Recovery(second.fs, second.journal.records())
    await recovery.begin(60.0)
    assert (await second.stat("a")).attrs.mtime_ns == 12 * 10**17
    assert await second.get("a") == b"old bytes"
    await recovery.run(once=True)
    assert second.journal.records() == []
    assert list(kept_files(second).values()) == [b"new bytes"]
    third = await filesystem("other")
    assert (await third.stat("a")).attrs.mtime_ns == 12 * 10**17


async def test_the_kernel_is_told_of_a_mode_that_comes_back_after_somebody_looked(
    filesystem: Filesystems, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "ATTRIBUTE_DELAY", LATER)
    files = await filesystem("cache")
    await files.put("a", b"x")
    await files.chmod("a", 0o600)
    await filesystem.kill(files)
    second = await filesystem("cache", recovering=False)
    recovery = Recovery(second.fs, second.journal.records())
    forgotten: list[int] = []
    monkeypatch.setattr(second.tree.kernel, "forget_inode", forgotten.append)
    trouble = emulator.faults.error("*", "ServiceUnavailable", 503, count=0)
    await recovery.begin(60.0)
    assert trouble.struck
    emulator.faults.clear()
    looked_at = (await second.stat("a")).ino
    await recovery.run(once=True)
    assert forgotten == [looked_at]
    assert await second.mode("a") == 0o600


async def test_a_close_whose_answer_was_lost_leaves_nothing_to_keep_aside(
    filesystem: Filesystems, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "ATTRIBUTE_DELAY", LATER)
    files = await filesystem("cache")
    await files.put("a", b"old bytes")
    await files.chmod("a", 0o600)
    fh = await files.open("a", os.O_WRONLY)
    await files.write(fh, b"new", 0)
    await killed_in_close(filesystem, monkeypatch, files, fh, arrives=True)
    second = await filesystem("cache")
    assert await second.stored("a") == b"new bytes"
    assert await second.mode("a") == 0o600
    assert second.recovered.kept == 0
    assert not (second.fs.settings.cache_dir / "recovered").exists()
    assert second.journal.records() == []
