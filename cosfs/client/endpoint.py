"""Which host a bucket is reached at. Pure."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

from cosfs.client.url import check_bucket, quote_key
from cosfs.config import ClientSettings
from cosfs.errors import ConfigError, UsageError
from cosfs.records import dataclass

__all__ = ["Address", "Endpoint", "endpoint_is_local", "is_loopback"]

_SERVICE = "service.cos.myqcloud.com"
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Address:
    """Where a request goes: TCP and TLS to host and port, host_header in the request.

    path is percent-encoded and goes out as it is; signed_path is what the signature covers.
    """

    scheme: str
    host: str
    port: int
    host_header: str
    path: str
    signed_path: str

    @property
    def origin(self) -> str:
        return f"{self.scheme}://{self.host_header}"


@dataclass(frozen=True, slots=True)
class _Origin:
    scheme: str
    host: str
    port: int
    header: str


class Endpoint:
    """Turn bucket, region and key into an address, as the settings say."""

    def __init__(self, settings: ClientSettings) -> None:
        self.custom = bool(settings.endpoint_url)
        self._origin = _parse(settings.endpoint_url) if self.custom else _origin("https", _SERVICE, None)
        style = settings.addressing_style
        if style == "auto":
            style = "path" if self.custom and _is_address(self._origin.host) else "virtual"
        if style == "path" and not self.custom:
            raise ConfigError(
                "addressing_style = path needs an endpoint_url",
                hint="COS itself takes virtual-hosted requests only",
            )
        self.path_style = style == "path"
        # An endpoint of the user's own has no such hosts.
        self._accelerated = settings.accelerate and not self.custom
        self._own = {
            bucket: _parse(url.replace("{bucket}", bucket)) for bucket, url in settings.bucket_endpoints
        }
        # Building the origin of a bucket costs more than a look-up; there are few buckets.
        self._buckets: dict[tuple[str, str], _Origin] = {}

    def needs_region(self, bucket: str) -> bool:
        """Whether the host of a bucket depends on its region."""
        return not self.custom and bucket not in self._own

    def may_move(self, bucket: str) -> bool:
        """Whether a bucket is reached elsewhere when its region turns out to be another."""
        return bucket not in self._own

    def service(self) -> Address:
        """Return the address that lists the buckets."""
        origin = self._origin
        return Address(origin.scheme, origin.host, origin.port, origin.header, "/", "/")

    def bucket(self, bucket: str, region: str) -> Address:
        """Return the address of a bucket itself."""
        origin = self._bucket_origin(bucket, region)
        path = f"/{bucket}/" if self.path_style and bucket not in self._own else "/"
        return Address(origin.scheme, origin.host, origin.port, origin.header, path, "/")

    def object(self, bucket: str, region: str, key: str) -> Address:
        """Return the address of an object; the key must not be empty."""
        if not key:
            # A PUT or DELETE of the path "/" would make or remove the bucket.
            raise UsageError(f"cos://{bucket}/ is a bucket, not an object")
        origin = self._bucket_origin(bucket, "accelerate" if self._accelerated else region)
        quoted = quote_key(key)
        path = f"/{bucket}/{quoted}" if self.path_style and bucket not in self._own else f"/{quoted}"
        # Clients of path style sign the key alone (cos-protocol: cosfs, Node).
        return Address(origin.scheme, origin.host, origin.port, origin.header, path, f"/{key}")

    def _bucket_origin(self, bucket: str, region: str) -> _Origin:
        known = self._buckets.get((bucket, region))
        if known is None:
            known = self._make_bucket_origin(bucket, region)
            if len(self._buckets) > 10_000:
                self._buckets.clear()
            self._buckets[bucket, region] = known
        return known

    def _make_bucket_origin(self, bucket: str, region: str) -> _Origin:
        check_bucket(bucket)
        if bucket in self._own:
            return self._own[bucket]
        if self.path_style:
            return self._origin
        if self.custom:
            return _origin(self._origin.scheme, f"{bucket}.{self._origin.host}", self._origin.port)
        if not region:
            raise ConfigError(
                f"the region of cos://{bucket} is not known",
                hint="Give --region, set COS_REGION, or run: cos configure set region ap-guangzhou",
            )
        return _origin(self._origin.scheme, f"{bucket}.cos.{region}.myqcloud.com", None)


def copy_source(bucket: str, region: str, key: str, version_id: str = "") -> str:
    """Return the value of x-cos-copy-source for an object."""
    source = f"{bucket}.cos.{region or 'ap-guangzhou'}.myqcloud.com/{quote_key(key)}"
    return f"{source}?versionId={quote(version_id, safe='')}" if version_id else source


def is_loopback(host: str) -> bool:
    """Return whether host is this machine."""
    return host in ("localhost", "::1") or host.endswith(".localhost") or host.startswith("127.")


def endpoint_is_local(url: str) -> bool:
    """Return whether an endpoint_url, which may be empty, is a server on this machine."""
    return bool(url) and is_loopback(_parse(url).host)


def _is_address(host: str) -> bool:
    """Return whether host is an IP address or localhost, under which buckets have no names of their own."""
    return host == "localhost" or ":" in host or host.replace(".", "").isdigit()


def _parse(url: str) -> _Origin:
    parts = urlsplit(url)
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if parts.scheme not in _DEFAULT_PORTS or not host or parts.path.strip("/") or parts.query:
        raise ConfigError(
            f"{url!r} is not an endpoint", hint="Write for example https://cos.ap-guangzhou.myqcloud.com."
        )
    return _origin(parts.scheme, host, port)


def _origin(scheme: str, host: str, port: int | None) -> _Origin:
    default = _DEFAULT_PORTS[scheme]
    name = f"[{host}]" if ":" in host else host
    header = name if port in (None, default) else f"{name}:{port}"
    return _Origin(scheme, host, port or default, header)
