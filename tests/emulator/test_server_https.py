"""HTTPS with certificates of our own, and clients that come through CONNECT."""

from __future__ import annotations

import socket
import ssl
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from qcloud_cos import CosConfig, CosS3Client

from cosfs.emulator import Emulator, EmulatorError

BUCKET = "secure-1250000000"
REAL = f"{BUCKET}.cos.ap-guangzhou.myqcloud.com"


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with Emulator(tmp_path_factory.mktemp("https"), buckets=["secure"], https=True) as emulator:
        emulator.put_objects(BUCKET, [("k", b"data")])
        yield emulator


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def handshake(emulator: Emulator, name: str) -> ssl.SSLSocket:
    assert emulator.info.ca_file is not None
    context = ssl.create_default_context(cafile=str(emulator.info.ca_file))
    raw = socket.create_connection(("127.0.0.1", port_of(emulator.info.https_url)), timeout=90)
    return context.wrap_socket(raw, server_hostname=name)


@pytest.mark.parametrize(
    "name",
    [
        *("127.0.0.1", "localhost", f"{BUCKET}.localhost", REAL, "service.cos.myqcloud.com"),
        *(
            "cos.ap-guangzhou.myqcloud.com",
            f"{BUCKET}.cos.accelerate.myqcloud.com",
            "sts.tencentcloudapi.com",
        ),
        *(f"{BUCKET}.cos-internal.eu-frankfurt.tencentcos.cn", "LOCALHOST"),
    ],
)
def test_certificates_hold_for_every_name_of_cos(secure: Emulator, name: str) -> None:
    with handshake(secure, name) as connection:
        assert connection.selected_alpn_protocol() is None
        connection.sendall(f"GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 ")


def test_the_authority_cannot_vouch_for_other_sites(secure: Emulator) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree"):
        handshake(secure, "www.example.org")


def test_http_and_https_serve_the_same(secure: Emulator) -> None:
    assert secure.info.ca_file is not None
    plain = requests.get(secure.endpoint_url, timeout=90)
    safe = requests.get(secure.info.https_url, timeout=90, verify=str(secure.info.ca_file))
    assert plain.status_code == safe.status_code == 403
    assert secure.info.https_url.startswith("https://127.0.0.1:")


def sdk(emulator: Emulator, **options: object) -> CosS3Client:
    config = CosConfig(
        Region="ap-guangzhou", SecretId=emulator.secret_id, SecretKey=emulator.secret_key, **options
    )
    return CosS3Client(config, retry=0)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_setting_redirects_real_host_names(
    secure: Emulator, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The vendor's SDK with no word about the emulator but the proxy of its configuration."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(secure.info.ca_file))
    monkeypatch.setenv("no_proxy", "")
    proxies = {"http": secure.endpoint_url, "https": secure.endpoint_url}
    client = sdk(secure, Scheme=scheme, Proxies=proxies)
    big = bytes(range(256)) * 20_000
    client.put_object(Bucket=BUCKET, Key="big", Body=big)
    assert client.get_object(Bucket=BUCKET, Key="big")["Body"].get_raw_stream().read() == big
    assert BUCKET in [each["Name"] for each in client.list_buckets()["Buckets"]["Bucket"]]


def test_a_tunnel_leads_nowhere_else(secure: Emulator) -> None:
    other = socket.create_server(("127.0.0.1", 0))
    other.settimeout(0.2)
    with socket.create_connection(("127.0.0.1", port_of(secure.endpoint_url)), timeout=90) as connection:
        connection.sendall(f"CONNECT 127.0.0.1:{other.getsockname()[1]} HTTP/1.1\r\n\r\n".encode())
        assert connection.recv(1000) == b"HTTP/1.1 200 Connection established\r\n\r\n"
        with pytest.raises(TimeoutError):
            other.accept()
    other.close()


def test_connect_without_https_says_so(tmp_path: Path) -> None:
    with Emulator(tmp_path) as plain:
        port = port_of(plain.endpoint_url)
        with socket.create_connection(("127.0.0.1", port), timeout=90) as connection:
            connection.sendall(b"CONNECT a.b:443 HTTP/1.1\r\nHost: a.b:443\r\n\r\n")
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 501 ") and b"--https" in answer


def test_a_restart_keeps_the_authority(tmp_path: Path) -> None:
    with Emulator(tmp_path, https=True) as emulator:
        file = emulator.info.ca_file
        assert file is not None
        first = file.read_bytes()
        assert stat.S_IMODE((file.parent / "ca-key.pem").stat().st_mode) == 0o600
        assert sorted(path.name for path in file.parent.iterdir()) == ["ca-key.pem", "ca.pem"]
        emulator.stop()
        url = emulator.info.https_url
        emulator.start()
        assert emulator.info.https_url == url
        with handshake(emulator, "localhost"):
            assert file.read_bytes() == first
    (tmp_path / "https" / "ca-key.pem").write_text("nothing")
    with pytest.raises(EmulatorError, match="https is damaged"):
        Emulator(tmp_path, https=True).start()


def test_openssl_finds_the_certificates_in_order(secure: Emulator, tmp_path: Path) -> None:
    """A verifier that is not Python's, with every check it has."""
    port = port_of(secure.info.https_url)
    done = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", REAL,
         "-verify_hostname", REAL, "-CAfile", str(secure.info.ca_file), "-x509_strict",
         "-verify_return_error"],
        input="", capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert "Verify return code: 0 (ok)" in done.stdout, done.stdout + done.stderr
