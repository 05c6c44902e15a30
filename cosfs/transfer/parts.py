"""Part sizes and ranges of large transfers. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cosfs.client.crc64 import crc64_combine
from cosfs.errors import TooLargeError
from cosfs.units import GIB, MIB

__all__ = [
    "MAX_OBJECT_SIZE",
    "MAX_PARTS",
    "MAX_PART_SIZE",
    "MIN_PART_SIZE",
    "combine_crc64",
    "part_count",
    "part_range",
    "part_ranges",
    "part_size",
    "stream_part_size",
]

MIN_PART_SIZE = 1 * MIB
MAX_PART_SIZE = 5 * GIB
MAX_PARTS = 10_000
MAX_OBJECT_SIZE = MAX_PARTS * MAX_PART_SIZE

# Aimed at instead of MAX_PARTS, so that a file that grows a little still fits.
_TARGET_PARTS = 9_500

# A stream of unknown length begins with parts of the configured size, doubled after so many
# parts and up to this: about 2.4 TiB for 8 MiB, while a short stream needs little memory.
_PARTS_PER_STEP = 1_000
_MAX_STREAM_PART_SIZE = 512 * MIB


def part_size(size: int, configured: int) -> int:
    """Return the size of each part but the last for an object of size bytes.

    At least 1 MiB and what was configured, whole MiB where the number of parts asks for more.
    Raises TooLargeError over the limit of an object.
    """
    if size > MAX_OBJECT_SIZE:
        raise TooLargeError(f"{size} bytes are more than an object can have ({MAX_OBJECT_SIZE})")
    needed = -(-size // _TARGET_PARTS)
    fitted = -(-needed // MIB) * MIB
    return min(max(configured, MIN_PART_SIZE, fitted), MAX_PART_SIZE)


def part_count(size: int, length: int) -> int:
    """Return into how many parts of length bytes size bytes are cut; 1 for an empty object."""
    return max(1, -(-size // length))


def part_range(number: int, size: int, length: int) -> tuple[int, int]:
    """Return the half-open range of part number (from 1) of an object of size bytes."""
    start = (number - 1) * length
    return start, min(start + length, size)


def part_ranges(size: int, length: int) -> Iterator[tuple[int, int, int]]:
    """Yield (number, start, stop) of every part, numbers from 1."""
    for number in range(1, part_count(size, length) + 1):
        yield (number, *part_range(number, size, length))


def stream_part_size(number: int, first: int, expected_size: int = 0) -> int:
    """Return the size of part number of a stream whose length is not known.

    first is the size of part 1; expected_size, when given, is what the user thinks it will be:
    a stream that turns out longer still fits, because the parts grow in either case.
    """
    grown = first << min((number - 1) // _PARTS_PER_STEP, 20)
    return max(min(grown, max(_MAX_STREAM_PART_SIZE, first)), part_size(expected_size, first))


def combine_crc64(pieces: Iterable[tuple[int, int]]) -> int:
    """Return the CRC of consecutive pieces given as (crc64, length)."""
    whole = 0
    for crc, length in pieces:
        whole = crc64_combine(whole, crc, length)
    return whole
