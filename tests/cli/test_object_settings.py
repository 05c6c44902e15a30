"""Tags, access, metadata, links and locks of objects."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cosfs.client.client import CosClient
from cosfs.client.model import Headers
from tests.cli.conftest import Run


@pytest.fixture
def url(client: CosClient, bucket: str) -> str:
    headers = Headers(
        content_type="text/odd",
        cache_control="no-cache",
        storage_class="STANDARD_IA",
        metadata={"a": "1", "b": "2"},
        extra={"x-cos-tagging": "t=1", "x-cos-acl": "public-read", "x-cos-server-side-encryption": "AES256"},
    )
    client.put_object(bucket, "d/k ü", b"data", headers=headers)
    return f"cos://{bucket}/d/k ü"


def test_tags(url: str, run: Run) -> None:
    assert run("tag", "get", url).json == {"TagSet": [{"Key": "t", "Value": "1"}]}
    assert "would not change" in run("tag", "put", url, "--tags", "t=1", "--dryrun").out
    run("tag", "add", url, "--tags", "u=%26&t=2")
    tags = [{"Key": "t", "Value": "2"}, {"Key": "u", "Value": "&"}]
    assert run("tag", "get", url).json == {"TagSet": tags}
    Path("t.json").write_text(run("tag", "get", url).out)
    run("tag", "put", url, "--tags", "x=y")
    run("tag", "put", url, "--config", "t.json")
    assert run("tag", "get", url, "--output", "jsonl").json == {"TagSet": tags}
    assert '-      "Key": "t",' in run("tag", "delete", url, "--dryrun").lines
    run("tag", "delete", url)
    assert run("tag", "get", url).json == {"TagSet": []}
    many = "&".join(f"k{number}=v" for number in range(11))
    assert "TagSet: must have at most 10 entries" in run("tag", "put", url, "--tags", many, code=252).err
    assert "by --tags or by --config" in run("tag", "put", url, code=252).err


def test_version_of_each_kind(run: Run, client: CosClient, bucket: str) -> None:
    run("versioning", "enable", f"cos://{bucket}")
    for body in (b"1", b"22"):
        client.put_object(bucket, "k", body)
    client.put_object(bucket, "k2", b"")
    client.delete_object(bucket, "k")
    found = run("stat", f"cos://{bucket}/k", "--all-versions", "--output", "json").json
    assert [(each["IsDeleteMarker"], each["IsLatest"], each.get("Size")) for each in found] == [
        (True, True, None), (False, False, 2), (False, False, 1),
    ]  # fmt: skip
    assert len({each["VersionId"] for each in found}) == 3 and "CRC64" in found[1]
    text = run("stat", f"cos://{bucket}/k", "--all-versions").out
    assert text.count("\n\n") == 2 and "IsDeleteMarker\tTrue" in text
    run("stat", f"cos://{bucket}/none", "--all-versions", code=254)
    run("stat", f"cos://{bucket}", "--all-versions", code=252)
    run("stat", f"cos://{bucket}/k", "--all-versions", "--version-id", "x", code=252)


def test_access(url: str, run: Run) -> None:
    listed = run("acl", "get", url).out
    assert "AllUsers" in listed
    Path("acl.json").write_text(listed)
    run("acl", "put", url, "--acl", "private")
    assert "AllUsers" not in run("acl", "get", url).out
    run("acl", "put", url, "--config", "acl.json")
    assert run("acl", "get", url).out == listed
    run("acl", "put", url, "--grants", 'read=id="7"')
    assert "qcs::cam::uin/7:uin/7" in run("acl", "get", url, "--xml").out
    run("acl", "put", url, code=252)


def test_metadata_changes_and_all_else_stays(url: str, run: Run, client: CosClient, bucket: str) -> None:
    access = run("acl", "get", url).out
    dry = run("meta", "set", url, "--metadata", "c=3", "--dryrun").json
    assert dry["Metadata"] == {"a": "1", "b": "2", "c": "3"}
    run("meta", "set", url, "--metadata", "a=ü", "--remove", "b", "--content-language", "de")
    info = client.head_object(bucket, "d/k ü")
    assert info is not None and info.headers is not None
    assert dict(info.headers.metadata) == {"a": "%C3%BC"}
    shown = run("meta", "get", url).json
    assert shown == {
        "Content-Type": "text/odd",
        "Cache-Control": "no-cache",
        "Content-Language": "de",
        "StorageClass": "STANDARD_IA",
        "Metadata": {"a": "ü"},
    }
    assert info.headers.extra["x-cos-server-side-encryption"] == "AES256"
    assert client.object_tags(bucket, "d/k ü") == "t=1"
    assert run("acl", "get", url).out == access
    with client.get_object(bucket, "d/k ü") as stream:
        assert b"".join(stream.chunks()) == b"data"
    run("meta", "set", url, "--cache-control", "")
    assert "Cache-Control" not in run("meta", "get", url).json
    assert "already" in run("meta", "set", url, "--metadata", "a=ü").err


def test_metadata_that_cannot_be_set(url: str, run: Run, client: CosClient, bucket: str) -> None:
    assert "nothing to set" in run("meta", "set", url, code=252).err
    assert "control character" in run("meta", "set", url, "--content-type", "a\nb", code=252).err
    client.put_object(bucket, "cold", b"x", headers=Headers(storage_class="ARCHIVE"))
    assert "must be restored" in run("meta", "set", f"cos://{bucket}/cold", "--metadata", "a=1", code=252).err
    assert run("meta", "get", f"cos://{bucket}/none", code=254).err


def test_links(url: str, run: Run, bucket: str) -> None:
    link = f"cos://{bucket}/link"
    run("symlink", "create", link, "d/k ü")
    assert run("symlink", "get", link).out == "d/k ü\n"
    assert run("cat", link).out == "data"
    run("symlink", "create", link, url)  # as a URL of the same bucket
    assert run("symlink", "get", link, "--output", "json").json == {"Target": "d/k ü"}
    assert "FileAlreadyExists" in run("symlink", "create", link, "x", "--no-overwrite", code=254).err
    run("symlink", "create", link, "cos://other-1250000000/x", code=252)
    run("symlink", "create", link, "link", code=252)
    run("symlink", "get", url, code=254)


def test_retention(url: str, run: Run, client: CosClient, bucket: str) -> None:
    run("versioning", "enable", f"cos://{bucket}")
    run("object-lock", "enable", f"cos://{bucket}", "--yes")
    client.put_object(bucket, "locked", b"x")
    locked = f"cos://{bucket}/locked"
    assert "is not locked" in run("retention", "get", locked, code=254).err
    assert (
        "Nobody can remove"
        in run("retention", "put", locked, "--until", "2040-01-01T00:00:00Z", code=252).err
    )
    assert "must be a date" in run("retention", "put", locked, "--until", "soon", "--yes", code=252).err
    run("retention", "put", locked, "--until", "2040-01-01T00:00:00Z", "--yes")
    assert run("retention", "get", locked).json["RetainUntilDate"].startswith("2040-01-01T00:00:00")
    earlier = run("retention", "put", locked, "--until", "2039-01-01T00:00:00Z", "--yes", code=254)
    assert "InvalidLockedTime" in earlier.err


def test_words_of_coscli(url: str, run: Run) -> None:
    run("object-tagging", "--method", "put", url, "a#b", "c#d")
    assert run("object-tagging", "--method", "get", url).json["TagSet"][1] == {"Key": "c", "Value": "d"}
    run("object-acl", "--method", "put", url, "--grant-read", 'id="3"')
    assert "uin/3" in run("object-acl", "--method", "get", url).out


def test_versions(url: str, run: Run, client: CosClient, bucket: str) -> None:
    run("versioning", "enable", f"cos://{bucket}")
    first = client.put_object(bucket, "v", b"1").version_id
    client.put_object(bucket, "v", b"2")
    run("tag", "put", f"cos://{bucket}/v", "--tags", "old=yes", "--version-id", first)
    assert run("tag", "get", f"cos://{bucket}/v").json == {"TagSet": []}
    old = json.loads(run("tag", "get", f"cos://{bucket}/v", "--version-id", first).out)
    assert old == {"TagSet": [{"Key": "old", "Value": "yes"}]}
