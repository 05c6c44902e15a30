"""Whole numbers as clients write them."""

from __future__ import annotations

_MOST_DIGITS = 18  # fits into a column of SQLite; int() raises for some thousands


def whole(text: str) -> int | None:
    """Read a whole number of plain digits, None if it is none: int() also takes blanks, signs and `_`."""
    # isdigit alone is true for characters that int() refuses.
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS else None
