"""A mount whose keys may not do everything."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from cosfs.emulator import Emulator
from tests.fuse.support import fails_with
from tests.mounting import Mounted
from tests.policies import MULTIPART, READ, policy
from tests.semantics.conftest import Outside, names


@pytest.fixture
def filled(outside: Outside) -> Outside:
    for key in ("a", "b", "d/one", "d/two"):
        outside.put(key, key.encode())
    return outside


Keys = Callable[..., dict[str, str]]
PATIENT = "from cosfs.fs import rights\nrights.ASK_WITHIN = 60.0\n"


@pytest.fixture
def keys(emulator: Emulator, tmp_path: Path) -> Keys:
    """Make the environment of a user who may do this, and whose mounts wait for what COS says of it."""
    (tmp_path / "sitecustomize.py").write_text(PATIENT)

    def make(*actions: str) -> dict[str, str]:
        user = emulator.add_user(policies=[policy(*actions)])
        return {
            "COS_SECRET_ID": user.secret_id,
            "COS_SECRET_KEY": user.secret_key,
            "PYTHONPATH": str(tmp_path),
        }

    return make


def check_nothing_changes(place: Path) -> None:
    (place / "a").read_bytes()
    for change in (
        lambda: (place / "new").write_bytes(b"x"),
        lambda: (place / "a").write_bytes(b"x"),
        lambda: (place / "d" / "new").write_bytes(b"x"),
        lambda: (place / "a").unlink(),
        lambda: (place / "a").unlink(),
        lambda: (place / "d" / "one").unlink(),
        lambda: (place / "a").rename(place / "c"),
        lambda: (place / "d").rename(place / "e"),
        lambda: (place / "m").mkdir(),
        lambda: (place / "l").symlink_to("a"),
        lambda: (place / "a").chmod(0o600),
        lambda: os.utime(place / "a"),
        lambda: os.truncate(place / "a", 0),
        lambda: os.setxattr(place / "a", "user.x", b"y"),
    ):
        with fails_with(errno.EACCES):
            change()
    assert names(place) == ["a", "b", "d"]
    assert names(place / "d") == ["one", "two"]
    assert (place / "a").read_bytes() == b"a"


def test_every_change_with_keys_that_may_only_read_is_refused_at_once(
    filled: Outside, keys: Keys, mount: Callable[..., Mounted], cos_environment: Mapping[str, str]
) -> None:
    env = keys(*READ)
    mounted = mount(f"cos://{filled.bucket}", env=env)
    assert "--read-only makes that clear" in mounted.log_text()
    check_nothing_changes(mounted.path)
    assert filled.listing() == ["a", "b", "d/one", "d/two"]
    assert filled.get("a") == b"a"
    done = subprocess.run(
        ["cos", "status", str(mounted.path), "--output", "json"],
        env={**cos_environment, **env}, capture_output=True, timeout=90, check=True,
    )  # fmt: skip
    (status,) = json.loads(done.stdout)
    refused = {(each["action"], each["url"]) for each in status["refused"]}
    assert ("write", f"cos://{filled.bucket}/a") in refused
    assert ("remove", f"cos://{filled.bucket}/a") in refused
    assert status["pending_files"] == status["pending_removals"] == 0
    text = subprocess.run(
        ["cos", "status", str(mounted.path)],
        env={**cos_environment, **env}, capture_output=True, timeout=90, check=True, text=True,
    ).stdout  # fmt: skip
    assert f"to remove cos://{filled.bucket}/a" in " ".join(text.split())


def test_in_a_mount_of_all_buckets_as_well(
    filled: Outside, keys: Keys, mount: Callable[..., Mounted]
) -> None:
    place = mount("cos://", env=keys(*READ)).path / filled.bucket
    check_nothing_changes(place)


def test_what_may_be_written_and_not_removed_keeps_its_name(
    filled: Outside, keys: Keys, mount: Callable[..., Mounted]
) -> None:
    mounted = mount(f"cos://{filled.bucket}", env=keys(*READ, "PutObject", *MULTIPART))
    place = mounted.path
    (place / "new").write_bytes(b"x")
    with fails_with(errno.EACCES):
        (place / "new").unlink()
    for _ in range(2):
        with fails_with(errno.EACCES):
            (place / "a").rename(place / "c")
    with fails_with(errno.EACCES):
        (place / "d" / "one").unlink()
    assert names(place) == ["a", "b", "d", "new"]
    assert filled.listing() == ["a", "b", "d/one", "d/two", "new"]
    (place / "new").write_bytes(b"again")
    assert filled.get("new") == b"again"


def test_an_object_is_not_mounted_as_a_directory(
    filled: Outside, cos_environment: Mapping[str, str], tmp_path: Path
) -> None:
    filled.put("d", b"an object beside what is below d/")
    for source, text in (("a", "cos://{}/a is an object, not a directory"), ("d/one", "mount cos://{}/d ")):
        done = subprocess.run(
            ["cos", "mount", f"cos://{filled.bucket}/{source}", str(tmp_path)],
            env=dict(cos_environment), capture_output=True, timeout=90, text=True,
        )  # fmt: skip
        assert done.returncode == 255, done
        assert text.format(filled.bucket) in " ".join((done.stderr + " ").split()) + " "


def test_a_prefix_beside_an_object_of_its_name_is_mounted(
    filled: Outside, mount: Callable[..., Mounted]
) -> None:
    filled.put("d", b"an object beside what is below d/")
    assert names(mount(f"cos://{filled.bucket}/d").path) == ["one", "two"]
    assert names(mount(f"cos://{filled.bucket}/nothing-yet").path) == []
