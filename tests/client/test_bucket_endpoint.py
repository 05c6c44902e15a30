"""A bucket that is reached by an address of its own."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from typing import Any

import pytest

from cosfs.client.client import CosClient
from cosfs.config import Settings
from cosfs.emulator import Emulator


def test_requests_go_to_the_address_of_the_bucket(
    emulator: Emulator, settings: Settings, client: CosClient, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = socket.getaddrinfo

    def resolve_own(host: str | bytes, *args: Any, **options: Any) -> Any:
        own = os.fsdecode(host) == f"{bucket}.cos.localhost"
        return resolve("127.0.0.1" if own else host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve_own)
    port = emulator.endpoint_url.rsplit(":", 1)[1]
    # Nothing listens where all other buckets would be.
    elsewhere = replace(
        settings.client,
        endpoint_url="http://127.0.0.1:1",
        bucket_endpoints=((bucket, f"http://{{bucket}}.cos.localhost:{port}"),),
    )
    with CosClient(elsewhere, client.credentials) as other:
        other.put_object(bucket, "a/b", b"data")
        assert other.get_range(bucket, "a/b", 0, 4)[1] == b"data"
        assert [info.key for info in other.list_objects(bucket).objects] == ["a/b"]
        assert other.region_of(bucket) == emulator.region
