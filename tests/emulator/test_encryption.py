"""Server-side encryption as clients see it: what is echoed, and that a customer's key is needed."""

from __future__ import annotations

import base64
import hashlib

import pytest
from qcloud_cos import CosS3Client

from tests.emulator.asking import code, texts
from tests.emulator.signed import Signed

SSE = "x-cos-server-side-encryption"


def key(fill: bytes, prefix: str = f"{SSE}-customer") -> dict[str, str]:
    """Return the headers of a customer's key."""
    raw = fill * 32
    named = {
        "algorithm": "AES256",
        "key": base64.b64encode(raw).decode(),
        "key-MD5": base64.b64encode(hashlib.md5(raw).digest()).decode(),
    }
    return {f"{prefix}-{name}": value for name, value in named.items()}


MINE, OTHER = key(b"a"), key(b"b")
SOURCE = key(b"a", f"{SSE.replace('x-cos-', 'x-cos-copy-source-')}-customer")


def test_what_was_asked_for_is_echoed(wire: Signed) -> None:
    put = wire("PUT", "/k", b"hello", **{SSE: "AES256"})
    assert put.headers[SSE] == "AES256"
    assert put.headers["ETag"] == '"5d41402abc4b2a76b9719d911017c592"'
    assert wire("HEAD", "/k").headers[SSE] == "AES256"
    kms = wire("PUT", "/kms", b"hello", **{SSE: "cos/kms", f"{SSE}-cos-kms-key-id": "key-1"})
    assert (kms.headers[SSE], kms.headers[f"{SSE}-cos-kms-key-id"]) == ("cos/kms", "key-1")
    assert kms.headers["ETag"] != put.headers["ETag"]
    assert wire("GET", "/kms").headers["ETag"] == kms.headers["ETag"]
    assert code(wire("PUT", "/k", b"", **{SSE: "ROT13"})) == (400, "InvalidArgument")
    assert code(wire("PUT", "/k", b"", **{SSE: "cos/kms", f"{SSE}-context": "e"})) == (400, "InvalidArgument")
    assert code(wire("PUT", "/k", b"", **{SSE: "AES256"}, **MINE)) == (400, "InvalidArgument")


@pytest.mark.parametrize(("algorithm", "shown"), [("AES256", "AES256"), ("KMS", "cos/kms")])
@pytest.mark.parametrize("node", ["ApplyServerSideEncryptionByDefault", "ApplySideEncryptionConfiguration"])
def test_a_bucket_can_encrypt_by_default(wire: Signed, algorithm: str, shown: str, node: str) -> None:
    rule = f"<{node}><SSEAlgorithm>{algorithm}</SSEAlgorithm></{node}>"
    root = "ServerSideEncryptionConfiguration"
    assert wire("PUT", "/?encryption", f"<{root}><Rule>{rule}</Rule></{root}>".encode()).status == 200
    assert wire("PUT", "/k", b"x").headers[SSE] == shown
    assert wire("HEAD", "/k").headers[SSE] == shown
    assert wire("PUT", "/copy", x_cos_copy_source=f"{wire.host}/k").headers[SSE] == shown
    assert wire("POST", "/up?uploads").headers[SSE] == shown
    assert SSE not in wire("PUT", "/mine", b"x", **MINE).headers
    wrong = f"<{root}><Rule>{rule.replace(algorithm, 'ROT13')}</Rule></{root}>".encode()
    assert code(wire("PUT", "/?encryption", wrong)) == (400, "MalformedXML")


def test_a_customers_key_is_needed_to_read(wire: Signed) -> None:
    put = wire("PUT", "/k", b"hello", **MINE)
    assert put.headers[f"{SSE}-customer-algorithm"] == "AES256"
    assert put.headers[f"{SSE}-customer-key-MD5"] == MINE[f"{SSE}-customer-key-MD5"]
    assert put.headers["ETag"] != '"5d41402abc4b2a76b9719d911017c592"'
    for method in ("GET", "HEAD"):
        for headers in ({}, OTHER):
            answer = wire(method, "/k", **headers)
            assert answer.status == 400
            assert b"SsecDecryptHeaderInvalid" in answer.body or method == "HEAD"
    got = wire("GET", "/k", **MINE)
    assert (got.body, got.headers[f"{SSE}-customer-algorithm"]) == (b"hello", "AES256")
    assert wire("HEAD", "/k", **MINE).status == 200
    wire("PUT", "/plain", b"x")
    assert code(wire("GET", "/plain", **MINE)) == (400, "SSEHeaderNotAllowed")


@pytest.mark.parametrize(
    ("name", "value"),
    [("algorithm", "AES128"), ("key", "c2hvcnQ="), ("key", "?"), ("key-MD5", "YQ=="), ("key", "")],
)
def test_malformed_keys_are_refused(wire: Signed, name: str, value: str) -> None:
    headers = {**MINE, f"{SSE}-customer-{name}": value}
    assert code(wire("PUT", "/k", b"x", **headers)) == (400, "InvalidArgument")
    assert wire("GET", "/k").status == 404


def test_copies_need_the_key_of_their_source(wire: Signed) -> None:
    wire("PUT", "/k", b"hello", **MINE)
    source = {"x-cos-copy-source": f"{wire.host}/k"}
    assert code(wire("PUT", "/copy", **source)) == (400, "SsecDecryptHeaderInvalid")
    assert wire("PUT", "/copy", **source, **SOURCE).status == 200
    assert wire("GET", "/copy").body == b"hello"
    assert wire("PUT", "/other", **source, **SOURCE, **OTHER).status == 200
    assert wire("GET", "/other", **OTHER).body == b"hello"
    assert wire("PUT", "/same", **source, **MINE).status == 200
    assert wire("GET", "/same", **MINE).body == b"hello"
    assert code(wire("PUT", "/x", **{"x-cos-copy-source": f"{wire.host}/copy"}, **SOURCE)) == (
        400,
        "SSEHeaderNotAllowed",
    )


def test_parts_need_the_key_of_their_upload(wire: Signed) -> None:
    upload = texts(wire("POST", "/k?uploads", **MINE), "UploadId")[0]
    target = f"/k?partNumber=1&uploadId={upload}"
    for headers in ({}, OTHER):
        assert code(wire("PUT", target, b"x", **headers)) == (400, "SsecDecryptHeaderInvalid")
    part = wire("PUT", target, b"hello", **MINE)
    assert part.headers[f"{SSE}-customer-algorithm"] == "AES256"
    copied = wire(
        "PUT", f"/k?partNumber=2&uploadId={upload}", **{"x-cos-copy-source": f"{wire.host}/s"}, **MINE
    )
    assert code(copied) == (404, "NoSuchKey")
    rows = f"<Part><PartNumber>1</PartNumber><ETag>{part.headers['ETag']}</ETag></Part>"
    body = f"<CompleteMultipartUpload>{rows}</CompleteMultipartUpload>".encode()
    assert wire("POST", f"/k?uploadId={upload}", body).status == 200
    assert wire("GET", "/k").status == 400
    assert wire("GET", "/k", **MINE).body == b"hello"


def test_the_sdk_reads_with_its_key(sdk: CosS3Client, bucket: str) -> None:
    raw = b"k" * 32
    given = {
        "SSECustomerAlgorithm": "AES256",
        "SSECustomerKey": base64.b64encode(raw).decode(),
        "SSECustomerKeyMD5": base64.b64encode(hashlib.md5(raw).digest()).decode(),
    }
    sdk.put_object(Bucket=bucket, Key="k", Body=b"hello", **given)
    assert sdk.get_object(Bucket=bucket, Key="k", **given)["Body"].get_raw_stream().read() == b"hello"
