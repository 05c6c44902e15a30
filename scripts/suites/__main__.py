"""Run POSIX suites of others on a mount of the emulator; exit code 0 if all went as COS allows."""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

from scripts.ending import end_tidily
from scripts.suites import fio, fsx, pjdfstest
from scripts.suites.place import open_place

SUITES = ("pjdfstest", "fsx", "fio")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/posix", description=__doc__)
    parser.add_argument("suites", nargs="*", help=f"of {', '.join(SUITES)}; default: all that are there")
    parser.add_argument(
        "--pjdfstest", type=Path, metavar="DIR", default=os.environ.get("PJDFSTEST"),
        help="a checkout of pjdfstest that was built; default: $PJDFSTEST (runs as root only)",
    )  # fmt: skip
    parser.add_argument(
        "--only", action="append", default=[], metavar="GROUP", help="groups or files: chmod, open/03"
    )
    parser.add_argument(
        "--fsx", metavar="PROGRAM", default=shutil.which("fsx"), help="`cargo install fsx` makes one"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write-back", choices=("close", "async", "both"), default="both")
    parser.add_argument(
        "--mount-option", action="append", default=[], metavar="OPTION",
        help="for `cos mount`, may be repeated: --mount-option=--metadata-ttl=0",
    )  # fmt: skip
    found = parser.parse_args()
    if wrong := set(found.suites) - set(SUITES):
        parser.error(f"no such suite: {', '.join(sorted(wrong))}")
    return found


def _missing(arguments: argparse.Namespace, suite: str) -> str:
    """Why a suite cannot be run here, if it cannot."""
    if suite == "pjdfstest" and not arguments.pjdfstest:
        return "tell where it is: --pjdfstest DIR"
    if suite == "pjdfstest" and os.geteuid() != 0:
        return "it acts as several users, so run it as root"
    if suite == "fsx" and not arguments.fsx:
        return "install it (`cargo install fsx`) or tell where it is: --fsx PROGRAM"
    if suite == "fio" and not shutil.which("fio"):
        return "install the package fio"
    return ""


def _run(arguments: argparse.Namespace, suite: str, write_back: str) -> bool:
    print(" ".join([f"{suite}, --write-back {write_back}", *arguments.mount_option]), flush=True)
    for_others = ["--allow-other"] if os.geteuid() == 0 else []
    with open_place(write_back, *for_others, *arguments.mount_option) as place:
        if suite == "pjdfstest":
            return pjdfstest.run(place, arguments.pjdfstest.resolve(), arguments.only)
        if suite == "fsx":
            return fsx.run(place, arguments.fsx, arguments.seed)
        return fio.run(place)


def main() -> int:
    end_tidily()
    arguments = _arguments()
    modes = ("close", "async") if arguments.write_back == "both" else (arguments.write_back,)
    good, ran = True, 0
    for suite in arguments.suites or SUITES:
        if why := _missing(arguments, suite):
            print(f"{suite}: not run: {why}")
            good = good and suite not in arguments.suites
            continue
        for mode in modes:
            good = _run(arguments, suite, mode) and good
            ran += 1
    print(f"posix: {'all as COS allows' if good and ran else 'NOT all as promised'}")
    return 0 if good and ran else 1


if __name__ == "__main__":
    raise SystemExit(main())
