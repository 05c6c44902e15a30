"""cos-python-sdk-v5: uploads and downloads in parts, through an address and through a proxy."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from qcloud_cos import CosS3Client

from cosfs.emulator import Emulator
from tests.emulator.clients.conftest import REGION
from tests.emulator.clients.test_python_sdk_objects import content, raised

CLIENTS = ("cos-python-sdk-v5",)
MIB = 1 << 20


def test_each_call(sdk: CosS3Client, bucket: str) -> None:
    data = os.urandom(3 * MIB)
    sdk.put_object(Bucket=bucket, Key="source", Body=data)
    upload = sdk.create_multipart_upload(Bucket=bucket, Key="k", Metadata={"x-cos-meta-a": "1"})["UploadId"]
    open_uploads = sdk.list_multipart_uploads(Bucket=bucket, Prefix="k")["Upload"]
    assert [entry["UploadId"] for entry in open_uploads] == [upload]
    source = {"Bucket": bucket, "Key": "source", "Region": REGION}
    copied = sdk.upload_part_copy(
        Bucket=bucket, Key="k", PartNumber=1, UploadId=upload, CopySource=source,
        CopySourceRange=f"bytes={MIB}-{2 * MIB - 1}",
    )  # fmt: skip
    sent = sdk.upload_part(
        Bucket=bucket, Key="k", PartNumber=2, UploadId=upload, Body=b"tail", EnableMD5=True
    )
    page = sdk.list_parts(Bucket=bucket, Key="k", UploadId=upload, MaxParts=1)
    assert (page["IsTruncated"], page["NextPartNumberMarker"]) == ("true", "1")
    listed = sdk.list_parts(Bucket=bucket, Key="k", UploadId=upload)["Part"]
    assert [part["ETag"] for part in listed] == [copied["ETag"], sent["ETag"]]
    parts = {"Part": [{"PartNumber": part["PartNumber"], "ETag": part["ETag"]} for part in listed]}
    done = sdk.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload=parts)
    assert done["ETag"].endswith('-2"')
    assert done["Location"].endswith(f"{bucket}.cos.{REGION}.myqcloud.com/k")
    assert content(sdk, bucket, "k") == data[MIB : 2 * MIB] + b"tail"
    assert sdk.head_object(Bucket=bucket, Key="k")["x-cos-meta-a"] == "1"
    other = sdk.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    sdk.abort_multipart_upload(Bucket=bucket, Key="k", UploadId=other)
    assert raised(sdk.list_parts, Bucket=bucket, Key="k", UploadId=other) == (404, "NoSuchUpload")


def test_refusals_of_complete(sdk: CosS3Client, bucket: str) -> None:
    upload = sdk.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    etags = [
        sdk.upload_part(Bucket=bucket, Key="k", PartNumber=number, UploadId=upload, Body=b"small")["ETag"]
        for number in (1, 2)
    ]
    parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]

    def refused(given: list[dict[str, object]]) -> tuple[int, str]:
        call = sdk.complete_multipart_upload
        return raised(call, Bucket=bucket, Key="k", UploadId=upload, MultipartUpload={"Part": given})

    assert refused(parts) == (400, "EntityTooSmall")
    assert refused(parts[::-1]) == (400, "InvalidPartOrder")
    assert refused([{"PartNumber": 9, "ETag": etags[0]}]) == (400, "InvalidPart")


@pytest.mark.parametrize("size", [0, 1000, 5 * MIB + 1])
def test_files(sdk: CosS3Client, bucket: str, tmp_path: Path, size: int) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(size))
    done = sdk.upload_file(Bucket=bucket, Key="big", LocalFilePath=str(source), PartSize=1, EnableMD5=True)
    assert done["ETag"].endswith('-6"') == (size > 5 * MIB)
    sdk.download_file(Bucket=bucket, Key="big", DestFilePath=str(target), EnableCRC=True, PartSize=1)
    assert target.read_bytes() == source.read_bytes()


def test_a_stream_in_parts(sdk: CosS3Client, bucket: str) -> None:
    data = os.urandom(3 * MIB + 5)
    sdk.upload_file_from_buffer(Bucket=bucket, Key="k", Body=io.BytesIO(data), PartSize=1, MaxBufferSize=2)
    assert content(sdk, bucket, "k") == data


def test_an_interrupted_upload_is_resumed(
    sdk: CosS3Client, bucket: str, emulator: Emulator, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(3_500_000))
    upload = sdk.create_multipart_upload(Bucket=bucket, Key="big")["UploadId"]
    first = source.read_bytes()[:MIB]
    sdk.upload_part(Bucket=bucket, Key="big", UploadId=upload, PartNumber=1, Body=first)
    emulator.requests.reset()
    sdk.upload_file(Bucket=bucket, Key="big", LocalFilePath=str(source), PartSize=1)
    assert emulator.requests["UploadPart"] == 3
    assert emulator.requests["CreateMultipartUpload"] == 0
    assert sdk.list_multipart_uploads(Bucket=bucket).get("Upload") is None
    assert content(sdk, bucket, "big") == source.read_bytes()
