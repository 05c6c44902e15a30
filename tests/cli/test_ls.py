"""cos ls: formats, prefixes, pages, odd keys."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from cosfs.client.control import ControlPlane

if TYPE_CHECKING:
    from cosfs.client.client import CosClient
    from cosfs.emulator import Emulator

Run = Callable[..., Any]


@pytest.fixture
def filled(client: CosClient, bucket: str) -> str:
    for key, size in (("a.txt", 2), ("q/1", 3), ("q/2", 4), ("q2/x", 5), ("z", 1500)):
        client.put_object(bucket, key, b"x" * size)
    return bucket


def test_buckets_in_every_format(run: Run, bucket: str, emulator: Emulator) -> None:
    assert re.search(rf"^\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d {bucket}$", run("ls").out, re.MULTILINE)
    assert bucket in run("ls", "--output", "text").lines
    found = {b["Name"]: b for b in run("ls", "--output", "json").json["Buckets"]}
    assert found[bucket]["Region"] == emulator.region
    assert any(event["Name"] == bucket for event in run("ls", "--output", "jsonl").events)
    assert f"│ {bucket} " in run("ls", "--output", "table").out


def test_piped_output_is_that_of_aws(run: Run, filled: str) -> None:
    lines = run("ls", f"cos://{filled}").lines
    assert lines[:2] == ["                           PRE q/", "                           PRE q2/"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d          2 a\.txt", lines[2])
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d       1500 z", lines[3])


def test_text_is_keys_alone(run: Run, filled: str) -> None:
    assert run("ls", f"cos://{filled}", "--output", "text").lines == ["q/", "q2/", "a.txt", "z"]
    assert run("ls", f"cos://{filled}/q/", "--output", "text").lines == ["q/1", "q/2"]


def test_json_is_one_document_and_nothing_else(run: Run, filled: str) -> None:
    document = run("ls", f"cos://{filled}", "--output", "json").json
    assert [o["Key"] for o in document["Objects"]] == ["a.txt", "z"]
    assert document["CommonPrefixes"] == [{"Prefix": "q/"}, {"Prefix": "q2/"}]
    first = document["Objects"][0]
    assert first["Size"] == 2 and re.fullmatch(r'"[0-9a-f]{32}"', first["ETag"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", first["LastModified"])


def test_json_summary(run: Run, filled: str) -> None:
    document = run("ls", f"cos://{filled}", "-r", "--output", "json", "--summarize").json
    assert document["Summary"] == {"TotalObjects": 5, "TotalSize": 1514}


def test_jsonl_is_one_object_a_line(run: Run, filled: str) -> None:
    events = run("ls", f"cos://{filled}", "--output", "jsonl").events
    assert [e.get("Key") or e["Prefix"] for e in events] == ["q/", "q2/", "a.txt", "z"]


def test_table(run: Run, filled: str) -> None:
    lines = run("ls", f"cos://{filled}", "--output", "table").lines
    assert lines[0].startswith("┌") and lines[-1].startswith("└")
    assert [cell.strip() for cell in lines[1].strip("│").split("│")] == ["Key", "Size", "Last Modified"]
    assert any("│ z     │ 1.5 KB │" in line for line in lines)


def test_recursive_human_readable_summary(run: Run, filled: str) -> None:
    result = run("ls", f"cos://{filled}", "--recursive", "--human-readable", "--summarize")
    assert [line.split()[-1] for line in result.lines[:5]] == ["a.txt", "q/1", "q/2", "q2/x", "z"]
    assert result.lines[4].endswith("    1.5 KB z")
    assert result.lines[-2:] == ["Total Objects: 5", "   Total Size: 1.5 KB"]


def test_prefix_without_slash_is_a_prefix(run: Run, filled: str) -> None:
    assert run("ls", f"cos://{filled}/q", "--output", "text").lines == ["q/", "q2/"]


def test_prefix_with_slash_does_not_take_its_neighbour(run: Run, filled: str) -> None:
    assert run("ls", f"cos://{filled}/q/", "-r", "--output", "text").lines == ["q/1", "q/2"]


def test_a_pattern_that_finds_nothing_says_what_lists_matches(run: Run, filled: str) -> None:
    """cp and mv expand it."""
    said = run("ls", f"cos://{filled}/q/*.txt", code=1).err
    assert f"cos find cos://{filled}/q/ --name" in said
    assert "cos find" not in run("ls", f"cos://{filled}/nothing", code=1).err


def test_key_that_does_not_exist_exits_1(run: Run, filled: str) -> None:
    result = run("ls", f"cos://{filled}/nothing", code=1)
    assert result.out == "" and "nothing" in result.err
    assert run("ls", f"cos://{filled}/nothing", "--output", "json", code=1).json["Objects"] == []


def test_empty_bucket_exits_0(run: Run, bucket: str) -> None:
    assert run("ls", f"cos://{bucket}").out == ""
    assert run("ls", f"cos://{bucket}", "--output", "table").out == ""


def test_short_bucket_name(run: Run, filled: str) -> None:
    assert run("ls", f"cos://{filled.rpartition('-')[0]}", "--output", "text").lines == [
        "q/",
        "q2/",
        "a.txt",
        "z",
    ]


def test_all_pages_are_listed(run: Run, client: CosClient, bucket: str) -> None:
    keys = [f"{number:03}" for number in range(25)]
    for key in keys:
        client.put_object(bucket, key, b"")
    assert run("ls", f"cos://{bucket}", "--page-size", "4", "--output", "text").lines == keys
    document = run("ls", f"cos://{bucket}", "--page-size", "4", "--output", "json").json
    assert [o["Key"] for o in document["Objects"]] == keys
    table = run("ls", f"cos://{bucket}", "--page-size", "4", "--output", "table").lines
    assert len(table) == len(keys) + 4


def test_max_items_and_start_after(run: Run, filled: str, emulator: Emulator) -> None:
    emulator.requests.reset()
    result = run("ls", f"cos://{filled}", "-r", "--max-items", "2", "--output", "text")
    assert result.lines == ["a.txt", "q/1"] and "2 items" in result.err
    assert emulator.requests["ListObjects"] == 1
    after = run("ls", f"cos://{filled}", "-r", "--start-after", "q/1", "--output", "text")
    assert after.lines == ["q/2", "q2/x", "z"]


def test_urls(run: Run, filled: str) -> None:
    assert run("ls", f"cos://{filled}/q/", "--url", "--output", "text").lines == [
        f"cos://{filled}/q/1",
        f"cos://{filled}/q/2",
    ]


ODD = [
    "a\nb",
    "x\x9b2Jy\x07",
    "ta\tb",
    "[bold]m[/bold]",
    "文件",
    "a//b",
    "/lead",
    "../up",
    "tr ail ",
    "%41",
    "a+b",
    "'q'",
]


@pytest.fixture
def odd(client: CosClient, bucket: str) -> str:
    for key in ODD:
        client.put_object(bucket, key, b"1")
    return bucket


@pytest.mark.parametrize("form", ["text", "table", None])
def test_control_characters_never_reach_the_terminal(run: Run, odd: str, form: str | None) -> None:
    shown = run("ls", f"cos://{odd}", "-r", *(["--output", form] if form else [])).out
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", shown)
    for key in (
        "a\\nb",
        "x\\x9b2Jy\\x07",
        "ta\\tb",
        "[bold]m[/bold]",
        "文件",
        "a//b",
        "/lead",
        "../up",
        "%41",
        "a+b",
    ):
        assert key in shown


def test_exact_keys_with_null_and_json(run: Run, odd: str) -> None:
    assert sorted(run("ls", f"cos://{odd}", "-r", "-0").out.split("\0")[:-1]) == sorted(ODD)
    document = run("ls", f"cos://{odd}", "-r", "--output", "json").json
    assert sorted(o["Key"] for o in document["Objects"]) == sorted(ODD)
    events = run("ls", f"cos://{odd}", "-r", "--output", "jsonl").events
    assert sorted(e["Key"] for e in events) == sorted(ODD)


def test_output_setting_of_the_environment(run: Run, bucket: str) -> None:
    env = {"COS_OUTPUT": "json"}
    assert json.loads(run("ls", f"cos://{bucket}", env=env).out) == {"Objects": [], "CommonPrefixes": []}
    assert run("ls", f"cos://{bucket}", "--output", "text", env=env).out == ""


def test_reader_that_goes_away_is_silent_141(
    emulator: Emulator, bucket: str, cos_environment: Mapping[str, str]
) -> None:
    # More than a pipe holds, so that nothing depends on when the reader ends.
    emulator.put_objects(bucket, ((f"{number:04}{'k' * 800}", b"") for number in range(200)))
    script = f"cos ls cos://{bucket} --page-size 1 | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", script], env=dict(cos_environment), capture_output=True, text=True, timeout=90
    )
    assert done.stdout.splitlines()[-1] == "141"
    assert done.stderr == ""


# --- versions, uploads, order


def enable_versioning(client: CosClient, bucket: str) -> None:
    ControlPlane(client).call("put_bucket_versioning", Bucket=bucket, Status="Enabled")


@pytest.fixture
def versioned(client: CosClient, bucket: str) -> str:
    """k twice, then removed; p/k once."""
    enable_versioning(client, bucket)
    for body in (b"1", b"22"):
        client.put_object(bucket, "k", body)
    client.put_object(bucket, "p/k", b"333")
    client.delete_object(bucket, "k")
    return bucket


def test_all_versions_in_every_format(run: Run, versioned: str) -> None:
    assert run("ls", f"cos://{versioned}", "--output", "text").lines == ["p/"]
    events = run("ls", "-r", f"cos://{versioned}", "--all-versions", "--output", "jsonl").events
    assert [(e["Key"], e["IsDeleteMarker"], e["IsLatest"], e.get("Size")) for e in events] == [
        ("k", True, True, None),
        ("k", False, False, 2),
        ("k", False, False, 1),
        ("p/k", False, True, 3),
    ]
    ids = [e["VersionId"] for e in events]
    assert len(set(ids)) == 4
    document = run("ls", f"cos://{versioned}", "--all-versions", "--output", "json", "--summarize").json
    assert [v["VersionId"] for v in document["Versions"]] == ids[:3]
    assert document["CommonPrefixes"] == [{"Prefix": "p/"}]
    assert document["Summary"] == {"TotalVersions": 3, "TotalSize": 3}
    lines = run("ls", "-r", f"cos://{versioned}", "--all-versions").lines
    assert re.fullmatch(rf"[-0-9]{{10}} [:0-9]{{8}}          - k\t{ids[0]}\tlatest delete marker", lines[0])
    assert re.fullmatch(rf"[-0-9]{{10}} [:0-9]{{8}}          2 k\t{ids[1]}\tversion", lines[1])
    table = run("ls", "-r", f"cos://{versioned}", "--all-versions", "--output", "table").out
    assert "latest delete marker" in table and ids[3] in table
    limited = run("ls", "-r", f"cos://{versioned}", "--all-versions", "--max-items", "2", "--output", "text")
    assert limited.lines == ["k", "k"]


def test_all_versions_come_page_by_page(run: Run, versioned: str, emulator: Emulator) -> None:
    emulator.requests.reset()
    listed = run("ls", "-r", f"cos://{versioned}", "--all-versions", "--page-size", "1", "--output", "text")
    assert listed.lines == ["k", "k", "k", "p/k"] and emulator.requests["ListObjectVersions"] >= 4


def test_unfinished_uploads(run: Run, client: CosClient, bucket: str) -> None:
    ids = [client.create_upload(bucket, key).upload_id for key in ("d/a", "d/b", "e")]
    assert run("ls", f"cos://{bucket}", "--output", "text").lines == []
    lines = run("ls", f"cos://{bucket}/d/", "--incomplete").lines
    assert [line.split(" ", 2)[2] for line in lines] == [f"{ids[0]} d/a", f"{ids[1]} d/b"]
    document = run("ls", f"cos://{bucket}", "--incomplete", "--output", "json").json
    assert [(u["Key"], u["UploadId"]) for u in document["Uploads"]] == list(
        zip(["d/a", "d/b", "e"], ids, strict=True)
    )
    one = run("ls", f"cos://{bucket}", "--incomplete", "--max-items", "1", "--output", "text")
    assert one.lines == ["d/a"]
    run("ls", f"cos://{bucket}/nothing", "--incomplete", code=1)


@pytest.mark.parametrize(
    ("order", "keys"),
    [("size", ["z", "q2/x", "q/2", "q/1", "a.txt"]), ("key", ["a.txt", "q/1", "q/2", "q2/x", "z"])],
)
def test_sorted(run: Run, filled: str, order: str, keys: list[str]) -> None:
    options = ["--output", "text", "--sort", order, "--page-size", "2"]
    assert run("ls", "-r", f"cos://{filled}", *options).lines == keys
    assert run("ls", "-r", f"cos://{filled}", *options, "--max-items", "2").lines == keys[:2]
    assert run("ls", f"cos://{filled}", *options).lines == ["q/", "q2/", *(k for k in keys if "/" not in k)]


def test_sorted_by_time(run: Run, client: CosClient, bucket: str) -> None:
    enable_versioning(client, bucket)
    for body in (b"1", b"22"):
        client.put_object(bucket, "k", body)
    events = run("ls", f"cos://{bucket}", "--all-versions", "--sort", "time", "--output", "jsonl").events
    assert [e["LastModified"] for e in events] == sorted((e["LastModified"] for e in events), reverse=True)


def test_what_makes_no_sense_is_refused(run: Run, bucket: str, emulator: Emulator) -> None:
    emulator.requests.reset()
    run("ls", f"cos://{bucket}", "--all-versions", "--incomplete", code=252)
    run("ls", "--recursive", code=252)
    run("ls", f"cos://{bucket}", "--sort", "colour", code=252)
    assert emulator.requests.total == 0


def test_failed_page_is_an_error_after_what_came_before(run: Run, filled: str, emulator: Emulator) -> None:
    emulator.faults.error("ListObjects", "AccessDenied", skip=1)
    try:
        result = run("ls", "-r", f"cos://{filled}", "--page-size", "2", "--output", "text", code=254)
    finally:
        emulator.faults.clear()
    assert result.lines == ["a.txt", "q/1"] and "AccessDenied" in result.err


@pytest.mark.parametrize("order", ["size", "key"])
def test_the_first_of_very_many_are_those_of_all(
    run: Run, client: CosClient, bucket: str, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    for number in range(40):
        client.put_object(bucket, f"{number * 17 % 40:02}", b"x" * (number * 7 % 13))
    options = ["--output", "text", "--sort", order, "--page-size", "3"]
    everything = run("ls", f"cos://{bucket}", *options).lines
    monkeypatch.setattr("cli.ls._UNSORTED", 5)
    assert run("ls", f"cos://{bucket}", *options, "--max-items", "7").lines == everything[:7]
