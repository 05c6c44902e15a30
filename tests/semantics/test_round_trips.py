"""How many requests an operation costs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cosfs.emulator import Emulator
from cosfs.fs.commit import ATTRIBUTE_DELAY
from cosfs.fs.deleter import DELAY
from tests.fuse.support import Spans
from tests.mounting import Mounted
from tests.semantics.conftest import Counted, Outside, names, settle

pytestmark = pytest.mark.fuse
Count = Callable[[], Counted]


@pytest.fixture
def thousand(outside: Outside) -> Outside:
    for number in range(1000):
        outside.put(f"many/{number:04}", b"x")
    return outside


def test_listing_a_thousand_files_is_one_request(
    mount_bucket: Callable[..., Path], thousand: Outside, counted: Count
) -> None:
    top = mount_bucket("--attributes", "listing", "--metadata-ttl", "60s")
    (top / "many").stat()
    with counted() as seen:
        output = subprocess.run(["ls", "-l", top / "many"], capture_output=True, text=True, check=True).stdout
    assert len(output.splitlines()) == 1001
    assert seen.counts == {"ListObjects": 1}


def test_attributes_cost_one_head_each_and_are_remembered_by_the_next_mount(
    mount: Callable[..., Mounted], thousand: Outside, counted: Count
) -> None:
    first = mount(f"cos://{thousand.bucket}", "--metadata-ttl", "60s")
    with counted() as seen:
        subprocess.run(["ls", "-l", first.path / "many"], stdout=subprocess.DEVNULL, check=True)
    assert seen.counts["HeadObject"] <= 1001
    with counted() as seen:
        subprocess.run(["ls", "-l", first.path / "many"], stdout=subprocess.DEVNULL, check=True)
    assert seen.counts == {}
    first.unmount()
    second = mount(f"cos://{thousand.bucket}", "--metadata-ttl", "60s", cache_dir=first.cache_dir)
    with counted() as seen:
        subprocess.run(["ls", "-l", second.path / "many"], stdout=subprocess.DEVNULL, check=True)
    assert seen.counts.get("HeadObject", 0) <= 2  # of the directories


def test_a_name_that_is_never_believed_is_looked_up_once_a_call(
    mount_bucket: Callable[..., Path], outside: Outside, counted: Count
) -> None:
    outside.put("file", b"content")
    path = mount_bucket("--attributes", "listing", "--metadata-ttl", "0") / "file"
    path.stat()
    with counted() as seen:
        for _ in range(20):
            path.stat()
    # Once more only where the kernel was held up between looking it up and asking for its attributes.
    assert 20 <= seen.counts["ListObjects"] < 40


def test_reading_a_small_file_is_one_request_and_none_again(
    mount_bucket: Callable[..., Path], outside: Outside, counted: Count
) -> None:
    outside.put("file", b"content")
    path = mount_bucket("--metadata-ttl", "60s") / "file"
    path.stat()
    with counted() as seen:
        assert path.read_bytes() == b"content"
    assert seen.counts == {"GetObject": 1}
    with counted() as seen:
        assert path.read_bytes() == b"content"
    assert seen.counts == {}


def test_unknown_names_in_a_listed_directory_cost_nothing(
    mount_bucket: Callable[..., Path], outside: Outside, counted: Count
) -> None:
    outside.put("file", b"content")
    top = mount_bucket("--metadata-ttl", "60s")
    names(top)
    with counted() as seen:
        for number in range(100):
            assert not (top / f"absent {number}").exists()
    assert seen.counts == {}


def test_copying_a_small_file_in_is_one_request(
    mount_bucket: Callable[..., Path], outside: Outside, counted: Count, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"content")
    top = mount_bucket("--metadata-ttl", "60s")
    names(top)
    with counted() as seen:
        subprocess.run(["cp", tmp_path / "file", top / "file"], check=True)
        subprocess.run(["sh", "-c", 'echo content > "$1"', "sh", top / "echoed"], check=True)
    assert seen.counts == {"PutObject": 2}


def test_copying_with_attributes_is_one_request(
    mount_bucket: Callable[..., Path], outside: Outside, counted: Count, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"content")
    os.utime(tmp_path / "file", (1_500_000_000, 1_500_000_000))
    top = mount_bucket("--metadata-ttl", "60s")
    names(top)
    with counted() as seen:
        subprocess.run(["cp", "-p", tmp_path / "file", top / "file"], check=True)
    assert seen.counts == {"PutObject": 1}


def test_writing_a_large_file_costs_its_parts_and_two(
    mount_bucket: Callable[..., Path], counted: Count
) -> None:
    top = mount_bucket("--metadata-ttl", "60s")
    names(top)
    with counted() as seen, (top / "large").open("wb") as file:
        for _ in range(40):
            file.write(bytes(1 << 20))
    assert seen.total <= 5 + 2


def test_reading_a_large_file_asks_for_no_byte_twice(
    mount: Callable[..., Mounted], outside: Outside, counted: Count, emulator: Emulator
) -> None:
    size = 64 << 20
    outside.put("large", os.urandom(size))
    path = mount(f"cos://{outside.bucket}").path / "large"
    path.stat()
    with counted() as seen:
        subprocess.run(["dd", f"if={path}", "of=/dev/null", "bs=1M", "status=none"], check=True)
        sent = emulator.requests.bytes_sent
    assert seen.counts["GetObject"] <= 8 + 4
    assert size <= sent < size + (64 << 10)


def test_removing_a_tree_sends_batches(
    mount_bucket: Callable[..., Path], thousand: Outside, counted: Count
) -> None:
    top = mount_bucket("--attributes", "listing", "--metadata-ttl", "60s")
    with counted() as seen:
        spans = Spans()
        shutil.rmtree(top / "many")
        settle(top)
        more = spans.of(DELAY)
    assert thousand.listing() == []
    assert seen.total <= 8 + more  # a batch each while, however slow the machine is


def test_attribute_changes_of_one_file_are_one_copy(
    mount_bucket: Callable[..., Path], outside: Outside, counted: Count
) -> None:
    outside.put("file", b"content")
    path = mount_bucket("--metadata-ttl", "60s") / "file"
    path.stat()
    with counted() as seen:
        spans = Spans()
        path.chmod(0o600)
        os.utime(path, (1, 1))
        more = spans.of(ATTRIBUTE_DELAY)
        settle(path)
    assert seen.counts.keys() == {"CopyObject"} and 1 <= seen.counts["CopyObject"] <= 1 + more


def test_renaming_a_file_is_a_copy_and_a_delete(
    mount_bucket: Callable[..., Path], outside: Outside, counted: Count
) -> None:
    for name in ("first", "old"):
        outside.put(name, b"content")
    top = mount_bucket("--metadata-ttl", "60s")
    for name in ("first", "old"):
        (top / name).stat()
    with counted() as seen:
        (top / "first").rename(top / "renamed")  # it is asked whether these keys may remove
        settle(top)
    assert seen.total <= 3
    with counted() as seen:
        (top / "old").rename(top / "new")
        settle(top)
    assert seen.total <= 2
    assert outside.listing() == ["new", "renamed"]
