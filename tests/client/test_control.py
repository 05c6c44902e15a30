"""Bucket settings through Tencent's SDK: against the emulator, and with its traps sprung."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from cosfs.client.auth import Credentials, StaticCredentials
from cosfs.client.client import CosClient
from cosfs.client.control import ControlPlane
from cosfs.config import ClientSettings, Settings
from cosfs.errors import (
    AuthenticationError,
    BucketNotFoundError,
    NetworkError,
    NetworkTimeoutError,
    NotFoundError,
    PermissionDeniedError,
    ThrottledError,
    UsageError,
)
from tests.client.conftest import Start
from tests.client.scripted import Answer, B, ScriptedServer, error
from tests.ports import refusing

CORS = {"CORSRule": [{"AllowedOrigin": ["*"], "AllowedMethod": ["GET"]}]}


def test_settings_of_a_bucket(client: CosClient, bucket: str) -> None:
    plane = ControlPlane(client)
    with pytest.raises(NotFoundError) as caught:
        plane.call("get_bucket_cors", Bucket=bucket)
    assert caught.value.code == "NoSuchCORSConfiguration"
    assert caught.value.target == f"cos://{bucket}"
    assert caught.value.request_id
    plane.call("put_bucket_cors", Bucket=bucket, CORSConfiguration=CORS)
    (rule,) = plane.call("get_bucket_cors", Bucket=bucket)["CORSRule"]
    assert rule["AllowedMethod"] == ["GET"]
    plane.call("delete_bucket_cors", Bucket=bucket)
    shown = client.stats.snapshot()["requests"]
    assert (shown["GetBucketCors"], shown["PutBucketCors"]) == (2, 1)


def test_virtual_hosts_through_a_proxy(settings: Settings, client: CosClient, bucket: str) -> None:
    real = replace(
        settings.client,
        endpoint_url="http://cos.ap-guangzhou.myqcloud.com",
        proxy=settings.client.endpoint_url,
    )
    with CosClient(real, client.credentials) as made:
        assert ControlPlane(made).call("get_bucket_versioning", Bucket=bucket) is not None


def test_errors_are_ours(client: CosClient, settings: Settings, bucket: str) -> None:
    with pytest.raises(BucketNotFoundError):
        ControlPlane(client).call("get_bucket_cors", Bucket="missing-1250000000")
    wrong = StaticCredentials(Credentials(client.credentials.get().secret_id, "x"))  # type: ignore[union-attr]
    with CosClient(settings.client, wrong) as made, pytest.raises(AuthenticationError):
        ControlPlane(made).call("get_bucket_cors", Bucket=bucket)
    with pytest.raises(UsageError, match="put_bucket_policy failed"):
        ControlPlane(client).call("put_bucket_policy", Bucket=bucket)
    with pytest.raises(UsageError):
        ControlPlane(client).call("_private", Bucket=bucket)


def test_token_is_sent() -> None:
    temporary = StaticCredentials(Credentials("AKID", "k", "the-token"))
    with ScriptedServer(Answer(200, b"<VersioningConfiguration/>")) as server:
        settings = ClientSettings(endpoint_url=server.url, region="ap-x")
        with CosClient(settings, temporary) as client:
            ControlPlane(client).call("get_bucket_versioning", Bucket=B)
        assert server.requests[0].headers["x-cos-security-token"] == "the-token"
        assert server.requests[0].headers["host"] == f"{B}.cos.ap-x.myqcloud.com"


def test_retries_are_ours(script: Start) -> None:
    server, client = script(error(503, "SlowDown"), Answer(200, b"<VersioningConfiguration/>"))
    ControlPlane(client).call("get_bucket_versioning", Bucket=B)
    assert len(server.requests) == 2
    server, client = script(error(503, "SlowDown"), max_retries=1)
    with pytest.raises(ThrottledError):
        ControlPlane(client).call("get_bucket_versioning", Bucket=B)
    assert len(server.requests) == 2


def test_nothing_is_logged_but_raised(script: Start, caplog: pytest.LogCaptureFixture) -> None:
    _, client = script(error(403, "AccessDenied"))
    with caplog.at_level(logging.DEBUG), pytest.raises(PermissionDeniedError):
        ControlPlane(client).call("get_bucket_versioning", Bucket=B)
    assert not [record for record in caplog.records if record.name.startswith("qcloud_cos")]


def test_network_errors_are_ours(script: Start) -> None:
    _, client = script(Answer(delay=100), read_timeout=0.2, max_retries=0)
    with pytest.raises(NetworkTimeoutError):
        ControlPlane(client).call("get_bucket_versioning", Bucket=B)
    with (
        refusing() as port,
        CosClient(
            ClientSettings(endpoint_url=f"http://127.0.0.1:{port}", region="ap-x", max_retries=0),
            client.credentials,
        ) as made,
        pytest.raises(NetworkError, match="cannot be reached"),
    ):
        ControlPlane(made).call("get_bucket_versioning", Bucket=B)
