"""Amazon's signatures, version 4 and 2, which COS takes as well, and the aws-chunked bodies of version 4."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import time
from calendar import timegm
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from urllib.parse import quote

from cosfs.emulator.auth import (
    MAX_SKEW,
    Credential,
    Identity,
    Keyring,
    Signed,
    check_date,
    check_token,
    encode,
)
from cosfs.emulator.aws_chunked import ChunkDecoder
from cosfs.emulator.errors import CosError

_V4 = "AWS4-HMAC-SHA256"
_UNSIGNED = "UNSIGNED-PAYLOAD"
_STREAMING = (
    "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
)
_LONGEST = 7 * 86_400  # seconds that a presigned URL can be valid
_SPACES = re.compile(" +")
# The query names that version 2 signs, besides response-*: those of botocore.
_V2_NAMES = frozenset(
    {
        *("accelerate", "acl", "analytics", "cors", "defaultObjectAcl", "delete", "inventory", "lifecycle"),
        *("location", "logging", "metrics", "notification", "object-lock", "partNumber", "policy"),
        *("replication", "requestPayment", "restore", "select", "select-type", "storageClass", "tagging"),
        *("torrent", "uploadId", "uploads", "versionId", "versioning", "versions", "website"),
    }
)


@dataclass(slots=True)
class Payload:
    """What the signature says about the body: its SHA-256 (empty: not said) and how to unwrap it."""

    sha256: str = ""
    decoder: ChunkDecoder | None = None


@dataclass(frozen=True, slots=True)
class _Scope:
    """The parts of a version 4 signature, from the header or from the query."""

    key_id: str
    scope: str
    signed: tuple[str, ...]
    signature: str
    date: str
    payload: str
    expires: int = 0


def is_aws(request: Signed) -> bool:
    """Tell whether a request carries, or tries to carry, an Amazon signature."""
    authorization = request.headers.get("authorization", "")
    if authorization:
        return authorization.startswith(("AWS4-", "AWS "))
    return "x-amz-signature" in request.parameters or "awsaccesskeyid" in request.parameters


def authenticate(request: Signed, keyring: Keyring, now: float) -> tuple[Identity, Payload]:
    """Check an Amazon signature of either version."""
    authorization = request.headers.get("authorization", "")
    if authorization.startswith("AWS ") or (not authorization and "awsaccesskeyid" in request.parameters):
        return _authenticate_v2(request, keyring, now), Payload()
    return _authenticate_v4(request, keyring, now)


def _credential(keyring: Keyring, key_id: str) -> Credential:
    credential = keyring(key_id)
    if credential is None:
        raise CosError("InvalidAccessKeyId")
    return credential


def _token(request: Signed) -> str:
    return request.headers.get("x-amz-security-token") or request.parameters.get("x-amz-security-token", "")


# Version 4


def _authenticate_v4(request: Signed, keyring: Keyring, now: float) -> tuple[Identity, Payload]:
    presigned = not request.headers.get("authorization")
    found = _from_query(request) if presigned else _from_header(request)
    credential = _credential(keyring, found.key_id)
    sent = _parse_date(found.date)
    if presigned and not 0 < found.expires <= _LONGEST:
        raise CosError("AccessDenied", "X-Amz-Expires must be between a second and a week.")
    if presigned and not sent - MAX_SKEW <= now <= sent + found.expires:
        raise CosError("AccessDenied", "Request has expired")
    if not presigned and abs(now - sent) > MAX_SKEW:
        raise CosError("RequestTimeTooSkewed", nodes={"ServerTime": str(int(now))})
    key = signing_key(credential.secret_key, found.scope)
    _check_v4(request, found, key)
    check_token(credential, _token(request), now)
    payload = Payload()
    if found.payload.startswith("STREAMING-"):
        payload.decoder = _decoder(request, found, key)
    elif found.payload != _UNSIGNED:
        payload.sha256 = found.payload
    return Identity(found.key_id, "aws", presigned), payload


def _decoder(request: Signed, found: _Scope, key: bytes) -> ChunkDecoder:
    if found.payload not in _STREAMING:
        raise CosError("InvalidRequest", "This form of x-amz-content-sha256 is not known.")
    signed = found.payload != _STREAMING[0]
    trailer = request.headers.get("x-amz-trailer", "") if found.payload.endswith("-TRAILER") else None
    signature = found.signature if signed else ""
    return ChunkDecoder(key, found.date, found.scope, signature, trailer)


def _from_header(request: Signed) -> _Scope:
    text = request.headers["authorization"].partition(" ")[2]
    fields = dict(item.strip().partition("=")[::2] for item in text.split(","))
    date = request.headers.get("x-amz-date", "")
    payload = request.headers.get("x-amz-content-sha256", "")
    try:
        return _scope(fields["Credential"], fields["SignedHeaders"], fields["Signature"], date, payload)
    except KeyError as error:
        raise CosError("AccessDenied", "The Authorization is malformed.") from error


def _from_query(request: Signed) -> _Scope:
    values = request.parameters
    try:
        expires = int(values["x-amz-expires"])
        credential, signed = values["x-amz-credential"], values["x-amz-signedheaders"]
        signature, date = values["x-amz-signature"], values["x-amz-date"]
    except (KeyError, ValueError) as error:
        raise CosError("AccessDenied", "The query does not hold a whole signature.") from error
    payload = values.get("x-amz-content-sha256") or request.headers.get("x-amz-content-sha256", _UNSIGNED)
    return _scope(credential, signed, signature, date, payload, expires)


def _scope(credential: str, signed: str, signature: str, date: str, payload: str, expires: int = 0) -> _Scope:
    key_id, _, scope = credential.partition("/")
    parts = scope.split("/")
    if len(parts) != 4 or parts[0] != date[:8] or parts[3] != "aws4_request":
        raise CosError("AccessDenied", "The Authorization is malformed.")
    return _Scope(key_id, scope, tuple(signed.split(";")), signature, date, payload or _UNSIGNED, expires)


def _parse_date(text: str) -> int:
    try:
        return timegm(time.strptime(text, "%Y%m%dT%H%M%SZ"))
    except ValueError as error:
        raise CosError("AccessDenied", "The request has no valid x-amz-date.") from error


def _sha256(key: bytes, message: str) -> bytes:
    return hmac.new(key, message.encode(), hashlib.sha256).digest()


def signing_key(secret_key: str, scope: str) -> bytes:
    """Derive the key that signs within a scope."""
    key = b"AWS4" + secret_key.encode()
    for part in scope.split("/"):
        key = _sha256(key, part)
    return key


def _check_v4(request: Signed, found: _Scope, key: bytes) -> None:
    # By names first: select comes before select-type, though select= would not.
    pairs = sorted(
        (encode(name), encode(value)) for name, value in request.target.query if name != b"X-Amz-Signature"
    )
    query = "&".join(f"{name}={value}" for name, value in pairs)
    names = ";".join(found.signed)
    first = ""
    for path, host in product(_raw_paths(request), request.hosts()):
        headers = "".join(
            f"{name}:{host if name == 'host' else _trim(request.headers.get(name))}\n"
            for name in found.signed
        )
        canonical = f"{request.method}\n{path}\n{query}\n{headers}\n{names}\n{found.payload}"
        digest = hashlib.sha256(canonical.encode("latin-1", "replace")).hexdigest()
        text = f"{_V4}\n{found.date}\n{found.scope}\n{digest}"
        if hmac.compare_digest(_sha256(key, text).hex().encode(), found.signature.encode()):
            return
        first = first or text + "\0" + canonical
    wanted, _, canonical = first.partition("\0")
    raise CosError("SignatureDoesNotMatch", nodes={"StringToSign": wanted, "CanonicalRequest": canonical})


def _trim(value: str | None) -> str:
    return "" if value is None else _SPACES.sub(" ", value.strip())


def _raw_paths(request: Signed) -> Iterator[str]:
    raw = request.target.raw_path.decode("latin-1")
    yield raw
    encoded = quote(request.target.path, safe="/~")
    if encoded != raw:
        yield encoded


# Version 2


def _authenticate_v2(request: Signed, keyring: Keyring, now: float) -> Identity:
    headers, values = request.headers, request.parameters
    presigned = not headers.get("authorization")
    if not presigned:
        key_id, _, signature = headers["authorization"][4:].strip().rpartition(":")
        date = "" if "x-amz-date" in headers else headers.get("date", "")
        told = headers.get("x-amz-date") or date
        if not told:
            raise CosError("AccessDenied", "A signature of version 2 needs a date.")
        check_date({"date": told}, now)
    else:
        key_id, signature = values["awsaccesskeyid"], values.get("signature", "")
        date = values.get("expires", "")
        if not (date.isdecimal() and len(date) < 20 and now <= int(date)):
            raise CosError("AccessDenied", "Request has expired")
        headers = {**_signed_in_query(values), **headers}
    credential = _credential(keyring, key_id)
    start = f"{request.method}\n{headers.get('content-md5', '')}\n{headers.get('content-type', '')}\n{date}\n"
    amazon = sorted((name, _trim(value)) for name, value in headers.items() if name.startswith("x-amz-"))
    start += "".join(f"{name}:{value}\n" for name, value in amazon)
    for resource in _resources(request):
        mac = hmac.digest(credential.secret_key.encode(), (start + resource).encode("latin-1"), "sha1")
        if hmac.compare_digest(mac, _base64(signature)):
            check_token(credential, _token(request), now)
            return Identity(key_id, "aws", presigned)
    raise CosError("SignatureDoesNotMatch", nodes={"StringToSign": start + next(_resources(request))})


def _signed_in_query(values: Mapping[str, str]) -> dict[str, str]:
    """Return what a presigned URL carries in place of headers."""
    names = ("content-md5", "content-type")
    return {name: value for name, value in values.items() if name in names or name.startswith("x-amz-")}


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text)
    except (binascii.Error, ValueError):
        return b""


def _resources(request: Signed) -> Iterator[str]:
    signed = sorted(
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in request.target.query
        if name.decode("latin-1") in _V2_NAMES or name.startswith(b"response-")
    )
    query = "&".join(f"{name}={value}" if value else name for name, value in signed)
    for path in _raw_paths(request):
        full = path + (f"?{query}" if query else "")
        if not request.path_style:
            label = next(request.hosts(), "").partition(".")[0]
            yield f"/{label}{full}"
        yield full
        if path.count("/") == 1:  # boto3 signs a bucket as /bucket/ and sends /bucket
            yield f"{path}/?{query}" if query else f"{path}/"


def strip_prefix(headers: Mapping[str, str]) -> dict[str, str]:
    """Rename x-amz-* to x-cos-*: the same metadata and options under Amazon's name."""
    return {
        "x-cos-" + name[6:] if name.startswith("x-amz-") else name: value for name, value in headers.items()
    }


def add_prefix(headers: Mapping[str, str]) -> dict[str, str]:
    """Rename x-cos-* of an answer to x-amz-*."""
    return {
        "x-amz-" + name[6:] if name.startswith("x-cos-") else name: value for name, value in headers.items()
    }
