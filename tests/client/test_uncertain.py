"""Writes that must happen once, and answers that say they failed although they worked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cosfs.client.client import CosClient
from cosfs.emulator import Emulator
from cosfs.errors import AlreadyExistsError, ServiceError


@pytest.fixture(autouse=True)
def no_faults(emulator: Emulator) -> Iterator[None]:
    yield
    emulator.faults.clear()


@pytest.mark.parametrize("status", [500, 503])
def test_object_that_was_stored_all_the_same_is_ours(
    client: CosClient, bucket: str, emulator: Emulator, status: int
) -> None:
    emulator.faults.error("PutObject", "InternalError", status, after=True)
    result = client.put_object(bucket, "k", b"data", forbid_overwrite=True)
    stored = client.head_object(bucket, "k")
    assert stored is not None and result.etag == stored.etag


def test_object_of_somebody_else_is_not(client: CosClient, bucket: str, emulator: Emulator) -> None:
    client.put_object(bucket, "k", b"theirs")
    emulator.faults.error("PutObject", "InternalError", 500)
    with pytest.raises(AlreadyExistsError):
        client.put_object(bucket, "k", b"ours", forbid_overwrite=True)


def test_nothing_is_said_of_what_cannot_be_looked_at(
    client: CosClient, bucket: str, emulator: Emulator
) -> None:
    emulator.faults.error("PutObject", "InternalError", 500, after=True)
    emulator.faults.error("HeadObject", "InternalError", 500, count=0)
    with pytest.raises(ServiceError) as failure:
        client.put_object(bucket, "k", b"data", forbid_overwrite=True)
    assert not isinstance(failure.value, AlreadyExistsError)


def test_upload_that_was_completed_all_the_same_is_done(
    client: CosClient, bucket: str, emulator: Emulator
) -> None:
    upload = client.create_upload(bucket, "k")
    part = client.upload_part(upload, 1, b"data")
    emulator.faults.error("CompleteMultipartUpload", "InternalError", 500, after=True)
    assert client.complete_upload(upload, [part]).etag
