"""Questions to the user: on stderr, answered no unless somebody says yes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .state import State


def ask_credentials(state: State) -> dict[str, object]:
    """Ask for credentials, to be used by this command and forgotten."""
    import click

    state.out.flush()
    state.out.talk("No credentials are configured; `cos configure` keeps them. For this command only:")
    secret_id = click.prompt("SecretId", err=True)
    secret_key = click.prompt("SecretKey", hide_input=True, err=True)
    return {"secret_id": secret_id.strip(), "secret_key": secret_key.strip()}


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
