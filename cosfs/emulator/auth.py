"""Who sent a request: COS signatures checked for real, and the choice among the schemes that COS accepts.

The algorithm is that of the COS documentation, "Request Signature"; `aws.py` has the two Amazon ones. Clients
differ in the host they sign (with or without port) and, in path style, in the path (with or without the
bucket): the variants are tried one after the other. The real service sees only one of them.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import lru_cache
from itertools import product
from urllib.parse import quote

from cosfs.emulator.addressing import Target, without_port
from cosfs.emulator.errors import CosError

_KEY_ID = re.compile(r"(?:q-ak=|Credential=|^AWS )([^&/:,\s]+)")
MAX_SKEW = 15 * 60
ADMIN_ID = "\0admin"  # no key id: whoever asks through the admin path
_FIELDS = (
    *("q-sign-algorithm", "q-ak", "q-sign-time", "q-key-time", "q-header-list", "q-url-param-list"),
    "q-signature",
)


@dataclass(frozen=True, slots=True)
class Credential:
    """A key pair; temporary ones have a token and a time (Unix seconds) at which they end.

    user is the uin of the user or account it belongs to, empty for the default account. session says in JSON
    how temporary keys came about.
    """

    secret_id: str
    secret_key: str
    token: str = ""
    expires: float = 0.0
    user: str = ""
    session: str = ""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose request it is. An empty secret_id is anonymous; scheme is cos, aws or empty."""

    secret_id: str = ""
    scheme: str = ""
    presigned: bool = False
    header_list: str = ""  # what a COS signature covers
    parameter_list: str = ""

    @property
    def anonymous(self) -> bool:
        """Tell whether nobody signed."""
        return not self.secret_id


@dataclass(slots=True)
class Signed:
    """What a signature can cover: method, target, headers, and the paths a client may have had in mind."""

    method: str
    target: Target
    headers: Mapping[str, str]
    path_style: bool
    parameters: Mapping[str, str] = field(default_factory=dict)

    def hosts(self) -> Iterator[str]:
        """Yield the hosts that may have been signed, likeliest first."""
        seen: set[str] = set()
        for host in (self.headers.get("host", ""), self.target.authority):
            name = without_port(host)
            for variant in (host, name, name.strip("[]")):  # the Python SDK signs an IPv6 address so
                if variant and variant not in seen:
                    seen.add(variant)
                    yield variant

    def paths(self) -> Iterator[bytes]:
        """Yield the decoded paths that may have been signed."""
        yield self.target.path
        if self.path_style:
            yield b"/" + self.target.path[1:].partition(b"/")[2]


Keyring = Callable[[str], Credential | None]


def encode(value: bytes | str) -> str:
    """Percent-encode all but letters, digits and -_.~ with upper-case hex."""
    return quote(value, safe="")


@lru_cache(maxsize=256)
def _seconds(text: str) -> float | None:
    """Read a date of HTTP; it is the same in all requests of a second."""
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def check_date(headers: Mapping[str, str], now: float) -> None:
    """Refuse a client whose clock is more than 15 minutes away, if it told its time."""
    text = headers.get("x-cos-date") or headers.get("date")
    sent = _seconds(text) if text else None
    if sent is not None and abs(sent - now) > MAX_SKEW:
        raise CosError("RequestTimeTooSkewed", nodes={"ServerTime": str(int(now))})


def check_token(credential: Credential, token: str, now: float) -> None:
    """Refuse a temporary key without its token or after its end, and a permanent key with any token."""
    if token != credential.token:
        raise CosError("InvalidAccessKeyId", "The security token does not belong to the access key id.")
    if credential.expires and now >= credential.expires:
        raise CosError("ExpiredToken")


def find_fields(request: Signed) -> tuple[dict[str, str], bool] | None:
    """Find the seven fields of a COS signature and whether they came in the query, or None."""
    text = request.headers.get("authorization", "").strip()
    if text:
        return _split(text), False
    if "sign" in request.parameters:
        return _split(request.parameters["sign"]), True
    if "q-signature" in request.parameters or "q-ak" in request.parameters:
        return {name: request.parameters.get(name, "") for name in _FIELDS}, True
    return None


def claimed_key(headers: Mapping[str, str], parameters: Mapping[str, str]) -> str:
    """Return the key id that a request names, in any scheme and not verified; empty if it names none."""
    text = headers.get("authorization") or parameters.get("sign", "")
    found = _KEY_ID.search(text)
    if found:
        return found[1]
    return (
        parameters.get("q-ak")
        or parameters.get("awsaccesskeyid")
        or parameters.get("x-amz-credential", "").partition("/")[0]
    )


def _split(text: str) -> dict[str, str]:
    return dict(item.partition("=")[::2] for item in text.split("&"))


def authenticate(request: Signed, keyring: Keyring, now: float) -> Identity:
    """Check a COS signature; return whose it is, anonymous if there is none."""
    found = find_fields(request)
    if found is None:
        return Identity()
    fields, presigned = found
    if any(name not in fields for name in _FIELDS) or fields["q-sign-algorithm"].lower() != "sha1":
        raise CosError("AccessDenied", "The Authorization is malformed.")
    credential = keyring(fields["q-ak"])
    if credential is None:
        raise CosError("InvalidAccessKeyId")
    check_date(request.headers, now)
    for times in {fields["q-sign-time"], fields["q-key-time"]}:
        check_times(times, now)
    _check_signature(request, fields, credential.secret_key)
    token = request.headers.get("x-cos-security-token") or request.parameters.get("x-cos-security-token", "")
    check_token(credential, token, now)
    return Identity(
        *(credential.secret_id, "cos", presigned),
        *(fields["q-header-list"].lower(), fields["q-url-param-list"].lower()),
    )


def check_times(text: str, now: float) -> None:
    """Refuse a request outside the `start;end` that it was signed for."""
    start, _, end = text.partition(";")
    if not (start.isdecimal() and end.isdecimal() and len(text) < 50):
        raise CosError("AccessDenied", "The Authorization is malformed.")
    if not int(start) <= now <= int(end):
        raise CosError("AccessDenied", "Request has expired")  # Node corrects its clock on exactly this


@lru_cache(maxsize=256)
def sign_key(secret_key: str, key_time: str) -> str:
    """Derive the key that signs requests during key_time."""
    return _hmac(secret_key, key_time)


def string_to_sign(sign_time: str, http_string: bytes) -> str:
    """Build what is signed from the canonical request."""
    return f"sha1\n{sign_time}\n{hashlib.sha1(http_string).hexdigest()}\n"


def _hmac(key: str, message: str) -> str:
    return hmac.digest(key.encode(), message.encode(), "sha1").hex()


def _names(listed: str) -> list[str]:
    return [name for name in listed.lower().split(";") if name]


def _pick(names: Iterable[str], values: Mapping[str, bytes]) -> str:
    """Join the listed names with their values."""
    # A listed name that the request lacks must mean a mismatch: nobody signs a name without its "=".
    return "&".join(f"{name}={encode(values[name])}" if name in values else name for name in names)


def _chosen_parameters(request: Signed, listed: str) -> str:
    if not listed:
        return ""
    values: dict[str, bytes] = {}
    for name, value in request.target.query:
        values.setdefault(encode(name).lower(), value)
    return _pick(_names(listed), values)


def _chosen_headers(headers: Mapping[str, str], names: Iterable[str]) -> dict[str, bytes]:
    """Return the listed headers of a request by their encoded names; nearly all names are plain."""
    found = {name: headers[name].encode("latin-1") for name in names if name in headers}
    if len(found) < len(set(names)):
        encoded = {encode(name).lower(): value for name, value in headers.items()}
        found |= {name: encoded[name].encode("latin-1") for name in names if name in encoded}
    return found


def _check_signature(request: Signed, fields: Mapping[str, str], secret_key: str) -> None:
    names = _names(fields["q-header-list"])
    headers = _chosen_headers(request.headers, names)
    chosen = _chosen_parameters(request, fields["q-url-param-list"])
    key = sign_key(secret_key, fields["q-key-time"])
    first = ""
    for path, host in product(request.paths(), request.hosts()):
        headers["host"] = host.encode("latin-1")
        picked = _pick(names, headers)
        http_string = f"{request.method.lower()}\n".encode() + path + f"\n{chosen}\n{picked}\n".encode()
        text = string_to_sign(fields["q-sign-time"], http_string)
        if hmac.compare_digest(_hmac(key, text).encode(), fields["q-signature"].encode()):
            return
        first = first or text + "\0" + http_string.decode("utf-8", "replace")
    wanted, _, canonical = first.partition("\0")
    raise CosError("SignatureDoesNotMatch", nodes={"StringToSign": wanted, "FormatString": canonical})
