"""What requests are called in policies, and policies that allow them. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cosfs.records import dataclass

__all__ = ["Scope", "action_of", "resource_of", "scoped_policy", "statement_of"]

# Operations whose action has another name.
_ACTIONS: Mapping[str, str] = {
    "ListBuckets": "GetService",
    "ListObjects": "GetBucket",
    "ListVersions": "GetBucketObjectVersions",
    "ListUploads": "ListMultipartUploads",
    "CreateBucket": "PutBucket",
    "CreateUpload": "InitiateMultipartUpload",
    "CompleteUpload": "CompleteMultipartUpload",
    "AbortUpload": "AbortMultipartUpload",
    "CopyObject": "PutObject",
    "DeleteObjects": "DeleteMultipleObjects",
    "RestoreObject": "PostObjectRestore",
}
_WORDS = {"Acl": "ACL", "Cors": "CORS"}
_READ_OBJECTS = ("GetObject", "HeadObject", "OptionsObject", "GetObjectACL", "GetObjectTagging")
_WRITE_OBJECTS = (
    *("PutObject", "PostObject", "AppendObject", "DeleteObject", "DeleteMultipleObjects"),
    *("InitiateMultipartUpload", "UploadPart", "UploadPartCopy", "CompleteMultipartUpload"),
    *("AbortMultipartUpload", "ListParts", "PutObjectACL", "PutObjectTagging", "DeleteObjectTagging"),
    "PostObjectRestore",
)
# Lists, which can be held to a prefix by a condition.
_LISTS = ("GetBucket", "GetBucketObjectVersions", "ListMultipartUploads")
# Of a bucket, not of objects in it; those of lists are among them.
_OF_BUCKET = frozenset({*_LISTS, "HeadBucket", "PutBucket", "DeleteBucket", "DeleteMultipleObjects"})


def action_of(operation: str) -> str:
    """Return the action that a policy must allow for an operation, "name/cos:GetObject"."""
    name = _ACTIONS.get(operation, operation)
    for word, upper in _WORDS.items():
        if name.endswith(word):
            name = name[: -len(word)] + upper
    return f"name/cos:{name}"


def resource_of(bucket: str, key: str = "", region: str = "") -> str:
    """Return the resource of a bucket or of what a key (or a pattern of keys) names, as policies write it."""
    if not bucket:
        return "*"
    appid = bucket.rpartition("-")[2]
    owner = f"uid/{appid}" if appid.isdigit() else "*"
    return f"qcs::cos:{region or '*'}:{owner}:{bucket}/{key}"


def statement_of(actions: Iterable[str], resources: Iterable[str], **condition: Any) -> dict[str, Any]:
    """Return a statement that allows actions on resources."""
    made: dict[str, Any] = {"effect": "allow", "action": list(actions), "resource": list(resources)}
    return {**made, "condition": condition} if condition else made


@dataclass(frozen=True, slots=True)
class Scope:
    """A bucket, or what is below a prefix of it."""

    bucket: str
    prefix: str = ""
    region: str = ""


def scoped_policy(scopes: Sequence[Scope], actions: Sequence[str] = (), *, read_only: bool = False) -> str:
    """Return a policy, as JSON, that allows actions in scopes and nothing else.

    Without actions: all that reads and writes objects and lists them; read_only leaves writing out. Without
    scopes the actions are allowed everywhere.
    """
    named = [name if name.startswith("name/") else f"name/cos:{name}" for name in actions]
    if not scopes:
        everything = [f"name/cos:{each}" for each in (*_READ_OBJECTS, *_LISTS, "HeadBucket", "GetService")]
        allowed = named or (everything if read_only else ["name/cos:*"])
        return _document([statement_of(allowed, ["*"])])
    statements = []
    for scope in scopes:
        statements += _statements(scope, named, read_only=read_only)
    return _document(statements)


def _statements(scope: Scope, named: Sequence[str], *, read_only: bool) -> list[dict[str, Any]]:
    objects = resource_of(scope.bucket, f"{scope.prefix}*", scope.region)
    bucket = resource_of(scope.bucket, "", scope.region)
    if named:
        of_objects, lists, others = _sorted(named)
    else:
        wanted = _READ_OBJECTS if read_only else (*_READ_OBJECTS, *_WRITE_OBJECTS)
        of_objects = [f"name/cos:{each}" for each in wanted]
        lists, others = [f"name/cos:{each}" for each in _LISTS], ["name/cos:HeadBucket"]
    statements = []
    if of_objects:
        statements.append(statement_of(of_objects, [objects]))
    if others:
        statements.append(statement_of(others, [bucket]))
    if lists:
        condition = {"string_like": {"cos:prefix": f"{scope.prefix}*"}} if scope.prefix else {}
        statements.append(statement_of(lists, [bucket], **condition))
    return statements


def _sorted(actions: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Return the actions of objects, those that list, and the other ones of buckets."""
    of_objects, lists, others = [], [], []
    for action in actions:
        name = action.removeprefix("name/cos:")
        if name in _LISTS:
            lists.append(action)
        elif name in _OF_BUCKET or "Bucket" in name:
            others.append(action)
        else:
            of_objects.append(action)
    return of_objects, lists, others


def _document(statements: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps({"version": "2.0", "statement": statements})
