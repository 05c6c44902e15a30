"""Documents made from options: `cos replication put --to`, `cos website --index-document` and the like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

from cosfs.client.documents import access, keeping
from cosfs.errors import ServiceError, UsageError

from .options import parse_cos_url
from .setting_io import BucketSetting, full_bucket

if TYPE_CHECKING:
    from .state import State


def parse_tags(text: str) -> list[dict[str, str]]:
    """Read `k=v&k2=v2`, percent-encoded where needed."""
    tags = []
    for pair in text.split("&"):
        name, found, value = pair.partition("=")
        if not name or not found:
            raise UsageError(f"--tags {pair!r} is not KEY=VALUE", hint="Write --tags 'team=web&stage=test'")
        tags.append({"Key": unquote_plus(name), "Value": unquote_plus(value)})
    return tags


def build_tags(state: State, subject: BucketSetting, options: dict[str, Any]) -> dict[str, Any] | None:
    """Make a tag set of --tags."""
    return {"TagSet": parse_tags(options["tags"])} if options["tags"] else None


def build_website(state: State, subject: BucketSetting, options: dict[str, Any]) -> dict[str, Any] | None:
    """Make a website configuration of --index-document and --error-document."""
    index, error = options["index_document"], options["error_document"]
    if index is None and error is None:
        return None
    if index is None:
        raise UsageError("--error-document needs --index-document")
    document: dict[str, Any] = {"IndexDocument": {"Suffix": index}}
    return document | ({"ErrorDocument": {"Key": error}} if error else {})


# --- replication


def build_replication(state: State, subject: BucketSetting, options: dict[str, Any]) -> dict[str, Any] | None:
    """Make a replication configuration of --to; rules for other prefixes stay."""
    if not options["to"]:
        given = [name for name in ("prefix", "target_class", "role") if options[name] is not None]
        if given:
            raise UsageError(f"--{given[0].replace('_', '-')} needs --to cos://BUCKET")
        return None
    target = full_bucket(state, parse_cos_url(options["to"]))
    if target == subject.bucket:
        raise UsageError("a bucket cannot be replicated to itself")
    region = state.client.head_bucket(target).region
    prefix = options["prefix"] or ""
    destination = {"Bucket": f"qcs::cos:{region}::{target}"}
    if options["target_class"]:
        destination["StorageClass"] = options["target_class"].upper()
    rule: dict[str, Any] = {
        "Status": "Enabled",
        "ID": f"to-{target}",
        "Prefix": prefix,
        "Destination": destination,
    }
    if prefix:
        rule["ID"] = f"{rule['ID']}-{prefix}"[:255]
    before = subject.canonical(subject.get())
    kept = [
        each
        for each in before.get("Rules", [])
        if each.get("Prefix", "") != prefix and each.get("ID") != rule["ID"]
    ]
    role = options["role"] or before.get("Role") or _owner(state, subject.bucket)
    return {"Role": role, "Rules": [*kept, rule]}


def _owner(state: State, bucket: str) -> str:
    acl = BucketSetting(state, access.ACL, bucket).get() or {}
    owner = acl.get("Owner", {}).get("ID", "")
    if not str(owner).startswith("qcs::cam::uin/"):
        raise ServiceError(
            "the owner of the bucket cannot be learned", target=f"cos://{bucket}", hint="Name a --role"
        )
    return str(owner)


def enable_versioning(state: State, subject: BucketSetting, value: dict[str, Any], dryrun: bool) -> None:
    """Switch versioning on at both ends, which replication needs."""
    targets = [rule["Destination"]["Bucket"].rpartition("::")[2] for rule in value["Rules"]]
    for bucket in dict.fromkeys([subject.bucket, *targets]):
        versions = BucketSetting(state, keeping.VERSIONING, bucket)
        if (versions.get() or {}).get("Status") == "Enabled":
            continue
        if dryrun:
            state.out.talk(f"(dryrun) versioning of cos://{bucket} would be enabled")
        else:
            versions.put({"Status": "Enabled"})
            state.out.talk(f"versioning of cos://{bucket} is enabled now")
