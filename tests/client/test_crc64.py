"""CRC-64/XZ, by each of the ways it can be computed here."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosfs.client import crc64 as module
from cosfs.client.crc64 import crc64, crc64_combine

ISAL = {"isal": module._isal} if module._isal() is not None else {}
WAYS = ISAL | {"liblzma": module._liblzma, "crcmod": module._crcmod, "python": module._python}


@pytest.mark.parametrize("way", WAYS)
def test_published_values(way: str) -> None:
    crc = WAYS[way]()
    assert crc is not None
    assert crc(b"123456789", 0) == 11051210869376104954
    assert crc(b"[Object Content]", 0) == 16749565679157681890
    assert crc(b"[Object Part]", 0) == 4510578591875220731
    assert crc(b"", 0) == 0
    assert crc(b"6789", crc(b"12345", 0)) == 11051210869376104954


def test_the_fast_way_is_taken_here() -> None:
    assert module._liblzma() is not None
    assert module._crc.__qualname__ == "_of_memory.<locals>.crc"


@given(st.binary(max_size=3000), st.integers(0, 2**64 - 1), st.integers(0, 70))
def test_the_fast_way_agrees_wherever_the_bytes_lie(data: bytes, before: int, skipped: int) -> None:
    view = memoryview(bytearray(data))[skipped:]
    assert crc64(view, before) == module._python()(view, before)


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview, lambda b: memoryview(bytearray(b))])
def test_every_kind_of_buffer(wrap: type[bytes]) -> None:
    data = random.randbytes(1000)
    expected = module._python()(data, 0)
    assert crc64(wrap(data)) == expected
    assert crc64(wrap(data)[100:900]) == module._python()(data[100:900], 0)
    assert crc64(wrap(b"")) == 0


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_combined_is_that_of_the_whole(first: bytes, second: bytes) -> None:
    assert crc64_combine(crc64(first), crc64(second), len(second)) == crc64(first + second)


def test_combining_many_parts_in_order() -> None:
    data = random.randbytes(100_003)
    total = 0
    for start in range(0, len(data), 8192):
        part = data[start : start + 8192]
        total = crc64_combine(total, crc64(part), len(part))
    assert total == crc64(data)


def test_combining_long_pieces_of_zeros() -> None:
    # 2 GiB of zeros behind a piece, by doubling: no need to hold them.
    zeros, length = crc64(b"\0"), 1
    while length < 1 << 31:
        zeros, length = crc64_combine(zeros, zeros, length), length * 2
    chunked = 0
    for _ in range(1 << 5):
        chunked = crc64(bytes(1 << 20), chunked)
    small, length = crc64(b"\0"), 1
    while length < 1 << 25:
        small, length = crc64_combine(small, small, length), length * 2
    assert small == chunked
    assert zeros != small


def test_combining_is_quick() -> None:
    best = min(_time_of_combining() for _ in range(5))
    assert best < 1e-3  # of the processor; 55 us where this was written, and 1,700 bit by bit


def _time_of_combining() -> float:
    rounds = 50
    lengths = [random.randrange(1 << 40) for _ in range(rounds)]
    started = time.thread_time()
    for length in lengths:
        crc64_combine(1234567890123456789, 9876543210987654321, length)
    return (time.thread_time() - started) / rounds
