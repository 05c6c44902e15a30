"""The stress runs, and their results."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from scripts.ending import end_tidily
from scripts.stressing import model
from scripts.stressing.crash import ENDINGS, Result, Series
from scripts.stressing.disk import FILESYSTEMS, missing
from scripts.stressing.faults import COMPRESSION, FaultSeries, FaultWorld
from scripts.stressing.full import FullSeries, FullWorld
from scripts.stressing.power import PowerSeries, PowerWorld
from scripts.stressing.races import Races
from scripts.stressing.report import shown, write
from scripts.stressing.world import World


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/stress")
    parser.add_argument("what", choices=("crash", "faults", "power", "full", "races", "model"))
    parser.add_argument(
        "--runs", type=int, default=0, help="default: 500 of crash and races, 50 of faults and power"
    )
    parser.add_argument("--minutes", type=float, default=60.0, help="of model")
    parser.add_argument("--seed", type=int, default=0, help="default: another one each time; it is printed")
    parser.add_argument("--ending", choices=ENDINGS, help="of crash and faults: have every run end like this")
    parser.add_argument("--compression", type=float, default=COMPRESSION, help="of faults: of outages")
    parser.add_argument(
        "--filesystem", choices=list(FILESYSTEMS), default="ext4", help="of power: of the disk of the cache"
    )
    parser.add_argument(
        "--tear", type=int, choices=(512, 4096), default=4096, help="of power: bytes the disk writes at once"
    )
    parser.add_argument("--evidence", type=Path, help="where what is known of a loss is kept")
    parser.add_argument("--write", action="store_true", help="put the result into docs/reliability.md")
    return parser.parse_args()


def _run_series(arguments: argparse.Namespace, seed: int, evidence: Path) -> Result:
    with tempfile.TemporaryDirectory(prefix="cos-stress-") as name:
        world = _world(arguments, Path(name))
        try:
            if arguments.what == "races":
                return Races(world, seed, evidence).run(arguments.runs or 500)
            series = _series(arguments, world, seed, evidence)
            if arguments.ending:
                series.endings = {arguments.ending: 1}
            return series.run(arguments.runs or (500 if arguments.what == "crash" else 50))
        finally:
            world.close()


def _world(arguments: argparse.Namespace, scratch: Path) -> World:
    if arguments.what == "power":
        return PowerWorld(scratch, arguments.filesystem, arguments.tear)
    if arguments.what == "full":
        return FullWorld(scratch)
    return FaultWorld(scratch) if arguments.what == "faults" else World(scratch)


def _series(arguments: argparse.Namespace, world: World, seed: int, evidence: Path) -> Series:
    if isinstance(world, PowerWorld):
        return PowerSeries(world, seed, evidence)
    if isinstance(world, FullWorld):
        return FullSeries(world, seed, evidence)
    if isinstance(world, FaultWorld):
        return FaultSeries(world, seed, evidence, arguments.compression)
    return Series(world, seed, evidence)


def main() -> int:
    end_tidily()
    arguments = _arguments()
    if arguments.what == "power" and (lacks := missing(arguments.filesystem)):
        print(lacks, file=sys.stderr)
        return 2
    seed = arguments.seed or random.SystemRandom().randrange(1, 1 << 24)
    print(f"seed {seed}", flush=True)
    evidence = arguments.evidence or Path(tempfile.gettempdir(), f"cos-stress-{seed}")
    if arguments.what == "model":
        return model.run(arguments.minutes, seed, evidence)
    result = _run_series(arguments, seed, evidence)
    print(shown(result))
    if arguments.write:
        write(arguments.what, seed, result)
    return 1 if result.failures else 0


if __name__ == "__main__":
    sys.exit(main())
