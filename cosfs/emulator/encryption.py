"""Server-side encryption as a client sees it: who needs which key, and what is echoed.

Nothing is encrypted on disk. A key of the customer is checked on every use all the same, so that a client
which forgets it fails here as it would fail on COS.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from xml.etree import ElementTree

from cosfs.emulator import messages
from cosfs.emulator.context import Call
from cosfs.emulator.errors import CosError
from cosfs.emulator.store import Bucket, Bytes, Version

ALGORITHM = "x-cos-server-side-encryption"
KMS_KEY = f"{ALGORITHM}-cos-kms-key-id"
_AWS_KMS_KEY = f"{ALGORITHM}-aws-kms-key-id"
CUSTOMER = f"{ALGORITHM}-customer-"
CUSTOMER_ALGORITHM = f"{CUSTOMER}algorithm"
CUSTOMER_MD5 = f"{CUSTOMER}key-MD5"
SOURCE_PREFIX = "x-cos-copy-source-server-side-encryption-customer-"
_ALGORITHMS = ("AES256", "cos/kms", "aws:kms")


def written(call: Call, bucket: Bucket) -> dict[str, str]:
    """Return the headers of encryption of what is being written: from the request, else the bucket."""
    customer = customer_key(call.headers)
    algorithm = call.headers.get(ALGORITHM, "")
    if customer:
        if algorithm:
            raise CosError("InvalidArgument", "Choose one kind of server-side encryption.")
        return {CUSTOMER_ALGORITHM: "AES256", CUSTOMER_MD5: customer}
    if not algorithm:
        return dict(call.store.derived(bucket, "encryption", _default) or {})
    if algorithm not in _ALGORITHMS:
        raise CosError("InvalidArgument", f"{ALGORITHM} is not valid.")
    _check_context(call.headers.get(f"{ALGORITHM}-context", ""))
    key = call.headers.get(KMS_KEY) or call.headers.get(_AWS_KMS_KEY, "")
    return {ALGORITHM: algorithm, **({KMS_KEY: key} if key and algorithm != "AES256" else {})}


def _check_context(text: str) -> None:
    try:
        if text and not isinstance(json.loads(base64.b64decode(text, validate=True)), dict):
            raise ValueError
    except (ValueError, RecursionError) as error:
        raise CosError("InvalidArgument", f"{ALGORITHM}-context is not valid.") from error


def _rule(tree: ElementTree.Element) -> ElementTree.Element | None:
    """Find the default encryption, by its documented name or the one in the types of the Node SDK."""
    names = ("ApplyServerSideEncryptionByDefault", "ApplySideEncryptionConfiguration")
    return next((found for name in names if (found := tree.find(f"Rule/{name}")) is not None), None)


def _default(document: bytes) -> dict[str, str]:
    tree = messages.parse(document, "ServerSideEncryptionConfiguration")
    rule = _rule(tree)
    if rule is None:
        return {}
    algorithm = messages.text(rule, "SSEAlgorithm").strip()
    if algorithm not in ("KMS", "cos/kms", "aws:kms"):
        return {ALGORITHM: "AES256"}
    key = messages.text(rule, "KMSMasterKeyID").strip()
    kind = algorithm if algorithm != "KMS" else "cos/kms"
    return {ALGORITHM: kind, **({KMS_KEY: key} if key else {})}


def check_configuration(call: Call, tree: ElementTree.Element) -> None:
    """Refuse a default encryption that means nothing."""
    rule = _rule(tree)
    algorithm = messages.text(rule, "SSEAlgorithm") if rule is not None else ""
    if algorithm.strip() not in ("AES256", "KMS", "cos/kms", "aws:kms"):
        raise CosError("MalformedXML")


def customer_key(headers: Mapping[str, str], prefix: str = CUSTOMER) -> str:
    """Check the three headers of a customer's key; return the key's MD5 in base64, empty if there is none."""
    given = [headers.get((prefix + name).lower(), "") for name in ("algorithm", "key", "key-MD5")]
    if not any(given):
        return ""
    algorithm, key, digest = given
    try:
        raw = base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if algorithm != "AES256" or len(raw) != 32:
        raise CosError(
            "InvalidArgument", "The key of the customer is not valid: AES256 with 32 bytes is needed."
        )
    computed = base64.b64encode(hashlib.md5(raw, usedforsecurity=False).digest()).decode()
    if computed != digest:
        raise CosError("InvalidArgument", "The MD5 of the key is not the one that was declared.")
    return computed


def check_key(call: Call, row: Version) -> None:
    """Refuse to read an object without the key with which it was stored."""
    _check(call.headers, row.headers)


def check_part_key(call: Call, stored: str) -> None:
    """Refuse a part that is sent with another key than its upload was opened with."""
    _check(call.headers, stored)


def check_source_key(call: Call, row: Version) -> None:
    """Refuse to copy an object without its key. Documentation and SDKs name the headers differently."""
    prefix = SOURCE_PREFIX if SOURCE_PREFIX + "key" in call.headers else CUSTOMER
    if prefix == SOURCE_PREFIX or CUSTOMER in row.headers:
        _check(call.headers, row.headers, prefix)


def _check(headers: Mapping[str, str], stored: str, prefix: str = CUSTOMER) -> None:
    given = f"{prefix}key" in headers
    if not given and CUSTOMER not in stored:  # stored is JSON: nearly always there is nothing to parse
        return
    wanted = json.loads(stored).get(CUSTOMER_MD5, "")
    if given and not wanted:
        customer_key(headers, prefix)
        raise CosError("SSEHeaderNotAllowed")
    if wanted and (not given or customer_key(headers, prefix) != wanted):
        raise CosError("SsecDecryptHeaderInvalid")


def echoed(stored: str) -> dict[str, str]:
    """Return the headers of encryption among stored ones, which are JSON."""
    if ALGORITHM not in stored:
        return {}
    return {name: value for name, value in json.loads(stored).items() if name.startswith(ALGORITHM)}


def etag_of(content: Bytes, encryption: Mapping[str, str]) -> str:
    """Return the ETag of a simple upload; with a key of KMS or customer it is not the MD5 of the content."""
    secret = encryption.get(CUSTOMER_MD5) or (encryption.get(ALGORITHM, "AES256") != "AES256")
    if not secret:
        return content.etag
    return hashlib.md5(f"{content.etag}{secret}".encode(), usedforsecurity=False).hexdigest()
