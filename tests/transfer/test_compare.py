"""The truth table of comparing, row by row, and the means of telling contents apart."""

from __future__ import annotations

import base64
import hashlib
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cosfs.client.model import Headers, ObjectInfo
from cosfs.transfer.compare import Rules, Side, compare, is_md5, object_side
from cosfs.transfer.contents import FileContent, ObjectContent, crc64_of, md5_of, same_content
from cosfs.units import MIB
from tests.transfer.support import make_file

if TYPE_CHECKING:
    from cosfs.client.client import CosClient
    from cosfs.emulator import Emulator

ONE, OTHER = "0" * 32, "f" * 32
PARTS = ONE + "-2"


SECOND = 10**9


def local(size: int = 5, mtime: int = 100, made: int = 200 * SECOND) -> Side:
    return Side(size, mtime, ctime_ns=made)


def remote(size: int = 5, mtime: int = 100, etag: str = ONE) -> Side:
    return Side(size, mtime, etag)


@pytest.mark.parametrize(
    ("rules", "source", "destination", "recorded", "verdict"),
    [
        (Rules(), local(), None, None, "transfer new"),
        (Rules(existing=True), local(), None, None, "skip not-at-destination"),
        (Rules(no_overwrite=True), local(), None, None, "transfer new"),
        (Rules(no_overwrite=True), local(6, 200), remote(), None, "skip exists"),
        (Rules(update=True), local(6), remote(mtime=101), None, "skip newer-at-destination"),
        (Rules(update=True), local(6), remote(), None, "transfer size"),
        (Rules(update=True), local(mtime=101), remote(), None, "compare time"),
        (Rules(), local(6), remote(mtime=900), None, "transfer size"),
        (Rules(size_only=True), local(mtime=900), remote(), None, "skip same"),
        (Rules(size_only=True), local(6), remote(), None, "transfer size"),
        (Rules(checksum=True), local(0), remote(0), None, "skip same"),
        (Rules(), local(mtime=900), remote(), True, "skip same"),
        (Rules(checksum=True), local(), remote(), True, "skip same"),
        (Rules(checksum=True), local(), remote(), None, "compare content"),
        (Rules(checksum=True), local(), remote(etag=PARTS), None, "compare content"),
        (Rules(), local(), remote(), False, "compare changed"),
        (Rules(), local(), remote(etag=PARTS), False, "compare changed"),
        (Rules(), local(mtime=101), remote(), None, "compare time"),
        (Rules(), local(mtime=101), remote(etag=PARTS), None, "compare time"),
        (Rules(), local(), remote(), None, "skip same"),
        (Rules(), local(mtime=99), remote(), None, "skip same"),
        (Rules(), remote(mtime=101), local(), None, "compare time"),
        (Rules(), remote(mtime=101, etag=PARTS), local(), None, "compare time"),
        (Rules(), remote(), local(mtime=101), None, "skip same"),
        (Rules(exact_timestamps=True), remote(), local(mtime=101), None, "compare time"),
        (Rules(exact_timestamps=True), remote(), local(), None, "skip same"),
        (Rules(exact_timestamps=True), local(), remote(mtime=101), None, "skip same"),
        (Rules(), remote(), local(made=100), None, "compare time"),
        (Rules(), remote(), local(made=99 + SECOND), None, "compare time"),
        (Rules(), remote(), local(made=100 + SECOND), None, "skip same"),
        (Rules(), remote(), local(mtime=101, made=101), None, "skip same"),
        (Rules(), remote(), remote(), None, "compare time"),
        (Rules(), remote(mtime=101), remote(), None, "compare time"),
        (Rules(), remote(mtime=101), remote(etag=OTHER), None, "compare time"),
        (Rules(), remote(mtime=101), remote(etag=PARTS), None, "compare time"),
        (Rules(), remote(mtime=101, etag=PARTS), remote(etag=PARTS), None, "compare time"),
        (Rules(), remote(), remote(mtime=101, etag=OTHER), None, "skip same"),
    ],
)
def test_truth_table(
    rules: Rules, source: Side, destination: Side | None, recorded: bool | None, verdict: str
) -> None:
    assert " ".join(compare(rules, source, destination, recorded)) == verdict


def test_every_combination_of_rules_keeps_what_was_promised() -> None:
    """no_overwrite and update never replace what they protect, and a difference in size is never missed."""
    flags = list(product((False, True), repeat=6))
    sides = [
        (local(size, mtime), remote(6, 100, etag))
        for size in (5, 6)
        for mtime in (99, 101)
        for etag in (ONE, PARTS)
    ]
    for (source, destination), flag in product(sides, flags):
        rules = Rules(*flag)
        action = compare(rules, source, destination).action
        if rules.no_overwrite or (rules.update and destination.mtime_ns > source.mtime_ns):
            assert action == "skip"
        elif source.size != destination.size:
            assert action == "transfer"
        elif rules.checksum and not rules.size_only:
            assert action == "compare"


def test_last_modified_counts_in_whole_seconds() -> None:
    assert object_side(ObjectInfo("k", 1, ONE, 1700000000.75)).mtime_ns == 1700000000 * 10**9


def test_etags() -> None:
    assert is_md5("d41d8cd98f00b204e9800998ecf8427e") and is_md5("D41D8CD98F00B204E9800998ECF8427E")
    assert not any(map(is_md5, ("", PARTS, ONE + "\n", "g" * 32)))


def content_of(client: CosClient, bucket: str, key: str) -> ObjectContent:
    [info] = client.list_objects(bucket, prefix=key).objects
    return ObjectContent(bucket, info)


def test_files_are_hashed_whole(tmp_path: Path) -> None:
    data = make_file(tmp_path / "f", 2 * MIB + 17)
    assert md5_of(str(tmp_path / "f")) == hashlib.md5(data).hexdigest()
    (tmp_path / "digits").write_bytes(b"123456789")
    assert crc64_of(str(tmp_path / "digits")) == 0x995DC9BBDF1939FA


def test_an_md5_decides_without_a_request(
    client: CosClient, bucket: str, tmp_path: Path, emulator: Emulator
) -> None:
    (tmp_path / "same").write_bytes(b"abc")
    (tmp_path / "other").write_bytes(b"abd")
    client.put_object(bucket, "k", b"abc")
    client.put_object(bucket, "l", b"xyz")
    stored, second = content_of(client, bucket, "k"), content_of(client, bucket, "l")
    emulator.requests.reset()
    same, other = FileContent(str(tmp_path / "same")), FileContent(str(tmp_path / "other"))
    assert same_content(client, same, stored, trust_etags=True) is True
    assert same_content(client, stored, other, trust_etags=True) is False
    assert same_content(client, same, other, trust_etags=True) is False
    assert same_content(client, stored, stored, trust_etags=True) is True
    assert same_content(client, stored, second, trust_etags=True) is False
    assert emulator.requests.total == 0


def put_in_parts(
    client: CosClient, bucket: str, key: str, data: bytes, headers: Headers | None = None
) -> None:
    upload = client.create_upload(bucket, key, headers=headers or Headers())
    parts = [
        client.upload_part(upload, number, data[start : start + MIB])
        for number, start in enumerate(range(0, len(data), MIB), 1)
    ]
    client.complete_upload(upload, parts)


def test_what_came_in_parts_is_told_by_its_crc(
    client: CosClient, bucket: str, tmp_path: Path, emulator: Emulator
) -> None:
    data = make_file(tmp_path / "f", 2 * MIB + 5)
    put_in_parts(client, bucket, "k", data)
    put_in_parts(client, bucket, "l", data[:-1] + b"!")
    client.put_object(bucket, "m", data)
    file = FileContent(str(tmp_path / "f"))
    parts, changed, whole = (content_of(client, bucket, key) for key in "klm")
    assert same_content(client, file, parts, ask=False) is None
    emulator.requests.reset()
    assert same_content(client, file, parts, ask=True) is True
    assert emulator.requests.snapshot() == {"HeadObject": 1}
    assert same_content(client, file, changed, ask=True) is False
    assert same_content(client, parts, whole, ask=False) is None
    assert same_content(client, parts, whole, ask=True) is True
    assert same_content(client, parts, changed, ask=True) is False


@pytest.mark.parametrize("name", ["md5", "md5chksum"])
def test_an_md5_in_metadata_tells_where_there_is_no_crc(client: CosClient, name: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    digest = hashlib.md5(b"abc")
    text = digest.hexdigest() if name == "md5" else base64.b64encode(digest.digest()).decode()
    # As a server without CRC64 describes it: no request is made for what is known.
    info = ObjectInfo("k", 3, PARTS, 0.0, headers=Headers(metadata={name: text}))
    wrong = ObjectInfo("k", 3, PARTS, 0.0, headers=Headers(metadata={name: OTHER}))
    silent = ObjectInfo("k", 3, PARTS, 0.0, headers=Headers(metadata={name: "?"}))
    file = FileContent(str(tmp_path / "f"))
    assert same_content(client, file, ObjectContent("b", info), ask=True) is True
    assert same_content(client, file, ObjectContent("b", wrong), ask=True) is False
    assert same_content(client, file, ObjectContent("b", silent), ask=True) is None
    # Equal ETags are the same upload, whatever they are made of.
    assert same_content(client, ObjectContent("b", info), ObjectContent("c", silent), ask=True) is True
