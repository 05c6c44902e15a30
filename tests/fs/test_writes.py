"""What is remembered of our own writes."""

from __future__ import annotations

import trio
import trio.testing

from cosfs.fs.writes import Writes


async def test_a_key_counts_as_written_for_what_was_asked_before(
    autojump_clock: trio.testing.MockClock,
) -> None:
    writes = Writes()
    before = trio.current_time()
    await trio.sleep(1)
    writes.note("b", "x/y/z")
    await trio.sleep(1)
    after = trio.current_time()
    assert writes.wrote("b", "x/y/z", before)
    assert not writes.wrote("b", "x/y/z", after)
    assert not writes.wrote("b", "x/y", before)
    assert not writes.wrote("other", "x/y/z", before)
    assert [writes.wrote_below("b", prefix, before) for prefix in ("x/", "x/y/", "x/z/")] == [
        True,
        True,
        False,
    ]
    assert not writes.wrote_below("b", "x/", after)


async def test_the_object_of_a_directory_is_part_of_it(autojump_clock: trio.testing.MockClock) -> None:
    writes = Writes()
    writes.note("b", "x/y/")
    assert writes.wrote("b", "x/y/", trio.current_time())
    assert writes.wrote_below("b", "x/y/", trio.current_time())


async def test_what_is_no_longer_remembered_may_have_been_written(
    autojump_clock: trio.testing.MockClock,
) -> None:
    writes = Writes(kept=2)
    before = trio.current_time()
    for number in range(3):
        await trio.sleep(1)
        writes.note("b", str(number))
    assert writes.wrote("b", "anything", before)
    assert not writes.wrote("b", "anything", before + 1.5)
    assert writes.wrote("b", "1", before + 1.5)
    writes.note_everything()
    assert writes.wrote("b", "anything", trio.current_time())
    assert writes.wrote_below("b", "any/", trio.current_time())
