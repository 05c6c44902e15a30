"""Windows over the entries of a directory."""

from __future__ import annotations

import random

from cosfs.fs.order import Order


def fetched(asked: list[int], most: int = 128, expected: int = 0) -> list[int]:
    """What is fetched ahead for somebody who asks for some entries."""
    order = Order()
    return [index for each in asked for index in order.passed(each, most, expected)]


def test_one_entry_fetches_nothing_ahead_and_the_second_a_few() -> None:
    order = Order()
    assert list(order.passed(100, 128)) == []
    assert list(order.passed(101, 128)) == [102, 103, 104, 105]


def test_the_window_doubles_while_entries_are_asked_for_in_order_and_none_is_fetched_twice() -> None:
    order, ahead = Order(), 0
    found = []
    for index in range(1000):
        found += order.passed(index, 128)
        assert order.reached <= index + 1 + 128
        ahead = max(ahead, order.reached - index - 1)
    assert found == list(range(2, order.reached))
    assert ahead == 128


def test_whoever_is_expected_to_ask_for_all_gets_them_from_the_first_on() -> None:
    assert fetched([0], expected=16) == list(range(1, 17))


def test_entries_asked_for_at_random_fetch_few_ahead() -> None:
    asked = list(range(1000))
    random.Random(1).shuffle(asked)
    assert len(fetched(asked)) < 100


def test_who_skips_more_than_he_asks_for_is_not_followed() -> None:
    assert len(fetched(list(range(0, 1000, 7)))) < 300
    assert len(fetched(list(range(0, 1000, 2)))) > 900


def test_somewhat_out_of_order_is_in_order() -> None:
    asked = [index ^ 3 for index in range(400)]
    assert sorted(fetched(asked))[-1] >= 400


def test_none_ahead_when_none_is_allowed() -> None:
    assert fetched(list(range(50)), most=0, expected=16) == []


def test_what_could_not_be_fetched_is_fetched_later() -> None:
    order = Order()
    order.passed(0, 128)
    order.passed(1, 128)
    order.cut(4)
    assert order.passed(2, 128).start == 4
