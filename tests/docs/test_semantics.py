"""Each promise of the pages below names the tests that show it, and those tests exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[2]
PAGES = [TREE / "docs" / name for name in ("semantics.md", "sync.md", "interrupted.md")]
REFERENCE = re.compile(r"`([\w/]+\.py)::(\w+)`")


def promises() -> list[str]:
    """Return the list items of the pages, each with the lines it goes on over."""
    texts = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    return re.findall(r"^- .*(?:\n  .*)*", texts, re.MULTILINE)


def names_of_tests(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    return {node.name for node in ast.walk(tree) if isinstance(node, functions)}


def test_there_are_promises() -> None:
    assert len(promises()) > 20


@pytest.mark.parametrize("promise", promises(), ids=lambda text: text[2:42])
def test_promise_names_its_tests(promise: str) -> None:
    references = REFERENCE.findall(promise)
    assert references, f"no test is named in: {promise}"
    for file, name in references:
        path = TREE / "tests" / file
        assert path.exists(), path
        assert name in names_of_tests(path), f"{file} has no {name}"
