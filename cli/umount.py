"""`cos umount`: unmount when everything is uploaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .mount import MountpointType
from .options import DURATION, command

if TYPE_CHECKING:
    from .state import State


@command("umount")
@click.argument("mountpoints", type=MountpointType(), metavar="MOUNTPOINT...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All mounts of yours.")
@click.option("--timeout", type=DURATION, default=0.0, metavar="TIME", help="Wait so long at most.")
@click.option(
    "--force",
    is_flag=True,
    help="Unmount even if it is in use or not all is sent; the next mount sends the rest.",
)
@click.option("--lazy", is_flag=True, help="Take it off the tree at once; it goes on sending by itself.")
@click.option("--if-mounted", is_flag=True, help="Do nothing where nothing is mounted.")
@click.pass_obj
def umount(
    state: State,
    mountpoints: tuple[Path, ...],
    everything: bool,
    timeout: float,
    force: bool,
    lazy: bool,
    if_mounted: bool,
) -> int:
    """Send what is pending, unmount, and wait until the mount has ended.

    If something cannot be sent, it stays mounted and what is pending is said. A mount whose
    process is gone is cleaned up. With --lazy the command returns at once: the mount disappears
    from the tree, open files go on working, and its process ends when all is sent.

    \b
    Examples:
      cos umount /mnt/cos
      cos umount /mnt/cos --timeout 5m
    """
    from cosfs.errors import COSError, UsageError
    from cosfs.fuse.control import list_mounts, unmount
    from cosfs.fuse.registry import absolute, is_mounted

    places = list(mountpoints)
    if everything:
        places += [Path(found.mountpoint) for found in list_mounts()]
    elif not places:
        raise UsageError("a mountpoint is missing", hint="'cos status' lists all mounts")
    if if_mounted:
        places = [place for place in places if is_mounted(absolute(place))]
    code = 0
    for place in places:
        display = _Display(state)
        try:
            unmount(place, timeout=timeout, force=force, lazy=lazy, progress=display.update)
        except COSError as error:
            display.end()
            state.out.error(str(error))
            code = max(code, error.exit_code)
        else:
            display.end()
            state.out.talk(f"unmounted {place}")
    return code


class _Display:
    """One line on a terminal that says what is still pending."""

    def __init__(self, state: State) -> None:
        self._shown = state.shows_progress
        self._width = 0

    def update(self, answer: dict[str, Any]) -> None:
        """Show an answer of the mount."""
        from cosfs.units import format_size

        pending, size = int(answer.get("pending", 0)), int(answer.get("bytes", 0))
        if self._shown and (pending or self._width):
            changes = "change" if pending == 1 else "changes"
            self._write(f"{pending} {changes} still to be sent{f', {format_size(size)}' if size else ''}")

    def end(self) -> None:
        """Take the line away."""
        if self._width:
            self._write("")
            self._width = 0

    def _write(self, text: str) -> None:
        import sys

        sys.stderr.write(f"\r{text}\x1b[K")
        sys.stderr.flush()
        self._width = len(text)
