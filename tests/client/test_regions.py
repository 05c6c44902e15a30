"""Where buckets are: found once for all who ask, remembered between runs, right again after a move."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cosfs.client.client import CosClient
from cosfs.config import load_settings
from cosfs.emulator import Emulator, Limits
from cosfs.errors import BucketNotFoundError, ServiceError

Connect = Callable[..., CosClient]
BUCKET = "here-1250000000"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """COS with its real host names, which a proxy leads to."""
    limits = Limits(own_regions=True)
    with Emulator(tmp_path_factory.mktemp("regions"), https=True, limits=limits) as emulator:
        yield emulator


@pytest.fixture
def connect(cloud: Emulator, tmp_path: Path) -> Iterator[Connect]:
    opened: list[CosClient] = []

    def connect(region: str = "", **more: str) -> CosClient:
        options: dict[str, object] = {
            "proxy": cloud.endpoint_url,
            "ca_bundle": str(cloud.info.ca_file),
            "secret_id": more.get("secret_id", cloud.secret_id),
            "secret_key": more.get("secret_key", cloud.secret_key),
            "region": region or None,
        }
        environ = {"HOME": str(tmp_path)}
        client = CosClient.from_settings(load_settings(options, environ=environ), options, environ=environ)
        opened.append(client)
        return client

    yield connect
    for client in opened:
        client.close()


@pytest.fixture
def moved(cloud: Emulator, connect: Connect) -> Iterator[Callable[[str], None]]:
    """Make the bucket in a region; before, remove it where it is."""

    def move(region: str) -> None:
        with connect(region) as client:
            try:
                client.delete_bucket(BUCKET)
            except BucketNotFoundError:
                pass
            client.create_bucket(BUCKET, region=region)

    yield move
    with connect() as client:
        client.delete_bucket(BUCKET)


def kept(tmp_path: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((tmp_path / ".cos" / "cache" / "regions.json").read_text())
    return found


def test_many_first_requests_list_the_buckets_once(
    cloud: Emulator, connect: Connect, moved: Callable[[str], None]
) -> None:
    moved("ap-beijing")
    client = connect()
    cloud.requests.reset()
    barrier = threading.Barrier(16)

    def look() -> None:
        barrier.wait()
        client.list_objects(BUCKET)

    threads = [threading.Thread(target=look) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cloud.requests["ListBuckets"] == 1
    assert cloud.requests["ListObjects"] == 16


def test_a_region_is_remembered(
    cloud: Emulator, connect: Connect, moved: Callable[[str], None], tmp_path: Path
) -> None:
    moved("ap-beijing")
    connect().list_objects(BUCKET)
    assert kept(tmp_path) == {BUCKET: "ap-beijing"}
    cloud.requests.reset()
    connect().list_objects(BUCKET)
    connect("ap-nanjing").list_objects(BUCKET)  # what is known of a bucket goes before the default
    assert cloud.requests["ListBuckets"] == 0
    assert cloud.requests.total == 2


def test_a_bucket_made_anew_elsewhere_is_found(
    cloud: Emulator, connect: Connect, moved: Callable[[str], None], tmp_path: Path
) -> None:
    moved("ap-beijing")
    connect().list_objects(BUCKET)
    (tmp_path / "old").write_text((tmp_path / ".cos" / "cache" / "regions.json").read_text())
    moved("eu-frankfurt")
    (tmp_path / "old").replace(tmp_path / ".cos" / "cache" / "regions.json")
    connect().list_objects(BUCKET)
    assert kept(tmp_path) == {BUCKET: "eu-frankfurt"}


def test_without_the_right_to_list_buckets_the_setting_helps(
    cloud: Emulator, connect: Connect, moved: Callable[[str], None], tmp_path: Path
) -> None:
    moved("ap-beijing")
    statement = {"effect": "allow", "action": "name/cos:GetBucket", "resource": "*"}
    member = cloud.add_user(policies=[{"version": "2.0", "statement": [statement]}])
    keys = {"secret_id": member.secret_id, "secret_key": member.secret_key}
    path = tmp_path / ".cos" / "cache" / "regions.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({BUCKET: "ap-tokyo"}))
    connect("ap-beijing", **keys).list_objects(BUCKET)
    assert kept(tmp_path) == {BUCKET: "ap-beijing"}


@pytest.mark.parametrize(
    "content", ["", "[]", '{"here-1250000000": "evil.example/"}', '{"here-1250000000": 5}']
)
def test_a_damaged_file_is_as_good_as_none(
    connect: Connect, moved: Callable[[str], None], tmp_path: Path, content: str
) -> None:
    moved("ap-beijing")
    path = tmp_path / ".cos" / "cache" / "regions.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    connect().list_objects(BUCKET)
    assert kept(tmp_path) == {BUCKET: "ap-beijing"}


def test_a_removed_bucket_is_forgotten(
    connect: Connect, moved: Callable[[str], None], tmp_path: Path
) -> None:
    moved("ap-beijing")
    client = connect()
    client.list_objects(BUCKET)
    client.delete_bucket(BUCKET)
    assert kept(tmp_path) == {}
    moved("ap-beijing")


# --- global acceleration


def test_objects_go_by_accelerated_hosts_and_settings_do_not(
    cloud: Emulator, connect: Connect, moved: Callable[[str], None], tmp_path: Path
) -> None:
    moved("ap-beijing")
    directory = tmp_path / ".cos"
    directory.mkdir(exist_ok=True)
    (directory / "config").write_text("[default]\ncos =\n  accelerate = true\n")
    client = connect()
    with pytest.raises(ServiceError, match="acceleration is not enabled") as caught:
        client.put_object(BUCKET, "k", b"x")
    assert "cos accelerate enable" in caught.value.hint
    enabled = "<AccelerateConfiguration><Status>Enabled</Status><Type>COS</Type></AccelerateConfiguration>"
    client.put_document(BUCKET, "accelerate", enabled.encode())
    cloud.requests.reset()
    client.put_object(BUCKET, "k", b"x")
    assert [entry.key for entry in client.list_objects(BUCKET).objects] == ["k"]
    client.delete_object(BUCKET, "k")
    hosts = {entry.operation: entry.host for entry in cloud.requests.log()}
    assert hosts["PutObject"] == f"{BUCKET}.cos.accelerate.myqcloud.com"
    assert hosts["ListObjects"] == f"{BUCKET}.cos.ap-beijing.myqcloud.com"
    assert "accelerate" in client.presign("GET", BUCKET, "k", expires=60)
