"""Every error code of COS has a class, a sentence of ours and something to do."""

from __future__ import annotations

import json
import time
from email.utils import formatdate

import pytest

from cosfs.client.codes import BY_CODE
from cosfs.client.failures import Failure, from_answer
from cosfs.client.retry import Attempt, is_repeatable
from cosfs.emulator import Emulator
from cosfs.errors import ArchivedError, ClockSkewError, PermissionDeniedError, ServiceError
from tests.client.scripted import error

NEVER = {
    400: """ActionAccelerateNotSupported AttachmentFull BadRquest BucketAccelerateNotEnabled BucketNameTooLong
        BucketVersionNotOpen DNSRecordVerifyFailed EntityTooLarge EntityTooSmall
        IncorrectNumberOfFilesInPostRequest InvalidArgument InvalidBucketName InvalidCopySource
        InvalidDelimiter
        InvalidDigest InvalidLocationConstraint InvalidObjectName InvalidPart InvalidPartOrder
        InvalidPolicyDocument InvalidRegionName InvalidRequest InvalidSHA1Digest InvalidTag
        InvalidTargetBucketForLogging InvalidUploadStatus InvalidURI InventoryFull KeyTooLong
        ListPartUploadIdIsEmpty LoggingConfExists LoggingPrefixInvalid MalformedPolicy MalformedPOSTRequest
        MalformedXML MissingRequestBodyError MultiAZFeatureNotSupport MAZOperationNotSupportOnOAZBucket
        OAZOperationNotSupportOnMAZBucket JsonAPINotSupportOnMAZBucket MultiBucketNotSupport
        NotifyRuleEventConflict NotifyRulePrefixConflict NotifyRuleSuffixConflict NotSupportedStorageClass
        PolicyFull PolicyVersionFull SsecDecryptHeaderInvalid SSEContentNotSupported SSEHeaderNotAllowed
        TargetBucketNameInvalid TooManyBuckets UnexpectedContent UserCnameInvalid VerifyAlgorithmNotSupported
        WebsiteURLInvalid XMLSizeLimit KmsException KmsKeyDisabled KmsKeyNotExist ImageResolutionExceed
        InvalidPicOperations ExpiredToken""",
    402: "PaymentRequired",
    403: """AccessDenied InvalidAccessKeyId SignatureDoesNotMatch AccessForbidden PathStyleDomainForbidden
        NoProcessAuthority UserNotSourceBucketOwner UserNotTargetBucketOwner RequestTimeTooSkewed
        InvalidObjectState""",
    404: """NoSuchBucket NoSuchVersion NoSuchUpload NoSuchCopySource NoSuchCORSConfiguration
        NoSuchEncryptionConfiguration NoSuchLifecycleConfiguration NoSuchObjectLockConfiguration
        NoSuchWebsiteConfiguration NoSuchTagSet NoSuchPolicy NoSuchPolicyVersion NoSuchJob NoBucketQuotaPolicy
        InventoryConfigurationNotFoundError OriginConfigurationNotFoundError
        ReplicationConfigurationNotFoundError""",
    405: "MethodNotAllowed RestoreNonArchiveObject UploadIdNotSupported",
    409: """BucketAlreadyExists BucketAlreadyOwnedByYou BucketNotEmpty BucketLocked InvalidBucketState
        ObjectLocked InvalidLockedTime DomainConfigConflict RecordAlreadyExist QuotaConflict
        QuotaOperationConflict RestoreAlreadyInProgress AppendPositionErr ObjectNotAppendable
        FileAlreadyExists""",
    411: "MissingContentLength",
    412: "PreconditionFailed",
    416: "InvalidRange",
    451: "UnavailableForLegalReasons DomainAuditFailed",
    501: "NotImplemented",
}
REPEATED = {
    400: "BadDigest EntitySizeNotMatch IncompleteBody RequestTimeout UserNetworkTooSlow",
    409: "PathConflict UploadConflict",
    500: "InternalError KmsInternalException",
    503: "SlowDown ServiceUnavailable KmsFreqControl",
}
CODES = [
    (status, code, repeated)
    for table, repeated in ((NEVER, False), (REPEATED, True))
    for status, codes in table.items()
    for code in codes.split()
]
HEADERS = {"x-cos-request-id": "the-request"}


def raised(status: int, code: str, message: str = "Words of the service.", **more: object) -> ServiceError:
    failure = Failure(
        status, HEADERS, error(status, code, message).body, "cos://b-1250000000/a/k", "host", **more
    )  # type: ignore[arg-type]
    found = from_answer(failure)
    assert isinstance(found, ServiceError)
    return found


@pytest.mark.parametrize(("status", "code", "repeated"), CODES)
def test_code(status: int, code: str, repeated: bool) -> None:
    found = raised(status, code)
    text = str(found)
    assert text.startswith("cos://b-1250000000/a/k: ")
    assert f"({code}, RequestId " in text
    assert found.hint, "it says what to do"
    assert "{" not in found.hint
    if code not in ("InvalidArgument", "InternalError", "ServiceUnavailable"):  # the service's words say more
        assert not found.message.startswith("Words"), "it says what happened in words of ours"
    assert found.exit_code == 254
    assert is_repeatable(found, Attempt(time.monotonic() + 60)) is repeated


def test_no_code_is_known_that_is_not_tested() -> None:
    tested = {code for _, code, _ in CODES}
    # Codes of S3 and of other places in the documentation, beside the table.
    beside = {"InvalidToken", "TokenRefreshRequired", "Request has expired", "NoSuchKey", "NoSuchResource"}
    assert set(BY_CODE) - tested == {*beside, "NoSuchBucketPolicy"}


def test_an_unknown_code_is_told_in_the_words_of_the_service() -> None:
    assert "Words of the service. (BrandNewCode" in str(raised(400, "BrandNewCode"))


def test_what_the_service_says_of_the_detail_is_kept() -> None:
    found = raised(400, "MalformedXML", "Rule needs an ID.")
    assert found.message == "the document is not what COS expects: Rule needs an ID"


# --- what is known of the request


def test_denied_names_the_action_and_a_statement_that_allows_it() -> None:
    found = raised(403, "AccessDenied", operation="GetObject", region="ap-x")
    assert isinstance(found, PermissionDeniedError)
    assert "no policy allows them name/cos:GetObject on it" in found.hint
    statement = json.loads(found.hint[found.hint.index("{") :])
    assert statement == {
        "effect": "allow",
        "action": ["name/cos:GetObject"],
        "resource": ["qcs::cos:ap-x:uid/1250000000:b-1250000000/a/k"],
    }
    assert "was not signed" in raised(403, "AccessDenied", operation="GetObject", signed=False).hint
    assert (
        "referer" in raised(403, "AccessDenied", "denied by bucket referer rule", operation="GetObject").hint
    )


@pytest.mark.parametrize(
    ("off", "words"), [(1000, "It is 16 min 40 s ahead"), (-7205, "It is 2 h 0 min 5 s behind")]
)
def test_skew_says_by_how_much(off: float, words: str) -> None:
    now = 1_700_000_000.0
    headers = {**HEADERS, "date": formatdate(now - off, usegmt=True)}
    body = error(403, "RequestTimeTooSkewed").body
    found = from_answer(Failure(403, headers, body, "cos://b-1/k", "host", now=now))
    assert isinstance(found, ClockSkewError)
    assert words in str(found)


@pytest.mark.parametrize("off", [0, 40, -40])
def test_a_clock_that_is_right_is_not_blamed(off: float) -> None:
    now = 1_700_000_000.0
    headers = {**HEADERS, "date": formatdate(now - off, usegmt=True)}
    body = error(403, "RequestTimeTooSkewed").body
    found = from_answer(Failure(403, headers, body, "cos://b-1/k", "host", now=now))
    assert isinstance(found, ClockSkewError)
    assert "agree" in str(found) and "ahead" not in str(found) and "Set the clock" not in str(found)


def test_missing_bucket_says_where_it_was_looked_for() -> None:
    assert "It was looked for in ap-x" in raised(404, "NoSuchBucket", region="ap-x").hint


def test_archived_names_the_object_to_look_at() -> None:
    found = raised(403, "InvalidObjectState")
    assert isinstance(found, ArchivedError)
    assert "cos restore cos://b-1250000000/a/k" in found.hint


def test_the_statement_of_a_denial_is_enough(emulator: Emulator, bucket: str) -> None:
    """Who adds to a policy what each refusal says can do the work in the end."""
    from cosfs.client.client import CosClient
    from cosfs.config import load_settings

    member = emulator.add_user(name="denied")
    key = member.credential
    options: dict[str, object] = {
        "endpoint_url": emulator.endpoint_url,
        "region": emulator.region,
        "secret_id": key.secret_id,
        "secret_key": key.secret_key,
    }
    settings = load_settings(options, environ={"HOME": "/nonexistent"})
    statements: list[object] = []
    with CosClient.from_settings(settings, options, environ={}) as client:
        work = (
            lambda: client.put_object(bucket, "a/k", b"x"),
            lambda: client.head_object(bucket, "a/k"),
            lambda: client.list_objects(bucket, prefix="a/"),
            lambda: client.delete_object(bucket, "a/k"),
        )
        for call in work:
            with pytest.raises(PermissionDeniedError) as caught:
                call()
            hint = caught.value.hint
            statements.append(json.loads(hint[hint.index("{") :]))
            emulator.set_policies(member, [{"version": "2.0", "statement": statements}])
            call()


def test_a_bucket_that_may_not_be_made_may_have_the_name_of_another_account() -> None:
    hint = raised(403, "AccessDenied", operation="CreateBucket").hint
    assert "must end in the APPID of your own account" in hint and "name/cos:PutBucket" in hint
