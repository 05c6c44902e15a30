"""What each option of cp and mv changes about a transfer, against what the server then has."""

from __future__ import annotations

import base64
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cosfs.client.control import ControlPlane
from cosfs.client.model import CustomerKey, Headers
from tests.objects import keys, stored

if TYPE_CHECKING:
    from cosfs.client.client import CosClient
    from cosfs.client.model import ObjectInfo
    from cosfs.emulator import Emulator

Run = Callable[..., Any]


def head(client: CosClient, bucket: str, key: str) -> ObjectInfo:
    info = client.head_object(bucket, key)
    assert info is not None
    return info


def headers(client: CosClient, bucket: str, key: str) -> Headers:
    found = head(client, bucket, key).headers
    assert found is not None
    return found


def grants(client: CosClient, bucket: str, key: str) -> str:
    return str(ControlPlane(client).call("get_object_acl", Bucket=bucket, Key=key)["AccessControlList"])


# --- what copies keep


@pytest.fixture
def described(client: CosClient, bucket: str) -> str:
    """s/k and s/l with metadata, tags and access of their own."""
    extra = {"x-cos-tagging": "team=a", "x-cos-acl": "public-read"}
    for key in ("s/k", "s/l"):
        client.put_object(
            bucket, key, b"data", headers=Headers("text/x-odd", metadata={"a": "1"}, extra=extra)
        )
    return bucket


@pytest.mark.parametrize("recursive", [False, True])
@pytest.mark.parametrize(
    ("props", "kind", "tags", "public"),
    [
        ([], "text/x-odd", "team=a", False),
        (["--copy-props", "default"], "text/x-odd", "team=a", False),
        (["--copy-props", "metadata-directive"], "text/x-odd", "", False),
        (["--copy-props", "none"], "text/plain", "", False),
        (["--copy-props", "all"], "text/x-odd", "team=a", True),
        (["--metadata-directive", "REPLACE"], "text/plain", "team=a", False),
        (["--tags", "x=1&y=2"], "text/x-odd", "x=1&y=2", False),
        (["--acl", "public-read"], "text/x-odd", "team=a", True),
        (["--metadata", "b=2"], "text/x-odd", "team=a", False),
    ],
)
def test_properties_of_a_copy(
    run: Run,
    client: CosClient,
    described: str,
    recursive: bool,
    props: list[str],
    kind: str,
    tags: str,
    public: bool,
) -> None:
    if recursive:
        client.copy_object(described, "s/k.txt", described, "s/k", extra={"x-cos-acl": "public-read"})
        run("cp", "-r", f"cos://{described}/s", f"cos://{described}/t", *props)
    else:
        run("cp", f"cos://{described}/s/k", f"cos://{described}/t/k.txt", *props)
    assert headers(client, described, "t/k.txt").content_type == kind
    assert client.object_tags(described, "t/k.txt") == tags
    assert ("READ" in grants(client, described, "t/k.txt")) is public
    metadata = dict(headers(client, described, "t/k.txt").metadata)
    assert metadata == ({"a": "1"} if kind == "text/x-odd" else {}) | ({"b": "2"} if "b=2" in props else {})


def test_contradicting_properties_are_refused(run: Run, bucket: str) -> None:
    ends = [f"cos://{bucket}/a", f"cos://{bucket}/b"]
    run("cp", *ends, "--metadata-directive", "REPLACE", "--copy-props", "all", code=252)
    run("cp", *ends, "--metadata-directive", "COPY", "--copy-props", "none", code=252)


@pytest.mark.parametrize("recursive", [False, True])
def test_copy_onto_itself_changes_what_is_beside_the_bytes(
    run: Run, client: CosClient, described: str, recursive: bool
) -> None:
    place = [f"cos://{described}/s", "-r"] if recursive else [f"cos://{described}/s/k"]
    run("cp", place[0], *place, "--storage-class", "STANDARD_IA", "--tags", "n=1")
    info = head(client, described, "s/k")
    assert info.storage_class == "STANDARD_IA" and client.object_tags(described, "s/k") == "n=1"
    assert info.headers is not None
    assert (info.headers.content_type, dict(info.headers.metadata)) == ("text/x-odd", {"a": "1"})


# --- encryption


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    (tmp_path / "key").write_bytes(bytes(range(32)))
    return tmp_path / "key"


@pytest.mark.parametrize("recursive", [False, True])
def test_key_of_the_customer(
    run: Run, client: CosClient, bucket: str, tmp_path: Path, secret: Path, recursive: bool
) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_text("text")
    (tmp_path / "d" / "large").write_bytes(bytes(18_000_000))
    one = base64.b64encode(secret.read_bytes()).decode()
    other = base64.b64encode(b"z" * 32).decode()
    names = [""] if recursive else ["/f", "/large"]
    tree = ["-r"] if recursive else []
    for name in names:
        run("cp", f"d{name}", f"cos://{bucket}/a{name}", *tree, "--sse-c", "--sse-c-key", f"fileb://{secret}")
        source = ["--sse-c-copy-source", "AES256", "--sse-c-copy-source-key", one]
        run(
            "cp", f"cos://{bucket}/a{name}", f"cos://{bucket}/b{name}", *tree, *source,
            "--sse-c", "AES256", "--sse-c-key", other,
        )  # fmt: skip
        run("cp", f"cos://{bucket}/b{name}", f"out{name}", *tree, "--sse-c-key", other)
    for name in ("f", "large"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "d" / name).read_bytes()
    assert "failed" in run("cp", f"cos://{bucket}/b/f", "wrong", "--sse-c-key", one, code=1).err
    assert not (tmp_path / "wrong").exists()
    assert client.head_object(bucket, "a/f", headers=CustomerKey(bytes(range(32))).headers()) is not None


@pytest.mark.parametrize(
    "options",
    [
        ["--sse-c", "AES256"],
        ["--sse-c-key", "short"],
        ["--sse-c-key", "file:///nonexistent/key"],
        ["--sse-c", "SM4", "--sse-c-key", "x" * 32],
        ["--sse", "rot13"],
        ["--traffic-limit", "10KB/s"],
        ["--traffic-limit", "1GB/s"],
        ["--verify", "perhaps"],
        ["--part-size", "many"],
    ],
)
def test_values_that_make_no_sense_are_refused_before_any_request(
    run: Run, bucket: str, tmp_path: Path, emulator: Emulator, options: list[str]
) -> None:
    (tmp_path / "f").write_text("x")
    emulator.requests.reset()
    run("cp", "f", f"cos://{bucket}/f", *options, code=252)
    assert emulator.requests.total == 0


@pytest.mark.parametrize(("option", "expected"), [(["--sse"], "AES256"), (["--sse", "cos/kms"], "cos/kms")])
def test_encryption_by_the_server(
    run: Run, client: CosClient, bucket: str, tmp_path: Path, option: list[str], expected: str
) -> None:
    (tmp_path / "f").write_text("x")
    run("cp", "f", f"cos://{bucket}/f", *option)
    assert headers(client, bucket, "f").extra["x-cos-server-side-encryption"] == expected


# --- what is there already


@pytest.fixture
def both(client: CosClient, bucket: str, tmp_path: Path) -> Path:
    """d with same, longer, newer, older and new; in the bucket, below p/, all but new."""
    directory = tmp_path / "d"
    directory.mkdir()
    for name in ("same", "longer", "newer", "older"):
        client.put_object(bucket, f"p/{name}", b"there")
    for name, text in (
        ("same", "there"),
        ("longer", "longer"),
        ("newer", "newer"),
        ("older", "older"),
        ("new", "n"),
    ):
        (directory / name).write_text(text)
        moment = 4e9 if name == "newer" else 1e9
        os.utime(directory / name, (moment, moment))
    return directory


@pytest.mark.parametrize("recursive", [False, True])
@pytest.mark.parametrize("versioned", [False, True])
@pytest.mark.parametrize(
    ("option", "sent"),
    [
        ("--no-overwrite", ["new"]),
        ("--update", ["new", "newer"]),
        ("--checksum", ["longer", "new", "newer", "older"]),
    ],
)
def test_upload_leaves_alone_what_is_there(
    run: Run,
    client: CosClient,
    bucket: str,
    both: Path,
    recursive: bool,
    versioned: bool,
    option: str,
    sent: list[str],
) -> None:
    if versioned:
        ControlPlane(client).call("put_bucket_versioning", Bucket=bucket, Status="Enabled")
    if recursive:
        results = [run("cp", "-r", "d", f"cos://{bucket}/p", option)]
    else:
        results = [
            run("cp", f"d/{path.name}", f"cos://{bucket}/p/", option) for path in sorted(both.iterdir())
        ]
    lines = [line for result in results for line in result.lines]
    assert lines == [f"upload: d/{name} to cos://{bucket}/p/{name}" for name in sent] or recursive
    assert sorted(line.split()[1] for line in lines) == [f"d/{name}" for name in sent]
    for name in ("same", "longer", "newer", "older"):
        expected = (both / name).read_bytes() if name in sent else b"there"
        assert stored(client, bucket, f"p/{name}") == expected


@pytest.mark.parametrize("recursive", [False, True])
@pytest.mark.parametrize(
    ("option", "fetched"),
    [
        ("--no-overwrite", []),
        ("--update", ["longer", "older", "same"]),
        ("--checksum", ["longer", "newer", "older"]),
    ],
)
def test_download_leaves_alone_what_is_there(
    run: Run, bucket: str, both: Path, recursive: bool, option: str, fetched: list[str]
) -> None:
    names = ("longer", "newer", "older", "same")
    before = {name: (both / name).read_text() for name in names}
    if recursive:
        run("cp", "-r", f"cos://{bucket}/p", "d", option)
    else:
        for name in names:
            run("cp", f"cos://{bucket}/p/{name}", "d/", option)
    assert {name: (both / name).read_text() for name in names} == {
        name: "there" if name in fetched else before[name] for name in names
    }


@pytest.mark.parametrize("recursive", [False, True])
@pytest.mark.parametrize(("option", "copied"), [("--no-overwrite", ["c"]), ("--checksum", ["b", "c"])])
def test_copy_leaves_alone_what_is_there(
    run: Run, client: CosClient, bucket: str, recursive: bool, option: str, copied: list[str]
) -> None:
    for key, text in (("s/a", b"1"), ("s/b", b"2"), ("s/c", b"3"), ("t/a", b"1"), ("t/b", b"x")):
        client.put_object(bucket, key, text)
    if recursive:
        lines = run("cp", "-r", f"cos://{bucket}/s", f"cos://{bucket}/t", option).lines
    else:
        lines = [
            line
            for name in ("a", "b", "c")
            for line in run("cp", f"cos://{bucket}/s/{name}", f"cos://{bucket}/t/", option).lines
        ]
    assert sorted(line[-1] for line in lines) == copied
    assert stored(client, bucket, "t/b") == (b"2" if "b" in copied else b"x")


def test_what_is_there_is_listed_not_asked_for_one_by_one(
    run: Run, client: CosClient, bucket: str, tmp_path: Path, emulator: Emulator
) -> None:
    (tmp_path / "d").mkdir()
    for number in range(50):
        (tmp_path / "d" / f"{number:02}").write_text("x")
    run("cp", "-r", "d", f"cos://{bucket}/p")
    emulator.requests.reset()
    assert run("cp", "-r", "d", f"cos://{bucket}/p", "--no-overwrite").err == ""
    assert emulator.requests.total == emulator.requests["ListObjects"] == 1


def test_mv_keeps_what_it_did_not_move(run: Run, client: CosClient, bucket: str, both: Path) -> None:
    run("mv", "-r", "d", f"cos://{bucket}/p", "--no-overwrite")
    assert sorted(path.name for path in both.iterdir()) == ["longer", "newer", "older", "same"]
    assert stored(client, bucket, "p/new") == b"n"


@pytest.mark.parametrize("recursive", [False, True])
def test_mv_up_removes_what_is_there_already(
    run: Run, client: CosClient, bucket: str, both: Path, recursive: bool, emulator: Emulator
) -> None:
    (both / "empty").write_text("")
    client.put_object(bucket, "p/empty", b"")
    before = {path.name: path.read_bytes() for path in both.iterdir()}
    if recursive:
        emulator.requests.reset()
        result = run(
            "mv", "-r", "d", f"cos://{bucket}/p", "--checksum", "--include", "same", "--include", "empty"
        )
        assert emulator.requests["PutObject"] == 0
        assert sorted(result.lines) == [
            f"move: d/{name} to cos://{bucket}/p/{name}" for name in ("empty", "same")
        ]
        run("mv", "-r", "d", f"cos://{bucket}/p", "--checksum")
    else:
        for path in sorted(both.iterdir()):
            run("mv", f"d/{path.name}", f"cos://{bucket}/p/", "--checksum")
    assert list(both.iterdir()) == []
    assert {name: stored(client, bucket, f"p/{name}") for name in before} == before


@pytest.mark.parametrize("recursive", [False, True])
@pytest.mark.parametrize("target", ["out/", "cos://{bucket}/t/"])
def test_mv_down_and_across_removes_what_is_there_already(
    run: Run, client: CosClient, bucket: str, tmp_path: Path, recursive: bool, target: str
) -> None:
    for key in ("s/a", "s/b", "t/a"):
        client.put_object(bucket, key, key[-1].encode())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").write_text("a")
    sources = ["s"] if recursive else ["s/a", "s/b"]
    for source in sources:
        words = ["mv", f"cos://{bucket}/{source}", target.format(bucket=bucket), *["-r"] * recursive]
        run(*words, "--checksum", "--dryrun")
        assert keys(client, bucket, f"{source}/" if recursive else source)
        run(*words, "--checksum")
    assert keys(client, bucket, "s/") == []
    if target.startswith("cos"):
        assert keys(client, bucket, "t/") == ["t/a", "t/b"]
    else:
        assert {path.name: path.read_text() for path in (tmp_path / "out").iterdir()} == {"a": "a", "b": "b"}


@pytest.mark.parametrize("recursive", [False, True])
@pytest.mark.parametrize("option", ["--no-overwrite", "--update"])
def test_mv_keeps_what_it_did_not_compare(
    run: Run, client: CosClient, bucket: str, tmp_path: Path, recursive: bool, option: str
) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a").write_text("a")
    os.utime(tmp_path / "d" / "a", (1000, 1000))
    client.put_object(bucket, "t/a", b"a")
    words = ["-r", "d"] if recursive else ["d/a"]
    assert run("mv", *words, f"cos://{bucket}/t/", option, "--checksum").lines == []
    assert (tmp_path / "d" / "a").read_text() == "a"


def test_a_pattern_that_finds_only_what_is_there_already_is_no_mistake(
    run: Run, client: CosClient, bucket: str
) -> None:
    client.put_object(bucket, "s/a", b"a")
    run("cp", f"cos://{bucket}/s/*", f"cos://{bucket}/t/")
    assert run("cp", f"cos://{bucket}/s/*", f"cos://{bucket}/t/", "--no-overwrite").err == ""


# --- names


HOSTILE = [
    "..",
    "a//b",
    "/lead",
    "tail//",
    "e/",
    "m/../x",
    "%2E%2E",
    "%41",
    "a%2Fb",
    "50%",
    "x/./y",
    "c/d",
    "é",
]


def test_encoded_names_come_back_as_they_were(
    run: Run, client: CosClient, bucket: str, tmp_path: Path
) -> None:
    for key in HOSTILE:
        client.put_object(bucket, f"s/{key}", b"" if key == "e/" else key.encode())
    client.put_object(bucket, "s/full/", b"content")
    result = run("cp", "-r", f"cos://{bucket}/s", "out", code=2)
    assert "skipped" in result.err
    run("cp", "-r", f"cos://{bucket}/s", "all", "--key-policy", "encode")
    run("cp", "-r", "all", f"cos://{bucket}/t", "--key-policy", "encode", "--keep-dirs")
    assert [key[2:] for key in keys(client, bucket, "t/")] == [key[2:] for key in keys(client, bucket, "s/")]
    for key in [*HOSTILE, "full/"]:
        assert stored(client, bucket, f"t/{key}") == stored(client, bucket, f"s/{key}")
    run("cp", "-r", f"cos://{bucket}/s", "failing", "--key-policy", "error", code=1)


def test_single_names_are_encoded_and_decoded(
    run: Run, client: CosClient, bucket: str, tmp_path: Path
) -> None:
    client.put_object(bucket, "p/..", b"up")
    run("cp", f"cos://{bucket}/p/..", "./", code=1)
    run("cp", f"cos://{bucket}/p/..", "./", "--key-policy", "encode")
    assert (tmp_path / "%2E%2E").read_text() == "up"
    run("cp", "%2E%2E", f"cos://{bucket}/q/", "--key-policy", "encode")
    run("cp", "%2E%2E", f"cos://{bucket}/r/")
    assert keys(client, bucket) == ["p/..", "q/..", "r/%2E%2E"]


@pytest.mark.parametrize(
    ("policy", "code", "files"),
    [
        (None, 0, ["A", "a", "b"]),
        ("ignore", 0, ["A", "a", "b"]),
        ("skip", 2, ["A", "b"]),
        ("warn", 0, ["A", "a", "b"]),
        ("error", 1, ["A", "b"]),
    ],
)
def test_names_that_differ_in_case_alone(
    run: Run, client: CosClient, bucket: str, tmp_path: Path, policy: str | None, code: int, files: list[str]
) -> None:
    for key in ("A", "a", "b"):
        client.put_object(bucket, key, key.encode())
    options = ["--case-conflict", policy] if policy else []
    result = run("cp", "-r", f"cos://{bucket}", "out", *options, code=code)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == files
    assert ("case" in result.err) is (policy in ("skip", "warn", "error"))


# --- archived objects


@pytest.fixture
def archived(client: CosClient, bucket: str) -> str:
    client.put_object(bucket, "p/cold", b"1", headers=Headers(storage_class="ARCHIVE"))
    client.put_object(bucket, "p/warm", b"2")
    return bucket


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ([], 2, "it is archived"),
        (["--ignore-archive-warnings"], 0, ""),
        (["--force-archive-transfer"], 1, "InvalidObjectState"),
    ],
)
@pytest.mark.parametrize("recursive", [False, True])
def test_archived_objects(
    run: Run, archived: str, tmp_path: Path, options: list[str], code: int, message: str, recursive: bool
) -> None:
    source = [f"cos://{archived}/p", "-r"] if recursive else [f"cos://{archived}/p/cold"]
    result = run("cp", source[0], "out/", *source[1:], *options, code=code)
    assert message in result.err and bool(result.err) is bool(message)
    assert not (tmp_path / "out" / "cold").exists()
    assert (tmp_path / "out" / "warm").exists() is recursive


def test_restored_object_is_downloaded(
    run: Run, client: CosClient, archived: str, tmp_path: Path, emulator: Emulator
) -> None:
    client.restore_object(archived, "p/cold", days=1, tier="Expedited")
    emulator.clock.advance(86400 / 4)
    try:
        run("cp", "-r", f"cos://{archived}/p", "out")
    finally:
        emulator.clock.reset()
    assert (tmp_path / "out" / "cold").read_text() == "1"


# --- what of the file is kept


def test_mode_and_time_are_kept_on_request(run: Run, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_text("x")
    (tmp_path / "d" / "f").chmod(0o751)
    os.utime(tmp_path / "d" / "f", ns=(1, 1_234_567_890_123_456_789))
    run("cp", "-r", "d", f"cos://{bucket}/p", "--preserve")
    run("cp", "-r", f"cos://{bucket}/p", "kept", "--preserve")
    run("cp", "-r", f"cos://{bucket}/p", "plain")
    kept, plain = (tmp_path / "kept" / "f").stat(), (tmp_path / "plain" / "f").stat()
    assert (stat.S_IMODE(kept.st_mode), kept.st_mtime_ns) == (0o751, 1_234_567_890_123_456_789)
    assert stat.S_IMODE(plain.st_mode) != 0o751 and plain.st_mtime_ns != kept.st_mtime_ns


@pytest.mark.parametrize("recursive", [False, True])
def test_links_are_kept_on_request(
    run: Run, client: CosClient, bucket: str, tmp_path: Path, recursive: bool
) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_text("text")
    (tmp_path / "d" / "link").symlink_to("f")
    (tmp_path / "d" / "dangling").symlink_to("nowhere")
    if recursive:
        run("cp", "-r", "d", f"cos://{bucket}/p", "--preserve-symlinks")
        run("cp", "-r", f"cos://{bucket}/p", "out", "--preserve-symlinks")
        run("cp", "-r", f"cos://{bucket}/p", "plain")
        assert not (tmp_path / "plain" / "link").is_symlink()
    else:
        for name in ("f", "link", "dangling"):
            run("cp", f"d/{name}", f"cos://{bucket}/p/", "--preserve-symlinks")
            run("cp", f"cos://{bucket}/p/{name}", "out/", "--preserve-symlinks")
    assert (tmp_path / "out" / "link").readlink() == Path("f") and (
        tmp_path / "out" / "f"
    ).read_text() == "text"
    assert (tmp_path / "out" / "dangling").readlink() == Path("nowhere")
    run("cp", "-r", "d", f"cos://{bucket}/q", "--no-follow-symlinks")
    assert keys(client, bucket, "q/") == ["q/f"]


def test_one_file_system(run: Run, client: CosClient, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_text("x")
    (tmp_path / "d" / "other").symlink_to("/proc/sys/kernel/random")
    run("cp", "-r", "d", f"cos://{bucket}", "--one-file-system")
    assert keys(client, bucket) == ["f"]


def test_sparse_file(run: Run, client: CosClient, bucket: str, tmp_path: Path) -> None:
    client.put_object(bucket, "k", bytes(4 << 20) + b"end")
    run("cp", f"cos://{bucket}/k", "k", "--sparse", "--fsync")
    found = (tmp_path / "k").stat()
    assert found.st_size == (4 << 20) + 3 and found.st_blocks * 512 < 1 << 20
    assert (tmp_path / "k").read_bytes() == bytes(4 << 20) + b"end"


# --- how it goes


@pytest.mark.parametrize(("verify", "word"), [("auto", "crc64"), ("full", "crc64"), ("none", "size")])
def test_verification(run: Run, client: CosClient, bucket: str, verify: str, word: str) -> None:
    client.put_object(bucket, "k", b"data")
    event = run("cp", f"cos://{bucket}/k", "k", "--verify", verify, "--output", "jsonl").events[0]
    assert event["status"] == "ok" and event["verified"] == word


def test_pages_have_the_size_asked_for(run: Run, client: CosClient, bucket: str, emulator: Emulator) -> None:
    for number in range(6):
        client.put_object(bucket, f"{number}", b"")
    emulator.requests.reset()
    run("cp", "-r", f"cos://{bucket}", "out", "--page-size", "2")
    assert emulator.requests["ListObjects"] == 3


def test_fail_fast_stops_at_the_first_failure(
    run: Run, client: CosClient, bucket: str, tmp_path: Path, emulator: Emulator
) -> None:
    (tmp_path / "d").mkdir()
    for number in range(500):
        (tmp_path / "d" / f"{number:03}").write_text("x")
    emulator.faults.error("PutObject", "AccessDenied", key="010")  # two at a time: some are done by then
    try:
        result = run("cp", "-r", "d", f"cos://{bucket}", "--fail-fast", "--concurrency", "2", code=1)
    finally:
        emulator.faults.clear()
    assert "--fail-fast" in result.err and 0 < len(keys(client, bucket)) < 400


def test_nothing_transferred_can_be_an_error(
    run: Run, client: CosClient, bucket: str, tmp_path: Path
) -> None:
    (tmp_path / "f").write_text("x")
    options = ["f", f"cos://{bucket}/f", "--no-overwrite", "--error-on-no-transfer"]
    run("cp", *options)
    run("cp", *options, code=9)
    run("cp", "-r", f"cos://{bucket}/nothing/", "out", "--error-on-no-transfer", code=9)


def test_large_files_take_parts_of_the_size_asked_for(
    run: Run, bucket: str, tmp_path: Path, emulator: Emulator
) -> None:
    (tmp_path / "big").write_bytes(bytes(20 << 20))
    emulator.requests.reset()
    run("cp", "big", f"cos://{bucket}/big", "--part-size", "5MB", "--traffic-limit", "100MB/s", "--no-resume")
    assert emulator.requests["UploadPart"] == 4


def test_region_of_the_source_need_not_be_asked_for(
    run: Run, client: CosClient, bucket: str, emulator: Emulator
) -> None:
    client.put_object(bucket, "a", b"1")
    requests = []
    for option in ([], ["--source-region", emulator.region]):
        emulator.requests.reset()
        run("cp", f"cos://{bucket}/a", f"cos://{bucket}/b", *option, env={"COS_REGION": ""})
        requests.append(emulator.requests["HeadBucket"])
    assert requests == [1, 0]
