"""New connections: names, TCP, TLS, proxies; what went wrong, in words.

A call that runs in a hub lets the others go on while its connection is made, TLS included. Only names are
looked up in a thread, and the way through a proxy that wants TLS or a tunnel is left to urllib3 in one:
importing it takes longer than most commands have to wait for their answer.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
import threading
import time
from typing import Any

from cosfs.client.endpoint import Address
from cosfs.client.proxy import Proxies, Proxy
from cosfs.client.waiting import Hub, current_hub, offload
from cosfs.client.wire import Owner
from cosfs.config import ClientSettings
from cosfs.errors import (
    CertificateError,
    ConfigError,
    NetworkError,
    NetworkTimeoutError,
    NotCosError,
    UnknownHostError,
)

__all__ = ["Dialer"]


class _Direct:
    """An open connection that nobody but us knows of."""

    __slots__ = ("close", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.close = sock.close


class Dialer:
    """Makes connections as the settings say. Thread-safe."""

    def __init__(self, settings: ClientSettings, proxies: Proxies) -> None:
        self._settings = settings
        self._proxies = proxies
        self._lock = threading.Lock()
        self._context: ssl.SSLContext | None = None

    def connect(self, address: Address, timeout: float) -> Owner:
        """Return an open connection to an address or to its proxy; raise NetworkError and its children."""
        proxy = self._proxies.choose(address)
        via = f"{proxy.host}:{proxy.port}" if proxy is not None else ""
        secure = address.scheme == "https"
        try:
            if proxy is None:
                return self._straight(address.host, address.port, timeout, secure)
            if not secure and proxy.scheme != "https":
                return self._straight(proxy.host, proxy.port, timeout, secure)
        except OSError as error:
            raise _connect_error(error, f"{address.host}:{address.port}", via) from error
        return offload(lambda: self._through(proxy, address, timeout, via))

    def _straight(self, host: str, port: int, timeout: float, secure: bool) -> Owner:
        hub = current_hub()
        context = self._tls() if secure else None
        sock = _open(host, port, timeout, hub)
        if context is not None:
            sock = _encrypt(sock, context, host.rstrip("."), timeout, hub)
        return _Direct(sock)

    def _through(self, proxy: Proxy, address: Address, timeout: float, via: str) -> Owner:
        from http.client import HTTPException

        from urllib3.connection import HTTPSConnection, ProxyConfig
        from urllib3.exceptions import HTTPError
        from urllib3.util import parse_url

        made = HTTPSConnection(
            proxy.host,
            proxy.port,
            timeout=timeout,
            ssl_context=self._tls(),
            proxy=parse_url(proxy.url),
            proxy_config=ProxyConfig(self._tls(), False, None, None),
        )
        if address.scheme == "https":
            made.set_tunnel(address.host, address.port, dict(proxy.headers), scheme=proxy.scheme)
        try:
            made.connect()
        except (OSError, HTTPError) as error:
            made.close()
            raise _connect_error(error, f"{address.host}:{address.port}", via) from error
        except HTTPException as error:
            made.close()
            failure = NotCosError(f"the proxy {via} does not speak HTTP", hint="Check the proxy's address")
            failure.sent = False
            raise failure from error
        except BaseException:
            made.close()
            raise
        return made

    def _tls(self) -> ssl.SSLContext:
        with self._lock:
            if self._context is None:
                self._context = _make_tls(self._settings)
            return self._context


# --- TCP


def _open(host: str, port: int, timeout: float, hub: Hub | None) -> socket.socket:
    """Connect to the first address of a host that takes it."""
    failure: OSError | None = None
    for family, kind, protocol, _, peer in _addresses(host, port):
        try:
            sock = socket.socket(family, kind, protocol)
            try:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                _connect(sock, peer, timeout, hub)
            except BaseException:
                sock.close()
                raise
            return sock
        except OSError as error:
            failure = error
    raise failure or OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))


def _addresses(host: str, port: int) -> list[Any]:
    # As bytes: a text would have the codec of international names loaded.
    name = host.encode() if host.isascii() else host
    try:
        return socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        return offload(lambda: socket.getaddrinfo(name, port, type=socket.SOCK_STREAM))


def _connect(sock: socket.socket, peer: Any, timeout: float, hub: Hub | None) -> None:
    if hub is None:
        sock.settimeout(timeout)
        sock.connect(peer)
        return
    sock.settimeout(0.0)
    code = sock.connect_ex(peer)
    if code == errno.EINPROGRESS:
        hub.wait(sock.fileno(), writable=True, timeout=timeout)
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))


# --- TLS


def _encrypt(
    sock: socket.socket, context: ssl.SSLContext, name: str, timeout: float, hub: Hub | None
) -> ssl.SSLSocket:
    """Speak TLS over an open connection, which is closed if that fails."""
    try:
        tls = context.wrap_socket(sock, server_hostname=name, do_handshake_on_connect=hub is None)
    except BaseException:
        sock.close()
        raise
    if hub is None:
        return tls
    try:
        _shake_hands(tls, timeout, hub)
    except BaseException:
        tls.close()
        raise
    return tls


def _shake_hands(tls: ssl.SSLSocket, timeout: float, hub: Hub) -> None:
    end = time.monotonic() + timeout
    while True:
        try:
            tls.do_handshake()
            return
        except ssl.SSLWantReadError:
            writable = False
        except ssl.SSLWantWriteError:
            writable = True
        hub.wait(tls.fileno(), writable=writable, timeout=max(0.001, end - time.monotonic()))


def _make_tls(settings: ClientSettings) -> ssl.SSLContext:
    """Return how to speak TLS; verified unless the user said otherwise."""
    cafile = settings.ca_bundle or None
    if cafile is None:
        paths = ssl.get_default_verify_paths()
        if paths.cafile is None and paths.capath is None:
            # A machine without ca-certificates; the SDKs bring a list of their own.
            try:
                import certifi

                cafile = certifi.where()
            except ImportError:
                pass
    try:
        context = ssl.create_default_context(cafile=cafile)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"cannot use {cafile} as a list of certificates: {error}") from error
    context.set_alpn_protocols(["http/1.1"])
    if not settings.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


# --- errors


def _connect_error(error: Exception, host: str, via: str) -> NetworkError:
    """Return what went wrong while a connection was made; no request was sent."""
    failure = _in_words(error, host, via)
    failure.sent = False
    return failure


def _in_words(error: Exception, host: str, via: str) -> NetworkError:
    through = f" through the proxy {via}" if via else ""
    peer = f"the proxy {via}" if via else host
    where = "the proxy's address" if via else "endpoint_url"
    cause = _innermost(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return CertificateError(
            f"the TLS certificate of {host} cannot be trusted: {cause.verify_message}",
            hint="If a proxy of yours inspects TLS, give its certificate with --ca-bundle",
        )
    if isinstance(cause, (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)):
        return NetworkError(f"{host}{through} hung up before the connection was encrypted")
    if isinstance(cause, ssl.SSLError):
        if cause.reason in (
            "WRONG_VERSION_NUMBER",
            "HTTP_REQUEST",
            "UNEXPECTED_MESSAGE",
            "RECORD_LAYER_FAILURE",
        ):
            return NotCosError(
                f"{host} does not speak TLS", hint="Write http:// in endpoint_url if that is meant"
            )
        return CertificateError(f"no encrypted connection to {host}{through}: {cause.reason or cause}")
    if isinstance(cause, socket.gaierror):
        kind = NetworkError if cause.errno == socket.EAI_AGAIN else UnknownHostError
        return kind(
            f"the name of {peer.rpartition(':')[0]} cannot be resolved",
            hint="Check the network and the proxy's address"
            if via
            else "Check the network, the region and endpoint_url",
        )
    if isinstance(cause, ConnectionRefusedError):
        return NetworkError(f"{peer} refuses connections", hint=f"Check {where} and whether it is running")
    if isinstance(cause, TimeoutError):
        return NetworkTimeoutError(
            f"no connection to {peer} in time", hint="Check the network, a firewall and the proxy"
        )
    if "Tunnel connection failed" in str(cause):
        status = str(cause).removeprefix("Tunnel connection failed: ")
        hint = (
            "Write user:password@ into the proxy's address" if status.startswith("407") else "Check the proxy"
        )
        return NotCosError(f"the proxy {via} refuses to connect to {host}: {status}", hint=hint)
    reason = getattr(cause, "strerror", None) or str(cause)
    return NetworkError(f"no connection to {host}{through}: {reason}", hint="Check the network")


def _innermost(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error
