"""What is asked for again when the wire fails, and what is not."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from cosfs.client.body import FileBody
from cosfs.client.crc64 import crc64
from cosfs.client.model import Headers, Part, Upload
from cosfs.errors import (
    IntegrityError,
    NetworkError,
    ServiceError,
)
from tests.client.conftest import Start
from tests.client.scripted import DATA, UNAVAILABLE, Answer, B, error, stored, whole


@pytest.mark.parametrize(
    "bad",
    [
        UNAVAILABLE,
        error(500, "InternalError"),
        Answer(502, b"<html>bad gateway</html>", from_cos=False),
        error(409, "PathConflict"),
        error(409, "UploadConflict"),
        error(400, "RequestTimeout"),
        error(400, "BadDigest"),
        error(400, "IncompleteBody"),
        error(408, "Whatever"),
        error(429, "Whatever"),
        Answer(raw=b"", end="close"),
        Answer(raw=b"", end="reset"),
        Answer(raw=b"HTTP/1.1 20", end="close"),
    ],
    ids=lambda answer: f"{answer.status}-{answer.end}-{answer.body[60:90]!r}",
)
def test_passing_trouble_is_repeated_with_the_whole_body(script: Start, tmp_path: Path, bad: Answer) -> None:
    server, client = script(bad, stored)
    path = tmp_path / "file"
    path.write_bytes(DATA)
    with FileBody(path, 0, len(DATA)) as body:
        client.put_object(B, "k", body)
    assert server.requests[-1].body == DATA
    assert client.stats.retries == 1


@pytest.mark.parametrize(
    "bad",
    [
        error(403, "AccessDenied"),
        error(404, "NoSuchKey"),
        error(409, "FileAlreadyExists"),
        error(400, "InvalidArgument"),
        error(412, "PreconditionFailed"),
        error(501, "NotImplemented"),
        error(416, "InvalidRange"),
    ],
    ids=lambda answer: str(answer.status),
)
def test_lasting_trouble_is_not_repeated(script: Start, bad: Answer) -> None:
    server, client = script(bad)
    with pytest.raises(ServiceError):
        client.put_object(B, "k", b"data")
    assert len(server.requests) == 1


def test_damage_on_the_way_is_repeated_once(script: Start) -> None:
    server, client = script(error(400, "BadDigest"))
    with pytest.raises(ServiceError, match="BadDigest"):
        client.put_object(B, "k", b"data")
    assert len(server.requests) == 2


def test_retries_end(script: Start) -> None:
    server, client = script(UNAVAILABLE, max_retries=2)
    with pytest.raises(ServiceError, match="fewer requests"):
        client.list_objects(B)
    assert len(server.requests) == 3
    assert client.stats.snapshot()["requests"] == {"ListObjects": 3}


def test_retry_after_is_honoured(script: Start) -> None:
    _, client = script(error(503, "SlowDown", Retry_After="1"), whole(b""))
    started = time.monotonic()
    client.head_object(B, "k")
    assert time.monotonic() - started >= 1.0


@pytest.mark.parametrize("root", ["CopyObjectResult", "CopyPartResult"])
def test_error_inside_a_successful_copy_is_an_error(script: Start, root: str) -> None:
    failing = error(200, "InternalError")
    server, client = script(failing, Answer(200, f'<{root}><ETag>"e"</ETag></{root}>'.encode()))
    if root == "CopyObjectResult":
        assert client.copy_object(B, "k", B, "s").etag == "e"
    else:
        assert client.upload_part_copy(Upload(B, "k", "id"), 1, B, "s", 0, 10).etag == "e"
    assert len(server.requests) == 2
    server.answers.append(error(200, "AccessDenied"))
    server.answers.popleft()
    with pytest.raises(ServiceError, match="access denied"):
        client.copy_object(B, "k", B, "s")


def test_lost_answer_to_complete_is_looked_into(script: Start) -> None:
    parts = [Part(1, "e1", 6, crc64(b"hello ")), Part(2, "e2", 5, crc64(b"world"))]
    server, client = script(
        Answer(raw=b"", end="close"), error(404, "NoSuchUpload"), whole(b"hello world"), max_retries=1
    )
    result = client.complete_upload(Upload(B, "k", "id"), parts)
    assert result.crc64 == crc64(b"hello world")
    assert [request.method for request in server.requests] == ["POST", "POST", "HEAD"]
    for answers in (
        [error(404, "NoSuchUpload"), whole(b"hello world")],  # nothing was lost
        [Answer(raw=b"", end="close"), error(404, "NoSuchUpload"), whole(b"hello earth")],
        [Answer(raw=b"", end="close"), error(404, "NoSuchUpload"), error(404, "NoSuchKey")],
    ):
        _, client = script(*answers, max_retries=1)
        with pytest.raises(ServiceError, match="NoSuchUpload"):
            client.complete_upload(Upload(B, "k", "id"), parts)


def test_lost_answer_to_exclusive_put_is_looked_into(script: Start) -> None:
    lost, exists = Answer(raw=b"", end="close"), error(409, "FileAlreadyExists")
    ours = whole(b"data", **{"x-cos-meta-mtime-ns": "5"})
    headers = Headers(metadata={"mtime-ns": "5"})
    _, client = script(lost, exists, ours)
    assert client.put_object(B, "k", b"data", headers=headers, forbid_overwrite=True).etag == "etag"
    for answers in ([exists, ours], [lost, exists, whole(b"data")], [lost, exists, whole(b"atad")]):
        _, client = script(*answers)
        with pytest.raises(ServiceError, match="FileAlreadyExists"):
            client.put_object(B, "k", b"data", headers=headers, forbid_overwrite=True)


def test_lost_answer_to_exclusive_copy_is_looked_into(script: Start) -> None:
    lost, exists = Answer(raw=b"", end="close"), error(409, "FileAlreadyExists")
    source = whole(b"data", **{"x-cos-meta-mtime-ns": "5"})
    _, client = script(lost, exists, source)
    assert client.copy_object(B, "k", B, "s", if_match="etag", forbid_overwrite=True).etag == "etag"
    for answers in (
        [exists, source],  # nothing was lost
        [lost, exists, source, whole(b"data")],
        [lost, exists, source, whole(b"atad", **{"x-cos-meta-mtime-ns": "5"})],
        [lost, exists, error(404, "NoSuchKey")],
        [lost, exists, whole(b"data", ETag='"other"')],
    ):
        _, client = script(*answers)
        with pytest.raises(ServiceError, match="FileAlreadyExists"):
            client.copy_object(B, "k", B, "s", if_match="etag", forbid_overwrite=True)


def test_early_refusal_of_a_long_body_is_read(script: Start) -> None:
    refusal = error(403, "AccessDenied")
    refusal.before_body, refusal.end = True, "close"
    _, client = script(refusal, max_retries=0)
    with pytest.raises((ServiceError, NetworkError)) as caught:
        client.put_object(B, "k", bytes(64 << 20))
    # A reset may overtake the answer on its way; then the network is to blame.
    assert isinstance(caught.value, NetworkError) or "access denied" in str(caught.value)


def test_wrong_checksum_in_the_answer_is_noticed(script: Start) -> None:
    _, client = script(Answer(200, b"", {"ETag": '"e"', "x-cos-hash-crc64ecma": "5"}))
    with pytest.raises(IntegrityError):
        client.put_object(B, "k", b"data")
    with pytest.raises(IntegrityError):
        client.upload_part(Upload(B, "k", "id"), 1, b"data")
