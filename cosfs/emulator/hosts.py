"""Host names with a meaning of their own: those of global acceleration, and domains of a bucket's owner."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cosfs.emulator import messages
from cosfs.emulator.addressing import Place, Target, without_port
from cosfs.emulator.context import Call
from cosfs.emulator.errors import CosError
from cosfs.emulator.reading import choice, invalid, malformed, needed, value
from cosfs.emulator.store import Store

MAX_DOMAINS = 20
_DOMAIN = re.compile(r"([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,}")
# Calls of a bucket that the accelerated hosts serve besides those of objects.
_ACCELERATED = ("ListObjects", "HeadBucket", "ListObjectVersions", "ListMultipartUploads", "DeleteObjects")


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain of the owner. type is REST, WEBSITE or ACCELERATE."""

    name: str
    enabled: bool
    type: str


def read_domains(document: bytes) -> tuple[Domain, ...]:
    """Read and check a DomainConfiguration."""
    rules = messages.parse(document, "DomainConfiguration").findall("DomainRule")
    if not rules:
        raise malformed("DomainConfiguration needs DomainRule.")
    if len(rules) > MAX_DOMAINS:
        raise invalid(f"A bucket takes {MAX_DOMAINS} domains.")
    found = []
    for rule in rules:
        name = needed(rule, "Name").lower()
        if (
            not _DOMAIN.fullmatch(name)
            or len(name) > 253
            or name.endswith((".myqcloud.com", ".tencentcos.cn"))
        ):
            raise CosError("UserCnameInvalid")
        replaced = value(rule, "ForcedReplacement")
        if replaced and replaced not in ("CNAME", "TXT"):
            raise malformed("ForcedReplacement must be CNAME or TXT.")
        enabled = choice(rule, "Status", ("ENABLED", "DISABLED")) == "ENABLED"
        found.append(Domain(name, enabled, choice(rule, "Type", ("REST", "WEBSITE", "ACCELERATE"))))
    if len({domain.name for domain in found}) != len(found):
        raise CosError("DomainConfigConflict")
    return tuple(found)


def place_of_domain(store: Store, target: Target, host: str) -> Place | None:
    """Return what a request to a domain of a bucket's owner is about, None if the host is none."""
    if not store.any_configured("domain"):
        return None
    name = without_port((target.authority or host).lower())
    for bucket in store.configured_buckets("domain"):
        for domain in store.derived(bucket, "domain", read_domains) or ():
            if domain.name == name and domain.enabled:
                key = target.path[1:].decode("utf-8", "replace")
                return Place(bucket.name, key, False, domain.type == "WEBSITE")
    return None


def check_domains(call: Call, document: bytes) -> None:
    """Refuse a domain that another bucket has."""
    names = {domain.name for domain in read_domains(document)}
    for bucket in call.store.configured_buckets("domain"):
        others = call.store.derived(bucket, "domain", read_domains) or ()
        if bucket.name != call.name and names & {domain.name for domain in others}:
            raise CosError("DomainConfigConflict")


def read_acceleration(document: bytes) -> bool:
    """Read and check an AccelerateConfiguration; return whether it switches acceleration on."""
    tree = messages.parse(document, "AccelerateConfiguration")
    choice(tree, "Type", ("COS",), "COS")
    return choice(tree, "Status", ("Enabled", "Suspended", "Disabled")) == "Enabled"


def check_region(call: Call) -> None:
    """Refuse, as COS does, a host that names another region than that of the bucket, if that is asked for."""
    if not call.emulation.limits.own_regions or not call.place.bucket or call.operation == "CreateBucket":
        return
    labels = without_port(call.host).split(".")
    if len(labels) == 5 and labels[1] == "cos" and labels[2] not in (call.bucket.region, "accelerate"):
        raise CosError("NoSuchBucket")


def check_acceleration(call: Call) -> None:
    """Refuse a request to an accelerated host that COS would not serve there."""
    if "accelerate" not in call.host:
        return
    labels = without_port(call.host).split(".")
    if "accelerate" not in labels[1:3] or not call.place.bucket or call.place.path_style:
        return
    if not call.key and call.operation not in _ACCELERATED:
        raise CosError("ActionAccelerateNotSupported")
    if not call.store.derived(call.bucket, "accelerate", read_acceleration):
        raise CosError("BucketAccelerateNotEnabled")
