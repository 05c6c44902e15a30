"""Encrypted connections: trusted, not trusted, and told not to care."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cosfs.client.client import CosClient
from cosfs.client.crc64 import crc64
from cosfs.config import ClientSettings
from cosfs.errors import CertificateError, ConfigError, NetworkError
from tests.client.scripted import Answer, Request, ScriptedServer
from tests.waiting import until

TLS = Path(__file__).parent / "tls"  # self-signed, for 127.0.0.1 and for somebody else
B = "b-1250000000"
DATA = random.Random(2).randbytes(1_000_000)


def echo(request: Request) -> Answer:
    body = DATA if request.method == "GET" else b""
    crc = crc64(request.body) if request.method == "PUT" else crc64(DATA)
    return Answer(200, body, {"ETag": '"e"', "x-cos-hash-crc64ecma": str(crc)})


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer(echo, certificate=TLS / "localhost.pem") as running:
        yield running


def client_to(server: ScriptedServer, **settings: object) -> CosClient:
    return CosClient(ClientSettings(endpoint_url=server.url, max_retries=0, **settings), None)  # type: ignore[arg-type]


def test_unknown_certificate_is_refused(server: ScriptedServer) -> None:
    with client_to(server) as client:
        with pytest.raises(CertificateError, match="cannot be trusted: self-signed certificate") as caught:
            client.head_object(B, "k")
        assert "--ca-bundle" in caught.value.hint
    assert server.requests == []


def test_certificate_of_another_host_is_refused() -> None:
    with (
        ScriptedServer(echo, certificate=TLS / "elsewhere.pem") as server,
        client_to(server, ca_bundle=str(TLS / "elsewhere.pem")) as client,
        pytest.raises(CertificateError, match="cannot be trusted"),
    ):
        client.head_object(B, "k")


def test_bundle_of_the_user_is_trusted(server: ScriptedServer) -> None:
    with client_to(server, ca_bundle=str(TLS / "localhost.pem")) as client:
        client.put_object(B, "k", DATA)
        assert client.get_range(B, "k", 0, len(DATA))[1] == DATA
        with client.get_object(B, "k") as stream:
            buffer = bytearray(len(DATA))
            filled = 0
            while count := stream.read_into(memoryview(buffer)[filled:]):
                filled += count
        assert buffer == DATA
    assert server.connections == 1


def test_verification_can_be_switched_off(server: ScriptedServer) -> None:
    with client_to(server, verify_ssl=False) as client:
        client.head_object(B, "k")


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_bundle_that_cannot_be_used(server: ScriptedServer, tmp_path: Path, content: str | None) -> None:
    bundle = tmp_path / "bundle.pem"
    if content is not None:
        bundle.write_text(content)
    with client_to(server, ca_bundle=str(bundle)) as client, pytest.raises(ConfigError, match="certificates"):
        client.head_object(B, "k")


def test_cancel_wakes_an_encrypted_request() -> None:
    with ScriptedServer(Answer(delay=100), certificate=TLS / "localhost.pem") as server:
        client = client_to(server, verify_ssl=False)
        caught: list[BaseException] = []

        def work() -> None:
            try:
                client.head_object(B, "k")
            except NetworkError as error:
                caught.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        until(lambda: server.requests, "the server has the request")
        client.cancel()
        thread.join(60)  # the answer would come later
        assert not thread.is_alive()
        assert str(caught[0]) == "cancelled"
