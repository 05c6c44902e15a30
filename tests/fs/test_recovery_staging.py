"""What becomes of staged bytes when recovery needs them no more: no record leads to what is gone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cosfs.emulator import Emulator
from cosfs.fs import commit
from cosfs.fs.journal import Journal
from cosfs.fs.scratch import MEMORY_MAX
from tests.fs.conftest import NEVER, Filesystems, killed_in_close
from tests.fs.support import Files, content

LARGE = content(3 * MEMORY_MAX)  # in a file of its own
Named = list[tuple[str, list[str]]]


@pytest.fixture
def retired(monkeypatch: pytest.MonkeyPatch) -> Named:
    """The staging files that were given up, each with those that records named at that time."""
    found: Named = []
    retire = Journal.retire

    def note(journal: Journal, path: Path) -> None:
        assert path.exists()
        bodies = [record.body for record in journal.records()]
        found.append((path.name, [body["content"]["path"] for body in bodies if "content" in body]))
        retire(journal, path)

    monkeypatch.setattr(Journal, "retire", note)
    return found


def staged(files: Files) -> list[str]:
    return [path.name for path in files.journal.staging.iterdir()]


async def test_of_a_file_outside_of_the_mount(
    filesystem: Filesystems, emulator: Emulator, retired: Named
) -> None:
    files = await filesystem("cache", write_back="async")
    await files.list()
    emulator.faults.error("PutObject", "ServiceUnavailable", 503, count=0)
    await files.put("a", LARGE)
    (name,) = staged(files)
    await filesystem.kill(files)
    emulator.faults.clear()
    second = await filesystem("cache", prefix="d/")
    assert retired == [(name, [])]
    assert await second.stored("a") == LARGE


async def test_of_a_file_whose_close_got_no_answer(
    filesystem: Filesystems, monkeypatch: pytest.MonkeyPatch, retired: Named
) -> None:
    monkeypatch.setattr(commit, "ATTRIBUTE_DELAY", NEVER)
    files = await filesystem("cache")
    await files.put("a", b"old")
    await files.chmod("a", 0o600)  # so that the journal has it
    fh = await files.open("a", os.O_WRONLY)
    await files.write(fh, LARGE)
    (name,) = staged(files)
    await killed_in_close(filesystem, monkeypatch, files, fh, arrives=True)
    second = await filesystem("cache")
    assert retired == [(name, [])]
    assert await second.get("a") == LARGE


async def test_of_a_file_that_a_rename_has_replaced(
    filesystem: Filesystems, emulator: Emulator, retired: Named
) -> None:
    files = await filesystem("cache", write_back="async")
    etag = await files.upload("a", b"renamed")
    await files.upload("b", b"renamed")
    await files.list()
    emulator.faults.error("PutObject", "ServiceUnavailable", 503, count=0)
    await files.put("b", LARGE)
    (name,) = staged(files)
    body = {"to": [files.bucket, "b"], "etag": etag, "there": ""}
    files.journal.add("move", files.bucket, "a", body)
    await filesystem.kill(files)
    emulator.faults.clear()
    second = await filesystem("cache")
    assert retired == [(name, [])]
    assert await second.get("b") == b"renamed"


async def test_of_what_nobody_was_promised_not_before_the_journal_is_forced_to_disk(
    filesystem: Filesystems, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a loss of power could bring back a record of what is removed."""
    files = await filesystem("cache")
    orphan = files.journal.staging / "orphan"
    await filesystem.kill(files)
    orphan.write_bytes(b"bytes")
    there: list[bool] = []
    force = Journal._force

    def note(journal: Journal) -> None:
        force(journal)
        there.append(orphan.exists())

    monkeypatch.setattr(Journal, "_force", note)
    await filesystem("cache")
    assert there[0] and not orphan.exists()
