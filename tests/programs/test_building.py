"""Programs that make many files: git, make and a compiler, pip."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.fuse.support import make_tree, run
from tests.programs.conftest import Place

pytestmark = pytest.mark.fuse

PARTS = 6
MAKEFILE = """
parts := $(patsubst %.c,%.o,$(wildcard *.c))
program: libparts.a main/main.o
	$(CC) -o $@ main/main.o -L. -lparts
libparts.a: $(parts)
	$(AR) rcs $@ $^
%.o: %.c parts.h
	$(CC) -O1 -c -o $@ $<
clean:
	rm -f program libparts.a *.o main/*.o
"""


def test_git(place: Place, tmp_path: Path) -> None:
    origin, work = tmp_path / "origin", place.path / "clone"
    make_tree(origin)
    as_author = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    run("git", "init", "--quiet", "--initial-branch=main", origin)
    run("git", "-C", origin, "add", ".")
    run("git", "-C", origin, *as_author, "commit", "--quiet", "-m", "first")
    run("git", "clone", "--quiet", "--no-hardlinks", origin, work)
    git = ("git", "-C", work, *as_author)
    (work / "script").write_text("#!/bin/sh\necho changed\n")
    run(*git, "mv", "dir 0", "renamed")
    run(*git, "commit", "--quiet", "-am", "second")
    run(*git, "checkout", "--quiet", "-b", "branch", "HEAD~1")
    run(*git, "merge", "--quiet", "main")
    run(*git, "stash", "list")
    run(*git, "gc", "--quiet", "--prune=now")
    run(*git, "fsck", "--strict")
    assert run(*git, "status", "--porcelain") == ""
    run(*git, "push", "--quiet", origin, "branch")
    assert run("git", "-C", origin, "log", "--format=%s", "branch") == "second\nfirst\n"
    assert (work / "renamed" / "ü" / "file-3.txt").is_file()


def make_project(top: Path) -> None:
    (top / "main").mkdir(parents=True)
    (top / "Makefile").write_text(MAKEFILE)
    names = [f"part{number}" for number in range(PARTS)]
    (top / "parts.h").write_text("".join(f"int {name}(void);\n" for name in names))
    for number, name in enumerate(names):
        (top / f"{name}.c").write_text(f'#include "parts.h"\nint {name}(void) {{ return {number}; }}\n')
    total = " + ".join(f"{name}()" for name in names)
    body = f'int main(void) {{ printf("%d\\n", {total}); return 0; }}\n'
    (top / "main" / "main.c").write_text(f'#include <stdio.h>\n#include "../parts.h"\n{body}')


def test_make_and_a_compiler(place: Place) -> None:
    top = place.path / "project"
    make_project(top)
    run("make", "-C", top, "-j3", "--quiet", "--no-print-directory")
    assert run(top / "program") == "15\n"
    assert "up to date" in run("make", "-C", top, "program")
    (top / "part1.c").write_text("int part1(void) { return 100; }\n")
    printed = run("make", "-C", top)
    assert "part1.o" in printed and "part2.o" not in printed.replace("ar rcs", "").split("libparts.a")[0]
    assert run(top / "program") == "114\n"
    run("make", "-C", top, "--quiet", "clean")
    assert sorted(path.name for path in top.iterdir()) == sorted(
        ["Makefile", "main", "parts.h", *(f"part{number}.c" for number in range(PARTS))]
    )


def make_wheel(directory: Path) -> Path:
    """A wheel of one module, made without any tool that would need the network."""
    info = "little-1.0.dist-info"
    files = {
        "little/__init__.py": "def answer():\n    return 42\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: little\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\nlittle = little:answer\n",
    }
    lines = []
    for name, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(text)}")
    files[f"{info}/RECORD"] = "\n".join([*lines, f"{info}/RECORD,,", ""])
    path = directory / "little-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
    return path


def test_pip_installs_into_an_environment_on_the_mount(place: Place, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path)
    environment = place.path / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", environment)
    python = environment / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "--quiet", "--disable-pip-version-check")
    run(*pip, "install", "--no-index", "--root-user-action=ignore", wheel)
    assert run(python, "-c", "import little; print(little.answer())") == "42\n"
    assert subprocess.run([environment / "bin" / "little"], check=False).returncode == 42
    run(*pip, "uninstall", "--yes", "--root-user-action=ignore", "little")
    assert list((environment / "lib").glob("*/site-packages/little*")) == []
