"""The bucket settings that are documents: stored as they come, returned as they were, with their own 'none'.

One table, since COS treats nearly all of them alike. `versioning` and `acl` do something and live elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Setting:
    """One kind of bucket setting: its root element, its name in operations, and the answers that differ."""

    root: str
    operation: str
    none: str = ""  # error code when nothing is configured; empty: an empty root element is returned
    put_status: int = 200
    list_root: str = ""  # settings with an id can be listed
    deletable: bool = True


SETTINGS: Mapping[str, Setting] = MappingProxyType(
    {
        "accelerate": Setting("AccelerateConfiguration", "Accelerate"),
        "cors": Setting("CORSConfiguration", "CORS", "NoSuchCORSConfiguration"),
        "domain": Setting("DomainConfiguration", "Domain"),
        "domaincertificate": Setting("DomainCertificate", "DomainCertificate"),
        "encryption": Setting(
            "ServerSideEncryptionConfiguration", "Encryption", "NoSuchEncryptionConfiguration"
        ),
        "intelligent-tiering": Setting(
            "IntelligentTieringConfiguration",
            "IntelligentTieringConfiguration",
            list_root="ListBucketIntelligentTieringConfigurationsOutput",
        ),
        "intelligenttiering": Setting("IntelligentTieringConfiguration", "IntelligentTiering"),
        "inventory": Setting(
            "InventoryConfiguration",
            "Inventory",
            "InventoryConfigurationNotFoundError",
            list_root="ListInventoryConfigurationResult",
        ),
        "lifecycle": Setting("LifecycleConfiguration", "Lifecycle", "NoSuchLifecycleConfiguration"),
        "logging": Setting("BucketLoggingStatus", "Logging"),
        "notification": Setting("NotificationConfiguration", "Notification"),
        "object-lock": Setting(
            "ObjectLockConfiguration", "ObjectLock", "NoSuchObjectLockConfiguration", deletable=False
        ),
        "origin": Setting("OriginConfiguration", "Origin", "OriginConfigurationNotFoundError"),
        "policy": Setting("", "Policy", "NoSuchPolicy", put_status=204),
        "referer": Setting("RefererConfiguration", "Referer"),
        "replication": Setting(
            "ReplicationConfiguration", "Replication", "ReplicationConfigurationNotFoundError"
        ),
        "response-control": Setting("ResponseControlConfiguration", "ResponseControl"),
        "strict-signature": Setting("StrictSignatureConfiguration", "StrictSignature"),
        "tagging": Setting("Tagging", "Tagging", "NoSuchTagSet", put_status=204),
        "website": Setting("WebsiteConfiguration", "Website", "NoSuchWebsiteConfiguration"),
    }
)
