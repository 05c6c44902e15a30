"""`cos mv`: cp, then the source is removed, file by file and only when its copy is verified."""

from __future__ import annotations

from typing import Any

import click

from .cp import copy_options, start
from .options import command, complete_places


@command("mv")
@click.argument(
    "places", nargs=-1, required=True, metavar="SOURCE... DESTINATION", shell_complete=complete_places
)
@copy_options
@click.pass_context
def mv(ctx: click.Context, /, places: tuple[str, ...], **values: Any) -> int:
    """Move files and objects: as cp, and each source is removed once its copy is verified.

    With --checksum a source whose contents are at the destination already is removed too, and nothing is
    sent. What --no-overwrite or --update leave alone stays.

    \b
    Examples:
      cos mv cos://bucket/old.txt cos://bucket/new.txt
      cos mv cos://bucket/dir/ cos://bucket/newdir/ --recursive
    """
    return start(ctx, places, values, move=True)
