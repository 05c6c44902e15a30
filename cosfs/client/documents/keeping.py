"""How objects are kept: versions, encryption, locks, tiers, tags, logs, inventories, replicas."""

from __future__ import annotations

from cosfs.client.documents.lifecycle import STATUS, TAG
from cosfs.client.documents.schema import Choice, Date, Field, Flag, Number, Struct, Text
from cosfs.client.documents.setting import Setting

__all__ = [
    "ENCRYPTION",
    "INVENTORY",
    "INVENTORY_ONCE",
    "LOGGING",
    "OBJECT_LOCK",
    "OBJECT_TAGGING",
    "REPLICATION",
    "RETENTION",
    "TAGGING",
    "TIERING",
    "TIERINGS",
    "VERSIONING",
]

# What replicas and inventories are written to.
_PLACE = Text(1, 0, r"qcs::cos:[a-z0-9-]+::[a-z0-9-]+-[0-9]+", "qcs::cos:REGION::BUCKET-APPID")
_CLASSES = (
    *("STANDARD", "STANDARD_IA", "INTELLIGENT_TIERING", "ARCHIVE", "DEEP_ARCHIVE"),
    *("MAZ_STANDARD", "MAZ_STANDARD_IA", "MAZ_INTELLIGENT_TIERING", "MAZ_ARCHIVE"),
)

VERSIONING = Setting(
    "versioning",
    "versioning",
    "versioning configuration",
    '{"Status": "Enabled"}',
    "VersioningConfiguration",
    Struct((Field("Status", Choice(("Enabled", "Suspended")), required=True),)),
    may_be_empty=True,
    deletable=False,
)
ENCRYPTION = Setting(
    "encryption",
    "encryption",
    "encryption configuration",
    '{"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}',
    "ServerSideEncryptionConfiguration",
    Struct(
        (
            Field(
                "Rules",
                Struct(
                    (
                        Field(
                            "ApplyServerSideEncryptionByDefault",
                            Struct(
                                (
                                    Field("SSEAlgorithm", Choice(("AES256", "KMS", "SM4")), required=True),
                                    Field("KMSMasterKeyID", Text(1)),
                                    Field("KMSAlgorithm", Choice(("AES256", "SM4"))),
                                )
                            ),
                            required=True,
                        ),
                        Field("BucketKeyEnabled", Flag()),
                    )
                ),
                xml="Rule",
                many=True,
                required=True,
                most=1,
            ),
        )
    ),
    frozenset({"NoSuchEncryptionConfiguration"}),
)
OBJECT_LOCK = Setting(
    "object-lock",
    "object-lock",
    "object lock configuration",
    '{"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Days": 30}}}',
    "ObjectLockConfiguration",
    Struct(
        (
            Field("ObjectLockEnabled", Choice(("Enabled",)), required=True),
            Field(
                "Rule",
                Struct(
                    (
                        Field(
                            "DefaultRetention",
                            Struct(
                                (
                                    Field("Mode", Choice(("COMPLIANCE", "GOVERNANCE"))),
                                    Field("Days", Number(1, 36_500), required=True),
                                )
                            ),
                            required=True,
                        ),
                    )
                ),
            ),
        )
    ),
    frozenset({"NoSuchObjectLockConfiguration", "ObjectLockConfigurationNotFoundError"}),
    deletable=False,
)
TAGGING = Setting(
    "tagging",
    "tagging",
    "tag set",
    '{"TagSet": [{"Key": "team", "Value": "web"}]}',
    "Tagging",
    Struct((Field("TagSet", TAG, item="Tag", required=True, most=50, unique="Key"),)),
    frozenset({"NoSuchTagSet", "NoSuchTagSetError"}),
)
OBJECT_TAGGING = Setting(
    "tag",
    "tagging",
    "tag set",
    '{"TagSet": [{"Key": "team", "Value": "web"}]}',
    "Tagging",
    Struct((Field("TagSet", TAG, item="Tag", required=True, most=10, unique="Key"),)),
)
RETENTION = Setting(
    "retention",
    "retention",
    "retention",
    '{"RetainUntilDate": "2030-01-31T00:00:00Z"}',
    "Retention",
    Struct(
        (
            Field("Mode", Choice(("COMPLIANCE", "GOVERNANCE"))),
            Field("RetainUntilDate", Date(), required=True),
        )
    ),
    frozenset({"NoSuchObjectLockConfiguration"}),
    deletable=False,
)
LOGGING = Setting(
    "logs",
    "logging",
    "logging configuration",
    '{"LoggingEnabled": {"TargetBucket": "logs-1250000000", "TargetPrefix": "access/"}}',
    "BucketLoggingStatus",
    Struct(
        (
            Field(
                "LoggingEnabled",
                Struct(
                    (
                        Field(
                            "TargetBucket", Text(1, 0, r"[a-z0-9-]+-[0-9]+", "BUCKET-APPID"), required=True
                        ),
                        Field("TargetPrefix", Text(0, 256, r"(?!/)[\s\S]*", "a prefix without a leading /")),
                    )
                ),
            ),
        )
    ),
    may_be_empty=True,
    unset=b"<BucketLoggingStatus></BucketLoggingStatus>",
)
REPLICATION = Setting(
    "replication",
    "replication",
    "replication configuration",
    '{"Role": "qcs::cam::uin/100000000001:uin/100000000001", "Rules": [{"ID": "all", "Status": "Enabled", '
    '"Prefix": "", "Destination": {"Bucket": "qcs::cos:ap-beijing::copy-1250000000"}}]}',
    "ReplicationConfiguration",
    Struct(
        (
            Field("Role", Text(1, 0, r"qcs::cam::uin/\S+", "qcs::cam::uin/OWNER:uin/WHO"), required=True),
            Field(
                "Rules",
                Struct(
                    (
                        Field("Status", STATUS, required=True),
                        Field("ID", Text(most=255)),
                        Field("Prefix", Text(most=850)),
                        Field("Filter", Struct((Field("Prefix", Text(most=850)),))),
                        Field("Priority", Number(0)),
                        Field(
                            "Destination",
                            Struct(
                                (
                                    Field("Bucket", _PLACE, required=True),
                                    Field("StorageClass", Choice(_CLASSES)),
                                )
                            ),
                            required=True,
                        ),
                        Field("DeleteMarkerReplication", Struct((Field("Status", STATUS, required=True),))),
                    ),
                    at_most_one=(("Prefix", "Filter"),),
                ),
                xml="Rule",
                many=True,
                required=True,
                most=1000,
                unique="ID",
            ),
        )
    ),
    frozenset({"ReplicationConfigurationNotFoundError", "ReplicationConfigurationnotFoundError"}),
)

# --- inventories

_ID = Text(1, 64, r"[A-Za-z0-9._-]+", "letters, digits, hyphens, underscores and dots")
_TARGET = Struct(
    (
        Field("Format", Choice(("CSV",)), required=True),
        Field("AccountId", Text(1)),
        Field("Bucket", _PLACE, required=True),
        Field("Prefix", Text(most=512)),
        Field("Encryption", Struct((Field("SSE-COS", Text()),))),
    )
)
_FILTER = Struct(
    (
        Field("Prefix", Text(most=850)),
        Field(
            "And",
            Struct((Field("Prefix", Text(most=850)), Field("Tags", TAG, xml="Tag", many=True, unique="Key"))),
        ),
        Field(
            "Period",
            Struct(
                (
                    Field("StartTime", Text(1, 0, r"[0-9]+", "Unix seconds")),
                    Field("EndTime", Text(1, 0, r"[0-9]+", "Unix seconds")),
                )
            ),
        ),
    ),
    at_most_one=(("Prefix", "And"),),
)
_FIELDS = Choice((
    *("Size", "LastModifiedDate", "ETag", "StorageClass", "IsMultipartUploaded", "ReplicationStatus"),
    *("Tag", "Crc64", "x-cos-meta-*"),
))  # fmt: skip
_SCHEDULE = Struct(
    (
        Field("Frequency", Choice(("Daily", "Weekly", "Monthly")), required=True),
        Field("MonthlyDate", Number(1, 28)),
    )
)
_BEFORE = (Field("Id", _ID, required=True),)
_AFTER = (
    Field("Destination", Struct((Field("COSBucketDestination", _TARGET, required=True),)), required=True),
    Field("IncludedObjectVersions", Choice(("All", "Current")), required=True),
    Field("Filter", _FILTER),
    Field("OptionalFields", _FIELDS, item="Field"),
)
_NONE = frozenset({"InventoryConfigurationNotFoundError", "NoSuchConfiguration"})
INVENTORY = Setting(
    "inventory",
    "inventory",
    "inventory configuration",
    '{"Id": "weekly", "IsEnabled": true, "Destination": {"COSBucketDestination": {"Format": "CSV", '
    '"Bucket": "qcs::cos:ap-guangzhou::lists-1250000000", "Prefix": "lists"}}, '
    '"IncludedObjectVersions": "Current", "Schedule": {"Frequency": "Weekly"}, '
    '"OptionalFields": ["Size", "ETag"]}',
    "InventoryConfiguration",
    Struct(
        (
            *_BEFORE,
            Field("IsEnabled", Flag(), required=True),
            *_AFTER,
            Field("Schedule", _SCHEDULE, required=True),
        )
    ),
    _NONE,
    by_id="id",
    id_field="Id",
)
INVENTORY_ONCE = Setting(
    "inventory",
    "inventory",
    "one-off inventory",
    '{"Id": "once", "Destination": {"COSBucketDestination": {"Format": "CSV", '
    '"Bucket": "qcs::cos:ap-guangzhou::lists-1250000000"}}, "IncludedObjectVersions": "All"}',
    "InventoryConfiguration",
    Struct((*_BEFORE, *_AFTER)),
    by_id="id",
    id_field="Id",
)

# --- tiers

_DAYS = Choice(("30", "60", "90"))
_ON = Choice(("Enabled", "Suspended"))
TIERING = Setting(
    "intelligent-tiering",
    "intelligenttiering",
    "tiering configuration",
    '{"Status": "Enabled", "Transition": {"Days": "30", "RequestFrequent": "1"}}',
    "IntelligentTieringConfiguration",
    Struct(
        (
            Field("Status", _ON, required=True),
            Field(
                "Transition",
                Struct((Field("Days", _DAYS, required=True), Field("RequestFrequent", Choice(("1",))))),
                required=True,
            ),
        )
    ),
    may_be_empty=True,
    deletable=False,
)
TIERINGS = Setting(
    "intelligent-tiering",
    "intelligent-tiering",
    "tiering configuration",
    '{"Id": "default", "Status": "Enabled", "Tierings": '
    '[{"AccessTier": "INFREQUENT", "Days": 30, "RequestFrequent": 1}]}',
    "IntelligentTieringConfiguration",
    Struct(
        (
            Field("Id", _ID, required=True),
            Field("Status", _ON, required=True),
            Field("Filter", _FILTER),
            Field(
                "Tierings",
                Struct(
                    (
                        Field(
                            "AccessTier",
                            Choice(("INFREQUENT", "ARCHIVE_ACCESS", "DEEP_ARCHIVE_ACCESS")),
                            required=True,
                        ),
                        Field("Days", Number(1, 36_500), required=True),
                        Field("RequestFrequent", Number(1)),
                    )
                ),
                xml="Tiering",
                many=True,
                required=True,
                unique="AccessTier",
            ),
        )
    ),
    may_be_empty=True,
    by_id="id",
    id_field="Id",
)
