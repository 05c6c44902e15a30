"""What each error code of COS means: its class, a sentence for people, and what to do. Pure.

The codes are those of the API's error table. A message that is left empty is COS's own; with detail the
service's words follow ours, as they say which argument or element is meant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cosfs.errors import (
    AlreadyExistsError,
    ArchivedError,
    AuthenticationError,
    BucketNotEmptyError,
    BucketNotFoundError,
    ClockSkewError,
    ConflictError,
    NotFoundError,
    ObjectNotFoundError,
    PermissionDeniedError,
    PreconditionFailedError,
    ServerError,
    ServiceError,
    ThrottledError,
    TooLargeError,
)
from cosfs.records import dataclass

__all__ = ["BY_CODE", "BY_STATUS", "DENIED", "NOT_SKEW", "NO_BUCKET", "SKEW", "Kind", "kind_of"]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of failure. {target} in a hint stands for what was asked for."""

    error: Callable[..., ServiceError]
    message: str = ""
    hint: str = ""
    detail: bool = False


_CHECK = "Check what was given against the documentation of the setting"
_BUG = "If cos wrote this request by itself, please report it with the RequestId"
_DAMAGED = "The data was damaged on the way; try again, and check the network if it goes on"

NO_BUCKET = Kind(
    BucketNotFoundError,
    "the bucket does not exist",
    "Check its name (it ends in -APPID) and its region; cos ls lists your buckets",
)
SKEW = Kind(
    ClockSkewError,
    "the clock of this machine is wrong, so COS refuses the signature",
    "Set the clock, for example with: timedatectl set-ntp true",
)
NOT_SKEW = Kind(
    ClockSkewError,
    "COS takes the signature for one of another time, although its clock and that of this machine agree",
    "The request may have been held up on its way, or signed long ago; try again",
)
_EXPIRED = Kind(
    AuthenticationError,
    "the temporary credentials have expired",
    "Get new ones and set COS_SESSION_TOKEN too",
)
DENIED = Kind(
    PermissionDeniedError,
    "access denied",
    "The credentials are valid but a policy does not allow this",
)
_SLOW = Kind(ThrottledError, "COS asks for fewer requests", "Lower max_concurrent_requests")
_IMAGE = Kind(
    ServiceError, "the image cannot be processed as asked", "Check the parameters of data processing", True
)
_MAZ = Kind(
    ServiceError,
    "buckets in one availability zone and in several cannot be mixed like this",
    "Use a storage class of the bucket's own kind (MAZ_STANDARD in buckets of several zones)",
)


def _no_setting(what: str, command: str = "") -> Kind:
    hint = f"cos {command} put makes it" if command else "There is nothing to read or remove"
    return Kind(NotFoundError, f"{what} was never set", hint)


def _full(what: str, hint: str) -> Kind:
    return Kind(TooLargeError, f"there are as many {what} as there may be", hint)


_ACCESS: Mapping[str, Kind] = {
    "AccessDenied": DENIED,
    "AccessForbidden": Kind(
        PermissionDeniedError,
        "no CORS rule of the bucket allows this origin and method",
        "Add one to the bucket's CORS configuration",
    ),
    "NoProcessAuthority": DENIED,
    "UserNotSourceBucketOwner": Kind(
        PermissionDeniedError, "the source bucket belongs to another account", "Ask its owner to allow it"
    ),
    "UserNotTargetBucketOwner": Kind(
        PermissionDeniedError, "the target bucket belongs to another account", "Name a bucket of your own"
    ),
    "InvalidAccessKeyId": Kind(
        AuthenticationError,
        "COS does not know this SecretId",
        "Check secret_id (COS_SECRET_ID); a temporary one needs its session token as well",
    ),
    "SignatureDoesNotMatch": Kind(
        AuthenticationError,
        "the SecretKey does not belong to this SecretId",
        "Check secret_key (COS_SECRET_KEY)",
    ),
    "RequestTimeTooSkewed": SKEW,
    "Request has expired": SKEW,
    "ExpiredToken": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "InvalidToken": Kind(
        AuthenticationError, "the session token is not valid", "Check COS_SESSION_TOKEN, or get a new one"
    ),
    "PathStyleDomainForbidden": Kind(
        PermissionDeniedError,
        "this bucket cannot be reached in path style",
        "Set addressing_style = virtual, or leave it out",
    ),
    "PaymentRequired": Kind(
        PermissionDeniedError,
        "the account is in arrears",
        "Top it up in the console (Billing Center); what is stored is kept for a while only",
    ),
    "UnavailableForLegalReasons": Kind(
        PermissionDeniedError,
        "the object is blocked for legal reasons",
        "The owner of the account finds the notice in the console",
    ),
}

_MISSING: Mapping[str, Kind] = {
    "NoSuchBucket": NO_BUCKET,
    "NoSuchKey": Kind(ObjectNotFoundError, "the object does not exist"),
    "NoSuchResource": Kind(ObjectNotFoundError, "the object does not exist"),
    "NoSuchVersion": Kind(
        ObjectNotFoundError, "this version of the object does not exist", "It may have been removed for good"
    ),
    "NoSuchCopySource": Kind(
        ObjectNotFoundError, "the source of the copy does not exist", "Check its bucket, key and region"
    ),
    "NoSuchUpload": Kind(
        NotFoundError,
        "the multipart upload was completed or aborted meanwhile",
        "Look whether the object is there; if not, upload it again",
    ),
    "NoSuchCORSConfiguration": _no_setting("the CORS configuration", "cors"),
    "NoSuchEncryptionConfiguration": _no_setting("the default encryption"),
    "NoSuchLifecycleConfiguration": _no_setting("the lifecycle", "lifecycle"),
    "NoSuchObjectLockConfiguration": _no_setting("object lock"),
    "NoSuchWebsiteConfiguration": _no_setting("the website", "website"),
    "NoSuchTagSet": _no_setting("the set of tags"),
    "NoSuchPolicy": _no_setting("the policy", "policy"),
    "NoSuchBucketPolicy": _no_setting("the policy", "policy"),
    "NoSuchPolicyVersion": _no_setting("this version of the policy"),
    "NoSuchJob": Kind(NotFoundError, "there is no such job", "Check its number"),
    "NoBucketQuotaPolicy": _no_setting("a quota"),
    "InventoryConfigurationNotFoundError": _no_setting("this inventory"),
    "OriginConfigurationNotFoundError": _no_setting("an origin"),
    "ReplicationConfigurationNotFoundError": _no_setting("replication"),
}

_CONFLICTS: Mapping[str, Kind] = {
    "PreconditionFailed": Kind(PreconditionFailedError, "the object was changed meanwhile", "Try again"),
    "FileAlreadyExists": Kind(
        AlreadyExistsError, "the object exists already", "Choose another key, or allow overwriting it"
    ),
    "BucketAlreadyExists": Kind(
        AlreadyExistsError, "another account owns a bucket of this name", "Choose another name"
    ),
    "BucketAlreadyOwnedByYou": Kind(
        AlreadyExistsError, "you already own this bucket", "Use it, or choose another name"
    ),
    "BucketNotEmpty": Kind(
        BucketNotEmptyError,
        "the bucket is not empty",
        "It may hold old versions or unfinished uploads too; cos rb --force removes all",
    ),
    "BucketLocked": Kind(
        ConflictError, "the bucket is locked (object lock)", "Wait until the lock ends; nobody can lift it"
    ),
    "InvalidBucketState": Kind(
        ConflictError,
        "the state of the bucket does not allow this",
        "Replication and object lock, for example, need versioning: cos versioning enable cos://BUCKET",
    ),
    "ObjectLocked": Kind(
        ConflictError, "the object is locked against changes", "Wait until its retention or legal hold ends"
    ),
    "InvalidLockedTime": Kind(
        ConflictError, "a lock can be made longer, never shorter", "Give a later end of the lock"
    ),
    "InvalidObjectState": Kind(
        ArchivedError,
        "the object is archived and cannot be read yet",
        "Restore it first, which takes minutes to hours: cos restore {target} --days 7 --wait",
    ),
    "RestoreAlreadyInProgress": Kind(
        ConflictError, "the object is being restored already", "cos stat {target} shows when it is done"
    ),
    "RestoreNonArchiveObject": Kind(
        ServiceError, "the object is not archived, so there is nothing to restore", "Read it as it is"
    ),
    "DomainConfigConflict": Kind(
        ConflictError, "the domain belongs to another bucket", "Remove it there first"
    ),
    "RecordAlreadyExist": Kind(
        ConflictError, "the DNS record exists already", "Remove it, or allow replacing it"
    ),
    "QuotaConflict": Kind(ConflictError, "the quota contradicts what is there", "Read it, then change it"),
    "QuotaOperationConflict": Kind(ConflictError, "the quota is being changed right now", "Try again later"),
    "AppendPositionErr": Kind(
        ConflictError,
        "the object is not as long as the append supposes",
        "Somebody else appends to it; look up its length and append from there",
    ),
    "ObjectNotAppendable": Kind(
        ConflictError, "the object was not made by appending, so nothing can be appended", "Write it anew"
    ),
    "PathConflict": Kind(
        ConflictError, "several writers change this object at the same moment", "Try again in a moment"
    ),
    "UploadConflict": Kind(
        ConflictError, "several writers change this upload at the same moment", "Try again in a moment"
    ),
    "NotifyRuleEventConflict": Kind(
        ConflictError, "two notification rules are for the same event", "Change one", True
    ),
    "NotifyRulePrefixConflict": Kind(
        ConflictError, "the prefixes of two notification rules overlap", "Change one", True
    ),
    "NotifyRuleSuffixConflict": Kind(
        ConflictError, "the suffixes of two notification rules overlap", "Change one", True
    ),
    "LoggingConfExists": Kind(ConflictError, "logging is set already", "Remove it first: cos logs disable"),
}

_LIMITS: Mapping[str, Kind] = {
    "EntityTooLarge": Kind(
        TooLargeError,
        "the body is larger than COS takes in one request",
        "Send it in parts (up to 5 GB each)",
    ),
    "EntityTooSmall": Kind(
        ServiceError, "a part other than the last is smaller than 1 MiB", "Use parts of 1 MiB or more"
    ),
    "KeyTooLong": Kind(
        TooLargeError,
        "the key or the metadata is longer than COS allows",
        "A key has at most 850 bytes of UTF-8, metadata at most 2 KiB",
    ),
    "XMLSizeLimit": Kind(TooLargeError, "the document is longer than COS takes", "Send less at a time"),
    "TooManyBuckets": Kind(
        ServiceError,
        "the account has as many buckets as it may have",
        "Remove one, or ask Tencent Cloud for a higher limit (200 at first)",
    ),
    "AttachmentFull": _full("policies attached", "Detach one"),
    "PolicyFull": _full("policies", "Remove one"),
    "PolicyVersionFull": _full("versions of the policy", "Remove an old one"),
    "InventoryFull": _full("inventories of the bucket", "Remove one"),
    "SlowDown": _SLOW,
    "KmsFreqControl": Kind(
        ThrottledError, "the key service (KMS) asks for fewer requests", "Lower max_concurrent_requests"
    ),
}

_DAMAGE: Mapping[str, Kind] = {
    "BadDigest": Kind(ServiceError, "what arrived is not what was sent (MD5 differs)", _DAMAGED),
    "EntitySizeNotMatch": Kind(ServiceError, "what arrived is not as long as what was sent", _DAMAGED),
    "IncompleteBody": Kind(ServiceError, "the body broke off before its end", _DAMAGED),
    "RequestTimeout": Kind(
        ServiceError, "COS waited too long for the body", "The network is slow; use fewer requests at once"
    ),
    "UserNetworkTooSlow": Kind(
        ServiceError, "the network is too slow for this request", "Use fewer requests at once, smaller parts"
    ),
    "InvalidSHA1Digest": Kind(ServiceError, "the SHA-1 of the body is wrong", _DAMAGED),
    "InvalidDigest": Kind(ServiceError, "Content-MD5 is not the MD5 of the body in base64", _BUG),
}

_OURS: Mapping[str, Kind] = {
    "BadRquest": Kind(ServiceError, "COS does not understand the request", _BUG, True),
    "InvalidArgument": Kind(ServiceError, "", "Check the value that is named"),
    "InvalidRequest": Kind(ServiceError, "COS does not take this request", _CHECK, True),
    "InvalidURI": Kind(ServiceError, "COS does not take this address", "Check the key for odd signs", True),
    "InvalidDelimiter": Kind(ServiceError, "COS does not take this delimiter", "Use /"),
    "InvalidCopySource": Kind(
        ServiceError, "COS does not take this source of a copy", "Check its bucket, key and region", True
    ),
    "InvalidObjectName": Kind(
        ServiceError,
        "COS does not take this key",
        "Keys must not begin with / or \\ or hold the control characters 24 to 27",
    ),
    "InvalidBucketName": Kind(
        ServiceError, "COS does not accept this name for a bucket", "Write it with the APPID: name-1250000000"
    ),
    "BucketNameTooLong": Kind(
        ServiceError, "the name of the bucket is too long", "Bucket and host may have 60 characters together"
    ),
    "TargetBucketNameInvalid": Kind(
        ServiceError, "the target is no name of a bucket", "Write it with the APPID: name-1250000000"
    ),
    "InvalidTargetBucketForLogging": Kind(
        ServiceError,
        "logs cannot be written to this bucket",
        "Name a bucket of your own in the same region, which lets COS write",
    ),
    "InvalidLocationConstraint": Kind(
        ServiceError, "the bucket cannot be made in this region", "Check --region (such as ap-guangzhou)"
    ),
    "InvalidRegionName": Kind(
        ServiceError, "there is no such region", "Check --region (such as ap-guangzhou)"
    ),
    "InvalidPart": Kind(
        ServiceError, "a part of the upload is missing or was replaced", "Upload it again", True
    ),
    "InvalidPartOrder": Kind(ServiceError, "the parts of the upload are not in order", _BUG),
    "InvalidUploadStatus": Kind(
        ServiceError, "the upload was completed or aborted", "Upload it again if it is not there"
    ),
    "ListPartUploadIdIsEmpty": Kind(ServiceError, "the upload id is missing", "Give --upload-id"),
    "UploadIdNotSupported": Kind(
        ServiceError, "this object takes no upload in parts", "Upload it in one piece"
    ),
    "InvalidRange": Kind(
        ServiceError, "the range lies behind the end of the object", "Look up its size first"
    ),
    "MethodNotAllowed": Kind(
        ServiceError,
        "this cannot be done here",
        "A delete marker, a directory of an OFS bucket or a website host do not take it",
        True,
    ),
    "MissingContentLength": Kind(ServiceError, "the length of the body is missing", _BUG),
    "MissingRequestBodyError": Kind(
        ServiceError, "the request needs a body", "Give --config with a document"
    ),
    "UnexpectedContent": Kind(ServiceError, "the request must have no body", _BUG),
    "MalformedXML": Kind(ServiceError, "the document is not what COS expects", _CHECK, True),
    "MalformedPolicy": Kind(
        ServiceError, "the policy is not one", "Check its JSON: version, statement, effect, action", True
    ),
    "InvalidPolicyDocument": Kind(
        ServiceError, "the policy of the form is not one", "Make it anew: cos presign --post", True
    ),
    "MalformedPOSTRequest": Kind(
        ServiceError, "the form is not multipart/form-data as COS expects", "Put the field file last", True
    ),
    "IncorrectNumberOfFilesInPostRequest": Kind(
        ServiceError, "a form uploads exactly one file", "Send one field named file, as the last"
    ),
    "InvalidTag": Kind(
        ServiceError,
        "COS does not take these tags",
        "Objects have at most 10, buckets 50; keys are unique",
        True,
    ),
    "LoggingPrefixInvalid": Kind(ServiceError, "COS does not take this prefix of logs", "Check --prefix"),
    "WebsiteURLInvalid": Kind(ServiceError, "COS does not take this address of the website", _CHECK, True),
    "UserCnameInvalid": Kind(ServiceError, "this is no domain that a bucket can have", "Check its spelling"),
    "DNSRecordVerifyFailed": Kind(
        ServiceError, "the DNS of the domain does not point to the bucket", "Set its CNAME record, and wait"
    ),
    "DomainAuditFailed": Kind(
        PermissionDeniedError, "the domain is not registered (ICP)", "Register it, or use the bucket's own"
    ),
    "BucketAccelerateNotEnabled": Kind(
        ServiceError,
        "global acceleration is not enabled for this bucket",
        "Enable it (cos accelerate enable cos://BUCKET), or leave accelerate out of the settings",
    ),
    "ActionAccelerateNotSupported": Kind(
        ServiceError, "this cannot be asked of an accelerated host", "Leave accelerate out for it"
    ),
    "BucketVersionNotOpen": Kind(
        ServiceError, "this needs versioning", "Run: cos versioning enable cos://BUCKET"
    ),
    "NotSupportedStorageClass": Kind(
        ServiceError, "the storage class is not there in this bucket or region", "Check --storage-class"
    ),
    "MultiAZFeatureNotSupport": Kind(
        ServiceError, "this region has no buckets in several availability zones", "Leave --maz out"
    ),
    "MAZOperationNotSupportOnOAZBucket": _MAZ,
    "OAZOperationNotSupportOnMAZBucket": _MAZ,
    "JsonAPINotSupportOnMAZBucket": _MAZ,
    "MultiBucketNotSupport": Kind(ServiceError, "this cannot be done with several buckets", "Name one"),
    "VerifyAlgorithmNotSupported": Kind(ServiceError, "COS does not know this checksum", "Use MD5 or CRC64"),
    "SsecDecryptHeaderInvalid": Kind(
        ServiceError,
        "the object is encrypted with a key of yours, and this key is missing or wrong",
        "Give the one it was uploaded with: cos cp and cos sync take --sse-c-key",
    ),
    "SSEContentNotSupported": Kind(
        ServiceError, "this object cannot be encrypted as asked", "Check --sse", True
    ),
    "SSEHeaderNotAllowed": Kind(
        ServiceError, "encryption cannot be asked for in this request", "Leave --sse out", True
    ),
    "KmsException": Kind(ServiceError, "the key service (KMS) refuses", "Check --sse-kms-key-id", True),
    "KmsKeyDisabled": Kind(
        ServiceError, "the key of KMS is disabled", "Enable it in the console, or use another"
    ),
    "KmsKeyNotExist": Kind(
        ServiceError, "the key of KMS does not exist", "Check --sse-kms-key-id; it must be in the same region"
    ),
    "KmsInternalException": Kind(ServerError, "the key service (KMS) has trouble", "Try again later", True),
    "InvalidPicOperations": _IMAGE,
    "NotImplemented": Kind(ServiceError, "COS does not do this", "Leave the option or header out", True),
    "InternalError": Kind(ServerError, "", "Try again later"),
    "ServiceUnavailable": Kind(ServerError, "", "Try again later"),
}

BY_CODE: Mapping[str, Kind] = {**_ACCESS, **_MISSING, **_CONFLICTS, **_LIMITS, **_DAMAGE, **_OURS}

BY_STATUS: Mapping[int, Kind] = {
    401: DENIED,
    402: BY_CODE["PaymentRequired"],
    403: Kind(
        PermissionDeniedError,
        "access denied",
        "The credentials may be wrong, or a policy does not allow this",
    ),
    404: Kind(NotFoundError),
    409: Kind(ConflictError),
    412: BY_CODE["PreconditionFailed"],
    413: BY_CODE["EntityTooLarge"],
    416: BY_CODE["InvalidRange"],
    429: _SLOW,
}


def kind_of(code: str) -> Kind | None:
    """Return what a code means, None if it is not known."""
    if code.startswith("Image"):
        return _IMAGE
    return BY_CODE.get(code)
