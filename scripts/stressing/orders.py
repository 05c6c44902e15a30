"""What may have become of a small tree when several programs were at work in it at once.

A kernel finds a path one name after the other and then does what was asked for in one go, so calls that run
at the same time may meet between any two of these steps. All orders that fit when calls began and
ended, and what they answered, are tried in memory; what each of them leaves may be found.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from scripts.stressing.seen import Seen, Sight

MOST_STATES = 150_000
ROOT = 0


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a program; slot is its descriptor, size an offset or a length, flags also a mode."""

    name: str
    paths: tuple[str, ...] = ()
    slot: int = 0
    flags: int = 0
    size: int = 0
    data: bytes = b""

    def __str__(self) -> str:
        more = f"{self.slot} {self.flags:#o} {self.size} {len(self.data)}:{self.data[:4].hex()}"
        return f"{self.name} {' '.join(self.paths)} {more}"


@dataclass
class Done:
    """A call that was made. answer is None while it is under way, "" when it worked, else an error."""

    call: Call
    begun: float
    ended: float = float("inf")
    answer: str | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """A file, or a directory with the numbers of what is in it."""

    mode: int
    data: bytes = b""
    names: tuple[tuple[str, int], ...] | None = None
    unsafe: bool = False  # written, and nobody was promised that yet

    def number(self, name: str) -> int | None:
        return dict(self.names or ()).get(name)

    def having(self, name: str, number: int | None) -> Node:
        names = {**dict(self.names or ()), name: number}
        return replace(
            self, names=tuple(sorted((key, each) for key, each in names.items() if each is not None))
        )


@dataclass(frozen=True, slots=True)
class State:
    """nodes by number; handles by program and slot; of each program (call, step, directories found)."""

    nodes: tuple[tuple[int, Node], ...]
    handles: tuple[tuple[tuple[int, int], int], ...] = ()
    places: tuple[tuple[int, int, tuple[int, ...]], ...] = ()

    def sight(self) -> tuple[Sight, dict[str, int]]:
        """What is seen of it, and which number each path has."""
        nodes, found, numbers = dict(self.nodes), Sight(), {}
        waiting = [("", ROOT)]
        while waiting:
            above, number = waiting.pop()
            for name, inside in nodes[number].names or ():
                node = nodes[inside]
                found[above + name] = (
                    Seen("file", node.data, node.mode)
                    if node.names is None
                    else Seen("directory", mode=node.mode)
                )
                numbers[above + name] = inside
                if node.names is not None:
                    waiting.append((f"{above}{name}/", inside))
        return found, numbers


def begin(found: Sight, programs: int) -> State:
    """The state that a tree is in before anything happens."""
    nodes = {ROOT: Node(0o755, names=())}
    numbers = {"": ROOT}
    for number, (path, seen) in enumerate(sorted(found.items()), 1):
        place, _, name = path.rpartition("/")
        nodes[number] = Node(seen.mode or 0o644, seen.data, () if seen.kind == "directory" else None)
        numbers[path] = number
        nodes[numbers[place]] = nodes[numbers[place]].having(name, number)
    return State(tuple(sorted(nodes.items())), (), ((0, 0, ()),) * programs)


class _Fails(Exception):
    """The call answers an error."""


@dataclass
class Orders:
    """The orders in which calls may have happened."""

    programs: list[list[Done]]
    ends: list[State] = field(default_factory=list)
    names: dict[int, set[str]] = field(default_factory=dict)  # that a file had in any order
    tried: int = 0

    def explore(self, start: State) -> bool:
        """Find all states that may be left; False if there are too many to try."""
        self._needs = [[self._before(done, p) for done in calls] for p, calls in enumerate(self.programs)]
        seen, waiting, ends = {start}, [start], set()
        while waiting:
            state = waiting.pop()
            for path, number in state.sight()[1].items():
                self.names.setdefault(number, set()).add(path)
            if all(self._is_over(p, state) for p in range(len(self.programs))):
                ends.add(replace(state, places=(), handles=()))
            for p in range(len(self.programs)):
                for after in self._step(state, p):
                    if after not in seen:
                        seen.add(after)
                        waiting.append(after)
            if len(seen) > MOST_STATES:
                return False
        self.tried, self.ends = len(seen), list(ends)
        return True

    def _before(self, done: Done, program: int) -> list[int]:
        """How many calls of each program ended before this one began."""
        return [
            0 if q == program else sum(other.ended < done.begun for other in calls)
            for q, calls in enumerate(self.programs)
        ]

    def _is_over(self, program: int, state: State) -> bool:
        calls, index = self.programs[program], state.places[program][0]
        return index >= sum(done.answer is not None for done in calls)

    def _step(self, state: State, program: int) -> Iterator[State]:
        """What one more step of a program makes of a state, if it can be."""
        index, step, found = state.places[program]
        if index >= len(self.programs[program]):
            return
        done = self.programs[program][index]
        needs = self._needs[program][index]
        if not step and any(state.places[q][0] < count for q, count in enumerate(needs)):
            return
        nodes, handles = dict(state.nodes), dict(state.handles)
        units = [
            (number, name) for number, path in enumerate(done.call.paths) for name in path.split("/")[:-1]
        ]
        found = found or (ROOT,) * len(done.call.paths)
        answer, over = "", False
        try:
            if step < len(units):
                which, name = units[step]
                inside = nodes[found[which]].number(name)
                if inside is None or nodes[inside].names is None:
                    raise _Fails
                found = (*found[:which], inside, *found[which + 1 :])
            else:
                over = self._act(done.call, (program, index, step - len(units)), found, nodes, handles)
        except _Fails:
            answer, over, nodes, handles = "fails", True, dict(state.nodes), dict(state.handles)
        if over and done.answer is not None and bool(answer) != bool(done.answer):
            return
        place = (index + 1, 0, ()) if over else (index, step + 1, found)
        places = (*state.places[:program], place, *state.places[program + 1 :])
        yield State(tuple(sorted(nodes.items())), tuple(sorted(handles.items())), places)

    def _act(
        self,
        call: Call,
        which: tuple[int, int, int],
        found: tuple[int, ...],
        nodes: dict[int, Node],
        handles: dict[tuple[int, int], int],
    ) -> bool:
        """Do what a call is for, in a directory that was found. Whether it is over then."""
        program, index, step = which
        handle = (program, call.slot)
        if call.name == "open":
            if not step:
                handles[handle] = self._opened(call, found[0], 1000 + 100 * program + index, nodes)
                return not call.flags & os.O_TRUNC
            self._write(handles[handle], nodes, b"", safe=False)
        elif call.name == "write":
            old = nodes[handles[handle]].data
            start = len(old) if call.size < 0 else call.size
            data = old[:start].ljust(start, b"\0") + call.data + old[start + len(call.data) :]
            self._write(handles[handle], nodes, data, safe=False)
        elif call.name == "ftruncate":
            data = nodes[handles[handle]].data[: call.size].ljust(call.size, b"\0")
            self._write(handles[handle], nodes, data, safe=False)
        elif call.name in ("fsync", "close"):
            number = handles[handle] if call.name == "fsync" else handles.pop(handle)
            others = number in handles.values()
            node = nodes[number]
            nodes[number] = replace(node, unsafe=node.unsafe and others and not node.data)
        elif call.name in ("truncate", "chmod"):
            return self._change(call, step, found, nodes, handles)
        else:
            getattr(self, f"_{call.name}")(call, found, nodes, program, index)
        return True

    @staticmethod
    def _write(number: int, nodes: dict[int, Node], data: bytes, *, safe: bool) -> None:
        nodes[number] = replace(nodes[number], data=data, unsafe=not safe)

    @staticmethod
    def _in(
        call: Call, which: int, found: tuple[int, ...], nodes: dict[int, Node]
    ) -> tuple[int, str, int | None]:
        """The directory of a path, its last name, and what has that name."""
        name = call.paths[which].rpartition("/")[2]
        return found[which], name, nodes[found[which]].number(name)

    def _opened(self, call: Call, place: int, number: int, nodes: dict[int, Node]) -> int:
        directory, name, inside = self._in(call, 0, (place,), nodes)
        if inside is None:
            self._must_be_there(directory, nodes)
            if not call.flags & os.O_CREAT:
                raise _Fails
            nodes[number] = Node(0o644, unsafe=True)
            nodes[directory] = nodes[directory].having(name, number)
            return number
        if nodes[inside].names is not None or call.flags & os.O_EXCL:
            raise _Fails
        return inside

    @staticmethod
    def _must_be_there(directory: int, nodes: dict[int, Node]) -> None:
        """Nothing can be made in a directory that was removed."""
        if directory != ROOT and not any(
            directory in dict(each.names or ()).values() for each in nodes.values()
        ):
            raise _Fails

    def _change(
        self,
        call: Call,
        step: int,
        found: tuple[int, ...],
        nodes: dict[int, Node],
        handles: dict[tuple[int, int], int],
    ) -> bool:
        _, _, inside = self._in(call, 0, found, nodes)
        if inside is None:
            raise _Fails
        node = nodes[inside]
        if call.name == "chmod":
            nodes[inside] = replace(node, mode=call.flags)
        elif node.names is not None:
            raise _Fails
        else:
            data = node.data[: call.size].ljust(call.size, b"\0")
            self._write(inside, nodes, data, safe=inside not in handles.values() and not node.unsafe)
        return True

    def _mkdir(
        self, call: Call, found: tuple[int, ...], nodes: dict[int, Node], program: int, index: int
    ) -> None:
        directory, name, inside = self._in(call, 0, found, nodes)
        self._must_be_there(directory, nodes)
        if inside is not None:
            raise _Fails
        number = 1000 + 100 * program + index
        nodes[number] = Node(0o755, names=())
        nodes[directory] = nodes[directory].having(name, number)

    def _unlink(self, call: Call, found: tuple[int, ...], nodes: dict[int, Node], *_: int) -> None:
        directory, name, inside = self._in(call, 0, found, nodes)
        if inside is None or nodes[inside].names is not None:
            raise _Fails
        nodes[directory] = nodes[directory].having(name, None)

    def _rmdir(self, call: Call, found: tuple[int, ...], nodes: dict[int, Node], *_: int) -> None:
        directory, name, inside = self._in(call, 0, found, nodes)
        if inside is None or nodes[inside].names != ():
            raise _Fails
        nodes[directory] = nodes[directory].having(name, None)

    def _rename(self, call: Call, found: tuple[int, ...], nodes: dict[int, Node], *_: int) -> None:
        source, old, moved = self._in(call, 0, found, nodes)
        target, new, there = self._in(call, 1, found, nodes)
        if moved is None:
            raise _Fails
        self._must_be_there(target, nodes)
        if call.flags and there is not None:
            raise _Fails
        if moved == there:
            return
        is_directory = nodes[moved].names is not None
        if is_directory and target in self._below(moved, nodes):
            raise _Fails
        if there is not None and ((nodes[there].names is not None) != is_directory or nodes[there].names):
            raise _Fails
        nodes[source] = nodes[source].having(old, None)
        nodes[target] = nodes[target].having(new, moved)

    @staticmethod
    def _below(number: int, nodes: dict[int, Node]) -> list[int]:
        """A directory and all directories in it."""
        found = [number]
        for each in found:
            found += [inside for _, inside in nodes[each].names or () if nodes[inside].names is not None]
        return found
