"""The date of HTTP headers, without the 10 ms that email.utils takes to load."""

from __future__ import annotations

from calendar import timegm
from functools import lru_cache

__all__ = ["parse_http_date"]

_NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTHS = {name: number for number, name in enumerate(_NAMES, 1)}


@lru_cache(maxsize=256)  # answers of one second say the same
def parse_http_date(text: str) -> float:
    """Return Unix seconds of "Sun, 06 Nov 1994 08:49:37 GMT", 0 if it is anything else."""
    try:
        _, day, month, year, clock, _ = text.split()
        hour, minute, second = clock.split(":")
        return float(
            timegm((int(year), _MONTHS[month], int(day), int(hour), int(minute), int(second), 0, 0, 0))
        )
    except (ValueError, KeyError):
        return 0.0
