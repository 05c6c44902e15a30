"""Which operation a request is, decided from method, place, query and copy header alone."""

from __future__ import annotations

from collections.abc import Mapping

from cosfs.emulator.addressing import Place
from cosfs.emulator.errors import CosError
from cosfs.emulator.settings import SETTINGS

# Reserved query names that make a request something else than the plain call. Those that no table below knows
# are answered 501: better than a GET Object that quietly ignores what was asked.
_SUB_RESOURCES = (
    *(
        "acl",
        "append",
        "delete",
        "legal-hold",
        "live",
        "location",
        "restore",
        "retention",
        "select",
        "symlink",
    ),
    *(
        "torrent",
        "uploadid",
        "uploads",
        "versioning",
        "versions",
        "attributes",
        "publicaccessblock",
        "analytics",
    ),
    *("ownershipcontrols", "policystatus", "requestpayment", "metrics", "session", "rename", "ci-process"),
    *SETTINGS,
)

_PLAIN = {
    "service": {"GET": "ListBuckets"},
    "bucket": {
        "GET": "ListObjects",
        "HEAD": "HeadBucket",
        "PUT": "CreateBucket",
        "DELETE": "DeleteBucket",
        "POST": "PostObject",
        "OPTIONS": "OptionsObject",
    },
    "object": {
        "GET": "GetObject",
        "HEAD": "HeadObject",
        "PUT": "PutObject",
        "DELETE": "DeleteObject",
        "OPTIONS": "OptionsObject",
    },
}

_BUCKET = {
    "acl": {"GET": "GetBucketACL", "PUT": "PutBucketACL"},
    "delete": {"POST": "DeleteObjects"},
    "location": {"GET": "GetBucketLocation"},
    "uploads": {"GET": "ListMultipartUploads"},
    "versioning": {"GET": "GetBucketVersioning", "PUT": "PutBucketVersioning"},
    "versions": {"GET": "ListObjectVersions"},
}

_OBJECT = {
    "acl": {"GET": "GetObjectACL", "PUT": "PutObjectACL"},
    "append": {"POST": "AppendObject"},
    "select": {"POST": "SelectObjectContent"},
    "restore": {"POST": "RestoreObject"},
    "retention": {"GET": "GetObjectRetention", "PUT": "PutObjectRetention"},
    "symlink": {"GET": "GetSymlink", "PUT": "PutSymlink"},
    "tagging": {"GET": "GetObjectTagging", "PUT": "PutObjectTagging", "DELETE": "DeleteObjectTagging"},
    "uploads": {"POST": "CreateMultipartUpload"},
    "uploadid": {
        "PUT": "UploadPart",
        "POST": "CompleteMultipartUpload",
        "DELETE": "AbortMultipartUpload",
        "GET": "ListParts",
    },
}

_WITH_XML_BODY = frozenset(
    {
        *("CreateBucket", "PutBucketACL", "PutBucketVersioning", "DeleteObjects", "CompleteMultipartUpload"),
        *("PutObjectACL", "PutObjectTagging", "RestoreObject", "PutBucketSetting", "PutObjectRetention"),
        *("PostBucketSetting", "SelectObjectContent"),
    }
)
_WITH_JSON_BODY = frozenset(
    {
        *("AssumeRole", "AssumeRoleWithWebIdentity", "GetCallerIdentity", "GetFederationToken"),
        *("GetSessionToken", "GetUserAppId", "TencentCloudApi"),
    }
)
_WITH_DATA = frozenset({"PutObject", "UploadPart", "AppendObject"})


def route(method: str, place: Place, parameters: Mapping[str, str], copies: bool) -> tuple[str, str]:
    """Return the operation and, for documents of a bucket, the name of the setting.

    The operation of a setting is GetBucketSetting, PutBucketSetting, DeleteBucketSetting or, for a
    one-off inventory, PostBucketSetting.
    """
    if not place.bucket:
        return _choose(_PLAIN["service"], method), ""
    if place.website:
        return (
            "OptionsObject" if method == "OPTIONS" else "HeadObject" if method == "HEAD" else "GetObject",
            "",
        )
    sub = next((name for name in _SUB_RESOURCES if name in parameters), "") if parameters else ""
    if not place.key:
        if sub in SETTINGS:
            methods = ("GET", "PUT", "DELETE", *(("POST",) if sub == "inventory" else ()))
            return _choose({m: f"{m.title()}BucketSetting" for m in methods}, method), sub
        return _choose(_table(_BUCKET, "bucket", sub), method), ""
    operation = _choose(_table(_OBJECT, "object", sub), method)
    if copies and operation in ("PutObject", "UploadPart"):
        operation = {"PutObject": "CopyObject", "UploadPart": "UploadPartCopy"}[operation]
    return operation, ""


def _table(tables: Mapping[str, dict[str, str]], kind: str, sub: str) -> dict[str, str]:
    if sub and sub not in tables:
        raise CosError("NotImplemented")
    return tables[sub] if sub else _PLAIN[kind]


def _choose(table: Mapping[str, str], method: str) -> str:
    if method not in table:
        raise CosError("MethodNotAllowed")
    return table[method]


def counted_name(operation: str, setting: str) -> str:
    """Return the name under which a request is counted, such as PutBucketLifecycle."""
    if setting:
        return operation.removesuffix("Setting") + SETTINGS[setting].operation
    return operation


def takes_document(operation: str) -> bool:
    """Tell whether the body is a document to be held in memory."""
    return operation in _WITH_XML_BODY or operation in _WITH_JSON_BODY


def takes_data(operation: str) -> bool:
    """Tell whether the body is the content of an object or part."""
    return operation in _WITH_DATA
