"""pjdfstest: 238 shell scripts that ask every system call for every errno.

Passed means that each assertion of a file held. Files that ask nothing on this system (they are about file
flags and ACLs of others) are counted apart.
"""

from __future__ import annotations

import re
import subprocess
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from scripts.suites.place import Place

FILE_LIMIT = 300.0  # seconds for one file
JOBS = 4  # many files mostly sleep, to see times change

# COS has no hard links.
LINKS = frozenset({*(f"link/{n:02}" for n in range(18)), "rename/00", "rename/23", "unlink/00"})
# They make a path of 4,095 bytes; a key of COS holds 850.
LONG_PATHS = frozenset(
    {
        *(f"{group}/03" for group in ("chmod", "chown", "ftruncate", "truncate", "open", "unlink")),
        *(f"{group}/03" for group in ("mkdir", "mkfifo", "mknod", "rmdir", "symlink")),
        "rename/02",
    }
)


@dataclass(frozen=True)
class Answer:
    """What came of one file: problems are the assertions that did not hold."""

    name: str
    asked: int
    problems: Sequence[str]

    @property
    def skipped(self) -> bool:
        return not self.asked and not self.problems


def _is_built(checkout: Path) -> bool:
    return (checkout / "pjdfstest").is_file() and (checkout / "tests").is_dir()


def _ask(checkout: Path, place: Place, name: str) -> Answer:
    directory = place.directory(name.replace("/", "-"))
    command = ["sh", str(checkout / "tests" / f"{name}.t")]
    try:
        done = subprocess.run(
            command, cwd=directory, capture_output=True, text=True, errors="replace", timeout=FILE_LIMIT
        )
    except subprocess.TimeoutExpired:
        return Answer(name, 0, ["did not end"])
    return _read(name, done.stdout)


def _read(name: str, output: str) -> Answer:
    """Read the Test Anything Protocol; what is marked TODO is no promise of the system."""
    lines = output.splitlines()
    plan = next((int(match[1]) for line in lines if (match := re.match(r"1\.\.(\d+)", line))), None)
    results = [line for line in lines if re.match(r"(not )?ok\b", line)]
    problems = [line for line in results if line.startswith("not ok") and "# TODO" not in line]
    if plan is None or plan != len(results):
        problems.append(f"{len(results)} answers instead of {plan}")
    if plan == 1 and len(lines) == 2 and not problems:
        return Answer(name, 0, [])  # how a file skips itself: one `ok` without a question
    return Answer(name, plan or 0, problems)


def run(place: Place, checkout: Path, groups: Sequence[str]) -> bool:
    """Print the score and what failed; true if nothing failed but what COS cannot do."""
    if not _is_built(checkout):
        raise SystemExit(f"posix: {checkout} holds no built pjdfstest (its program and its folder tests)")
    tests = checkout / "tests"
    names = [str(path.relative_to(tests).with_suffix("")) for path in sorted(tests.glob("*/*.t"))]
    chosen = [name for name in names if not groups or name in groups or name.partition("/")[0] in groups]
    with ThreadPoolExecutor(JOBS) as pool:
        answers = list(pool.map(lambda name: _ask(checkout, place, name), chosen))
    return _tell(answers)


def _tell(answers: Sequence[Answer]) -> bool:
    failed: dict[str, list[str]] = defaultdict(list)
    good = True
    for answer in answers:
        if not answer.problems:
            continue
        group, _, number = answer.name.partition("/")
        failed[group].append(number)
        if answer.name in LINKS or answer.name in LONG_PATHS:
            continue
        good = False
        for line in answer.problems[:6]:
            print(f"  {answer.name}: {line}")
    for group, numbers in failed.items():
        print(f"  failed of {group}: {' '.join(numbers)}")
    silent = sum(answer.skipped for answer in answers)
    passed = sum(not answer.problems for answer in answers)
    print(f"  passed: {passed} of {len(answers)} files ({silent} ask nothing here);", end=" ")
    print(f"{sum(answer.asked for answer in answers)} questions")
    return good
