"""s3fs-fuse mounts: version 4 and 2 signatures, by path and by host name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from cosfs.emulator import Emulator
from tests.emulator.clients.conftest import REGION, Program, found, mounting
from tests.emulator.clients.mounted_work import MIB, work
from tests.emulator.conftest import sdk_for

CLIENTS = ("s3fs",)

FORMS = {
    "v4-path": ["use_path_request_style"],
    "v4-host": [],  # its libcurl resolves every name below localhost
    "v2-path": ["use_path_request_style", "sigv2"],
}


def options(emulator: Emulator, form: str, passwords: Path) -> list[str]:
    passwords.write_text(f"{emulator.secret_id}:{emulator.secret_key}\n")
    passwords.chmod(0o600)
    port = emulator.endpoint_url.rpartition(":")[2]
    host = "localhost" if form == "v4-host" else "127.0.0.1"
    given = [
        f"passwd_file={passwords}",
        f"url=http://{host}:{port}",
        f"endpoint={REGION}",
        "multipart_size=5",
    ]
    return ["-f", *(word for option in (*given, *FORMS[form]) for word in ("-o", option))]


def stored(sdk: Any, bucket: str) -> dict[str, bytes]:
    """All objects but the marks of directories."""
    keys = [entry["Key"] for entry in sdk.list_objects(Bucket=bucket)["Contents"]]
    return {
        key: sdk.get_object(Bucket=bucket, Key=key)["Body"].get_raw_stream().read()
        for key in keys
        if not key.endswith("/")
    }


@pytest.mark.fuse
@pytest.mark.parametrize("form", FORMS)
def test_a_mount(emulator: Emulator, bucket: str, tmp_path: Path, form: str) -> None:
    mountpoint = tmp_path / "mount"
    mountpoint.mkdir()
    s3fs = Program([found("s3fs")], tmp_path)
    arguments = options(emulator, form, tmp_path / "passwords")
    big = os.urandom(12 * MIB + 5)
    emulator.requests.reset()
    with mounting(s3fs.start(bucket, mountpoint, *arguments), mountpoint):
        expected = work(mountpoint, big)
        (mountpoint / "empty").chmod(0o751)
        os.utime(mountpoint / "empty", (1_600_000_000, 1_600_000_000))
        (mountpoint / "link").symlink_to("big")
        assert (mountpoint / "link").readlink() == Path("big")
    assert emulator.requests["UploadPart"] >= 6
    sdk = sdk_for(emulator)
    assert stored(sdk, bucket) == {**expected, "link": b"big"}
    head = sdk.head_object(Bucket=bucket, Key="empty")
    assert head["x-cos-meta-mtime"].split(".")[0] == "1600000000"
    with mounting(s3fs.start(bucket, mountpoint, *arguments), mountpoint):
        assert (mountpoint / "big").read_bytes() == big
        status = (mountpoint / "empty").stat()
        assert (status.st_mode & 0o777, int(status.st_mtime)) == (0o751, 1_600_000_000)


@pytest.mark.fuse
def test_what_others_wrote_is_seen(emulator: Emulator, bucket: str, tmp_path: Path) -> None:
    sdk = sdk_for(emulator)
    sdk.put_object(Bucket=bucket, Key="a/b/中 c", Body=b"theirs", Metadata={"x-cos-meta-mode": "33188"})
    mountpoint = tmp_path / "mount"
    mountpoint.mkdir()
    s3fs = Program([found("s3fs")], tmp_path)
    arguments = options(emulator, "v4-path", tmp_path / "passwords")
    with mounting(s3fs.start(bucket, mountpoint, *arguments), mountpoint):
        assert (mountpoint / "a" / "b" / "中 c").read_bytes() == b"theirs"


@pytest.mark.fuse
def test_a_wrong_key_is_refused(emulator: Emulator, bucket: str, tmp_path: Path) -> None:
    mountpoint = tmp_path / "mount"
    mountpoint.mkdir()
    arguments = options(emulator, "v4-path", tmp_path / "passwords")
    (tmp_path / "passwords").write_text(f"{emulator.secret_id}:wrong\n")
    s3fs = Program([found("s3fs")], tmp_path)
    told = s3fs(bucket, mountpoint, *arguments, "-o", "dbglevel=err")  # it ends with 0 nevertheless
    assert "invalid credentials" in told
    assert not mountpoint.is_mount()
