"""The matrix of versioning: what each write and delete does before, during and after it is enabled."""

from __future__ import annotations

import base64
import hashlib

import pytest

from tests.emulator.asking import BUCKET, HOST, Asker, code, texts, xml


def versioning(ask: Asker, status: str) -> None:
    body = f"<VersioningConfiguration><Status>{status}</Status></VersioningConfiguration>".encode()
    assert ask("PUT", "/?versioning", body).status == 200


def put(ask: Asker, data: bytes, key: str = "k") -> str | None:
    return ask("PUT", f"/{key}", data).headers.get("x-cos-version-id")


def rows(ask: Asker, query: str = "") -> list[tuple[str, str, str, str]]:
    """Return kind, key, version id and IsLatest of all versions listed."""
    tree = xml(ask("GET", f"/?versions{query}"))
    found = [node for node in tree if node.tag in ("Version", "DeleteMarker")]
    return [
        (node.tag, *(node.findtext(name) or "" for name in ("Key", "VersionId", "IsLatest")))
        for node in found
    ]


def test_state_is_told_and_never_returns_to_none(ask: Asker) -> None:
    assert texts(ask("GET", "/?versioning"), "Status") == []
    versioning(ask, "Enabled")
    assert texts(ask("GET", "/?versioning"), "Status") == ["Enabled"]
    versioning(ask, "Suspended")
    assert texts(ask("GET", "/?versioning"), "Status") == ["Suspended"]
    assert code(ask("PUT", "/?versioning", b"<VersioningConfiguration/>")) == (400, "MalformedXML")


def test_without_versioning_nothing_is_told(ask: Asker) -> None:
    assert put(ask, b"1") is None
    assert "x-cos-version-id" not in ask("HEAD", "/k").headers
    assert rows(ask) == [("Version", "k", "", "true")]
    assert "x-cos-delete-marker" not in ask("DELETE", "/k").headers
    assert rows(ask) == []


def test_enabled_keeps_every_version(ask: Asker) -> None:
    put(ask, b"0")
    versioning(ask, "Enabled")
    one, two = put(ask, b"1"), put(ask, b"2")
    assert one and two and one != two
    assert [row[2:] for row in rows(ask)] == [(two, "true"), (one, "false"), ("null", "false")]
    assert ask.get("k") == b"2"
    assert ask.get("k", f"?versionId={one}") == b"1"
    assert ask.get("k", "?versionId=null") == b"0"
    assert ask.get("k", "?VersionId=") == b"2"
    assert ask("HEAD", "/k").headers["x-cos-version-id"] == two
    assert code(ask("GET", "/k?versionId=nonsense")) == (404, "NoSuchVersion")


def test_deleting_puts_a_marker(ask: Asker) -> None:
    versioning(ask, "Enabled")
    one = put(ask, b"1")
    gone = ask("DELETE", "/k")
    marker = gone.headers["x-cos-version-id"]
    assert gone.headers["x-cos-delete-marker"] == "true"
    missing = ask("GET", "/k")
    assert code(missing) == (404, "NoSuchKey")
    assert missing.headers["x-cos-delete-marker"] == "true"
    assert texts(ask("GET", "/"), "Contents/Key") == []
    assert rows(ask) == [("DeleteMarker", "k", marker, "true"), ("Version", "k", one, "false")]
    assert ask("GET", f"/k?versionId={marker}").status == 404
    assert code(ask("DELETE", "/")) == (409, "BucketNotEmpty")
    removed = ask("DELETE", f"/k?versionId={marker}")
    assert removed.headers["x-cos-delete-marker"] == "true"
    assert ask.get("k") == b"1"
    assert texts(ask("GET", "/"), "Contents/Key") == ["k"]
    erased = ask("DELETE", f"/k?versionId={one}")
    assert erased.headers["x-cos-version-id"] == one
    assert "x-cos-delete-marker" not in erased.headers
    assert ask("DELETE", f"/k?versionId={one}").status == 204
    assert rows(ask, "&prefix=k") == []


def test_suspended_replaces_the_null_version(ask: Asker) -> None:
    put(ask, b"0")
    versioning(ask, "Enabled")
    one = put(ask, b"1")
    versioning(ask, "Suspended")
    assert put(ask, b"2") is None
    assert [row[2:] for row in rows(ask)] == [("null", "true"), (one, "false")]
    assert ask.get("k") == b"2"
    assert ask("HEAD", "/k").headers["x-cos-version-id"] == "null"
    assert ask("DELETE", "/k").headers["x-cos-version-id"] == "null"
    assert [row[0] for row in rows(ask)] == ["DeleteMarker", "Version"]
    ask("DELETE", "/k?versionId=null")
    assert ask.get("k") == b"1"


def test_versions_are_paged_inside_a_key(ask: Asker) -> None:
    versioning(ask, "Enabled")
    for number in range(3):
        put(ask, bytes([number]))
    put(ask, b"x", "z")
    whole, seen, query = rows(ask), [], ""
    for _ in range(10):
        answer = ask("GET", f"/?versions&max-keys=1{query}")
        seen += rows(ask, f"&max-keys=1{query}")
        if texts(answer, "IsTruncated") == ["false"]:
            break
        key, version = texts(answer, "NextKeyMarker")[0], texts(answer, "NextVersionIdMarker")[0]
        query = f"&key-marker={key}&version-id-marker={version}"
    assert seen == whole
    assert [row[1] for row in rows(ask, "&key-marker=k")] == ["z"]
    middle = whole[1][2]
    ask("DELETE", f"/k?versionId={middle}")
    assert rows(ask, f"&key-marker=k&version-id-marker={middle}") == [whole[2], whole[3]]


def test_multi_delete_tells_of_markers(ask: Asker) -> None:
    versioning(ask, "Enabled")
    one = put(ask, b"1")

    def delete(version: str) -> list[str]:
        inner = f"<Key>k</Key><VersionId>{version}</VersionId>" if version else "<Key>k</Key>"
        body = f"<Delete><Object>{inner}</Object></Delete>".encode()
        digest = base64.b64encode(hashlib.md5(body).digest()).decode()
        tree = xml(ask("POST", "/?delete", body, content_md5=digest))
        return [tree.findtext(f"Deleted/{name}") or "" for name in ("VersionId", "DeleteMarkerVersionId")]

    marker = delete("")[1]
    assert rows(ask)[0] == ("DeleteMarker", "k", marker, "true")
    assert delete(marker) == [marker, marker]
    assert delete(str(one)) == [one, ""]
    assert rows(ask) == []


def test_copies_take_and_tell_versions(ask: Asker) -> None:
    versioning(ask, "Enabled")
    one = put(ask, b"1")
    put(ask, b"2")
    answer = ask("PUT", "/copy", x_cos_copy_source=f"{HOST}/k?versionId={one}")
    assert answer.headers["x-cos-copy-source-version-id"] == one
    assert texts(answer, "VersionId") == [answer.headers["x-cos-version-id"]]
    assert ask.get("copy") == b"1"
    assert ask("PUT", "/k", x_cos_copy_source=f"/{BUCKET}/k?versionId={one}").status == 200
    assert ask.get("k") == b"1"


@pytest.mark.parametrize("status", ["Enabled", "Suspended"])
def test_what_versioning_switches_off(ask: Asker, status: str) -> None:
    versioning(ask, status)
    put(ask, b"1")
    assert ask("PUT", "/k", b"2", x_cos_forbid_overwrite="true").status == 200
    assert ask("POST", "/log?append&position=0", b"x").status == 400
