"""Compare the packages that pyproject.toml names with the directories that hold code.

A package that is missing there works from the checkout and is absent from the wheel. With the name of a
Python, its installed modules and their data are compared with the tree too.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

TREE = Path(__file__).resolve().parent.parent
# cli/ is installed as cosfs.cli.
FOLDERS = {"cosfs": "cosfs", "cli": "cosfs.cli"}
# Files that are no modules and belong to a package: the emulator's page, and what tells of types.
DATA = ("*.html", "*.css", "*.js", "py.typed")
LIST_INSTALLED = f"""
import pathlib, cosfs
root = pathlib.Path(cosfs.__file__).parent
for path in root.rglob("*.py"):
    print(".".join(path.relative_to(root.parent).with_suffix("").parts))
for pattern in {DATA}:
    for path in root.rglob(pattern):
        print(path.relative_to(root.parent))
"""


def tree_modules() -> set[str]:
    """Return the dotted names of all modules of the tree, as they are once installed."""
    modules = set()
    for folder, package in FOLDERS.items():
        for path in (TREE / folder).rglob("*.py"):
            modules.add(".".join((package, *path.relative_to(TREE / folder).with_suffix("").parts)))
    return modules


def tree_data() -> set[str]:
    """Return the files of the tree that are data of packages, as they are once installed."""
    found = [path for folder in FOLDERS for pattern in DATA for path in (TREE / folder).rglob(pattern)]
    return {str(path.relative_to(TREE)) for path in found}


def told(found: set[str], wanted: set[str], place: str) -> int:
    """Print the difference; return 1 if there is one."""
    for name in sorted(wanted - found):
        print(f"{name} is missing from {place}")
    for name in sorted(found - wanted):
        print(f"{name} is in {place}, but not in the tree")
    return int(found != wanted)


def main() -> int:
    named = tomllib.loads((TREE / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    failed = told(
        set(named), {name.rpartition(".")[0] for name in tree_modules()}, "pyproject.toml's packages"
    )
    for python in sys.argv[1:]:
        # Outside the tree, or its own cosfs would be found first.
        output = subprocess.run(
            [Path(python).absolute(), "-c", LIST_INSTALLED],
            check=True,
            capture_output=True,
            text=True,
            cwd="/",
        )
        failed |= told(set(output.stdout.split()), tree_modules() | tree_data(), python)
    return failed


if __name__ == "__main__":
    raise SystemExit(main())
