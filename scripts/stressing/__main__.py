"""The stress runs, and their results."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from scripts.ending import end_tidily
from scripts.stressing import model
from scripts.stressing.crash import Result, Series
from scripts.stressing.faults import COMPRESSION, FaultSeries, FaultWorld
from scripts.stressing.report import shown, write
from scripts.stressing.world import World


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/stress")
    parser.add_argument("what", choices=("crash", "faults", "model"))
    parser.add_argument("--runs", type=int, default=0, help="default: 500 of crash, 50 of faults")
    parser.add_argument("--minutes", type=float, default=60.0, help="of model")
    parser.add_argument("--seed", type=int, default=0, help="default: another one each time; it is printed")
    parser.add_argument("--compression", type=float, default=COMPRESSION, help="of faults: of outages")
    parser.add_argument("--evidence", type=Path, help="where what is known of a loss is kept")
    parser.add_argument("--write", action="store_true", help="put the result into docs/reliability.md")
    return parser.parse_args()


def _series(seed: int, runs: int, evidence: Path, *, faulty: bool, compression: float) -> Result:
    with tempfile.TemporaryDirectory(prefix="cos-stress-") as name:
        world = FaultWorld(Path(name)) if faulty else World(Path(name))
        try:
            if isinstance(world, FaultWorld):
                return FaultSeries(world, seed, evidence, compression).run(runs)
            return Series(world, seed, evidence).run(runs)
        finally:
            world.close()


def main() -> int:
    end_tidily()
    arguments = _arguments()
    seed = arguments.seed or random.SystemRandom().randrange(1, 1 << 24)
    print(f"seed {seed}", flush=True)
    evidence = arguments.evidence or Path(tempfile.gettempdir(), f"cos-stress-{seed}")
    if arguments.what == "model":
        return model.run(arguments.minutes, seed, evidence)
    faulty = arguments.what == "faults"
    runs = arguments.runs or (50 if faulty else 500)
    result = _series(seed, runs, evidence, faulty=faulty, compression=arguments.compression)
    print(shown(result))
    if arguments.write:
        write(arguments.what, seed, result)
    return 1 if result.failures else 0


if __name__ == "__main__":
    sys.exit(main())
