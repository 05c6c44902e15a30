"""What TransferOptions change: attributes and links that are kept, holes, checks, headers of requests."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from cosfs.client.client import CosClient
from cosfs.client.model import CustomerKey, Headers
from cosfs.config import load_settings
from cosfs.emulator import Emulator, Limits
from cosfs.errors import IntegrityError, TooLargeError, TransferError, UsageError
from cosfs.transfer.bulk import DownloadJob, transfer_many
from cosfs.transfer.copy import copy_object
from cosfs.transfer.download import download_file
from cosfs.transfer.engine import Engine
from cosfs.transfer.options import TransferOptions
from cosfs.transfer.paths import DestinationRoot
from cosfs.transfer.preserve import link_is_inside
from cosfs.transfer.upload import upload_file
from cosfs.units import KIB, MIB
from tests.objects import stored
from tests.transfer.support import SMALL_LIMITS, content, make_file

PRESERVE = TransferOptions(preserve=True)
LINKS = TransferOptions(preserve_symlinks=True)
KEY = CustomerKey(bytes(range(32)))
OTHER_KEY = CustomerKey(bytes(range(1, 33)))


@pytest.mark.parametrize("size", [5, 4 * MIB])
async def test_preserve_keeps_mode_and_mtime(
    engine: Engine, client: CosClient, bucket: str, tmp_path: Path, size: int
) -> None:
    make_file(tmp_path / "f", size)
    (tmp_path / "f").chmod(0o751)
    os.utime(tmp_path / "f", ns=(1, 1_600_000_000_123_456_789))
    await upload_file(
        engine, tmp_path / "f", bucket, "k", headers=Headers(cache_control="a"), options=PRESERVE
    )
    info = client.head_object(bucket, "k")
    assert info is not None and info.headers is not None
    assert info.headers.cache_control == "a"
    assert info.headers.metadata["mode"] == str(stat.S_IFREG | 0o751)
    assert info.headers.metadata["mtime"] == "1600000000"
    await download_file(engine, bucket, "k", tmp_path / "g", options=PRESERVE)
    found = (tmp_path / "g").stat()
    assert stat.S_IMODE(found.st_mode) == 0o751
    assert found.st_mtime_ns == 1_600_000_000_123_456_789
    await download_file(engine, bucket, "k", tmp_path / "h")
    assert stat.S_IMODE((tmp_path / "h").stat().st_mode) != 0o751


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
async def test_preserve_restores_the_owner_as_root(engine: Engine, bucket: str, tmp_path: Path) -> None:
    make_file(tmp_path / "f", 3)
    os.chown(tmp_path / "f", 1234, 2345)
    await upload_file(engine, tmp_path / "f", bucket, "k", options=PRESERVE)
    await download_file(engine, bucket, "k", tmp_path / "g", options=PRESERVE)
    found = (tmp_path / "g").stat()
    assert (found.st_uid, found.st_gid) == (1234, 2345)


async def test_symlinks_are_kept_and_stay_inside(
    engine: Engine, client: CosClient, bucket: str, tmp_path: Path
) -> None:
    for name, target in {"in": "sub/file", "out": "../../etc/passwd"}.items():
        (tmp_path / name).symlink_to(target)
        await upload_file(engine, tmp_path / name, bucket, f"d/{name}", options=LINKS)
    assert client.get_object(bucket, "d/in").read_some() == b"sub/file"
    errors: dict[str, Exception | None] = {}
    infos = client.list_objects(bucket).objects
    (tmp_path / "down").mkdir()
    with DestinationRoot(tmp_path / "down") as root:
        jobs = [DownloadJob(bucket, info, root.target(info.key), options=LINKS) for info in infos]
        await transfer_many(
            engine, jobs, on_result=lambda job, result, error: errors.__setitem__(job.info.key, error)
        )
    assert (tmp_path / "down/d/in").readlink() == Path("sub/file")
    assert isinstance(errors["d/out"], TransferError)
    assert errors["d/in"] is None
    assert [path.name for path in (tmp_path / "down/d").iterdir()] == ["in"]
    await download_file(engine, bucket, "d/in", tmp_path / "plain")
    assert (tmp_path / "plain").read_bytes() == b"sub/file"


@pytest.mark.parametrize(
    ("depth", "target", "inside"),
    [
        (0, "a/b", True),
        (0, "./a", True),
        (0, "..", False),
        (2, "../../a", True),
        (2, "../../../a", False),
        (2, "a/../b", False),
        (0, "/a", False),
        (0, "", False),
    ],
)
def test_where_links_may_lead(depth: int, target: str, inside: bool) -> None:
    assert link_is_inside(depth, target.encode()) is inside


@pytest.mark.parametrize("size", [512 * KIB, 5 * MIB])
async def test_sparse_leaves_holes(
    engine: Engine, client: CosClient, bucket: str, tmp_path: Path, size: int
) -> None:
    data = bytearray(size)
    data[70_000:70_010] = content(10)
    client.put_object(bucket, "k", bytes(data))
    await download_file(engine, bucket, "k", tmp_path / "f", options=TransferOptions(sparse=True))
    assert (tmp_path / "f").read_bytes() == data
    assert (tmp_path / "f").stat().st_blocks * 512 <= 128 * KIB


async def test_full_verification_asks_again(
    engine: Engine, client: CosClient, bucket: str, emulator: Emulator, tmp_path: Path
) -> None:
    full = TransferOptions(verify="full", part_threshold=4 * MIB)
    for size in (10, 4 * MIB):
        make_file(tmp_path / "f", size)
        emulator.requests.reset()
        await upload_file(engine, tmp_path / "f", bucket, "k", options=full)
        assert emulator.requests["HeadObject"] == 1
        await copy_object(engine, bucket, "k", bucket, "l", options=full)
        await download_file(engine, bucket, "l", tmp_path / "g", options=full)
        assert (tmp_path / "g").read_bytes() == (tmp_path / "f").read_bytes()


async def test_without_verification_damage_is_not_seen(
    engine: Engine, client: CosClient, bucket: str, emulator: Emulator, tmp_path: Path
) -> None:
    client.put_object(bucket, "k", content(1000))
    emulator.faults.corrupt(offset=500, count=0)
    with pytest.raises(IntegrityError):
        await download_file(engine, bucket, "k", tmp_path / "f")
    result = await download_file(engine, bucket, "k", tmp_path / "f", options=TransferOptions(verify="none"))
    assert result.verified == "size"


def test_a_traffic_limit_that_cos_does_not_take() -> None:
    with pytest.raises(UsageError):
        TransferOptions(traffic_limit=1000)
    with pytest.raises(UsageError):
        CustomerKey(b"short")
    assert "AAEC" not in repr(KEY) and "key=" not in repr(KEY)


@pytest.fixture
def sent(client: CosClient, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, Mapping[str, str]]]:
    """Every request of the client: method, target and headers."""
    seen: list[tuple[str, str, Mapping[str, str]]] = []
    transport: Any = client._session.transport
    original: Callable[..., Any] = transport.send

    def send(method: str, address: Any, target: str, headers: Mapping[str, str], *rest: Any) -> Any:
        seen.append((method, target, headers))
        return original(method, address, target, headers, *rest)

    monkeypatch.setattr(transport, "send", send)
    return seen


async def test_customers_key_goes_with_every_request_about_the_object(
    engine: Engine, bucket: str, tmp_path: Path, sent: list[tuple[str, str, Mapping[str, str]]]
) -> None:
    ours = TransferOptions(customer_key=KEY, traffic_limit=MIB, verify="full")
    both = TransferOptions(customer_key=OTHER_KEY, source_customer_key=KEY, part_threshold=3 * MIB)
    for size in (10, 4 * MIB):
        make_file(tmp_path / "f", size)
        await upload_file(engine, tmp_path / "f", bucket, "k", options=ours)
        await download_file(engine, bucket, "k", tmp_path / "g", options=ours)
    assert len(sent) >= 14
    name = "x-cos-server-side-encryption-customer-key"
    for method, target, headers in sent:
        if not (method == "POST" and "uploadId=" in target):
            assert headers[name] == KEY.headers()[name], (method, target)
        if method == "GET" or (method == "PUT"):
            assert headers["x-cos-traffic-limit"] == str(8 * MIB)
    sent.clear()
    await copy_object(engine, bucket, "k", bucket, "l", options=both)
    for method, target, headers in sent:
        if method == "HEAD":
            assert headers[name] == (OTHER_KEY if target.endswith("/l") else KEY).headers()[name]
        elif method == "PUT" or target.endswith("uploads="):
            assert headers[name] == OTHER_KEY.headers()[name]
        if method == "PUT":
            source = "x-cos-copy-source-server-side-encryption-customer-key"
            assert headers[source] == KEY.source_headers()[source]


async def test_copies_keep_tags_and_take_an_acl(engine: Engine, client: CosClient, bucket: str) -> None:
    tagged = Headers(cache_control="c", metadata={"a": "1"}, extra={"x-cos-tagging": "t=1&u=x%20y"})
    client.put_object(bucket, "k", content(4 * MIB), headers=tagged)
    for threshold in (MIB, 10 * MIB):
        options = TransferOptions(part_threshold=threshold, part_size=2 * MIB)
        await copy_object(engine, bucket, "k", bucket, "kept", options=options)
        assert client.object_tags(bucket, "kept") == "t=1&u=x%20y"
        await copy_object(
            engine, bucket, "k", bucket, "other", options=options, storage_class="STANDARD_IA",
            extra={"x-cos-tagging": "v=2", "x-cos-acl": "public-read"},
        )  # fmt: skip
        assert client.object_tags(bucket, "other") == "v=2"
        info = client.head_object(bucket, "other")
        assert info is not None and info.headers is not None
        assert info.storage_class == "STANDARD_IA"
        assert (info.headers.cache_control, info.headers.metadata) == ("c", {"a": "1"})


async def test_objects_over_the_limit_of_one_request_are_copied(tmp_path: Path) -> None:
    with Emulator(tmp_path / "store", limits=Limits(object_size=3 * MIB)) as small:
        options = {
            "endpoint_url": small.endpoint_url,
            "region": small.region,
            "secret_id": small.secret_id,
            "secret_key": small.secret_key,
        }
        settings = load_settings(options, environ={"HOME": "/nonexistent"})
        bucket = small.create_bucket("large")
        with CosClient.from_settings(settings, options) as client:
            async with Engine(client, SMALL_LIMITS) as engine:
                data = make_file(tmp_path / "f", 7 * MIB + 1)
                await upload_file(engine, tmp_path / "f", bucket, "k")
                with pytest.raises(TooLargeError):
                    await copy_object(engine, bucket, "k", bucket, "l")
                parts = TransferOptions(part_threshold=3 * MIB, part_size=2 * MIB)
                result = await copy_object(engine, bucket, "k", bucket, "l", options=parts)
                assert (result.size, result.verified) == (7 * MIB + 1, "crc64")
                assert stored(client, bucket, "l") == data


@pytest.mark.parametrize("threshold", [MIB, 10 * MIB])
async def test_copies_between_regions_name_the_source_where_it_is(
    engine: Engine,
    client: CosClient,
    bucket: str,
    sent: list[tuple[str, str, Mapping[str, str]]],
    threshold: int,
) -> None:
    away = f"away{threshold}-1250000000"
    client.create_bucket(away, region="ap-beijing")
    client.put_object(away, "k", content(3 * MIB))
    sent.clear()
    options = TransferOptions(part_threshold=threshold, part_size=MIB)
    await copy_object(engine, away, "k", bucket, "l", options=options)
    sources = {headers["x-cos-copy-source"] for _, _, headers in sent if "x-cos-copy-source" in headers}
    assert sources == {f"{away}.cos.ap-beijing.myqcloud.com/k"}
    assert stored(client, bucket, "l") == content(3 * MIB)
