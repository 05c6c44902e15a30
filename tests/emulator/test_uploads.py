"""Multipart uploads: parts in any order, what Complete refuses, and that no bytes are copied."""

from __future__ import annotations

import hashlib
import os
import time

import pytest

from cosfs.emulator.digests import crc64
from cosfs.emulator.store import Bytes
from cosfs.emulator.values import Later, Piece, Request, Response
from tests.emulator.asking import BUCKET, HOST, NOW, Asker, authorization, code, texts


def begin(ask: Asker, key: str = "k", **headers: str) -> str:
    return texts(ask("POST", f"/{key}?uploads", **headers), "UploadId")[0]


def send(ask: Asker, upload: str, number: int, data: bytes, key: str = "k") -> str:
    answer = ask("PUT", f"/{key}?partNumber={number}&uploadId={upload}", data)
    assert answer.status == 200, answer.body
    assert answer.headers["x-cos-hash-crc64ecma"] == str(crc64(data))
    return answer.headers["ETag"]


def complete(ask: Asker, upload: str, parts: list[tuple[int, str]], key: str = "k") -> Response:
    rows = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{e}</ETag></Part>" for n, e in parts)
    body = f"<CompleteMultipartUpload>{rows}</CompleteMultipartUpload>".encode()
    return ask("POST", f"/{key}?uploadId={upload}", body)


def test_parts_become_an_object(ask: Asker) -> None:
    upload = begin(ask, x_cos_meta_a="1", content_type="a/b", x_cos_storage_class="STANDARD_IA")
    data = [os.urandom(100_000), os.urandom(50_000), b"end"]
    etags = {number: send(ask, upload, number, data[number - 1]) for number in (2, 1, 3)}
    assert etags[1] == f'"{hashlib.md5(data[0]).hexdigest()}"'
    answer = complete(ask, upload, [(1, etags[1]), (2, etags[2].strip('"')), (3, etags[3])])
    assert answer.status == 200
    assert answer.chunked
    assert texts(answer, "Location") == [f"http://{HOST}/k"]
    assert texts(answer, "ETag")[0].endswith('-3"')
    whole = b"".join(data)
    assert answer.headers["x-cos-hash-crc64ecma"] == str(crc64(whole))
    head = ask("HEAD", "/k").headers
    assert head["ETag"] == texts(answer, "ETag")[0]
    assert (head["x-cos-meta-a"], head["Content-Type"], head["x-cos-storage-class"]) == (
        "1",
        "a/b",
        "STANDARD_IA",
    )
    assert ask.get("k") == whole
    assert ask.get("k", range="bytes=99990-100009") == whole[99990:100010]
    assert ask.get("k", range="bytes=-5") == whole[-5:]
    assert code(complete(ask, upload, [(1, etags[1])])) == (404, "NoSuchUpload")
    assert len(list((ask.root / "objects").glob("*/*"))) == 3


def test_a_part_sent_again_replaces_the_first(ask: Asker) -> None:
    upload = begin(ask)
    old = send(ask, upload, 1, b"old!!")
    new = send(ask, upload, 1, b"new!!")
    assert code(complete(ask, upload, [(1, old)])) == (400, "InvalidPart")
    assert complete(ask, upload, [(1, new)]).status == 200
    assert ask.get("k") == b"new!!"
    ask.store.files.close()
    assert len(list((ask.root / "objects").glob("*/*"))) == 1


def test_what_complete_refuses(ask: Asker) -> None:
    upload = begin(ask)
    one, two, three = (
        send(ask, upload, number, data) for number, data in ((1, b"xxxx"), (2, b"x"), (3, b"yyyy"))
    )
    assert code(complete(ask, upload, [(2, two), (1, one)])) == (400, "InvalidPartOrder")
    assert code(complete(ask, upload, [(1, one), (1, one)])) == (400, "InvalidPartOrder")
    assert code(complete(ask, upload, [(1, one), (9, one)])) == (400, "InvalidPart")
    assert code(complete(ask, upload, [(1, one), (2, two), (3, three)])) == (400, "EntityTooSmall")
    assert code(complete(ask, upload, [])) == (400, "MalformedXML")
    assert code(complete(ask, upload, [(1, one)], key="other")) == (404, "NoSuchUpload")
    assert complete(ask, upload, [(1, one), (3, three)]).status == 200
    assert ask.get("k") == b"xxxxyyyy"


@pytest.mark.parametrize("number", ["0", "10001", "x", ""])
def test_part_numbers_have_a_range(ask: Asker, number: str) -> None:
    upload = begin(ask)
    assert code(ask("PUT", f"/k?partNumber={number}&uploadId={upload}", b"x")) == (400, "InvalidArgument")


def test_aborting_leaves_nothing(ask: Asker) -> None:
    upload = begin(ask)
    send(ask, upload, 1, b"x" * 20_000)
    assert ask("DELETE", f"/k?uploadId={upload}").status == 204
    assert code(ask("DELETE", f"/k?uploadId={upload}")) == (404, "NoSuchUpload")
    assert code(ask("PUT", f"/k?partNumber=1&uploadId={upload}", b"x")) == (404, "NoSuchUpload")
    ask.store.files.close()
    assert list((ask.root / "objects").glob("*/*")) == []
    assert ask("DELETE", "/").status == 204


def test_open_uploads_keep_a_bucket_and_are_listed(ask: Asker) -> None:
    first = begin(ask, "a/k")
    ask.now += 1
    second = begin(ask, "a/k")
    assert code(ask("DELETE", "/")) == (409, "BucketNotEmpty")
    assert texts(ask("GET", "/?uploads&prefix=a/"), "Upload/UploadId") == [first, second]
    assert texts(ask("GET", "/?uploads&delimiter=/"), "CommonPrefixes/Prefix") == ["a/"]
    page = ask("GET", "/?uploads&max-uploads=1")
    assert texts(page, "NextUploadIdMarker") == [first]
    rest = ask("GET", f"/?uploads&key-marker=a/k&upload-id-marker={first}")
    assert texts(rest, "Upload/UploadId") == [second]


def test_parts_are_listed_by_page(ask: Asker) -> None:
    upload = begin(ask)
    etags = [send(ask, upload, number, bytes([number])) for number in (1, 2, 5)]
    page = ask("GET", f"/k?uploadId={upload}&max-parts=2")
    assert texts(page, "Part/ETag") == etags[:2]
    assert texts(page, "IsTruncated") == ["true"]
    after = texts(page, "NextPartNumberMarker")[0]
    rest = ask("GET", f"/k?uploadId={upload}&part-number-marker={after}")
    assert texts(rest, "Part/PartNumber") == ["5"]
    assert texts(rest, "Part/Size") == ["1"]


def test_parts_can_be_copied_from_ranges(ask: Asker) -> None:
    data = os.urandom(300_000)
    ask("PUT", "/source", data)
    upload = begin(ask)

    def part(number: int, window: str, **headers: str) -> Response:
        target = f"/k?partNumber={number}&uploadId={upload}"
        source = f"/{BUCKET}/source"
        return ask("PUT", target, x_cos_copy_source=source, x_cos_copy_source_range=window, **headers)

    etags = [
        texts(part(1, "bytes=100-199999"), "ETag")[0],
        send(ask, upload, 2, b"between"),
        texts(part(3, ""), "ETag")[0],
    ]
    assert etags[0] == f'"{hashlib.md5(data[100:200_000]).hexdigest()}"'
    expected = data[100:200_000] + b"between" + data
    answer = complete(ask, upload, list(enumerate(etags, 1)))
    assert answer.headers["x-cos-hash-crc64ecma"] == str(crc64(expected))
    ask("DELETE", "/source")
    assert ask.get("k") == expected
    upload = begin(ask)
    ask("PUT", "/source", b"12345")
    assert code(part(1, "bytes=0-5")) == (416, "InvalidRange")
    assert code(part(1, "0-x")) == (400, "InvalidArgument")
    assert code(part(1, "", x_cos_copy_source_if_match='"x"')) == (412, "PreconditionFailed")


def test_a_source_deleted_while_a_part_is_copied_is_kept(ask: Asker) -> None:
    ask("PUT", "/source", b"z" * 100_000)
    upload = begin(ask)
    signed = authorization("PUT", "/k", HOST, int(NOW), int(NOW) + 60)
    headers = {"host": HOST, "authorization": signed, "x-cos-copy-source": f"/{BUCKET}/source"}
    exchange = ask.service.begin(Request("PUT", f"/k?partNumber=1&uploadId={upload}".encode(), headers))
    later = ask.service.finish(exchange)
    assert isinstance(later, Later)
    made = later.work()
    ask("DELETE", "/source")
    etag = texts(ask.service.resume(exchange, later, made), "ETag")[0]
    assert complete(ask, upload, [(1, etag)]).status == 200
    ask.store.files._sweeper.submit(int).result()
    assert ask.get("k") == b"z" * 100_000


def test_completing_ten_thousand_parts_is_quick(ask: Asker) -> None:
    upload = begin(ask)
    found = ask.service.emulation.uploads
    opened = found.get(ask.store.bucket(BUCKET), "k", upload)
    part = Bytes([Piece(4, b"abcd")], 4, hashlib.md5(b"abcd").hexdigest(), str(crc64(b"abcd")))
    for number in range(1, 10_001):
        found.put_part(opened, number, part)
    etags = [(number, part.etag) for number in range(1, 10_001)]
    began = time.thread_time()
    assert complete(ask, upload, etags).status == 200
    assert time.thread_time() - began < 3  # of the processor
    assert ask.get("k", range="bytes=39996-") == b"abcd"
    assert ask("HEAD", "/k").headers["x-cos-hash-crc64ecma"] == str(crc64(b"abcd" * 10_000))
