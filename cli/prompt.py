"""Questions to the user: on stderr, answered no unless somebody says yes."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .state import State


def somebody_is_there() -> bool:
    """Whether questions can be asked: both a keyboard and a screen."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def ask(question: str, *, secret: bool = False) -> str:
    """Ask for one line; a secret is not echoed. The end of input aborts the command."""
    import click

    # Echo is off before the question is seen: whoever answers at once is not overheard.
    with _echo(not secret):
        sys.stderr.write(f"{question}: ")
        sys.stderr.flush()
        # A Ctrl-C just before a plain read would be noticed only after the next line.
        while not select.select([sys.stdin], [], [], 0.2)[0]:
            pass
        line = sys.stdin.readline()
    if not line:
        raise click.Abort
    return line.strip()


@contextmanager
def _echo(shown: bool) -> Iterator[None]:
    import termios

    if shown:
        yield
        return
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    silent = [*before[:3], before[3] & ~termios.ECHO, *before[4:]]
    try:
        termios.tcsetattr(fd, termios.TCSAFLUSH, silent)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
        os.write(sys.stderr.fileno(), b"\n")  # the one that was not echoed


def ask_credentials(state: State) -> dict[str, object]:
    """Ask for credentials, to be used by this command and forgotten."""
    state.out.flush()
    state.out.talk("No credentials are configured; `cos configure` keeps them. For this command only:")
    return {"secret_id": ask("SecretId"), "secret_key": ask("SecretKey", secret=True)}


def code_prompt(state: State) -> Callable[[str], str] | None:
    """Return what asks for the code of an MFA device; None if nobody can be asked."""
    if not (state.may_ask and somebody_is_there()):
        return None

    def ask_code(device: str) -> str:
        state.out.flush()
        return ask(f"Code of the MFA device {device}")

    return ask_code


def confirm(state: State, question: str) -> None:
    """Ask; anything but yes ends the program. Without a terminal nobody can answer: a usage error."""
    import click

    from cosfs.errors import UsageError

    if not (state.may_ask and somebody_is_there()):
        raise UsageError(f"{question} There is no terminal to ask on", hint="Add --yes")
    state.out.flush()
    if ask(f"{question} [y/N]").lower() not in ("y", "yes"):
        state.out.error("nothing was done")
        raise click.exceptions.Exit(1)
