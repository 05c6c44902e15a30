from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cosfs.fs.extents import Extents, PartPlan, block_range, plan_parts

relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

_SPAN = 40
_ranges = st.tuples(st.integers(0, _SPAN), st.integers(0, _SPAN))
_steps = st.lists(st.tuples(st.sampled_from(["add", "add", "cut", "truncate"]), _ranges), max_size=25)


def as_ranges(members: set[int]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for member in sorted(members):
        if found and found[-1][1] == member:
            found[-1] = (found[-1][0], member + 1)
        else:
            found.append((member, member + 1))
    return found


@relaxed
@given(_steps, _ranges)
def test_behaves_like_a_set_of_bytes(
    steps: list[tuple[str, tuple[int, int]]], asked: tuple[int, int]
) -> None:
    extents, model = Extents(), set[int]()
    for step, (start, stop) in steps:
        if step == "add":
            extents.add(start, stop)
            model |= set(range(start, stop))
        elif step == "cut":
            extents.cut(start, stop)
            model -= set(range(start, stop))
        else:
            extents.truncate(start)
            model -= set(range(start, _SPAN))
        assert list(extents) == as_ranges(model)
    wanted = set(range(*asked))
    assert extents.covers(*asked) == (wanted <= model)
    assert extents.overlap(*asked) == as_ranges(wanted & model)
    assert extents.missing(*asked) == as_ranges(wanted - model)
    assert len(extents) == len(as_ranges(model))
    assert extents.total == len(model)
    assert extents.end == max(model, default=-1) + 1
    assert extents == Extents(as_ranges(model))


def test_a_copy_is_independent() -> None:
    extents = Extents([(0, 5)])
    other = extents.copy()
    other.add(7, 9)
    extents.clear()
    assert (list(extents), list(other)) == ([], [(0, 5), (7, 9)])
    assert not extents and other


def test_appending_and_random_writes_are_fast() -> None:
    extents = Extents()
    started = time.process_time()
    for offset in range(0, 100_000 * 2, 2):
        extents.add(offset, offset + 1)  # the worst case: nothing ever merges
    for index in range(20_000):
        extents.covers(index * 7919 % 200_000, index * 7919 % 200_000 + 1)
    assert len(extents) == 100_000
    assert time.process_time() - started < 2


@pytest.mark.parametrize(
    ("offset", "length", "blocks"),
    [(0, 0, []), (5, 0, []), (0, 1, [0]), (0, 8, [0]), (7, 2, [0, 1]), (8, 8, [1]), (15, 10, [1, 2, 3])],
)
def test_block_range(offset: int, length: int, blocks: list[int]) -> None:
    assert list(block_range(offset, length, 8)) == blocks


def check_plan(
    plan: list[PartPlan], size: int, dirty: Extents, base_size: int, min_part: int, max_copy: int
) -> int:
    """Check what must always hold; return how many clean bytes are sent."""
    assert [part.number for part in plan] == list(range(1, len(plan) + 1))
    assert [(part.start, part.stop) for part in plan] == list(
        pairwise([0, *(part.stop for part in plan)] if plan else [])
    )
    assert (plan[-1].stop if plan else 0) == size
    for part in plan:
        assert part.start < part.stop
        assert part.stop - part.start >= min_part or part is plan[-1]
        assert part.stop - part.start <= max_copy
        if part.source == "copy":
            assert part.stop <= base_size
            assert not dirty.overlap(part.start, part.stop)
    changed = dirty.copy()
    changed.add(min(base_size, size), size)
    sent = [part for part in plan if part.source == "send"]
    return sum(stop - start for part in sent for start, stop in changed.missing(part.start, part.stop))


@relaxed
@given(
    size=st.integers(0, 400),
    ranges=st.lists(st.tuples(st.integers(0, 420), st.integers(1, 60)), max_size=8),
    base_size=st.integers(0, 420),
    min_part=st.integers(1, 12),
    part_factor=st.integers(1, 4),
    copy_factor=st.integers(2, 6),
    align=st.integers(1, 40),
)
@example(100, [(45, 1)], 100, 10, 1, 6, 1)
@example(30, [(14, 1)], 30, 10, 1, 6, 1)
@example(29, [(14, 1)], 29, 10, 1, 6, 1)
@example(100, [(45, 1), (68, 1)], 100, 10, 1, 6, 16)
def test_plan_writes_every_byte_once_from_where_it_is(
    size: int,
    ranges: list[tuple[int, int]],
    base_size: int,
    min_part: int,
    part_factor: int,
    copy_factor: int,
    align: int,
) -> None:
    dirty = Extents((start, start + length) for start, length in ranges)
    part_size = min_part * part_factor
    max_copy = part_size * copy_factor
    plan = plan_parts(size, dirty, base_size, part_size, align=align, min_part=min_part, max_copy=max_copy)
    clean_sent = check_plan(plan, size, dirty, base_size, min_part, max_copy)
    changed = dirty.copy()
    changed.add(min(base_size, size), size)
    changed.truncate(size)
    assert clean_sent <= (2 * min_part - 1) * len(changed)
    assert sum(part.source == "copy" for part in plan) <= len(changed) + 1 + size // max_copy
    # No more parts than the bytes need: sent parts are full or as short as the minimum.
    assert len(plan) <= size / part_size * 2 + 2 * len(changed) + 1 + size // max_copy


@relaxed
@given(
    size=st.integers(0, 3000),
    ranges=st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 9)), max_size=60),
    max_parts=st.integers(4, 40),
)
def test_plan_never_needs_too_many_parts(size: int, ranges: list[tuple[int, int]], max_parts: int) -> None:
    dirty = Extents((start, start + length) for start, length in ranges)
    plan = plan_parts(size, dirty, size, 10, min_part=5, max_copy=3000, max_parts=max_parts)
    check_plan(plan, size, dirty, size, 5, 3000)
    assert len(plan) <= max_parts


def describe(plan: list[PartPlan]) -> str:
    return " ".join(f"{part.source[0]}{part.start}-{part.stop}" for part in plan)


@pytest.mark.parametrize(
    ("size", "ranges", "base_size", "expected"),
    [
        (0, [], 100, ""),
        (100, [], 100, "c0-100"),
        (60, [], 100, "c0-60"),
        (5, [], 100, "c0-5"),
        (130, [], 100, "c0-100 s100-115 s115-130"),  # appended or a hole
        (101, [], 100, "c0-100 s100-101"),
        (100, [(50, 51)], 100, "c0-50 s50-60 c60-100"),
        (100, [(0, 1)], 100, "s0-10 c10-100"),
        (100, [(99, 100)], 100, "c0-99 s99-100"),
        (100, [(89, 92)], 100, "c0-89 s89-100"),  # the tail is too short to be copied
        (100, [(5, 30)], 100, "s0-15 s15-30 c30-100"),
        (100, [(40, 50), (59, 69)], 100, "c0-40 s40-54 s54-69 c69-100"),
        (100, [(40, 50), (60, 70)], 100, "c0-40 s40-50 c50-60 s60-70 c70-100"),
        (100, [(40, 41), (51, 61)], 100, "c0-40 s40-50 s50-61 c61-100"),
        (100, [(0, 100)], 100, "s0-20 s20-40 s40-60 s60-80 s80-100"),
    ],
)
def test_plans(size: int, ranges: list[tuple[int, int]], base_size: int, expected: str) -> None:
    assert describe(plan_parts(size, Extents(ranges), base_size, 20, min_part=10, max_copy=100)) == expected


def test_what_is_appended_takes_nothing_along() -> None:
    plan = plan_parts(104, Extents(), 97, 20, align=10, min_part=10, max_copy=100)
    assert describe(plan) == "c0-97 s97-104"


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [
        ([(40, 41)], "c0-40 s40-50 c50-100"),  # its block begins there
        ([(45, 46)], "c0-40 s40-50 c50-100"),
        ([(49, 50)], "c0-40 s40-50 c50-100"),
        ([(49, 51)], "c0-49 s49-59 c59-100"),  # of the block before nothing is needed
        ([(41, 42), (48, 49)], "c0-40 s40-50 c50-100"),
        ([(3, 4)], "s0-10 c10-100"),
        ([(97, 98)], "c0-97 s97-100"),
        ([(45, 46), (56, 57)], "c0-40 s40-60 c60-100"),
        ([(45, 46), (65, 66)], "c0-40 s40-50 c50-60 s60-70 c70-100"),
        ([(41, 59)], "c0-41 s41-59 c59-100"),  # enough for a part
    ],
)
def test_a_part_is_of_one_block_where_it_can_be(ranges: list[tuple[int, int]], expected: str) -> None:
    plan = plan_parts(100, Extents(ranges), 100, 20, align=10, min_part=10, max_copy=100)
    assert describe(plan) == expected


def test_plan_at_real_sizes() -> None:
    gib = 1 << 30
    size = 40_000 * gib
    plan = plan_parts(size, Extents([(7, 8), (size - 1, size)]), size, 8 << 20)
    assert check_plan(plan, size, Extents([(7, 8), (size - 1, size)]), size, 1 << 20, 5 * gib) < 1 << 21
    assert len(plan) == 8002
    whole = plan_parts(size, Extents(), 0, 8 << 20)
    assert len(whole) <= 10_000
    assert max(part.stop - part.start for part in whole) <= 5 * gib
    started = time.process_time()
    scattered = Extents((offset, offset + 4096) for offset in range(0, 100 * gib, 4 << 20))
    assert len(plan_parts(100 * gib, scattered, 100 * gib, 8 << 20)) <= 10_000
    assert time.process_time() - started < 2
