"""The filesystem's way to COS: blocking client calls run in threads, one limit per kind.

Kinds keep each other's tokens apart, so that a hundred uploads cannot make `ls` wait. Nobody waits for a COS
that is out of reach: see reachability.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

import trio

from cosfs.client.client import CosClient
from cosfs.fs.reachability import Reachability

P = ParamSpec("P")
T = TypeVar("T")


class Remote:
    """Runs single requests of the filesystem in worker threads.

    metadata: LIST, HEAD, bucket calls, markers. data: GET of blocks. change: PUT, copy, delete.
    """

    def __init__(
        self,
        client: CosClient,
        *,
        metadata: int = 64,
        data: int = 32,
        change: int = 32,
        reachability: Reachability | None = None,
    ) -> None:
        self.client = client
        self.reachability = reachability or Reachability(client)
        self._metadata = trio.CapacityLimiter(metadata)
        self._data = trio.CapacityLimiter(data)
        self._change = trio.CapacityLimiter(change)

    async def metadata(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a request that answers a question about names or attributes."""
        return await self._run(self._metadata, fn, *args, **kwargs)

    async def data(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a request that reads bytes."""
        return await self._run(self._data, fn, *args, **kwargs)

    async def change(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a request that changes something; not abandoned once it has begun.

        An abandoned PUT could still land after we have told the caller that it failed.
        """
        with self.reachability.change():
            return await trio.to_thread.run_sync(partial(fn, *args, **kwargs), limiter=self._change)

    async def _run(
        self, limiter: trio.CapacityLimiter, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        with self.reachability.question():
            return await trio.to_thread.run_sync(
                partial(fn, *args, **kwargs), limiter=limiter, abandon_on_cancel=True
            )
        raise AssertionError("unreachable")  # question() raises when it ended the wait
