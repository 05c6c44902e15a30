"""`dataclass` as in the standard library, made in a fifth of the time: a command makes sixty as it starts.

The standard one compiles every method of every class. Here `__init__` alone is, the others are shared.
What is used of it (frozen, slots, eq, field(), inheritance, fields(), replace(), asdict()) works alike, but
nothing watches frozen when the program runs: that is left to the type checker.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterable
from operator import attrgetter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

__all__ = ["dataclass"]

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(cls=None, /, *, frozen=False, slots=False, eq=True):
        """Make a dataclass of a class."""
        if cls is None:
            return lambda cls: _made(cls, frozen, slots, eq)
        return _made(cls, frozen, slots, eq)


Fields = dict[str, dataclasses.Field[Any]]


def _made(cls: type, frozen: bool, slots: bool, eq: bool) -> type:
    inherited: Fields = {}
    for base in reversed(cls.__mro__[1:]):
        inherited |= getattr(base, "__dataclass_fields__", {})
    own = {name: _field(cls, name, kind) for name, kind in inspect.get_annotations(cls).items()}
    fields = inherited | own
    members = {"__dataclass_fields__": fields, "__match_args__": tuple(fields), "__repr__": _repr}
    members["__dataclass_params__"] = SimpleNamespace(frozen=frozen)  # what the standard one asks of a base
    members["__init__"] = _init(cls, fields)
    if eq:
        members["_compared"] = _values(name for name, each in fields.items() if each.compare)
        members |= {"__eq__": _eq, "__hash__": _hash if frozen else None}
    if slots:
        members |= {"__reduce__": _reduce, "__slots__": tuple(own.keys() - inherited.keys())}
    members = {name: value for name, value in members.items() if name not in cls.__dict__}
    return _remade(cls, own, members) if slots else _extended(cls, own, members)


def _field(cls: type, name: str, kind: str) -> dataclasses.Field[Any]:
    value = cls.__dict__.get(name, dataclasses.MISSING)
    field: Any = value if isinstance(value, dataclasses.Field) else dataclasses.field(default=value)
    if not field.init:
        raise TypeError(f"{name}: a field that __init__ does not take is for the standard dataclass")
    field.name, field.type, field.kw_only = name, kind, False
    field._field_type = dataclasses._FIELD  # type: ignore[attr-defined] # fields() and replace() look at it
    made: dataclasses.Field[Any] = field
    return made


def _init(cls: type, fields: Fields) -> Any:
    """Compile the one method that is called so often that it has to be fast."""
    scope: dict[str, Any] = {"missing": dataclasses.MISSING}
    parameters, lines = ["self"], []
    for name, field in fields.items():
        value = name
        if field.default_factory is not dataclasses.MISSING:
            scope[f"make_{name}"] = field.default_factory
            parameters.append(f"{name}=missing")
            value = f"make_{name}() if {name} is missing else {name}"
        elif field.default is not dataclasses.MISSING:
            scope[f"default_{name}"] = field.default
            parameters.append(f"{name}=default_{name}")
        else:
            parameters.append(name)
        lines.append(f"  self.{name} = {value}")
    if hasattr(cls, "__post_init__"):
        lines.append("  self.__post_init__()")
    exec(f"def __init__({', '.join(parameters)}):\n" + "\n".join(lines or ["  pass"]), scope)
    scope["__init__"].__qualname__ = f"{cls.__qualname__}.__init__"  # which a TypeError names
    return scope["__init__"]


def _remade(cls: type, own: Fields, members: dict[str, Any]) -> type:
    """Return the class once more: slots cannot be added to one that is there."""
    kept = {name: value for name, value in cls.__dict__.items() if name not in own}
    kept.pop("__dict__", None)
    kept.pop("__weakref__", None)
    return type(cls)(cls.__name__, cls.__bases__, kept | members)


def _extended(cls: type, own: Fields, members: dict[str, Any]) -> type:
    for name, value in members.items():
        setattr(cls, name, value)
    for name, field in own.items():
        if field.default is not dataclasses.MISSING:
            setattr(cls, name, field.default)
        elif name in cls.__dict__:
            delattr(cls, name)  # what field() has returned
    return cls


def _values(names: Iterable[str]) -> Any:
    """Return what gets attributes of an object as one value that can be compared."""
    listed = [*names]
    return staticmethod(attrgetter(*listed) if listed else lambda _: ())


def _eq(self: Any, other: Any) -> Any:
    if other.__class__ is not self.__class__:
        return NotImplemented
    return self._compared(self) == self._compared(other)


def _hash(self: Any) -> int:
    return hash(self._compared(self))


def _repr(self: Any) -> str:
    shown = (name for name, field in self.__dataclass_fields__.items() if field.repr)
    return f"{self.__class__.__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"


def _reduce(self: Any) -> Any:
    return self.__class__, tuple([getattr(self, name) for name in self.__match_args__])
