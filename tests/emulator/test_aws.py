"""Amazon's signatures: the chunk example of its documentation, requests signed by a few lines of our own."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Mapping
from urllib.parse import quote

import pytest

from cosfs.emulator.auth import Credential
from cosfs.emulator.aws import signing_key
from cosfs.emulator.aws_chunked import ChunkDecoder
from cosfs.emulator.errors import CosError
from cosfs.emulator.values import Response
from tests.emulator.asking import BUCKET, HOST, SECRET_ID, SECRET_KEY, Asker, code, texts

LOCAL = "127.0.0.1:9000"
UNSIGNED = "UNSIGNED-PAYLOAD"


def stamp(ask: Asker) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(ask.now))


def sign(
    ask: Asker, method: str, target: str, headers: Mapping[str, str], payload: str, key: str = SECRET_KEY
) -> str:
    """Return the version 4 signature of a request whose path and query are encoded canonically."""
    path, _, query = target.partition("?")
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    pairs = sorted(item.partition("=")[::2] for item in query.split("&") if item)
    canonical_query = "&".join("=".join(pair) for pair in pairs)
    canonical = f"{method}\n{path}\n{canonical_query}\n{lines}\n{names}\n{payload}"
    scope = f"{stamp(ask)[:8]}/ap-guangzhou/s3/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{stamp(ask)}\n{scope}\n{digest}"
    derived = b"AWS4" + key.encode()
    for part in scope.split("/"):
        derived = hmac.new(derived, part.encode(), hashlib.sha256).digest()
    return hmac.new(derived, text.encode(), hashlib.sha256).hexdigest()


def aws(
    ask: Asker, method: str, target: str, body: bytes = b"", key: str = SECRET_KEY, **more: str
) -> Response:
    """Send a request signed with version 4 in the header."""
    payload = more.pop("payload", "") or hashlib.sha256(body).hexdigest()
    headers = {"host": LOCAL, "x-amz-date": stamp(ask), "x-amz-content-sha256": payload}
    headers |= {name.replace("_", "-"): value for name, value in more.items()}
    signature = sign(ask, method, target, headers, payload, key)
    scope = f"{SECRET_ID}/{stamp(ask)[:8]}/ap-guangzhou/s3/aws4_request"
    names = ";".join(sorted(headers))
    text = f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders={names}, Signature={signature}"
    return ask.raw(method, target, {**headers, "authorization": text}, body)


def test_amazon_names_become_cos_names_and_back(ask: Asker) -> None:
    written = aws(
        ask, "PUT", f"/{BUCKET}/a%20b", b"hello", x_amz_meta_a="1", x_amz_storage_class="STANDARD_IA"
    )
    assert written.status == 200
    assert "x-amz-request-id" in written.headers
    head = aws(ask, "HEAD", f"/{BUCKET}/a%20b").headers
    assert (head["x-amz-meta-a"], head["x-amz-storage-class"]) == ("1", "STANDARD_IA")
    assert not any(name.startswith("x-cos-") for name in head)
    copied = aws(
        ask, "PUT", "/bucket/copy", x_amz_copy_source=f"/{BUCKET}/a%20b", x_amz_metadata_directive="REPLACE"
    )
    assert copied.status == 200
    assert ask.get("copy") == b"hello"
    assert "x-cos-meta-a" not in ask("HEAD", "/copy").headers


def test_parameters_are_signed_in_the_order_of_their_names(ask: Asker) -> None:
    assert aws(ask, "GET", f"/{BUCKET}?location-x=2&location").status == 200  # though - sorts before =


def test_the_body_must_be_what_was_signed(ask: Asker) -> None:
    wrong = hashlib.sha256(b"other").hexdigest()
    assert code(aws(ask, "PUT", f"/{BUCKET}/k", b"hello", payload=wrong)) == (
        400,
        "XAmzContentSHA256Mismatch",
    )
    assert aws(ask, "PUT", f"/{BUCKET}/k", b"hello", payload=UNSIGNED).status == 200


def test_refusals(ask: Asker) -> None:
    assert code(aws(ask, "GET", f"/{BUCKET}", key="wrong")) == (403, "SignatureDoesNotMatch")
    late = {"host": LOCAL, "authorization": "AWS4-HMAC-SHA256 nonsense"}
    assert code(ask.raw("GET", "/", late)) == (403, "AccessDenied")
    good = aws(ask, "GET", f"/{BUCKET}")
    assert good.status == 200
    before = stamp(ask)
    ask.now += 1000
    signed = {"host": LOCAL, "x-amz-date": before, "x-amz-content-sha256": UNSIGNED}
    scope = f"{SECRET_ID}/{before[:8]}/ap-guangzhou/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"
    assert code(ask.raw("GET", "/", {**signed, "authorization": text})) == (403, "RequestTimeTooSkewed")


def test_presigned_urls_work_until_they_expire(ask: Asker) -> None:
    ask("PUT", "/k", b"hello")
    credential = quote(f"{SECRET_ID}/{stamp(ask)[:8]}/ap-guangzhou/s3/aws4_request", safe="")
    target = (
        f"/{BUCKET}/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={credential}"
        f"&X-Amz-Date={stamp(ask)}&X-Amz-Expires=60&X-Amz-SignedHeaders=host"
    )
    target += "&X-Amz-Signature=" + sign(ask, "GET", target, {"host": LOCAL}, UNSIGNED)
    assert ask.raw("GET", target, {"host": LOCAL}).status == 200
    assert code(ask.raw("GET", target.replace("/k?", "/l?"), {"host": LOCAL})) == (
        403,
        "SignatureDoesNotMatch",
    )
    ask.now += 61
    assert code(ask.raw("GET", target, {"host": LOCAL})) == (403, "AccessDenied")


@pytest.mark.parametrize("host", [HOST, LOCAL])
def test_version_two(ask: Asker, host: str) -> None:
    path = "/k" if host == HOST else f"/{BUCKET}/k"
    date = "Tue, 14 Nov 2023 22:13:20 GMT"
    headers = {"host": host, "date": date, "content-type": "a/b", "x-amz-meta-a": "1"}
    text = f"PUT\n\na/b\n{date}\nx-amz-meta-a:1\n/{BUCKET}/k?tagging"
    signature = base64.b64encode(hmac.new(SECRET_KEY.encode(), text.encode(), hashlib.sha1).digest()).decode()
    ask("PUT", "/k", b"x")
    body = b"<Tagging><TagSet/></Tagging>"
    headers["authorization"] = f"AWS {SECRET_ID}:{signature}"
    assert ask.raw("PUT", f"{path}?tagging", headers, body).status == 200
    assert code(ask.raw("PUT", f"{path}?acl", headers, body)) == (403, "SignatureDoesNotMatch")


# aws-chunked


DOCUMENTED = (
    ("10000", "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648", b"a" * 65536),
    ("400", "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497", b"a" * 1024),
    ("0", "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9", b""),
)


def decoder() -> ChunkDecoder:
    scope = "20130524/us-east-1/s3/aws4_request"
    key = signing_key("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", scope)
    seed = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
    return ChunkDecoder(key, "20130524T000000Z", scope, seed)


def framed() -> bytes:
    return b"".join(
        f"{size};chunk-signature={signature}\r\n".encode() + data + b"\r\n"
        for size, signature, data in DOCUMENTED
    )


@pytest.mark.parametrize("step", [1, 7, 1000, 100_000])
def test_chunks_of_the_documentation_are_unwrapped(step: int) -> None:
    chunks, wire = decoder(), framed()
    data = b"".join(chunks.feed(wire[start : start + step]) for start in range(0, len(wire), step))
    assert data == b"a" * 66560
    assert chunks.finished


def test_a_changed_chunk_is_refused() -> None:
    wire = framed().replace(b"aaa\r\n400", b"aab\r\n400")
    with pytest.raises(CosError, match="SignatureDoesNotMatch"):
        decoder().feed(wire)
    with pytest.raises(CosError, match="InvalidRequest"):
        decoder().feed(b"nonsense\r\n")


@pytest.mark.parametrize("wire", [b"-1\r\n", b"0x5\r\nhello\r\n", b"5\r\nhelloXY", b"_5\r\n", b"5" * 9000])
def test_malformed_chunks_are_refused(wire: bytes) -> None:
    chunks = ChunkDecoder(b"", "", "", "", "")
    with pytest.raises(CosError, match="InvalidRequest"):
        chunks.feed(wire)


def test_unsigned_chunks_with_a_trailer_are_unwrapped(ask: Asker) -> None:
    wire = b"5\r\nhello\r\n6\r\n world\r\n0\r\nx-amz-checksum-crc32:DUoRhQ==\r\n\r\n"
    headers = {
        "payload": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "x_amz_decoded_content_length": "11",
        "x_amz_trailer": "x-amz-checksum-crc32",
        "content_encoding": "aws-chunked",
    }
    assert aws(ask, "PUT", f"/{BUCKET}/k", wire, **headers).status == 200
    assert ask.get("k") == b"hello world"
    assert "Content-Encoding" not in ask("HEAD", "/k").headers
    assert code(aws(ask, "PUT", f"/{BUCKET}/k", wire[:-20], **headers)) == (400, "IncompleteBody")
    for damaged in (wire.replace(b"hello", b"hellO"), wire.replace(b"DUo", b"DUp")):
        assert code(aws(ask, "PUT", f"/{BUCKET}/k", damaged, **headers)) == (400, "BadDigest")
    for name, value in (("crc32c", "any"), ("sha1", "Kq5sNclPz7QV2+lfQIuc6R7oRu0=")):
        other = wire.replace(b"crc32:DUoRhQ==", f"{name}:{value}".encode())
        headers["x_amz_trailer"] = f"x-amz-checksum-{name}"
        assert aws(ask, "PUT", f"/{BUCKET}/k", other, **headers).status == 200
    headers["payload"] = "STREAMING-OTHER"
    assert code(aws(ask, "PUT", f"/{BUCKET}/k", wire, **headers)) == (400, "InvalidRequest")


def signed_with_trailer(ask: Asker, seed: str, trailer: bytes) -> bytes:
    """Frame `hello` as one signed chunk and sign the trailer, step by step as the documentation says."""
    scope = f"{stamp(ask)[:8]}/ap-guangzhou/s3/aws4_request"
    key, empty = signing_key(SECRET_KEY, scope), hashlib.sha256(b"").hexdigest()
    previous, wire = seed, b""

    def next_signature(kind: str, hashes: str) -> str:
        text = f"AWS4-HMAC-SHA256-{kind}\n{stamp(ask)}\n{scope}\n{previous}\n{hashes}"
        return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()

    for chunk in (b"hello", b""):
        previous = next_signature("PAYLOAD", f"{empty}\n{hashlib.sha256(chunk).hexdigest()}")
        wire += (
            f"{len(chunk):x};chunk-signature={previous}\r\n".encode() + chunk + (b"\r\n" if chunk else b"")
        )
    previous = next_signature("TRAILER", hashlib.sha256(trailer + b"\n").hexdigest())
    return wire + trailer + f"\r\nx-amz-trailer-signature:{previous}\r\n\r\n".encode()


def test_signed_chunks_need_a_signed_trailer(ask: Asker) -> None:
    payload = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
    headers = {
        "host": LOCAL,
        "x-amz-date": stamp(ask),
        "x-amz-content-sha256": payload,
        "x-amz-decoded-content-length": "5",
        "x-amz-trailer": "x-amz-checksum-crc32",
    }
    target = f"/{BUCKET}/k"
    seed = sign(ask, "PUT", target, headers, payload)
    scope = f"{SECRET_ID}/{stamp(ask)[:8]}/ap-guangzhou/s3/aws4_request"
    names = ";".join(sorted(headers))
    text = f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders={names}, Signature={seed}"
    given = {**headers, "authorization": text}
    good = signed_with_trailer(ask, seed, b"x-amz-checksum-crc32:NhCmhg==")
    assert ask.raw("PUT", target, given, good).status == 200
    assert ask.get("k") == b"hello"
    unsigned = good[: good.index(b"x-amz-trailer-signature")] + b"\r\n"
    for wire in (unsigned, good.replace(b"NhC", b"NhD")):
        assert code(ask.raw("PUT", target, given, wire)) == (403, "SignatureDoesNotMatch")
    wrong = signed_with_trailer(ask, seed, b"x-amz-checksum-crc32:AAAAAA==")
    assert code(ask.raw("PUT", target, given, wrong)) == (400, "BadDigest")


def test_presigned_urls_are_limited_to_a_week(ask: Asker) -> None:
    credential = quote(f"{SECRET_ID}/{stamp(ask)[:8]}/ap-guangzhou/s3/aws4_request", safe="")
    for expires, status in ((604_800, 200), (604_801, 403), (0, 403)):
        target = (
            f"/{BUCKET}?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={credential}"
            f"&X-Amz-Date={stamp(ask)}&X-Amz-Expires={expires}&X-Amz-SignedHeaders=host"
        )
        target += "&X-Amz-Signature=" + sign(ask, "GET", target, {"host": LOCAL}, UNSIGNED)
        assert ask.raw("GET", target, {"host": LOCAL}).status == status


def test_presigned_urls_of_version_two(ask: Asker) -> None:
    ask("PUT", "/k", b"hello")
    ask.store.add_credential(Credential(SECRET_ID, SECRET_KEY, "a/token", ask.now + 1000))

    def url(expires: int, token: str = "a/token") -> str:
        text = f"GET\n\ntext/plain\n{expires}\nx-amz-security-token:{token}\n/{BUCKET}/k"
        mac = hmac.new(SECRET_KEY.encode(), text.encode(), hashlib.sha1).digest()
        signature = quote(base64.b64encode(mac).decode(), safe="")
        return (
            f"/{BUCKET}/k?AWSAccessKeyId={SECRET_ID}&Signature={signature}&Expires={expires}"
            f"&content-type=text%2Fplain&x-amz-security-token={quote(token, safe='')}"
        )

    now = int(ask.now)
    assert ask.raw("GET", url(now + 60), {"host": LOCAL}).status == 200
    assert code(ask.raw("GET", url(now - 1), {"host": LOCAL})) == (403, "AccessDenied")
    assert code(ask.raw("GET", url(now + 60, "other"), {"host": LOCAL})) == (403, "InvalidAccessKeyId")
    changed = url(now + 60).replace("plain", "html")
    assert code(ask.raw("GET", changed, {"host": LOCAL})) == (403, "SignatureDoesNotMatch")


def test_version_two_needs_a_date(ask: Asker) -> None:
    headers = {"host": LOCAL, "authorization": f"AWS {SECRET_ID}:AAAA"}
    assert code(ask.raw("GET", f"/{BUCKET}", headers)) == (403, "AccessDenied")


def test_multi_delete_needs_no_md5_from_s3_tools(ask: Asker) -> None:
    ask("PUT", "/k", b"x")
    body = b"<Delete><Object><Key>k</Key></Object></Delete>"
    assert texts(aws(ask, "POST", f"/{BUCKET}?delete", body), "Deleted/Key") == ["k"]
