"""Requests that mean nothing: each is refused, none breaks the emulator."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from cosfs.emulator.settings import SETTINGS
from tests.emulator.asking import BUCKET, HOST, Asker, code

DIGITS = "9" * 5000
METHODS = ("GET", "PUT", "POST", "DELETE", "HEAD", "OPTIONS")
PATHS = ("/", "/", "/a", "/b/c", "/b/", "/new", "/%FF", "/a%00", "//")
HOSTS = (*[HOST] * 8, "b.cos-website.x.com", "bucket.cos.accelerate.myqcloud.com", "127.0.0.1:1", "", "[::1]")
PARAMETERS = (
    *SETTINGS,
    *(
        "acl",
        "append",
        "delete",
        "location",
        "restore",
        "retention",
        "select",
        "symlink",
        "uploads",
        "uploadId",
    ),
    *("versioning", "versions", "list-type", "position", "partNumber", "max-keys", "prefix", "marker", "id"),
    *("delimiter", "encoding-type", "versionId", "key-marker", "version-id-marker", "continuation-token"),
    *(
        "max-parts",
        "part-number-marker",
        "max-uploads",
        "upload-id-marker",
        "select-type",
        "create-time",
        "range",
    ),
    *("sign", "q-ak", "q-signature", "X-Amz-Algorithm", "X-Amz-Credential", "AWSAccessKeyId", "Expires"),
    *("x-cos-traffic-limit", "x-cos-security-token", "response-content-type"),
)
HEADERS = (
    *("range", "if-match", "if-modified-since", "content-type", "content-md5", "origin", "referer", "date"),
    *("x-cos-acl", "x-cos-grant-read", "x-cos-storage-class", "x-cos-tagging", "x-cos-symlink-target"),
    *("x-cos-copy-source", "x-cos-copy-source-range", "x-cos-metadata-directive", "x-cos-traffic-limit"),
    *("x-cos-server-side-encryption", "x-cos-server-side-encryption-context", "x-amz-content-sha256"),
    *("x-cos-server-side-encryption-customer-key", "x-amz-decoded-content-length", "content-length"),
    *("x-tc-action", "x-tc-timestamp", "access-control-request-method", "x-cos-forbid-overwrite"),
)
VALUES = (
    *("", "0", "-1", "1", "x", "²", "٣", "1_0", "nan", "null", "true", DIGITS, "%FF", "%00", "é", "a=b&c=d"),
    *(
        f"bytes=0-{DIGITS}",
        f"bytes={DIGITS}-",
        "bytes=²-",
        "bytes=5-2",
        "url",
        "ARCHIVE",
        "AES256",
        "cos/kms",
    ),
    *(f"/{BUCKET}/a", f"{HOST}/a?versionId=x", "Tue, 99 Nov 99999 22:13:20 GMT", "multipart/form-data"),
    *("multipart/form-data; boundary=x", 'id="1"', "http://x", "AWS a:b", "q-sign-algorithm=sha1&q-ak=a"),
    *("AWS4-HMAC-SHA256 Credential=a/b/c/d/e, SignedHeaders=host, Signature=x", "GetCallerIdentity"),
)
TAGS = (
    *("Rule", "ID", "Status", "Days", "Date", "Transition", "Expiration", "Filter", "Prefix", "And", "Tag"),
    *(
        "Key",
        "Value",
        "TagSet",
        "Object",
        "Part",
        "PartNumber",
        "ETag",
        "Grant",
        "Grantee",
        "AccessControlList",
    ),
    *(
        "CORSRule",
        "AllowedOrigin",
        "AllowedMethod",
        "MaxAgeSeconds",
        "DomainRule",
        "OriginRule",
        "RulePriority",
    ),
    *("Destination", "Bucket", "Schedule", "Frequency", "LoggingEnabled", "DefaultRetention", "Expression"),
    *(
        "InputSerialization",
        "OutputSerialization",
        "CSV",
        "JSON",
        "IndexDocument",
        "RoutingRules",
        "Redirect",
    ),
)
ROOTS = (
    *sorted({setting.root for setting in SETTINGS.values() if setting.root}),
    *(
        "Delete",
        "CompleteMultipartUpload",
        "AccessControlPolicy",
        "VersioningConfiguration",
        "RestoreRequest",
    ),
    *("SelectRequest", "Retention", "CreateBucketConfiguration"),
)
STATEMENTS = ("[]", "[1]", '{"effect": "allow"}', '{"action": 1, "condition": []}', "[" * 50_000)


def on_the_wire(text: str) -> str:
    """Return what the server makes of the bytes of a header."""
    return text.encode().decode("latin-1")


class Nonsense:
    """Makes requests by chance, the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def node(self, name: str, depth: int) -> str:
        """Write an element."""
        if depth > 3 or self.random.random() < 0.4:
            text = self.random.choice([*VALUES, "Enabled", "2023-11-14", "select * from s"])
            return f"<{name}>{text.replace('&', '')}</{name}>"
        inner = (self.node(self.random.choice(TAGS), depth + 1) for _ in range(self.random.randrange(4)))
        return f"<{name}>{''.join(inner)}</{name}>"

    def body(self) -> bytes:
        """Write a document, a policy, or neither."""
        chance = self.random.random()
        if chance < 0.3:
            return self.random.choice([b"", b"\xff\x00", b"--x\r\n\r\n\r\n--x--\r\n"])
        if chance < 0.4:
            return b'{"version": "2.0", "statement": ' + self.random.choice(STATEMENTS).encode() + b"}"
        return self.node(self.random.choice(ROOTS), 0).encode()

    def send(self, ask: Asker) -> tuple[int, tuple[object, ...]]:
        """Send a request; return the status and what was sent."""
        pick = self.random.choice
        query = "&".join(pick(PARAMETERS) + pick(["", "=" + pick(VALUES)]) for _ in range(pick([0, 1, 1, 2])))
        headers = {pick(HEADERS): on_the_wire(pick(VALUES)) for _ in range(pick([0, 1, 1, 2]))}
        sent = (pick(METHODS), f"{pick(PATHS)}?{query}", pick(HOSTS), headers, self.body())
        if self.random.random() < 0.1:
            headers = {"authorization": on_the_wire(pick(VALUES)), **headers}
            response = ask.raw(sent[0], sent[1], {"host": sent[2], **headers}, sent[4])
        else:
            named = {name.replace("-", "_"): value for name, value in headers.items()}
            response = ask(sent[0], sent[1], sent[4], host=sent[2], **named)
        if response.content is not None:
            ask.body(response)
        return response.status, sent


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[Asker]:
    asker = Asker(tmp_path)
    asker("PUT", "/")
    for key in ("a", "b/c"):
        asker("PUT", f"/{key}", b"a,b\n1,2\n")
    yield asker
    asker.close()


@pytest.mark.parametrize("seed", [2, 3, 4])
def test_no_request_breaks_the_emulator(filled: Asker, seed: int) -> None:
    nonsense = Nonsense(seed)
    for _ in range(1000):
        status, sent = nonsense.send(filled)
        assert status != 500, sent
        if sent[0] == "DELETE":  # perhaps the bucket
            filled("PUT", "/")


def test_numbers_of_any_length(filled: Asker) -> None:
    assert filled("GET", "/a", range=f"bytes=4-{'9' * 30}").status == 206
    assert filled("GET", "/a", range=f"bytes=0-{DIGITS}").status == 200
    for target in (f"/?max-keys={DIGITS}", "/?max-keys=²", "/?max-keys=1_0", "/a?x-cos-traffic-limit=²"):
        assert code(filled("GET", target)) == (400, "InvalidArgument")


def test_documents_of_any_depth(filled: Asker) -> None:
    assert code(filled("PUT", "/?policy", b"[" * 100_000)) == (400, "MalformedPolicy")
    assert code(filled("PUT", "/?tagging", b"<Tagging>" * 50_000)) == (400, "MalformedXML")


def test_a_bucket_made_by_its_short_name_from_a_web_page(filled: Asker) -> None:
    assert filled("PUT", "/short", host="127.0.0.1", origin="http://a.example").status == 200
