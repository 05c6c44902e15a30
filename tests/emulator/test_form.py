"""POST Object: forms as browsers and Tencent's examples send them."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import socket
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from cosfs.emulator import Credential
from tests.emulator.asking import code
from tests.emulator.conftest import sdk_for
from tests.emulator.signed import Answer, Signed

Fields = dict[str, str | bytes]


def policy(
    wire: Signed,
    *conditions: Any,
    expires: str = "2100-01-01T00:00:00.000Z",
    by: Credential | None = None,
) -> Fields:
    """Return the fields that sign a policy with these conditions, with the key of the account or another."""
    now = int(time.time())
    by = by or Credential(wire.emulator.secret_id, wire.emulator.secret_key)
    times = f"{now - 60};{now + 600}"
    signature: list[Any] = [
        {"q-sign-algorithm": "sha1"}, {"q-ak": by.secret_id}, {"q-sign-time": times},
    ]  # fmt: skip
    text = json.dumps({"expiration": expires, "conditions": [*conditions, *signature]})
    sign_key = hmac.new(by.secret_key.encode(), times.encode(), hashlib.sha1).hexdigest()
    to_sign = hashlib.sha1(text.encode()).hexdigest()
    return {
        "policy": base64.b64encode(text.encode()).decode(),
        "q-sign-algorithm": "sha1",
        "q-ak": by.secret_id,
        "q-key-time": times,
        "q-signature": hmac.new(sign_key.encode(), to_sign.encode(), hashlib.sha1).hexdigest(),
    }


def part(name: str, value: str | bytes, filename: str = "") -> bytes:
    data = value.encode() if isinstance(value, str) else value
    more = f'; filename="{filename}"\r\nContent-Type: image/png' if filename else ""
    return f'--line\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + data + b"\r\n"


def post(
    wire: Signed, fields: Fields, data: bytes = b"hello", filename: str = "a b.txt", **headers: str
) -> Answer:
    body = b"".join(part(name, value) for name, value in fields.items())
    body += part("file", data, filename) + b"--line--\r\n"
    kind = {"Content_Type": "multipart/form-data; boundary=line"}
    return wire("POST", "/", body, sign=False, **{**kind, **headers})


def test_a_signed_form_is_stored(wire: Signed) -> None:
    fields = {
        **policy(wire, {"bucket": wire.bucket}, ["starts-with", "$key", "up/"]),
        "key": "up/中-${filename}", "Content-Type": "text/x", "x-cos-meta-a": "1", "acl": "public-read",
        "x-cos-storage-class": "STANDARD_IA", "Cache-Control": "no-cache", "x-cos-tagging": "t=1",
        "unknown": "x",
    }  # fmt: skip
    answer = post(wire, fields)
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["ETag"] == '"5d41402abc4b2a76b9719d911017c592"'
    assert answer.headers["Location"] == f"http://{wire.host}/up/%E4%B8%AD-a%20b.txt"
    got = wire("GET", "/up/中-a b.txt", sign=False)
    assert got.body == b"hello"
    told = {name: got.headers.get(name) for name in ("Content-Type", "x-cos-meta-a", "Cache-Control")}
    assert told == {"Content-Type": "text/x", "x-cos-meta-a": "1", "Cache-Control": "no-cache"}
    assert (got.headers["x-cos-storage-class"], got.headers["x-cos-tagging-count"]) == ("STANDARD_IA", "1")


@pytest.mark.parametrize(("status", "answered"), [("200", 200), ("201", 201), ("204", 204), ("302", 204)])
def test_the_form_chooses_its_answer(wire: Signed, status: str, answered: int) -> None:
    answer = post(wire, {**policy(wire), "key": "k", "success_action_status": status})
    assert (answer.status, answer.body) == (answered, b"")


def test_the_browser_can_be_sent_on(wire: Signed) -> None:
    answer = post(wire, {**policy(wire), "key": "a&b", "success_action_redirect": "http://page/done?x=1"})
    assert answer.status == 303
    told = parse_qs(urlsplit(answer.headers["Location"]).query)
    etag = '"5d41402abc4b2a76b9719d911017c592"'
    assert told == {"x": ["1"], "bucket": [wire.bucket], "key": ["a&b"], "etag": [etag]}
    other = post(wire, {**policy(wire), "key": "k", "success_action_redirect": "javascript:x"})
    assert other.status == 204


def test_anonymous_forms_need_a_public_bucket(wire: Signed) -> None:
    assert code(post(wire, {"key": "k"})) == (403, "AccessDenied")
    wire("PUT", "/?acl", x_cos_acl="public-read-write")
    assert post(wire, {"key": "k"}).status == 204
    assert wire("GET", "/k").body == b"hello"


def test_sizes_are_bounded_by_the_policy(wire: Signed) -> None:
    fields = {**policy(wire, ["content-length-range", 3, 5]), "key": "k"}
    assert code(post(wire, fields, b"12")) == (400, "EntityTooSmall")
    assert code(post(wire, fields, b"123456")) == (400, "EntityTooLarge")
    assert post(wire, fields, b"12345").status == 204


def test_what_a_policy_does_not_allow_is_refused(wire: Signed) -> None:
    good = {**policy(wire, {"bucket": wire.bucket}, ["starts-with", "$key", "up/"]), "key": "up/k"}
    wrong: list[tuple[Fields, str]] = [
        ({**good, "key": "other/k"}, "AccessDenied"),
        ({**policy(wire, {"bucket": "else-1250000000"}), "key": "k"}, "AccessDenied"),
        ({**policy(wire, expires="2020-01-01T00:00:00.000Z"), "key": "k"}, "AccessDenied"),
        ({**good, "q-signature": "0" * 40}, "SignatureDoesNotMatch"),
        ({**good, "q-ak": "AKIDother"}, "InvalidAccessKeyId"),
        ({**good, "policy": "?"}, "InvalidPolicyDocument"),
        ({name: value for name, value in good.items() if name != "q-signature"}, "AccessDenied"),
    ]
    for fields, wanted in wrong:
        assert code(post(wire, fields))[1] == wanted
    assert wire("GET", "/").texts("Contents/Key") == []
    assert post(wire, good).status == 204


def test_forms_forbid_overwriting_and_check_their_file(wire: Signed) -> None:
    fields = {**policy(wire), "key": "k"}
    assert post(wire, {**fields, "x-cos-forbid-overwrite": "true"}).status == 204
    assert code(post(wire, {**fields, "x-cos-forbid-overwrite": "true"})) == (409, "FileAlreadyExists")
    md5 = base64.b64encode(hashlib.md5(b"hello").digest()).decode()
    assert post(wire, {**fields, "Content-MD5": md5}).status == 204
    assert code(post(wire, {**fields, "Content-MD5": md5}, b"other")) == (400, "BadDigest")
    assert code(post(wire, {**fields, "x-cos-traffic-limit": "1"})) == (400, "InvalidArgument")
    assert code(post(wire, {**fields, "key": "k" * 851})) == (400, "KeyTooLong")
    assert code(post(wire, policy(wire))) == (400, "InvalidArgument")
    wire.versioning()
    assert post(wire, fields).headers["x-cos-version-id"]


KIND = "multipart/form-data; boundary=line"
FILE = part("file", b"x", "f")


@pytest.mark.parametrize(
    ("kind", "body", "wanted"),
    [
        ("text/plain", FILE + b"--line--\r\n", "MalformedPOSTRequest"),
        ("multipart/form-data", FILE + b"--line--\r\n", "MalformedPOSTRequest"),
        (KIND, b"nonsense", "MalformedPOSTRequest"),
        (KIND, part("key", "k") + FILE, "MalformedPOSTRequest"),
        (KIND, b"--line\r\n\r\nx\r\n--line--\r\n", "MalformedPOSTRequest"),
        (KIND, part("key", "k") + b"--line--\r\n", "IncorrectNumberOfFilesInPostRequest"),
        (KIND, part("key", "k") + FILE + FILE + b"--line--\r\n", "IncorrectNumberOfFilesInPostRequest"),
        (KIND, part("key", "k" * 2_000_000) + FILE + b"--line--\r\n", "MalformedPOSTRequest"),
        (KIND, part("key", b"\xff") + FILE + b"--line--\r\n", "InvalidURI"),
        (KIND, b"", "MalformedPOSTRequest"),
    ],
)
def test_malformed_forms(wire: Signed, kind: str, body: bytes, wanted: str) -> None:
    wire("PUT", "/?acl", x_cos_acl="public-read-write")
    assert code(wire("POST", "/", body, sign=False, Content_Type=kind)) == (400, wanted)
    assert wire("GET", "/").texts("Contents/Key") == []


def test_fields_after_the_file_are_not_looked_at(wire: Signed) -> None:
    wire("PUT", "/?acl", x_cos_acl="public-read-write")
    body = part("key", "k") + FILE + part("x-cos-meta-a", "1") + part("key", "other") + b"--line--\r\n"
    assert wire("POST", "/", body, sign=False, Content_Type=KIND).status == 204
    assert "x-cos-meta-a" not in wire("HEAD", "/k").headers


def test_a_large_file_stays_out_of_memory(wire: Signed) -> None:
    """Taken in by pieces, with a boundary-like line across many of them."""
    block = (b"\r\n--lin" + bytes(range(256))) * 4096
    fields = {**policy(wire), "key": "big"}
    fields_before = b"".join(part(name, value) for name, value in fields.items())
    start, end = part("file", b"", "f")[:-2], b"\r\n--line--\r\n"
    count = 64
    length = len(fields_before) + len(start) + count * len(block) + len(end)
    address = wire.emulator.endpoint_url.removeprefix("http://").split(":")
    with socket.create_connection((address[0], int(address[1])), timeout=60) as connection:
        connection.sendall(head(wire, length) + fields_before + start)
        before = memory()
        highest = before
        for _ in range(count):
            connection.sendall(block)
            highest = max(highest, memory())
        connection.sendall(end)
        answer = connection.recv(1000)
        assert answer.startswith(b"HTTP/1.1 204"), answer
    assert highest - before < 24 * 1024 * 1024
    digest = hashlib.md5()
    for _ in range(count):
        digest.update(block)
    assert wire("HEAD", "/big").headers["ETag"] == f'"{digest.hexdigest()}"'


def head(wire: Signed, length: int) -> bytes:
    lines = ("POST / HTTP/1.1", f"Host: {wire.host}", f"Content-Type: {KIND}", f"Content-Length: {length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def memory() -> int:
    """Return the resident memory of this process, which is also the server."""
    with open("/proc/self/statm") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * 4096


def test_a_refused_form_ends_early(wire: Signed) -> None:
    """The answer comes when the file begins, not when it has arrived."""
    body = part("key", "k") + part("policy", "?") + part("q-ak", "x") + part("file", b"", "f")
    address = wire.emulator.endpoint_url.removeprefix("http://").split(":")
    with socket.create_connection((address[0], int(address[1])), timeout=100) as connection:
        with contextlib.suppress(ConnectionError):  # it need not take the rest
            connection.sendall(head(wire, 99_999_999) + body + bytes(2_000_000))
        assert connection.recv(100).startswith(b"HTTP/1.1 403")


def test_the_limit_of_a_form_is_kept(wire: Signed, monkeypatch: pytest.MonkeyPatch) -> None:
    from cosfs.emulator.app import Application

    waited: list[float] = []

    async def pause(_application: Application, seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(Application, "pause", pause)
    fields = {**policy(wire), "key": "k", "x-cos-traffic-limit": "819200"}
    assert post(wire, fields, bytes(3_000_000)).status == 204
    assert max(waited) > 3


def test_the_sdk_reads_what_a_form_wrote(wire: Signed) -> None:
    """The Python SDK has no call for forms; its object URL and its reads must fit what a form made."""
    sdk = sdk_for(wire.emulator)
    post(wire, {**policy(wire), "key": "dir/${filename}"}, b"data", "x.txt")
    assert sdk.get_object(Bucket=wire.bucket, Key="dir/x.txt")["Body"].get_raw_stream().read() == b"data"


def test_a_form_of_an_s3_tool_is_stored_with_its_metadata(wire: Signed) -> None:
    emulator, now = wire.emulator, time.gmtime()
    scope = time.strftime("%Y%m%d/ap-guangzhou/s3/aws4_request", now)
    conditions = [{"bucket": wire.bucket}, {"x-amz-meta-a": "1"}]
    text = json.dumps({"expiration": "2100-01-01T00:00:00Z", "conditions": conditions})
    encoded = base64.b64encode(text.encode()).decode()
    key = b"AWS4" + emulator.secret_key.encode()
    for step in (*scope.split("/"), encoded):
        key = hmac.new(key, step.encode(), hashlib.sha256).digest()
    fields: Fields = {
        "key": "s3", "x-amz-meta-a": "1", "policy": encoded, "x-amz-algorithm": "AWS4-HMAC-SHA256",
        "x-amz-credential": f"{emulator.secret_id}/{scope}",
        "x-amz-date": time.strftime("%Y%m%dT%H%M%SZ", now), "x-amz-signature": key.hex(),
    }  # fmt: skip
    assert post(wire, fields).status == 204
    assert wire("HEAD", "/s3").headers["x-cos-meta-a"] == "1"
    assert post(wire, {**fields, "x-amz-meta-a": "2"}).code == (403, "AccessDenied")


def test_a_form_of_a_user_needs_the_right_to_write(wire: Signed) -> None:
    user = wire.emulator.add_user()
    fields: Fields = {"key": "users"}
    assert post(wire, {**fields, **policy(wire, by=user.credential)}).status == 403
    resource = f"qcs::cos:*:uid/1250000000:{wire.bucket}/users"
    allowed = {"effect": "allow", "action": "name/cos:PostObject", "resource": resource}
    wire.emulator.set_policies(user, [{"version": "2.0", "statement": [allowed]}])
    assert post(wire, {**fields, **policy(wire, by=user.credential)}).status == 204
    assert post(wire, {"key": "other", **policy(wire, by=user.credential)}).status == 403
    small = {**allowed, "condition": {"numeric_less_than_equal": {"cos:content_length": 5}}}
    wire.emulator.set_policies(user, [{"version": "2.0", "statement": [small]}])
    assert post(wire, {**fields, **policy(wire, by=user.credential)}, b"small").status == 204
    assert post(wire, {**fields, **policy(wire, by=user.credential)}, b"larger").status == 403
