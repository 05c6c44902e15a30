"""Whether a call may happen: who asks, what is asked for, and what has been granted.

Policies of the user, of temporary keys and of the bucket are asked, and the ACLs of bucket and object. A deny
beats everything, what nobody allows is denied. Within the own account one allow is enough; across accounts
the bucket must have granted it to the user, or to the account whose own policies then allow it to the user.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from cosfs.emulator import grants
from cosfs.emulator.accounts import Principal
from cosfs.emulator.auth import ADMIN_ID
from cosfs.emulator.bucket_rules import BucketRules
from cosfs.emulator.context import Call
from cosfs.emulator.copy_source import copy_source
from cosfs.emulator.errors import CosError
from cosfs.emulator.policy import Policy, Question, Verdict, matches
from cosfs.emulator.request_keys import RequestKeys
from cosfs.emulator.routing import counted_name
from cosfs.emulator.store import Bucket

# Calls that check for themselves: a preflight needs no signature, a form carries its own, and the body says
# what is to be deleted.
_ELSEWHERE = frozenset({"OptionsObject", "PostObject", "DeleteObjects"})
_COPIES = frozenset({"CopyObject", "UploadPartCopy"})
# Operations whose name in policies is another one.
_ACTIONS = {
    "ListBuckets": "GetService",
    "ListObjects": "GetBucket",
    "ListObjectVersions": "GetBucketObjectVersions",
    "CreateBucket": "PutBucket",
    "CreateMultipartUpload": "InitiateMultipartUpload",
    "CopyObject": "PutObject",
    "DeleteObjects": "DeleteMultipleObjects",
    "RestoreObject": "PostObjectRestore",
}
# What ACLs can grant: on the object if it has an ACL of its own, and on the bucket.
_OF_OBJECT = {
    **dict.fromkeys(("GetObject", "HeadObject", "SelectObjectContent", "GetSymlink"), "READ"),
    "GetObjectACL": "READ_ACP",
    "PutObjectACL": "WRITE_ACP",
}
_OF_BUCKET = {
    **dict.fromkeys(("ListObjects", "HeadBucket", "ListObjectVersions", "ListMultipartUploads"), "READ"),
    **dict.fromkeys(
        (
            *("PutObject", "CopyObject", "AppendObject", "DeleteObject", "DeleteObjects", "PostObject"),
            *("UploadPart", "UploadPartCopy", "CompleteMultipartUpload", "AbortMultipartUpload"),
            *("CreateMultipartUpload", "ListParts", "PutSymlink"),
        ),
        "WRITE",
    ),
    "GetBucketACL": "READ_ACP",
    "PutBucketACL": "WRITE_ACP",
}
_OWNERS_ALWAYS = frozenset({"GetBucketPolicy", "PutBucketPolicy", "DeleteBucketPolicy"})


def authorize(call: Call) -> None:
    """Refuse a call that its identity may not make, before its body is read."""
    operation = call.operation
    if operation in _ELSEWHERE:
        return
    if not call.place.bucket:
        _authorize_service(call)
    elif operation == "CreateBucket":
        _authorize_creation(call)
    else:
        require(call, operation, call.key)
        if operation in _COPIES:
            _authorize_source(call)


def require(call: Call, operation: str, key: str, version: str = "") -> None:
    """Refuse an operation on a key of the call's bucket, in the name of the call's identity.

    For handlers that learn from the body what is asked for: set `call.identity` first if the body tells it.
    """
    if not may(call, operation, key, version):
        raise CosError("AccessDenied")


def may(call: Call, operation: str, key: str, version: str = "", bucket: Bucket | None = None) -> bool:
    """Tell whether the call's identity may do an operation on a key of a bucket, the call's if left out."""
    if bucket is None:
        bucket = call.bucket
        version = version or (call.version if key == call.key else "")
    rules = call.emulation.rules.of(bucket)
    principal = call.principal
    if rules.strict:
        _check_strict(call, rules, operation)
    if principal.unrestricted and (principal.account == rules.owner.uin or principal.kind == "admin"):
        if rules.policy is None or principal.kind == "admin":
            return True
        if counted_name(operation, call.setting) in _OWNERS_ALWAYS:
            return True  # or nobody could take back a policy that denies everything
    if principal.anonymous:  # with a signature it does not matter where a link was found
        _check_referer(call, rules)
    return _decide(call, principal, rules, bucket, operation, key, version)


def _check_referer(call: Call, rules: BucketRules) -> None:
    if rules.referer is not None and not rules.referer.admits(call.headers.get("referer", "")):
        raise CosError("AccessDenied", "You are denied by bucket referer rule")


def require_deletion(call: Call, keys: Sequence[str]) -> None:
    """Refuse a deletion of many objects that may be made for none of them; each one is asked for as well."""
    if not (may(call, "DeleteObjects", "") or any(may(call, "DeleteObjects", key) for key in keys)):
        raise CosError("AccessDenied")


def _decide(
    call: Call,
    principal: Principal,
    rules: BucketRules,
    bucket: Bucket,
    operation: str,
    key: str,
    version: str,
) -> bool:
    action = _ACTIONS.get(operation) or counted_name(operation, call.setting)
    resources = (f"{bucket.name}/{key}",) if key else (f"{bucket.name}/", bucket.name)
    keys = RequestKeys(call, bucket, version)
    question = Question(f"cos:{action}", resources, bucket.region, rules.owners, principal.names, keys.values)
    own = own_verdict(principal, question)
    granted = rules.ask(question)
    if Verdict.DENY in (own, granted):
        return False
    if principal.account == rules.owner.uin and own is Verdict.ALLOW:
        return True
    delegated, by_account = Verdict.NONE, question
    if principal.account_names and principal.account != rules.owner.uin:
        by_account = replace(question, names=principal.account_names)
        delegated = rules.ask(by_account)
    if delegated is Verdict.DENY:
        return False
    if granted is Verdict.ALLOW or (own is delegated is Verdict.ALLOW):
        return True
    acl, permission = _acl(call, bucket, operation, key, version)
    if not permission:
        return False
    if grants.allows(acl, permission, question.names):
        return True
    if own is not Verdict.ALLOW or by_account is question:
        return False
    return grants.allows(acl, permission, by_account.names)


def own_verdict(principal: Principal, question: Question) -> Verdict:
    """Ask the policies of the one who calls; those of temporary keys can only take away."""
    verdict = Verdict.ALLOW if principal.root else _ask(principal.policies, question)
    if principal.session is not None and principal.session.ask(question) is not Verdict.ALLOW:
        return Verdict.DENY
    return verdict


def _ask(policies: Iterable[Policy], question: Question) -> Verdict:
    verdicts = {policy.ask(question) for policy in policies}
    return next((found for found in (Verdict.DENY, Verdict.ALLOW) if found in verdicts), Verdict.NONE)


def _acl(call: Call, bucket: Bucket, operation: str, key: str, version: str) -> tuple[str, str]:
    """Return the ACL that speaks about a call, and what it must grant: '' if no ACL can."""
    if operation not in _OF_OBJECT:
        return bucket.acl, _OF_BUCKET.get(operation, "")
    row = call.store.find(bucket, key, version) if version else call.store.newest(bucket, key)
    return (row.acl if row is not None and row.acl else bucket.acl), _OF_OBJECT[operation]


def _authorize_source(call: Call) -> None:
    place, version = copy_source(call.headers["x-cos-copy-source"], call.resolve)
    if not call.store.resolve(place.bucket):
        return  # the handler says that it is not there
    bucket = call.store.bucket(place.bucket)
    if not may(call, "GetObject", place.key, version, bucket):
        raise CosError("AccessDenied")


def _authorize_service(call: Call) -> None:
    principal = call.principal
    if principal.anonymous:
        raise CosError("AccessDenied")
    if principal.unrestricted:
        return
    owners = (f"uid/{principal.appid}", f"uin/{principal.account}")
    question = Question(
        "cos:GetService", ("",), "", owners, principal.names, RequestKeys(call, None, "").values
    )
    if own_verdict(principal, question) is not Verdict.ALLOW:
        raise CosError("AccessDenied")


def _authorize_creation(call: Call) -> None:
    """Buckets are made by the account whose APPID is in the name."""
    principal = call.principal
    name = call.full_name(call.name)
    owner = call.emulation.accounts.owner_of(name)
    if principal.kind == "admin":
        return
    if principal.account != owner.uin:
        raise CosError("AccessDenied")
    if principal.unrestricted:
        return
    owners = (f"uid/{owner.appid}", f"uin/{owner.uin}")
    keys = RequestKeys(call, None, "")
    question = Question(
        "cos:PutBucket", (f"{name}/", name), call.emulation.region, owners, principal.names, keys.values
    )
    if own_verdict(principal, question) is not Verdict.ALLOW:
        raise CosError("AccessDenied")


def _check_strict(call: Call, rules: BucketRules, operation: str) -> None:
    """Refuse a signature that leaves out what the bucket wants signed and the request has."""
    identity = call.identity
    if identity.scheme != "cos" or identity.secret_id == ADMIN_ID or operation != call.operation:
        return
    action = _ACTIONS.get(operation) or counted_name(operation, call.setting)
    signed_headers = set(identity.header_list.split(";"))
    signed_parameters = set(identity.parameter_list.split(";"))
    for rule in rules.strict:
        if not any(matches(wanted, action) for wanted in rule.actions):
            continue
        for name in call.headers if "all" in rule.headers else rule.headers:
            if name in call.headers and name not in signed_headers and name not in _UNSIGNABLE:
                raise CosError("AccessDenied", "Strict signature missing header that must be signed")
        for name in call.parameters if "all" in rule.parameters else rule.parameters:
            if name in call.parameters and name not in signed_parameters and not _of_signature(name):
                raise CosError("AccessDenied", "Strict signature missing param that must be signed")


# `all` cannot mean what carries the signature, or what belongs to the connection.
_UNSIGNABLE = frozenset({"authorization", "connection", "expect", "keep-alive", "te", "x-cos-security-token"})


def _of_signature(name: str) -> bool:
    return name.startswith("q-") or name in ("sign", "x-cos-security-token")
