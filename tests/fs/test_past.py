"""The past of a bucket, compared with what was seen at the time."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from cosfs.client.client import CosClient
from cosfs.config import load_settings
from cosfs.emulator import Emulator
from cosfs.errors import FilesystemError, ObjectNotFoundError
from cosfs.fs import past
from cosfs.fs.past import PastClient

BUCKET = "b-1250000000"
START = 1_700_000_000.0
Seen = dict[str, bytes]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Emulator]:
    with Emulator(tmp_path / "server", buckets=["b"], jobs_interval=0) as running:
        yield running


@pytest.fixture
def now(server: Emulator) -> Iterator[CosClient]:
    options = {
        "endpoint_url": server.endpoint_url,
        "region": server.region,
        "secret_id": server.secret_id,
        "secret_key": server.secret_key,
    }
    with CosClient.from_settings(load_settings(options, environ={"HOME": "/nonexistent"}), options) as client:
        yield client


def keep_versions(client: CosClient, status: str = "Enabled") -> None:
    from cosfs.client.control import ControlPlane

    ControlPlane(client).call("put_bucket_versioning", Bucket=BUCKET, Status=status)


def seen(client: CosClient) -> Seen:
    found = {}
    marker = ""
    while True:
        page = client.list_objects(BUCKET, marker=marker)
        for info in page.objects:
            found[info.key] = client.get_range(BUCKET, info.key, 0, max(1, info.size))[1]
        marker = page.next_marker
        if not marker:
            return found


def directory(client: CosClient, prefix: str) -> tuple[list[str], list[str]]:
    keys: list[str] = []
    prefixes: list[str] = []
    marker = ""
    while True:
        page = client.list_objects(BUCKET, prefix=prefix, delimiter="/", marker=marker)
        keys += [info.key for info in page.objects]
        prefixes += page.prefixes
        marker = page.next_marker
        if not marker:
            return keys, prefixes


@pytest.mark.parametrize("page", [1, 2, 3, 7, 1000])
def test_every_moment_is_as_it_was_seen(
    server: Emulator, now: CosClient, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    monkeypatch.setattr(past, "PAGE", page)
    source = random.Random(page)
    server.clock.set(START)
    keep_versions(now)
    keys = ["a", "a/", "a/b", "a/b/c", "a-", "d/e/f", "d/g", "z", "ü/x"]
    history: list[tuple[float, Seen]] = [(START - 100, {})]
    state: Seen = {}
    for step in range(40):
        key = source.choice(keys)
        if key in state and source.random() < 0.5:
            now.delete_object(BUCKET, key)
            del state[key]
        else:
            state[key] = b"%d" % step
            now.put_object(BUCKET, key, state[key])
        history.append((START + step * 100, dict(state)))
        server.clock.advance(100)
    for moment, expected in history[:: 1 if page == 1000 else 7]:
        with PastClient(now, moment + 50) as client:
            assert seen(client) == expected
            for prefix in ("", "a/", "a/b/", "d/", "nothing/"):
                inside = [key for key in expected if key.startswith(prefix)]
                below = {key[len(prefix) :].partition("/") for key in inside}
                assert directory(client, prefix) == (
                    sorted((prefix + name for name, slash, _ in below if not slash), key=str.encode),
                    sorted({f"{prefix}{name}/" for name, slash, _ in below if slash}, key=str.encode),
                )
        with PastClient(now, moment + 50) as client:  # nothing was listed before
            for key in keys:
                if key in expected:
                    info = client.head_object(BUCKET, key)
                    assert info is not None and info.size == len(expected[key])
                    assert client.get_range(BUCKET, key, 0, 100)[1] == expected[key]
                else:
                    with pytest.raises(ObjectNotFoundError):
                        client.head_object(BUCKET, key)


def test_bucket_without_versions(server: Emulator, now: CosClient) -> None:
    now.put_object(BUCKET, "a", b"x")
    with PastClient(now, START) as client:
        for call in (lambda: client.list_objects(BUCKET), lambda: client.head_object(BUCKET, "a")):
            with pytest.raises(FilesystemError, match="keeps no old versions"):
                call()
        assert client.list_buckets() == []  # made since


def test_suspended_versioning_still_has_a_past(server: Emulator, now: CosClient) -> None:
    server.clock.set(START)
    now.put_object(BUCKET, "a", b"null version")
    server.clock.advance(100)
    keep_versions(now)
    now.put_object(BUCKET, "a", b"first")
    server.clock.advance(100)
    keep_versions(now, "Suspended")
    for moment, expected in ((START + 50, b"null version"), (START + 150, b"first")):
        with PastClient(now, moment) as client:
            assert seen(client) == {"a": expected}


def test_what_is_kept_is_bounded(server: Emulator, now: CosClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(past, "KEPT", 10)
    server.clock.set(START)
    keep_versions(now)
    server.put_objects("b", ((f"d{n:03}/f", b"%d" % n) for n in range(50)))
    server.clock.advance(100)
    with PastClient(now, START + 50) as client:
        assert len(directory(client, "")[1]) == 50
        assert len(client._lives._answers) == 10
        assert len(seen(client)) == 50
        assert len(client._versions._answers) == 10
        server.requests.reset()
        assert client.get_range(BUCKET, "d000/f", 0, 10)[1] == b"0"
        assert server.requests["ListObjectVersions"] == 1
        assert client.get_range(BUCKET, "d000/f", 0, 10)[1] == b"0"
        assert server.requests["ListObjectVersions"] == 1
