"""Which proxy a host is reached through. Pure, but for the environment read once."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from cosfs.client.endpoint import Address, is_loopback
from cosfs.errors import ConfigError
from cosfs.records import dataclass

__all__ = ["Proxies", "Proxy"]


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy; headers carry its password."""

    scheme: str
    host: str
    port: int
    headers: Mapping[str, str]
    auth: str = ""  # percent-encoded user:password

    @property
    def full_url(self) -> str:
        return self.url.replace("://", f"://{self.auth}@", 1) if self.auth else self.url

    @property
    def url(self) -> str:
        return f"{self.scheme}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


class Proxies:
    """Which proxy a host is reached through."""

    def __init__(self, setting: str) -> None:
        self._chosen: dict[tuple[str, str], Proxy | None] = {}
        self._setting = setting
        self._environment: dict[str, str] = {}
        if not setting and any(name.lower().endswith("_proxy") for name in os.environ):
            from urllib.request import getproxies_environment

            self._environment = getproxies_environment()

    def choose(self, address: Address) -> Proxy | None:
        """Return the proxy for an address, None to go straight."""
        if not self._setting and not self._environment:
            return None
        key = (address.scheme, address.host)
        if key not in self._chosen:
            self._chosen[key] = self._find(*key)
        return self._chosen[key]

    def forward(self, address: Address) -> Proxy | None:
        """Return the proxy that wants whole URLs: plain HTTP is forwarded, TLS goes through a tunnel."""
        return self.choose(address) if address.scheme == "http" else None

    def _find(self, scheme: str, host: str) -> Proxy | None:
        if is_loopback(host):
            return None
        text = self._setting
        if not text:
            from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

            if proxy_bypass_environment(host, self._environment):
                return None
            text = self._environment.get(scheme, "") or self._environment.get("all", "")
        if not text:
            return None
        return _parse(text)


def _parse(text: str) -> Proxy:
    parts = urlsplit(text if "://" in text else f"http://{text}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigError(
            f"{parts.scheme}://{host or ''} is not a proxy that can be used", hint="Use an http:// proxy"
        )
    headers: dict[str, str] = {}
    if parts.username is not None:
        password = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Proxy-Authorization"] = f"Basic {b64encode(password.encode()).decode()}"
    auth = parts.netloc.rpartition("@")[0]
    return Proxy(parts.scheme, host, port or (443 if parts.scheme == "https" else 80), headers, auth)
