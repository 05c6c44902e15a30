"""The examples in the help of every command: what docs/commands.md shows and the tests run."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import click

from .main import COMMANDS, cos

_BLOCK = re.compile(r"^Examples:\n((?:  .*\n?)+)", re.MULTILINE)


def commands() -> Iterator[tuple[str, click.Command]]:
    """Yield every command that is not hidden by its full name; groups only if they do something alone."""
    top = click.Context(cos, info_name="cos")
    for name, entry in COMMANDS.items():
        if not entry.hidden:
            found = cos.get_command(top, name)
            assert found is not None
            yield from _below(found, name, top)


def _below(command: click.Command, name: str, parent: click.Context) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(command, info_name=name, parent=parent)
    if not isinstance(command, click.Group):
        yield context.command_path, command
        return
    if command.invoke_without_command:
        yield context.command_path, command
    for inner in command.list_commands(context):
        found = command.get_command(context, inner)
        if found is not None and not found.hidden:
            yield from _below(found, inner, context)


def examples(command: click.Command) -> list[str]:
    """Return the examples of a command, each as a line for a shell."""
    found = _BLOCK.search(inspect.cleandoc((command.help or "").replace("\b", "")))
    text = found[1] if found else ""
    return [line.strip() for line in re.sub(r"\\\n\s*", "", text).splitlines()]
