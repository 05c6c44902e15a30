"""fio: writes with checksums inside every block, reads them back and compares."""

from __future__ import annotations

import subprocess

from scripts.suites.place import Place

LIMIT = 600.0
JOBS = {
    "sequential": ("--rw=write", "--bs=1M", "--size=96M"),
    "random 4 KiB": ("--rw=randwrite", "--bs=4k", "--size=16M"),
    "random, mixed sizes": ("--rw=randrw", "--bsrange=512-128k", "--bs_unaligned", "--size=24M"),
    "mapped": ("--rw=randwrite", "--bs=4k", "--size=16M", "--ioengine=mmap"),
    "direct": ("--rw=randwrite", "--bs=64k", "--size=32M", "--direct=1"),
    "four at once": ("--rw=randwrite", "--bs=16k", "--size=8M", "--numjobs=4"),
    "with fsync": ("--rw=randwrite", "--bs=16k", "--size=4M", "--fsync=64"),
}


def run(place: Place) -> bool:
    good = True
    for name, options in JOBS.items():
        where = place.directory("fio-" + name.replace(" ", "-").replace(",", ""))
        command = [
            "fio",
            "--name=verify",
            f"--directory={where}",
            "--verify=crc32c",
            "--verify_fatal=1",
            *options,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, cwd=place.scratch)
        good = good and done.returncode == 0
        said = (
            "verified"
            if done.returncode == 0
            else f"exit code {done.returncode}\n{done.stdout[-2000:]}{done.stderr}"
        )
        print(f"  fio, {name}: {said}", flush=True)
    return good
