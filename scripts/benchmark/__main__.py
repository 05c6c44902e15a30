"""`scripts/bench`: what to measure, and where the results go."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from scripts.benchmark import mount_report
from scripts.benchmark.cells import CELLS, measure, open_lab
from scripts.benchmark.mount_run import RESULTS, Plan, Results, run
from scripts.benchmark.mounts import find_mounts
from scripts.benchmark.programs import find_programs, install_peers, version_of
from scripts.benchmark.report import Rounds, tables, write_page
from scripts.benchmark.rows import rows
from scripts.benchmark.servers import Double, Local, Server
from scripts.ending import end_tidily

SLOW = 8.0  # seconds
# These take minutes for what the smaller cells show as well.
SLOW_PROGRAMS = ("aws", "coscmd")
MANY = 10_000


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("peers", help="install the peers into .bench/")
    cli = commands.add_parser("cli", help="measure the command line and its peers")
    cli.add_argument("--server", help="a server double: takes --port and --md5-max, controlled by URLs")
    cli.add_argument("--latency", default="0,20", help="milliseconds added to each request (default: 0,20)")
    cli.add_argument("--rounds", type=int, default=3, help="how often each is run; the best counts")
    cli.add_argument("--only", default="", help="cells, separated by commas")
    cli.add_argument("--programs", default="", help="programs, separated by commas")
    cli.add_argument("--out", type=Path, help="write all figures as JSON")
    cli.add_argument("--write-docs", action="store_true", help="write tables and plot into docs/")
    mount = commands.add_parser("mount", help="measure the mount and its peers")
    mount.add_argument("--server", help="a server double, as for cli")
    mount.add_argument("--latency", default="0,20", help="milliseconds added to each request (default: 0,20)")
    mount.add_argument(
        "--rounds",
        type=int,
        default=1,
        help="how often each is run; the median counts; 0: only tables of what there is",
    )
    mount.add_argument("--rows", default="", help="rows, separated by commas")
    mount.add_argument("--programs", default="", help="mounts, separated by commas")
    mount.add_argument(
        "--limit", type=float, default=6.0, help="seconds for a row of a peer, unless ours took longer"
    )
    mount.add_argument("--scale", type=float, default=1.0, help="smaller rows, to try the script itself")
    mount.add_argument(
        "--out",
        type=Path,
        default=RESULTS,
        help="figures as JSON; a later run adds its rows (default: .bench/mount.json)",
    )
    mount.add_argument("--fresh", action="store_true", help="forget the figures of earlier runs")
    mount.add_argument("--write", action="store_true", help="write tables and plot into docs/")
    mount.add_argument("--list", action="store_true", help="name the rows and the mounts that are there")
    return parser.parse_args()


def _mount(arguments: argparse.Namespace) -> int:
    if arguments.list:
        print("rows:", ", ".join(row.name for row in rows()))
        print("programs:", ", ".join(mount.name for mount in find_mounts()))
        return 0
    plan = Plan(
        names=_words(arguments.rows),
        programs=_words(arguments.programs),
        latencies=[int(text) for text in _words(arguments.latency)],
        rounds=arguments.rounds,
        limit=arguments.limit,
        scale=arguments.scale,
    )
    if arguments.write and plan.scale != 1:
        raise SystemExit("bench: --write wants all rows at their full size")
    results = Results(arguments.out, fresh=arguments.fresh)
    if plan.rounds:
        server = _server(arguments)
        try:
            run(plan, server, results)
        finally:
            server.stop()
    print(mount_report.tables(results))
    if arguments.write:
        mount_report.write(results)
    failed = [
        key for key, found in results.data["figures"].items()
        if key.split("/")[2].startswith("cos ") | (key.split("/")[2] == "cos") and found[-1]["failure"]
    ]  # fmt: skip
    for key in failed:
        print(f"bench: failed: {key}", file=sys.stderr)
    return 1 if failed else 0


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _server(arguments: argparse.Namespace) -> Server:
    return Double(arguments.server) if arguments.server else Local()


def _measure_all(arguments: argparse.Namespace, server: Server) -> int:
    programs = find_programs()
    if arguments.programs:
        programs = [program for program in programs if program.name in arguments.programs.split(",")]
    names = arguments.only.split(",") if arguments.only else [cell.name for cell in CELLS]
    latencies = [int(text) for text in arguments.latency.split(",")]
    rounds: Rounds = {}
    with open_lab() as lab:
        versions = {program.name: version_of(program.version, lab.home) for program in programs}
        for latency in latencies:
            for cell in (cell for cell in CELLS if cell.name in names):
                if cell.name == "start" and latency:
                    continue
                for number in range(arguments.rounds):
                    # In turn, so that what else the machine does strikes all alike; each time another begins.
                    first = number % len(programs)
                    for program in programs[first:] + programs[:first]:
                        found = rounds.setdefault((latency, cell.name, program.name), [])
                        # Nothing is learned from running again what fails, or what takes so long anyway.
                        if found and (found[-1]["failure"] or found[-1]["seconds"] > SLOW):
                            continue
                        if cell.count >= MANY and program.name in SLOW_PROGRAMS and cell.what != "list":
                            continue
                        measured = measure(cell, program, server, lab, latency)
                        found.append(asdict(measured))
                        told = measured.failure or f"{measured.seconds:6.2f} s  cpu {measured.cpu:5.2f}"
                        told += (
                            ""
                            if measured.failure
                            else f"  {measured.rss:4.0f} MiB  {measured.requests} requests"
                        )
                        print(
                            f"{latency:3} ms  {cell.name:9} {program.name:7} {told}",
                            file=sys.stderr,
                            flush=True,
                        )
    order = [program.name for program in programs]
    print(tables(rounds, order, latencies))
    if arguments.out:
        flat = [
            {"latency": key[0], "cell": key[1], "program": key[2], "rounds": value}
            for key, value in rounds.items()
        ]
        arguments.out.write_text(
            json.dumps({"server": server.name, "versions": versions, "results": flat}, indent=1)
        )
    if arguments.write_docs:
        facts = {
            "programs": order, "latencies": latencies, "rounds": arguments.rounds, "server": server.name,
            "versions": versions, "cores": os.cpu_count(),
        }  # fmt: skip
        write_page(rounds, facts)
    wrong = [
        key for key, value in rounds.items() if key[2] == "cos" and any(each["failure"] for each in value)
    ]
    for latency, cell, _ in wrong:
        print(f"bench: cos failed in {cell} at {latency} ms", file=sys.stderr)
    return 1 if wrong else 0


def main() -> int:
    end_tidily()
    arguments = _arguments()
    if arguments.command == "peers":
        install_peers()
        return 0
    if arguments.command == "mount":
        return _mount(arguments)
    server = _server(arguments)
    try:
        return _measure_all(arguments, server)
    finally:
        server.stop()


if __name__ == "__main__":
    sys.exit(main())
