"""Recovery without a mount, of a part of what a mount has left."""

from __future__ import annotations

from pathlib import Path

import pytest

from cosfs.client.client import CosClient
from cosfs.emulator import Emulator
from cosfs.fs.journal import Journal, Record
from cosfs.fs.recovery import Recovered
from cosfs.fs.unmounted import concerning, recover_directory
from tests.fs.conftest import Filesystems
from tests.fs.support import TRANSFER, Files, stored
from tests.objects import keys


async def recovered(files: Files, client: CosClient, prefix: str) -> Recovered:
    """What `cos recover cos://bucket/PREFIX` does after a crash."""
    directory = files.fs.settings.cache_dir
    return await recover_directory(client, TRANSFER, directory, source=(files.bucket, prefix))


def records_of(directory: Path) -> list[Record]:
    journal = Journal(directory)
    try:
        return journal.records()
    finally:
        journal.close()


@pytest.fixture
async def moved_out(filesystem: Filesystems, emulator: Emulator) -> Files:
    """A filesystem that could not send a file that was changed in `d`, and is `away` now."""
    files = await filesystem("cache", write_back="async")
    await files.upload("d/", b"")
    await files.upload("d/a", b"0123456789")
    await files.list("d")
    emulator.faults.error("PutObject", "ServiceUnavailable", 503, count=0)
    async with files.opened("d/a") as fh:
        await files.write(fh, b"XY", 4)
    await files.rename("d/a", "away")
    return files


async def test_what_a_file_of_another_name_needs_below_the_prefix_is_not_replaced(
    filesystem: Filesystems, moved_out: Files, emulator: Emulator, client: CosClient
) -> None:
    await moved_out.put("d/other", b"sent as well")
    await filesystem.kill(moved_out)
    # What a mount wrote that died before it had fetched what `away` does not change.
    journal = Journal(moved_out.fs.settings.cache_dir)
    (other,) = [r for r in journal.records() if r.key == "d/other"]
    journal.replace(other.id, other.kind, other.bucket, "d/a", other.body)
    journal.close()
    emulator.faults.clear()
    done = await recovered(moved_out, client, "d/")
    assert (done.sent, done.kept, done.left) == (2, 0, 0)
    assert stored(client, moved_out.bucket, "away") == b"0123XY6789"
    assert stored(client, moved_out.bucket, "d/a") == b"sent as well"


async def test_a_directory_emptied_around_what_a_file_outside_needs_is_gone_in_the_end(
    filesystem: Filesystems, moved_out: Files, emulator: Emulator, client: CosClient
) -> None:
    await moved_out.rmdir("d")
    await moved_out.removed()
    await filesystem.kill(moved_out)
    emulator.faults.clear()
    emulator.faults.error("PutObject", "ServiceUnavailable", 503, count=0)
    await recovered(moved_out, client, "d/")
    kinds = sorted(record.kind for record in records_of(moved_out.fs.settings.cache_dir))
    assert kinds == ["emptied", "file"]  # COS still has d/a, so the directory is not to be forgotten
    emulator.faults.clear()
    await recovered(moved_out, client, "d/")
    assert keys(client, moved_out.bucket) == ["away"]
    assert records_of(moved_out.fs.settings.cache_dir) == []


def record(number: int, kind: str, key: str, *, to: str = "", obsolete: str = "") -> Record:
    body: dict[str, object] = {"obsolete": [["b", obsolete, "etag"]]} if obsolete else {}
    if to:
        body["to"] = ["b", to]
    return Record(number, kind, "b", key, body, 0.0)


@pytest.mark.parametrize(
    ("prefix", "numbers"),
    [
        ("", [1, 2, 3, 4, 5, 6, 7]),
        ("d/", [1, 2, 3, 4, 5]),  # the rename takes e/ along, and what is needed of e/
        ("e/", [1, 2, 3, 4, 5]),
        ("d/deep/", [1, 2, 3, 4, 5]),
        ("x/", [6, 7]),
        ("y", [6, 7]),
        ("nothing", []),
    ],
)
def test_what_a_prefix_cannot_be_finished_without_goes_with_it(prefix: str, numbers: list[int]) -> None:
    records = [
        record(1, "rename", "d/", to="e/"),
        record(2, "file", "d/one"),
        record(3, "file", "e/two"),
        record(4, "file", "apart", obsolete="e/three"),
        record(5, "delete", "d/four"),
        record(6, "move", "x/a", to="y"),
        record(7, "file", "y"),
    ]
    assert [each.id for each in concerning(records, ("b", prefix))] == numbers
    assert concerning(records, ("another", "")) == []
    assert concerning(records, ("", "")) == records
