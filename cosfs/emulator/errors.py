"""What goes wrong, as COS says it: one exception, one table of codes with their status and message.

Handlers raise `CosError`; `service.py` alone turns it into an answer. Codes and statuses are those of the COS
error code table; messages that the documentation quotes are quoted, the others are our own words.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

ERRORS: Mapping[str, tuple[int, str]] = MappingProxyType(
    {
        "AccessDenied": (403, "Access Denied."),
        "AccessForbidden": (403, "CORSResponse: This CORS request is not allowed."),
        "ActionAccelerateNotSupported": (
            400,
            "The accelerated host serves objects, not the configuration of buckets.",
        ),
        "AppendPositionErr": (409, "The position is not equal to the length of the object."),
        "BadDigest": (400, "The Content-MD5 you specified did not match what we received."),
        "BucketAccelerateNotEnabled": (400, "Global acceleration is not enabled for the bucket."),
        "BucketAlreadyExists": (409, "The requested bucket name is not available."),
        "BucketAlreadyOwnedByYou": (409, "The bucket you tried to create already exists and is yours."),
        "BucketNotEmpty": (409, "The bucket you tried to delete is not empty."),
        "BucketVersionNotOpen": (400, "Versioning is not enabled for the bucket."),
        "DomainConfigConflict": (409, "The domain is configured twice, here or at another bucket."),
        "EntitySizeNotMatch": (400, "The body is not as long as the decoded length that was declared."),
        "EntityTooLarge": (400, "Your proposed upload exceeds the maximum allowed size."),
        "EntityTooSmall": (400, "Your proposed upload is smaller than the minimum allowed size."),
        "ExpiredToken": (400, "The provided token has expired."),
        "FileAlreadyExists": (409, "The object you specified already exists and can not be overwritten."),
        "IncompleteBody": (400, "You did not provide the number of bytes specified by Content-Length."),
        "IncorrectNumberOfFilesInPostRequest": (400, "POST requires exactly one file upload per request."),
        "InternalError": (500, "We encountered an internal error. Please try again."),
        "InvalidAccessKeyId": (403, "The Access Key Id you provided does not exist in our records."),
        "InvalidArgument": (400, "Invalid argument."),
        "InvalidBucketName": (400, "The specified bucket is not valid."),
        "InvalidBucketState": (409, "The request is not valid with the current state of the bucket."),
        "InvalidCopySource": (400, "The copy source is not valid."),
        "InvalidDelimiter": (400, "The delimiter must be one character."),
        "InvalidDigest": (400, "The Content-MD5 you specified was invalid."),
        "InvalidLockedTime": (409, "The retention can only be set to a later time."),
        "InvalidObjectName": (400, "The object name is not valid."),
        "InvalidObjectState": (403, "The operation is not valid for the object's storage class."),
        "InvalidPart": (400, "One or more of the specified parts could not be found or had another ETag."),
        "InvalidPartOrder": (400, "The list of parts was not in ascending order."),
        "InvalidPolicyDocument": (400, "The policy of the form is not valid."),
        "InvalidRange": (416, "The requested range is not satisfiable."),
        "InvalidRequest": (400, "The request is not valid."),
        "InvalidTag": (400, "The tag provided was not a valid tag."),
        "InvalidTargetBucketForLogging": (
            400,
            "The target bucket for logging does not exist or is in another region.",
        ),
        "InvalidURI": (400, "Could not parse the specified URI."),
        "InventoryConfigurationNotFoundError": (404, "The inventory configuration was not found."),
        "InventoryFull": (400, "The bucket has as many inventories as it can have."),
        "KeyTooLong": (400, "Your key or metadata is too long."),
        "LoggingPrefixInvalid": (400, "The prefix for log files is not valid."),
        "MAZOperationNotSupportOnOAZBucket": (400, "The bucket is not of several availability zones."),
        "MalformedPOSTRequest": (
            400,
            "The body of your POST request is not well-formed multipart/form-data.",
        ),
        "MalformedPolicy": (400, "The policy is not well formed."),
        "MalformedXML": (400, "The XML you provided was not well formed or did not validate."),
        "MethodNotAllowed": (405, "The specified method is not allowed against this resource."),
        "MissingContentLength": (411, "You must provide the Content-Length HTTP header."),
        "MissingRequestBodyError": (400, "Request body is empty."),
        "NoSuchBucket": (404, "The specified bucket does not exist."),
        "NoSuchCORSConfiguration": (404, "The CORS configuration does not exist."),
        "NoSuchEncryptionConfiguration": (404, "The encryption configuration does not exist."),
        "NoSuchKey": (404, "The specified key does not exist."),
        "NoSuchLifecycleConfiguration": (404, "The lifecycle configuration does not exist."),
        "NoSuchObjectLockConfiguration": (404, "The object lock configuration does not exist."),
        "NoSuchPolicy": (404, "The bucket policy does not exist."),
        "NoSuchTagSet": (404, "The tag set does not exist."),
        "NoSuchUpload": (404, "The specified multipart upload does not exist."),
        "NoSuchVersion": (404, "The specified version does not exist."),
        "NoSuchWebsiteConfiguration": (404, "The website configuration does not exist."),
        "NotImplemented": (
            501,
            "A header or query you provided requests a function that is not implemented.",
        ),
        "NotSupportedStorageClass": (400, "The storage class you specified is not supported."),
        "OAZOperationNotSupportOnMAZBucket": (400, "The bucket is one of several availability zones."),
        "ObjectLocked": (409, "The object is locked."),
        "ObjectNotAppendable": (409, "The object is not appendable."),
        "OriginConfigurationNotFoundError": (404, "The origin configuration does not exist."),
        "PathConflict": (409, "Path conflict."),
        "PreconditionFailed": (412, "Precondition not match."),
        "ReplicationConfigurationNotFoundError": (404, "The replication configuration was not found."),
        "RequestTimeTooSkewed": (403, "The difference between the request time and our time is too large."),
        "RequestTimeout": (400, "Your connection was not read from or written to within the timeout period."),
        "RestoreAlreadyInProgress": (409, "Object restore is already in progress."),
        "RestoreNonArchiveObject": (405, "The object is not archived."),
        "SSEHeaderNotAllowed": (400, "The object was not stored with a key of the customer."),
        "ServiceUnavailable": (503, "Please reduce your request rate."),
        "SignatureDoesNotMatch": (403, "The Signature you specified is invalid."),
        "SlowDown": (503, "Please reduce your request rate."),
        "SsecDecryptHeaderInvalid": (400, "The object is stored with a key of the customer: send that key."),
        "TargetBucketNameInvalid": (400, "The target bucket does not exist or is in another region."),
        "TooManyBuckets": (400, "You have attempted to create more buckets than allowed."),
        "UserCnameInvalid": (400, "The domain name is not valid."),
        "XAmzContentSHA256Mismatch": (400, "The provided x-amz-content-sha256 does not match the body."),
        "XMLSizeLimit": (400, "The XML you provided is too long."),
    }
)


class CosError(Exception):
    """An answer that is an error document; nodes are further elements put behind Message."""

    def __init__(
        self,
        code: str,
        message: str = "",
        *,
        status: int = 0,
        headers: Mapping[str, str] = MappingProxyType({}),
        nodes: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        known_status, known_message = ERRORS.get(code, (400, code))
        super().__init__(code)
        self.code = code
        self.status = status or known_status
        self.message = message or known_message
        self.headers = dict(headers)
        self.nodes = dict(nodes)


class EmulatorError(Exception):
    """The emulator cannot start; the text says why in one sentence."""
