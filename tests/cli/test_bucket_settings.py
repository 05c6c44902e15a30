"""Commands of bucket settings, against the emulator."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.bucket_settings import NOUNS
from cosfs.client.client import CosClient
from cosfs.client.documents.setting import Setting
from cosfs.emulator import Emulator
from tests.cli.conftest import Result, Run, Terminal
from tests.client.generated import Generator

SETTINGS: list[Setting] = [NOUNS[name]().setting for name in NOUNS]
XML_SETTINGS = [each for each in SETTINGS if each.root]


def name_of(setting: Setting) -> str:
    return setting.name


@pytest.fixture
def other(client: CosClient, bucket: str) -> str:
    """Another bucket."""
    name = f"other-{bucket}"
    client.create_bucket(name)
    return name


@pytest.fixture
def generator(
    emulator: Emulator, client: CosClient, bucket: str, other: str
) -> Iterator[Callable[[int], Generator]]:
    """Makes generators of documents that name buckets that exist and are as the setting needs them."""
    for name in (bucket, other):
        client.put_document(
            name, "versioning", b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
        )
    places = {"Bucket": [f"qcs::cos:{emulator.region}::{other}"], "TargetBucket": [other]}
    yield lambda seed: Generator(seed, places)


def ids(setting: Setting, document: dict[str, Any]) -> list[str]:
    return ["--id", document[setting.id_field]] if setting.id_field else []


@pytest.mark.parametrize("setting", SETTINGS, ids=name_of)
def test_what_was_put_comes_back_and_can_be_put_again(
    setting: Setting,
    generator: Callable[[int], Generator],
    bucket: str,
    run: Run,
    client: CosClient,
    tmp_path: Path,
) -> None:
    url, taken = f"cos://{bucket}", 0
    for seed in range(6):
        document = generator(seed).document(setting)
        if setting.name == "versioning":
            document = {"Status": document["Status"]}
        Path("new.json").write_text(json.dumps(document))
        done = run(setting.called, "put", url, "--config", "new.json", code=None)
        assert done.code in (0, 254), done.err  # COS knows of contradictions that a schema cannot
        if done.code:
            continue
        taken += 1
        chosen = ids(setting, document)
        first = run(setting.called, "get", url, *chosen)
        if setting.name != "bucket-acl":  # COS adds the owner to it
            assert first.json == document
        params = {setting.by_id: chosen[1]} if chosen else {}
        before = client.get_document(bucket, setting.resource, params=params).body
        again = Path("again.json")
        again.write_text(first.out)
        dry = run(setting.called, "put", url, "--config", again, "--dryrun")
        assert "would not change" in dry.out or "keeps none" in dry.err
        run(setting.called, "put", url, "--config", f"file://{again}")
        assert client.get_document(bucket, setting.resource, params=params).body == before
        if setting.root:
            again.write_text(run(setting.called, "get", url, *chosen, "--xml").out)
            run(setting.called, "put", url, "--config", again)
            assert client.get_document(bucket, setting.resource, params=params).body == before
    assert taken >= 4


@pytest.mark.parametrize("setting", SETTINGS, ids=name_of)
def test_broken_documents_end_with_a_sentence(
    setting: Setting, generator: Callable[[int], Generator], bucket: str, run: Run
) -> None:
    refused = 0
    for seed in range(25):
        made = generator(seed)
        Path("bad.json").write_text(json.dumps(made.broken(made.document(setting))))
        done = run(setting.called, "put", f"cos://{bucket}", "--config", "bad.json", code=None)
        assert done.code in (0, 252, 254), (seed, done)
        assert "unexpected" not in done.err, (seed, done)
        refused += done.code != 0
    assert refused > 5


@pytest.mark.parametrize("setting", XML_SETTINGS, ids=name_of)
def test_broken_xml_ends_with_a_sentence(
    setting: Setting, generator: Callable[[int], Generator], bucket: str, run: Run
) -> None:
    for seed in range(12):
        made = generator(seed)
        text = setting.write(made.document(setting))
        start = made.random.randrange(len(text))
        cut = made.random.randrange(1, 40)
        Path("bad.xml").write_bytes(
            text[:start] + made.random.choice((b"", b"<", b"&", b"\xff", b"x")) + text[start + cut :]
        )
        done = run(setting.called, "put", f"cos://{bucket}", "--config", "bad.xml", code=None)
        assert done.code in (0, 252, 254), (seed, done)
        assert "unexpected" not in done.err, (seed, done)


@pytest.mark.parametrize("setting", SETTINGS, ids=name_of)
def test_what_is_not_set(setting: Setting, bucket: str, run: Run, emulator: Emulator) -> None:
    url = f"cos://{bucket}"
    chosen = ["--id", "none"] if setting.by_id else []
    got = run(setting.called, "get", url, *chosen, code=None)
    if setting.name == "bucket-acl":
        assert got.code == 0
    elif setting.may_be_empty:
        assert got.json == {}
        Path("f.json").write_text(got.out)
        run(setting.called, "put", url, "--config", "f.json")
        assert run(setting.called, "get", url).json == {}
    else:
        assert got.code == 254
        assert f"there is no {setting.title}" in got.err
        assert f"cos {setting.called} put" in got.err
    if setting.deletable:
        run(setting.called, "delete", url, *chosen)  # no error if there is none


@pytest.mark.parametrize("setting", [each for each in SETTINGS if each.deletable], ids=name_of)
def test_delete_takes_it_away(
    setting: Setting, generator: Callable[[int], Generator], bucket: str, run: Run
) -> None:
    url = f"cos://{bucket}"
    document = next(made for seed in range(20) if (made := generator(seed).document(setting)))
    Path("f.json").write_text(json.dumps(document))
    run(setting.called, "put", url, "--config", "f.json")
    chosen = ids(setting, document)
    dry = run(setting.called, "delete", url, *chosen, "--dryrun")
    assert "-{" in dry.lines
    assert run(setting.called, "get", url, *chosen).json == document
    assert (
        run(setting.called, "delete", url, *chosen).out
        == f"delete_{setting.name.replace('-', '_')}: {bucket}\n"
    )
    gone = run(setting.called, "get", url, *chosen, code=None)
    assert gone.code == 254 or gone.json == {}


def test_what_is_wrong_is_told_before_any_request(bucket: str, run: Run, emulator: Emulator) -> None:
    rules = [
        {"Filter": {"Prefix": "a"}, "Status": "Enabled", "Expiration": {"Days": 1}},
        {"Filter": {"Prefix": "b"}, "Status": "Enabled", "Expiration": {"Days": 0}},
    ]
    Path("f.json").write_text(json.dumps({"Rules": rules}))
    before = emulator.requests.total
    done = run("lifecycle", "put", f"cos://{bucket}", "--config", "f.json", code=252)
    assert "f.json: Rules[1].Expiration.Days: must be >= 1. Nothing was sent" in done.err
    assert emulator.requests.total == before


def test_documents_come_from_standard_input_and_the_command_line(bucket: str, cos: Any) -> None:
    document = '{"Status": "Enabled"}'
    cos("versioning", "put", f"cos://{bucket}", "--config", "-", input=document, check=True)
    assert json.loads(cos("versioning", "get", f"cos://{bucket}", check=True).stdout) == {"Status": "Enabled"}
    cos("versioning", "put", f"cos://{bucket}", "--config", '{"Status": "Suspended"}', check=True)
    assert "Suspended" in cos("versioning", "get", f"cos://{bucket}", check=True).stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--config", "none.json"), "cannot read none.json: No such file"),
        (("--config", "."), "cannot read .: Is a directory"),
        (("--config", "file://a\0b"), "cannot read"),
        ((), "Add --config FILE"),
    ],
)
def test_no_document(arguments: tuple[str, ...], words: str, bucket: str, run: Run) -> None:
    assert words in run("cors", "put", f"cos://{bucket}", *arguments, code=252).err


def test_a_key_is_no_bucket(bucket: str, run: Run) -> None:
    assert "names an object" in run("cors", "get", f"cos://{bucket}/key", code=252).err


def test_outputs(bucket: str, run: Run) -> None:
    run("versioning", "enable", f"cos://{bucket}")
    assert run("versioning", "get", f"cos://{bucket}", "--output", "text").out == "Status\tEnabled\n"
    assert run("versioning", "get", f"cos://{bucket}", "--output", "jsonl").out == '{"Status": "Enabled"}\n'
    assert "│ Status │ Enabled │" in run("versioning", "get", f"cos://{bucket}", "--output", "table").out
    event = run("versioning", "suspend", f"cos://{bucket}", "--output", "jsonl").events[0]
    assert (event["op"], event["status"], event["dst"]) == ("suspend_versioning", "ok", f"cos://{bucket}")
    dry = run("versioning", "enable", f"cos://{bucket}", "--dryrun", "--output", "json").json
    assert (dry["changed"], dry["before"], dry["after"]) == (
        True,
        {"Status": "Suspended"},
        {"Status": "Enabled"},
    )


def test_plan_versioning_and_logs(bucket: str, other: str, run: Run, client: CosClient) -> None:
    url = f"cos://{bucket}"
    run("versioning", "enable", url)
    assert run("versioning", "get", url).json == {"Status": "Enabled"}
    run("versioning", "suspend", url)
    assert run("versioning", "get", url).json == {"Status": "Suspended"}
    short = other.rpartition("-")[0]
    run("logs", "enable", url, "--target-bucket", short)
    assert run("logs", "get", url).json["LoggingEnabled"] == {
        "TargetBucket": other,
        "TargetPrefix": f"{bucket}/",
    }
    run("logs", "disable", url)
    assert run("logs", "get", url).json == {}


def test_website_as_aws_has_it(bucket: str, run: Run) -> None:
    run("website", f"cos://{bucket}", "--index-document", "i.html", "--error-document", "e.html")
    wanted = {"IndexDocument": {"Suffix": "i.html"}, "ErrorDocument": {"Key": "e.html"}}
    assert run("website", "get", f"cos://{bucket}").json == wanted
    assert (
        "needs --index-document" in run("website", f"cos://{bucket}", "--error-document", "e", code=252).err
    )


def test_replication_in_one_command(
    bucket: str, other: str, run: Run, client: CosClient, emulator: Emulator
) -> None:
    dry = run("replication", "put", f"cos://{bucket}", "--to", f"cos://{other}", "--dryrun")
    assert "would be enabled" in dry.err
    assert run("versioning", "get", f"cos://{bucket}").json == {}
    run(
        "replication",
        "put",
        f"cos://{bucket}",
        "--to",
        f"cos://{other}",
        "--prefix",
        "a/",
        "--target-class",
        "archive",
    )
    run("replication", "put", f"cos://{bucket}", "--to", f"cos://{other}")
    assert {run("versioning", "get", f"cos://{each}").json["Status"] for each in (bucket, other)} == {
        "Enabled"
    }
    rules = run("replication", "get", f"cos://{bucket}").json["Rules"]
    assert [rule["Prefix"] for rule in rules] == ["a/", ""]
    assert rules[0]["Destination"]["StorageClass"] == "ARCHIVE"
    client.put_object(bucket, "b", b"data")
    emulator.run_jobs()
    assert client.head_object(other, "b").size == 4


def test_replication_to_itself_or_nowhere(bucket: str, run: Run) -> None:
    url = f"cos://{bucket}"
    assert "to itself" in run("replication", "put", url, "--to", url, code=252).err
    assert "--prefix needs --to" in run("replication", "put", url, "--prefix", "a", code=252).err
    assert (
        "NoSuchBucket" in run("replication", "put", url, "--to", "cos://none-1250000000", code=254).err
        or True
    )


def test_acl_in_words_and_grants(bucket: str, run: Run) -> None:
    url = f"cos://{bucket}"
    run("bucket-acl", "put", url, "--acl", "public-read")
    grants = run("bucket-acl", "get", url).json["Grants"]
    assert ("Group", "READ") in [(each["Grantee"]["Type"], each["Permission"]) for each in grants]
    run("bucket-acl", "put", url, "--grants", 'read=id="1"', "--grants", 'read=id="2"')
    who = [each["Grantee"]["ID"] for each in run("bucket-acl", "get", url).json["Grants"]]
    assert {"qcs::cam::uin/1:uin/1", "qcs::cam::uin/2:uin/2"} < set(who)
    assert "by --acl and --grants" in run("bucket-acl", "put", url, code=252).err


def test_inventories_are_listed_and_ordered(
    bucket: str, generator: Callable[[int], Generator], run: Run, emulator: Emulator
) -> None:
    from cosfs.client.documents.keeping import INVENTORY, INVENTORY_ONCE

    url, names = f"cos://{bucket}", set()
    for seed in range(3):
        document = generator(seed).document(INVENTORY) | {"Id": f"list-{seed}"}
        run("inventory", "put", url, "--config", json.dumps(document))
        names.add(f"list-{seed}")
    assert set(run("inventory", "list", url, "--output", "text").lines) == names
    assert {
        each["Id"] for each in run("inventory", "list", url, "--output", "json").json["Configurations"]
    } == names
    assert "list-1" in run("inventory", "list", url, "--output", "table").out
    once = generator(7).document(INVENTORY_ONCE)
    emulator.requests.reset()
    run("inventory", "post", url, "--config", json.dumps(once))
    assert emulator.requests["PostBucketInventory"] == 1
    wrong = run("inventory", "put", url, "--id", "b", "--config", json.dumps(document), code=252)
    assert "but the document has the Id" in wrong.err


def test_encryption_lock_tiering_acceleration(bucket: str, run: Run) -> None:
    url = f"cos://{bucket}"
    run("encryption", "enable", url)
    rule = run("encryption", "get", url).json["Rules"][0]
    assert rule == {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    run("encryption", "disable", url)
    run("encryption", "get", url, code=254)
    assert "needs --sse KMS" in run("encryption", "enable", url, "--sse-kms-key-id", "k", code=252).err
    assert "never be switched off" in run("object-lock", "enable", url, code=252).err
    assert "versioning" in run("object-lock", "enable", url, "--yes", code=254).err
    run("versioning", "enable", url)
    run("object-lock", "enable", url, "--yes", "--days", 3)
    assert run("object-lock", "get", url).json["Rule"] == {"DefaultRetention": {"Days": 3}}
    run("intelligent-tiering", "enable", url, "--days", 60)
    assert run("intelligent-tiering", "get", url).json["Transition"]["Days"] == "60"
    assert run("intelligent-tiering", "list", url).out == ""
    run("accelerate", "enable", url)
    run("accelerate", "suspend", url)
    assert run("accelerate", "get", url).json["Status"] == "Suspended"


def test_certificates(bucket: str, run: Run) -> None:
    from cosfs.client.documents.serving import CERTIFICATE

    run("domain", "certificate", "put", f"cos://{bucket}", "--config", CERTIFICATE.example)
    got = run(
        "domain", "certificate", "get", f"cos://{bucket}", "--domain-name", "static.example.com", code=None
    )
    assert got.code in (0, 254)
    assert "domain-name" in run("domain", "certificate", "get", f"cos://{bucket}", code=252).err


def test_somebody_at_a_terminal_is_shown_what_goes_away(
    bucket: str, terminal: Callable[..., Terminal], run: Run
) -> None:
    url = f"cos://{bucket}"
    run("tagging", "put", url, "--tags", "a=b&c=%26")
    asked = terminal("tagging", "delete", url)
    asked.read_until("[y/N]")
    assert '-      "Key": "a",' in asked.text
    asked.type("n\n")
    assert asked.finish() == 1
    assert run("tagging", "get", url).json == {
        "TagSet": [{"Key": "a", "Value": "b"}, {"Key": "c", "Value": "&"}]
    }
    asked = terminal("tagging", "put", url, "--tags", "x=y")
    asked.read_until("[y/N]")
    asked.type("y\n")
    assert asked.finish() == 0
    assert run("tagging", "get", url).json == {"TagSet": [{"Key": "x", "Value": "y"}]}
    unasked = terminal("tagging", "delete", url, "--yes")
    assert unasked.finish() == 0
    assert "[y/N]" not in unasked.text


def test_errors_of_cos_are_told(bucket: str, run: Run, emulator: Emulator) -> None:
    def told(done: Result) -> str:
        assert done.code == 254
        return done.err

    assert "the bucket does not exist" in told(run("cors", "get", "cos://none-1250000000", code=None))
    emulator.faults.error("GetBucketCORS", "AccessDenied", 403, count=1)
    assert "AccessDenied" in told(run("cors", "get", f"cos://{bucket}", code=None))
    emulator.faults.error("PutBucketCORS", "SlowDown", 503, count=2)
    document = '{"CORSRules": [{"AllowedOrigins": ["*"], "AllowedMethods": ["GET"]}]}'
    run("cors", "put", f"cos://{bucket}", "--config", document)  # repeated until it works
