"""Questions to the user: on stderr, answered no unless somebody says yes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .state import State


def confirm(state: State, question: str) -> None:
    """Ask; anything but yes ends the program. Without a terminal nobody can answer: a usage error."""
    import click

    from cosfs.errors import UsageError

    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(f"{question} There is no terminal to ask on", hint="Add --yes")
    state.out.flush()
    if not click.confirm(question, default=False, err=True):
        state.out.error("nothing was done")
        raise click.exceptions.Exit(1)
