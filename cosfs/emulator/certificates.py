"""HTTPS with certificates of our own: an authority in the data directory, a certificate for each name asked.

The authority may vouch for loopback names and the names of Tencent Cloud only, so that whoever trusts it and
loses its key has not opened every other site.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import re
import ssl
import tempfile
from functools import lru_cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cosfs.emulator.errors import EmulatorError

_DOMAINS = ("localhost", "test", "myqcloud.com", "tencentcos.cn", "tencentcloudapi.com", "qcloud.com")
_NETWORKS = ("127.0.0.0/8", "::1/128")
_ALWAYS = ("localhost", "*.localhost", "127.0.0.1", "::1")  # for clients that name no host
_HOST_NAME = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
_CA_DAYS, _SERVER_DAYS = 3650, 390
_FOLDER, _CERTIFICATE, _KEY = "https", "ca.pem", "ca-key.pem"


class Authority:
    """The certificate authority of a data directory; made at the first use."""

    def __init__(self, data: Path) -> None:
        self._folder = data / _FOLDER
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self.file = self._folder / _CERTIFICATE
        if not self.file.exists():
            self._make()
        try:
            self._certificate = x509.load_pem_x509_certificate(self.file.read_bytes())
            key = serialization.load_pem_private_key((self._folder / _KEY).read_bytes(), None)
        except (OSError, ValueError) as error:
            raise EmulatorError(f"{self._folder} is damaged ({error}); remove it to have a new one") from None
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self._key = key
        self._server_key = ec.generate_private_key(ec.SECP256R1())
        self._named = lru_cache(maxsize=1000)(self._context)

    def context(self) -> ssl.SSLContext:
        """Return what a server needs: whatever name a client asks for, it gets a certificate for it."""
        context = self._context("")

        def choose(connection: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
            if name and len(name) <= 253 and _HOST_NAME.fullmatch(name.lower()):
                connection.context = self._named(name.lower())

        context.sni_callback = choose
        return context

    def _context(self, name: str) -> ssl.SSLContext:
        """Make a context with a certificate for one more name."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(["http/1.1"])
        certificate = self._issue([*_ALWAYS, name] if name else [*_ALWAYS])
        # The ssl module reads certificates from files only.
        with tempfile.NamedTemporaryFile(dir=self._folder) as file:
            file.write(_pem(self._server_key) + certificate.public_bytes(serialization.Encoding.PEM))
            file.flush()
            context.load_cert_chain(file.name)
        return context

    def _issue(self, names: list[str]) -> x509.Certificate:
        alternatives = x509.SubjectAlternativeName([_general(name) for name in dict.fromkeys(names)])
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        key = self._server_key.public_key()
        return (
            _builder("COS emulator", self._certificate.subject, key, _SERVER_DAYS)
            .add_extension(alternatives, critical=False)
            .add_extension(usage, critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(self._authority_id(), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    def _authority_id(self) -> x509.AuthorityKeyIdentifier:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())

    def _make(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name("COS emulator of this machine")
        permitted: list[x509.GeneralName] = [x509.DNSName(domain) for domain in _DOMAINS]
        permitted += [x509.IPAddress(ipaddress.ip_network(network)) for network in _NETWORKS]
        certificate = (
            _builder("COS emulator of this machine", subject, key.public_key(), _CA_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.NameConstraints(permitted, None), critical=True)
            .add_extension(_ca_usage(), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        descriptor = os.open(self._folder / _KEY, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(_pem(key))
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _builder(
    common_name: str, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(common_name))
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _ca_usage() -> x509.KeyUsage:
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment")
    others = dict.fromkeys((*names, "key_agreement", "encipher_only", "decipher_only"), False)
    return x509.KeyUsage(key_cert_sign=True, crl_sign=True, **others)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
