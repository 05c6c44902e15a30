"""Options and commands of coscli, in its units."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.objects import keys

if TYPE_CHECKING:
    from cosfs.client.client import CosClient
    from cosfs.emulator import Emulator

Run = Callable[..., Any]


@pytest.fixture
def local(tmp_path: Path) -> Path:
    (tmp_path / "d" / "s").mkdir(parents=True)
    (tmp_path / "d" / "a").write_text("a")
    (tmp_path / "d" / "s" / "b").write_text("b")
    (tmp_path / "big").write_bytes(bytes(20 << 20))
    return tmp_path


def test_numbers_have_its_units(run: Run, bucket: str, local: Path, emulator: Emulator) -> None:
    emulator.requests.reset()
    options = ["--part-size", "10", "--routines", "3", "--thread-num", "5", "--rate-limiting", "200"]
    result = run("cp", "big", f"cos://{bucket}/", *options, "--retry-num", "2", "--err-retry-num", "7")
    assert emulator.requests["UploadPart"] == 2
    (note,) = result.err.splitlines()
    for text in ("--concurrency 5", "--part-size 10 is 10MB", "--max-bandwidth 200MB/s", "--max-retries 7"):
        assert text in note


def test_meta(run: Run, client: CosClient, bucket: str, local: Path) -> None:
    run("cp", "d/a", f"cos://{bucket}/a", "--meta", "Cache-Control:no-cache#x-cos-meta-Owner:me:too")
    info = client.head_object(bucket, "a")
    assert info is not None and info.headers is not None
    assert info.headers.cache_control == "no-cache" and dict(info.headers.metadata) == {"owner": "me:too"}
    run("cp", "d/a", f"cos://{bucket}/a", "--meta", "x-cos-acl:public-read", code=252)


@pytest.mark.parametrize("option", ["--forbid-overwrite", "--ignore-existing"])
def test_what_exists_is_left_alone(
    run: Run, client: CosClient, bucket: str, local: Path, option: str
) -> None:
    client.put_object(bucket, "a", b"before")
    assert run("cp", "d/a", f"cos://{bucket}/a", option).out == ""


def test_only_the_top_of_a_tree(run: Run, client: CosClient, bucket: str, local: Path) -> None:
    run("cp", "-r", "d", f"cos://{bucket}", "--only-current-dir", "--skip-dir", "--include", "*")
    assert keys(client, bucket) == ["a"]


def test_failures_in_a_directory(run: Run, bucket: str, local: Path, emulator: Emulator) -> None:
    emulator.faults.error("PutObject", "AccessDenied")
    run("cp", "d/a", f"cos://{bucket}/a", "--fail-output", "true", "--fail-output-path", "out/fail", code=1)
    (report,) = (local / "out" / "fail").iterdir()
    assert "AccessDenied" in report.read_text()


def test_sync_takes_its_recursive(run: Run, client: CosClient, bucket: str, local: Path) -> None:
    run("sync", "d", f"cos://{bucket}/x", "-r")
    run("sync", f"cos://{bucket}/x/", f"cos://{bucket}/y/", "--recursive")
    assert keys(client, bucket) == ["x/a", "x/s/b", "y/a", "y/s/b"]
    assert "--recursive" not in run("sync", "--help").out


def test_snapshot_of_sync(run: Run, bucket: str, local: Path) -> None:
    assert "--snapshot" in run("sync", "d", f"cos://{bucket}", "--snapshot-path", "snap.db").err
    assert (local / "snap.db").exists()


def test_no_note_when_quiet_and_no_mention_in_the_help(run: Run, bucket: str, local: Path) -> None:
    assert run("cp", "d/a", f"cos://{bucket}/a", "--routines", "3", "--quiet").err == ""
    assert "--routines" not in run("cp", "--help").out
    run("cp", "d/a", f"cos://{bucket}/a", "--rate-limiting", "-1", code=252)


def test_commands(run: Run, client: CosClient, bucket: str) -> None:
    client.put_object(bucket, "p/a", b"12")
    expected = [f"2\t1\tcos://{bucket}/p/", f"2\t1\tcos://{bucket}/"]
    assert run("lsdu", f"cos://{bucket}").lines == expected
    assert run("lsdu", f"cos://{bucket}", "--depth", "0").lines == expected[1:]
    assert run("signurl", f"cos://{bucket}/p/a").out.startswith("http")
    run("config", "list")


def test_settings_of_buckets_by_method(run: Run, bucket: str) -> None:
    url = f"cos://{bucket}"
    run("bucket-versioning", "--method", "put", url, "Enabled")
    assert run("bucket-versioning", "--method=get", url).json == {"Status": "Enabled"}
    run("bucket-tagging", "--method", "put", url, "a#b", "c#d=e")
    tags = [{"Key": "a", "Value": "b"}, {"Key": "c", "Value": "d=e"}]
    assert run("bucket-tagging", "--method", "get", url).json == {"TagSet": tags}
    run("bucket-tagging", "--method", "delete", url)
    run("bucket-tagging", "--method", "get", url, code=254)
    run("bucket-encryption", "--method", "put", url, "--sse-algorithm", "AES256")
    assert "AES256" in run("bucket-encryption", "--method", "get", url).out
    policy = (
        '{"version": "2.0", "statement": [{"effect": "allow", "principal": {"qcs": "*"}, '
        '"action": ["name/cos:GetObject"], "resource": ["*"]}]}'
    )
    run("bucket-policy", "--method", "put", url, "--policy", policy)
    assert run("bucket-policy", "--method", "get", url).json["version"] == "2.0"
    run("bucket-acl", "--method", "put", url, "--grant-read", 'id="1",id="2"')
    who = [each["Grantee"]["ID"] for each in run("bucket-acl", "--method", "get", url).json["Grants"]]
    assert "qcs::cam::uin/2:uin/2" in who


@pytest.mark.parametrize(
    "arguments",
    [
        ("bucket-versioning", "--method", "put", "cos://b", "on"),
        ("bucket-versioning", "--method"),
        ("bucket-tagging", "--method", "put", "cos://b", "a"),
        ("bucket-tagging", "--method", "delete", "cos://b", "a#b"),
        ("bucket-policy", "--method", "add", "cos://b"),
        ("inventory", "--method", "get", "cos://b"),
    ],
)
def test_methods_that_make_no_sense(run: Run, arguments: tuple[str, ...]) -> None:
    run(*arguments, code=252)


def test_inventories_by_method(run: Run, client: CosClient, bucket: str, emulator: Emulator) -> None:
    client.create_bucket("lists-1250000000")
    try:
        place = f"qcs::cos:{emulator.region}::lists-1250000000"
        text = (
            '<?xml version="1.0" encoding="UTF-8"?><InventoryConfiguration xmlns="http://example.com">'
            f"<Id>list4</Id><IsEnabled>false</IsEnabled><Destination><COSBucketDestination><Format>CSV</Format>"
            f"<AccountId>100000000002</AccountId><Bucket>{place}</Bucket><Prefix>list4</Prefix><Encryption>"
            "<SSE-COS></SSE-COS></Encryption></COSBucketDestination></Destination><Schedule><Frequency>Weekly"
            "</Frequency></Schedule><Filter><And><Prefix>my</Prefix><Tag><Key>age</Key><Value>18</Value></Tag></And>"
            "<Period><StartTime>1568688761</StartTime><EndTime>1568688762</EndTime></Period></Filter>"
            "<IncludedObjectVersions>All</IncludedObjectVersions><OptionalFields><Field>Size</Field></OptionalFields>"
            "</InventoryConfiguration>"
        )
        run("inventory", "--method", "put", f"cos://{bucket}", "--task-id", "list4", "--configuration", text)
        got = run("inventory", "--method", "get", f"cos://{bucket}", "--task-id", "list4").json
        assert got["Filter"]["Period"] == {"StartTime": "1568688761", "EndTime": "1568688762"}
        assert got["Destination"]["COSBucketDestination"]["Encryption"] == {"SSE-COS": ""}
        run("inventory", "--method", "delete", f"cos://{bucket}", "--task-id", "list4")
    finally:
        client.delete_bucket("lists-1250000000")


def test_names_of_options_that_it_has_alone(run: Run, client: CosClient, bucket: str) -> None:
    for key in ("a", "b"):
        client.put_object(bucket, key, b"x")
    signed = run("signurl", f"cos://{bucket}/a", "-t", "100").out
    start, end = map(int, re.findall(r"q-key-time=(\d+)%3B(\d+)", signed)[0])
    assert 100 <= end - start < 300
    assert len(run("ls", f"cos://{bucket}", "--limit", "1").lines) == 1
    run("restore", f"cos://{bucket}/a", "-d", "3", "-m", "Expedited")
    for name in ("presign", "ls", "restore"):
        shown = run(name, "--help").out
        assert not any(f" {option}" in shown for option in ("--time ", "--limit", "--mode", "-d,", "-t,"))
