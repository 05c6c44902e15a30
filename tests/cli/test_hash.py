"""`cos hash`: the same sums whether COS has them or they are computed."""

from __future__ import annotations

import hashlib
from pathlib import Path
from random import Random

from cosfs.client.client import CosClient
from cosfs.client.crc64 import crc64
from cosfs.emulator import Emulator
from cosfs.units import MIB
from tests.cli.conftest import Run

DATA = Random(2).randbytes(3 * MIB + 7)
ALL = ("-a", "crc64", "-a", "md5", "-a", "sha1", "-a", "sha256")
EXPECTED = {
    "crc64": str(crc64(DATA)),
    **{name: hashlib.new(name, DATA).hexdigest() for name in ("md5", "sha1", "sha256")},
}


def test_local_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(DATA)
    [found] = run("hash", *ALL, "f", "--output", "json").json["Hashes"]
    assert {name: found[name] for name in EXPECTED} == EXPECTED
    assert found["Size"] == len(DATA) and set(found["From"].values()) == {"read"}
    assert run("hash", "f").out == f"crc64\t{EXPECTED['crc64']}\tread\tf\n"


def test_object_is_read_only_for_what_cos_does_not_know(
    run: Run, client: CosClient, emulator: Emulator, bucket: str
) -> None:
    client.put_object(bucket, "k", DATA)
    emulator.requests.reset()
    [found] = run("hash", "-a", "crc64", "-a", "md5", f"cos://{bucket}/k", "--output", "json").json["Hashes"]
    assert found["From"] == {"crc64": "stored", "md5": "etag"}
    assert emulator.requests["GetObject"] == 0
    [found] = run("hash", *ALL, f"cos://{bucket}/k", "--output", "json").json["Hashes"]
    assert {name: found[name] for name in EXPECTED} == EXPECTED
    assert found["From"]["sha256"] == "read"


def test_md5_of_an_object_of_parts_is_computed(run: Run, client: CosClient, bucket: str) -> None:
    upload = client.create_upload(bucket, "k")
    parts = [client.upload_part(upload, 1, DATA[:MIB]), client.upload_part(upload, 2, DATA[MIB:])]
    client.complete_upload(upload, parts)
    assert run("hash", "-a", "md5", f"cos://{bucket}/k").out.split("\t")[1:3] == [EXPECTED["md5"], "read"]


def test_recursive(run: Run, client: CosClient, bucket: str, tmp_path: Path) -> None:
    names = [f"d/{number:03}" for number in range(30)]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
        client.put_object(bucket, name, name.encode())
    local = [line.split("\t") for line in run("hash", "-r", "d").lines]
    remote = [line.split("\t") for line in run("hash", "-r", f"cos://{bucket}/d/").lines]
    assert (
        [line[1] for line in local]
        == [line[1] for line in remote]
        == [str(crc64(name.encode())) for name in names]
    )
    assert [line[3] for line in remote] == [f"cos://{bucket}/{name}" for name in names]
    assert "crc64" in run("hash", "-r", "d", "--output", "table").out
    assert len(run("hash", "-r", "d", "--output", "jsonl").events) == 30


def test_what_cannot_be_hashed(run: Run, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "f").write_bytes(b"x")
    run("hash", "d", code=252)
    run("hash", f"cos://{bucket}", code=252)
    run("hash", "-", code=252)
    run("hash", "-a", "md4", "f", code=252)
    result = run("hash", f"cos://{bucket}/nothing", "f", "gone", code=1)
    assert "nothing" in result.err and "gone" in result.err
    assert result.out == f"crc64\t{crc64(b'x')}\tread\tf\n"
