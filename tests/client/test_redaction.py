"""What a log may show of requests and answers."""

from __future__ import annotations

import pytest

from cosfs.client.redaction import redacted, shown_answer, shown_request

SECRET = "the/Secret+text=="


@pytest.mark.parametrize(
    "text",
    [
        f"https://b.cos/k?q-ak=AKID&q-signature={SECRET}",
        f"/k?x-cos-security-token={SECRET}&versionId=1",
        f"Authorization: q-sign-algorithm=sha1&q-signature={SECRET}",
        f"Authorization: TC3-HMAC-SHA256 Credential=AKID/2026-01-01/sts/tc3_request, Signature={SECRET}",
        f"X-TC-Token: {SECRET}\nHost: sts",
        f'{{"Credentials": {{"TmpSecretId": "AKID", "TmpSecretKey": "{SECRET}", "Token": "{SECRET}"}}}}',
        f'{{"WebIdentityToken": "{SECRET}", "RoleArn": "x"}}',
        f"x-cos-server-side-encryption-customer-key: {SECRET}",
        f"put\n/k\n\nhost=b&x-cos-security-token={SECRET}\n",
        "http://user:the/Secret@proxy:3128".replace("the/Secret", "Secret"),
    ],
)
def test_secrets_are_taken_out(text: str) -> None:
    shown = redacted(text)
    assert "Secret+text" not in shown and ":Secret@" not in shown
    assert "***" in shown


def test_the_rest_stays() -> None:
    text = "GET /photos/sign=of/token.txt HTTP/1.1; q-ak=AKID; prefix=a/b; token_count: 5"
    assert redacted(text).endswith("HTTP/1.1; q-ak=AKID; prefix=a/b; token_count: 5")
    assert redacted("key hidden here", ["hidden"]) == "key *** here"


def test_a_request_and_its_answer_on_one_line_each() -> None:
    headers = {"Host": "h", "Authorization": SECRET, "x-cos-security-token": SECRET}
    headers["x-cos-server-side-encryption-customer-key-MD5"] = SECRET
    shown = shown_request("GET", "h", f"/k?q-signature={SECRET}", headers)
    assert shown.startswith("> GET h/k?q-signature=***; Host: h; Authorization: ***")
    assert SECRET not in shown
    answer = shown_answer(403, {"Date": "today"}, f"<FormatString>x-cos-security-token={SECRET}".encode())
    assert answer == "< HTTP 403; Date: today; <FormatString>x-cos-security-token=***"
