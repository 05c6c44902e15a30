"""The words of an expression of SELECT: numbers, texts in quotes, names and signs."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cosfs.emulator.errors import CosError

_TOKEN = re.compile(
    r"""\s*(?:(?P<number>[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|\.[0-9]+)
    |(?P<text>'(?:[^']|'')*')
    |(?P<quoted>"(?:[^"]|"")*")
    |(?P<name>[^\W\d][\w$]*)
    |(?P<sign><>|!=|<=|>=|\|\||[-+*/%=<>(),.\[\]])
    |(?P<end>\Z))""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Token:
    """One word and where it begins. kind is number, text, quoted, name, sign or end."""

    kind: str
    value: str
    position: int

    @property
    def word(self) -> str:
        """Return a keyword in upper case, empty for anything else."""
        return self.value.upper() if self.kind == "name" else ""


def tokens(expression: str) -> list[Token]:
    """Take an expression apart; the last token is its end."""
    found, position = [], 0
    while True:
        match = _TOKEN.match(expression, position)
        if match is None:
            raise CosError(
                "LexerInvalidChar", f"The expression cannot be read from character {position + 1} on."
            )
        kind = match.lastgroup or ""
        found.append(Token(kind, match[kind], match.start(kind)))
        if kind == "end":
            return found
        position = match.end()


def unquoted(token: Token) -> str:
    """Return the name that a token is."""
    return token.value[1:-1].replace('""', '"') if token.kind == "quoted" else token.value


def string(value: str) -> str:
    """Return a text without its quotes."""
    return value[1:-1].replace("''", "'")
