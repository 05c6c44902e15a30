"""The policy of a form upload (POST Object): its signature and its conditions, without any I/O.

A form carries its policy as base64 text, and fields that sign it. The text signed is the SHA-1 of the policy
before base64. Names of fields are compared in lower case.
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

from cosfs.emulator.auth import Identity, Keyring, check_times, check_token, sign_key
from cosfs.emulator.errors import CosError

_SIGNATURE = ("q-sign-algorithm", "q-ak", "q-key-time", "q-signature")
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
    if "policy" not in fields and not any(name in fields for name in _SIGNATURE):
        return FormPolicy(Identity())
    missing = next((name for name in ("policy", *_SIGNATURE) if not fields.get(name)), "")
    if missing:
        raise CosError("AccessDenied", f"The form has no field {missing}.")
    text = _decoded(fields["policy"])
    identity = _authenticate(fields, text, keyring, now)
    policy = _parsed(text)
    if _expiration(policy) <= now:
        raise CosError("AccessDenied", "Invalid according to Policy: Policy expired.")
    return _conditions(policy["conditions"], fields, bucket, identity)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise CosError("InvalidPolicyDocument", "The policy is not base64.") from error


def _authenticate(fields: Mapping[str, str], text: bytes, keyring: Keyring, now: float) -> Identity:
    if fields["q-sign-algorithm"].lower() != "sha1":
        raise CosError("AccessDenied", "q-sign-algorithm must be sha1.")
    credential = keyring(fields["q-ak"])
    if credential is None:
        raise CosError("InvalidAccessKeyId")
    check_times(fields["q-key-time"], now)
    to_sign = hashlib.sha1(text).hexdigest()
    key = sign_key(credential.secret_key, fields["q-key-time"])
    wanted = hmac.new(key.encode(), to_sign.encode(), hashlib.sha1).hexdigest()
    if not hmac.compare_digest(wanted.encode(), fields["q-signature"].encode()):
        raise CosError("SignatureDoesNotMatch", nodes={"StringToSign": to_sign})
    check_token(credential, fields.get("x-cos-security-token", ""), now)
    return Identity(credential.secret_id, "cos")


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        policy = json.loads(text)
    except ValueError as error:
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
    given = {**fields, "bucket": bucket, "q-sign-time": fields["q-key-time"]}
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
            held = given[name] == value if operator == "eq" else given[name].startswith(value)
            if not held:
                raise CosError(
                    "AccessDenied",
                    f"Invalid according to Policy: Policy Condition failed: {operator} ${name} {value}",
                )
    for name in _REQUIRED:
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
    if operator == "content-length-range" and name.isdigit() and value.isdigit():
        yield operator, name, value
        return
    name = name.lower()
    if operator not in ("eq", "starts-with") or not name.startswith("$"):
        raise CosError("InvalidPolicyDocument", "A condition of the policy is malformed.")
    name = name[1:]
    if operator == "starts-with" and not (name in _BY_PREFIX or name.startswith("x-cos-meta-")):
        raise CosError("InvalidPolicyDocument", f"{name} can only be matched exactly.")
    yield operator, name, value
