"""The metadata service of a virtual machine: keys of its role, and what it must not stand in the way of."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from http.client import HTTPConnection

import pytest

from cosfs.emulator import Credential, Emulator
from cosfs.emulator.metadata import OPERATION
from cosfs.emulator.values import Response
from tests.emulator.asking import Asker
from tests.emulator.conftest import sdk_for
from tests.emulator.crew import Crew, policy, statement

PATH = "/latest/meta-data/cam/security-credentials/"
LOCAL = "127.0.0.1:9000"
BUCKET = "machine-1250000000"


@pytest.fixture
def cloud() -> Iterator[Emulator]:
    with Emulator(buckets=[BUCKET], instance_role="emulator") as emulator:
        emulator.put_objects(BUCKET, [("k", b"hello")])
        yield emulator


def fetch(cloud: Emulator, path: str, host: str = "") -> tuple[int, str]:
    connection = HTTPConnection(cloud.endpoint_url.removeprefix("http://"))
    try:
        connection.request("GET", path, headers={"Host": host} if host else {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("path", "host"),
    [
        (PATH, ""),
        (PATH.replace("/latest", ""), ""),
        (PATH, "metadata.tencentyun.com"),
        (f"http://metadata.tencentyun.com{PATH}", "metadata.tencentyun.com"),
        (f"http://metadata.tencentyun.com{PATH.replace('/latest', '')}", "127.0.0.1"),
    ],
)
def test_the_role_and_its_keys(cloud: Emulator, path: str, host: str) -> None:
    assert fetch(cloud, path, host) == (200, "emulator")
    assert fetch(cloud, path[:-1], host) == (200, "emulator")
    status, text = fetch(cloud, f"{path}emulator", host)
    assert status == 200
    told = json.loads(text)
    assert told["Code"] == "Success"
    assert time.time() + 7000 < told["ExpiredTime"] < time.time() + 7210
    # cosfs reads line by line: each field has one.
    assert [line.split('"')[1] for line in text.splitlines()[1:-1]] == list(told)
    key = {"SecretId": told["TmpSecretId"], "SecretKey": told["TmpSecretKey"], "Token": told["Token"]}
    assert sdk_for(cloud, **key).get_object(BUCKET, "k")["Body"].get_raw_stream().read() == b"hello"
    assert fetch(cloud, f"{path}other", host)[0] == 404
    assert cloud.requests[OPERATION] == 4


def test_tencents_own_sdk_finds_the_role_through_a_proxy(
    cloud: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tencentcloud.common.credential import CVMRoleCredential

    monkeypatch.setattr(urllib.request, "_opener", None)  # one that knows the proxy must not outlive this
    monkeypatch.setenv("http_proxy", cloud.endpoint_url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    secret_id, secret_key, token = CVMRoleCredential().get_credential_info()
    monkeypatch.delenv("http_proxy")
    sdk = sdk_for(cloud, SecretId=secret_id, SecretKey=secret_key, Token=token)
    assert sdk.head_object(BUCKET, "k")["Content-Length"] == "5"


def ask_metadata(crew: Crew, path: str = PATH, host: str = LOCAL) -> Response:
    return crew.send(None, "GET", path, host=host)


def keys(crew: Crew, role: str) -> Credential:
    told = json.loads(ask_metadata(crew, PATH + role).body)
    return Credential(told["TmpSecretId"], told["TmpSecretKey"], told["Token"], told["ExpiredTime"])


def test_it_is_off_until_a_role_is_named(ask: Asker) -> None:
    crew = Crew(ask)
    assert ask_metadata(crew).status == 404
    crew.set_instance_role("emulator")
    assert ask_metadata(crew).status == 200
    crew.set_instance_role("")
    assert ask_metadata(crew).status == 404


def test_keys_may_do_what_the_role_may_and_are_renewed(ask: Asker) -> None:
    crew = Crew(ask)
    ask("PUT", "/k", b"hello")
    crew.add_role("machine", [policy(statement("allow", "GetObject"))])
    crew.set_instance_role("machine", 1000)
    first = keys(crew, "machine")
    assert crew.status(first, "GET", "/k") == 200
    assert crew.status(first, "PUT", "/k", body=b"x") == 403
    ask.now += 740
    assert keys(crew, "machine") == first
    ask.now += 20
    second = keys(crew, "machine")
    assert second.secret_id != first.secret_id
    assert crew.status(first, "GET", "/k") == 200
    ask.now += 250
    assert crew.status(first, "GET", "/k") == 400
    assert crew.status(second, "GET", "/k") == 200


@pytest.mark.parametrize("role", ["", "emulator"])
@pytest.mark.parametrize("bucket", ["latest", "meta-data"])
def test_no_object_is_shadowed(ask: Asker, role: str, bucket: str) -> None:
    crew = Crew(ask)
    crew.set_instance_role(role)
    assert ask("PUT", f"/{bucket}", host=LOCAL).status == 200
    key = "meta-data/cam/security-credentials/x" if bucket == "latest" else "cam/security-credentials/x"
    assert ask("PUT", f"/{bucket}/{key}", b"mine", host=LOCAL).status == 200
    assert ask.body(ask("GET", f"/{bucket}/{key}", host=LOCAL)) == b"mine"
    own = f"{bucket}-1250000000.cos.ap-guangzhou.myqcloud.com"
    assert ask.body(ask("GET", f"/{key}", host=own)) == b"mine"
    # In a bucket's own host the path is a key like any other.
    assert ask("PUT", PATH + "x", b"mine too").status == 200
    assert ask.body(ask("GET", PATH + "x")) == b"mine too"
    ask.service.emulation.default_bucket = f"{bucket}-1250000000"
    assert ask("PUT", PATH + "y", b"default", host=LOCAL).status == 200
    assert ask.body(ask("GET", PATH + "y", host=LOCAL)) == b"default"
