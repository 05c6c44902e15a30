"""Signatures: vectors of the vendor's SDKs and documentation, variants that clients sign, refusals."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

import pytest

from cosfs.emulator.addressing import split_target
from cosfs.emulator.auth import Credential, Signed, authenticate, sign_key
from cosfs.emulator.errors import CosError
from tests.emulator.asking import (
    BUCKET,
    HOST,
    NOW,
    SECRET_ID,
    SECRET_KEY,
    Asker,
    authorization,
    code,
    texts,
    xml,
)  # fmt: skip

SDK_HOST = "examplebucket-1250000000.cos.ap-guangzhou.myqcloud.com"
LOCAL_HOST = "examplebucket-1250000000.localhost:9000"
DOC_HOST = "examplebucket-1250000000.cos.ap-beijing.myqcloud.com"
DOC_ID, DOC_KEY = "AKIDQjz3ltompVjBni5LitkWHFlFpwkn9U5q", "BQYIM75p8x0iWVFSIgqEKwFprpRSVHlz"
PUT_HEADERS = {
    "content-length": "5",
    "content-md5": "XUFAKrxLKna5cZ2REBfFkg==",
    "content-type": "text/plain",
    "x-cos-meta-mode": "33188",
}
TEXT = "/dir/%E4%B8%AD%20%E6%96%87.txt"
DATES = {"D1": "Thu, 16 May 2019 06:45:51 GMT", "D2": "Thu, 16 May 2019 06:55:53 GMT"}


@dataclass(frozen=True)
class Vector:
    """One published request with its signature; parameters are the signed ones, as encoded on the wire."""

    method: str
    target: str
    host: str
    times: str
    signature: str
    headers: Mapping[str, str] = field(default_factory=dict)
    parameters: str = ""
    signed_host: bool = True
    secret: tuple[str, str] = (SECRET_ID, SECRET_KEY)

    def fields(self) -> str:
        names = sorted([*self.headers, *(["host"] if self.signed_host else [])])
        return (
            f"q-sign-algorithm=sha1&q-ak={self.secret[0]}&q-sign-time={self.times}&q-key-time={self.times}"
            f"&q-header-list={';'.join(names)}&q-url-param-list={self.parameters}&q-signature={self.signature}"
        )


LIST = "/?prefix=dir%2F%E4%B8%AD+&delimiter=%2F&marker=&max-keys=100&encoding-type=url"
VECTORS = {
    "V1 python put": Vector(
        "PUT", "/dir/%E4%B8%AD%20%E6%96%87%2Ba%26b.txt", SDK_HOST, "1700000000;1700010060",
        "eb4d9a35b7f93f56d26fbc8cb9c6ae77f044839c", PUT_HEADERS,
    ),
    "V2 python list": Vector(
        "GET", LIST, SDK_HOST, "1700000000;1700010060", "7f30ff54d2b6537c71111149df9a93a2fac98659",
        parameters="delimiter;encoding-type;marker;max-keys;prefix",
    ),
    "V3 python head": Vector(
        "HEAD", "/a", SDK_HOST, "1700000000;1700010060", "589ee19be977ca184c0ee925e2ea73241c19971a",
        {"x-cos-security-token": "TOKENvalue=="},
    ),
    "V4 python presign": Vector(
        "GET", TEXT + "?response-content-type=text%2Fplain", SDK_HOST, "1700000000;1700000660",
        "6b98a7149d6d95df7c6426b8bb69e44a011da249", parameters="response-content-type",
    ),
    "V5 python presign without host": Vector(
        "PUT", "/a.txt", SDK_HOST, "1700000000;1700000660", "9854261fdd0f591b516f46c5e171a617243b0141",
        signed_host=False,
    ),
    "V6 node put": Vector(
        "PUT", "/dir/%E4%B8%AD%20%E6%96%87%2Ba%26b.txt", LOCAL_HOST, "1699999999;1700000899",
        "aff74d5bcc2aeabe7a8daded176d713e07029808", PUT_HEADERS,
    ),
    "V7 go put": Vector(
        "PUT", "/dir%2F%E4%B8%AD%20%E6%96%87%2Ba%26b.txt", LOCAL_HOST, "1700000000;1700003600",
        "11798dbe39f438eb4db406f94f087d6993c958f4", PUT_HEADERS,
    ),
    "V8 go presign": Vector(
        "GET", TEXT + "?response-content-type=text%2Fplain", SDK_HOST, "1700000000;1700003600",
        "2d9efed81be1d7133a8aa6d82d0e84fef60860c1", parameters="response-content-type",
    ),
    "D1 documentation put": Vector(
        "PUT", "/exampleobject(%E8%85%BE%E8%AE%AF%E4%BA%91)", DOC_HOST, "1557989151;1557996351",
        "3b8851a11a569213c17ba8fa7dcf2abec6935172",
        {
            "content-length": "13", "content-md5": "mQ/fVh815F3k6TAUm8m0eg==", "content-type": "text/plain",
            "date": DATES["D1"], "x-cos-acl": "private", "x-cos-grant-read": 'uin="100000000011"',
        },
        secret=(DOC_ID, DOC_KEY),
    ),
    "D2 documentation get": Vector(
        "GET",
        "/exampleobject(%E8%85%BE%E8%AE%AF%E4%BA%91)?response-content-type=application%2Foctet-stream"
        "&response-cache-control=max-age%3D600",
        DOC_HOST, "1557989753;1557996953", "01681b8c9d798a678e43b685a9f1bba0f6c0e012", {"date": DATES["D2"]},
        "response-cache-control;response-content-type", secret=(DOC_ID, DOC_KEY),
    ),
}  # fmt: skip


def check(vector: Vector, target: str, headers: Mapping[str, str]) -> str:
    parsed = split_target(target.encode())
    token = headers.get("x-cos-security-token", "")
    credential = Credential(*vector.secret, token)
    request = Signed(vector.method, parsed, {**headers, "host": vector.host}, False, parsed.parameters())
    start = int(vector.times.partition(";")[0])
    return authenticate(request, {vector.secret[0]: credential}.get, start + 30).secret_id


@pytest.mark.parametrize("name", VECTORS)
def test_published_signature_is_accepted_in_the_header(name: str) -> None:
    vector = VECTORS[name]
    headers = {**vector.headers, "authorization": vector.fields()}
    assert check(vector, vector.target, headers) == vector.secret[0]


@pytest.mark.parametrize("name", VECTORS)
def test_published_signature_is_accepted_in_the_query(name: str) -> None:
    vector = VECTORS[name]
    join = "&" if "?" in vector.target else "?"
    split = "&".join(f"{k}={quote(v)}" for k, v in (f.split("=", 1) for f in vector.fields().split("&")))
    assert check(vector, vector.target + join + split, vector.headers) == vector.secret[0]
    merged = f"sign={quote(vector.fields(), safe='')}"
    assert check(vector, vector.target + join + merged, vector.headers) == vector.secret[0]


@pytest.mark.parametrize("name", VECTORS)
def test_changed_requests_are_refused(name: str) -> None:
    vector = VECTORS[name]
    headers = {**vector.headers, "authorization": vector.fields()}
    path, mark, query = vector.target.partition("?")
    with pytest.raises(CosError, match="SignatureDoesNotMatch"):
        check(vector, path + "x" + mark + query, headers)
    for header in vector.headers:
        if header == "date":
            continue
        with pytest.raises(CosError, match="SignatureDoesNotMatch"):
            check(vector, vector.target, {n: v for n, v in headers.items() if n != header})


# SignKey and SHA-1 of the HttpString of each vector, as published.
STEPS = {
    "V1": ("64c17db0b48a3c89adb8b51edfb27f8101b7b23e", "16b1ab0fc9e718e3040b1737915bd716c4ddde85"),
    "V2": ("64c17db0b48a3c89adb8b51edfb27f8101b7b23e", "41dd873132b28774bb985799f668410beddeaec0"),
    "V3": ("64c17db0b48a3c89adb8b51edfb27f8101b7b23e", "9fa4d7bbe82fd41de47bc94cd766d026e76b59ae"),
    "V4": ("91de75cd836bbf63fb65b0f9a61922ee8c4b171f", "2c761ef6f71e277c4d5d23b30351eedbb1197c41"),
    "V5": ("91de75cd836bbf63fb65b0f9a61922ee8c4b171f", "697f4ab058531ec82e3709e2718bf5e280cfc8b9"),
    "V6": ("2d83b0008ca88d9ac611b019c22d9d0150ec064d", "ce774040afe17a9081b1a4b111e87d15607571ee"),
    "V7": ("e9c5d68b73e44fca2d3c9c5fcb87e169f3da7b9b", "ce774040afe17a9081b1a4b111e87d15607571ee"),
    "V8": ("e9c5d68b73e44fca2d3c9c5fcb87e169f3da7b9b", "2c761ef6f71e277c4d5d23b30351eedbb1197c41"),
    "D1": ("eb2519b498b02ac213cb1f3d1a3d27a3b3c9bc5f", "8b2751e77f43a0995d6e9eb9477f4b685cca4172"),
    "D2": ("937914bf490e9e8c189836aad2052e4feeb35eaf", "54ecfe22f59d3514fdc764b87a32d8133ea611e6"),
}


@pytest.mark.parametrize("name", VECTORS)
def test_the_steps_to_a_signature_are_the_published_ones(name: str) -> None:
    vector = VECTORS[name]
    key, digest = STEPS[name[:2]]
    assert sign_key(vector.secret[1], vector.times) == key
    wrong = vector.fields().replace(vector.signature, "0" * 40)
    with pytest.raises(CosError) as caught:
        check(vector, vector.target, {**vector.headers, "authorization": wrong})
    nodes = caught.value.nodes
    assert nodes["StringToSign"] == f"sha1\n{vector.times}\n{digest}\n"
    assert hashlib.sha1(nodes["FormatString"].encode()).hexdigest() == digest


def signed_by_hand(sign_time: str, key_time: str, names: str, canonical_headers: str) -> str:
    """Write an Authorization for GET / with fields that no client would choose."""
    sign_key = hmac.new(SECRET_KEY.encode(), key_time.encode(), hashlib.sha1).hexdigest()
    digest = hashlib.sha1(f"get\n/\n\n{canonical_headers}\n".encode()).hexdigest()
    signature = hmac.new(sign_key.encode(), f"sha1\n{sign_time}\n{digest}\n".encode(), hashlib.sha1)
    return (
        f"q-sign-algorithm=sha1&q-ak={SECRET_ID}&q-sign-time={sign_time}&q-key-time={key_time}"
        f"&q-header-list={names}&q-url-param-list=&q-signature={signature.hexdigest()}"
    )


def test_every_field_of_a_signature_counts(ask: Asker) -> None:
    now = int(NOW)
    day, minute = f"{now - 9};{now + 86400}", f"{now - 1};{now + 60}"

    def sent(text: str, **headers: str) -> int:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return ask.raw("GET", "/", {"host": HOST, "authorization": text, **given}).status

    good = signed_by_hand(minute, day, "host", f"host={HOST}")  # a key of the day signs for a minute
    assert sent(good) == 200
    assert sent(good[:-1] + ("0" if good[-1] != "0" else "1")) == 403
    assert sent(good.replace(f"q-key-time={day}", f"q-key-time={minute}")) == 403
    assert sent(signed_by_hand(minute, f"{now - 9};{now - 1}", "host", f"host={HOST}")) == 403
    empty = signed_by_hand(minute, day, "host;x-cos-meta-a", f"host={HOST}&x-cos-meta-a=")
    assert sent(empty, x_cos_meta_a="") == 200
    assert sent(empty) == 403


def test_a_wrong_signature_shows_what_the_server_has_computed(ask: Asker) -> None:
    signed = authorization("GET", "/a b<&", HOST, int(NOW) - 1, int(NOW) + 60, "wrong")
    answer = ask.raw("GET", "/a%20b%3C%26", {"host": HOST, "authorization": signed})
    names = [node.tag for node in xml(answer)]
    assert names == [
        *("Code", "Message", "StringToSign", "FormatString", "Resource", "RequestId", "TraceId"),
    ]
    assert texts(answer, "Message") == ["The Signature you specified is invalid."]
    assert texts(answer, "FormatString")[0] == f"get\n/a b<&\n\nhost={HOST}\n"


def send(ask: Asker, target: str, host: str, signed_host: str, signed_path: str) -> int:
    signed = authorization("GET", signed_path, signed_host, int(NOW) - 1, int(NOW) + 60)
    return ask.raw("GET", target, {"host": host, "authorization": signed}).status


def test_host_is_taken_with_and_without_its_port(ask: Asker) -> None:
    host = f"{BUCKET}.localhost"
    assert send(ask, "/", f"{host}:9000", f"{host}:9000", "/") == 200
    assert send(ask, "/", f"{host}:9000", host, "/") == 200
    assert send(ask, "/", f"{host}:9000", "other", "/") == 403


def test_path_style_is_taken_with_and_without_the_bucket(ask: Asker) -> None:
    host = "127.0.0.1:9000"
    ask("PUT", "/k", b"x")
    for bucket in (BUCKET, "bucket"):
        assert send(ask, f"/{bucket}/k", host, host, f"/{bucket}/k") == 200
        assert send(ask, f"/{bucket}/k", host, host, "/k") == 200
        assert send(ask, f"/{bucket}", host, host, "/") == 200
    assert send(ask, "/k", HOST, HOST, "/") == 403


def test_absolute_form_is_taken_like_a_proxy_would(ask: Asker) -> None:
    ask("PUT", "/a//b", b"x")
    assert send(ask, f"http://{HOST}/a//b", HOST, HOST, "/a//b") == 200
    assert send(ask, f"http://{HOST}/a//b", "127.0.0.1:9", HOST, "/a//b") == 200


def test_failures_have_the_codes_clients_look_for(ask: Asker) -> None:
    def sent(authorization_text: str, **headers: str) -> tuple[int, str, str]:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        response = ask.raw("GET", "/", {"host": HOST, "authorization": authorization_text, **given})
        return (*code(response), response.body.decode())

    now = int(NOW)
    good = authorization("GET", "/", HOST, now - 1, now + 60)
    assert sent("")[:2] == (403, "AccessDenied")
    assert sent("Basic xyz")[:2] == (403, "AccessDenied")
    assert sent(good.replace("AKID", "OTHER"))[:2] == (403, "InvalidAccessKeyId")
    wrong = sent(authorization("GET", "/", HOST, now - 1, now + 60, "wrong"))
    assert wrong[:2] == (403, "SignatureDoesNotMatch")
    assert "<StringToSign>sha1" in wrong[2]
    assert "<FormatString>get" in wrong[2]
    for start, end in ((now - 60, now - 1), (now + 10, now + 60)):
        expired = sent(authorization("GET", "/", HOST, start, end))
        assert expired[:2] == (403, "AccessDenied")
        assert "<Message>Request has expired</Message>" in expired[2]
    in_time = {"host": HOST, "authorization": good, "date": "Tue, 14 Nov 2023 22:27:00 GMT"}
    assert ask.raw("GET", "/", in_time).status == 200
    assert sent(good, date="Tue, 14 Nov 2023 22:29:00 GMT")[:2] == (403, "RequestTimeTooSkewed")


def test_temporary_keys_need_their_token_and_end(ask: Asker) -> None:
    ask.store.add_credential(Credential(SECRET_ID, SECRET_KEY, "token", NOW + 100))
    assert ask("GET", "/", x_cos_security_token="token").status == 200
    assert code(ask("GET", "/")) == (403, "InvalidAccessKeyId")
    assert code(ask("GET", "/", x_cos_security_token="other")) == (403, "InvalidAccessKeyId")
    signed = authorization("GET", "/", HOST, int(NOW), int(NOW) + 60)
    query = "&".join(f"{k}={quote(v)}" for k, v in (f.split("=", 1) for f in signed.split("&")))
    assert ask.raw("GET", f"/?{query}&x-cos-security-token=token", {"host": HOST}).status == 200
    ask.now += 101
    assert code(ask("GET", "/", x_cos_security_token="token")) == (400, "ExpiredToken")


def test_anonymous_requests_see_what_is_public(ask: Asker) -> None:
    def anonymous(method: str, target: str) -> int:
        return ask.raw(method, target, {"host": HOST, "authorization": ""}, b"x").status

    ask("PUT", "/private", b"x")
    ask("PUT", "/public", b"x", x_cos_acl="public-read")
    assert anonymous("GET", "/private") == 403
    assert anonymous("GET", "/public") == 200
    assert anonymous("GET", "/public?response-content-type=a%2Fb") == 400
    assert anonymous("GET", "/") == 403
    ask("PUT", "/?acl", x_cos_acl="public-read")
    assert anonymous("GET", "/private") == 200
    assert anonymous("GET", "/") == 200
    assert anonymous("PUT", "/new") == 403
    ask("PUT", "/?acl", x_cos_acl="public-read-write")
    assert anonymous("PUT", "/new") == 200
    assert anonymous("GET", "/?acl") == 403
