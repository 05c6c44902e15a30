"""The signature against vectors of Tencent's own SDKs (V) and documentation (D)."""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import parse_qsl, urlsplit

import pytest

from cosfs.client.auth import Credentials, encode, encode_query, presign, sign

KEY = Credentials("AKIDEXAMPLE0000000000000000000000000", "ExampleSecretKey0123456789abcdef")
DOC_KEY = Credentials("AKIDQjz3ltompVjBni5LitkWHFlFpwkn9U5q", "BQYIM75p8x0iWVFSIgqEKwFprpRSVHlz")
HOST = "examplebucket-1250000000.cos.ap-guangzhou.myqcloud.com"
LOCAL = "examplebucket-1250000000.localhost:9000"
PUT_PATH = "/dir/中 文+a&b.txt"


def put_headers(host: str) -> dict[str, str]:
    return {
        "content-length": "5",
        "content-md5": "XUFAKrxLKna5cZ2REBfFkg==",
        "content-type": "text/plain",
        "host": host,
        "x-cos-meta-mode": "33188",
    }


LIST_PARAMS = {
    "prefix": "dir/中 ",
    "delimiter": "/",
    "marker": "",
    "max-keys": "100",
    "encoding-type": "url",
}
DOC_HOST = "examplebucket-1250000000.cos.ap-beijing.myqcloud.com"
DOC_PUT = {
    "Content-Length": "13",
    "Content-MD5": "mQ/fVh815F3k6TAUm8m0eg==",
    "Content-Type": "text/plain",
    "Date": "Thu, 16 May 2019 06:45:51 GMT",
    "Host": DOC_HOST,
    "x-cos-acl": "private",
    "x-cos-grant-read": 'uin="100000000011"',
}
DOC_GET = {"Date": "Thu, 16 May 2019 06:55:53 GMT", "Host": DOC_HOST}
DOC_PARAMS = {
    "response-content-type": "application/octet-stream",
    "response-cache-control": "max-age=600",
}

VECTORS = {
    "V1 Python put_object": (
        KEY,
        ("put", PUT_PATH, {}, put_headers(HOST)),
        (1700000000, 1700010060),
        "eb4d9a35b7f93f56d26fbc8cb9c6ae77f044839c",
    ),
    "V2 Python list_objects": (
        KEY,
        ("GET", "/", LIST_PARAMS, {"host": HOST}),
        (1700000000, 1700010060),
        "7f30ff54d2b6537c71111149df9a93a2fac98659",
    ),
    "V3 Python head_object with token": (
        KEY,
        ("HEAD", "/a", {}, {"host": HOST, "x-cos-security-token": "TOKENvalue=="}),
        (1700000000, 1700010060),
        "589ee19be977ca184c0ee925e2ea73241c19971a",
    ),
    "V4 Python presign GET": (
        KEY,
        ("GET", "/dir/中 文.txt", {"response-content-type": "text/plain"}, {"host": HOST}),
        (1700000000, 1700000660),
        "6b98a7149d6d95df7c6426b8bb69e44a011da249",
    ),
    "V5 Python presign PUT without host": (
        KEY,
        ("PUT", "/a.txt", {}, {}),
        (1700000000, 1700000660),
        "9854261fdd0f591b516f46c5e171a617243b0141",
    ),
    "V6 Node getAuth": (
        KEY,
        ("PUT", PUT_PATH, {}, put_headers(LOCAL)),
        (1699999999, 1700000899),
        "aff74d5bcc2aeabe7a8daded176d713e07029808",
    ),
    "V7 Go AddAuthorizationHeader": (
        KEY,
        ("PUT", PUT_PATH, {}, put_headers(LOCAL)),
        (1700000000, 1700003600),
        "11798dbe39f438eb4db406f94f087d6993c958f4",
    ),
    "V8 Go GetPresignedURL": (
        KEY,
        ("GET", "/dir/中 文.txt", {"response-content-type": "text/plain"}, {"host": HOST}),
        (1700000000, 1700003600),
        "2d9efed81be1d7133a8aa6d82d0e84fef60860c1",
    ),
    "D1 documented PUT": (
        DOC_KEY,
        ("PUT", "/exampleobject(腾讯云)", {}, DOC_PUT),
        (1557989151, 1557996351),
        "3b8851a11a569213c17ba8fa7dcf2abec6935172",
    ),
    "D2 documented GET": (
        DOC_KEY,
        ("GET", "/exampleobject(腾讯云)", DOC_PARAMS, DOC_GET),
        (1557989753, 1557996953),
        "01681b8c9d798a678e43b685a9f1bba0f6c0e012",
    ),
}


@pytest.mark.parametrize("name", VECTORS)
def test_signature_is_that_of_the_vector(name: str) -> None:
    credentials, (method, path, params, headers), (start, end), signature = VECTORS[name]
    text = sign(method, path, params, headers, credentials, start, end)
    fields = dict(field.split("=", 1) for field in text.split("&"))
    assert fields["q-signature"] == signature
    assert fields["q-ak"] == credentials.secret_id
    assert fields["q-sign-time"] == fields["q-key-time"] == f"{start};{end}"
    assert fields["q-header-list"] == ";".join(sorted(name.lower() for name in headers))
    assert fields["q-url-param-list"] == ";".join(sorted(params))


def test_policy_vector_d3_uses_the_same_key_derivation() -> None:
    sign_key = hmac.digest(DOC_KEY.secret_key.encode(), b"1567150692;1567157892", "sha1").hex()
    assert sign_key == "39acc8c9f34ba5b19bce4e965b370cd3f62d2fba"
    to_sign = b"d5d903b8360468bc81c1311f134989bc8c8b5b89"
    assert (
        hmac.new(sign_key.encode(), to_sign, hashlib.sha1).hexdigest()
        == "7758dc9a832e9d301dca704cacbf9d9f8172fdef"
    )


def test_presigned_query_is_that_of_the_python_sdk() -> None:
    query = presign(
        "GET",
        "/dir/中 文.txt",
        {"response-content-type": "text/plain"},
        {"host": HOST},
        KEY,
        1700000000,
        1700000660,
    )
    assert query == (
        "q-sign-algorithm=sha1&q-ak=AKIDEXAMPLE0000000000000000000000000"
        "&q-sign-time=1700000000%3B1700000660&q-key-time=1700000000%3B1700000660"
        "&q-header-list=host&q-url-param-list=response-content-type"
        "&q-signature=6b98a7149d6d95df7c6426b8bb69e44a011da249&response-content-type=text%2Fplain"
    )


def test_presigned_query_carries_and_signs_the_token() -> None:
    temporary = Credentials("AKIDtemporary", "secret", "TOKEN/value==")
    query = presign("GET", "/a", {}, {"host": HOST}, temporary, 1, 2)
    fields = dict(parse_qsl(urlsplit(f"http://x/?{query}").query))
    assert fields["x-cos-security-token"] == "TOKEN/value=="
    assert fields["q-url-param-list"] == "x-cos-security-token"


def test_encode_leaves_unreserved_characters_only() -> None:
    assert encode("aZ9-_.~") == "aZ9-_.~"
    assert encode("/ +&=中\x01") == "%2F%20%2B%26%3D%E4%B8%AD%01"


def test_encode_query_writes_subresources_without_equals_sign() -> None:
    assert encode_query({"uploads": "", "prefix": "a b/"}) == "uploads&prefix=a%20b%2F"


def test_credentials_do_not_show_secrets() -> None:
    shown = repr(Credentials("AKIDvisible", "hidden-key", "hidden-token"))
    assert "AKIDvisible" in shown
    assert "hidden" not in shown
