"""What a document must fulfil before a bucket takes it, setting by setting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from cosfs.emulator import cors, encryption, locks, messages, website_rules
from cosfs.emulator.access_log import read_logging
from cosfs.emulator.bucket_rules import parse_strict
from cosfs.emulator.context import Call
from cosfs.emulator.errors import CosError
from cosfs.emulator.hosts import check_domains, read_acceleration
from cosfs.emulator.inventory_rules import MAX_INVENTORIES, read_inventory
from cosfs.emulator.lifecycle_rules import STORAGE_CLASSES, read_lifecycle
from cosfs.emulator.origin import read_origin
from cosfs.emulator.reading import choice, invalid, malformed, needed, number, value
from cosfs.emulator.referer import parse_referer
from cosfs.emulator.replication_rules import split_target

_MAX_RULES = 1000
_TIERS = ("INFREQUENT", "ARCHIVE_ACCESS", "DEEP_ARCHIVE_ACCESS")


def _check_logging(call: Call, document: bytes) -> None:
    target = read_logging(document)
    if target is None:
        return
    name, prefix = target
    if not name:
        raise malformed("LoggingEnabled needs TargetBucket.")
    if call.store.resolve(name) != name or call.store.bucket(name).region != call.bucket.region:
        raise CosError("InvalidTargetBucketForLogging")
    if name.rpartition("-")[2] != call.name.rpartition("-")[2]:
        raise CosError("InvalidTargetBucketForLogging", "The target bucket belongs to another account.")
    if prefix.startswith("/") or len(prefix) > 256:
        raise CosError("LoggingPrefixInvalid")


def _check_replication(call: Call, document: bytes) -> None:
    rules = messages.parse(document, "ReplicationConfiguration").findall("Rule")
    if not rules or len(rules) > _MAX_RULES:
        raise malformed(f"There must be 1 to {_MAX_RULES} rules.")
    ids = [value(rule, "ID") for rule in rules if value(rule, "ID")]
    if len(set(ids)) != len(ids):
        raise invalid("Rule ID must be unique.")
    if call.bucket.versioning != "Enabled":
        raise CosError("BucketVersionNotOpen")
    for rule in rules:
        choice(rule, "Status", ("Enabled", "Disabled"))
        choice(rule, "DeleteMarkerReplication/Status", ("Enabled", "Disabled"), "Enabled")
        chosen = value(rule, "Destination/StorageClass").upper()
        if chosen and chosen not in STORAGE_CLASSES:
            raise invalid(f"There is no storage class {chosen}.")
        _check_target(call, needed(rule, "Destination/Bucket"))


def _check_target(call: Call, text: str) -> None:
    region, name = split_target(text) or ("", "")
    if not name or call.store.resolve(name) != name or call.store.bucket(name).region != region:
        raise CosError("TargetBucketNameInvalid")
    if name == call.name:
        raise CosError("InvalidRequest", "A bucket cannot be replicated to itself.")
    if call.store.bucket(name).versioning != "Enabled":
        raise CosError("BucketVersionNotOpen", "Versioning is not enabled for the target bucket.")


def check_inventory(call: Call, document: bytes, *, once: bool = False) -> None:
    """Refuse an inventory that cannot be made."""
    rules, id_ = read_inventory(document, once=once), call.parameters.get("id", "")
    if rules.id != id_:
        raise invalid("Id must be the id of the request.")
    name = rules.target
    if call.store.resolve(name) != name or call.store.bucket(name).region != rules.region:
        raise CosError("TargetBucketNameInvalid")
    if rules.region != call.bucket.region:
        raise CosError("TargetBucketNameInvalid", "The target bucket must be in the region of the bucket.")
    there = call.store.settings(call.bucket, "inventory")
    if (
        not once
        and len(there) >= MAX_INVENTORIES
        and call.store.setting(call.bucket, "inventory", id_) is None
    ):
        raise CosError("InventoryFull")


def _check_tiering(_call: Call, document: bytes) -> None:
    tree = messages.parse(document, "IntelligentTieringConfiguration")
    if choice(tree, "Status", ("Enabled", "Suspended")) == "Enabled":
        choice(tree, "Transition/Days", ("30", "60", "90"))
        choice(tree, "Transition/RequestFrequent", ("1",), "1")


def _check_tierings(call: Call, document: bytes) -> None:
    tree = messages.parse(document, "IntelligentTieringConfiguration")
    choice(tree, "Status", ("Enabled", "Suspended", "Disabled"))
    if needed(tree, "Id") != call.parameters.get("id", ""):
        raise invalid("Id must be the id of the request.")
    tiers = tree.findall("Tiering")
    if not tiers:
        raise malformed("IntelligentTieringConfiguration needs Tiering.")
    for tier in tiers:
        choice(tier, "AccessTier", _TIERS)
        if number(tier, "Days", 1, 36_500) is None:
            raise malformed("Tiering needs Days.")


def _check_certificate(_call: Call, document: bytes) -> None:
    tree = messages.parse(document, "DomainCertificate")
    choice(tree, "CertificateInfo/CertType", ("CustomCert", "TencentCert"))
    if not tree.findall("DomainList/DomainName"):
        raise malformed("DomainCertificate needs DomainList.")


def _check_lock(call: Call, document: bytes) -> None:
    locks.check_configuration(messages.parse(document, "ObjectLockConfiguration"))
    if call.bucket.versioning != "Enabled":
        raise CosError("InvalidBucketState", "Object lock needs versioning to be enabled.")


def _check_cors(call: Call, document: bytes) -> None:
    cors.check_configuration(call, messages.parse(document, "CORSConfiguration"))


def _check_encryption(call: Call, document: bytes) -> None:
    encryption.check_configuration(call, messages.parse(document, "ServerSideEncryptionConfiguration"))


def _check_website(_call: Call, document: bytes) -> None:
    website_rules.check_configuration(messages.parse(document, "WebsiteConfiguration"))


# By the name of the setting; what is not here needs its root element only.
CHECKS: Mapping[str, Callable[[Call, bytes], object]] = MappingProxyType(
    {
        "cors": _check_cors,
        "encryption": _check_encryption,
        "object-lock": _check_lock,
        "referer": lambda _call, document: parse_referer(document),
        "strict-signature": lambda _call, document: parse_strict(document),
        "accelerate": lambda _call, document: read_acceleration(document),
        "domain": check_domains,
        "domaincertificate": _check_certificate,
        "intelligent-tiering": _check_tierings,
        "intelligenttiering": _check_tiering,
        "inventory": check_inventory,
        "lifecycle": lambda _call, document: read_lifecycle(document),
        "logging": _check_logging,
        "origin": lambda _call, document: read_origin(document),
        "replication": _check_replication,
        "website": _check_website,
    }
)
