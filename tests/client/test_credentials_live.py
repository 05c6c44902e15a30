"""Credentials of roles, from the STS and the metadata service of the emulator, used on COS."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cosfs.client.client import CosClient
from cosfs.config import load_settings
from cosfs.emulator import Emulator
from cosfs.errors import CredentialsError, PermissionDeniedError

Connect = Callable[..., CosClient]
BUCKET = "roles-1250000000"
METADATA = "latest/meta-data/cam/security-credentials/"
ROLE = "qcs::cam::uin/100000000001:roleName/reader"
READ = {
    "version": "2.0",
    "statement": [
        {
            "effect": "allow",
            "action": ["name/cos:GetObject", "name/cos:HeadObject"],
            "resource": f"qcs::cos:*:uid/1250000000:{BUCKET}/*",
        }
    ],
}


@pytest.fixture(scope="module")
def cloud() -> Iterator[Emulator]:
    with Emulator(buckets=[BUCKET]) as emulator:
        emulator.put_objects(BUCKET, [("k", b"hello")])
        emulator.add_role("reader", [READ])
        yield emulator


@pytest.fixture
def connect(cloud: Emulator, tmp_path: Path) -> Iterator[Connect]:
    """Open a client with this profile and environment."""
    opened: list[CosClient] = []

    def connect(profile: str, **environ: str) -> CosClient:
        directory = tmp_path / ".cos"
        directory.mkdir(mode=0o700, exist_ok=True)
        path = directory / "credentials"
        path.write_text(f"[default]\n{profile}")
        path.chmod(0o600)
        options: dict[str, object] = {"endpoint_url": cloud.endpoint_url, "region": cloud.region}
        settings = load_settings(options, environ={"HOME": str(tmp_path), **environ})
        client = CosClient.from_settings(settings, options, environ={"HOME": str(tmp_path), **environ})
        opened.append(client)
        return client

    yield connect
    for client in opened:
        client.close()


def check_reader(client: CosClient) -> None:
    assert client.head_object(BUCKET, "k").size == 5
    with pytest.raises(PermissionDeniedError):
        client.put_object(BUCKET, "k", b"other")


def keys_of(cloud: Emulator, extra: str = "") -> str:
    return f"secret_id = {cloud.secret_id}\nsecret_key = {cloud.secret_key}\n{extra}"


def test_a_role_of_the_profile_is_assumed(cloud: Emulator, connect: Connect) -> None:
    cloud.requests.reset()
    profile = keys_of(cloud, f"assume_role = {ROLE}\nsts_endpoint = {cloud.endpoint_url}\n")
    check_reader(connect(profile))
    assert cloud.requests["AssumeRole"] == 1
    check_reader(connect(profile))  # another run finds the keys of the first
    assert cloud.requests["AssumeRole"] == 1


def test_a_role_of_the_environment_is_assumed_with_its_keys(cloud: Emulator, connect: Connect) -> None:
    environ = {
        "COS_SECRET_ID": cloud.secret_id,
        "COS_SECRET_KEY": cloud.secret_key,
        "COS_ASSUME_ROLE": ROLE,
    }
    check_reader(connect(f"sts_endpoint = {cloud.endpoint_url}\n", **environ))


def test_a_role_is_assumed_with_an_external_id_and_for_a_time(cloud: Emulator, connect: Connect) -> None:
    trust = {
        "effect": "allow",
        "action": "name/sts:AssumeRole",
        "principal": {"qcs": ["qcs::cam::uin/100000000001:root"]},
        "condition": {"string_equal": {"sts:external_id": "xid"}},
    }
    role = cloud.add_role("guarded", [READ], {"version": "2.0", "statement": [trust]}, max_seconds=900)
    profile = keys_of(cloud, f"assume_role = {role.arn}\nsts_endpoint = {cloud.endpoint_url}\n")
    check_reader(connect(f"{profile}external_id = xid\nduration_seconds = 15m\n"))
    with pytest.raises(CredentialsError, match="UnauthorizedOperation"):
        connect(f"{profile}duration_seconds = 15m\n").head_object(BUCKET, "k")
    with pytest.raises(CredentialsError, match="OverTimeError"):
        connect(f"{profile}external_id = xid\nduration_seconds = 1h\n").head_object(BUCKET, "k")


def test_what_sts_refuses_is_told(cloud: Emulator, connect: Connect) -> None:
    sts = f"sts_endpoint = {cloud.endpoint_url}\n"
    nobody = f"secret_id = AKIDnobody\nsecret_key = k\nassume_role = {ROLE}\n{sts}"
    with pytest.raises(CredentialsError, match=r"AuthFailure\.SecretIdNotFound"):
        connect(nobody).head_object(BUCKET, "k")
    unknown = keys_of(cloud, f"assume_role = {ROLE}s\n{sts}")
    with pytest.raises(CredentialsError, match=r"ResourceNotFound\.RoleNotFound"):
        connect(unknown).head_object(BUCKET, "k")


def test_keys_that_cos_does_not_know_any_more_are_replaced(cloud: Emulator, connect: Connect) -> None:
    cloud.add_role("short", [READ])
    arn = ROLE.replace("reader", "short")
    client = connect(keys_of(cloud, f"assume_role = {arn}\nsts_endpoint = {cloud.endpoint_url}\n"))
    check_reader(client)
    cloud.requests.reset()
    with cloud.service.lock:
        cloud.service.emulation.store.drop_credentials(math.inf)
    check_reader(client)
    assert cloud.requests["AssumeRole"] == 1


def test_the_role_of_the_machine(cloud: Emulator, connect: Connect) -> None:
    profile = f"credential_source = CvmRole\nmetadata_endpoint = {cloud.endpoint_url}/{METADATA}\n"
    with pytest.raises(CredentialsError, match="does not answer"):
        connect(profile).head_object(BUCKET, "k")
    cloud.set_instance_role("reader")
    try:
        check_reader(connect(profile))
        check_reader(connect(f"{profile}cvm_role_name = reader\n"))
        with pytest.raises(CredentialsError):
            connect(f"{profile}cvm_role_name = other\n").head_object(BUCKET, "k")
    finally:
        cloud.set_instance_role("")
