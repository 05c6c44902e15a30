"""What a mount counts and times, and the text in which Prometheus reads it.

Counting must not slow the mount down: an operation costs two looks at the clock and a slot of a
histogram. Everything that is a state rather than an event (queues, handles, the cache) is not
counted here but looked at when somebody asks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import trio

from cosfs.client.stats import Histogram, upper_bound

TICK = 1.0  # seconds between looks at how long the loop takes to come round


class Operation:
    """One kind of request of the kernel."""

    __slots__ = ("errors", "latency")

    def __init__(self) -> None:
        self.latency = Histogram()
        self.errors: Counter[int] = Counter()  # by errno


class Metrics:
    """Counters and histograms of one mount. For the trio thread only."""

    def __init__(self) -> None:
        self.operations: dict[str, Operation] = {}
        self.loop = Histogram()  # how much later than asked for a task was run
        self.bytes_read = 0
        self.bytes_written = 0
        self.crashes = 0  # handlers that failed by a mistake of our own

    def operation(self, name: str) -> Operation:
        """The counters of one kind of operation, made when first asked for."""
        found = self.operations.get(name)
        if found is None:
            found = self.operations[name] = Operation()
        return found

    async def watch(self) -> None:
        """Note once a second how late the loop is."""
        while True:
            asked = trio.current_time()
            await trio.sleep(TICK)
            self.loop.add(max(0.0, trio.current_time() - asked - TICK))


# Prometheus


@dataclass(slots=True)
class Family:
    """One metric: its name, kind, meaning and samples, each with labels."""

    name: str
    kind: str  # counter | gauge | histogram
    help: str
    samples: list[tuple[Mapping[str, str], float | Mapping[str, Any]]] = field(default_factory=list)

    def add(self, value: float | Mapping[str, Any], **labels: str) -> None:
        """Add a sample: a number or, to a histogram, what Histogram.snapshot() gives."""
        self.samples.append((labels, value))


# Powers of four from 16 us to 67 s, each of which ends a slot.
BOUNDS = tuple((16 * 4**n) / 1e6 for n in range(12))


def prometheus(families: Iterable[Family]) -> str:
    """Write metrics in Prometheus's text format 0.0.4."""
    lines = []
    for family in families:
        if not family.samples:
            continue
        lines.append(f"# HELP {family.name} {_escape(family.help)}")
        lines.append(f"# TYPE {family.name} {family.kind}")
        for labels, value in family.samples:
            if isinstance(value, Mapping):
                lines += _histogram(family.name, labels, value)
            else:
                lines.append(f"{family.name}{_labels(labels)} {value!r}")
    return "\n".join(lines) + "\n"


def _histogram(name: str, labels: Mapping[str, str], value: Mapping[str, Any]) -> list[str]:
    slots = sorted((upper_bound(int(slot)), count) for slot, count in value["slots"].items())
    lines, seen, at = [], 0, 0
    for bound in BOUNDS:
        while at < len(slots) and slots[at][0] <= bound:
            seen += slots[at][1]
            at += 1
        lines.append(f"{name}_bucket{_labels({**labels, 'le': repr(bound)})} {seen}")
    lines.append(f"{name}_bucket{_labels({**labels, 'le': '+Inf'})} {value['count']}")
    lines.append(f"{name}_sum{_labels(labels)} {value['seconds']!r}")
    lines.append(f"{name}_count{_labels(labels)} {value['count']}")
    return lines


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    inside = ",".join(f'{name}="{_escape(value, quotes=True)}"' for name, value in labels.items())
    return f"{{{inside}}}"


def _escape(text: str, *, quotes: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quotes else text
