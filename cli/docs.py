"""docs/commands.md, generated from --help: `python -m cli.docs > docs/commands.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from .examples import commands, examples
from .main import COMMANDS, cos

_WIDTH = 100
_HEAD = """\
# The `cos` command line

Generated from `--help` by `python -m cli.docs > docs/commands.md`; do not edit it by hand. The tests run
every example on this page against the emulator.

## Rules that hold for every command

Results go to standard output, everything else (progress, warnings, errors, questions) to standard
error. A result is a table on a terminal and plain lines in a pipe; `--output json|jsonl|table|text`
says which.

| exit code | meaning |
|---|---|
| 0 | all done |
| 1 | something failed, or nothing was found |
| 2 | nothing failed, but something was skipped with a warning |
| 130, 143, 141 | ended by Ctrl-C, by a termination signal, because nobody reads the output any more |
| 252 | the command line makes no sense; nothing was sent |
| 253 | settings or credentials are missing or unreadable |
| 254 | COS refused |
| 255 | anything else, such as no network |

Questions are answered "no" unless somebody types yes, and only people are asked: standard input and
standard error must both be terminals.

| what | at a terminal | without one |
|---|---|---|
| `rm -r` of a whole bucket, `rb --force`, `put` and `delete` of a setting | asks | does it, as `aws` |
| the first two with `--all-versions`; `object-lock enable`, `retention put` | asks | 252 without `--yes` |

`--yes` answers, and `--dryrun` never asks. A line of `cos run` is treated as if there were no terminal.

## Where `cp` puts things

| command | result |
|---|---|
| `cp f cos://b` or `cos://b/` | key `f` |
| `cp f cos://b/p` | key `p`, even if there is a `p/` |
| `cp f cos://b/p/` | key `p/f` |
| `cp -r d cos://b/x` (or `d/`, `x/`) | `x/` and the path below `d`; the name `d` is not added |
| `cp cos://b/x/a f` | file `f`; if `f` is a directory or ends in `/`, `f/a` |
| `cp cos://b/x dst` where only `x/…` exists | an error that says to add `--recursive` |
| `cp d cos://b/w` where `d` is a directory | the same |
| `cp -r cos://b/x/su dst` | only what is below `x/su/` |
| `cp 'cos://b/logs/*.gz' dst/` | every match, below the directory of the pattern |

## Filters

`--include` and `--exclude` take shell patterns that are compared with the path below the source;
`*` matches `/` too. `--exclude sub` does not match `sub/x` (write `sub/*`), and `--exclude c.txt`
does not match `sub/c.txt` (write `*c.txt`). Of several that match, the last one wins. If the first
filter is an `--include`, everything that matches no filter is left out.

## Settings of buckets

`get` prints a document as JSON (`--xml` as COS has it), `put` takes JSON or XML from `--config`
(a file, `file://FILE`, `-` or the document itself), and `get > f` and `put --config f` change
nothing. Fields have the names of AWS where AWS has the setting; those of the XML and of Tencent's
SDKs are understood too. A document is checked before anything is sent, and what is wrong names
its field: `Rules[1].Expiration.Days: must be >= 1`. A field that this program does not know is
sent with a warning, unless it looks like a slip of the pen. `--dryrun` shows what would change.
At a terminal `put` and `delete` show what goes away and ask, unless `--yes` is given; a script is
not asked.
"""


def render() -> str:
    """Return the text of docs/commands.md."""
    missing = [name for name, command in commands() if not examples(command)]
    if missing:
        sys.exit(f"each command needs an example in its help, and these have none: {', '.join(missing)}")
    parts = [_HEAD, _index(), "## cos\n", _block(cos, "cos", None)]
    for name, entry in COMMANDS.items():
        if entry.hidden:
            continue
        parent = click.Context(cos, info_name="cos", max_content_width=_WIDTH, terminal_width=_WIDTH)
        command = cos.get_command(parent, name)
        assert command is not None
        parts += _sections(command, name, parent, "##")
    return "\n".join(parts)


def _index() -> str:
    sections: dict[str, list[str]] = {}
    for name, entry in COMMANDS.items():
        if not entry.hidden:
            sections.setdefault(entry.section, []).append(f"[{name}](#cos-{name})")
    lines = [f"**{section}**: {' '.join(links)}\n" for section, links in sections.items()]
    return "\n".join(["## All commands\n", *lines])


def _sections(command: click.Command, name: str, parent: click.Context, level: str) -> Iterator[str]:
    context = click.Context(
        command, info_name=name, parent=parent, max_content_width=_WIDTH, terminal_width=_WIDTH,
        help_option_names=["-h", "--help"],
    )  # fmt: skip
    yield f"{level} {context.command_path}\n"
    yield _block(command, name, parent)
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            found = command.get_command(context, inner)
            if found is not None and not found.hidden:
                yield from _sections(found, inner, context, level + "#")


def _block(command: click.Command, name: str, parent: click.Context | None) -> str:
    context = click.Context(
        command, info_name=name, parent=parent, max_content_width=_WIDTH, terminal_width=_WIDTH,
        help_option_names=["-h", "--help"],
    )  # fmt: skip
    return f"```text\n{command.get_help(context).rstrip()}\n```\n"


if __name__ == "__main__":
    sys.stdout.write(render())
