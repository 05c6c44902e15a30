"""--output json and jsonl: nothing else on stdout; --dryrun: no request that changes anything."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cosfs.client.client import CosClient
from tests.cli.conftest import Run

if TYPE_CHECKING:
    from cosfs.client.model import PutResult
    from cosfs.emulator import Emulator

KEY = "p/[b]new\nline ü"

COMMANDS = [
    "ls cos://{b}/missing",
    "ls cos://nosuch-1250000000",
    "stat cos://{b}/a --all-versions",
    "stat cos://{b} cos://{b}/a",
    "hash missing cos://{b}/a",
    "diff f g",
    "diff f f",
    "diff f cos://{b}/a",
    "diff d cos://{b}/p/",
    "find cos://{b} --name nothing",
    "tree cos://{b}",
    "restore cos://{b}/a",
    "undelete cos://{b}/a",
    "meta set cos://{b}/a --content-type text/plain",
    "tag put cos://{b}/a --tags a=b --dryrun",
    "acl put cos://{b}/a --acl private --dryrun",
    "acl put cos://{b}/a --acl private",
    "symlink create cos://{b}/l a --dryrun",
    "bucket-acl put cos://{b} --acl private --dryrun",
    "referer put cos://{b} --config {{}}",
    "inventory post cos://{b} --config once.json --dryrun",
    "mb cos://new-1250000000 --dryrun",
    "rb cos://{b} --force --dryrun",
    "cache verify --cache-dir cache",
    "cache clear --all --cache-dir cache",
    "recover",
]
ONCE = {
    "Id": "once",
    "IncludedObjectVersions": "Current",
    "Destination": {
        "COSBucketDestination": {"Format": "CSV", "AccountId": "100000000001", "Bucket": "qcs::cos:r::b-1"}
    },
}


@pytest.fixture
def place(client: CosClient, bucket: str, tmp_path: Path) -> str:
    for key in ("a", KEY):
        client.put_object(bucket, key, b"hello\n")
    (tmp_path / "f").write_bytes(b"hello\n")
    (tmp_path / "g").write_bytes(b"not \xff UTF-8\n\x1b[31m\n")
    (tmp_path / "d").mkdir()
    (tmp_path / "once.json").write_text(json.dumps(ONCE))
    return bucket


@pytest.mark.parametrize("line", COMMANDS)
def test_standard_output_is_json_and_nothing_else(run: Run, place: str, line: str, tmp_path: Path) -> None:
    args = shlex.split(line.format(b=place))
    # Some of it is about all mounts of a user: here there is none.
    env = {"XDG_RUNTIME_DIR": str(tmp_path), "COS_CACHE_DIR": str(tmp_path / "cache")}
    document = run(*args, "--output", "json", code=None, env=env)
    assert (json.loads(document.out) if document.out else None) is not None or document.code > 1, document
    lines = run(*args, "--output", "jsonl", code=None, env=env)
    assert lines.code == document.code
    for each in lines.lines:
        json.loads(each)


@pytest.mark.parametrize(
    "line",
    [
        "cp f cos://{b}/x",
        "cp cos://{b}/a x",
        "cp cos://{b}/missing x",
        "cp cos://{b}/a cos://{b}/c",
        "cp -r d cos://{b}/d --dryrun",
        "cp -r cos://{b}/p cos://{b}/q",
        "mv cos://{b}/missing cos://{b}/c",
        "sync d cos://{b}/d",
        "sync cos://{b}/p x",
        "rm cos://{b}/a",
        "rm cos://{b}/missing",
        "rm -r cos://{b}/p/ --dryrun",
        "ls cos://{b} --url",
        "stat cos://{b}",
        "stat cos://{b}/a --all-versions",
        "du cos://{b}",
        "find cos://{b}",
        "tree cos://{b}",
        "hash cos://{b}/a cos://{b}/missing",
        "check d cos://{b}/p",
        "check cos://{b}/missing cos://{b}/p",
        "diff f cos://{b}/a",
        "diff g cos://{b}/a",
        "diff d cos://{b}/p/",
        "undelete cos://{b}/a",
        "undelete cos://{b}/missing",
        "undelete cos://{b}/ -r --dryrun",
        "restore cos://{b}/a",
        "restore cos://{b}/missing",
        "meta set cos://{b}/a --content-type text/plain",
        "tag put cos://{b}/a --tags a=b",
        "acl put cos://{b}/a --acl private",
        "symlink create cos://{b}/l a",
        "multipart abort cos://{b}/u",
        "versioning enable cos://{b}",
        "rb cos://{b} --force --dryrun",
    ],
)
def test_buckets_have_their_full_names_and_errors_a_code(
    run: Run, client: CosClient, place: str, line: str
) -> None:
    """In what machines read, however short the name on the command line was."""
    client.create_upload(place, "u")
    short, _, appid = place.rpartition("-")
    result = run(*shlex.split(line.format(b=short)), "--output", "jsonl", code=None, env={"COS_APPID": appid})
    assert result.code in (0, 1), result.err
    for event in result.events:
        text = json.dumps(event)
        assert not re.search(rf'(cos://|"){re.escape(short)}(?!-{appid})', text), text
        assert event.get("error", {}).get("code") != "", text


@pytest.mark.parametrize(
    "line",
    [
        "mb cos://new-1250000000",
        "rb cos://{b} --force",
        "rb cos://{b} --all-versions",
        "symlink create cos://{b}/l a",
        "acl put cos://{b}/a --acl private",
        "inventory post cos://{b} --config once.json",
    ],
)
def test_dryrun_sends_nothing_that_changes_anything(
    run: Run, emulator: Emulator, place: str, line: str
) -> None:
    since = emulator.requests.next_number()
    result = run(*shlex.split(line.format(b=place)), "--dryrun")
    assert result.lines and all(each.startswith("(dryrun) ") for each in result.lines)
    assert {each.method for each in emulator.requests.log(since=since)} <= {"GET", "HEAD"}


def test_dryrun_of_rb_lists_all_that_would_go(run: Run, client: CosClient, place: str) -> None:
    upload = client.create_upload(place, "u")
    assert run("rb", f"cos://{place}", "--force", "--dryrun").lines == [
        f"(dryrun) delete: cos://{place}/a",
        f"(dryrun) delete: cos://{place}/p/[b]new\\nline ü",
        f"(dryrun) abort: cos://{place}/u ({upload.upload_id})",
        f"(dryrun) remove_bucket: {place}",
    ]
    assert "--force" in run("rb", f"cos://{place}", "--dryrun", code=254).err


def test_changes_of_settings_are_counted(run: Run, place: str) -> None:
    events = run("acl", "put", f"cos://{place}/a", "--acl", "private", "--output", "jsonl").events
    assert [event["type"] for event in events] == ["bucket", "summary"] and events[1]["ok"] == 1


@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_where_standard_output_is_data_nothing_stands_behind_it(run: Run, place: str, form: str) -> None:
    assert run("cp", f"cos://{place}/a", "-", "--output", form).out == "hello\n"
    assert run("cat", f"cos://{place}/a", "--output", form).out == "hello\n"
    missing = run("cat", f"cos://{place}/a", f"cos://{place}/missing", "--output", form, code=1)
    assert missing.out == "hello\n" and "NoSuchKey" in missing.err


def test_failed_listing_leaves_no_half_document(run: Run) -> None:
    assert run("ls", "cos://nosuch-1250000000", "--output", "json", code=254).out == ""


def test_many_lines_are_written_while_they_come(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from cli.output import Output

    sizes: list[int] = []
    monkeypatch.setattr(Output, "write", lambda self, data, *, flush=False: sizes.append(len(data)))
    Output().lines("x" * 99 for _ in range(10_001))
    assert sum(sizes) == 1_000_100 and max(sizes) <= 200_000


@pytest.mark.parametrize("output", ["json", "jsonl"])
def test_a_file_that_changes_while_it_is_sent_has_a_code_of_its_own(
    run: Run, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    path = tmp_path / "growing"
    path.write_bytes(bytes(2 << 20))
    put = CosClient.put_object

    def put_and_append(client: CosClient, *args: Any, **kwargs: Any) -> PutResult:
        with path.open("ab") as file:
            file.write(b"more")
        return put(client, *args, **kwargs)

    monkeypatch.setattr(CosClient, "put_object", put_and_append)
    result = run("cp", path, f"cos://{bucket}/", "--output", output, code=1)
    events = result.events if output == "jsonl" else [result.json]
    assert "changed-during-upload" in codes(events)


def codes(found: object) -> list[str]:
    """The codes of all errors in a document."""
    if isinstance(found, list):
        return [code for each in found for code in codes(each)]
    if not isinstance(found, dict):
        return []
    own = [found["code"]] if isinstance(found.get("code"), str) else []
    return own + codes(list(found.values()))
