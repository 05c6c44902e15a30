"""cos cat, stat, du, presign."""

from __future__ import annotations

import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from cli.du import add_up
from cosfs.client.control import ControlPlane
from cosfs.client.model import Headers, ObjectInfo

if TYPE_CHECKING:
    from cosfs.client.client import CosClient
    from cosfs.emulator import Emulator

Run = Callable[..., Any]
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@pytest.fixture
def digits(client: CosClient, bucket: str) -> str:
    client.put_object(bucket, "k", b"0123456789", headers=Headers(metadata={"owner": "me"}))
    return f"cos://{bucket}/k"


# --- cat


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], "0123456789"),
        (["--range", "2-4"], "234"),
        (["--range", "bytes=2-4"], "234"),
        (["--range", "7-"], "789"),
        (["--range", "-3"], "789"),
        (["--range", "-99"], "0123456789"),
        (["--range", "5-99"], "56789"),
        (["--offset", "4"], "456789"),
        (["--count", "3"], "012"),
        (["--offset", "4", "--count", "2"], "45"),
        (["--offset", "0", "--count", "0"], ""),
    ],
)
def test_cat(run: Run, digits: str, options: list[str], expected: str) -> None:
    result = run("cat", digits, *options)
    assert (result.out, result.err) == (expected, "")


def test_cat_of_several(run: Run, client: CosClient, bucket: str, digits: str) -> None:
    client.put_object(bucket, "empty", b"")
    assert run("cat", digits, f"cos://{bucket}/empty", digits).out == "0123456789" * 2


def test_cat_of_what_does_not_exist(run: Run, bucket: str, digits: str) -> None:
    result = run("cat", f"cos://{bucket}/missing", digits, code=1)
    assert result.out == "0123456789"
    assert "missing" in result.err and len(result.err.splitlines()) == 1


def test_cat_behind_the_end(run: Run, digits: str) -> None:
    assert "range" in run("cat", digits, "--offset", "10", "--count", "5", code=1).err


def test_cat_says_that_wrong_bytes_are_out(run: Run, digits: str, emulator: Emulator) -> None:
    emulator.faults.corrupt("GetObject", 3, count=0)
    try:
        result = run("cat", digits, code=1)
    finally:
        emulator.faults.clear()
    assert "checksum" in result.err


def test_cat_refuses_two_ways_to_say_a_range(run: Run, digits: str) -> None:
    run("cat", digits, "--range", "0-1", "--offset", "3", code=252)


# --- stat


def test_stat_of_an_object(run: Run, digits: str, bucket: str) -> None:
    record = run("stat", digits, "--output", "json").json
    assert {"Bucket": bucket, "Key": "k", "Size": 10, "StorageClass": "STANDARD"}.items() <= record.items()
    assert record["Metadata"] == {"owner": "me"} and record["CRC64"].isdigit()
    assert "Metadata: owner\tme" in run("stat", digits).lines
    assert "│ Size " in run("stat", digits, "--output", "table").out


def test_stat_of_a_bucket_and_of_several(run: Run, digits: str, bucket: str, emulator: Emulator) -> None:
    assert run("stat", f"cos://{bucket}", "--output", "json").json == {
        "Bucket": bucket,
        "Region": emulator.region,
    }
    assert len(run("stat", digits, f"cos://{bucket}", "--output", "json").json) == 2
    assert len(run("stat", digits, f"cos://{bucket}", "--output", "jsonl").events) == 2


def test_stat_of_what_does_not_exist(run: Run, bucket: str) -> None:
    result = run("stat", f"cos://{bucket}/missing", code=254)
    assert f"cos://{bucket}/missing" in result.err and len(result.err.splitlines()) == 1


# --- du


@pytest.fixture
def sized(client: CosClient, bucket: str) -> str:
    for key, size in (("a", 1), ("p/b", 20), ("p/q/c", 300), ("p/q/d", 4000), ("p-/e", 50000)):
        client.put_object(bucket, key, b"x" * size)
    return bucket


@pytest.mark.parametrize(
    ("args", "lines"),
    [
        ([""], ["54321\t5\tcos://B/"]),
        (["/p/"], ["4320\t3\tcos://B/p/"]),
        (["", "--depth", "1"], ["50000\t1\tcos://B/p-/", "4320\t3\tcos://B/p/", "54321\t5\tcos://B/"]),
        (
            ["/p/", "--depth", "2"],
            ["4300\t2\tcos://B/p/q/", "4320\t3\tcos://B/p/"],
        ),
        (["/nothing/"], ["0\t0\tcos://B/nothing/"]),
        (["/p/", "-h"], ["4.2 KB\t3\tcos://B/p/"]),
    ],
)
def test_du(run: Run, sized: str, args: list[str], lines: list[str]) -> None:
    result = run("du", f"cos://{sized}{args[0]}", *args[1:])
    assert result.lines == [line.replace("cos://B/", f"cos://{sized}/") for line in lines]


def test_du_in_other_formats(run: Run, sized: str) -> None:
    expected = {"Prefix": f"cos://{sized}/p/", "Size": 4320, "Objects": 3}
    assert run("du", f"cos://{sized}/p/", "--output", "json").json == [expected]
    assert run("du", f"cos://{sized}/p/", "--output", "jsonl").events == [expected]
    assert "4.2 KB" in run("du", f"cos://{sized}/p/", "--output", "table").out


def test_du_by_storage_class_and_prefix(run: Run, client: CosClient, bucket: str) -> None:
    for key, size, kind in (("a", 1, ""), ("p/b", 10, "STANDARD_IA"), ("p/q/c", 100, ""), ("r/d", 5, "")):
        client.put_object(bucket, key, b"x" * size, headers=Headers(storage_class=kind))
    place = f"cos://{bucket}/"
    by_class = run("du", f"cos://{bucket}", "--group-by", "class")
    assert by_class.lines == [f"106\t3\tSTANDARD\t{place}", f"10\t1\tSTANDARD_IA\t{place}"]
    events = run("du", f"cos://{bucket}", "--group-by", "class", "--output", "jsonl").events
    assert events[1] == {"Prefix": place, "StorageClass": "STANDARD_IA", "Size": 10, "Objects": 1}
    assert "Storage class" in run("du", f"cos://{bucket}", "--group-by", "class", "--output", "table").out
    by_prefix = run("du", f"cos://{bucket}", "--group-by", "prefix")
    assert by_prefix.lines == [f"110\t2\t{place}p/", f"5\t1\t{place}r/", f"116\t4\t{place}"]
    run("du", f"cos://{bucket}", "--group-by", "class", "--depth", "1", code=252)


def test_du_of_all_versions(run: Run, client: CosClient, bucket: str) -> None:
    ControlPlane(client).call("put_bucket_versioning", Bucket=bucket, Status="Enabled")
    for size in (1, 10):
        client.put_object(bucket, "k", b"x" * size)
    client.delete_object(bucket, "k")
    assert run("du", f"cos://{bucket}").lines == [f"0\t0\tcos://{bucket}/"]
    assert run("du", f"cos://{bucket}", "--all-versions").lines == [f"11\t2\tcos://{bucket}/"]


def test_du_over_many_pages(run: Run, sized: str) -> None:
    whole = run("du", f"cos://{sized}", "--depth", "9")
    assert run("du", f"cos://{sized}", "--depth", "9", "--page-size", "1").lines == whole.lines


def test_totals_need_only_the_open_levels() -> None:
    keys = ["a/b/1", "a/b/2", "a/c", "b", "c/d/e/f"]
    objects = (ObjectInfo(key, 1, "", 0) for key in keys)
    totals = [(total.prefix, total.objects) for total in add_up(objects, "", 2)]
    assert totals == [("a/b/", 2), ("a/", 3), ("c/d/", 1), ("c/", 1), ("", 5)]


# --- presign


def test_presigned_url_is_alone_and_works(run: Run, digits: str) -> None:
    for form in ([], ["--output", "table"], ["--output", "text"]):
        result = run("presign", digits, *form)
        assert len(result.lines) == 1 and result.err == ""
        with _OPENER.open(result.lines[0]) as answer:
            assert answer.read() == b"0123456789"


def test_presigned_put(run: Run, client: CosClient, bucket: str) -> None:
    url = run("presign", f"cos://{bucket}/new", "--method", "put", "--content-type", "text/x").lines[0]
    request = urllib.request.Request(url, b"uploaded", {"Content-Type": "text/x"}, method="PUT")
    with _OPENER.open(request) as answer:
        assert answer.status == 200
    assert run("cat", f"cos://{bucket}/new").out == "uploaded"


def test_presigned_url_holds_the_token(run: Run, digits: str, emulator: Emulator) -> None:
    import time

    from cosfs.emulator import Credential

    emulator.add_credential(Credential("AKIDtemporary", "secret", "the-token", time.time() + 600))
    env = {"COS_SECRET_ID": "AKIDtemporary", "COS_SECRET_KEY": "secret", "COS_SESSION_TOKEN": "the-token"}
    url = run("presign", digits, env=env).lines[0]
    assert urllib.parse.parse_qs(urllib.parse.urlsplit(url).query)["x-cos-security-token"] == ["the-token"]
    with _OPENER.open(url) as answer:
        assert answer.read() == b"0123456789"


def test_presign_options_are_signed(run: Run, digits: str) -> None:
    url = run(
        "presign", digits, "--response-content-disposition", "attachment; filename=x", "--query", "a=b"
    ).lines[0]
    with _OPENER.open(url) as answer:
        assert answer.headers["Content-Disposition"] == "attachment; filename=x"
    with pytest.raises(urllib.error.HTTPError, match="403"):
        _OPENER.open(url.replace("filename%3Dx", "filename%3Dy"))


def test_presign_as_json(run: Run, digits: str) -> None:
    record = run("presign", digits, "--output", "json", "--expires-in", "90s").json
    assert record["Method"] == "GET" and record["Url"].startswith("http") and record["Expires"].endswith("Z")


def test_presign_needs_a_moment(run: Run, digits: str) -> None:
    run("presign", digits, "--expires-in", "0", code=252)
    run("presign", digits, "--header", "novalue", code=252)
