"""Sizes, rates and durations: read from text and printed. 1 KB is 1024 bytes, as in AWS."""

from __future__ import annotations

import re
import time

__all__ = [
    "GIB",
    "KIB",
    "MIB",
    "exact_size",
    "format_duration",
    "format_size",
    "parse_duration",
    "parse_moment",
    "parse_rate",
    "parse_size",
]

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30

_SIZE = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([kmgtpe]?)(?:i?b|bytes?)?", re.ASCII | re.IGNORECASE)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|[smhdw])\s*", re.ASCII | re.IGNORECASE)
_PLAIN = re.compile(r"\d+(?:\.\d*)?|\.\d+", re.ASCII)
_SHIFT = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50, "e": 60}
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_UNITS = ("B", "KB", "MB", "GB", "TB", "PB", "EB")
_MAX_SIZE = 1 << 63
_MAX_DURATION = 1e10


def parse_size(text: str) -> int:
    """Read a number of bytes: "123", "8MB", "8MiB", "1.5G"; raise ValueError on anything else."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"not a size: {text!r} (write for example 512KB, 8MB or 1.5GB)")
    number, unit = match.groups()
    scale = 1 << _SHIFT[unit.lower()]
    # A float would lose the last digits of large plain numbers.
    size = int(number) * scale if number.isdigit() else round(float(number) * scale)
    if size >= _MAX_SIZE:
        raise ValueError(f"too large a size: {text!r}")
    return size


def parse_rate(text: str) -> int:
    """Read bytes per second: as parse_size, with or without "/s"."""
    stripped = text.strip()
    for ending in ("/s", "/S", "ps", "Ps", "PS"):
        if stripped.endswith(ending):
            stripped = stripped[: -len(ending)]
            break
    try:
        return parse_size(stripped)
    except ValueError:
        raise ValueError(f"not a rate: {text!r} (write for example 500KB/s or 50MB/s)") from None


def parse_duration(text: str) -> float:
    """Read seconds: "90", "90s", "5m", "2h", "7d", also in a row as in "1h30m"."""
    stripped = text.strip()
    if _PLAIN.fullmatch(stripped):
        total = float(stripped)
    else:
        total, end = 0.0, 0
        while end < len(stripped):
            match = _DURATION.match(stripped, end)
            if match is None:
                break
            total += float(match[1]) * _SECONDS[match[2].lower()]
            end = match.end()
        if not stripped or end != len(stripped):
            raise ValueError(f"not a duration: {text!r} (write for example 90s, 5m, 2h or 7d)")
    if total > _MAX_DURATION:
        raise ValueError(f"too long a duration: {text!r}")
    return total


def parse_moment(text: str) -> float:
    """Read a point in time as Unix seconds: an age ("7d", "2h30m") or a date ("2026-01-31", ISO 8601).

    A date without an offset is in local time.
    """
    from datetime import datetime

    stripped = text.strip()
    try:
        return time.time() - parse_duration(stripped)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(stripped).timestamp()
    except (ValueError, OverflowError):
        example = "write for example 7d, 12h, 2026-01-31 or 2026-01-31T08:00:00Z"
        raise ValueError(f"neither an age nor a date: {text!r} ({example})") from None


def format_size(size: float) -> str:
    """Print bytes for people: "0 B", "1.2 KB", "3.0 GB"."""
    value = float(size)
    for unit in _UNITS:
        # 1023.95 would print as "1024.0": the next unit says it better.
        if abs(value) < 1023.95 or unit == _UNITS[-1]:
            return f"{int(value)} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("unreachable")


def exact_size(size: int) -> str:
    """Print bytes so that parse_size reads the same number: "8MB", "1000"."""
    unit = 0
    while size and size % 1024 == 0 and unit < len(_UNITS) - 1:
        size //= 1024
        unit += 1
    return f"{size}{_UNITS[unit]}" if unit else str(size)


def format_duration(seconds: float) -> str:
    """Print seconds for people: "12s", "3m 04s", "1h 02m", "2d 03h"."""
    whole = max(0, round(seconds))
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}d {hour:02d}h"
    if hours:
        return f"{hours}h {minute:02d}m"
    if minutes:
        return f"{minutes}m {second:02d}s"
    return f"{second}s"
