"""What Tab offers: files, buckets and keys; and the scripts that ask for it where click's own fall short."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
    split_arg_string,
)

if TYPE_CHECKING:
    import click

    from .state import State

_SCHEME = "cos://"
# Somebody waits at a prompt that does not move: rather nothing soon than everything late.
_HASTE = {"connect_timeout": 2.0, "read_timeout": 3.0, "max_retries": 0, "outage_timeout": 0.0}

# Bash ends a word at a colon, so the line is taken instead of its words, and of what is found only what
# takes the place of bash's last word goes back. What ends in / may be gone on with: no space follows it.
_BASH = """\
%(complete_func)s() {
    local kind value
    COMPREPLY=()
    while IFS=, read -r kind value; do
        case $kind in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain)
                COMPREPLY+=("$value")
                [[ $value == */* && $value != cos://* ]] && compopt -o filenames
                [[ $value == */ ]] && compopt -o nospace
                ;;
        esac
    done < <(COS_LINE=${COMP_LINE:0:COMP_POINT} COS_WORD=${COMP_WORDS[COMP_CWORD]} \
        %(complete_var)s=bash_complete "$1" 2>/dev/null)
}
complete -o nosort -o default -F %(complete_func)s %(prog_name)s
"""
_ZSH_PLAIN = "        compadd -U -V unsorted -a completions\n"
_ZSH_OPEN = """\
        compadd -U -V unsorted -S '' -- ${(M)completions:#*/}
        compadd -U -V unsorted -- ${completions:#*/}
"""


class Bash(BashComplete):
    """Bash, which cuts words at colons."""

    source_template = _BASH
    _kept = ""  # what is in front of bash's last word

    def get_completion_args(self) -> tuple[list[str], str]:
        line = os.environ.get("COS_LINE")
        if line is None:
            return super().get_completion_args()  # the script that click makes
        words = split_arg_string(line)[1:]
        last = "".join(split_arg_string(os.environ.get("COS_WORD", "")))
        incomplete = words.pop() if words and last else ""
        replaced = (
            0 if last in (":", "=") else len(last)
        )  # such a word is the break, and an empty one follows
        self._kept = incomplete[: max(0, len(incomplete) - replaced)]
        return words, incomplete

    def format_completion(self, item: CompletionItem[Any]) -> str:
        return f"{item.type},{item.value.removeprefix(self._kept)}"


class Zsh(ZshComplete):
    """Zsh, with no space behind what ends in /."""

    source_template = ZshComplete.source_template.replace(_ZSH_PLAIN, _ZSH_OPEN)


KINDS: dict[str, type[ShellComplete]] = {"bash": Bash, "zsh": Zsh, "fish": FishComplete}


def register() -> None:
    """Have click answer with these."""
    for kind in KINDS.values():
        add_completion_class(kind)


def places(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Offer what is in COS for a cos:// URL, else files."""
    if incomplete.startswith(_SCHEME):
        return urls(ctx, param, incomplete)
    return [CompletionItem(incomplete, type="file")]


def urls(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Offer buckets, or what is below a prefix to the next slash; nothing if COS cannot be asked."""
    if not incomplete.startswith(_SCHEME):
        return [CompletionItem(_SCHEME)] if _SCHEME.startswith(incomplete) else []
    bucket, slash, key = incomplete.removeprefix(_SCHEME).partition("/")
    state: State = ctx.find_root().obj
    find: Callable[[], Iterator[str]]
    if slash:
        find = lambda: (f"{_SCHEME}{bucket}/{name}" for name in _keys(state, bucket, key))  # noqa: E731
    else:
        find = lambda: (f"{_SCHEME}{name}/" for name in _buckets(state, bucket))  # noqa: E731
    # Whatever is wrong, this is not the moment to tell of it: the command itself will.
    with suppress(Exception):
        return [CompletionItem(name) for name in find() if name.isprintable()]
    return []


def _in_haste(state: State) -> State:
    import logging

    logging.disable()
    state.may_ask = False
    state.out.quiet = True
    state.options = {**_HASTE, **state.options}
    return state


def _buckets(state: State, start: str) -> Iterator[str]:
    for bucket in _in_haste(state).client.list_buckets():
        if bucket.name.startswith(start):
            yield bucket.name


def _keys(state: State, bucket: str, start: str) -> Iterator[str]:
    client = _in_haste(state).client
    page = client.list_objects(client.resolve_bucket(bucket), prefix=start, delimiter="/")
    yield from page.prefixes
    yield from (item.key for item in page.objects if item.key != start)
