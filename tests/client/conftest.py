from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from cosfs.client import retry
from cosfs.client.auth import Credentials, StaticCredentials
from cosfs.client.client import CosClient
from cosfs.config import ClientSettings
from tests.client.scripted import Script, ScriptedServer

KEY = Credentials("AKIDEXAMPLE0000000000000000000000000", "ExampleSecretKey0123456789abcdef")
Start = Callable[..., tuple[ScriptedServer, CosClient]]


def put(client: CosClient, bucket: str, key: str, data: bytes = b"") -> str:
    """Put an object and return its etag."""
    return client.put_object(bucket, key, data).etag


@pytest.fixture
def script() -> Iterator[Start]:
    """Start a server with a script and a client to it; settings are those of ClientSettings."""
    with ExitStack() as stack:

        def start(*answers: Script, **settings: object) -> tuple[ScriptedServer, CosClient]:
            server = stack.enter_context(ScriptedServer(*answers))
            given = {"endpoint_url": server.url, "region": "ap-x", **settings}
            client = CosClient(ClientSettings(**given), StaticCredentials(KEY))  # type: ignore[arg-type]
            return server, stack.enter_context(client)

        yield start


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait a hundredth of the usual time."""
    monkeypatch.setattr(retry, "BASE_DELAY", retry.BASE_DELAY / 100)
