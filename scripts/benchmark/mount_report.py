"""The tables of the mounts, and their part of docs/performance.md."""

from __future__ import annotations

from statistics import median
from typing import Any

from scripts.benchmark.mount_run import Results
from scripts.benchmark.mounts import Mount, find_mounts
from scripts.benchmark.report import draw, replace_part
from scripts.benchmark.rows import Row, rows

PLOT = "performance-mount.svg"


def _middle(found: list[dict[str, Any]], figure: str) -> float | None:
    """Return the median of the rounds that worked; None if none did."""
    values = [float(each[figure]) for each in found if not each["failure"]]
    return median(values) if values else None


def _in_results(results: Results) -> tuple[list[int], list[Row], list[Mount]]:
    keys = [key.split("/") for key in results.data["figures"]]
    latencies = sorted({int(key[0]) for key in keys})
    used = {key[1] for key in keys}, {key[2] for key in keys}
    return (
        latencies,
        [row for row in rows() if row.name in used[0]],
        [mount for mount in find_mounts() if mount.name in used[1]],
    )


def tables(results: Results) -> str:
    """Return markdown: seconds relative to ours, what each used, and why there is nothing."""
    latencies, done, mounts = _in_results(results)
    text = []
    reasons: dict[str, int] = {}
    head = "| |" + "".join(f" {mount.name} |" for mount in mounts) + "\n" + "|---" * (len(mounts) + 1) + "|\n"
    for latency in latencies:
        text.append(
            f"Seconds at {latency} ms of added latency; in brackets times those of ours that promises as"
            f" much; after a plus sign the seconds until the server had it:\n\n{head}"
        )
        for row in done:
            cells = [_seconds(results, latency, row, mount, reasons) for mount in mounts]
            text.append(f"| {row.title} | " + " | ".join(cells) + " |\n")
        text.append("\n")
    text += [f"- ({number}) {reason}\n" for reason, number in reasons.items()]
    used = [mount for mount in mounts if not mount.is_reference]
    head = "| |" + "".join(f" {mount.name} |" for mount in used) + "\n" + "|---" * (len(used) + 1) + "|\n"
    for latency in latencies:
        text.append(f"\nCPU seconds, peak memory in MiB, requests, at {latency} ms:\n\n{head}")
        for row in done:
            cells = [_used(results, latency, row, mount) for mount in used]
            text.append(f"| {row.title} | " + " | ".join(cells) + " |\n")
    ready = [_ready(results, mount) for mount in used]
    text.append("| seconds until it is mounted | " + " | ".join(ready) + " |\n")
    return "".join(text)


def _seconds(results: Results, latency: int, row: Row, mount: Mount, reasons: dict[str, int]) -> str:
    found = results.of(latency, row.name, mount.name)
    seconds = _middle(found, "seconds")
    if seconds is None:
        if not found:
            return ""
        reason = str(found[0]["failure"])
        if reason.startswith(">"):
            return reason
        return f"— ({reasons.setdefault(f'{mount.name}: {reason}', len(reasons) + 1)})"
    rest = _middle(found, "rest") or 0.0
    base = _middle(results.of(latency, row.name, mount.like(row.name)), "seconds")
    text = f"{seconds:.2f}" if seconds >= 0.1 else f"{seconds:.3f}"
    if rest >= max(0.05, seconds / 20):
        text += f"+{rest:.2f}"
    return f"{text} ({seconds / base:.2f})" if base and not mount.is_ours else text


def _used(results: Results, latency: int, row: Row, mount: Mount) -> str:
    found = results.of(latency, row.name, mount.name)
    cpu, rss, requests = (_middle(found, figure) for figure in ("cpu", "rss", "requests"))
    if cpu is None or rss is None or requests is None:
        return ""
    return f"{cpu:.2f} / {rss:.0f} / {requests:.0f}"


def _ready(results: Results, mount: Mount) -> str:
    found = [
        each["mount_seconds"]
        for key, rounds in results.data["figures"].items()
        for each in rounds
        if key.split("/")[2] == mount.name and not each["failure"]
    ]
    return f"{median(found):.2f}" if found else ""


def _described(mount: Mount) -> str:
    text = mount.note
    if mount.trusts_lists:
        text += "; asks for no attributes: compared with `cos listing` where names are read"
    if mount.closes_early:
        text += "; its close() does not wait for the server: compared with `cos async` where files change"
    return text


def write(results: Results) -> None:
    """Replace the mounts' part of docs/performance.md, and draw the plot."""
    latencies, done, mounts = _in_results(results)
    facts = results.data["facts"]
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    notes = "".join(f"- {mount.name}: {_described(mount)}\n" for mount in mounts if mount.note)
    rounds = "1 round" if facts["rounds"] == 1 else f"{facts['rounds']} rounds"
    intro = (
        f"Medians of {rounds}, mounts in turn, each row on a mount of its own with an empty"
        f" cache, against the {facts['server']} on the same {facts['cores']} cores. A row of a peer was"
        f" stopped after {facts['limit']:.0f} s, or when ours had been done for a while."
        f" Versions: {versions}.\n\n{notes}\n![seconds relative to cos]({PLOT})\n\n"
    )
    replace_part("mount", "## The mount beside its peers", intro + tables(results))
    drawn = [mount for mount in mounts if not mount.is_ours and not mount.is_reference]

    def ratio(latency: int, row: Row, mount: Mount) -> float | None:
        seconds = _middle(results.of(latency, row.name, mount.name), "seconds")
        base = _middle(results.of(latency, row.name, mount.like(row.name)), "seconds")
        return seconds / base if seconds and base else None

    draw(
        PLOT,
        [row.title.replace("`", "") for row in done],
        [mount.name for mount in drawn],
        {
            f"{latency} ms of added latency": [
                [ratio(latency, row, mount) for row in done] for mount in drawn
            ]
            for latency in latencies
        },
    )
