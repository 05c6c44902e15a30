"""Results, printed and written into docs/reliability.md."""

from __future__ import annotations

from pathlib import Path

from scripts.stressing.crash import Result

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"


def shown(result: Result) -> str:
    modes = ", ".join(f"{count} {mode}" for mode, count in sorted(result.modes.items()))
    return (
        f"{result.runs} runs ({modes}), {result.kills} kills, {result.calls} calls acknowledged, "
        f"{result.cut_short} cut short, {result.in_uploads} kills in uploads, "
        f"{len(result.failures)} runs with a loss, {result.kept_aside} kept aside, {result.seconds:.0f} s"
    )


def write(what: str, seed: int, result: Result) -> None:
    """Replace the row of one kind of run in the table of results."""
    row = (
        f"| `scripts/stress {what}` | {seed} | {result.runs} | {result.kills} | {result.calls:,} "
        f"| {result.cut_short} | {len(result.failures)} |"
    )
    lines = PAGE.read_text().splitlines()
    places = [number for number, line in enumerate(lines) if line.startswith(f"| `scripts/stress {what}`")]
    if len(places) != 1:
        raise SystemExit(f"docs/reliability.md has no row for {what}")
    lines[places[0]] = row
    PAGE.write_text("\n".join(lines) + "\n")
