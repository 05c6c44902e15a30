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
from tests.cli.conftest import Run
from tests.cli.trees import FUTURE, PAST, tree, write
from tests.objects import keys, put, stored
from tests.transfer.support import content as data_of

if TYPE_CHECKING:
    from cosfs.client.client import CosClient
    from cosfs.emulator import Emulator


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
    # The second HEAD shows that the ETag which differs is an MD5.
    assert emulator.requests.snapshot() == {"ListObjects": 1, "HeadObject": 2, "PutObject": 1}
    # The same where the object is the source.
    (tmp_path / "d/large").write_bytes(data_of(20 * MIB, seed=2))
    run("sync", f"cos://{bucket}/p", "d", "--checksum")
    assert (tmp_path / "d/large").read_bytes() == data_of(20 * MIB)


@pytest.mark.parametrize(
    "encryption", [("--sse", "cos/kms"), ("--sse-c", "AES256", "--sse-c-key", "k" * 32)], ids=["kms", "own"]
)
@pytest.mark.parametrize("command", [("sync",), ("cp", "-r")], ids=["sync", "cp"])
def test_checksum_of_objects_whose_etag_is_no_md5(
    run: Run, bucket: str, tmp_path: Path, encryption: tuple[str, ...], command: tuple[str, ...]
) -> None:
    write(tmp_path / "d", "same", "other")
    run("sync", "d", f"cos://{bucket}/p", *encryption)
    write(tmp_path / "d", "other", text="OTHER")
    result = run(*command, "d", f"cos://{bucket}/p", *encryption, "--checksum")
    assert result.out == f"upload: d/other to cos://{bucket}/p/other\n"


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


def test_a_source_without_anything_is_told(run: Run, client: CosClient, bucket: str, tmp_path: Path) -> None:
    write(tmp_path / "d", "here")
    assert "nothing to sync below" in run("sync", f"cos://{bucket}/mistyped", "d").err
    assert run("sync", f"cos://{bucket}/mistyped", "d", "--delete", "--allow-empty-source").err == ""


def test_page_size(run: Run, client: CosClient, bucket: str, tmp_path: Path, emulator: Emulator) -> None:
    put(client, bucket, *(f"p/{number}" for number in range(9)))
    emulator.requests.reset()
    run("sync", f"cos://{bucket}/p", "d", "--page-size", "3")
    assert emulator.requests["ListObjects"] == 3


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
        (("d", "cos://b", "--sse", "AES256", "--sse-c-key", "k" * 32), "--sse-c"),
        (("d", "cos://b", "--sse", "AES256", "--sse-kms-key-id", "id"), "cos/kms"),
        (("d", "cos://b", "--report", "-"), "jsonl"),
        (("d", "cos://b", "--snapshot", "cos://b/snap", "--dryrun"), "on this machine"),
        (("d", "cos://b", "--region", "not one"), "--region"),
        (("d", "cos://b", "--read-timeout", "0"), "--read-timeout"),
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


# --- interrupted
def test_an_interrupted_sync_deletes_nothing(
    cos_environment: dict[str, str], client: CosClient, bucket: str, tmp_path: Path, emulator: Emulator
) -> None:
    put(client, bucket, "p/old")
    write(tmp_path / "d", "a", "b")
    emulator.faults.latency(3600.0, "PutObject", key="p/b")
    running = subprocess.Popen(
        ["cos", "sync", "d", f"cos://{bucket}/p", "--delete"],
        env=cos_environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert running.stdout is not None
    assert running.stdout.readline() == f"upload: d/a to cos://{bucket}/p/a\n"
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=90)
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
