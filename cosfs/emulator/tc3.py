"""The form of Tencent Cloud's APIs: signature TC3-HMAC-SHA256, answers in JSON, errors within HTTP 200."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import time
import uuid
from collections.abc import Mapping
from typing import Any

from cosfs.emulator.addressing import without_port
from cosfs.emulator.auth import Credential, Keyring
from cosfs.emulator.numerals import whole
from cosfs.emulator.values import Response

MAX_SKEW = 300
_ALGORITHM = "TC3-HMAC-SHA256"
_AUTHORIZATION = re.compile(
    rf"{_ALGORITHM}\s+Credential=(?P<key>[^/\s]+)/(?P<date>[^/\s]+)/(?P<service>[^/\s]+)/tc3_request\s*,"
    r"\s*SignedHeaders=(?P<names>[^,\s]+)\s*,\s*Signature=(?P<signature>[0-9a-f]+)"
)


class ApiError(Exception):
    """An error of the API, told with HTTP 200."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code)
        self.code = code
        self.message = message


def answer(values: Mapping[str, Any]) -> Response:
    """Write an answer of the API."""
    body = json.dumps({"Response": {**values, "RequestId": str(uuid.uuid4())}}).encode()
    return Response(200, {"Content-Type": "application/json"}, body)


def failure(code: str, message: str) -> Response:
    """Write an error of the API."""
    return answer({"Error": {"Code": code, "Message": message}})


def verify(
    headers: Mapping[str, str],
    method: str,
    path: str,
    body: bytes,
    service: str,
    keyring: Keyring,
    now: float,
) -> Credential:
    """Check the signature of a request without a query; return the key that made it."""
    found = _AUTHORIZATION.fullmatch(headers.get("authorization", "").strip())
    if found is None or found["service"] != service:
        raise ApiError("AuthFailure.InvalidAuthorization", "The header Authorization is not valid.")
    stamp = whole(headers.get("x-tc-timestamp", ""))
    if stamp is None:
        raise ApiError("MissingParameter", "The header X-TC-Timestamp is missing.")
    if abs(now - stamp) > MAX_SKEW or found["date"] != _date(stamp):
        raise ApiError("AuthFailure.SignatureExpire", "The signature has expired, or the clock is wrong.")
    credential = keyring(found["key"])
    if credential is None:
        raise ApiError("AuthFailure.SecretIdNotFound", "The SecretId is not found.")
    names = found["names"].lower().split(";")
    if not {"content-type", "host"} <= set(names):
        raise ApiError("AuthFailure.SignatureFailure", "content-type and host must be signed.")
    digest = hashlib.sha256(body).hexdigest()
    key = _key(credential.secret_key, found["date"], service)
    host = headers.get("host", "")
    for signed_host in dict.fromkeys((host, without_port(host))):
        values = {**headers, "host": signed_host}
        lines = "".join(f"{name}:{values.get(name, '').strip().lower()}\n" for name in names)
        canonical = f"{method}\n{path}\n\n{lines}\n{found['names'].lower()}\n{digest}"
        scope = f"{found['date']}/{service}/tc3_request"
        text = f"{_ALGORITHM}\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        wanted = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        if hmac.compare_digest(wanted, found["signature"]):
            break
    else:
        raise ApiError("AuthFailure.SignatureFailure", "The signature does not match.")
    if headers.get("x-tc-token", "") != credential.token:
        raise ApiError("AuthFailure.TokenFailure", "The token does not belong to the SecretId.")
    if credential.expires and now >= credential.expires:
        raise ApiError("AuthFailure.TokenFailure", "The token has expired.")
    return credential


def _date(stamp: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(stamp))


def _key(secret_key: str, *parts: str) -> bytes:
    key = f"TC3{secret_key}".encode()
    for part in (*parts, "tc3_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key
