"""Half-open byte ranges, and the block and part arithmetic of files. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import isqrt
from typing import Literal

__all__ = [
    "MAX_COPY",
    "MAX_PARTS",
    "MIN_PART",
    "Extents",
    "PartPlan",
    "block_range",
    "plan_parts",
    "plan_rest",
]

MIN_PART = 1 << 20  # bytes; what COS demands of every part but the last
MAX_COPY = 5 << 30  # bytes; the most one part can be, sent or copied
MAX_PARTS = 10_000


class Extents:
    """A set of bytes kept as sorted, disjoint ranges that never touch.

    Ranges are half-open and not negative; an empty one (start >= stop) changes nothing and is
    always covered. Appending costs O(1), anything else O(log n) and a move within two lists.
    """

    __slots__ = ("_starts", "_stops")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        for start, stop in ranges:
            self.add(start, stop)

    def add(self, start: int, stop: int) -> None:
        """Put in all bytes of a range."""
        if start >= stop:
            return
        starts, stops = self._starts, self._stops
        if not stops or start > stops[-1]:
            starts.append(start)
            stops.append(stop)
            return
        if start >= starts[-1]:  # the usual case: the last range grows
            stops[-1] = max(stop, stops[-1])
            return
        first = bisect_left(stops, start)  # ranges that only touch are joined
        last = bisect_right(starts, stop)
        if first < last:
            start = min(start, starts[first])
            stop = max(stop, stops[last - 1])
        starts[first:last] = [start]
        stops[first:last] = [stop]

    def cut(self, start: int, stop: int) -> None:
        """Take out all bytes of a range."""
        if start >= stop:
            return
        first, last = self._touched(start, stop)
        if first >= last:
            return
        left, right = self._starts[first], self._stops[last - 1]
        starts: list[int] = []
        stops: list[int] = []
        if left < start:
            starts.append(left)
            stops.append(start)
        if right > stop:
            starts.append(stop)
            stops.append(right)
        self._starts[first:last] = starts
        self._stops[first:last] = stops

    def truncate(self, size: int) -> None:
        """Take out all bytes from size on."""
        self.cut(size, max(size, self.end))

    def covers(self, start: int, stop: int) -> bool:
        """Whether every byte of a range is in."""
        if start >= stop:
            return True
        index = bisect_right(self._starts, start) - 1
        return index >= 0 and stop <= self._stops[index]

    def missing(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Return the parts of a range that are not in."""
        gaps = []
        for left, right in self.overlap(start, stop):
            if start < left:
                gaps.append((start, left))
            start = right
        if start < stop:
            gaps.append((start, stop))
        return gaps

    def overlap(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Return the parts of a range that are in."""
        if start >= stop:
            return []
        first, last = self._touched(start, stop)
        found = list(zip(self._starts[first:last], self._stops[first:last], strict=True))
        if found:
            found[0] = (max(start, found[0][0]), found[0][1])
            found[-1] = (found[-1][0], min(stop, found[-1][1]))
        return found

    def copy(self) -> Extents:
        """Return an independent copy."""
        other = Extents()
        other._starts = self._starts.copy()
        other._stops = self._stops.copy()
        return other

    def clear(self) -> None:
        """Take out everything."""
        self._starts.clear()
        self._stops.clear()

    @property
    def end(self) -> int:
        """The byte after the last one that is in, 0 when nothing is."""
        return self._stops[-1] if self._stops else 0

    @property
    def total(self) -> int:
        """How many bytes are in."""
        return sum(self._stops) - sum(self._starts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield the ranges as they are now, in order."""
        return iter(list(zip(self._starts, self._stops, strict=True)))

    def __len__(self) -> int:
        """How many ranges there are."""
        return len(self._starts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Extents):
            return NotImplemented
        return self._starts == other._starts and self._stops == other._stops

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"Extents({list(self)})"

    def _touched(self, start: int, stop: int) -> tuple[int, int]:
        """Return the slice of ranges that share a byte with start..stop."""
        return bisect_right(self._stops, start), bisect_left(self._starts, stop)


def block_range(offset: int, length: int, block_size: int) -> range:
    """Return the numbers of the blocks that hold length bytes from offset."""
    if length <= 0:
        return range(0)
    return range(offset // block_size, (offset + length - 1) // block_size + 1)


@dataclass(frozen=True, slots=True)
class PartPlan:
    """One part of a multipart upload: bytes start..stop of the new object.

    "copy" parts are the same bytes of the old object, copied by the server; "zeros" are made there as well.
    """

    number: int
    start: int
    stop: int
    source: Literal["copy", "send", "zeros"]


Run = tuple[int, int, Literal["copy", "send", "zeros"]]
HOLE_MIN = 4  # pieces; shorter holes are sent
ONE_LEVEL = 16  # pieces; longer holes are copied from something longer than a piece


def plan_parts(
    size: int,
    dirty: Extents,
    base_size: int,
    part_size: int,
    *,
    align: int = 1,
    min_part: int = MIN_PART,
    max_copy: int = MAX_COPY,
    max_parts: int = MAX_PARTS,
    zeros: int = 0,
) -> list[PartPlan]:
    """Plan how to write an object of size bytes, of which only the dirty ones differ from the old one.

    Bytes from base_size on are sent, dirty or not: short holes as zeros, longer ones are "zeros" parts if
    the length of a piece of zeros is given. Every part but the last
    has at least min_part bytes, so clean bytes beside a short dirty range go with it: fewer than
    2 * min_part of them for each dirty range, unless that would need more than max_parts parts. They
    are of as few blocks of align bytes as can be: each that is not here has to be fetched.
    No part is longer than max_copy if part_size is at most half of it. Empty for size 0.
    """
    changed = dirty.copy()
    changed.add(min(base_size, size), size)
    holes = _holes(dirty, base_size, size, min_part, zeros) if zeros else []
    for start, stop in holes:
        changed.cut(start, stop)
    changed.truncate(size)
    limits = {"copy": max_copy, "zeros": _hole_part(holes, zeros, max_copy)}
    least = min_part
    while True:
        runs = _plan_runs(size, _widened(changed, size, least, align), least, base_size)
        made = sum(-(-(stop - start) // limits[how]) for start, stop, how in runs if how != "send")
        sends = [stop - start for start, stop, how in runs if how == "send"]
        spare = max_parts - made - len(sends)
        # Longer sent parts cost nothing but leave some numbers spare; else more clean bytes are sent.
        if spare > min(max_parts // 20, sum(sends) // part_size) or least > size:
            break
        least *= 2
    limits["send"] = max(part_size, least, -(-sum(sends) // max(spare, 1)))
    return _number_parts(runs, least, limits)


def _holes(dirty: Extents, base_size: int, size: int, least: int, piece: int) -> list[tuple[int, int]]:
    """Return the ranges that are in no object and were not written, if they are long."""
    holes = []
    for start, stop in dirty.missing(base_size, size):
        if start == base_size and start:
            start += least  # what lies between two parts that COS makes has to be long enough for one
        if stop - start >= HOLE_MIN * piece:
            holes.append((start, stop))
    return holes


def _hole_part(holes: list[tuple[int, int]], piece: int, max_copy: int) -> int:
    """Return how long parts of zeros are: so that making the zeros and copying them takes few requests."""
    total = sum(stop - start for start, stop in holes)
    if total <= ONE_LEVEL * piece:
        return max(piece, 1)
    return min(isqrt(total * piece) // piece * piece, max_copy)


def _widened(changed: Extents, size: int, least: int, align: int) -> Extents:
    """Add clean bytes to ranges that are too short for a part, from the blocks that they touch."""
    groups: list[tuple[int, int]] = []  # of ranges with nothing in between that could be a part
    parts: list[tuple[int, int]] = []  # the same with the bytes around them
    for start, stop in changed:
        left, right = _window(start, stop, size, least, align)
        while groups and left < parts[-1][1] + least and left != parts[-1][1]:
            start = groups.pop()[0]
            parts.pop()
            left, right = _window(start, stop, size, least, align)
        groups.append((start, stop))
        parts.append((left, right))
    return Extents(parts)


def _window(start: int, stop: int, size: int, least: int, align: int) -> tuple[int, int]:
    """Return a range of at least `least` bytes around start..stop in as few blocks as can be."""
    if stop - start >= least:
        return start, stop
    if start + least >= size:
        return start, size  # the last part may be short
    first, end = start // align * align, -(-stop // align) * align
    left = max(first, min(start + least, end) - least)
    return left, min(left + least, size)


def _plan_runs(size: int, changed: Extents, least: int, base_size: int) -> list[Run]:
    """Split 0..size into runs, none but the last shorter than `least`; every other one is sent."""
    made = [
        (start, stop)
        for start, stop in changed.missing(0, size)
        # A short tail is sent along: COS promises copies of 1 MiB and more only.
        if stop - start >= least or stop - start == size
    ]
    runs: list[Run] = []
    position = 0
    for start, stop in made:
        if position < start:
            runs.append((position, start, "send"))
        runs.append((start, stop, "copy" if start < base_size else "zeros"))
        position = stop
    if position < size:
        runs.append((position, size, "send"))
    return runs


def _number_parts(runs: Iterable[Run], least: int, limits: Mapping[str, int]) -> list[PartPlan]:
    parts: list[PartPlan] = []
    for start, stop, how in runs:
        length = stop - start
        # Equal pieces: none is shorter than least, as one left over at the end could be.
        count = -(-length // limits[how])
        count = max(1, min(count, length // least))
        cuts = [start + length * index // count for index in range(count + 1)]
        for left, right in pairwise(cuts):
            parts.append(PartPlan(len(parts) + 1, left, right, how))
    return parts


def plan_rest(
    first: int, start: int, size: int, dirty: Extents, part_size: int, *, max_copy: int, zeros: int
) -> list[PartPlan]:
    """Plan the parts, from number first on, of the bytes from start on of an object that has no old one."""
    rest = Extents((left - start, right - start) for left, right in dirty.overlap(start, size))
    plan = plan_parts(
        size - start, rest, 0, part_size, max_copy=max_copy, max_parts=MAX_PARTS + 1 - first, zeros=zeros
    )
    return [
        PartPlan(part.number + first - 1, part.start + start, part.stop + start, part.source) for part in plan
    ]
