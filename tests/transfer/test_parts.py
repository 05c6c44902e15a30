"""Part sizes, ranges, checksums of parts."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosfs.client.crc64 import crc64
from cosfs.errors import TooLargeError
from cosfs.transfer.parts import (
    MAX_OBJECT_SIZE,
    MAX_PART_SIZE,
    MAX_PARTS,
    combine_crc64,
    part_count,
    part_ranges,
    part_size,
    stream_part_size,
)
from cosfs.units import GIB, MIB


@pytest.mark.parametrize(
    ("size", "configured", "expected"),
    [
        (0, 8 * MIB, 8 * MIB),
        (20 * MIB, 8 * MIB, 8 * MIB),
        (20 * MIB, 1, MIB),
        (9_500 * 8 * MIB, 8 * MIB, 8 * MIB),
        (9_500 * 8 * MIB + 1, 8 * MIB, 9 * MIB),
        (100 * GIB, 8 * MIB, 11 * MIB),
        (MAX_OBJECT_SIZE, 8 * MIB, MAX_PART_SIZE),
        (GIB, 6 * GIB, 5 * GIB),
    ],
)
def test_part_size(size: int, configured: int, expected: int) -> None:
    assert part_size(size, configured) == expected


@given(st.integers(0, MAX_OBJECT_SIZE), st.integers(0, 6 * GIB))
def test_every_size_fits_into_ten_thousand_parts(size: int, configured: int) -> None:
    length = part_size(size, configured)
    assert MIB <= length <= MAX_PART_SIZE
    assert part_count(size, length) <= MAX_PARTS


def test_more_than_an_object_can_have_is_refused() -> None:
    with pytest.raises(TooLargeError):
        part_size(MAX_OBJECT_SIZE + 1, 8 * MIB)


@given(st.integers(0, 300), st.integers(1, 40))
def test_ranges_cover_the_object_once(size: int, length: int) -> None:
    pieces = list(part_ranges(size, length))
    assert [number for number, _, _ in pieces] == list(range(1, len(pieces) + 1))
    assert pieces[0][1] == 0
    assert pieces[-1][2] == size
    assert all(a[2] == b[1] for a, b in itertools.pairwise(pieces))
    assert all(stop - start == length for _, start, stop in pieces[:-1])


def test_parts_of_a_stream_grow() -> None:
    sizes = [stream_part_size(number, 8 * MIB) for number in range(1, MAX_PARTS + 1)]
    assert sizes[0] == sizes[999] == 8 * MIB
    assert sizes[1000] == 16 * MIB
    assert sizes[-1] == 512 * MIB
    assert sizes == sorted(sizes)
    assert sum(sizes) > 2_000 * GIB


def test_expected_size_of_a_stream_sets_its_parts() -> None:
    assert stream_part_size(1, 8 * MIB, 100 * GIB) == 11 * MIB


@given(st.lists(st.binary(max_size=50)))
def test_combined_checksum_is_that_of_the_whole(pieces: list[bytes]) -> None:
    assert combine_crc64((crc64(piece), len(piece)) for piece in pieces) == crc64(b"".join(pieces))


def test_combined_checksum_of_real_parts() -> None:
    data = random.Random(1).randbytes(3 * MIB + 12345)
    pieces = [data[start : start + MIB] for start in range(0, len(data), MIB)]
    assert combine_crc64((crc64(piece), len(piece)) for piece in pieces) == crc64(data)
