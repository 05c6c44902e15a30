"""Keys that live for seconds under commands that run longer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cosfs.emulator import Emulator

ROLE = "qcs::cam::uin/100000000001:roleName/short"


@pytest.fixture
def role(emulator: Emulator, cos_environment: dict[str, str]) -> dict[str, str]:
    """The environment of somebody whose only keys are those of a role, good for two seconds."""
    emulator.add_role("short")
    directory = Path(cos_environment["HOME"]) / ".cos"
    directory.mkdir(mode=0o700)
    path = directory / "credentials"
    path.write_text(
        f"[default]\nsecret_id = {emulator.secret_id}\nsecret_key = {emulator.secret_key}\n"
        f"assume_role = {ROLE}\nduration_seconds = 2\n"
    )
    path.chmod(0o600)
    return {"COS_SECRET_ID": "", "COS_SECRET_KEY": ""}


@pytest.mark.parametrize("form", ["many files", "one file in parts"])
def test_keys_are_renewed_under_a_running_sync(
    cos: Any, bucket: str, role: dict[str, str], emulator: Emulator, tmp_path: Path, form: str
) -> None:
    source = tmp_path / "tree"
    source.mkdir()
    if form == "many files":
        for number in range(30):
            (source / f"{number:02d}").write_bytes(os.urandom(100_000))
    else:
        (source / "large").write_bytes(os.urandom(3_000_000))
    emulator.requests.reset()
    args = ["--max-bandwidth", "800KB/s"]
    config = {"multipart_threshold": "1MB", "multipart_chunksize": "1MB"}
    for key, value in config.items():
        cos("configure", "set", f"cos.{key}", value, check=True)
    cos("sync", source, f"cos://{bucket}/", *args, env=role, check=True)
    assert emulator.requests["AssumeRole"] >= 2
    cos("check", source, f"cos://{bucket}/", env=role, check=True)


def test_the_role_of_a_machine_is_renewed_under_a_copy(
    cos: Any, bucket: str, emulator: Emulator, tmp_path: Path
) -> None:
    source = tmp_path / "tree"
    source.mkdir()
    for number in range(20):
        (source / f"{number:02d}").write_bytes(os.urandom(100_000))
    emulator.set_instance_role("emulator", seconds=2)
    try:
        endpoint = f"{emulator.endpoint_url}/latest/meta-data/cam/security-credentials/"
        env = {"COS_SECRET_ID": "", "COS_SECRET_KEY": "", "COS_METADATA_ENDPOINT": endpoint}
        shown = cos("whoami", env=env, check=True).stdout
        assert "the role of this virtual machine" in shown
        emulator.requests.reset()
        cos("cp", "-r", source, f"cos://{bucket}/", "--max-bandwidth", "700KB/s", env=env, check=True)
        cos("check", source, f"cos://{bucket}/", env=env, check=True)
    finally:
        emulator.set_instance_role("")


@pytest.fixture
def reader(emulator: Emulator) -> Iterator[dict[str, str]]:
    """Somebody whom a policy forbids to write."""
    statements = [
        {"effect": "allow", "action": "name/cos:*", "resource": "*"},
        {"effect": "deny", "action": "name/cos:PutObject", "resource": "*"},
    ]
    member = emulator.add_user(policies=[{"version": "2.0", "statement": statements}])
    yield {"COS_SECRET_ID": member.secret_id, "COS_SECRET_KEY": member.secret_key}


def test_a_policy_that_denies_is_told_with_the_action(
    cos: Any, bucket: str, reader: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "f").write_text("x")
    failed = cos("cp", "f", f"cos://{bucket}/f", env=reader)
    assert failed.returncode == 1
    assert "AccessDenied" in failed.stderr and "name/cos:PutObject" in failed.stderr
    assert f':{bucket}/f"]' in failed.stderr
