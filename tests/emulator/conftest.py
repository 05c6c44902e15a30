"""Fixtures: an emulator without a socket (`ask`), one with a socket (`served`), the vendor's SDK (`sdk`)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from qcloud_cos import CosConfig, CosS3Client

from cosfs.emulator import Emulator, Limits
from tests.emulator.asking import BUCKET, Asker
from tests.emulator.signed import Signed

_numbers = itertools.count()


@pytest.fixture
def ask(tmp_path: Path) -> Iterator[Asker]:
    """An emulator called directly, with one bucket."""
    asker = Asker(tmp_path / "data")
    asker.store.create_bucket(BUCKET, "ap-guangzhou")
    yield asker
    asker.close()


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """One served emulator for the tests of this directory."""
    data = tmp_path_factory.mktemp("served")
    with Emulator(data, buckets=[BUCKET], limits=Limits(min_part_size=1024)) as emulator:
        yield emulator


@pytest.fixture
def served(shared: Emulator) -> Iterator[Emulator]:
    """The served emulator with counters at zero and nothing going wrong."""
    shared.requests.reset()
    yield shared
    shared.faults.clear()


def sdk_for(emulator: Emulator, **options: Any) -> CosS3Client:
    """Point the vendor's SDK at an emulator, as the protocol reference recommends."""
    address = emulator.endpoint_url.removeprefix("http://")
    config = CosConfig(
        **{
            "Region": emulator.region,
            "SecretId": emulator.secret_id,
            "SecretKey": emulator.secret_key,
            "Scheme": "http",
            "IP": "127.0.0.1",
            "Port": int(address.rpartition(":")[2]),
            "ServiceDomain": address,
            **options,
        }
    )
    return CosS3Client(config, retry=0)


@pytest.fixture
def sdk(served: Emulator) -> CosS3Client:
    """The vendor's SDK."""
    return sdk_for(served)


@pytest.fixture
def bucket(served: Emulator) -> Iterator[str]:
    """A fresh bucket of the served emulator."""
    name = served.create_bucket(f"b{next(_numbers)}")
    yield name
    served.requests.leave_out(name)


@pytest.fixture
def public(sdk: CosS3Client, bucket: str) -> str:
    """A bucket that needs no signature, for requests written by hand."""
    sdk.put_bucket_acl(Bucket=bucket, ACL="public-read-write")
    return bucket


@pytest.fixture(scope="session")
def _timed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    data = tmp_path_factory.mktemp("timed")
    with Emulator(data, limits=Limits(min_part_size=1024), jobs_interval=0) as emulator:
        yield emulator


@pytest.fixture
def timed(_timed: Emulator) -> Iterator[Emulator]:
    """A served emulator whose clock the test may move; what happens by time happens in run_jobs only."""
    yield _timed
    _timed.clock.reset()
    _timed.faults.clear()


@pytest.fixture
def wire(timed: Emulator) -> Iterator[Signed]:
    """A connection to a fresh bucket of that emulator."""
    connection = Signed(timed, timed.create_bucket(f"t{next(_numbers)}"))
    yield connection
    connection.close()
