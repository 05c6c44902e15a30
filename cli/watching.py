"""`cos sync --watch`: one whole sync, then what changes, as it changes, until interrupted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cosfs.errors import ConfigError, COSError, TransferError

if TYPE_CHECKING:
    import trio

    from cosfs.transfer.sides import Selector
    from cosfs.transfer.watch import Changes, TreeWatch

    from .syncing import SyncCopy

# After a failure everything is compared again, at first so many seconds later, then after twice as long.
_RETRY = 5.0


class Watching:
    """Keeps a destination in COS like a local directory."""

    def __init__(self, copying: SyncCopy, path: str, selector: Selector) -> None:
        self._copying = copying
        self._run = copying.run
        self._path = path
        self._selector = selector
        self._retry = _RETRY
        self._total = 1
        self._told = ""

    async def run(self) -> None:
        """Sync, and go on until the command is stopped or the directory is gone."""
        import trio

        from cosfs.transfer.watch import TreeWatch

        self._run.goes_on = True
        follow = self._copying.options.follow_symlinks
        with trio.CancelScope() as waiting, TreeWatch(self._path, self._selector, follow=follow) as tree:
            # Before the first sync: what changes while it runs must not be missed.
            await tree.start()
            failed = self._run.report.failed
            await self._everything()
            due = self._next(failed)
            self._run.state.out.talk(f"watching {self._path} for changes")
            while not self._run.stopping:
                self._tell(tree)
                changes = await self._wait(tree, due, waiting)
                if self._run.stopping:
                    return
                if changes is not None and changes.root_gone:
                    self._run.report.fail(
                        TransferError(f"{self._path} is gone, so there is nothing to watch")
                    )
                    return
                due = await self._sync(changes, due)

    async def _wait(self, tree: TreeWatch, due: float, waiting: trio.CancelScope) -> Changes | None:
        """Return what changed; None when everything is to be compared again."""
        import trio

        self._run.on_stop = waiting.cancel
        try:
            with trio.move_on_at(due):
                return await tree.changes()
            return None
        finally:
            self._run.on_stop = None

    async def _sync(self, changes: Changes | None, due: float) -> float:
        """Send what changed; return when everything is to be compared the next time."""
        from cosfs.transfer.sides import Scope

        failed = self._run.report.failed
        try:
            if changes is None or changes.everything:
                await self._everything()
                return self._next(failed)
            await self._copying.run_once(Scope(self._selector, changes.places), part_of=self._total)
        except ConfigError:
            raise
        except (COSError, OSError) as error:
            self._run.report.fail(error)
            return self._next(failed)
        return due if self._run.report.failed == failed else min(due, self._next(failed))

    async def _everything(self) -> None:
        self._total = max(1, await self._copying.run_once(self._selector))

    def _next(self, failed_before: int) -> float:
        """Return when to compare everything again; soon after a failure."""
        import trio

        interval = self._copying.options.watch_interval
        if self._run.report.failed == failed_before:
            self._retry = _RETRY
            return trio.current_time() + interval
        delay, self._retry = min(self._retry, interval), 2 * self._retry
        return trio.current_time() + delay

    def _tell(self, tree: TreeWatch) -> None:
        """Say once why some changes will only be seen by comparing."""
        if tree.unwatched and tree.unwatched != self._told:
            self._told = tree.unwatched
            interval = self._copying.options.watch_interval
            self._run.state.out.warn(
                f"not everything can be watched ({tree.unwatched}); the rest is compared every {interval:g} s"
            )
