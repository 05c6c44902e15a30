"""What these keys may do, asked without doing it."""

from __future__ import annotations

from typing import Any

import pytest

from cosfs.client.client import CosClient
from cosfs.client.stats import ClientStats
from cosfs.emulator import Emulator
from cosfs.errors import AuthenticationError, IntegrityError, ObjectNotFoundError
from tests.objects import keys, stored

ENABLED = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"


def test_what_does_not_match_its_checksum_is_refused_for_that(client: CosClient, bucket: str) -> None:
    client.put_object(bucket, "there", b"as it was")
    assert client.try_put(bucket, "free")
    client.check_put(bucket, "there")
    assert keys(client, bucket) == ["there"]
    assert stored(client, bucket, "there") == b"as it was"
    with pytest.raises(ObjectNotFoundError):
        client.head_object(bucket, "none")
    assert client.stats.snapshot()["errors"] == 0, "all answers are what was asked for"


def test_the_answer_that_was_wanted_is_never_counted_as_an_error(
    client: CosClient, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for a moment either: somebody may look at the count just then."""
    counted: list[int] = []
    add = ClientStats.add

    def note(stats: ClientStats, *, errors: int = 0, **others: Any) -> None:
        counted.append(int(errors))
        add(stats, errors=errors, **others)

    monkeypatch.setattr(ClientStats, "add", note)
    client.put_object(bucket, "there", b"as it was")
    assert client.try_put(bucket, "free")
    client.check_put(bucket, "there")
    assert set(counted) == {0}


def test_a_refusal_of_the_keys_themselves_is_an_error(
    client: CosClient, bucket: str, emulator: Emulator
) -> None:
    emulator.faults.error("PutObject", "InvalidToken", 400)
    with pytest.raises(AuthenticationError):
        client.try_put(bucket, "free")
    assert client.stats.snapshot()["errors"] == 1


@pytest.mark.parametrize("versions", [False, True])
def test_what_a_lenient_server_stored_is_removed(
    client: CosClient, bucket: str, emulator: Emulator, versions: bool
) -> None:
    if versions:
        client.put_document(bucket, "versioning", ENABLED)
    with_lenience = emulator.faults.lenient()
    assert not client.try_put(bucket, "free")
    emulator.faults.remove(with_lenience)
    page = client.list_versions(bucket)
    assert [entry.key for entry in page.versions] == []


def test_it_is_removed_as_well_if_the_answer_was_lost(
    client: CosClient, bucket: str, emulator: Emulator
) -> None:
    """By a server that keeps what is there: the second try finds the object of the first."""
    emulator.faults.lenient(count=1)
    emulator.faults.reset("PutObject", after=True)
    emulator.faults.error("PutObject", "FileAlreadyExists", 409, skip=1)
    assert not client.try_put(bucket, "free")
    assert keys(client, bucket) == []


def test_it_is_told_if_a_server_stores_what_it_was_asked_with(
    client: CosClient, bucket: str, emulator: Emulator
) -> None:
    lenience = emulator.faults.lenient()
    with pytest.raises(IntegrityError, match=f"cos://{bucket}/free"):
        client.check_put(bucket, "free")
    emulator.faults.remove(lenience)


@pytest.mark.parametrize("versions", [False, True])
def test_a_removal_that_is_tried_leaves_nothing(client: CosClient, bucket: str, versions: bool) -> None:
    if versions:
        client.put_document(bucket, "versioning", ENABLED)
    client.try_delete(bucket, "nobody")
    assert client.list_versions(bucket).versions == []
