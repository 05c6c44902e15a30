"""`cos api`: any call of the SDK, with its parameters found by reflection."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cosfs.client.client import CosClient
from cosfs.emulator import Emulator
from tests.cli.conftest import Run


def test_operations_are_listed(run: Run) -> None:
    names = run("api", "--list").lines
    assert {"get_object", "put_bucket_lifecycle", "list_multipart_uploads", "select_object_content"} <= set(
        names
    )
    assert not {"upload_file", "download_file", "copy", "send_request", "get_conf"} & set(names)
    assert all(not name.startswith("_") for name in names)
    shown = run("api", "--list", "list_objects").lines
    assert "Bucket\trequired" in shown
    assert "MaxKeys\toptional" in shown
    records = run("api", "--list", "--output", "json").json["Operations"]
    assert {"Operation": "delete_object", "Required": ["Bucket", "Key"], "Optional": []} in records


def test_names_and_parameters_in_any_spelling(client: CosClient, bucket: str, run: Run) -> None:
    for number in range(3):
        client.put_object(bucket, f"a/{number}", b"data")
    client.put_object(bucket, "b", b"data")
    short = bucket.rpartition("-")[0]
    for call in (
        ("list_objects", "--bucket", bucket, "--prefix", "a/", "--max-keys", "2"),
        ("list-objects", "--bucket", f"cos://{short}/", "--param", "Prefix=a/", "--param", "max-keys=2"),
        ("ListObjects", "--cli-input-json", json.dumps({"Bucket": bucket, "Prefix": "a/", "MaxKeys": 2})),
    ):
        answer = run("api", *call).json
        assert [each["Key"] for each in answer["Contents"]] == ["a/0", "a/1"]


def test_bodies_go_up_and_down(client: CosClient, bucket: str, run: Run, tmp_path: Path) -> None:
    data = bytes(range(256)) * 8000
    Path("in.bin").write_bytes(data)
    run("api", "put_object", "--bucket", bucket, "--key", "k", "--body", "in.bin", "--content-type", "a/b")
    answer = run("api", "get_object", "--bucket", bucket, "--key", "k", "--outfile", "out.bin").json
    assert answer["Outfile"] == "out.bin"
    assert answer["Content-Type"] == "a/b"
    assert Path("out.bin").read_bytes() == data
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.bin", "out.bin"]
    part = run(
        "api", "get_object", "--bucket", bucket, "--key", "k", "--range", "bytes=65-67", "--outfile", "-"
    )
    assert part.out == "ABC"
    assert "Add --outfile" in run("api", "get_object", "--bucket", bucket, "--key", "k", code=252).err


def test_a_body_is_sent_again_from_its_start(
    client: CosClient, bucket: str, run: Run, emulator: Emulator
) -> None:
    Path("in.txt").write_text("whole")
    emulator.faults.error("PutObject", "SlowDown", 503, count=2, after=True)
    run("api", "put_object", "--bucket", bucket, "--key", "k", "--body", "in.txt")
    assert run("api", "get_object", "--bucket", bucket, "--key", "k", "--outfile", "-").out == "whole"


def test_a_body_that_breaks_off_leaves_no_file(
    client: CosClient, bucket: str, run: Run, emulator: Emulator, tmp_path: Path
) -> None:
    client.put_object(bucket, "k", b"x" * 100_000)
    emulator.faults.truncate("GetObject", 5000)
    done = run("api", "get_object", "--bucket", bucket, "--key", "k", "--outfile", "out", code=None)
    emulator.faults.clear()
    assert done.code == 1, done
    assert "Try again" in done.err
    assert list(tmp_path.iterdir()) == []


def test_select_streams_records(client: CosClient, bucket: str, run: Run) -> None:
    client.put_object(bucket, "t.csv", b"a,1\nb,2\nc,3\n")
    parameters = {
        "Bucket": bucket,
        "Key": "t.csv",
        "Expression": "Select * from COSObject s where s._2 > 1",
        "ExpressionType": "SQL",
        "InputSerialization": {"CompressionType": "NONE", "CSV": {"FileHeaderInfo": "NONE"}},
        "OutputSerialization": {"CSV": {}},
    }
    Path("p.json").write_text(json.dumps(parameters))
    done = run("api", "select_object_content", "--cli-input-json", "file://p.json", "--outfile", "-")
    assert done.out == "b,2\nc,3\n"


def test_dryrun_sends_nothing(bucket: str, run: Run, emulator: Emulator) -> None:
    before = emulator.requests.total
    done = run("api", "delete_object", "--bucket", bucket, "--key", "k", "--dryrun")
    assert done.json == {"Operation": "delete_object", "Parameters": {"Bucket": bucket, "Key": "k"}}
    assert emulator.requests.total == before


def test_all_buckets(bucket: str, run: Run) -> None:
    names = [each["Name"] for each in run("api", "list_buckets").json["Buckets"]["Bucket"]]
    assert bucket in names


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "the operation is missing"),
        (("upload_file", "--bucket", "b"), "Use: cos cp FILE"),
        (("download_file",), "Use: cos cp cos://BUCKET/KEY FILE"),
        (("copy",), "cos api copy_object"),
        (("get_presigned_url",), "cos presign"),
        (("__init__",), "there is no operation"),
        (("send_request",), "there is no operation"),
        (("get_objekt",), "Did you mean get_object"),
        (("head_object",), "needs Bucket and Key"),
        (("head_object", "--bucket", "b", "--kee", "k"), "Did you mean Key?"),
        (("head_object", "--bucket", "b", "--kee"), "lacks a value"),
        (("head_object", "b"), "is no option"),
        (("list_objects", "--bucket", "b", "--max-keys", "many"), "MaxKeys must be a whole number"),
        (("put_bucket_cors", "--bucket", "b", "--cors-configuration", "x"), "must be a JSON object"),
        (("put_bucket_cors", "--bucket", "b", "--cors-configuration", "{"), "cannot be read as JSON"),
        (("put_object", "--bucket", "b", "--key", "k", "--body", "none"), "is no file"),
        (("put_object", "--bucket", "b", "--key", "k", "--body", "-"), "cos cp -"),
        (("delete_object", "--body", "/etc/hostname"), "takes no --body"),
        (("head_object", "--param", "x"), "is not NAME=VALUE"),
        (("head_object", "--cli-input-json", "none.json"), "cannot read none.json"),
        (("head_object", "--cli-input-json", "{"), "cannot be read"),
        (
            ("put_object", "--bucket", "b", "--key", "k", "--param", "Body=x", "--enable-md5", "2"),
            "true or false",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_unsent(
    arguments: tuple[str, ...], words: str, run: Run, emulator: Emulator
) -> None:
    before = emulator.requests.total
    assert words in run("api", *arguments, code=252).err
    assert emulator.requests.total == before


def test_errors_are_sentences(bucket: str, run: Run) -> None:
    missing = run("api", "get_bucket_cors", "--bucket", bucket, code=254)
    assert "NoSuchCORSConfiguration" in missing.err
    assert run("api", "head_object", "--bucket", "none-1250000000", "--key", "k", code=254).err
    odd = run(
        "api",
        "put_bucket_lifecycle",
        "--bucket",
        bucket,
        "--lifecycle-configuration",
        '{"a": [[1]]}',
        code=None,
    )
    assert odd.code in (252, 254)
    assert "unexpected" not in odd.err


def test_no_operation_gives_a_traceback(bucket: str, run: Run) -> None:
    from cosfs.client.catalogue import operations

    for name, operation in operations().items():
        if name.startswith(("ci_", "delete_bucket", "create_bucket")) or {"live", "vod", "fetch"} & set(
            name.split("_")
        ):
            continue  # other services, at hosts of their own
        given = [
            f"--param={each}={'{}' if 'onfig' in each else 'x'}"
            for each in operation.required
            if each != "Bucket"
        ]
        bucket_given = ["--bucket", bucket] if "Bucket" in operation.known else []
        done = run("api", name, *bucket_given, *given, "--outfile", "out", "--max-retries", "0", code=None)
        assert done.code in (0, 1, 252, 254, 255), (name, done)
        assert "unexpected" not in done.err, (name, done)
