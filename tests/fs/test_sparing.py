"""What is looked up only to be removed costs no HEAD, and whoever asks is told the truth all the same."""

from __future__ import annotations

import stat

import pytest
import trio

from cosfs.client.model import Headers
from cosfs.emulator import Emulator
from cosfs.fs import sparing
from cosfs.fs.sparing import FEW
from tests.fs.conftest import Filesystems
from tests.fs.support import Files, counted

LARGE = b"x" * 5000  # no symbolic link
PRIVATE = Headers(metadata={"mode": str(stat.S_IFREG | 0o600)})
OF_LINKS = Headers(metadata={"mode": str(stat.S_IFLNK | 0o777)})


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is, the removals of a test are one after the other."""
    monkeypatch.setattr(sparing, "WITHIN", 1000.0)


async def remove(files: Files, path: str) -> None:
    """As the kernel does: it looks a name up before it removes it."""
    await files.node(path)
    await files.unlink(path)


async def upload(files: Files, *keys: str) -> None:
    for key in keys:
        await files.upload(key, LARGE, headers=PRIVATE)


@pytest.fixture
async def removing(filesystem: Filesystems) -> Files:
    """A filesystem in which names are just being removed, and nothing is fetched ahead."""
    files = await filesystem(head_ahead=0)
    gone = [f"d/a{number}" for number in range(FEW + 1)]
    await upload(files, *gone, "d/b", "d/c")
    await files.upload("d/link", b"b", headers=OF_LINKS)
    for path in gone:
        await remove(files, path)
    return files


async def test_removing_many_files_asks_for_the_attributes_of_few(files: Files, emulator: Emulator) -> None:
    names = [f"d/f{number:03}" for number in range(200)]
    async with trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(upload, files, name)
    with counted(emulator) as requests:
        for name in names:
            await remove(files, name)
        await files.removed()
    assert await files.keys("d/f") == []
    assert requests["HeadObject"] < 100


async def test_a_name_that_is_looked_up_among_removals_costs_no_head(
    removing: Files, emulator: Emulator
) -> None:
    with counted(emulator) as requests:
        node = await removing.file("d/b")
        await removing.unlink("d/b")
        await removing.removed()
    assert node.size == len(LARGE)
    assert not node.known
    assert requests["HeadObject"] == 0
    assert await removing.keys("d/b") == []


async def test_whoever_asks_is_told_and_then_look_ups_tell_again(removing: Files, emulator: Emulator) -> None:
    assert await removing.mode("d/b") == 0o600
    with counted(emulator) as requests:
        node = await removing.file("d/c")
    assert stat.S_IMODE(node.attrs.mode) == 0o600
    assert requests["HeadObject"] == 1


async def test_what_could_be_a_symbolic_link_is_looked_at(removing: Files) -> None:
    assert (await removing.file("d/link")).is_symlink


async def test_in_a_directory_with_the_sticky_bit_the_owner_is_known(removing: Files) -> None:
    await removing.chmod("d", 0o1777)
    node = await removing.file("d/b")
    assert stat.S_IMODE(node.attrs.mode) == 0o600


async def test_a_change_of_a_spared_file_keeps_what_it_does_not_change(removing: Files) -> None:
    node = await removing.file("d/b")
    assert not node.known
    await removing.rename("d/b", "d/e")
    await removing.chmod("d/e", 0o640)
    fh = await removing.open("d/c", 1)
    await removing.write(fh, b"y")
    await removing.close(fh)
    assert await removing.mode("d/e") == 0o640
    assert await removing.mode("d/c") == 0o600
