"""cos rm and rb: what is removed, what is not, and with how many requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from tests.objects import keys

if TYPE_CHECKING:
    from cosfs.client.client import CosClient
    from cosfs.emulator import Emulator

Run = Callable[..., Any]
NAMES = ["p/a.log", "p/b.txt", "p/s/c.log", "p2/d.log", "q"]


@pytest.fixture
def filled(client: CosClient, bucket: str) -> str:
    for name in NAMES:
        client.put_object(bucket, name, b"x")
    return bucket


@pytest.fixture
def versioned(client: CosClient, bucket: str) -> str:
    from cosfs.client.control import ControlPlane

    ControlPlane(client).call("put_bucket_versioning", Bucket=bucket, Status="Enabled")
    for body in (b"1", b"22"):
        client.put_object(bucket, "k", body)
    client.put_object(bucket, "other", b"x")
    client.delete_object(bucket, "other")
    return bucket


@pytest.mark.parametrize(
    ("args", "gone"),
    [
        (["q"], ["q"]),
        (["p/", "-r"], ["p/a.log", "p/b.txt", "p/s/c.log"]),
        (["p", "--recursive"], ["p/a.log", "p/b.txt", "p/s/c.log"]),
        (["", "-r"], NAMES),
        # a filter on a URL that ends in / means everything below it
        (["p/", "--include", "*.log"], ["p/a.log", "p/s/c.log"]),
        (["p/", "-r", "--include", "*.log"], ["p/a.log", "p/s/c.log"]),
        (["p/", "-r", "--exclude", "*.log"], ["p/b.txt"]),
        (["p/", "-r", "--exclude", "*", "--include", "s/*"], ["p/s/c.log"]),
        (["p", "-r", "--include", "s/*"], ["p/s/c.log"]),
        (["", "--include", "*.txt"], ["p/b.txt"]),
    ],
)
def test_what_is_removed(run: Run, client: CosClient, filled: str, args: list[str], gone: list[str]) -> None:
    result = run("rm", f"cos://{filled}/{args[0]}", *args[1:])
    assert keys(client, filled) == [name for name in NAMES if name not in gone]
    assert sorted(result.lines) == sorted(f"delete: cos://{filled}/{name}" for name in gone)


def test_filters_need_recursive_or_a_slash(run: Run, client: CosClient, filled: str) -> None:
    assert "--recursive" in run("rm", f"cos://{filled}/p", "--include", "*", code=252).err
    assert keys(client, filled) == NAMES


def test_bucket_alone_is_refused(run: Run, client: CosClient, filled: str) -> None:
    result = run("rm", f"cos://{filled}", code=252)
    assert "--recursive" in result.err and "cos rb" in result.err
    assert keys(client, filled) == NAMES


def test_dryrun(run: Run, client: CosClient, filled: str) -> None:
    result = run("rm", "-r", f"cos://{filled}/p/", "--dryrun", "--include", "*.log")
    assert result.lines == [f"(dryrun) delete: cos://{filled}/{name}" for name in ("p/a.log", "p/s/c.log")]
    assert keys(client, filled) == NAMES


def test_missing_key_counts_as_removed(run: Run, bucket: str) -> None:
    assert run("rm", f"cos://{bucket}/missing").out == f"delete: cos://{bucket}/missing\n"


def test_prefix_with_nothing_is_a_warning(run: Run, bucket: str) -> None:
    result = run("rm", "-r", f"cos://{bucket}/missing/")
    assert result.out == "" and "nothing to remove" in result.err


def test_several_urls(run: Run, client: CosClient, filled: str) -> None:
    run("rm", f"cos://{filled}/q", f"cos://{filled}/p/b.txt")
    assert keys(client, filled) == ["p/a.log", "p/s/c.log", "p2/d.log"]


def test_keys_named_one_by_one_go_in_one_request(
    run: Run, client: CosClient, filled: str, emulator: Emulator
) -> None:
    named = [f"cos://{filled}/{key}" for key in keys(client, filled)]
    emulator.requests.reset()
    assert run("rm", *named).lines == [f"delete: {url}" for url in named]
    assert emulator.requests["DeleteObjects"] == 1
    assert keys(client, filled) == []


def test_failure_is_told_and_exits_1(run: Run, filled: str, emulator: Emulator) -> None:
    emulator.faults.error("DeleteObjects", "AccessDenied", count=0)
    try:
        result = run("rm", f"cos://{filled}/q", code=1)
    finally:
        emulator.faults.clear()
    assert "delete failed" in result.err and "AccessDenied" in result.err and result.out == ""


def test_unknown_bucket(run: Run) -> None:
    assert "NoSuchBucket" in run("rm", "-r", "cos://nosuch-1250000000/p/", code=1).err


def test_json_lines(run: Run, filled: str) -> None:
    events = run("rm", f"cos://{filled}/q", "--output", "jsonl").events
    assert events[0] == {
        "v": 1,
        "type": "delete",
        "status": "ok",
        "dst": f"cos://{filled}/q",
        "version_id": None,
    }
    assert events[1]["type"] == "summary" and events[1]["ok"] == 1


def test_all_versions(run: Run, client: CosClient, versioned: str) -> None:
    run("rm", f"cos://{versioned}/k")
    assert len(client.list_versions(versioned).versions) == 5
    result = run("rm", f"cos://{versioned}/k", "--all-versions")
    assert len(result.lines) == 3 and "(version " in result.out
    assert {version.key for version in client.list_versions(versioned).versions} == {"other"}
    result = run("rm", "-r", f"cos://{versioned}", "--all-versions", code=252)  # nobody can answer
    assert "--yes" in result.err and client.list_versions(versioned).versions
    events = run("rm", "-r", f"cos://{versioned}", "--all-versions", "--dryrun", "--output", "jsonl").events
    assert {event["version_id"] for event in events[:-1]} == {
        version.version_id for version in client.list_versions(versioned).versions
    }
    run("rm", "-r", f"cos://{versioned}", "--all-versions", "--yes")
    assert list(client.list_versions(versioned).versions) == []


def test_one_version_and_all_of_them_exclude_each_other(run: Run, client: CosClient, versioned: str) -> None:
    before = [version.version_id for version in client.list_versions(versioned).versions]
    run("rm", f"cos://{versioned}/k", "--version-id", before[0], "--all-versions", code=252)
    assert [version.version_id for version in client.list_versions(versioned).versions] == before


def test_one_version(run: Run, client: CosClient, versioned: str) -> None:
    newest = client.list_versions(versioned, prefix="k").versions[0]
    run("rm", f"cos://{versioned}/k", "--version-id", newest.version_id)
    assert run("cat", f"cos://{versioned}/k").out == "1"


# --- buckets


def test_make_and_remove_a_bucket(run: Run, client: CosClient) -> None:
    assert run("mb", "cos://made-1250000000").out == "make_bucket: made-1250000000\n"
    assert "made-1250000000" in [bucket.name for bucket in client.list_buckets()]
    assert run("rb", "cos://made-1250000000").out == "remove_bucket: made-1250000000\n"
    assert "made-1250000000" not in [bucket.name for bucket in client.list_buckets()]


def test_bucket_name_without_appid(run: Run, client: CosClient, bucket: str) -> None:
    assert run("mb", "cos://short", "--acl", "private").out == "make_bucket: short-1250000000\n"
    assert run("rb", "cos://short").out == "remove_bucket: short-1250000000\n"
    run("mb", "cos://short", env={"COS_APPID": "1250000000"})
    client.delete_bucket("short-1250000000")


def test_bucket_that_exists(run: Run, bucket: str) -> None:
    result = run("mb", f"cos://{bucket}", code=254)
    assert bucket in result.err and len(result.err.splitlines()) == 1


def test_bucket_with_a_key_is_no_bucket(run: Run, bucket: str) -> None:
    run("mb", f"cos://{bucket}/key", code=252)
    run("rb", f"cos://{bucket}/key", "--force", code=252)


def test_bucket_that_is_not_empty_stays(run: Run, client: CosClient, filled: str) -> None:
    result = run("rb", f"cos://{filled}", code=254)
    assert "--force" in result.err and keys(client, filled) == NAMES


def test_force_removes_objects_versions_and_uploads_unasked(
    run: Run, client: CosClient, versioned: str
) -> None:
    upload = client.create_upload(versioned, "unfinished")
    client.upload_part(upload, 1, b"part")
    result = run("rb", f"cos://{versioned}", "--force")
    assert result.lines[-1] == f"remove_bucket: {versioned}"
    assert versioned not in [bucket.name for bucket in client.list_buckets()]


def test_force_with_more_keys_than_a_page(run: Run, client: CosClient, bucket: str) -> None:
    for number in range(1105):
        client.put_object(bucket, f"{number:05}", b"")
    run("rb", f"cos://{bucket}", "--force", "--quiet")
    assert bucket not in [each.name for each in client.list_buckets()]


def test_question_without_a_terminal_is_a_usage_error(run: Run, client: CosClient, filled: str) -> None:
    result = run("rb", f"cos://{filled}", "--all-versions", code=252)
    assert "--yes" in result.err and keys(client, filled) == NAMES
    run("rb", f"cos://{filled}", "--all-versions", "--yes")


def test_unknown_bucket_cannot_be_removed(run: Run) -> None:
    for options in ([], ["--force"]):
        result = run("rb", "cos://nosuch-1250000000", *options, code=254)
        assert "NoSuchBucket" in result.err or "does not exist" in result.err
        assert len(result.err.splitlines()) == 1


def test_output_json_is_json_alone(run: Run, client: CosClient, filled: str) -> None:
    made = run("mb", "cos://jsonmade-1250000000", "--output", "json").json
    assert made["Results"][0]["op"] == "make_bucket" and made["Summary"]["exit"] == 0
    refused = run("rb", f"cos://{filled}", "--output", "json", code=254).json
    assert refused["Results"] == [] and refused["Summary"]["exit"] == 254
    forced = run("rb", f"cos://{filled}", "--force", "--output", "json").json
    assert [event["type"] for event in forced["Results"]] == ["delete"] * len(NAMES) + ["bucket"]
    events = run("rb", "cos://jsonmade-1250000000", "--output", "jsonl").events
    assert [event["type"] for event in events] == ["bucket", "summary"]


# --- limits and questions


def test_two_thousand_take_two_requests(
    run: Run, client: CosClient, bucket: str, emulator: Emulator, many: list[str]
) -> None:
    emulator.requests.reset()
    assert len(run("rm", "-r", f"cos://{bucket}").lines) == 2000
    assert emulator.requests["DeleteObjects"] == 2 and emulator.requests["ListObjects"] <= 3
    assert emulator.requests["DeleteObject"] == 0
    assert keys(client, bucket) == []


@pytest.fixture
def many(client: CosClient, bucket: str) -> list[str]:
    """2,000 empty objects, copies of one made by very many threads."""
    from concurrent.futures import ThreadPoolExecutor

    names = [f"{number:04}" for number in range(2000)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: client.put_object(bucket, name, b""), names))
    return names


@pytest.mark.parametrize(("limit", "code", "left"), [("2", 1, 5), ("3", 0, 2), ("0", 1, 5)])
def test_max_delete_is_counted_before_the_first_removal(
    run: Run, client: CosClient, filled: str, emulator: Emulator, limit: str, code: int, left: int
) -> None:
    emulator.requests.reset()
    result = run("rm", "-r", f"cos://{filled}/p/", "--max-delete", limit, code=code)
    assert emulator.requests["DeleteObjects"] == (0 if code else 1)
    assert len(keys(client, filled)) == left
    assert ("so none was" in result.err) is bool(code) and bool(result.out) is not bool(code)


@pytest.mark.parametrize(("answer", "code", "left"), [("\n", 1, 5), ("no\n", 1, 5), ("y\n", 0, 0)])
def test_emptying_a_bucket_is_asked_on_a_terminal(
    terminal: Callable[..., Any], client: CosClient, filled: str, answer: str, code: int, left: int
) -> None:
    screen = terminal("rm", "-r", f"cos://{filled}")
    screen.read_until("[y/N]")
    screen.type(answer)
    assert screen.finish() == code
    assert len(keys(client, filled)) == left


@pytest.mark.parametrize("args", [["", "-r", "--yes"], ["", "-r", "--force"], ["p/", "-r"], ["", "-r", "-n"]])
def test_nothing_else_is_asked(terminal: Callable[..., Any], filled: str, args: list[str]) -> None:
    screen = terminal("rm", f"cos://{filled}/{args[0]}", *args[1:])
    assert screen.finish() == 0 and "[y/N]" not in screen.text


def test_special_buckets(run: Run, client: CosClient, emulator: Emulator) -> None:
    from cosfs.client.model import Headers

    run("mb", "cos://zones-1250000000", "--maz", "--ofs", "--tags", "team=a")
    stored = client.put_object("zones-1250000000", "k", b"", headers=Headers(storage_class="MAZ_STANDARD"))
    assert stored.etag  # which only such a bucket takes
    run("rb", "cos://zones-1250000000", "--force")


@pytest.mark.parametrize(
    ("args", "limit", "left"),
    [
        (["{}/p/a.log", "{}/q"], 1, NAMES),
        (["{}/p/a.log", "{}/q"], 2, ["p/b.txt", "p/s/c.log", "p2/d.log"]),
        (["-r", "{}/p/", "{}/p2/"], 3, NAMES),
        (["-r", "{}/p/", "{}/p2/"], 4, ["q"]),
    ],
)
def test_max_delete_counts_what_all_urls_mean(
    run: Run, client: CosClient, filled: str, args: list[str], limit: int, left: list[str]
) -> None:
    urls = [arg.format(f"cos://{filled}") for arg in args]
    run("rm", *urls, "--max-delete", limit, code=0 if left != NAMES else 1)
    assert keys(client, filled) == left
