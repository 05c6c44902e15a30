"""Every check of a request over the socket: status, code, and an error document that is whole."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator
from xml.etree import ElementTree

import pytest
from qcloud_cos import CosS3Client
from qcloud_cos.cos_exception import CosServiceError

from cosfs.emulator import Emulator, Limits
from tests.emulator.conftest import sdk_for
from tests.emulator.signed import Answer, Signed

Make = Callable[[Signed], Answer]


@pytest.fixture(scope="module")
def _small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """An emulator with small limits, so that what is too large is not large."""
    limits = Limits(object_size=20_000, min_part_size=100, document=5_000, buckets=2)
    with Emulator(tmp_path_factory.mktemp("small"), buckets=["b"], limits=limits) as emulator:
        wire = Signed(emulator, "b-1250000000")
        wire("PUT", "/k", b"hello")
        wire("PUT", "/log?append&position=0", b"")
        wire("POST", "/log?append&position=0", b"line")
        wire("PUT", "/cold", b"x", x_cos_storage_class="ARCHIVE")
        wire.close()
        emulator.create_bucket("versioned")
        versioned = Signed(emulator, "versioned-1250000000")
        versioned.versioning()
        versioned("PUT", "/k", b"hello")
        versioned("DELETE", "/gone")
        versioned.close()
        yield emulator


@pytest.fixture
def wire(_small: Emulator) -> Iterator[Signed]:
    connection = Signed(_small, "b-1250000000")
    yield connection
    connection.close()


def md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data).digest()).decode()


def upload(wire: Signed, *parts: bytes) -> tuple[str, list[str]]:
    """Open an upload and send parts; return its id and their ETags."""
    id_ = wire("POST", "/up?uploads").texts("UploadId")[0]
    etags = [
        wire("PUT", f"/up?partNumber={number}&uploadId={id_}", data).headers["ETag"]
        for number, data in enumerate(parts, 1)
    ]
    return id_, etags


def complete(
    wire: Signed, parts: list[bytes], *listed: tuple[int, str], key: str = "up", **headers: str
) -> Answer:
    """Complete an upload of parts with a list of numbers and ETags; an empty ETag means the right one."""
    id_, etags = upload(wire, *parts)
    rows = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{etag or etags[number - 1]}</ETag></Part>"
        for number, etag in listed
    )
    answer = wire(
        "POST",
        f"/{key}?uploadId={id_}",
        f"<CompleteMultipartUpload>{rows}</CompleteMultipartUpload>",
        **headers,
    )
    wire("DELETE", f"/up?uploadId={id_}")
    return answer


def copy(wire: Signed, key: str, source: str = "", **headers: str) -> Answer:
    return wire("PUT", f"/{key}", x_cos_copy_source=source or f"{wire.host}/k", **headers)


def delete_many(wire: Signed, body: bytes, *, digest: bool = True) -> Answer:
    return wire("POST", "/?delete", body, **({"content_md5": md5(body)} if digest else {}))


def elsewhere(
    wire: Signed, bucket: str, method: str, target: str, body: bytes = b"", **headers: str
) -> Answer:
    return wire(method, target, body, host=wire.host.replace(wire.bucket, bucket), **headers)


MANY = b"<Delete>" + b"<Object><Key>a</Key></Object>" * 1001 + b"</Delete>"
WRONG_VERSIONING = b"<VersioningConfiguration><Status>Off</Status></VersioningConfiguration>"
FORM_TYPE = "multipart/form-data; boundary=line"
FORM = b'--line\r\nContent-Disposition: form-data; name="key"\r\n\r\nform\r\n--line\r\n'
FORM += (
    b'Content-Disposition: form-data; name="file"; filename="f"\r\n\r\n' + bytes(20_001) + b"\r\n--line--\r\n"
)
OLD_DATE = "Tue, 14 Nov 2023 22:13:20 GMT"
TAGS = "".join(f"<Tag><Key>{n}</Key><Value>v</Value></Tag>" for n in range(11))
OTHER_ETAG = '"00000000000000000000000000000000"'

# What is asked, and what comes back.
TABLE: dict[str, tuple[Make, int, str]] = {
    # Bodies and what was said about them
    "digest differs": (lambda w: w("PUT", "/k", b"x", content_md5=md5(b"y")), 400, "BadDigest"),
    "digest is no base64": (lambda w: w("PUT", "/k", b"x", content_md5="?"), 400, "InvalidDigest"),
    "digest is too short": (lambda w: w("PUT", "/k", b"x", content_md5="YQ=="), 400, "InvalidDigest"),
    "digest of a document": (lambda w: w("PUT", "/?acl", b"x", content_md5=md5(b"y")), 400, "BadDigest"),
    "object too large": (lambda w: w("PUT", "/k", bytes(20_001)), 400, "EntityTooLarge"),
    "part too large": (
        lambda w: w("PUT", f"/up?partNumber=1&uploadId={upload(w)[0]}", bytes(20_001)), 400, "EntityTooLarge",
    ),
    "file of a form too large": (
        lambda w: w("POST", "/", FORM, content_type=FORM_TYPE), 400, "EntityTooLarge",
    ),
    "appended too much": (
        lambda w: w("POST", "/log?append&position=4", bytes(19_997)), 400, "EntityTooLarge",
    ),
    "too much metadata": (lambda w: w("PUT", "/k", b"", x_cos_meta_a="v" * 4096), 400, "KeyTooLong"),
    "document too long": (lambda w: w("PUT", "/?tagging", b"<Tagging>" + bytes(6000)), 400, "XMLSizeLimit"),
    "document missing": (lambda w: w("PUT", "/?lifecycle", b""), 400, "MissingRequestBodyError"),
    "document malformed": (lambda w: w("PUT", "/?cors", b"<CORSConfiguration>"), 400, "MalformedXML"),
    "document of another kind": (lambda w: w("PUT", "/?tagging", b"<Other/>"), 400, "MalformedXML"),
    "traffic limit": (lambda w: w("PUT", "/k", b"x", x_cos_traffic_limit="1"), 400, "InvalidArgument"),
    # Names
    "key too long": (lambda w: w("PUT", "/" + "k" * 851, b""), 400, "KeyTooLong"),
    "key in characters of three bytes": (lambda w: w("PUT", "/" + "中" * 284, b""), 400, "KeyTooLong"),
    "control character": (lambda w: w("GET", "/a\x18b"), 400, "InvalidObjectName"),
    "bucket name": (lambda w: w("PUT", "/Bad_name", host="127.0.0.1"), 400, "InvalidBucketName"),
    "bucket name in the host": (
        lambda w: elsewhere(w, "-bad_name-1250000000", "PUT", "/"), 400, "InvalidBucketName",
    ),
    "one bucket too many": (lambda w: elsewhere(w, "c-1250000000", "PUT", "/"), 400, "TooManyBuckets"),
    "bucket twice": (lambda w: w("PUT", "/"), 409, "BucketAlreadyOwnedByYou"),
    "bucket missing": (lambda w: elsewhere(w, "none-1250000000", "GET", "/k"), 404, "NoSuchBucket"),
    "bucket not empty": (lambda w: w("DELETE", "/"), 409, "BucketNotEmpty"),
    "bucket with a delete marker": (
        lambda w: elsewhere(w, "versioned-1250000000", "DELETE", "/"),
        409, "BucketNotEmpty",
    ),
    # Objects
    "key missing": (lambda w: w("GET", "/missing"), 404, "NoSuchKey"),
    "version missing": (lambda w: w("GET", "/k?versionId=other"), 404, "NoSuchVersion"),
    "range": (lambda w: w("GET", "/k", range="bytes=5-"), 416, "InvalidRange"),
    "condition": (lambda w: w("GET", "/k", if_match='"other"'), 412, "PreconditionFailed"),
    "condition of time": (lambda w: w("GET", "/k", if_unmodified_since=OLD_DATE), 412, "PreconditionFailed"),
    "archived": (lambda w: w("GET", "/cold"), 403, "InvalidObjectState"),
    "restore of what is warm": (
        lambda w: w("POST", "/k?restore", b"<RestoreRequest><Days>1</Days></RestoreRequest>"),
        405, "RestoreNonArchiveObject",
    ),
    "storage class": (
        lambda w: w("PUT", "/x", b"", x_cos_storage_class="COLD"),
        400, "NotSupportedStorageClass",
    ),
    "class of several zones": (
        lambda w: w("PUT", "/x", b"", x_cos_storage_class="MAZ_STANDARD"),
        400, "MAZOperationNotSupportOnOAZBucket",
    ),
    "canned ACL": (lambda w: w("PUT", "/x", b"", x_cos_acl="open"), 400, "InvalidArgument"),
    "eleven tags in the header": (
        lambda w: w("PUT", "/x", b"", x_cos_tagging="&".join(f"{n}=v" for n in range(11))), 400, "InvalidTag",
    ),
    "eleven tags": (
        lambda w: w("PUT", "/k?tagging", f"<Tagging><TagSet>{TAGS}</TagSet></Tagging>"),
        400, "InvalidTag",
    ),
    "a tag twice": (lambda w: w("PUT", "/x", b"", x_cos_tagging="a=1&a=2"), 400, "InvalidTag"),
    "a tag too long": (lambda w: w("PUT", "/x", b"", x_cos_tagging="k" * 129 + "=v"), 400, "InvalidTag"),
    "encryption": (
        lambda w: w("PUT", "/x", b"", x_cos_server_side_encryption="ROT13"),
        400, "InvalidArgument",
    ),
    "method": (lambda w: w("PATCH", "/k"), 405, "MethodNotAllowed"),
    "unknown sub-resource": (lambda w: w("GET", "/k?torrent"), 501, "NotImplemented"),
    # Creating only
    "PUT over what is there": (
        lambda w: w("PUT", "/k", b"x", x_cos_forbid_overwrite="true"),
        409, "FileAlreadyExists",
    ),
    "copy over what is there": (
        lambda w: copy(w, "log", x_cos_forbid_overwrite="true"), 409, "FileAlreadyExists",
    ),
    "upload over what is there": (
        lambda w: w("POST", "/k?uploads", x_cos_forbid_overwrite="true"), 409, "FileAlreadyExists",
    ),
    "link over what is there": (
        lambda w: w("PUT", "/k?symlink", x_cos_symlink_target="x", x_cos_forbid_overwrite="true"),
        409, "FileAlreadyExists",
    ),
    # Append
    "append at another place": (
        lambda w: w("POST", "/log?append&position=1", b"x"),
        409, "AppendPositionErr",
    ),
    "append to an object of PUT": (
        lambda w: w("POST", "/k?append&position=5", b"x"),
        409, "ObjectNotAppendable",
    ),
    "append with versioning": (
        lambda w: elsewhere(w, "versioned-1250000000", "POST", "/a?append&position=0", b"x"),
        400, "InvalidRequest",
    ),
    "append nowhere": (lambda w: w("POST", "/log?append&position=x", b"x"), 400, "InvalidArgument"),
    "append to an archive": (
        lambda w: w("POST", "/new?append&position=0", b"x", x_cos_storage_class="ARCHIVE"),
        400, "InvalidRequest",
    ),
    # Copies
    "copy onto itself": (lambda w: copy(w, "k"), 400, "InvalidRequest"),
    "copy of nothing": (lambda w: copy(w, "x", f"{w.host}/missing"), 404, "NoSuchKey"),
    "copy from nowhere": (lambda w: copy(w, "x", "none-1250000000.cos.x.com/k"), 404, "NoSuchBucket"),
    "copy source": (lambda w: copy(w, "x", "nonsense"), 400, "InvalidCopySource"),
    "copy of another version": (lambda w: copy(w, "x", f"{w.host}/k?versionId=other"), 404, "NoSuchVersion"),
    "copy condition": (
        lambda w: copy(w, "x", x_cos_copy_source_if_none_match='"5d41402abc4b2a76b9719d911017c592"'),
        412, "PreconditionFailed",
    ),
    "copy directive": (lambda w: copy(w, "x", x_cos_metadata_directive="Some"), 400, "InvalidArgument"),
    "copy of an archive": (lambda w: copy(w, "x", f"{w.host}/cold"), 403, "InvalidObjectState"),
    # Uploads
    "upload missing": (lambda w: w("PUT", "/up?partNumber=1&uploadId=other", b"x"), 404, "NoSuchUpload"),
    "upload of another key": (
        lambda w: w("PUT", f"/other?partNumber=1&uploadId={upload(w)[0]}", b"x"), 404, "NoSuchUpload",
    ),
    "abort of nothing": (lambda w: w("DELETE", "/up?uploadId=other"), 404, "NoSuchUpload"),
    "list of nothing": (lambda w: w("GET", "/up?uploadId=other"), 404, "NoSuchUpload"),
    "complete of nothing": (
        lambda w: w("POST", "/up?uploadId=other", b"<CompleteMultipartUpload/>"), 404, "NoSuchUpload",
    ),
    "part 0": (lambda w: w("PUT", f"/up?partNumber=0&uploadId={upload(w)[0]}", b"x"), 400, "InvalidArgument"),
    "part 10001": (
        lambda w: w("PUT", f"/up?partNumber=10001&uploadId={upload(w)[0]}", b"x"),
        400, "InvalidArgument",
    ),
    "part unknown": (lambda w: complete(w, [b"x"], (2, OTHER_ETAG)), 400, "InvalidPart"),
    "part with another ETag": (lambda w: complete(w, [b"x"], (1, OTHER_ETAG)), 400, "InvalidPart"),
    "parts in another order": (
        lambda w: complete(w, [bytes(100)] * 2, (2, ""), (1, "")),
        400, "InvalidPartOrder",
    ),
    "part twice": (lambda w: complete(w, [bytes(100)], (1, ""), (1, "")), 400, "InvalidPartOrder"),
    "part too small": (lambda w: complete(w, [bytes(99)] * 2, (1, ""), (2, "")), 400, "EntityTooSmall"),
    "no parts": (lambda w: complete(w, []), 400, "MalformedXML"),
    "part copy beyond the end": (
        lambda w: copy(w, f"up?partNumber=1&uploadId={upload(w)[0]}", x_cos_copy_source_range="bytes=3-5"),
        416, "InvalidRange",
    ),
    "part copy of no range": (
        lambda w: copy(w, f"up?partNumber=1&uploadId={upload(w)[0]}", x_cos_copy_source_range="all"),
        400, "InvalidArgument",
    ),
    # Many at once
    "delete many without digest": (
        lambda w: delete_many(w, b"<Delete/>", digest=False),
        400, "InvalidRequest",
    ),
    "delete none": (lambda w: delete_many(w, b"<Delete></Delete>"), 400, "MalformedXML"),
    # Lists
    "delimiter": (lambda w: w("GET", "/?delimiter=ab"), 400, "InvalidDelimiter"),
    "max-keys": (lambda w: w("GET", "/?max-keys=x"), 400, "InvalidArgument"),
    "encoding": (lambda w: w("GET", "/?encoding-type=rot13"), 400, "InvalidArgument"),
    "continuation token": (
        lambda w: w("GET", "/?list-type=2&continuation-token=%21"),
        400, "InvalidArgument",
    ),
    # Settings that are not there
    "no CORS": (lambda w: w("GET", "/?cors"), 404, "NoSuchCORSConfiguration"),
    "no website": (lambda w: w("GET", "/?website"), 404, "NoSuchWebsiteConfiguration"),
    "no lock": (lambda w: w("GET", "/?object-lock"), 404, "NoSuchObjectLockConfiguration"),
    "versioning": (
        lambda w: w("PUT", "/?versioning", WRONG_VERSIONING),
        400, "MalformedXML",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_what_is_refused(wire: Signed, name: str) -> None:
    ask, status, code = TABLE[name]
    answer = ask(wire)
    assert (answer.status, answer.code[1]) == (status, code)
    nodes = ElementTree.fromstring(answer.body)
    told = {node.tag: node.text for node in nodes}
    assert list(told)[:2] == ["Code", "Message"]
    assert list(told)[-3:] == ["Resource", "RequestId", "TraceId"]
    assert all(told.values())
    assert told["RequestId"] == answer.headers["x-cos-request-id"]
    assert told["TraceId"] == answer.headers["x-cos-trace-id"]
    assert answer.headers["Content-Type"] == "application/xml"


def test_nothing_that_was_refused_has_changed_anything(wire: Signed) -> None:
    assert wire("GET", "/").texts("Contents/Key") == ["cold", "k", "log"]
    assert wire("GET", "/k").body == b"hello"
    assert wire("GET", "/log").body == b"line"


@pytest.mark.parametrize("target", ["/missing", "/k?versionId=other", "/cold?versionId=x"])
def test_errors_of_head_have_no_body(wire: Signed, target: str) -> None:
    answer = wire("HEAD", target)
    assert (answer.status, answer.body) == (404, b"")
    assert answer.headers["x-cos-request-id"] and answer.headers["x-cos-trace-id"]


def test_more_than_a_thousand_keys(served: Emulator, bucket: str) -> None:
    """In an emulator whose documents may be as long as on COS."""
    wire = Signed(served, bucket)
    assert delete_many(wire, MANY).code == (400, "MalformedXML")
    assert delete_many(wire, MANY.replace(b"<Object><Key>a</Key></Object>", b"", 1)).status == 200
    wire.close()


def test_a_delete_marker_is_not_there(wire: Signed) -> None:
    gone = elsewhere(wire, "versioned-1250000000", "GET", "/gone")
    assert (gone.code, gone.headers["x-cos-delete-marker"]) == ((404, "NoSuchKey"), "true")


def test_creating_only_means_nothing_with_versioning(wire: Signed) -> None:
    put = elsewhere(wire, "versioned-1250000000", "PUT", "/k", b"x", x_cos_forbid_overwrite="true")
    assert put.status == 200


def test_a_copy_has_the_limit_of_a_put(wire: Signed) -> None:
    answer = complete(wire, [bytes(20_000), bytes(10)], (1, ""), (2, ""))
    assert answer.status == 200
    assert copy(wire, "x", f"{wire.host}/up").code == (400, "EntityTooLarge")
    id_ = upload(wire)[0]
    whole = copy(wire, f"up?partNumber=1&uploadId={id_}", f"{wire.host}/up")
    assert whole.code == (400, "EntityTooLarge")
    some = copy(
        wire, f"up?partNumber=1&uploadId={id_}", f"{wire.host}/up", x_cos_copy_source_range="bytes=0-19999"
    )
    assert some.status == 200
    wire("DELETE", f"/up?uploadId={id_}")
    over = complete(wire, [b"x"], (1, ""), x_cos_forbid_overwrite="true")
    assert over.code == (409, "FileAlreadyExists")
    wire("DELETE", "/up")


def test_the_sdk_understands_errors(wire: Signed) -> None:
    sdk: CosS3Client = sdk_for(wire.emulator)
    with pytest.raises(CosServiceError) as caught:
        sdk.put_object(Bucket=wire.bucket, Key="k", Body=b"x", ContentMD5=md5(b"y"))
    error = caught.value
    assert (error.get_status_code(), error.get_error_code()) == (400, "BadDigest")
    assert error.get_resource_location() and error.get_request_id() and error.get_trace_id()
