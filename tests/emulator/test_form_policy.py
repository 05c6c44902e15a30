"""Policies of form uploads: the vectors of the documentation and the reference, conditions, refusals."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import pytest

from cosfs.emulator.auth import Credential
from cosfs.emulator.errors import CosError
from cosfs.emulator.form_policy import FormPolicy, check_form_policy
from tests.emulator.asking import NOW, SECRET_ID, SECRET_KEY

BUCKET = "examplebucket-1250000000"
TIMES = "1700000000;1700003600"
# D3: the example of the page "POST Object" of the COS documentation.
D3_POLICY = b"""{
    "expiration": "2019-08-30T09:38:12.414Z",
    "conditions": [
        { "acl": "default" },
        { "bucket": "examplebucket-1250000000" },
        [ "starts-with", "$key", "folder/subfolder/" ],
        [ "starts-with", "$Content-Type", "image/" ],
        [ "starts-with", "$success_action_redirect", "https://my.website/" ],
        [ "eq", "$x-cos-server-side-encryption", "AES256" ],
        { "q-sign-algorithm": "sha1" },
        { "q-ak": "AKIDQjz3ltompVjBni5LitkWHFlFpwkn9U5q" },
        { "q-sign-time": "1567150692;1567157892" }
    ]
}"""
D3_FIELDS = {
    "key": "folder/subfolder/cat.png",
    "acl": "default",
    "content-type": "image/png",
    "success_action_redirect": "https://my.website/thanks",
    "x-cos-server-side-encryption": "AES256",
    "policy": base64.b64encode(D3_POLICY).decode(),
    "q-sign-algorithm": "sha1",
    "q-ak": "AKIDQjz3ltompVjBni5LitkWHFlFpwkn9U5q",
    "q-key-time": "1567150692;1567157892",
    "q-signature": "7758dc9a832e9d301dca704cacbf9d9f8172fdef",
}
D3_KEY = Credential("AKIDQjz3ltompVjBni5LitkWHFlFpwkn9U5q", "BQYIM75p8x0iWVFSIgqEKwFprpRSVHlz")
D3_NOW = 1567150700.0
# P1: computed for the protocol reference with a program of its own.
P1_POLICY = (
    b'{"expiration":"2023-11-15T00:00:00.000Z","conditions":[{"q-sign-algorithm":"sha1"},'
    b'{"q-ak":"AKIDEXAMPLE0000000000000000000000000"},{"q-sign-time":"1700000000;1700003600"},'
    b'["starts-with","$key","up/"]]}'
)
P1_FIELDS = {
    "key": "up/a.txt",
    "policy": base64.b64encode(P1_POLICY).decode(),
    "q-sign-algorithm": "sha1",
    "q-ak": SECRET_ID,
    "q-key-time": TIMES,
    "q-signature": "62516943dbbd59d775b1d51f3521dcc62656b088",
}
KEY = Credential(SECRET_ID, SECRET_KEY)


def check(fields: dict[str, str], key: Credential = KEY, now: float = NOW + 10) -> FormPolicy:
    return check_form_policy(fields, BUCKET, {key.secret_id: key}.get, now)


def form(*conditions: Any, expiration: str = "2023-11-15T00:00:00.000Z", **fields: str) -> dict[str, str]:
    """Sign a form whose policy has these conditions and the three that every policy needs."""
    needed = [{"q-sign-algorithm": "sha1"}, {"q-ak": SECRET_ID}, {"q-sign-time": TIMES}]
    policy = json.dumps({"expiration": expiration, "conditions": [*needed, *conditions]}).encode()
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    return {"key": "k", **named, **signed(policy)}


def signed(policy: bytes) -> dict[str, str]:
    key = hmac.new(SECRET_KEY.encode(), TIMES.encode(), hashlib.sha1).hexdigest()
    signature = hmac.new(key.encode(), hashlib.sha1(policy).hexdigest().encode(), hashlib.sha1).hexdigest()
    encoded = base64.b64encode(policy).decode()
    return {
        "policy": encoded, "q-sign-algorithm": "sha1", "q-ak": SECRET_ID, "q-key-time": TIMES,
        "q-signature": signature,
    }  # fmt: skip


def test_published_forms_are_accepted() -> None:
    assert hashlib.sha1(D3_POLICY).hexdigest() == "d5d903b8360468bc81c1311f134989bc8c8b5b89"
    assert check(D3_FIELDS, D3_KEY, D3_NOW).identity.secret_id == D3_KEY.secret_id
    assert check(P1_FIELDS) == FormPolicy(check(P1_FIELDS).identity, 0, None)


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"q-signature": "0" * 40}, "SignatureDoesNotMatch", "Signature"),
        ({"q-ak": "AKIDother"}, "InvalidAccessKeyId", ""),
        ({"q-key-time": "1700000000;1700003601"}, "SignatureDoesNotMatch", ""),
        ({"q-key-time": "1600000000;1600003600"}, "AccessDenied", "Request has expired"),
        ({"q-sign-algorithm": "sha256"}, "AccessDenied", "sha1"),
        ({"policy": ""}, "AccessDenied", "no field policy"),
        ({"policy": "{}"}, "InvalidPolicyDocument", "base64"),
        ({"key": "other/a.txt"}, "AccessDenied", "starts-with $key up/"),
    ],
)
def test_changed_forms_are_refused(change: dict[str, str], code: str, words: str) -> None:
    with pytest.raises(CosError) as caught:
        check({**P1_FIELDS, **change})
    assert caught.value.code == code
    assert words in caught.value.message


def test_a_wrong_signature_tells_what_was_to_be_signed() -> None:
    with pytest.raises(CosError) as caught:
        check({**P1_FIELDS, "q-signature": "0" * 40})
    assert caught.value.nodes["StringToSign"] == "2cc38e60e906e232fd711f00a1779a141cd115e8"


def test_a_form_without_signature_is_anonymous() -> None:
    assert check({"key": "k"}).identity.anonymous


@pytest.mark.parametrize("missing", ["policy", "q-sign-algorithm", "q-ak", "q-key-time", "q-signature"])
def test_half_a_signature_is_refused(missing: str) -> None:
    with pytest.raises(CosError) as caught:
        check({name: value for name, value in P1_FIELDS.items() if name != missing})
    assert (caught.value.code, caught.value.message) == ("AccessDenied", f"The form has no field {missing}.")


@pytest.mark.parametrize(
    ("condition", "fields", "good"),
    [
        ({"bucket": BUCKET}, {}, True),
        ({"bucket": "other-1250000000"}, {}, False),
        ({"acl": "private"}, {"acl": "private"}, True),
        ({"acl": "private"}, {}, False),
        (["eq", "$x-cos-storage-class", "ARCHIVE"], {"x_cos_storage_class": "ARCHIVE"}, True),
        (["eq", "$x-cos-storage-class", "ARCHIVE"], {"x_cos_storage_class": "STANDARD"}, False),
        (["starts-with", "$Content-Type", "image/"], {"content_type": "image/png"}, True),
        (["starts-with", "$Content-Type", "image/"], {"content_type": "text/plain"}, False),
        (["starts-with", "$x-cos-meta-a", ""], {"x_cos_meta_a": "anything"}, True),
        (["starts-with", "$x-cos-meta-a", ""], {}, False),
    ],
)
def test_conditions(condition: Any, fields: dict[str, str], good: bool) -> None:
    if good:
        assert not check(form(condition, **fields)).identity.anonymous
        return
    with pytest.raises(CosError) as caught:
        check(form(condition, **fields))
    assert caught.value.code == "AccessDenied"


@pytest.mark.parametrize(
    "condition",
    [
        ["starts-with", "$x-cos-storage-class", "A"],
        ["starts-with", "$success_action_status", "2"],
        ["like", "$key", "k"],
        ["eq", "key", "k"],
        ["eq", "$key"],
        ["content-length-range", "a", 5],
        "text",
        {},
    ],
)
def test_malformed_conditions(condition: Any) -> None:
    with pytest.raises(CosError, match="InvalidPolicyDocument"):
        check(form(condition))


@pytest.mark.parametrize("policy", [b"nonsense", b"[]", b"{}", b'{"conditions": [], "expiration": "soon"}'])
def test_malformed_policies(policy: bytes) -> None:
    with pytest.raises(CosError, match="InvalidPolicyDocument"):
        check({"key": "k", **signed(policy)})


def test_each_condition_of_the_signature_is_needed() -> None:
    conditions = [{"q-sign-algorithm": "sha1"}, {"q-ak": SECRET_ID}, {"q-sign-time": TIMES}]
    for missing in conditions:
        kept = [condition for condition in conditions if condition is not missing]
        policy = json.dumps({"expiration": "2023-11-15T00:00:00.000Z", "conditions": kept}).encode()
        with pytest.raises(CosError) as caught:
            check({"key": "k", **signed(policy)})
        assert next(iter(missing)) in caught.value.message


def test_a_policy_ends() -> None:
    fields = form(expiration="2023-11-14T22:30:00Z")
    check(fields, now=1_700_000_999)
    with pytest.raises(CosError, match="AccessDenied") as caught:
        check(fields, now=1_700_001_000)
    assert "Policy expired" in caught.value.message


def test_the_size_must_be_in_range() -> None:
    policy = check(form(["content-length-range", 2, 10]))
    policy.check_size(2)
    policy.check_size(10)
    with pytest.raises(CosError, match="EntityTooSmall"):
        policy.check_size(1)
    with pytest.raises(CosError, match="EntityTooLarge"):
        policy.check_size(11)


def test_temporary_keys_need_their_token() -> None:
    key = Credential(SECRET_ID, SECRET_KEY, "token", NOW + 100)
    assert check(form(x_cos_security_token="token"), key).identity.secret_id == SECRET_ID
    with pytest.raises(CosError, match="InvalidAccessKeyId"):
        check(form(), key)
    with pytest.raises(CosError, match="ExpiredToken"):
        check(form(x_cos_security_token="token"), key, NOW + 101)


# Forms of S3 tools


def amazon(*conditions: Any, **fields: str) -> dict[str, str]:
    text = json.dumps({"expiration": "2023-11-15T00:00:00Z", "conditions": list(conditions)}).encode()
    return {"key": "k", "policy": base64.b64encode(text).decode(), **fields}


def v4(*conditions: Any, **more: str) -> dict[str, str]:
    scope = "20231114/ap-guangzhou/s3/aws4_request"
    fields = amazon(
        *conditions,
        **{
            "x-amz-algorithm": "AWS4-HMAC-SHA256",
            "x-amz-credential": f"{SECRET_ID}/{scope}",
            "x-amz-date": "20231114T221320Z",
            **more,
        },
    )
    key = b"AWS4" + SECRET_KEY.encode()
    for part in (*scope.split("/"), fields["policy"]):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return {**fields, "x-amz-signature": key.hex()}


def v2(*conditions: Any, **more: str) -> dict[str, str]:
    fields = amazon(*conditions, awsaccesskeyid=SECRET_ID, **more)
    mac = hmac.new(SECRET_KEY.encode(), fields["policy"].encode(), hashlib.sha1).digest()
    return {**fields, "signature": base64.b64encode(mac).decode()}


@pytest.mark.parametrize("sign", [v4, v2])
def test_forms_with_signatures_of_amazon(sign: Any) -> None:
    policy = check(sign({"bucket": BUCKET}, {"key": "k"}, ["content-length-range", 1, 9]))
    assert (policy.identity.secret_id, policy.identity.scheme) == (SECRET_ID, "aws")
    assert (policy.low, policy.high) == (1, 9)
    check(sign({"bucket": "examplebucket"}))
    check({**sign(["starts-with", "$x-amz-meta-a", "v"]), "x-amz-meta-a": "value"})
    with pytest.raises(CosError, match="AccessDenied"):
        check(sign({"bucket": "example"}))
    with pytest.raises(CosError, match="AccessDenied"):
        check(sign({"key": "other"}))
    last = "x-amz-signature" if sign is v4 else "signature"
    with pytest.raises(CosError, match="SignatureDoesNotMatch"):
        check({**sign({"key": "k"}), last: "0" * 40})
    with pytest.raises(CosError, match="AccessDenied"):
        check({name: value for name, value in sign({"key": "k"}).items() if name != last})
    temporary = Credential(SECRET_ID, SECRET_KEY, "token", NOW + 100)
    check(sign(**{"x-amz-security-token": "token"}), temporary)
    with pytest.raises(CosError, match="InvalidAccessKeyId"):
        check(sign(), temporary)
