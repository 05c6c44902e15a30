"""Handlers of the service and of buckets: list, create, remove, and their settings."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator
from xml.etree import ElementTree

from cosfs.emulator import grants, messages
from cosfs.emulator.accounts import arn
from cosfs.emulator.addressing import check_bucket_name, split_query, without_port
from cosfs.emulator.context import Call
from cosfs.emulator.errors import CosError
from cosfs.emulator.inventory_rules import ONCE
from cosfs.emulator.messages import document, element, elements
from cosfs.emulator.numerals import whole
from cosfs.emulator.policy import PolicyError, parse_policy
from cosfs.emulator.setting_checks import CHECKS, check_inventory
from cosfs.emulator.settings import SETTINGS
from cosfs.emulator.store import Bucket
from cosfs.emulator.values import Response


def xml(body: bytes, **headers: str) -> Response:
    """Answer with a document."""
    return Response(headers={"Content-Type": "application/xml", **headers}, body=body)


def owner(identifier: str, name: str = "Owner") -> str:
    """Write an owner element."""
    return f"<{name}>{element('ID', identifier)}{element('DisplayName', identifier)}</{name}>"


# Service


def list_buckets(call: Call) -> Response:
    """Answer the buckets of the account, of one region if the host names one."""
    marker, limit = call.parameters.get("marker", ""), call.number("max-keys", 2000, 1, 10_000)
    found = [bucket for bucket in _filtered(call) if bucket.name > marker]
    rows = "".join(
        "<Bucket>"
        + elements(
            {
                "Name": bucket.name,
                "Location": bucket.region,
                "CreationDate": messages.iso_time_short(bucket.created),
                "BucketType": "cos",
            }
        )
        + "</Bucket>"
        for bucket in found[:limit]
    )
    paging, mine = "", arn(call.principal.account or call.emulation.accounts.default.uin)
    if call.parameters.keys() & {"marker", "max-keys"}:
        following = found[limit - 1].name if len(found) > limit else None
        paging = elements({"Marker": marker, "NextMarker": following, "IsTruncated": len(found) > limit})
    return xml(document("ListAllMyBucketsResult", owner(mine) + f"<Buckets>{rows}</Buckets>" + paging))


def _filtered(call: Call) -> Iterator[Bucket]:
    wanted = call.parameters.get("region") or _region_of_host(call.host)
    compare = {"lt": int.__lt__, "lte": int.__le__, "gt": int.__gt__, "gte": int.__ge__}
    order, created = call.parameters.get("range", ""), whole(call.parameters.get("create-time", ""))
    tag = (call.parameters.get("tagkey"), call.parameters.get("tagvalue"))
    accounts, mine = call.emulation.accounts, call.principal.account
    for bucket in call.store.buckets():
        if mine and accounts.owner_of(bucket.name).uin != mine:
            continue
        if wanted and bucket.region != wanted:
            continue
        if order in compare and created is not None and not compare[order](bucket.created, created):
            continue
        if tag[0] and tag not in _tags(call, bucket):
            continue
        yield bucket


def _region_of_host(host: str) -> str:
    labels = without_port(host).split(".")
    return labels[1] if labels[0] in ("cos", "cos-internal") and len(labels) > 2 else ""


def _tags(call: Call, bucket: Bucket) -> list[tuple[str, str]]:
    stored = call.store.setting(bucket, "tagging")
    if stored is None:
        return []
    tree = messages.parse(stored, "Tagging")
    return [(messages.text(tag, "Key"), messages.text(tag, "Value")) for tag in tree.iter("Tag")]


# Buckets


def create_bucket(call: Call) -> Response:
    """Create a bucket in the emulator's region, or the one that an S3 LocationConstraint names."""
    name = call.full_name(call.name)
    if call.store.resolve(name):
        raise CosError("BucketAlreadyOwnedByYou")
    check_bucket_name(name)
    if len(call.store.buckets()) >= call.emulation.limits.buckets:
        raise CosError("TooManyBuckets")
    region, maz = _region_of_bucket_host(call.host) or call.emulation.region, False
    if call.body.data.strip():
        tree = messages.parse(call.body.data, "CreateBucketConfiguration")
        region = messages.text(tree, "LocationConstraint", region)
        maz = messages.text(tree, "BucketAZConfig").upper() == "MAZ"
    call.store.create_bucket(name, region, grants.from_headers(call.headers), maz)
    tags = call.headers.get("x-cos-tagging", "")
    if tags:
        call.store.put_setting(call.store.bucket(name), "tagging", "", tags_document(parse_tags(tags, 50)))
    return Response(headers={"Location": f"/{name}"})


def _region_of_bucket_host(host: str) -> str:
    labels = without_port(host).split(".")
    return labels[2] if len(labels) > 3 and labels[1] in ("cos", "cos-internal") else ""


def head_bucket(call: Call) -> Response:
    """Answer that the bucket is there and where."""
    bucket = call.bucket
    headers = {"x-cos-bucket-region": bucket.region, "Content-Length": "0"}
    if bucket.maz:
        headers["x-cos-bucket-az-type"] = "MAZ"
    return Response(headers=headers)


def delete_bucket(call: Call) -> Response:
    """Remove an empty bucket."""
    call.store.delete_bucket(call.bucket)
    return Response(204)


def get_location(call: Call) -> Response:
    """Answer the region."""
    return xml(document("LocationConstraint", messages.escape(call.bucket.region)))


def get_versioning(call: Call) -> Response:
    """Answer the versioning state; an empty document before it was ever set."""
    status = call.bucket.versioning
    return xml(document("VersioningConfiguration", element("Status", status) if status else ""))


def put_versioning(call: Call) -> Response:
    """Enable or suspend versioning; there is no way back to never."""
    status = messages.text(messages.parse(call.body.data, "VersioningConfiguration"), "Status")
    if status not in ("Enabled", "Suspended"):
        raise CosError("MalformedXML")
    if status == "Suspended" and call.store.configured(call.bucket, "object-lock"):
        raise CosError("InvalidBucketState", "A bucket with object lock keeps its versions.")
    if status == "Suspended" and call.store.configured(call.bucket, "replication"):
        raise CosError("InvalidBucketState", "A bucket that is replicated keeps its versions.")
    call.store.update_bucket(call.bucket, versioning=status)
    return Response()


def get_acl(call: Call) -> Response:
    """Answer the bucket's ACL."""
    return xml(grants.to_document(call.bucket.acl, arn(call.owner.uin)))


def put_acl(call: Call) -> Response:
    """Replace the bucket's ACL."""
    call.store.update_bucket(call.bucket, acl=read_acl(call))
    return Response()


def read_acl(call: Call) -> str:
    """Read an ACL from the body, else from the headers."""
    if call.body.data.strip():
        return grants.from_document(call.body.data, arn(call.owner.uin))
    return grants.from_headers(call.headers)


# Tags, also those of objects


def parse_tags(text: str, most: int) -> list[tuple[str, str]]:
    """Read the x-cos-tagging header."""
    try:
        pairs = [(name.decode(), value.decode()) for name, value in split_query(text.encode("latin-1"))]
    except UnicodeError as error:
        raise CosError("InvalidTag") from error
    return check_tags(pairs, most)


def check_tags(pairs: list[tuple[str, str]], most: int) -> list[tuple[str, str]]:
    """Refuse too many tags, repeated or overlong ones."""
    names = [name for name, _ in pairs]
    if len(pairs) > most or len(set(names)) != len(names):
        raise CosError("InvalidTag")
    if any(not name or len(name) > 128 or len(value) > 256 for name, value in pairs):
        raise CosError("InvalidTag")
    return pairs


def read_tags(body: bytes, most: int) -> list[tuple[str, str]]:
    """Read a Tagging document."""
    tree = messages.parse(body, "Tagging")
    tags = tree.findall("TagSet/Tag")
    return check_tags([(messages.text(tag, "Key"), messages.text(tag, "Value")) for tag in tags], most)


def tags_document(pairs: list[tuple[str, str]]) -> bytes:
    """Write a Tagging document."""
    tags = "".join(f"<Tag>{element('Key', name)}{element('Value', value)}</Tag>" for name, value in pairs)
    return document("Tagging", f"<TagSet>{tags}</TagSet>")


# Settings


def get_setting(call: Call) -> Response:
    """Answer a stored document as it came, or how COS says that there is none."""
    setting, id_ = SETTINGS[call.setting], call.parameters.get("id", "")
    if setting.list_root and not id_:
        return xml(_setting_list(call))
    stored = call.store.setting(call.bucket, call.setting, id_)
    if stored is None:
        if setting.none:
            raise CosError(setting.none)
        return xml(document(setting.root))
    if call.setting == "policy":
        return Response(headers={"Content-Type": "application/json"}, body=stored)
    if call.setting == "domain":
        proof = hashlib.md5(call.name.encode(), usedforsecurity=False).hexdigest()
        return xml(stored, **{"x-cos-domain-txt-verification": f"tencent-cloud-cos-verification={proof}"})
    return xml(stored)


def _setting_list(call: Call) -> bytes:
    documents = call.store.settings(call.bucket, call.setting)
    rows = "".join(
        ElementTree.tostring(ElementTree.fromstring(text), encoding="unicode") for text in documents
    )
    return document(SETTINGS[call.setting].list_root, rows + element("IsTruncated", False))


def put_setting(call: Call) -> Response:
    """Store a document after a look at its root."""
    setting, body = SETTINGS[call.setting], call.body.data
    if call.setting == "referer" and not body.strip():
        return delete_setting(call)  # the Python SDK's delete_bucket_referer
    if call.setting == "policy":
        _check_policy(body)
    else:
        messages.parse(body, setting.root)
        if call.setting in CHECKS:
            CHECKS[call.setting](call, body)
    if call.setting == "tagging":
        read_tags(body, 50)
    call.store.put_setting(call.bucket, call.setting, call.parameters.get("id", ""), body)
    return Response(setting.put_status)


def _check_policy(body: bytes) -> None:
    try:
        parse_policy(body, of_bucket=True)
    except PolicyError as error:
        raise CosError("MalformedPolicy", f"The policy is not well formed: {error}.") from error


def post_setting(call: Call) -> Response:
    """Order a one-off inventory; an id can be used once a day."""
    check_inventory(call, call.body.data, once=True)
    id_ = call.parameters["id"]
    last = call.store.last_run(call.bucket, ONCE, id_)
    if last is not None and last // 86_400 == call.store.now() // 86_400:
        raise CosError("InvalidRequest", "An inventory with this id was ordered today already.")
    call.store.set_run(call.bucket, ONCE, id_)
    call.store.put_setting(call.bucket, ONCE, id_, call.body.data)
    call.store.on_work()
    job = base64.b64encode(f"{call.name}/{id_}".encode()).decode()
    return xml(document("PostInventoryResult", element("JobId", job)))


def delete_setting(call: Call) -> Response:
    """Forget a document; it is no error if there was none."""
    if not SETTINGS[call.setting].deletable:
        raise CosError("MethodNotAllowed")
    call.store.delete_setting(call.bucket, call.setting, call.parameters.get("id", ""))
    return Response(204)


HANDLERS: dict[str, Callable[[Call], Response]] = {
    "ListBuckets": list_buckets,
    "CreateBucket": create_bucket,
    "HeadBucket": head_bucket,
    "DeleteBucket": delete_bucket,
    "GetBucketLocation": get_location,
    "GetBucketVersioning": get_versioning,
    "PutBucketVersioning": put_versioning,
    "GetBucketACL": get_acl,
    "PutBucketACL": put_acl,
    "GetBucketSetting": get_setting,
    "PostBucketSetting": post_setting,
    "PutBucketSetting": put_setting,
    "DeleteBucketSetting": delete_setting,
}
