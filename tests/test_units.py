from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosfs.units import exact_size, format_duration, format_size, parse_duration, parse_rate, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("123", 123),
        ("123B", 123),
        ("1K", 1024),
        ("1KB", 1024),
        ("1kib", 1024),
        ("8MB", 8 << 20),
        ("8MiB", 8 << 20),
        ("8 MB", 8 << 20),
        (" 8m ", 8 << 20),
        ("1.5G", 3 << 29),
        (".5KB", 512),
        ("2TB", 2 << 40),
        ("9007199254740993", 9007199254740993),
        ("10 bytes", 10),
    ],
)
def test_parse_size(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "MB", "-1", "1e3", "1,5MB", "8 M B", "8MBB", "nan", "inf", "0x10", "1ZB", "9E", "٣", "1\n2"]
)
def test_parse_size_refuses(text: str) -> None:
    with pytest.raises(ValueError, match=r"size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "rate"),
    [("50MB/s", 50 << 20), ("50MB", 50 << 20), ("100K/S", 102400), ("5MBps", 5 << 20), ("0", 0)],
)
def test_parse_rate(text: str, rate: int) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "/s", "5MB/m", "fast", "5MB//s"])
def test_parse_rate_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="rate"):
        parse_rate(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("0.5", 0.5),
        ("90s", 90),
        ("5m", 300),
        ("2h", 7200),
        ("7d", 604800),
        ("1w", 604800),
        ("1h30m", 5400),
        ("1H 30M", 5400),
        ("250ms", 0.25),
        (" 5 m ", 300),
    ],
)
def test_parse_duration(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "m", "-5", "5x", "5m6", "1e9", "nan", "inf", "5 minutes", "999999999999d", "٣"]
)
def test_parse_duration_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KB"),
        (1234567, "1.2 MB"),
        (1024 * 1024 - 1, "1.0 MB"),
        (5 << 30, "5.0 GB"),
        (1 << 62, "4.0 EB"),
        (1 << 80, "1048576.0 EB"),
        (-2048, "-2.0 KB"),
    ],
)
def test_format_size(size: int, text: str) -> None:
    assert format_size(size) == text


@given(st.integers(min_value=0, max_value=1 << 62))
def test_printed_size_is_read_again(size: int) -> None:
    assert abs(parse_size(format_size(size)) - size) <= max(1, size * 0.06)


@given(st.integers(min_value=0, max_value=1 << 62))
def test_exactly_printed_size_is_the_same(size: int) -> None:
    assert parse_size(exact_size(size)) == size


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (12.4, "12s"),
        (59.6, "1m 00s"),
        (184, "3m 04s"),
        (3720, "1h 02m"),
        (86400 * 2 + 3 * 3600, "2d 03h"),
        (-5, "0s"),
    ],
)
def test_format_duration(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
