"""What only a real connection can tell: where a request comes from and whether it is encrypted."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

import pytest

from cosfs.emulator import Emulator
from tests.emulator.crew import policy, statement

BUCKET = "wire-1250000000"
WHOLE = f"qcs::cos:*:uid/1250000000:{BUCKET}/*"


@pytest.fixture(scope="module")
def cloud() -> Iterator[Emulator]:
    with Emulator(buckets=[BUCKET], https=True) as emulator:
        emulator.put_objects(BUCKET, [("k", b"hello")])
        yield emulator


def allow_if(cloud: Emulator, condition: dict[str, Any]) -> None:
    shown = {**statement("allow", "GetObject", WHOLE, principal="*"), "condition": condition}
    store = cloud.service.emulation.store
    with cloud.service.lock:
        store.put_setting(store.bucket(BUCKET), "policy", "", json.dumps(policy(shown)).encode())


def status(connection: HTTPConnection) -> int:
    try:
        connection.request("GET", f"/{BUCKET}/k")
        return connection.getresponse().status
    finally:
        connection.close()


def plain(cloud: Emulator, source: str = "127.0.0.1") -> int:
    parts = urlsplit(cloud.endpoint_url)
    assert parts.hostname
    return status(HTTPConnection(parts.hostname, parts.port, source_address=(source, 0)))


def encrypted(cloud: Emulator, version: ssl.TLSVersion) -> int:
    parts = urlsplit(cloud.info.https_url)
    context = ssl.create_default_context(cafile=str(cloud.info.ca_file))
    context.minimum_version = context.maximum_version = version
    assert parts.hostname
    return status(HTTPSConnection(parts.hostname, parts.port, context=context))


def test_the_address_of_the_client(cloud: Emulator) -> None:
    allow_if(cloud, {"ip_equal": {"qcs:ip": "127.0.0.5"}})
    assert plain(cloud, "127.0.0.5") == 200
    assert plain(cloud) == 403
    allow_if(cloud, {"ip_not_equal": {"qcs:ip": "127.0.0.4/30"}})
    assert plain(cloud, "127.0.0.5") == 403
    assert plain(cloud) == 200


def test_encryption_and_its_version(cloud: Emulator) -> None:
    allow_if(cloud, {"bool_equal": {"cos:secure-transport": "true"}})
    assert plain(cloud) == 403
    assert encrypted(cloud, ssl.TLSVersion.TLSv1_2) == encrypted(cloud, ssl.TLSVersion.TLSv1_3) == 200
    allow_if(cloud, {"numeric_greater_than_equal": {"cos:tls-version": 1.3}})
    assert encrypted(cloud, ssl.TLSVersion.TLSv1_2) == 403
    assert encrypted(cloud, ssl.TLSVersion.TLSv1_3) == 200
    assert plain(cloud) == 403
