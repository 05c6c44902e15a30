"""The first page of a listing, asked for while the rest of the program is still imported.

Nothing here imports trio, which is what takes the time.
"""

from __future__ import annotations

import threading
from functools import partial

import outcome

from cosfs.client.client import CosClient
from cosfs.client.model import ListPage

__all__ = ["FirstPage"]


class FirstPage:
    """What list_objects() returns, on its way in a thread of its own."""

    def __init__(self, client: CosClient, bucket: str, prefix: str, page_size: int) -> None:
        self._asked = (bucket, prefix, page_size)
        self._found: outcome.Outcome[ListPage] | None = None
        ask = partial(client.list_objects, bucket, prefix=prefix, max_keys=page_size)
        # A daemon: nobody waits for the answer if the program ends before it is needed.
        self._thread = threading.Thread(target=self._ask, args=(ask,), name="cos-ahead", daemon=True)
        self._thread.start()

    def _ask(self, ask: partial[ListPage]) -> None:
        self._found = outcome.capture(ask)

    @property
    def pending(self) -> bool:
        """Whether the thread still runs."""
        return self._thread.is_alive()

    def is_for(self, bucket: str, prefix: str, page_size: int) -> bool:
        """Whether it is the page that somebody wants."""
        return self._asked == (bucket, prefix, page_size)

    def take(self) -> ListPage:
        """Wait for the page and return it, or raise what the request has raised; to be called once."""
        self._thread.join()
        assert self._found is not None
        return self._found.unwrap()
