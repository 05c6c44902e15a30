"""Objects: what is written comes back, with what was said about it, under the conditions that were put."""

from __future__ import annotations

import base64
import hashlib

import pytest

from cosfs.emulator import Limits
from cosfs.emulator.digests import crc64
from cosfs.emulator.values import Request, Response
from tests.emulator.asking import BUCKET, HOST, Asker, code, texts, xml

ETAG = '"5d41402abc4b2a76b9719d911017c592"'  # of hello


@pytest.fixture
def hello(ask: Asker) -> Asker:
    assert ask("PUT", "/k", b"hello").headers["ETag"] == ETAG
    return ask


def md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data).digest()).decode()


@pytest.mark.parametrize("size", [0, 1, 16 * 1024, 16 * 1024 + 1, 3_000_000])
def test_bytes_come_back_with_their_checksums(ask: Asker, size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    answer = ask("PUT", "/k", data, content_md5=md5(data))
    assert answer.headers["ETag"] == f'"{hashlib.md5(data).hexdigest()}"'
    assert answer.headers["x-cos-hash-crc64ecma"] == str(crc64(data))
    assert ask.get("k") == data
    head = ask("HEAD", "/k")
    assert head.headers["Content-Length"] == str(size)
    assert head.headers["x-cos-hash-crc64ecma"] == str(crc64(data))
    assert head.body == b""
    assert "x-cos-storage-class" not in head.headers


def test_headers_are_kept_and_others_are_not(ask: Asker) -> None:
    kept = {
        "content-type": "text/x", "cache-control": "no-cache", "content-disposition": "inline",
        "content-encoding": "gzip", "content-language": "de", "expires": "never", "x-cos-meta-mode": "33188",
        "x-cos-meta-raw": "\xc3\xa9",
    }  # fmt: skip
    ask("PUT", "/k", b"x", **kept, x_cos_other="no", accept="no")
    headers = {name.lower(): value for name, value in ask("HEAD", "/k").headers.items()}
    assert kept.items() <= headers.items()
    assert "x-cos-other" not in headers
    assert ask("GET", "/k?response-content-type=a%2Fb&response-expires=0").headers["Content-Type"] == "a/b"


def test_bodies_are_checked_against_what_was_declared(ask: Asker) -> None:
    assert code(ask("PUT", "/k", b"hello", content_md5=md5(b"other"))) == (400, "BadDigest")
    assert code(ask("PUT", "/k", b"hello", content_md5="nonsense")) == (400, "InvalidDigest")
    assert code(ask("PUT", "/k", b"hello", content_length="6")) == (400, "IncompleteBody")
    assert code(ask("GET", "/k")) == (404, "NoSuchKey")
    assert list((ask.root / "objects").glob("*/*")) == []


def test_a_length_is_needed(ask: Asker) -> None:
    signed = {"host": HOST, "authorization": ""}
    ask("PUT", "/?acl", x_cos_acl="public-read-write")
    assert code(ask.service.handle(Request("PUT", b"/k", signed, b""))) == (411, "MissingContentLength")
    chunked = {**signed, "transfer-encoding": "chunked"}
    assert ask.service.handle(Request("PUT", b"/k", chunked, b"abc")).status == 200


def test_ranges(hello: Asker) -> None:
    def part(text: str) -> tuple[int, bytes, str]:
        answer = hello("GET", "/k", range=text)
        return answer.status, hello.body(answer), answer.headers.get("Content-Range", "")

    assert part("bytes=1-3") == (206, b"ell", "bytes 1-3/5")
    assert part("bytes=1-") == (206, b"ello", "bytes 1-4/5")
    assert part("bytes=-2") == (206, b"lo", "bytes 3-4/5")
    assert part("bytes=0-99") == (206, b"hello", "bytes 0-4/5")
    for ignored in ("bytes=3-1", "bytes=0-1,3-4", "items=0-1", "bytes=-"):
        assert part(ignored) == (200, b"hello", "")
    assert code(hello("GET", "/k", range="bytes=5-")) == (416, "InvalidRange")
    assert hello("HEAD", "/k", range="bytes=1-3").headers["Content-Length"] == "3"
    hello("PUT", "/empty", b"")
    assert hello("GET", "/empty", range="bytes=0-").status == 416


def test_ranges_of_a_large_object(ask: Asker) -> None:
    data = bytes(range(250)) * 400
    ask("PUT", "/k", data)
    assert ask.get("k", range="bytes=99000-99999") == data[99000:]
    assert ask.get("k", range="bytes=50000-50099") == data[50000:50100]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"if_match": ETAG}, 200),
        ({"if_match": "*"}, 200),
        ({"if_match": '"other"'}, 412),
        ({"if_match": f'"other", {ETAG}'}, 200),
        ({"if_none_match": ETAG}, 304),
        ({"if_none_match": ETAG.strip('"')}, 304),
        ({"if_none_match": '"other"'}, 200),
        ({"if_modified_since": "Tue, 14 Nov 2023 22:13:20 GMT"}, 304),
        ({"if_modified_since": "Tue, 14 Nov 2023 22:13:19 GMT"}, 200),
        ({"if_unmodified_since": "Tue, 14 Nov 2023 22:13:20 GMT"}, 200),
        ({"if_unmodified_since": "Tue, 14 Nov 2023 22:13:19 GMT"}, 412),
        ({"if_match": ETAG, "if_unmodified_since": "Tue, 14 Nov 2023 22:13:19 GMT"}, 200),
        ({"if_none_match": '"other"', "if_modified_since": "Tue, 14 Nov 2023 22:13:20 GMT"}, 200),
        ({"if_modified_since": "nonsense"}, 200),
    ],
)
def test_conditions(hello: Asker, headers: dict[str, str], status: int) -> None:
    answer = hello("GET", "/k", **headers)
    assert answer.status == status
    assert hello("HEAD", "/k", **headers).status == status
    if status == 304:
        assert answer.body == b""
        assert answer.headers["ETag"] == ETAG


def test_deleting_what_is_not_there_is_no_error(hello: Asker) -> None:
    assert hello("DELETE", "/k").status == 204
    assert hello("DELETE", "/k").status == 204
    assert code(hello("GET", "/k")) == (404, "NoSuchKey")


def test_errors_have_all_their_nodes(hello: Asker) -> None:
    answer = hello("GET", "/missing")
    tree = xml(answer)
    assert [node.tag for node in tree] == ["Code", "Message", "Resource", "RequestId", "TraceId"]
    assert all(node.text for node in tree)
    assert tree.findtext("RequestId") == answer.headers["x-cos-request-id"]
    assert "x-cos-error-code" not in answer.headers
    assert answer.body.startswith(b"<?xml")
    other = f"missing-1250000000.{HOST.partition('.')[2]}"
    assert code(hello("GET", "/k", host=other)) == (404, "NoSuchBucket")


def test_metadata_has_a_limit(ask: Asker) -> None:
    assert ask("PUT", "/k", b"", x_cos_meta_a="v" * 4000).status == 200
    assert ask("PUT", "/k", b"", x_cos_meta_a="v" * 4096).status == 400


def test_objects_have_a_size_limit(ask: Asker) -> None:
    ask.service.emulation.limits = Limits(object_size=10)
    assert code(ask("PUT", "/k", b"x" * 11)) == (400, "EntityTooLarge")
    assert ask("PUT", "/k", b"x" * 10).status == 200


def test_creation_can_forbid_overwriting(hello: Asker) -> None:
    assert code(hello("PUT", "/k", b"new", x_cos_forbid_overwrite="true")) == (409, "FileAlreadyExists")
    assert hello("PUT", "/k", b"new", x_cos_forbid_overwrite="false").status == 200
    assert hello("PUT", "/other", b"new", x_cos_forbid_overwrite="true").status == 200
    assert hello("POST", "/other?uploads", x_cos_forbid_overwrite="true").status == 409


# Copies


def copy(ask: Asker, target: str, source: str = f"{HOST}/k", **headers: str) -> Response:
    return ask("PUT", target, b"", x_cos_copy_source=source, **headers)


def test_copies_take_bytes_and_metadata(ask: Asker) -> None:
    data = b"x" * 100_000
    ask("PUT", "/k", data, content_type="text/x", x_cos_meta_a="1", x_cos_tagging="t=1")
    answer = copy(ask, "/copy")
    assert texts(answer, "ETag") == [f'"{hashlib.md5(data).hexdigest()}"']
    assert texts(answer, "CRC64") == [str(crc64(data))]
    head = ask("HEAD", "/copy").headers
    assert (head["Content-Type"], head["x-cos-meta-a"], head["x-cos-tagging-count"]) == ("text/x", "1", "1")
    assert len(list((ask.root / "objects").glob("*/*"))) == 1
    ask("DELETE", "/k")
    assert ask.get("copy") == data
    ask("DELETE", "/copy")
    ask.store.files.close()
    assert list((ask.root / "objects").glob("*/*")) == []


@pytest.mark.parametrize("word", ["Replaced", "REPLACE", "replaced"])
def test_copies_can_replace_metadata(hello: Asker, word: str) -> None:
    answer = copy(hello, "/k", x_cos_metadata_directive=word, x_cos_meta_b="2", content_type="a/b")
    assert answer.status == 200
    head = hello("HEAD", "/k").headers
    assert (head["Content-Type"], head["x-cos-meta-b"]) == ("a/b", "2")
    assert hello.get("k") == b"hello"


def test_copies_without_a_change_are_refused(hello: Asker) -> None:
    assert code(copy(hello, "/k")) == (400, "InvalidRequest")
    assert copy(hello, "/k", x_cos_storage_class="STANDARD_IA").status == 200
    assert hello("HEAD", "/k").headers["x-cos-storage-class"] == "STANDARD_IA"
    assert copy(hello, "/other").status == 200
    assert "x-cos-storage-class" not in hello("HEAD", "/other").headers


def test_conditions_of_copies_fail_alike(hello: Asker) -> None:
    for headers in (
        {"x_cos_copy_source_if_match": '"other"'},
        {"x_cos_copy_source_if_none_match": ETAG},
        {"x_cos_copy_source_if_modified_since": "Tue, 14 Nov 2023 22:13:20 GMT"},
        {"x_cos_copy_source_if_unmodified_since": "Tue, 14 Nov 2023 22:13:19 GMT"},
    ):
        assert code(copy(hello, "/other", **headers)) == (412, "PreconditionFailed")
    assert copy(hello, "/other", x_cos_copy_source_if_match=ETAG).status == 200
    assert code(copy(hello, "/x", f"{HOST}/missing")) == (404, "NoSuchKey")
    assert code(copy(hello, "/x", "missing-1.x/k")) == (404, "NoSuchBucket")
    assert code(copy(hello, "/x", "nonsense")) == (400, "InvalidCopySource")


# Append


def test_appending_grows_an_object(ask: Asker) -> None:
    first = ask("POST", "/log?append&position=0", b"hello ")
    assert first.headers["x-cos-next-append-position"] == "6"
    second = ask("POST", "/log?append&position=6", b"world" * 10_000)
    whole = b"hello " + b"world" * 10_000
    assert second.headers["x-cos-hash-crc64ecma"] == str(crc64(whole))
    assert second.headers["x-cos-content-sha1"] == hashlib.md5(b"world" * 10_000).hexdigest()
    assert ask.get("log") == whole
    assert ask("HEAD", "/log").headers["x-cos-object-type"] == "appendable"
    assert code(ask("POST", "/log?append&position=6", b"x")) == (409, "AppendPositionErr")
    ask("PUT", "/plain", b"x")
    assert code(ask("POST", "/plain?append&position=1", b"x")) == (409, "ObjectNotAppendable")


# Many at once


def delete_many(ask: Asker, body: bytes) -> bytes:
    answer = ask("POST", "/?delete", body, content_md5=md5(body))
    assert answer.status == 200
    return answer.body


def test_deleting_many_tells_of_each(ask: Asker) -> None:
    for key in ("a", "b"):
        ask("PUT", f"/{key}", b"x")
    body = b"<Delete><Object><Key>a</Key></Object><Object><Key>missing</Key></Object></Delete>"
    assert delete_many(ask, body).count(b"<Deleted>") == 2
    bad = "k" * 851
    body = (
        f"<Delete><Quiet>true</Quiet><Object><Key>b</Key></Object><Object><Key>{bad}</Key></Object></Delete>"
    )
    told = delete_many(ask, body.encode())
    assert b"<Deleted>" not in told
    assert b"<Code>KeyTooLong</Code>" in told
    assert texts(ask("GET", "/"), "Contents/Key") == []


def test_deleting_many_has_rules(ask: Asker) -> None:
    body = b"<Delete><Object><Key>a</Key></Object></Delete>"
    assert ask("POST", "/?delete", body).status == 400
    many = b"<Delete>" + b"<Object><Key>a</Key></Object>" * 1001 + b"</Delete>"
    for wrong in (many, b"<Delete></Delete>", b"<Other/>", b"<Delete>", b"<!DOCTYPE a><Delete/>"):
        assert code(ask("POST", "/?delete", wrong, content_md5=md5(wrong))) == (400, "MalformedXML")


# Archive, tags, ACL


def test_archived_objects_must_be_restored(ask: Asker) -> None:
    ask("PUT", "/k", b"cold", x_cos_storage_class="Archive")
    assert ask("HEAD", "/k").headers["x-cos-storage-class"] == "ARCHIVE"
    assert code(ask("GET", "/k")) == (403, "InvalidObjectState")
    assert code(copy(ask, "/other")) == (403, "InvalidObjectState")
    ask.service.emulation.limits = Limits(restore_seconds=60)
    body = b"<RestoreRequest><Days>1</Days></RestoreRequest>"
    assert ask("POST", "/k?restore", body).status == 202
    assert code(ask("POST", "/k?restore", body)) == (409, "RestoreAlreadyInProgress")
    assert ask("HEAD", "/k").headers["x-cos-restore"] == 'ongoing-request="true"'
    ask.now += 60
    assert ask.get("k") == b"cold"
    assert 'ongoing-request="false", expiry-date="' in ask("HEAD", "/k").headers["x-cos-restore"]
    assert ask("POST", "/k?restore", body).status == 200
    ask.now += 86400
    assert code(ask("GET", "/k")) == (403, "InvalidObjectState")
    ask("PUT", "/warm", b"x")
    assert code(ask("POST", "/warm?restore", body)) == (405, "RestoreNonArchiveObject")
    assert code(ask("PUT", "/k", b"", x_cos_storage_class="LUKEWARM")) == (400, "NotSupportedStorageClass")


def test_tags_of_objects(ask: Asker) -> None:
    ask("PUT", "/k", b"x", x_cos_tagging="a=1&b=x%20y")
    assert texts(ask("GET", "/k?tagging"), "TagSet/Tag/Value") == ["1", "x y"]
    body = b"<Tagging><TagSet><Tag><Key>c</Key><Value>3</Value></Tag></TagSet></Tagging>"
    assert ask("PUT", "/k?tagging", body).status == 200
    assert texts(ask("GET", "/k?tagging&VersionId="), "TagSet/Tag/Key") == ["c"]
    assert ask("DELETE", "/k?tagging").status == 204
    assert texts(ask("GET", "/k?tagging"), "TagSet/Tag") == []
    eleven = "&".join(f"t{n}=1" for n in range(11))
    assert code(ask("PUT", "/k", b"x", x_cos_tagging=eleven)) == (400, "InvalidTag")


def test_acl_of_objects(ask: Asker) -> None:
    ask("PUT", "/k", b"x")
    inherited = ask("GET", "/k?acl")
    assert inherited.headers["x-cos-acl"] == "default"
    assert texts(inherited, "AccessControlList/Grant/Permission") == ["FULL_CONTROL"]
    ask("PUT", "/k?acl", x_cos_grant_read='id="100000000009"')
    granted = ask("GET", "/k?acl")
    assert texts(granted, "AccessControlList/Grant/Permission") == ["READ", "FULL_CONTROL"]
    assert ask("PUT", "/k?acl", granted.body).status == 200
    assert ask("GET", "/k?acl").body == granted.body
    assert ask("PUT", "/k?acl", x_cos_acl="nonsense").status == 400


@pytest.mark.parametrize("target", ["/k?torrent", "/k?attributes", "/?metrics", "/k?legal-hold"])
def test_the_unknown_is_not_implemented(ask: Asker, target: str) -> None:
    assert code(ask("GET", target)) == (501, "NotImplemented")


def test_state_survives_reopening(hello: Asker) -> None:
    hello("PUT", "/big", b"y" * 100_000)
    stray = hello.root / "objects" / "ab" / "ab12"
    stray.write_bytes(b"left by a crash")
    hello.close()
    hello.open()
    assert not stray.exists()
    assert hello.get("k") == b"hello"
    assert hello.get("big") == b"y" * 100_000
    assert texts(hello("GET", "/"), "Name") == [BUCKET]


def test_an_object_replaced_while_it_is_read_is_read_to_its_end(ask: Asker) -> None:
    ask("PUT", "/k", b"old" * 50_000)
    answer = ask("GET", "/k")
    ask("PUT", "/k", b"new")
    assert ask.body(answer) == b"old" * 50_000
    ask.store.files.close()
    assert list((ask.root / "objects").glob("*/*")) == []
