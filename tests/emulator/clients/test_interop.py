"""What `cos cp` and the mount write, others read, and the reverse: bytes, types and metadata."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from cosfs.emulator import Emulator
from tests.conftest import Cos
from tests.emulator.clients.conftest import REGION, Program
from tests.emulator.clients.test_rclone import rclone_for
from tests.emulator.conftest import sdk_for

CLIENTS = ("boto3", "cos-python-sdk-v5", "coscmd", "rclone")
MIB = 1 << 20
NAME = "dir/中 a+b&c.txt"


@dataclass(frozen=True)
class Other:
    """How a program of others uploads and downloads a file."""

    upload: Callable[[Path, str], Any]
    download: Callable[[str, Path], Any]


@pytest.fixture
def others(emulator: Emulator, bucket: str, coscmd: Program, tmp_path: Path) -> dict[str, Other]:
    s3 = boto3.session.Session().client(
        "s3", endpoint_url=emulator.endpoint_url, region_name=REGION,
        aws_access_key_id=emulator.secret_id, aws_secret_access_key=emulator.secret_key,
        config=Config(s3={"addressing_style": "path"}),
    )  # fmt: skip
    sdk = sdk_for(emulator)
    rclone = rclone_for(emulator, "TencentCOS", tmp_path)
    text = {"ContentType": "text/x-interop", "Metadata": {"origin": "them"}}
    of_coscmd = '{"Content-Type": "text/x-interop", "x-cos-meta-origin": "them"}'
    return {
        "boto3": Other(
            lambda path, key: s3.upload_file(str(path), bucket, key, ExtraArgs=text),
            lambda key, path: s3.download_file(bucket, key, str(path)),
        ),
        "cos-python-sdk-v5": Other(
            lambda path, key: sdk.upload_file(
                bucket, key, str(path), ContentType="text/x-interop", Metadata={"x-cos-meta-origin": "them"}
            ),
            lambda key, path: sdk.download_file(bucket, key, str(path)),
        ),
        "coscmd": Other(
            lambda path, key: coscmd("upload", "-H", of_coscmd, path, key),
            lambda key, path: coscmd("download", key, path),
        ),
        "rclone": Other(
            lambda path, key: rclone(
                "copyto", path, f"cos:{bucket}/{key}", "--header-upload", "Content-Type: text/x-interop",
                "--header-upload", "x-amz-meta-origin: them",
            ),
            lambda key, path: rclone("copyto", f"cos:{bucket}/{key}", path),
        ),
    }  # fmt: skip


@pytest.mark.parametrize("size", [7, 21 * MIB])
@pytest.mark.parametrize("name", CLIENTS)
def test_there_and_back(
    others: dict[str, Other], cos: Cos, emulator: Emulator, bucket: str, tmp_path: Path, name: str, size: int
) -> None:
    ours, theirs, got = tmp_path / "ours", tmp_path / "theirs", tmp_path / "got"
    ours.write_bytes(os.urandom(size))
    cos(
        "cp",
        ours,
        f"cos://{bucket}/{NAME}",
        "--content-type",
        "text/x-interop",
        "--metadata",
        "origin=us",
        check=True,
    )
    others[name].download(NAME, theirs)
    assert theirs.read_bytes() == ours.read_bytes()
    others[name].upload(theirs, f"{NAME}.back")
    cos("cp", f"cos://{bucket}/{NAME}.back", got, check=True)
    assert got.read_bytes() == ours.read_bytes()
    sdk = sdk_for(emulator)
    first, second = (sdk.head_object(Bucket=bucket, Key=key) for key in (NAME, f"{NAME}.back"))
    assert first["x-cos-hash-crc64ecma"] == second["x-cos-hash-crc64ecma"]
    assert (first["Content-Type"], first["x-cos-meta-origin"]) == ("text/x-interop", "us")
    assert (second["Content-Type"], second["x-cos-meta-origin"]) == ("text/x-interop", "them")
    listed = cos("ls", f"cos://{bucket}/dir/", check=True).stdout
    assert "中 a+b&c.txt.back" in listed


@pytest.mark.fuse
def test_a_mount_shows_what_others_wrote(
    others: dict[str, Other], mount: Callable[..., Any], bucket: str, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(100_000))
    for name, other in others.items():
        other.upload(source, f"from/{name}")
    mounted = mount(f"cos://{bucket}").path
    assert {path.name: path.read_bytes() for path in (mounted / "from").iterdir()} == dict.fromkeys(
        CLIENTS, source.read_bytes()
    )
    (mounted / "ours").write_bytes(b"from the mount")
    for name, other in others.items():
        other.download("ours", tmp_path / f"by-{name}")
        assert (tmp_path / f"by-{name}").read_bytes() == b"from the mount"
