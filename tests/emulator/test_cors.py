"""CORS: preflights are evaluated, and answers to pages of other origins carry what browsers ask for."""

from __future__ import annotations

from typing import Any

import pytest

from tests.emulator.asking import code
from tests.emulator.conftest import sdk_for
from tests.emulator.signed import Signed

RULES = b"""<CORSConfiguration>
<CORSRule><AllowedOrigin>https://*.example.com</AllowedOrigin><AllowedMethod>PUT</AllowedMethod>
<AllowedMethod>GET</AllowedMethod><AllowedHeader>x-cos-*</AllowedHeader><AllowedHeader>Authorization</AllowedHeader>
<ExposeHeader>ETag</ExposeHeader><ExposeHeader>x-cos-request-id</ExposeHeader><MaxAgeSeconds>600</MaxAgeSeconds>
</CORSRule>
<CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>HEAD</AllowedMethod></CORSRule>
</CORSConfiguration>"""
PAGE = "https://www.example.com"


@pytest.fixture
def ruled(wire: Signed) -> Signed:
    assert wire("PUT", "/?cors", RULES).status == 200
    return wire


def preflight(wire: Signed, origin: str, method: str, headers: str = "", target: str = "/k") -> Any:
    asked = {"Access_Control_Request_Headers": headers} if headers else {}
    return wire("OPTIONS", target, sign=False, Origin=origin, Access_Control_Request_Method=method, **asked)


def test_a_preflight_is_answered_by_the_first_rule_that_allows_it(ruled: Signed) -> None:
    answer = preflight(ruled, PAGE, "PUT", "X-COS-Meta-A, authorization")
    assert answer.status == 200
    told = {
        name: answer.headers[f"Access-Control-{name}"]
        for name in ("Allow-Origin", "Allow-Methods", "Max-Age")
    }
    assert told == {"Allow-Origin": PAGE, "Allow-Methods": "PUT, GET", "Max-Age": "600"}
    assert answer.headers["Access-Control-Allow-Headers"] == "x-cos-meta-a, authorization"
    assert answer.headers["Access-Control-Expose-Headers"] == "ETag, x-cos-request-id"
    assert "Origin" in answer.headers["Vary"]
    everyone = preflight(ruled, "http://other", "HEAD")
    assert (everyone.status, everyone.headers["Access-Control-Allow-Origin"]) == (200, "*")
    assert "Access-Control-Max-Age" not in everyone.headers


@pytest.mark.parametrize(
    ("origin", "method", "headers"),
    [
        ("https://example.com", "PUT", ""),
        ("http://www.example.com", "PUT", ""),
        (PAGE, "DELETE", ""),
        (PAGE, "PUT", "content-type"),
        ("http://other", "GET", ""),
        ("http://other", "HEAD", "x-cos-meta-a"),
    ],
)
def test_what_no_rule_allows_is_forbidden(ruled: Signed, origin: str, method: str, headers: str) -> None:
    assert code(preflight(ruled, origin, method, headers)) == (403, "AccessForbidden")


def test_preflights_need_no_valid_signature_but_their_headers(ruled: Signed) -> None:
    """The URL may be one that was presigned for the PUT which is to follow."""
    signed = (
        "/k?q-sign-algorithm=sha1&q-ak=AKIDx&q-sign-time=1%3B2&q-key-time=1%3B2&q-header-list=&q-signature=x"
    )
    assert preflight(ruled, PAGE, "PUT", target=signed).status == 200
    assert code(ruled("OPTIONS", "/k", sign=False, Origin=PAGE)) == (400, "InvalidArgument")
    missing = "none-1250000000.cos.x.com"
    asked = {"Origin": PAGE, "Access_Control_Request_Method": "PUT"}
    assert code(ruled("OPTIONS", "/k", sign=False, host=missing, **asked)) == (404, "NoSuchBucket")
    ruled("DELETE", "/?cors")
    assert code(preflight(ruled, PAGE, "PUT")) == (403, "AccessForbidden")


def test_answers_and_errors_tell_the_page_that_it_may_read_them(ruled: Signed) -> None:
    assert ruled("PUT", "/k", b"x", Origin=PAGE).headers["Access-Control-Allow-Origin"] == PAGE
    got = ruled("GET", "/k", Origin=PAGE)
    assert (got.body, got.headers["Access-Control-Expose-Headers"]) == (b"x", "ETag, x-cos-request-id")
    missing = ruled("GET", "/missing", Origin=PAGE)
    assert (missing.status, missing.headers["Access-Control-Allow-Origin"]) == (404, PAGE)
    assert "Access-Control-Allow-Origin" not in ruled("GET", "/k", Origin="http://other").headers
    assert "Access-Control-Allow-Origin" not in ruled("GET", "/k").headers


@pytest.mark.parametrize(
    ("rules", "wanted"),
    [
        ([], "MalformedXML"),
        (["<AllowedMethod>GET</AllowedMethod>"], "MalformedXML"),
        (["<AllowedOrigin>*</AllowedOrigin>"], "MalformedXML"),
        (["<AllowedOrigin>*</AllowedOrigin><AllowedMethod>PATCH</AllowedMethod>"], "InvalidRequest"),
        (["<AllowedOrigin>*.*</AllowedOrigin><AllowedMethod>GET</AllowedMethod>"], "InvalidRequest"),
        (["<AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod>"] * 101, "MalformedXML"),
    ],
)
def test_rules_are_checked(wire: Signed, rules: list[str], wanted: str) -> None:
    inner = "".join(f"<CORSRule>{rule}</CORSRule>" for rule in rules)
    body = f"<CORSConfiguration>{inner}</CORSConfiguration>".encode()
    assert code(wire("PUT", "/?cors", body)) == (400, wanted)


def test_only_the_star_is_a_wildcard(wire: Signed) -> None:
    origin = b"http://a[1]?*"
    body = b"<CORSConfiguration><CORSRule><AllowedOrigin>%s</AllowedOrigin>" % origin
    wire("PUT", "/?cors", body + b"<AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>")
    assert preflight(wire, "http://a[1]?b", "GET").status == 200
    assert preflight(wire, "http://a1xb", "GET").status == 403


def test_the_sdk_stores_rules_that_work(wire: Signed) -> None:
    sdk = sdk_for(wire.emulator)
    rule = {
        "AllowedOrigin": ["http://a"],
        "AllowedMethod": ["GET"],
        "AllowedHeader": ["*"],
        "MaxAgeSeconds": "5",
    }
    sdk.put_bucket_cors(Bucket=wire.bucket, CORSConfiguration={"CORSRule": [rule]})
    assert preflight(wire, "http://a", "GET", "anything").status == 200
