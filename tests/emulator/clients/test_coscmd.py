"""coscmd, as a user runs it: a configuration file, and the emulator as HTTP proxy.

Each command takes a second whatever it does, as it looks only once a second whether its work is done; so what
does not depend on each other runs at the same time.
"""

from __future__ import annotations

import os
from pathlib import Path

import requests

from cosfs.emulator import Emulator
from tests.emulator.clients.conftest import REGION, Program
from tests.emulator.conftest import sdk_for

CLIENTS = ("coscmd",)


def files_below(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def place(bucket: str, key: str) -> str:
    return f"{bucket}.cos.{REGION}.myqcloud.com/{key}"


def test_trees_of_files(coscmd: Program, bucket: str, emulator: Emulator, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "a").write_bytes(os.urandom(200_000))
    (tree / "sub" / "中 b+c.txt").write_text("text")
    coscmd("upload", "-r", "tree/", "dir")
    listed, shallow, same, _down, _copy = coscmd.together(
        ["list", "-r", "dir/"], ["list", "dir/"], ["upload", "-rs", "tree/", "dir"],
        ["download", "-r", "dir", "back"], ["copy", "-r", place(bucket, "dir"), "copy"],
    )  # fmt: skip
    assert "dir/sub/中 b+c.txt" in listed
    assert "Files num: 2" in listed
    assert "dir/sub/" in shallow
    assert "中 b" not in shallow
    assert "0 files uploaded, 2 files skipped" in same
    assert files_below(tmp_path / "back") == files_below(tree)
    coscmd.together(["download", "-r", "copy", "copied"], ["delete", "-rf", "dir"])
    assert files_below(tmp_path / "copied") == files_below(tree)
    left = sdk_for(emulator).list_objects(Bucket=bucket)["Contents"]
    assert [entry["Key"] for entry in left] == ["copy/a", "copy/sub/中 b+c.txt"]


def test_a_file_in_parts_and_one_with_headers(
    coscmd: Program, bucket: str, emulator: Emulator, tmp_path: Path
) -> None:
    (tmp_path / "big").write_bytes(os.urandom(21 << 20))
    (tmp_path / "small").write_text("small")
    headers = '{"x-cos-storage-class": "STANDARD_IA", "x-cos-meta-a": "1", "Content-Type": "text/x-a"}'
    emulator.requests.reset()
    coscmd.together(["upload", "big", "big.bin"], ["upload", "-H", headers, "small", "small.txt"])
    assert emulator.requests["UploadPart"] == 21
    info, _got, copied, url = coscmd.together(
        ["info", "small.txt"], ["download", "big.bin", "got"], ["copy", place(bucket, "big.bin"), "copy.bin"],
        ["signurl", "-t", "60", "big.bin"],
    )  # fmt: skip
    assert "STANDARD_IA" in info
    assert "text/x-a" in info
    assert "Copy" in copied
    big = (tmp_path / "big").read_bytes()
    assert (tmp_path / "got").read_bytes() == big
    proxies = {"http": emulator.endpoint_url}
    assert (
        requests.get(url.strip().removeprefix("b'").removesuffix("'"), proxies=proxies, timeout=90).content
        == big
    )
    coscmd.together(["move", place(bucket, "small.txt"), "moved.txt"], ["delete", "-f", "big.bin"])
    sdk = sdk_for(emulator)
    keys = [entry["Key"] for entry in sdk.list_objects(Bucket=bucket)["Contents"]]
    assert keys == ["copy.bin", "moved.txt"]


def test_buckets_versions_and_access_lists(coscmd: Program, bucket: str, emulator: Emulator) -> None:
    sdk = sdk_for(emulator)
    second = bucket.replace("client", "second")
    sdk.put_object(Bucket=bucket, Key="k", Body=b"1")
    coscmd.together(
        ["-b", second, "createbucket"], ["putobjectacl", "--grant-read", "anyone", "k"],
        ["putbucketacl", "--grant-read", "anyone"], ["putbucketversioning", "Enabled"],
    )  # fmt: skip
    assert sdk.bucket_exists(Bucket=second)
    sdk.put_object(Bucket=bucket, Key="k", Body=b"2")
    of_object, of_bucket, state, versions, _gone = coscmd.together(
        ["getobjectacl", "k"], ["getbucketacl"], ["getbucketversioning"], ["list", "-v"],
        ["-b", second, "deletebucket"],
    )  # fmt: skip
    assert "FULL_CONTROL" in of_object
    assert "anyone: READ" in of_bucket
    assert "Enabled" in state
    # By line: the random identifier of a version may well end in a k.
    assert [line.split()[0] for line in versions.splitlines() if line.strip()].count("k") == 2
    assert not sdk.bucket_exists(Bucket=second)
    coscmd("delete", "-rf", "--versions", "/")
    assert "Version" not in sdk.list_objects_versions(Bucket=bucket)


def test_unfinished_uploads_archives_and_the_probe(coscmd: Program, bucket: str, emulator: Emulator) -> None:
    sdk = sdk_for(emulator)
    upload = sdk.create_multipart_upload(Bucket=bucket, Key="open")["UploadId"]
    sdk.put_object(Bucket=bucket, Key="cold", Body=b"x", StorageClass="ARCHIVE")
    listed, _restored, probed = coscmd.together(
        ["listparts"], ["restore", "-d", "1", "-t", "Expedited", "cold"], ["probe", "-n", "1", "-s", "1"]
    )
    assert upload in listed
    assert sdk.get_object(Bucket=bucket, Key="cold")["Body"].get_raw_stream().read() == b"x"
    assert "[1/1]" in probed
    coscmd("abort")
    assert "Upload" not in sdk.list_multipart_uploads(Bucket=bucket)


def test_what_it_says_of_failures(coscmd: Program, bucket: str) -> None:
    assert "NoSuchResource" in coscmd.refused("info", "missing")
    assert "NoSuchBucket" in coscmd.refused("-b", "none-1250000000", "list")
