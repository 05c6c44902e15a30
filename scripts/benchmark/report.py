"""Tables for people, and the part of docs/performance.md that is made of them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.benchmark.cells import CELLS
from scripts.benchmark.programs import PEERS, ROOT

# (latency, cell, program) -> the rounds
Rounds = dict[tuple[int, str, str], list[dict[str, Any]]]
PAGE = ROOT / "docs" / "performance.md"
PLOT = "performance-cli.svg"


def best(rounds: list[dict[str, Any]], figure: str) -> float | None:
    """Return the smallest figure of the rounds that worked; None if none did."""
    found = [float(each[figure]) for each in rounds if not each["failure"]]
    return min(found) if found else None


def tables(rounds: Rounds, programs: list[str], latencies: list[int]) -> str:
    """Return markdown: seconds relative to cos, and what each used."""
    text = []
    for latency in latencies:
        head = "".join(f" {program} |" for program in programs)
        line = "|---" * (len(programs) + 1) + "|\n"
        text.append(f"Seconds at {latency} ms of added latency; in brackets times the seconds of cos:\n\n")
        text.append(f"| |{head}\n{line}")
        for cell in CELLS:
            row = [_seconds(rounds, latency, cell.name, program, programs[0]) for program in programs]
            if any(row):
                text.append(f"| {cell.title} | " + " | ".join(row) + " |\n")
        text.append(f"\nCPU seconds, peak memory in MiB, requests, at {latency} ms:\n\n| |{head}\n{line}")
        for cell in CELLS:
            row = [_used(rounds, latency, cell.name, program) for program in programs]
            if any(row):
                text.append(f"| {cell.title} | " + " | ".join(row) + " |\n")
        text.append("\n")
    return "".join(text)


def _seconds(rounds: Rounds, latency: int, cell: str, program: str, ours: str) -> str:
    found = rounds.get((latency, cell, program), [])
    if not found:
        return ""
    seconds = best(found, "seconds")
    if seconds is None:
        return str(found[0]["failure"]).partition(":")[0]
    base = best(rounds.get((latency, cell, ours), []), "seconds")
    ratio = f" ({seconds / base:.2f})" if base and program != ours else ""
    return f"{seconds:.2f}{ratio}"


def _used(rounds: Rounds, latency: int, cell: str, program: str) -> str:
    found = rounds.get((latency, cell, program), [])
    cpu, rss, requests = (best(found, figure) for figure in ("cpu", "rss", "requests"))
    if cpu is None or rss is None or requests is None:
        return ""
    return f"{cpu:.2f} / {rss:.0f} / {requests:.0f}"


def write_page(rounds: Rounds, facts: Mapping[str, Any]) -> None:
    """Replace the generated part of docs/performance.md, and the plot."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    intro = (
        f"Best of {facts['rounds']} rounds, programs in turn, against the {facts['server']} on the same"
        f" {facts['cores']} cores. Versions: {versions}.\n\n"
        "![seconds relative to cos](performance-cli.svg)\n\n"
    )
    replace_part(
        "cli",
        "## The command line beside its peers",
        intro + tables(rounds, facts["programs"], facts["latencies"]),
    )
    cells = [cell for cell in CELLS if any(key[1] == cell.name for key in rounds)]
    draw(
        PLOT,
        [cell.title.replace("`", "") for cell in cells],
        facts["programs"],
        {
            f"{latency} ms of added latency": [
                [_ratio(rounds, latency, cell.name, program, facts["programs"][0]) for cell in cells]
                for program in facts["programs"]
            ]
            for latency in facts["latencies"]
        },
    )


def replace_part(name: str, title: str, text: str) -> None:
    """Put generated text between its marks in docs/performance.md; at the end, with a title, if new."""
    begin, end = f"<!-- scripts/bench {name}: begin -->\n", f"<!-- scripts/bench {name}: end -->\n"
    generated = begin + text + end
    page = PAGE.read_text()
    before, found, rest = page.partition(begin)
    if found:
        page = before + generated + rest.partition(end)[2]
    else:
        page = page.rstrip("\n") + f"\n\n{title}\n\n" + generated
    PAGE.write_text(page)


def draw(
    file: str,
    cells: Sequence[str],
    programs: Sequence[str],
    panels: Mapping[str, Sequence[Sequence[float | None]]],
) -> None:
    """Draw bars into docs/; by matplotlib, which only the peers' environment has."""
    data = {
        "file": str(PAGE.with_name(file)),
        "cells": cells,
        "programs": programs,
        "panels": [{"title": title, "values": values} for title, values in panels.items()],
    }
    script = Path(__file__).with_name("plot.py")
    subprocess.run([PEERS / "bin" / "python", script], input=json.dumps(data), text=True, check=True)


def _ratio(rounds: Rounds, latency: int, cell: str, program: str, ours: str) -> float | None:
    seconds = best(rounds.get((latency, cell, program), []), "seconds")
    base = best(rounds.get((latency, cell, ours), []), "seconds")
    return seconds / base if seconds and base else None
