"""cos cp and mv: where things go, what is taken, what is refused, and what is said."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cosfs.client.model import Headers
from tests.cli.trees import files_below
from tests.objects import keys, put, stored

if TYPE_CHECKING:
    from cosfs.client.client import CosClient
    from cosfs.emulator import Emulator

Run = Callable[..., Any]


# --- the trailing-slash rules, one test a row


@pytest.mark.parametrize(
    ("destination", "key"), [("", "f"), ("/", "f"), ("/p", "p"), ("/p/", "p/f"), ("/p/n.txt", "p/n.txt")]
)
def test_upload_of_a_file(
    run: Run, client: CosClient, bucket: str, local: Path, destination: str, key: str
) -> None:
    result = run("cp", "f", f"cos://{bucket}{destination}")
    assert result.out == f"upload: f to cos://{bucket}/{key}\n"
    assert keys(client, bucket) == [key]


def test_upload_to_a_name_that_is_a_prefix_too(run: Run, client: CosClient, bucket: str, local: Path) -> None:
    put(client, bucket, "p/", "p/x")
    run("cp", "f", f"cos://{bucket}/p")
    assert keys(client, bucket) == ["p", "p/", "p/x"]


@pytest.mark.parametrize(("source", "destination"), [("d", "x"), ("d/", "x"), ("d", "x/"), ("./d/", "x/")])
def test_recursive_upload_adds_no_name(
    run: Run, client: CosClient, bucket: str, local: Path, source: str, destination: str
) -> None:
    run("cp", "-r", source, f"cos://{bucket}/{destination}")
    assert keys(client, bucket) == ["x/a.txt", "x/b.log", "x/sub/c.txt", "x/sub/d.log"]


def test_recursive_upload_to_the_bucket(run: Run, client: CosClient, bucket: str, local: Path) -> None:
    run("cp", "d", f"cos://{bucket}", "--recursive")
    assert keys(client, bucket) == ["a.txt", "b.log", "sub/c.txt", "sub/d.log"]


@pytest.mark.parametrize(
    ("destination", "path"),
    [("g", "g"), ("d", "d/a"), ("d/", "d/a"), ("new/", "new/a"), (".", "a"), ("n/g", "n/g")],
)
def test_download_of_an_object(
    run: Run, client: CosClient, bucket: str, local: Path, destination: str, path: str
) -> None:
    put(client, bucket, "x/a")
    run("cp", f"cos://{bucket}/x/a", destination)
    assert (local / path).read_text() == "x/a"


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (["cos://{}/x/a", "g"], ["x/a"]),
        (["cos://{}/x/a", "cos://{}/x/b", "d/"], []),
        (["-r", "cos://{}/x/", "n"], []),
        (["cos://{}/x/a", "cos://{}/y"], []),
        (["f", "cos://{}/y"], []),
    ],
)
def test_a_single_object_is_asked_for_once_and_ahead(
    run: Run,
    client: CosClient,
    bucket: str,
    local: Path,
    emulator: Emulator,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    asked: list[str],
) -> None:
    """While the rest of the program is imported the answer is on its way."""
    from cosfs.transfer import ahead

    put(client, bucket, "x/a", "x/b")
    keys_asked: list[str] = []

    class Noted(ahead.FirstObject):
        def __init__(self, client: CosClient, bucket: str, key: str, *rest: Any) -> None:
            keys_asked.append(key)
            super().__init__(client, bucket, key, *rest)

    monkeypatch.setattr(ahead, "FirstObject", Noted)
    emulator.requests.reset()
    run("cp", *(word.format(bucket) for word in words))
    assert keys_asked == asked
    if asked:
        assert emulator.requests["HeadObject"] == 1


def test_download_of_a_prefix_without_recursive(
    run: Run, client: CosClient, bucket: str, tmp_path: Path
) -> None:
    put(client, bucket, "x/a")
    result = run("cp", f"cos://{bucket}/x", "dst", code=1)
    assert "--recursive" in result.err and "does not exist" in result.err
    assert list(tmp_path.iterdir()) == []


def test_upload_of_a_directory_without_recursive(
    run: Run, bucket: str, local: Path, emulator: Emulator
) -> None:
    emulator.requests.reset()
    result = run("cp", "d", f"cos://{bucket}/w", code=252)
    assert "--recursive" in result.err
    assert emulator.requests.total == 0


def test_recursive_source_is_a_whole_directory_name(
    run: Run, client: CosClient, bucket: str, tmp_path: Path
) -> None:
    put(client, bucket, "x/sub1/a", "x/sub2/b")
    result = run("cp", "-r", f"cos://{bucket}/x/su", "dst")
    assert "--include 'su*'" in result.err
    assert not (tmp_path / "dst").exists()


@pytest.mark.parametrize("name", ["q", "q/"])
def test_recursive_download_does_not_take_the_neighbour(
    run: Run, client: CosClient, bucket: str, tmp_path: Path, name: str
) -> None:
    put(client, bucket, "q/1", "q/s/2", "q2/3")
    run("cp", "-r", f"cos://{bucket}/{name}", "out")
    assert files_below(tmp_path / "out") == ["1", "s/2"]


def test_copy_between_buckets(run: Run, client: CosClient, bucket: str) -> None:
    put(client, bucket, "x/a", "x/s/b")
    result = run("cp", f"cos://{bucket}/x/a", f"cos://{bucket}/y/")
    assert result.out == f"copy: cos://{bucket}/x/a to cos://{bucket}/y/a\n"
    run("cp", "-r", f"cos://{bucket}/x", f"cos://{bucket}/z")
    assert keys(client, bucket) == ["x/a", "x/s/b", "y/a", "z/a", "z/s/b"]


@pytest.mark.parametrize("command", ["cp", "mv"])
@pytest.mark.parametrize(
    ("source", "destination", "options"),
    [("k", "k", []), ("x", "x/", ["-r"]), ("x", "x/y", ["-r"]), ("", "y", ["-r"]), ("x/k", "x/", [])],
)
def test_nothing_is_copied_onto_or_into_itself(
    run: Run, client: CosClient, bucket: str, command: str, source: str, destination: str, options: list[str]
) -> None:
    put(client, bucket, "k", "x/k")
    run(command, f"cos://{bucket}/{source}", f"cos://{bucket}/{destination}", *options, code=252)
    assert keys(client, bucket) == ["k", "x/k"]


def test_moving_up_replaces_nothing_that_is_moved_itself(run: Run, client: CosClient, bucket: str) -> None:
    put(client, bucket, "x/y/a", "x/y/y/a")
    result = run("mv", "-r", f"cos://{bucket}/x/y", f"cos://{bucket}/x", code=1)
    assert keys(client, bucket) == ["x/a", "x/y/y/a"] and stored(client, bucket, "x/a") == b"x/y/a"
    assert "would be among what is copied" in result.err


@pytest.mark.parametrize(("pattern", "target"), [("*.txt", ""), ("**", "sub/")])
def test_a_pattern_does_not_take_its_own_copies(
    run: Run, client: CosClient, bucket: str, pattern: str, target: str
) -> None:
    put(client, bucket, "a.txt", "b.txt")
    args = [f"cos://{bucket}/{pattern}", f"cos://{bucket}/{target}", "--metadata", "new=1"]
    run("mv", *args, code=1 if target else 252)
    assert keys(client, bucket) == ["a.txt", "b.txt"]


@pytest.mark.parametrize("recursive", [False, True])
def test_two_sources_of_one_name_do_not_replace_each_other(
    run: Run, client: CosClient, bucket: str, tmp_path: Path, recursive: bool
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_text(name)
    sources = ["-r", "one", "two"] if recursive else ["one/f", "two/f"]
    result = run("mv", *sources, f"cos://{bucket}/x/", code=1)
    assert stored(client, bucket, "x/f") == b"one" and "two/f" in result.err
    assert (tmp_path / "two" / "f").read_text() == "two" and not (tmp_path / "one" / "f").exists()


def test_names_that_decode_to_one_key_do_not_replace_each_other(
    run: Run, client: CosClient, bucket: str, tmp_path: Path
) -> None:
    (tmp_path / "d" / "a").mkdir(parents=True)
    (tmp_path / "d" / "a" / "b").write_text("plain")
    (tmp_path / "d" / "a%2Fb").write_text("encoded")
    run("mv", "-r", "d", f"cos://{bucket}/", "--key-policy", "encode", code=1)
    assert stored(client, bucket, "a/b") == b"plain" and files_below(tmp_path / "d") == ["a%2Fb"]


def test_short_and_full_name_of_a_bucket_are_one(run: Run, client: CosClient, bucket: str) -> None:
    put(client, bucket, "k")
    run("mv", f"cos://{bucket}/k", f"cos://{bucket.rpartition('-')[0]}/k", code=252)
    assert keys(client, bucket) == ["k"]


def test_globs(run: Run, client: CosClient, bucket: str, tmp_path: Path) -> None:
    put(client, bucket, "logs/a.gz", "logs/b.gz", "logs/c.txt", "logs/s/d.gz")
    run("cp", f"cos://{bucket}/logs/*.gz", "dst/")
    assert files_below(tmp_path / "dst") == ["a.gz", "b.gz"]
    run("cp", f"cos://{bucket}/logs/**.gz", "all/")
    assert files_below(tmp_path / "all") == ["a.gz", "b.gz", "s/d.gz"]
    result = run("cp", f"cos://{bucket}/logs/*.gz", "none/", "--no-glob", code=1)
    assert "does not exist" in result.err
    run("cp", f"cos://{bucket}/logs/*.zip", "none/", code=1)


def test_key_that_looks_like_a_glob_is_taken_first(
    run: Run, client: CosClient, bucket: str, tmp_path: Path
) -> None:
    put(client, bucket, "a*", "ab")
    run("cp", f"cos://{bucket}/a*", "dst/")
    assert files_below(tmp_path / "dst") == ["a*"]


def test_several_sources(run: Run, client: CosClient, bucket: str, local: Path) -> None:
    run("cp", "f", "d/a.txt", f"cos://{bucket}/p/")
    assert keys(client, bucket) == ["p/a.txt", "p/f"]
    run("cp", "f", "d/a.txt", f"cos://{bucket}/p", code=252)


# --- filters


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (["--exclude", "*", "--include", "*.txt"], ["a.txt", "sub/c.txt"]),
        (["--include", "*.txt", "--exclude", "*"], []),
        (["--include", "*.log"], ["b.log", "sub/d.log"]),
        (["--exclude", "sub/*"], ["a.txt", "b.log"]),
        (["--exclude=sub"], ["a.txt", "b.log", "sub/c.txt", "sub/d.log"]),
        (["--exclude", "*.log", "--include", "b.*"], ["a.txt", "b.log", "sub/c.txt"]),
    ],
)
def test_filters_up_and_down(
    run: Run, client: CosClient, bucket: str, local: Path, filters: list[str], expected: list[str]
) -> None:
    run("cp", "-r", "d", f"cos://{bucket}/up", *filters)
    assert keys(client, bucket) == [f"up/{name}" for name in expected]
    run("cp", "-r", "d", f"cos://{bucket}/all")
    run("cp", "-r", f"cos://{bucket}/all", "down", *filters)
    assert files_below(local / "down") == expected


def test_filters_need_recursive(run: Run, bucket: str, local: Path) -> None:
    assert "--recursive" in run("cp", "f", f"cos://{bucket}/", "--exclude", "x", code=252).err


def test_a_tree_does_not_go_into_a_device(run: Run, bucket: str, local: Path) -> None:
    assert "no directory" in run("cp", "-r", f"cos://{bucket}/p", "/dev/null", code=252).err


def test_version_id_is_for_a_source_in_cos(run: Run, client: CosClient, bucket: str, local: Path) -> None:
    assert "--version-id" in run("cp", "f", f"cos://{bucket}/k", "--version-id", "v", code=252).err
    assert keys(client, bucket) == []


def test_patterns_from_files(run: Run, client: CosClient, bucket: str, local: Path) -> None:
    (local / "patterns").write_text("# logs\n*.log\n\nsub/*\n")
    run("cp", "-r", "d", f"cos://{bucket}", "--exclude-from", "patterns")
    assert keys(client, bucket) == ["a.txt"]
    run("cp", "-r", "d", f"cos://{bucket}", "--exclude-from", "nosuchfile", code=252)


def test_excluded_directory_is_not_looked_at(run: Run, bucket: str, local: Path) -> None:
    (local / "d" / "skip").mkdir()
    (local / "d" / "skip" / "dangling").symlink_to("nowhere")
    assert "dangling" in run("cp", "-r", "d", f"cos://{bucket}", code=2).err
    assert run("cp", "-r", "d", f"cos://{bucket}", "--exclude", "skip/*").err == ""


# --- what is stored beside the bytes


def test_headers_and_metadata(run: Run, client: CosClient, bucket: str, local: Path) -> None:
    run(
        "cp", "f", f"cos://{bucket}/f", "--metadata", "Owner=me,team=a b", "--metadata", "x-cos-meta-n=é",
        "--content-type", "text/x-odd", "--cache-control", "max-age=9", "--storage-class", "standard_ia",
        "--content-disposition", "inline", "--acl", "public-read",
    )  # fmt: skip
    info = client.head_object(bucket, "f")
    assert info is not None and info.headers is not None
    assert dict(info.headers.metadata) == {"owner": "me", "team": "a b", "n": "%C3%A9"}
    assert (info.headers.content_type, info.headers.cache_control) == ("text/x-odd", "max-age=9")
    assert (info.storage_class, info.headers.content_disposition) == ("STANDARD_IA", "inline")


def test_content_type_is_guessed(run: Run, client: CosClient, bucket: str, local: Path) -> None:
    (local / "d" / "p.png").write_bytes(b"")
    run("cp", "-r", "d", f"cos://{bucket}")
    run("cp", "d/a.txt", f"cos://{bucket}/raw.txt", "--no-guess-mime-type")
    kinds = {}
    for key in ("a.txt", "p.png", "raw.txt"):
        info = client.head_object(bucket, key)
        assert info is not None and info.headers is not None
        kinds[key] = info.headers.content_type
    assert kinds["a.txt"] == "text/plain" and kinds["p.png"] == "image/png"
    assert kinds["raw.txt"] != "text/plain"


@pytest.fixture
def described(client: CosClient, bucket: str) -> str:
    headers = Headers(content_type="text/x-odd", cache_control="no-cache", metadata={"a": "1", "b": "2"})
    for key in ("s/k", "s/l"):
        client.put_object(bucket, key, b"data", headers=headers)
    return bucket


def _headers(client: CosClient, bucket: str, key: str) -> Headers:
    info = client.head_object(bucket, key)
    assert info is not None and info.headers is not None
    return info.headers


@pytest.mark.parametrize("recursive", [False, True])
def test_copy_keeps_all_metadata(run: Run, client: CosClient, described: str, recursive: bool) -> None:
    source, options = ("s", ["-r"]) if recursive else ("s/k", [])
    run("cp", f"cos://{described}/{source}", f"cos://{described}/t/", *options)
    headers = _headers(client, described, "t/k")
    assert (headers.content_type, headers.cache_control) == ("text/x-odd", "no-cache")
    assert dict(headers.metadata) == {"a": "1", "b": "2"}


@pytest.mark.parametrize("recursive", [False, True])
def test_copy_changes_only_what_is_named(
    run: Run, client: CosClient, described: str, recursive: bool
) -> None:
    source, options = ("s", ["-r"]) if recursive else ("s/k", [])
    run("cp", f"cos://{described}/{source}", f"cos://{described}/t/", *options, "--metadata", "b=3,c=4")
    headers = _headers(client, described, "t/k")
    assert dict(headers.metadata) == {"a": "1", "b": "3", "c": "4"}
    assert headers.content_type == "text/x-odd"


def test_copy_with_replace_takes_only_the_options(run: Run, client: CosClient, described: str) -> None:
    run(
        "cp", f"cos://{described}/s/k", f"cos://{described}/t/k.txt",
        "--metadata-directive", "REPLACE", "--metadata", "c=4",
    )  # fmt: skip
    headers = _headers(client, described, "t/k.txt")
    assert dict(headers.metadata) == {"c": "4"} and headers.cache_control == ""


def test_object_can_be_copied_onto_itself_to_change_it(run: Run, client: CosClient, described: str) -> None:
    run("cp", f"cos://{described}/s/k", f"cos://{described}/s/k", "--storage-class", "STANDARD_IA")
    info = client.head_object(described, "s/k")
    assert info is not None and info.storage_class == "STANDARD_IA"
    assert dict(_headers(client, described, "s/k").metadata) == {"a": "1", "b": "2"}


# --- the bytes


@pytest.mark.parametrize("size", [0, 1, 5_000_000, 40_000_001])
def test_round_trip_of_any_size(run: Run, bucket: str, tmp_path: Path, emulator: Emulator, size: int) -> None:
    data = os.urandom(min(size, 1_000_003)) * (size // 1_000_003 + 1)
    (tmp_path / "in").write_bytes(data[:size])
    emulator.requests.reset()
    run("cp", "in", f"cos://{bucket}/k")
    assert (emulator.requests["UploadPart"] > 1) is (size > 16 << 20)
    emulator.requests.reset()
    run("cp", f"cos://{bucket}/k", "out")
    assert (emulator.requests["GetObject"] > 1) is (size > 16 << 20)
    assert (tmp_path / "out").read_bytes() == data[:size]
    run("cp", f"cos://{bucket}/k", f"cos://{bucket}/copy")
    run("cp", f"cos://{bucket}/copy", "out2")
    assert (tmp_path / "out2").read_bytes() == data[:size]


def test_download_takes_the_time_of_the_object(
    run: Run, client: CosClient, bucket: str, tmp_path: Path
) -> None:
    put(client, bucket, "k", "t/l")
    run("cp", f"cos://{bucket}/k", "k")
    run("cp", "-r", f"cos://{bucket}/t", "t")
    info = client.head_object(bucket, "k")
    assert info is not None and (tmp_path / "k").stat().st_mtime == info.last_modified
    info = client.head_object(bucket, "t/l")
    assert info is not None and (tmp_path / "t" / "l").stat().st_mtime == info.last_modified


def test_download_replaces_a_longer_and_a_shorter_file(
    run: Run, client: CosClient, bucket: str, tmp_path: Path
) -> None:
    client.put_object(bucket, "k", b"0123456789")
    for before in ("short", "x" * 50):
        (tmp_path / "k").write_text(before)
        run("cp", f"cos://{bucket}/k", "k")
        assert (tmp_path / "k").read_bytes() == b"0123456789"


def test_damaged_download_leaves_the_old_file(
    run: Run, client: CosClient, bucket: str, tmp_path: Path, emulator: Emulator
) -> None:
    client.put_object(bucket, "k", b"0123456789")
    (tmp_path / "k").write_text("old")
    emulator.faults.corrupt("GetObject", 3, count=0, key="k")
    try:
        result = run("cp", f"cos://{bucket}/k", "k", code=1)
    finally:
        emulator.faults.clear()
    assert "checksum" in result.err
    assert [p.name for p in tmp_path.iterdir()] == ["k"] and (tmp_path / "k").read_text() == "old"


def test_streams(run: Run, cos: Any, client: CosClient, bucket: str) -> None:
    done = cos("cp", "-", f"cos://{bucket}/in", input="from a pipe")
    assert (done.returncode, done.stdout) == (0, f"upload: - to cos://{bucket}/in\n")
    assert stored(client, bucket, "in") == b"from a pipe"
    result = run("cp", f"cos://{bucket}/in", "-")
    assert (result.out, result.err) == ("from a pipe", "")


def test_stream_needs_a_name(run: Run, bucket: str) -> None:
    for destination in ("", "/", "/p/"):
        assert "NAME" in run("cp", "-", f"cos://{bucket}{destination}", code=252).err
    run("cp", "-r", "-", f"cos://{bucket}/k", code=252)


def test_fifo_is_read_as_a_stream(run: Run, client: CosClient, bucket: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_text("through a fifo"))
    writer.start()
    run("cp", "pipe", f"cos://{bucket}/k")
    writer.join()
    assert stored(client, bucket, "k") == b"through a fifo"


# --- dry runs, not overwriting, moving


def test_dryrun_changes_nothing(run: Run, client: CosClient, bucket: str, local: Path) -> None:
    put(client, bucket, "x/a")
    assert run("cp", "f", f"cos://{bucket}/n", "--dryrun").out == f"(dryrun) upload: f to cos://{bucket}/n\n"
    assert (
        run("cp", "-r", f"cos://{bucket}/x", "out", "-n").out
        == f"(dryrun) download: cos://{bucket}/x/a to out/a\n"
    )
    run("mv", "-r", "d", f"cos://{bucket}/d", "--dryrun")
    assert keys(client, bucket) == ["x/a"] and not (local / "out").exists()
    assert files_below(local / "d") == ["a.txt", "b.log", "sub/c.txt", "sub/d.log"]


def test_no_overwrite(run: Run, client: CosClient, bucket: str, local: Path) -> None:
    put(client, bucket, "f", "d/a.txt")
    result = run("cp", "f", f"cos://{bucket}/f", "--no-overwrite")
    assert (result.out, result.err) == ("", "")
    assert stored(client, bucket, "f") == b"f"
    (local / "d" / "a.txt").write_text("local")
    result = run("cp", "-r", "d", f"cos://{bucket}/d", "--no-overwrite")
    assert stored(client, bucket, "d/a.txt") == b"d/a.txt" and len(result.lines) == 3
    run("cp", "-r", f"cos://{bucket}/d", "d", "--no-overwrite")
    assert (local / "d" / "a.txt").read_text() == "local"


def test_move_of_one(run: Run, client: CosClient, bucket: str, local: Path) -> None:
    result = run("mv", "f", f"cos://{bucket}/p/")
    assert result.out == f"move: f to cos://{bucket}/p/f\n" and not (local / "f").exists()
    run("mv", f"cos://{bucket}/p/f", f"cos://{bucket}/g")
    assert keys(client, bucket) == ["g"]
    run("mv", f"cos://{bucket}/g", "back")
    assert keys(client, bucket) == [] and (local / "back").read_text() == "f"


def test_move_of_a_tree(run: Run, client: CosClient, bucket: str, local: Path, emulator: Emulator) -> None:
    run("mv", "-r", "d", f"cos://{bucket}/d")
    assert files_below(local / "d") == []
    emulator.requests.reset()
    result = run("mv", "-r", f"cos://{bucket}/d", f"cos://{bucket}/e")
    assert keys(client, bucket) == ["e/a.txt", "e/b.log", "e/sub/c.txt", "e/sub/d.log"]
    assert len(result.lines) == 4 and emulator.requests["DeleteObject"] == 0
    run("mv", "-r", f"cos://{bucket}/e", "back", "--include", "*.txt")
    assert files_below(local / "back") == ["a.txt", "sub/c.txt"]
    assert keys(client, bucket) == ["e/b.log", "e/sub/d.log"]


def test_failed_move_keeps_its_source(
    run: Run, client: CosClient, bucket: str, local: Path, emulator: Emulator
) -> None:
    put(client, bucket, "a/1", "a/2")
    emulator.faults.error("CopyObject", "AccessDenied", count=0, key="b/1")
    try:
        result = run("mv", "-r", f"cos://{bucket}/a", f"cos://{bucket}/b", code=1)
    finally:
        emulator.faults.clear()
    assert "move failed" in result.err and "AccessDenied" in result.err
    assert keys(client, bucket) == ["a/1", "b/2"]


# --- what is said


def test_json_lines(run: Run, client: CosClient, bucket: str, local: Path) -> None:
    events = run("cp", "f", f"cos://{bucket}/f", "--output", "jsonl").events
    first, summary = events
    assert {
        "v": 1,
        "type": "transfer",
        "op": "upload",
        "status": "ok",
        "src": "f",
        "size": 1,
    }.items() <= first.items()
    assert first["dst"] == f"cos://{bucket}/f" and first["verified"] == "crc64" and first["attempts"] == 1
    assert {
        "type": "summary",
        "ok": 1,
        "failed": 0,
        "skipped": 0,
        "bytes": 1,
        "exit": 0,
    }.items() <= summary.items()


def test_json_lines_of_a_failure(run: Run, bucket: str) -> None:
    events = run("cp", f"cos://{bucket}/missing", "g", "--output", "jsonl", code=1).events
    assert events[0]["status"] == "failed" and events[0]["error"]["http"] == 404
    assert events[0]["error"]["request_id"] and events[1]["exit"] == 1


def test_json_document(run: Run, bucket: str, local: Path) -> None:
    document = run("cp", "-r", "d", f"cos://{bucket}", "--output", "json").json
    assert len(document["Results"]) == 4 and document["Summary"]["ok"] == 4
    assert run("cp", "-r", f"cos://{bucket}/none", "x", "--output", "json").json["Results"] == []


def test_report_file(run: Run, bucket: str, local: Path) -> None:
    result = run("cp", "-r", "d", f"cos://{bucket}", "--report", "report.jsonl")
    assert len(result.lines) == 4
    events = [json.loads(line) for line in (local / "report.jsonl").read_text().splitlines()]
    assert [event["type"] for event in events] == ["command", *["transfer"] * 4, "summary"]


def test_one_failure_does_not_stop_the_others(
    run: Run, client: CosClient, bucket: str, local: Path, emulator: Emulator
) -> None:
    emulator.faults.error("PutObject", "AccessDenied", count=0, key="a.txt")
    try:
        result = run("cp", "-r", "d", f"cos://{bucket}", code=1)
    finally:
        emulator.faults.clear()
    assert keys(client, bucket) == ["b.log", "sub/c.txt", "sub/d.log"]
    assert result.err.startswith(f"upload failed: d/a.txt to cos://{bucket}/a.txt: AccessDenied: ")
    assert "RequestId" in result.err


def test_unknown_bucket(run: Run, local: Path) -> None:
    for args in (("f", "cos://nosuch-1250000000/k"), ("cos://nosuch-1250000000/k", "g")):
        result = run("cp", *args, code=1)
        assert "NoSuchBucket" in result.err and len(result.err.splitlines()) == 1
    assert "bucket" in run("cp", "-r", "cos://nosuch-1250000000/k", "g", code=1).err


def test_bandwidth_limit_is_kept(run: Run, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(bytes(2_000_000))
    events = run("cp", "f", f"cos://{bucket}/f", "--max-bandwidth", "4MB/s", "--output", "jsonl").events
    assert events[0]["ms"] >= 300


def test_thousands_of_keys_are_all_copied(run: Run, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    for number in range(1205):
        (tmp_path / "many" / f"{number:04}").touch()
    assert len(run("cp", "-r", "many", f"cos://{bucket}").lines) == 1205
    assert len(run("cp", "-r", f"cos://{bucket}", "back").lines) == 1205
    assert len(files_below(tmp_path / "back")) == 1205


def test_file_that_vanished_is_a_warning(
    run: Run, client: CosClient, bucket: str, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cosfs.transfer import bulk

    begin = bulk._Run._begin

    async def remove_first(self: Any, job: Any, flow: Any) -> None:
        """Remove a file between finding and opening it."""
        if job.path.endswith("b.log"):
            Path(job.path).unlink()  # noqa: ASYNC240
        await begin(self, job, flow)

    monkeypatch.setattr(bulk._Run, "_begin", remove_first)
    result = run("cp", "-r", "d", f"cos://{bucket}", code=2)
    assert result.err == "warning: skipped d/b.log: it has vanished since it was found\n"
    assert keys(client, bucket) == ["a.txt", "sub/c.txt", "sub/d.log"]
