"""`cos completion`: what a shell needs to complete commands and options."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .options import command

if TYPE_CHECKING:
    from .state import State

SHELLS = ("bash", "zsh", "fish")


@command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> int:
    """Print the completion script of a shell.

    It completes commands, options and files, and for cos:// buckets and keys, for which it asks COS.

    \b
    Examples:
      source <(cos completion bash)                              # this session
      cos completion bash > ~/.local/share/bash-completion/completions/cos
      cos completion zsh > ~/.zfunc/_cos                         # with fpath+=~/.zfunc
      cos completion fish > ~/.config/fish/completions/cos.fish
    """
    from .completing import KINDS

    state: State = ctx.find_root().obj
    made = KINDS[shell](ctx.find_root().command, {}, "cos", "_COS_COMPLETE")
    # source() would start a shell only to ask for its version.
    state.out.line(made.source_template % made.source_vars())
    return 0
