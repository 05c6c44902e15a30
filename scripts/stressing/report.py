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


def write(what: str, seed: int, result: Result, page: Path = PAGE) -> None:
    """Put a row into the table of results, in place of that of the same seed if there is one."""
    kind, own = f"| `scripts/stress {what}` |", f"| `scripts/stress {what}` | {seed} |"
    row = (
        f"{own} {result.runs} | {result.kills} | {result.calls:,} "
        f"| {result.cut_short} | {len(result.failures)} |"
    )
    lines = page.read_text().splitlines()
    places = [number for number, line in enumerate(lines) if line.startswith(kind)]
    if not places:
        raise SystemExit(f"{page} has no row for {what}")
    same = [number for number in places if lines[number].startswith((own, f"{kind} - |"))]
    if same:
        lines[same[0]] = row
    else:
        lines.insert(places[-1] + 1, row)
    page.write_text("\n".join(lines) + "\n")
