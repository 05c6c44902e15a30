"""A good document for every bucket setting that is checked for more than its root element."""

from __future__ import annotations

from tests.emulator.asking import BUCKET

INVENTORY = (
    "<InventoryConfiguration><Id>{id}</Id>{schedule}<Destination><COSBucketDestination><Format>CSV</Format>"
    "<AccountId>100000000001</AccountId><Bucket>qcs::cos:ap-guangzhou::{target}</Bucket><Prefix>lists</Prefix>"
    "</COSBucketDestination></Destination>{filter}<IncludedObjectVersions>{versions}</IncludedObjectVersions>"
    "<OptionalFields>{fields}</OptionalFields></InventoryConfiguration>"
)
FIELDS = ("Size", "LastModifiedDate", "ETag", "StorageClass", "IsMultipartUploaded", "ReplicationStatus")


def inventory(
    id_: str, target: str = BUCKET, *, frequency: str = "Daily", filtered: str = "",
    versions: str = "Current", fields: tuple[str, ...] = FIELDS, enabled: str = "true",
) -> str:  # fmt: skip
    """Write an inventory; without a frequency, a one-off."""
    schedule = f"<IsEnabled>{enabled}</IsEnabled><Schedule><Frequency>{frequency}</Frequency></Schedule>"
    return INVENTORY.format(
        id=id_,
        target=target,
        schedule=schedule if frequency else "",
        filter=f"<Filter>{filtered}</Filter>" if filtered else "",
        versions=versions,
        fields="".join(f"<Field>{field}</Field>" for field in fields),
    )


def replication(target: str, *rules: str, region: str = "ap-guangzhou") -> str:
    """Write a replication document; rules are further elements of a rule, each with its prefix."""
    written = "".join(
        f"<Rule><ID>{number}</ID><Status>Enabled</Status>{more}<Destination>"
        f"<Bucket>qcs::cos:{region}::{target}</Bucket></Destination></Rule>"
        for number, more in enumerate(rules or ("<Prefix></Prefix>",))
    )
    role = "qcs::cam::uin/100000000001:uin/100000000001"
    return f"<ReplicationConfiguration><Role>{role}</Role>{written}</ReplicationConfiguration>"


DOCUMENTS = {
    "accelerate": (
        "<AccelerateConfiguration><Status>Enabled</Status><Type>COS</Type></AccelerateConfiguration>"
    ),
    "domain": (
        "<DomainConfiguration><DomainRule><Status>ENABLED</Status><Name>www.example.com</Name>"
        "<Type>REST</Type></DomainRule></DomainConfiguration>"
    ),
    "domaincertificate": (
        "<DomainCertificate><CertificateInfo><CertType>CustomCert</CertType><CustomCert><Cert>c</Cert>"
        "<PrivateKey>k</PrivateKey></CustomCert></CertificateInfo><DomainList>"
        "<DomainName>www.example.com</DomainName></DomainList></DomainCertificate>"
    ),
    "intelligenttiering": (
        "<IntelligentTieringConfiguration><Status>Enabled</Status><Transition><Days>30</Days>"
        "<RequestFrequent>1</RequestFrequent></Transition></IntelligentTieringConfiguration>"
    ),
    "lifecycle": (
        "<LifecycleConfiguration><Rule><ID>r</ID><Filter><Prefix>logs/</Prefix></Filter><Status>Enabled</Status>"
        "<Expiration><Days>10</Days></Expiration></Rule></LifecycleConfiguration>"
    ),
    "origin": (
        "<OriginConfiguration><OriginRule><RulePriority>1</RulePriority><OriginType>Mirror</OriginType>"
        "<OriginCondition><HTTPStatusCode>404</HTTPStatusCode><Prefix></Prefix></OriginCondition><OriginInfo>"
        "<HostInfo><HostName>origin.example.com</HostName></HostInfo></OriginInfo></OriginRule>"
        "</OriginConfiguration>"
    ),
}
