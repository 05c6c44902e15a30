"""What a handler is given: the parsed request, and the emulator it belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cosfs.emulator.access_log import AccessLog
from cosfs.emulator.accounts import Account, Accounts, Principal
from cosfs.emulator.addressing import Place, Target
from cosfs.emulator.auth import Identity
from cosfs.emulator.bucket_rules import RulesOfBuckets
from cosfs.emulator.errors import CosError
from cosfs.emulator.files import Received
from cosfs.emulator.messages import url_encode
from cosfs.emulator.numerals import whole
from cosfs.emulator.ranges import RangeDigests
from cosfs.emulator.sessions import InstanceRole
from cosfs.emulator.store import Bucket, Store
from cosfs.emulator.uploads import Uploads
from cosfs.emulator.values import LOCAL, Peer

_EMPTY = Received(0, bytes.fromhex("d41d8cd98f00b204e9800998ecf8427e"), 0)


@dataclass(frozen=True, slots=True)
class Limits:
    """What COS allows, in bytes unless said otherwise. Tests make them small."""

    object_size: int = 5 * 1024**3  # of one PUT, copy, append or part
    min_part_size: int = 1024**2  # of every part but the last, checked at Complete
    metadata: int = 4 * 1024
    document: int = 16 * 1024**2
    buckets: int = 10_000  # COS begins with 200 per account, which a test suite would outgrow
    restore_seconds: float = 0.0  # how long a restore of an archived object takes
    own_regions: bool = False  # whether a host that names a region knows the buckets of that one only
    restore_tiers: bool = False  # whether it takes as long as COS says for the tier and the class instead


@dataclass(slots=True)
class Emulation:
    """The state behind all handlers."""

    store: Store
    uploads: Uploads
    region: str
    appid: str
    limits: Limits = field(default_factory=Limits)
    default_bucket: str = ""  # of requests to an IP address
    instance_role: InstanceRole = field(default_factory=InstanceRole)
    mfa_devices: dict[str, str] = field(default_factory=dict)  # serial number: the code it shows
    ranges: RangeDigests = field(default_factory=RangeDigests)
    accounts: Accounts = field(init=False)
    rules: RulesOfBuckets = field(init=False)
    access_log: AccessLog = field(init=False)

    def __post_init__(self) -> None:
        """Open what lives in the store."""
        self.accounts = Accounts(self.store.db, self.appid)
        self.rules = RulesOfBuckets(self.store, self.accounts)
        self.access_log = AccessLog(self.store)

    def resolve(self, name: str, appid: str = "") -> str:
        """Return the full name of a bucket; short names of accounts other than the default are their own."""
        return self.store.resolve(name, "" if appid == self.appid else appid)


def full_name(name: str, appid: str) -> str:
    """Add the APPID to a bucket name that has none: path-style S3 tools type the short name."""
    return name if name.rpartition("-")[2].isdigit() and "-" in name else f"{name}-{appid}"


@dataclass(slots=True)
class Call:
    """One request, understood and authenticated."""

    operation: str
    setting: str
    method: str
    target: Target
    place: Place
    headers: Mapping[str, str]  # lower-case names; x-amz- already read as x-cos-
    parameters: Mapping[str, str]  # lower-case names
    identity: Identity
    host: str
    emulation: Emulation
    peer: Peer = LOCAL
    body: Received = _EMPTY
    stale: float = 0.0  # seconds by which a listing lags behind: a fault

    @property
    def store(self) -> Store:
        """Return the store."""
        return self.emulation.store

    @property
    def principal(self) -> Principal:
        """Return who the identity is."""
        secret_id = self.identity.secret_id
        return self.emulation.accounts.principal(self.store.credential(secret_id), secret_id)

    @property
    def scheme(self) -> str:
        """Return the scheme of the URL that was called."""
        return "https" if self.peer.tls else "http"

    @property
    def version(self) -> str:
        """Return the version asked for; empty means the newest."""
        return self.parameters.get("versionid", "")

    def resolve(self, name: str) -> str:
        """Return the full name of a bucket that the principal calls by its full or short name, or ''."""
        return self.emulation.resolve(name, self.principal.appid)

    def full_name(self, name: str) -> str:
        """Add the principal's APPID to a name of a bucket that has none."""
        return full_name(name, self.principal.appid or self.emulation.appid)

    @property
    def key(self) -> str:
        """Return the key; empty for a bucket."""
        return self.place.key

    @property
    def bucket(self) -> Bucket:
        """Return the bucket or say that it is not there."""
        return self.store.bucket(self.place.bucket)

    @property
    def owner(self) -> Account:
        """Return the account that the bucket belongs to."""
        return self.emulation.accounts.owner_of(self.place.bucket)

    @property
    def name(self) -> str:
        """Return the bucket's full name."""
        return self.place.bucket

    def number(self, name: str, default: int, low: int = 0, high: int | None = None) -> int:
        """Return a number of the query; above high it counts as high, as COS does with max-keys."""
        text = self.parameters.get(name, "")
        if not text:
            return default
        value = whole(text)
        if value is None or value < low:
            raise CosError("InvalidArgument", f"{name} is not valid.")
        return value if high is None else min(value, high)

    def resource(self) -> str:
        """Return what an error document calls the resource; never empty, the Python SDK insists."""
        if not self.place.bucket:
            return "/"
        # XML has no way to write control characters.
        key = self.key if self.key.isprintable() else url_encode(self.key)
        return self.host.partition(":")[0] + "/" + key
