"""The policy of a form upload (POST Object): its signature and its conditions, without any I/O.

A form carries its policy as base64 text, and fields that sign it. What COS signs is the SHA-1 of the policy
before base64, what Amazon's versions 4 and 2 sign is the base64 text. Names of fields count in lower case.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cosfs.emulator.auth import Credential, Identity, Keyring, check_times, check_token, sign_key
from cosfs.emulator.aws import signing_key
from cosfs.emulator.errors import CosError
from cosfs.emulator.numerals import whole

# The fields that sign a form, by scheme. The first is what tells the schemes apart.
_COS = ("q-signature", "q-sign-algorithm", "q-ak", "q-key-time")
_V4 = ("x-amz-signature", "x-amz-algorithm", "x-amz-credential", "x-amz-date")
_V2 = ("signature", "awsaccesskeyid")
_REQUIRED = ("q-sign-algorithm", "q-ak", "q-sign-time")
# What can be matched by prefix; every other field exactly.
_BY_PREFIX = frozenset(
    {
        *("acl", "key", "success_action_redirect", "cache-control", "content-type", "content-disposition"),
        *("content-encoding", "content-language", "expires"),
    }
)
_OUT_OF_RANGE = "Condition key content-length-range doesn't match the value"


@dataclass(frozen=True, slots=True)
class FormPolicy:
    """What a form has proved: who signed it, and how many bytes its file may have (high None: no limit)."""

    identity: Identity
    low: int = 0
    high: int | None = None

    def check_size(self, size: int) -> None:
        """Refuse a file outside the range; call it with the final size, or early with a size so far."""
        if self.high is not None and size > self.high:
            raise CosError("EntityTooLarge", _OUT_OF_RANGE)
        if size < self.low:
            raise CosError("EntityTooSmall", _OUT_OF_RANGE)


def check_form_policy(fields: Mapping[str, str], bucket: str, keyring: Keyring, now: float) -> FormPolicy:
    """Verify signature, times, token and conditions of a form; raise CosError if anything is wrong.

    fields: the form fields before `file`, by lower-case name, with `${filename}` in `key` already replaced.
    A form without any signature field is anonymous. The size of the file is for `FormPolicy.check_size`, and
    whether the one who signed may write there at all is for `access.require`.
    """
    scheme = next((names for names in (_COS, _V4, _V2) if any(name in fields for name in names)), None)
    if scheme is None and "policy" not in fields:
        return FormPolicy(Identity())
    missing = next((name for name in ("policy", *(scheme or _COS)) if not fields.get(name)), "")
    if missing:
        raise CosError("AccessDenied", f"The form has no field {missing}.")
    text = _decoded(fields["policy"])
    identity = _CHECKS[scheme or _COS](fields, text, keyring, now)
    policy = _parsed(text)
    if _expiration(policy) <= now:
        raise CosError("AccessDenied", "Invalid according to Policy: Policy expired.")
    return _conditions(policy["conditions"], fields, bucket, identity)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise CosError("InvalidPolicyDocument", "The policy is not base64.") from error


def _credential(keyring: Keyring, secret_id: str) -> Credential:
    credential = keyring(secret_id)
    if credential is None:
        raise CosError("InvalidAccessKeyId")
    return credential


def _check_cos(fields: Mapping[str, str], text: bytes, keyring: Keyring, now: float) -> Identity:
    if fields["q-sign-algorithm"].lower() != "sha1":
        raise CosError("AccessDenied", "q-sign-algorithm must be sha1.")
    credential = _credential(keyring, fields["q-ak"])
    check_times(fields["q-key-time"], now)
    to_sign = hashlib.sha1(text).hexdigest()
    key = sign_key(credential.secret_key, fields["q-key-time"])
    wanted = hmac.new(key.encode(), to_sign.encode(), hashlib.sha1).hexdigest()
    if not hmac.compare_digest(wanted.encode(), fields["q-signature"].encode()):
        raise CosError("SignatureDoesNotMatch", nodes={"StringToSign": to_sign})
    check_token(credential, fields.get("x-cos-security-token", ""), now)
    return Identity(credential.secret_id, "cos")


def _compare(fields: Mapping[str, str], wanted: str, given: str) -> None:
    if not hmac.compare_digest(wanted.encode(), given.encode()):
        raise CosError("SignatureDoesNotMatch", nodes={"StringToSign": fields["policy"]})


def _check_v4(fields: Mapping[str, str], text: bytes, keyring: Keyring, now: float) -> Identity:
    secret_id, _, scope = fields["x-amz-credential"].partition("/")
    credential = _credential(keyring, secret_id)
    if fields["x-amz-algorithm"] != "AWS4-HMAC-SHA256" or scope[:8] != fields["x-amz-date"][:8]:
        raise CosError("AccessDenied", "The fields of the signature are malformed.")
    wanted = hmac.digest(signing_key(credential.secret_key, scope), fields["policy"].encode(), "sha256")
    _compare(fields, wanted.hex(), fields["x-amz-signature"])
    check_token(credential, fields.get("x-amz-security-token", ""), now)
    return Identity(secret_id, "aws")


def _check_v2(fields: Mapping[str, str], text: bytes, keyring: Keyring, now: float) -> Identity:
    credential = _credential(keyring, fields["awsaccesskeyid"])
    mac = hmac.digest(credential.secret_key.encode(), fields["policy"].encode(), "sha1")
    _compare(fields, base64.b64encode(mac).decode(), fields["signature"])
    check_token(credential, fields.get("x-amz-security-token", ""), now)
    return Identity(credential.secret_id, "aws")


_CHECKS = {_COS: _check_cos, _V4: _check_v4, _V2: _check_v2}


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        policy = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CosError("InvalidPolicyDocument", "The policy is not JSON.") from error
    if not isinstance(policy, dict) or not isinstance(policy.get("conditions"), list):
        raise CosError("InvalidPolicyDocument", "The policy has no conditions.")
    return policy


def _expiration(policy: Mapping[str, Any]) -> float:
    try:
        when = datetime.fromisoformat(policy["expiration"])
    except (KeyError, ValueError, TypeError) as error:
        raise CosError("InvalidPolicyDocument", "The policy has no valid expiration.") from error
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def _conditions(conditions: list[Any], fields: Mapping[str, str], bucket: str, who: Identity) -> FormPolicy:
    given = {**fields, "bucket": bucket, "q-sign-time": fields.get("q-key-time", "")}
    seen: set[str] = set()
    low, high = 0, None
    for condition in conditions:
        for operator, name, value in _triples(condition):
            if operator == "content-length-range":
                low, high = int(name), int(value)
                continue
            seen.add(name)
            if name not in given:
                raise CosError("AccessDenied", f"Invalid according to Policy: the form has no field {name}.")
            if name == "bucket" and who.scheme == "aws" and value == bucket.rpartition("-")[0]:
                continue  # S3 tools leave the APPID out
            held = given[name] == value if operator == "eq" else given[name].startswith(value)
            if not held:
                raise CosError(
                    "AccessDenied",
                    f"Invalid according to Policy: Policy Condition failed: {operator} ${name} {value}",
                )
    for name in _REQUIRED if who.scheme == "cos" else ():
        if name not in seen:
            raise CosError("AccessDenied", f"Invalid according to Policy: there is no condition for {name}.")
    return FormPolicy(who, low, high)


def _triples(condition: Any) -> Iterator[tuple[str, str, str]]:
    """Read one condition as operator, name and value; numbers of a range stand for the last two."""
    if isinstance(condition, dict) and condition:
        for name, value in condition.items():
            yield "eq", name.lower(), str(value)
        return
    if not isinstance(condition, list) or len(condition) != 3:
        raise CosError("InvalidPolicyDocument", "A condition of the policy is malformed.")
    operator, name, value = str(condition[0]).lower(), str(condition[1]), str(condition[2])
    if operator == "content-length-range" and None not in (whole(name), whole(value)):
        yield operator, name, value
        return
    name = name.lower()
    if operator not in ("eq", "starts-with") or not name.startswith("$"):
        raise CosError("InvalidPolicyDocument", "A condition of the policy is malformed.")
    name = name[1:]
    if operator == "starts-with" and not (
        name in _BY_PREFIX or name.startswith(("x-cos-meta-", "x-amz-meta-"))
    ):
        raise CosError("InvalidPolicyDocument", f"{name} can only be matched exactly.")
    yield operator, name, value
