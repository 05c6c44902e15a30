"""`cosfs.records.dataclass` does what the standard library's does."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from dataclasses import field
from typing import Any

import pytest

from cosfs import records

Decorator = Callable[..., Any]
BOTH = pytest.mark.parametrize(
    "dataclass", [records.dataclass, dataclasses.dataclass], ids=["ours", "stdlib"]
)
SLOTS = pytest.mark.parametrize("slots", [False, True], ids=["dict", "slots"])


@records.dataclass(frozen=True, slots=True)
class Kept:
    """One that can be imported."""

    name: str
    items: list[int] = field(default_factory=list)
    secret: str = field(default="s", repr=False)
    note: str = field(default="", compare=False)

    @property
    def count(self) -> int:
        return len(self.items)


def made(dataclass: Decorator, slots: bool) -> Any:
    @dataclass(frozen=True, slots=slots)
    class Made:
        name: str
        items: list[int] = field(default_factory=list)
        secret: str = field(default="s", repr=False)
        note: str = field(default="", compare=False)

        def __post_init__(self) -> None:
            if not self.name:
                raise ValueError("no name")

        @property
        def count(self) -> int:
            return len(self.items)

    return Made


@BOTH
@SLOTS
def test_it_is_made_shown_and_compared(dataclass: Decorator, slots: bool) -> None:
    cls = made(dataclass, slots)
    one, two = cls("a", [1]), cls("a", items=[1], note="other")
    assert (one.name, one.items, one.secret, one.note, one.count) == ("a", [1], "s", "", 1)
    assert repr(one).endswith("Made(name='a', items=[1], note='')")
    assert one == two
    assert one != cls("a", [1], "other")
    assert one != ("a", [1], "s", "")
    assert hash(cls("a", ())) == hash(cls("a", (), note="other"))
    assert cls("a").items is not cls("a").items
    assert hasattr(one, "__dict__") is not slots
    with pytest.raises(ValueError, match="no name"):
        cls("")
    with pytest.raises(TypeError, match=r"Made\.__init__"):
        cls()


@BOTH
@SLOTS
def test_the_functions_of_dataclasses_take_it(dataclass: Decorator, slots: bool) -> None:
    cls = made(dataclass, slots)
    one = cls("a", [1])
    assert [each.name for each in dataclasses.fields(cls)] == ["name", "items", "secret", "note"]
    assert [each.type for each in dataclasses.fields(cls)] == ["str", "list[int]", "str", "str"]
    assert dataclasses.replace(one, name="b") == cls("b", [1])
    assert dataclasses.asdict(one) == {"name": "a", "items": [1], "secret": "s", "note": ""}
    match one:
        case cls("a", [1]):
            pass
        case _:
            pytest.fail("no match")


@BOTH
@SLOTS
def test_one_inherits_from_another(dataclass: Decorator, slots: bool) -> None:
    @dataclass(slots=slots)
    class Base:
        a: int
        b: int = 2

    @dataclass(slots=slots)
    class Derived(Base):
        b: int = 3
        c: int = 4

        def __repr__(self) -> str:
            return "its own"

    one = Derived(1)
    assert (one.a, one.b, one.c) == (1, 3, 4)
    assert repr(one) == "its own"
    assert one != Base(1, 3)
    one.a = 5
    assert one == Derived(5)
    with pytest.raises(TypeError, match="unhashable"):
        hash(one)


def test_a_standard_one_inherits_from_it() -> None:
    @dataclasses.dataclass(frozen=True)
    class Derived(Kept):
        more: int = 1

    assert Derived("a").more == 1
    assert Derived("a") == Derived("a", [])


@BOTH
def test_without_eq_each_is_itself_alone(dataclass: Decorator) -> None:
    @dataclass(slots=True, eq=False)
    class Made:
        a: int = 1

    one = Made()
    assert one != Made()
    assert {one: 1}[one] == 1


def test_what_it_does_not_do_is_refused() -> None:
    with pytest.raises(TypeError, match="standard dataclass"):

        @records.dataclass
        class Refused:
            a: int = field(init=False)


def test_it_is_pickled_and_copied() -> None:
    one = Kept("a", [1], "t", "n")
    for other in (pickle.loads(pickle.dumps(one)), copy.copy(one), copy.deepcopy(one)):
        assert other == one
        assert other.note == "n"
    assert copy.deepcopy(one).items is not one.items
