"""What a command asks for first, asked for while the rest of the program is still imported.

Nothing here imports trio, which is what takes the time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Generic, TypeVar

from cosfs.client.client import CosClient
from cosfs.client.model import ListPage, ObjectInfo
from cosfs.client.session import NOTHING

__all__ = ["Ahead", "FirstObject", "FirstPage"]

T = TypeVar("T")


class Ahead(Generic[T]):
    """What a call returns or raises, on its way in a thread of its own."""

    def __init__(self, ask: Callable[[], T], about: tuple[Any, ...]) -> None:
        self._ask = ask
        self._about = about
        self._value: T | None = None
        self._error: BaseException | None = None
        self.seconds = 0.0  # that it took
        # A daemon: nobody waits for the answer if the program ends before it is needed.
        self._thread = threading.Thread(target=self._run, name="cos-ahead", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        begun = time.monotonic()
        try:
            self._value = self._ask()
        except BaseException as error:
            self._error = error
        self.seconds = time.monotonic() - begun

    @property
    def pending(self) -> bool:
        """Whether the thread still runs."""
        return self._thread.is_alive()

    def is_for(self, *about: Any) -> bool:
        """Whether it is the answer that somebody wants."""
        return self._about == about

    def take(self) -> T:
        """Wait for the answer and return it, or raise what the request has raised; to be called once."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]


class FirstPage(Ahead[ListPage]):
    """What list_objects() returns."""

    def __init__(self, client: CosClient, bucket: str, prefix: str, page_size: int) -> None:
        ask = partial(client.list_objects, bucket, prefix=prefix, max_keys=page_size)
        super().__init__(ask, (bucket, prefix, page_size))


class FirstObject(Ahead[ObjectInfo | None]):
    """What head_object() returns."""

    def __init__(
        self,
        client: CosClient,
        bucket: str,
        key: str,
        version_id: str = "",
        headers: Mapping[str, str] = NOTHING,
    ) -> None:
        ask = partial(client.head_object, bucket, key, version_id=version_id, headers=headers)
        super().__init__(ask, (bucket, key, version_id))
