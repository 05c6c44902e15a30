"""cos sync: what is sent, what is deleted and when not, and what is said."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cosfs.client.model import Headers
from cosfs.units import MIB
from tests.transfer.support import content as data_of
from tests.transfer.support import stored

if TYPE_CHECKING:
    from cosfs.client.client import CosClient
    from cosfs.emulator import Emulator

Run = Callable[..., Any]

PAST = 1_600_000_000
FUTURE = 4_000_000_000


def keys(client: CosClient, bucket: str, prefix: str = "") -> list[str]:
    return [info.key for info in client.list_objects(bucket, prefix=prefix).objects]


def put(client: CosClient, bucket: str, *names: str) -> None:
    for name in names:
        client.put_object(bucket, name, name.encode())


def write(root: Path, *names: str, text: str | None = None, mtime: float = PAST) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name if text is None else text)
        os.utime(path, (mtime, mtime))


def tree(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): path.read_text() for path in sorted(root.rglob("*")) if path.is_file()
    }


# --- source kind, target kind, slash: one test a row


@pytest.mark.parametrize("source", ["d", "d/", "./d/"])
@pytest.mark.parametrize(
    ("destination", "prefix"), [("", ""), ("/", ""), ("/p", "p/"), ("/p/", "p/"), ("/p/q", "p/q/")]
)
def test_up(
    run: Run, client: CosClient, bucket: str, tmp_path: Path, source: str, destination: str, prefix: str
) -> None:
    write(tmp_path / "d", "a", "s/b")
    run("sync", source, f"cos://{bucket}{destination}")
    assert keys(client, bucket) == [f"{prefix}a", f"{prefix}s/b"]


@pytest.mark.parametrize("source", ["/x", "/x/"])
@pytest.mark.parametrize("destination", ["d", "d/", "n/ew", "."])
def test_down(
    run: Run, client: CosClient, bucket: str, tmp_path: Path, source: str, destination: str
) -> None:
    (tmp_path / "d").mkdir()
    put(client, bucket, "x/a", "x/s/b", "xy/c", "x")
    run("sync", f"cos://{bucket}{source}", destination)
    assert tree(tmp_path / destination) == {"a": "x/a", "s/b": "x/s/b"}


@pytest.mark.parametrize("source", ["/x", "/x/"])
@pytest.mark.parametrize("destination", ["/y", "/y/", "/x2"])
def test_across(run: Run, client: CosClient, bucket: str, source: str, destination: str) -> None:
    put(client, bucket, "x/a", "x/s/b", "xy/c")
    run("sync", f"cos://{bucket}{source}", f"cos://{bucket}{destination}")
    prefix = destination.strip("/")
    assert keys(client, bucket, prefix + "/") == [f"{prefix}/a", f"{prefix}/s/b"]


def test_a_whole_bucket_up_and_down(run: Run, client: CosClient, bucket: str, tmp_path: Path) -> None:
    put(client, bucket, "a", "s/b")
    run("sync", f"cos://{bucket}", "d")
    assert tree(tmp_path / "d") == {"a": "a", "s/b": "s/b"}
    write(tmp_path / "d", "c")
    run("sync", "d", f"cos://{bucket}")
    assert keys(client, bucket) == ["a", "c", "s/b"]


def test_between_regions(run: Run, client: CosClient, bucket: str, emulator: Emulator) -> None:
    far = emulator.create_bucket("far-" + bucket.removesuffix("-1250000000"), "ap-singapore")
    client.put_object(bucket, "x/a", b"text", headers=Headers(content_type="text/x", metadata={"k": "v"}))
    put(client, bucket, "x/b")
    run("sync", f"cos://{bucket}/x", f"cos://{far}/y")
    assert keys(client, far) == ["y/a", "y/b"]
    head = client.head_object(far, "y/a")
    assert head is not None and head.headers is not None
    assert (head.headers.content_type, head.headers.metadata) == ("text/x", {"k": "v"})
    emulator.requests.reset()
    run("sync", f"cos://{bucket}/x", f"cos://{far}/y", "--delete")
    assert emulator.requests["CopyObject"] == 0


# --- what needs nothing


@pytest.mark.parametrize("way", ["up", "down", "across"])
def test_a_second_run_sends_nothing(
    run: Run, client: CosClient, bucket: str, tmp_path: Path, emulator: Emulator, way: str
) -> None:
    names = ["a", "a-", "a.b", "a/b", "s/ü", "s/ü/x".replace("ü/", "v/")]
    if way == "up":
        write(tmp_path / "d", *(name for name in names if name != "a"), mtime=FUTURE)
    else:
        put(client, bucket, *(f"x/{name}" for name in names if name != "a"))
    places = {
        "up": ("d", f"cos://{bucket}/y"),
        "down": (f"cos://{bucket}/x", "d"),
        "across": (f"cos://{bucket}/x", f"cos://{bucket}/y"),
    }[way]
    first = run("sync", *places, "--output", "jsonl")
    assert first.events[-1]["ok"] == 5
    emulator.requests.reset()
    second = run("sync", *places, "--output", "jsonl", "--delete")
    assert second.events == [second.events[-1] | {"ok": 0, "unchanged": 5, "exit": 0}]
    assert set(emulator.requests.snapshot()) == {"ListObjects"}


def test_a_download_takes_the_time_of_the_object(
    run: Run, client: CosClient, bucket: str, tmp_path: Path
) -> None:
    put(client, bucket, "x/a")
    run("sync", f"cos://{bucket}/x", "d")
    [info] = client.list_objects(bucket).objects
    assert (tmp_path / "d/a").stat().st_mtime == int(info.last_modified)


def test_ten_thousand_unchanged_files_cost_ten_lists(
    run: Run, client: CosClient, bucket: str, tmp_path: Path, emulator: Emulator
) -> None:
    (tmp_path / "d").mkdir()
    for number in range(10_000):
        (tmp_path / f"d/{number:05}").write_bytes(b"x")
    emulator.put_objects(bucket, ((f"p/{number:05}", b"x") for number in range(10_000)))
    emulator.requests.reset()
    result = run("sync", "d", f"cos://{bucket}/p", "--delete", "--output", "jsonl")
    assert result.events[0]["unchanged"] == 10_000
    assert emulator.requests.snapshot() == {"ListObjects": 10}


# --- times and contents


def test_touched_files_are_hashed_not_sent(
    run: Run, client: CosClient, bucket: str, tmp_path: Path, emulator: Emulator
) -> None:
    write(tmp_path / "d", "a", "b")
    run("sync", "d", f"cos://{bucket}/p")
    write(tmp_path / "d", "a", mtime=FUTURE)
    write(tmp_path / "d", "b", text="B", mtime=FUTURE)
    emulator.requests.reset()
    result = run("sync", "d", f"cos://{bucket}/p")
    assert result.out == f"upload: d/b to cos://{bucket}/p/b\n"
    assert emulator.requests.snapshot() == {"ListObjects": 1, "PutObject": 1}


def test_size_only(run: Run, client: CosClient, bucket: str, tmp_path: Path) -> None:
    put(client, bucket, "p/a")
    write(tmp_path / "d", "a", text="xyz", mtime=FUTURE)
    assert run("sync", "d", f"cos://{bucket}/p", "--size-only").out == ""
    assert stored(client, bucket, "p/a") == b"p/a"


@pytest.mark.parametrize(("options", "text"), [((), "xyz"), (("--exact-timestamps",), "p/a")])
def test_exact_timestamps(
    run: Run, client: CosClient, bucket: str, tmp_path: Path, options: tuple[str, ...], text: str
) -> None:
    put(client, bucket, "p/a")
    write(tmp_path / "d", "a", text="xyz", mtime=FUTURE)
    run("sync", f"cos://{bucket}/p", "d", *options)
    assert (tmp_path / "d/a").read_text() == text


def test_update_leaves_what_is_newer(run: Run, client: CosClient, bucket: str, tmp_path: Path) -> None:
    put(client, bucket, "p/a", "p/b")
    write(tmp_path / "d", "a", text="longer text", mtime=PAST)
    write(tmp_path / "d", "b", text="longer text", mtime=FUTURE)
    result = run("sync", "d", f"cos://{bucket}/p", "--update", "--output", "jsonl")
    assert [(e["status"], e.get("reason")) for e in result.events if e["type"] == "transfer"] == [
        ("unchanged", "newer-at-destination"),
        ("ok", None),
    ]
    assert stored(client, bucket, "p/a") == b"p/a"


def test_no_overwrite_and_existing(run: Run, client: CosClient, bucket: str, tmp_path: Path) -> None:
    put(client, bucket, "p/a")
    write(tmp_path / "d", "a", "b", text="fresh")
    run("sync", "d", f"cos://{bucket}/p", "--existing")
    assert stored(client, bucket, "p/a") == b"fresh" and keys(client, bucket) == ["p/a"]
    write(tmp_path / "d", "a", text="newer")
    run("sync", "d", f"cos://{bucket}/p", "--no-overwrite")
    assert stored(client, bucket, "p/a") == b"fresh" and keys(client, bucket) == ["p/a", "p/b"]


def test_checksum_asks_only_where_the_etag_does_not_tell(
    run: Run, client: CosClient, bucket: str, tmp_path: Path, emulator: Emulator
) -> None:
    (tmp_path / "d").mkdir()
    for name, size in (("large", 20 * MIB), ("small", 10), ("other", 10)):
        (tmp_path / "d" / name).write_bytes(data_of(size))
    run("sync", "d", f"cos://{bucket}/p")
    # Large ones are compared by a HEAD before they are sent again.
    os.utime(tmp_path / "d/large", (FUTURE, FUTURE))
    emulator.requests.reset()
    assert run("sync", "d", f"cos://{bucket}/p").out == ""
    assert emulator.requests.snapshot() == {"ListObjects": 1, "HeadObject": 1}
    # Older than the object, equal in size, other content: what times alone never see.
    (tmp_path / "d/other").write_bytes(data_of(10, seed=1))
    os.utime(tmp_path / "d/other", (PAST, PAST))
    os.utime(tmp_path / "d/large", (PAST, PAST))
    assert run("sync", "d", f"cos://{bucket}/p").out == ""
    emulator.requests.reset()
    result = run("sync", "d", f"cos://{bucket}/p", "--checksum")
    assert result.out == f"upload: d/other to cos://{bucket}/p/other\n"
    assert emulator.requests.snapshot() == {"ListObjects": 1, "HeadObject": 1, "PutObject": 1}
    # The same where the object is the source.
    (tmp_path / "d/large").write_bytes(data_of(20 * MIB, seed=2))
    run("sync", f"cos://{bucket}/p", "d", "--checksum")
    assert (tmp_path / "d/large").read_bytes() == data_of(20 * MIB)


def test_objects_encrypted_with_a_key_of_ones_own(
    run: Run, client: CosClient, bucket: str, tmp_path: Path
) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/large").write_bytes(data_of(17 * MIB))
    (tmp_path / "key").write_bytes(b"k" * 32)
    key = ("--sse-c", "AES256", "--sse-c-key", "fileb://key")
    run("sync", "d", f"cos://{bucket}/p", *key)
    os.utime(tmp_path / "d/large", (FUTURE, FUTURE))
    assert run("sync", "d", f"cos://{bucket}/p", *key).out == ""
    run("sync", f"cos://{bucket}/p", "e", *key)
    assert (tmp_path / "e/large").read_bytes() == data_of(17 * MIB)


def test_page_size(run: Run, client: CosClient, bucket: str, tmp_path: Path, emulator: Emulator) -> None:
    put(client, bucket, *(f"p/{number}" for number in range(9)))
    emulator.requests.reset()
    run("sync", f"cos://{bucket}/p", "d", "--page-size", "3")
    assert emulator.requests["ListObjects"] == 3


# --- deletions


def test_delete(run: Run, client: CosClient, bucket: str, tmp_path: Path) -> None:
    put(client, bucket, "p/a", "p/b", "p/s/c", "q")
    write(tmp_path / "d", "a", text="p/a")
    assert run("sync", "d", f"cos://{bucket}/p").out == ""
    result = run("sync", "d", f"cos://{bucket}/p", "--delete")
    assert result.lines == [f"delete: cos://{bucket}/p/b", f"delete: cos://{bucket}/p/s/c"]
    assert keys(client, bucket) == ["p/a", "q"]


def test_delete_files_and_the_directories_that_become_empty(
    run: Run, client: CosClient, bucket: str, tmp_path: Path
) -> None:
    put(client, bucket, "p/a", "p/kept/x")
    client.put_object(bucket, "p/marked/", b"")
    write(tmp_path / "d", "b", "s/t/c", "s/t/d", "kept/y", "marked/z")
    (tmp_path / "d/empty").mkdir()
    result = run("sync", f"cos://{bucket}/p", "d", "--delete")
    assert sorted(result.lines)[:5] == [
        f"delete: d/{name}" for name in ("b", "kept/y", "marked/z", "s/t/c", "s/t/d")
    ]
    names = sorted(str(path.relative_to(tmp_path / "d")) for path in (tmp_path / "d").rglob("*"))
    assert names == ["a", "empty", "kept", "kept/x", "marked"]


def test_a_mistyped_source_deletes_nothing(
    run: Run, client: CosClient, bucket: str, tmp_path: Path, emulator: Emulator
) -> None:
    put(client, bucket, "p/a")
    emulator.requests.reset()
    assert "no such directory" in run("sync", "mistyped", f"cos://{bucket}/p", "--delete", code=252).err
    assert emulator.requests.total == 0
    (tmp_path / "empty").mkdir()
    result = run("sync", "empty", f"cos://{bucket}/p", "--delete", code=1)
    assert "--allow-empty-source" in result.err
    write(tmp_path / "d", "a")
    result = run("sync", f"cos://{bucket}/mistyped", "d", "--delete", code=1)
    assert "--allow-empty-source" in result.err
    assert keys(client, bucket) == ["p/a"] and tree(tmp_path / "d") == {"a": "a"}
    run("sync", "empty", f"cos://{bucket}/p", "--delete", "--allow-empty-source")
    run("sync", f"cos://{bucket}/mistyped", "d", "--delete", "--allow-empty-source")
    assert keys(client, bucket) == [] and tree(tmp_path / "d") == {}


def test_nothing_is_deleted_after_a_failure(
    run: Run, client: CosClient, bucket: str, tmp_path: Path, emulator: Emulator
) -> None:
    put(client, bucket, "p/old")
    write(tmp_path / "d", "a", "b")
    emulator.faults.error("PutObject", "AccessDenied", 403, key="p/a")
    result = run("sync", "d", f"cos://{bucket}/p", "--delete", code=1)
    assert "nothing was deleted" in result.err and "AccessDenied" in result.err
    assert keys(client, bucket) == ["p/b", "p/old"]


@pytest.mark.parametrize("prefix", ["p", "s"])
def test_nothing_is_deleted_after_a_listing_broke_off(
    run: Run, client: CosClient, bucket: str, tmp_path: Path, emulator: Emulator, prefix: str
) -> None:
    """Neither when the destination was not seen whole nor when the source was not."""
    emulator.put_objects(bucket, ((f"{side}/{number:04}", b"x") for side in "ps" for number in range(1500)))
    emulator.faults.error("ListObjects", "AccessDenied", 403, key="*", every=2, count=1)
    result = run("sync", f"cos://{bucket}/s", "d", "--delete", code=1) if prefix == "s" else None
    if result is None:
        write(tmp_path / "d", "0000")
        result = run("sync", "d", f"cos://{bucket}/p", "--delete", code=1)
        assert len(keys(client, bucket, "p/")) == 1000
    assert "AccessDenied" in result.err


def test_unreadable_sources_are_not_taken_for_gone(
    run: Run, client: CosClient, bucket: str, tmp_path: Path
) -> None:
    put(client, bucket, "p/a", "p/link", "p/old")
    write(tmp_path / "d", "a", text="p/a")
    (tmp_path / "d/link").symlink_to("nowhere")
    result = run("sync", "d", f"cos://{bucket}/p", "--delete", code=2)
    assert result.out == f"delete: cos://{bucket}/p/old\n"
    assert keys(client, bucket) == ["p/a", "p/link"]


@pytest.mark.parametrize(("limit", "code"), [("1", 1), ("2", 0), ("49%", 1), ("50%", 0)])
def test_max_delete(run: Run, client: CosClient, bucket: str, tmp_path: Path, limit: str, code: int) -> None:
    put(client, bucket, "p/a", "p/b", "p/c", "p/d")
    write(tmp_path / "d", "a", text="p/a")
    write(tmp_path / "d", "b", text="p/b")
    result = run("sync", "d", f"cos://{bucket}/p", "--delete", "--max-delete", limit, code=code)
    assert keys(client, bucket) == ["p/a", "p/b", *(["p/c", "p/d"] if code else [])]
    assert ("2 of 4 would go" in result.err) == bool(code)


def test_deletions_go_out_by_the_thousand(
    run: Run, client: CosClient, bucket: str, tmp_path: Path, emulator: Emulator
) -> None:
    emulator.put_objects(bucket, ((f"p/{number:04}", b"x") for number in range(1500)))
    write(tmp_path / "d", "0000", text="x")
    emulator.requests.reset()
    run("sync", "d", f"cos://{bucket}/p", "--delete", "--quiet")
    assert emulator.requests.snapshot() == {"ListObjects": 2, "DeleteObjects": 2}
    assert keys(client, bucket) == ["p/0000"]


def test_a_failed_deletion_is_a_failure(
    run: Run, client: CosClient, bucket: str, tmp_path: Path, emulator: Emulator
) -> None:
    put(client, bucket, "p/a", "p/b")
    write(tmp_path / "d", "a", text="p/a")
    emulator.faults.error("DeleteObjects", "AccessDenied", 403)
    result = run("sync", "d", f"cos://{bucket}/p", "--delete", code=1)
    assert f"delete failed: cos://{bucket}/p/b: AccessDenied" in result.err


# --- filters


def test_include_and_delete_leave_alone_what_does_not_match(
    run: Run, client: CosClient, bucket: str, tmp_path: Path
) -> None:
    put(client, bucket, "p/a.log", "p/b.log", "p/c.txt")
    write(tmp_path / "d", "a.log", "n.txt")
    run("sync", "d", f"cos://{bucket}/p", "--include", "*.log", "--delete")
    assert keys(client, bucket) == ["p/a.log", "p/c.txt"]


def test_delete_excluded(run: Run, client: CosClient, bucket: str, tmp_path: Path) -> None:
    put(client, bucket, "p/a.log", "p/b.log", "p/c.txt")
    write(tmp_path / "d", "a.log", "c.txt")
    run("sync", "d", f"cos://{bucket}/p", "--exclude", "*.txt", "--delete-excluded")
    assert keys(client, bucket) == ["p/a.log"]


def test_what_is_too_large_is_neither_sent_nor_deleted(
    run: Run, client: CosClient, bucket: str, tmp_path: Path
) -> None:
    client.put_object(bucket, "p/big", b"0123456789")
    client.put_object(bucket, "p/huge-and-gone", b"0123456789")
    put(client, bucket, "p/x")
    write(tmp_path / "d", "big", text="9876543210!")
    write(tmp_path / "d", "small", text="s")
    run("sync", "d", f"cos://{bucket}/p", "--max-size", "5", "--delete")
    assert keys(client, bucket) == ["p/big", "p/huge-and-gone", "p/small"]
    assert stored(client, bucket, "p/big") == b"0123456789"


def test_excluded_trees_are_not_looked_at_on_either_side(
    run: Run, client: CosClient, bucket: str, tmp_path: Path, emulator: Emulator
) -> None:
    emulator.put_objects(bucket, ((f"p/big/{n // 100}/{n:05}", b"x") for n in range(5000)))
    put(client, bucket, "p/a", "p/z")
    write(tmp_path / "d", "a", text="p/a")
    write(tmp_path / "d", "z", text="p/z")
    (tmp_path / "d/big").mkdir()
    (tmp_path / "d/big/link").symlink_to("nowhere")
    emulator.requests.reset()
    result = run("sync", "d", f"cos://{bucket}/p", "--exclude", "big/*", "--delete")
    assert result.err == "" and result.out == ""
    # One page, perhaps one that was asked for ahead, and the one behind the excluded directory; not six.
    assert emulator.requests["ListObjects"] == emulator.requests.total <= 3


@pytest.mark.parametrize("way", ["up", "down"])
def test_files_from(
    run: Run, client: CosClient, bucket: str, tmp_path: Path, way: str, emulator: Emulator
) -> None:
    put(client, bucket, "p/a", "p/gone", "p/other")
    write(tmp_path / "d", "a", "new", "s/t", "s/u", text="longer")
    (tmp_path / "list").write_text("a\nnew\ns/t\n" if way == "up" else "a\n")
    places = ("d", f"cos://{bucket}/p") if way == "up" else (f"cos://{bucket}/p", "d")
    emulator.requests.reset()
    run("sync", *places, "--files-from", "list", "--checksum")
    assert emulator.requests["ListObjects"] == 0
    if way == "up":
        assert keys(client, bucket) == ["p/a", "p/gone", "p/new", "p/other", "p/s/t"]
    else:
        assert tree(tmp_path / "d")["a"] == "p/a"


def test_files_from_with_a_name_that_is_not_there(run: Run, bucket: str, tmp_path: Path) -> None:
    write(tmp_path / "d", "a")
    (tmp_path / "list").write_text("a\nmissing\n")
    result = run("sync", "d", f"cos://{bucket}/p", "--files-from", "list", code=1)
    assert "missing" in result.err and result.out.startswith("upload: d/a ")


# --- what makes no sense


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("d", "e"), "in COS"),
        (("cos://b/x", "cos://b/x"), "overlap"),
        (("cos://b/x", "cos://b/x/y"), "overlap"),
        (("cos://b/x/y/", "cos://b/x"), "overlap"),
        (("cos://b", "cos://b/x"), "overlap"),
        (("d/file", "cos://b"), "not a directory"),
        (("cos://b", "d/file"), "not a directory"),
        (("-", "cos://b"), "stream"),
        (("d", "cos://"), "names no bucket"),
        (("d", "cos://b", "--max-delete", "3"), "--delete"),
        (("d", "cos://b", "--delete", "--max-delete", "some"), "percentage"),
        (("d", "cos://b", "--delete", "--max-delete", "101%"), "percentage"),
        (("cos://b", "d", "--track-renames"), "--track-renames"),
        (("cos://b", "d", "--watch"), "--snapshot"),
        (("cos://b", "cos://c", "--watch"), "--snapshot"),
        (("d", "cos://b", "--backup-dir", "cos://b/old"), "overlap"),
        (("d", "cos://b", "--backup-dir", "d/old"), "overlap"),
        (("cos://b", "d", "--backup-dir", "d/old"), "overlap"),
        (("d", "cos://b", "--min-size", "big"), "size"),
        (("d", "cos://b", "--size-only", "--checksum"), "--size-only"),
    ],
)
def test_usage_errors_come_before_any_request(
    run: Run, tmp_path: Path, emulator: Emulator, args: tuple[str, ...], words: str
) -> None:
    write(tmp_path / "d", "file")
    emulator.requests.reset()
    assert words in run("sync", *args, code=252).err
    assert emulator.requests.total == 0


def test_one_bucket_under_two_names_overlaps(run: Run, client: CosClient, bucket: str) -> None:
    put(client, bucket, "x/a")
    short = bucket.removesuffix("-1250000000")
    assert "overlap" in run("sync", f"cos://{bucket}/x", f"cos://{short}/x/y", code=252).err
    assert keys(client, bucket) == ["x/a"]


def test_a_bucket_that_does_not_exist(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "d", "a")
    assert "NoSuchBucket" in run("sync", "cos://nothing-1250000000/p", "d", "--delete", code=1).err
    assert tree(tmp_path / "d") == {"a": "a"}


# --- names and kinds that are in each other's way


def test_a_file_becomes_a_directory_and_back(
    run: Run, client: CosClient, bucket: str, tmp_path: Path
) -> None:
    put(client, bucket, "p/a", "p/b/c", "p/b/d")
    run("sync", f"cos://{bucket}/p", "d")
    for key in ("p/a", "p/b/c", "p/b/d"):
        client.delete_object(bucket, key)
    put(client, bucket, "p/a/x", "p/a-", "p/b")
    result = run("sync", f"cos://{bucket}/p", "d", code=1)
    assert "is a file here" in result.err and "directory of this name" in result.err
    run("sync", f"cos://{bucket}/p", "d", "--delete")
    assert tree(tmp_path / "d") == {"a-": "p/a-", "a/x": "p/a/x", "b": "p/b"}
    assert run("sync", f"cos://{bucket}/p", "d", "--delete").out == ""


def test_keys_that_collide(run: Run, client: CosClient, bucket: str, tmp_path: Path) -> None:
    put(client, bucket, "p/f", "p/f.txt", "p/f/child")
    write(tmp_path / "d", "old")
    result = run("sync", f"cos://{bucket}/p", "d", "--delete", code=1)
    assert "p/f/child" in result.err and "nothing was deleted" in result.err
    assert tree(tmp_path / "d") == {"f": "p/f", "f.txt": "p/f.txt", "old": "old"}


def test_keys_no_path_can_have(run: Run, client: CosClient, bucket: str, tmp_path: Path) -> None:
    put(client, bucket, "p/a", "p/x//b", "p/t/../../evil.txt")
    result = run("sync", f"cos://{bucket}/p", "d", code=2)
    assert result.err.count("skipped") == 2 and tree(tmp_path) == {"d/a": "p/a"}
    run("sync", f"cos://{bucket}/p", "d", "--key-policy", "error", code=1)
    run("sync", f"cos://{bucket}/p", "d", "--key-policy", "encode")
    assert run("sync", f"cos://{bucket}/p", "d", "--key-policy", "encode", "--delete").out == ""
    run("sync", "d", f"cos://{bucket}/q", "--key-policy", "encode")
    assert keys(client, bucket, "q/") == ["q/a", "q/t/../../evil.txt", "q/x//b"]
    assert run("sync", "d", f"cos://{bucket}/q", "--key-policy", "encode", "--delete").out == ""


def test_an_object_named_like_a_directory_survives_a_round_trip(
    run: Run, client: CosClient, bucket: str, tmp_path: Path
) -> None:
    client.put_object(bucket, "p/x/", b"content")
    put(client, bucket, "p/x/y")
    run("sync", f"cos://{bucket}/p", "d", "--key-policy", "encode")
    assert tree(tmp_path / "d") == {"x%2F": "content", "x/y": "p/x/y"}
    result = run("sync", "d", f"cos://{bucket}/p", "--key-policy", "encode", "--delete")
    assert result.out == "" and keys(client, bucket) == ["p/x/", "p/x/y"]


def test_a_symlink_in_the_destination_redirects_nothing(
    run: Run, client: CosClient, bucket: str, tmp_path: Path
) -> None:
    put(client, bucket, "p/s/a", "p/f")
    (tmp_path / "outside").mkdir()
    write(tmp_path / "outside", "precious")
    (tmp_path / "d").mkdir()
    (tmp_path / "d/s").symlink_to(tmp_path / "outside")
    (tmp_path / "d/f").symlink_to(tmp_path / "outside/precious")
    run("sync", f"cos://{bucket}/p", "d", code=1)
    assert tree(tmp_path / "outside") == {"precious": "precious"}
    # The link itself is what only the destination has.
    run("sync", f"cos://{bucket}/p", "d", "--delete")
    assert tree(tmp_path / "outside") == {"precious": "precious"}
    assert tree(tmp_path / "d") == {"f": "p/f", "s/a": "p/s/a"} and not (tmp_path / "d/f").is_symlink()


def test_empty_directories(run: Run, client: CosClient, bucket: str, tmp_path: Path) -> None:
    write(tmp_path / "d", "full/a")
    (tmp_path / "d/empty/deep").mkdir(parents=True)
    client.put_object(bucket, "p/full/", b"")
    client.put_object(bucket, "p/gone/", b"")
    # Directories are not compared unless asked for: their markers stay.
    run("sync", "d", f"cos://{bucket}/p", "--delete")
    assert keys(client, bucket) == ["p/full/", "p/full/a", "p/gone/"]
    run("sync", "d", f"cos://{bucket}/p", "--delete", "--keep-dirs")
    assert keys(client, bucket) == ["p/empty/deep/", "p/full/", "p/full/a"]
    assert run("sync", "d", f"cos://{bucket}/p", "--delete", "--keep-dirs").out == ""
    (tmp_path / "e/only/here").mkdir(parents=True)
    run("sync", f"cos://{bucket}/p", "e", "--delete", "--keep-dirs")
    names = sorted(str(path.relative_to(tmp_path / "e")) for path in (tmp_path / "e").rglob("*"))
    assert names == ["empty", "empty/deep", "full", "full/a"]


def test_keys_that_differ_in_case_alone(run: Run, client: CosClient, bucket: str, tmp_path: Path) -> None:
    put(client, bucket, "p/File", "p/file", "p/e\u0301", "p/\u00e9")
    run("sync", f"cos://{bucket}/p", "d")
    assert len(tree(tmp_path / "d")) == 4
    result = run("sync", f"cos://{bucket}/p", "e", "--case-conflict", "error", code=1)
    assert "case alone" in result.err and len(tree(tmp_path / "e")) == 2
    assert run("sync", f"cos://{bucket}/p", "e", "--case-conflict", "skip", code=2).out == ""


def test_symbolic_links(run: Run, client: CosClient, bucket: str, tmp_path: Path) -> None:
    write(tmp_path / "d", "a", "s/b")
    (tmp_path / "d/link").symlink_to("a")
    (tmp_path / "d/dir").symlink_to("s")
    run("sync", "d", f"cos://{bucket}/p")
    assert keys(client, bucket) == ["p/a", "p/dir/b", "p/link", "p/s/b"]
    run("sync", "d", f"cos://{bucket}/q", "--no-follow-symlinks")
    assert keys(client, bucket, "q/") == ["q/a", "q/s/b"]
    run("sync", "d", f"cos://{bucket}/r", "--preserve-symlinks")
    assert stored(client, bucket, "r/link") == b"a"
    assert run("sync", "d", f"cos://{bucket}/r", "--preserve-symlinks", "--checksum", "--delete").out == ""
    run("sync", f"cos://{bucket}/r", "e", "--preserve-symlinks")
    assert os.readlink(tmp_path / "e/link") == "a" and os.readlink(tmp_path / "e/dir") == "s"  # noqa: PTH115
    assert run("sync", f"cos://{bucket}/r", "e", "--preserve-symlinks", "--checksum", "--delete").out == ""


def test_preserved_attributes(run: Run, client: CosClient, bucket: str, tmp_path: Path) -> None:
    write(tmp_path / "d", "a")
    (tmp_path / "d/a").chmod(0o741)
    run("sync", "d", f"cos://{bucket}/p", "--preserve")
    run("sync", f"cos://{bucket}/p", "e", "--preserve")
    found = (tmp_path / "e/a").stat()
    assert (found.st_mode & 0o777, found.st_mtime) == (0o741, PAST)
    assert run("sync", f"cos://{bucket}/p", "e", "--preserve").out == ""


def test_archived_objects_are_left_and_told(run: Run, client: CosClient, bucket: str, tmp_path: Path) -> None:
    put(client, bucket, "p/a")
    client.put_object(bucket, "p/b", b"cold", headers=Headers(storage_class="ARCHIVE"))
    assert "archived" in run("sync", f"cos://{bucket}/p", "d", code=2).err
    assert tree(tmp_path / "d") == {"a": "p/a"}
    run("sync", f"cos://{bucket}/p", "d", "--ignore-archive-warnings", "--delete")


# --- dry run, backup, renames, snapshot


def test_dryrun_changes_nothing(run: Run, client: CosClient, bucket: str, tmp_path: Path) -> None:
    put(client, bucket, "p/old")
    write(tmp_path / "d", "a")
    result = run(
        "sync", "d", f"cos://{bucket}/p", "--delete", "--dryrun", "--backup-dir", "old", "--snapshot", "s"
    )
    assert result.lines == [
        f"(dryrun) upload: d/a to cos://{bucket}/p/a",
        f"(dryrun) delete: cos://{bucket}/p/old",
    ]
    assert keys(client, bucket) == ["p/old"]
    run("sync", f"cos://{bucket}/p", "d", "--delete", "--dryrun")
    run("sync", f"cos://{bucket}/p", "new/er", "--delete", "--dryrun")
    assert tree(tmp_path) == {"d/a": "a"} and not (tmp_path / "new").exists()


def test_backup_of_objects(run: Run, client: CosClient, bucket: str, tmp_path: Path) -> None:
    put(client, bucket, "p/a", "p/s/gone", "p/same")
    write(tmp_path / "d", "a", text="new text")
    write(tmp_path / "d", "same", text="p/same")
    run("sync", "d", f"cos://{bucket}/p", "--delete", "--backup-dir", f"cos://{bucket}/old")
    assert keys(client, bucket) == ["old/a", "old/s/gone", "p/a", "p/same"]
    assert stored(client, bucket, "old/a") == b"p/a" and stored(client, bucket, "p/a") == b"new text"
    write(tmp_path / "d", "a", text="even newer")
    run("sync", "d", f"cos://{bucket}/p", "--backup-dir", "local-backup")
    assert tree(tmp_path / "local-backup") == {"a": "new text"}


def test_backup_of_files(run: Run, client: CosClient, bucket: str, tmp_path: Path) -> None:
    put(client, bucket, "p/a")
    write(tmp_path / "d", "a", text="mine")
    write(tmp_path / "d", "s/gone", text="lost?")
    run("sync", f"cos://{bucket}/p", "d", "--delete", "--backup-dir", "old")
    assert tree(tmp_path) == {"d/a": "p/a", "old/a": "mine", "old/s/gone": "lost?"}
    write(tmp_path / "d", "a", text="mine again")
    run("sync", f"cos://{bucket}/p", "d", "--backup-dir", f"cos://{bucket}/backup")
    assert stored(client, bucket, "backup/a") == b"mine again"


def test_what_cannot_be_backed_up_is_neither_replaced_nor_deleted(
    run: Run, client: CosClient, bucket: str, tmp_path: Path
) -> None:
    put(client, bucket, "p/a")
    write(tmp_path / "d", "a", text="mine")
    write(tmp_path / "d", "gone", text="lost?")
    (tmp_path / "old").write_text("a file, no directory")
    result = run("sync", f"cos://{bucket}/p", "d", "--delete", "--backup-dir", "old", code=1)
    assert "nothing was deleted" in result.err
    assert tree(tmp_path / "d") == {"a": "mine", "gone": "lost?"}


def test_renamed_files_are_copied_in_cos(
    run: Run, client: CosClient, bucket: str, tmp_path: Path, emulator: Emulator
) -> None:
    write(tmp_path / "d", "one.txt", "s/two", "three")
    run("sync", "d", f"cos://{bucket}/p")
    (tmp_path / "d/one.txt").rename(tmp_path / "d/uno.html")
    (tmp_path / "d/s").rename(tmp_path / "d/t")
    write(tmp_path / "d", "four")
    emulator.requests.reset()
    result = run("sync", "d", f"cos://{bucket}/p", "--delete", "--track-renames")
    assert f"copy: cos://{bucket}/p/one.txt to cos://{bucket}/p/uno.html" in result.lines
    assert emulator.requests["PutObject"] == 1 and emulator.requests["CopyObject"] == 2
    assert keys(client, bucket) == ["p/four", "p/t/two", "p/three", "p/uno.html"]
    head = client.head_object(bucket, "p/uno.html")
    assert head is not None and head.headers is not None and head.headers.content_type == "text/html"


def test_snapshot(run: Run, client: CosClient, bucket: str, tmp_path: Path, emulator: Emulator) -> None:
    """Nothing is read that is recorded on both sides; what changed on either is noticed."""
    names = [f"f{number}" for number in range(5)]
    write(tmp_path / "d", *names, mtime=FUTURE)
    places = "d", f"cos://{bucket}/p"
    run("sync", *places, "--snapshot", "s.db")
    for name in names:
        os.chmod(tmp_path / "d" / name, 0)  # noqa: PTH101
    # chmod changes the ctime, so the record no longer fits; as root the files are still readable.
    assert run("sync", *places, "--snapshot", "s.db").out == ""
    # The same size, the same time, and another content: seen by ctime.
    write(tmp_path / "d", "f1", text="xx", mtime=FUTURE)
    # Older by far, as when a backup is restored: times alone would say that nothing is to be done.
    write(tmp_path / "d", "f2", text="yy", mtime=PAST)
    client.put_object(bucket, "p/f3", b"zz")
    result = run("sync", *places, "--snapshot", "s.db")
    assert sorted(line.split()[1] for line in result.lines) == ["d/f1", "d/f2", "d/f3"]
    assert stored(client, bucket, "p/f3") == b"f3"
    assert run("sync", *places, "--snapshot", "s.db").out == ""


def test_snapshot_of_downloads(run: Run, client: CosClient, bucket: str, tmp_path: Path) -> None:
    put(client, bucket, "p/a", "p/b")
    places = f"cos://{bucket}/p", "d"
    run("sync", *places, "--snapshot", "s.db")
    # Replaced within the same second, in the same size.
    client.put_object(bucket, "p/a", b"P/A")
    run("sync", *places, "--snapshot", "s.db")
    assert tree(tmp_path / "d") == {"a": "P/A", "b": "p/b"}


def test_snapshot_of_another_pair_is_refused(run: Run, bucket: str, tmp_path: Path) -> None:
    write(tmp_path / "d", "a")
    run("sync", "d", f"cos://{bucket}/p", "--snapshot", "s.db")
    assert "another sync" in run("sync", "d", f"cos://{bucket}/q", "--snapshot", "s.db", code=252).err
    (tmp_path / "text").write_text("no database, but long enough to be looked at" * 100)
    assert "snapshot" in run("sync", "d", f"cos://{bucket}/p", "--snapshot", "text", code=252).err


# --- interrupted


def test_an_interrupted_sync_deletes_nothing(
    cos_environment: dict[str, str], client: CosClient, bucket: str, tmp_path: Path, emulator: Emulator
) -> None:
    put(client, bucket, "p/old")
    write(tmp_path / "d", "a", "b")
    emulator.faults.latency(5, "PutObject", key="p/b", count=1)
    running = subprocess.Popen(
        ["cos", "sync", "d", f"cos://{bucket}/p", "--delete"],
        env=cos_environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert running.stdout is not None
    assert running.stdout.readline() == f"upload: d/a to cos://{bucket}/p/a\n"
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=10)
    assert running.returncode == 130 and "interrupted" in err
    assert "p/old" in keys(client, bucket)


# --- output


def test_golden_output(run: Run, client: CosClient, bucket: str, tmp_path: Path) -> None:
    put(client, bucket, "p/old", "p/same")
    write(tmp_path / "d", "a\nb", "same", text="p/same")
    arguments = ("sync", "d", f"cos://{bucket}/p", "--delete", "--dryrun")
    lines = f"(dryrun) upload: d/a\\nb to cos://{bucket}/p/a\\nb\n(dryrun) delete: cos://{bucket}/p/old\n"
    assert run(*arguments).out == lines
    assert run(*arguments, "--output", "text").out == lines
    assert run(*arguments, "--output", "table").out == lines
    document = run(*arguments, "--output", "json").json
    summary = document["Summary"]
    assert summary.pop("ms") >= 0
    assert document["Results"] == [
        {
            "v": 1,
            "type": "transfer",
            "op": "upload",
            "status": "dryrun",
            "src": "d/a\nb",
            "dst": f"cos://{bucket}/p/a\nb",
        },
        {"v": 1, "type": "delete", "status": "dryrun", "dst": f"cos://{bucket}/p/old"},
    ]
    assert {name: summary[name] for name in ("ok", "failed", "skipped", "unchanged", "exit")} == {
        "ok": 0, "failed": 0, "skipped": 0, "unchanged": 1, "exit": 0,
    }  # fmt: skip
    assert run(*arguments, "--quiet").out == ""
    assert run(*arguments, "--only-show-errors").out == ""


def test_report(run: Run, client: CosClient, bucket: str, tmp_path: Path) -> None:
    put(client, bucket, "p/old")
    write(tmp_path / "d", "a")
    run("sync", "d", f"cos://{bucket}/p", "--delete", "--report", "r.jsonl", "--quiet")
    events = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert [(event["type"], event.get("dst")) for event in events if event["type"] != "command"] == [
        ("transfer", f"cos://{bucket}/p/a"),
        ("delete", f"cos://{bucket}/p/old"),
        ("summary", None),
    ]


def test_headers_and_storage_class(run: Run, client: CosClient, bucket: str, tmp_path: Path) -> None:
    write(tmp_path / "d", "a.css")
    run("sync", "d", f"cos://{bucket}/p", "--storage-class", "standard_ia", "--metadata", "k=v")
    head = client.head_object(bucket, "p/a.css")
    assert head is not None and head.headers is not None
    assert (head.storage_class, head.headers.content_type) == ("STANDARD_IA", "text/css")
    run("sync", f"cos://{bucket}/p", f"cos://{bucket}/q", "--metadata", "k2=v2")
    copied = client.head_object(bucket, "q/a.css")
    assert copied is not None and copied.headers is not None
    assert copied.headers.metadata == {"k": "v", "k2": "v2"}


def test_the_program_itself(cos: Callable[..., Any], client: CosClient, bucket: str, tmp_path: Path) -> None:
    write(tmp_path / "d", "a")
    assert cos("sync", "d", f"cos://{bucket}/p", check=True).stdout == f"upload: d/a to cos://{bucket}/p/a\n"
    shutil.rmtree(tmp_path / "d")
    assert cos("sync", "d", f"cos://{bucket}/p", "--delete").returncode == 252
    assert keys(client, bucket) == ["p/a"]
