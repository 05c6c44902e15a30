"""cos head, tail, find, tree, diff."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cli.tree import Node, Options, nodes
from tests.cli.conftest import Run

if TYPE_CHECKING:
    from cosfs.client.client import CosClient
    from cosfs.emulator import Emulator
    from tests.conftest import Cos

LINES = b"".join(b"line %d\n" % number for number in range(50_000))  # more than one request shows


@pytest.fixture
def text(client: CosClient, bucket: str) -> str:
    client.put_object(bucket, "d/text", LINES)
    return f"cos://{bucket}/d/text"


# --- diff


def test_diff_with_what_does_not_exist_is_an_error(run: Run, text: str, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(LINES)
    for args in (
        [f"cos://{bucket}/d/none", text],
        [text, f"cos://{bucket}/d/none"],
        ["f", f"cos://{bucket}/none"],
        [f"cos://{bucket}/none", f"cos://{bucket}/other"],
    ):
        assert "no such object" in run("diff", *args, code=254).err
    assert run("diff", "f", text).out == ""


# --- head, tail


@pytest.mark.parametrize("count", [0, 1, 10, 3000, 50_000, 60_000])
def test_first_and_last_lines(run: Run, text: str, count: int) -> None:
    lines = LINES.decode().splitlines()
    assert run("head", "-n", count, text).lines == lines[:count]
    assert run("tail", "-n", count, text).lines == (lines[-count:] if count else [])


def test_ten_lines_are_the_default(run: Run, text: str) -> None:
    assert run("head", text).lines == [f"line {number}" for number in range(10)]
    assert run("tail", text).lines == [f"line {number}" for number in range(49_990, 50_000)]


@pytest.mark.parametrize("count", [0, 1, 7, 100_000, 10_000_000])
def test_first_and_last_bytes(run: Run, text: str, count: int) -> None:
    assert run("head", "-c", count, text).out.encode() == LINES[:count]
    assert run("tail", "-c", count, text).out.encode() == (LINES[-count:] if count else b"")


def test_only_what_is_shown_is_read(run: Run, text: str, emulator: Emulator) -> None:
    emulator.requests.reset()
    run("head", text)
    run("tail", text)
    assert emulator.requests["GetObject"] == 2
    assert emulator.requests["HeadObject"] == 2


@pytest.mark.parametrize("data", [b"", b"\n", b"no end", b"a\n\nb", b"\n\n\n"])
def test_odd_ends(run: Run, client: CosClient, bucket: str, data: bytes) -> None:
    client.put_object(bucket, "k", data)
    for count in range(5):
        for command in ("head", "tail"):
            expected = subprocess.run(
                [command, "-n", str(count)], input=data, capture_output=True, check=True
            ).stdout
            assert run(command, "-n", count, f"cos://{bucket}/k").out.encode() == expected


def test_several_have_titles_and_one_missing_does_not_stop_the_rest(
    run: Run, client: CosClient, bucket: str
) -> None:
    client.put_object(bucket, "a", b"1\n")
    client.put_object(bucket, "b", b"2\n")
    result = run("head", *(f"cos://{bucket}/{key}" for key in ("a", "none", "b")), code=1)
    assert result.out == f"==> cos://{bucket}/a <==\n1\n\n==> cos://{bucket}/b <==\n2\n"
    assert "none" in result.err


def test_an_old_version_is_shown(run: Run, client: CosClient, bucket: str, text: str) -> None:
    run("versioning", "enable", f"cos://{bucket}")
    client.put_object(bucket, "v", b"old\n")
    old = client.list_versions(bucket, prefix="v").versions[0].version_id
    client.put_object(bucket, "v", b"new\n")
    assert run("head", f"cos://{bucket}/v", "--version-id", old).out == "old\n"
    assert run("tail", f"cos://{bucket}/v", "--version-id", old).out == "old\n"
    assert run("tail", f"cos://{bucket}/v").out == "new\n"
    run("head", "--version-id", old, text, text, code=252)


def test_tail_follows_an_object_that_grows(cos: Cos, client: CosClient, bucket: str) -> None:
    client.put_object(bucket, "log", b"one\n")
    url = f"cos://{bucket}/log"
    with subprocess.Popen(
        ["cos", "tail", "-f", "--interval", "50ms", url],
        env=dict(cos.environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        watchdog = threading.Timer(150, process.kill)
        watchdog.start()
        assert process.stdout.readline() == b"one\n"
        client.put_object(bucket, "log", b"one\ntwo\n")
        assert process.stdout.readline() == b"two\n"
        client.put_object(bucket, "log", b"new\n")
        assert process.stdout.readline() == b"new\n"
        process.terminate()
        watchdog.cancel()
        process.wait(90)


# --- find


@pytest.fixture
def tree(client: CosClient, bucket: str) -> str:
    sizes = {"a.log": 10, "b.txt": 2000, "logs/c.LOG": 30, "logs/2026/d.log": 4, "odd/{x}\n.log": 1}
    for key, size in sizes.items():
        client.put_object(bucket, f"t/{key}", b"x" * size)
    return f"cos://{bucket}/t/"


def found(result: list[str]) -> list[str]:
    return sorted(url.partition("/t/")[2] for url in result)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--name", "*.log"], ["a.log", "logs/2026/d.log", "odd/{x}\\n.log"]),
        (["--iname", "*.log", "--max-depth", "1"], ["a.log", "logs/c.LOG", "odd/{x}\\n.log"]),
        (["--name", "*.txt", "--name", "a*"], ["a.log", "b.txt"]),
        (["--path", "logs/*"], ["logs/2026/d.log", "logs/c.LOG"]),
        (["--regex", r"/\d{4}/"], ["logs/2026/d.log"]),
        (["--larger", "10"], ["b.txt", "logs/c.LOG"]),
        (["--larger", "10", "--smaller", "100"], ["logs/c.LOG"]),
        (["--newer-than", "1h", "--name", "b*"], ["b.txt"]),
        (["--older-than", "1h"], []),
        (["--storage-class", "archive"], []),
        (["--storage-class", "standard", "--max-depth", "0"], ["a.log", "b.txt"]),
    ],
)
def test_find(run: Run, tree: str, options: list[str], names: list[str]) -> None:
    assert found(run("find", tree, *options).lines) == names


def test_find_prints_what_is_asked_for(run: Run, tree: str, bucket: str) -> None:
    assert run("find", tree, "--name", "d*", "--print", "{{{size}}} {dir} {base} {key}").lines == [
        "{4} t/logs/2026 d.log t/logs/2026/d.log"
    ]
    assert run("find", tree, "--path", "odd/*", "--print0").out == f"cos://{bucket}/t/odd/{{x}}\n.log\0"
    assert run("find", tree, "--count").out == "5\n"
    assert [each["Size"] for each in run("find", tree, "--output", "json").json["Objects"]] == [
        10, 2000, 4, 30, 1
    ]  # fmt: skip
    assert run("find", f"cos://{bucket}/nothing", "--output", "json").json == {"Objects": []}
    assert len(run("find", tree, "--output", "jsonl").events) == 5
    assert "b.txt" in run("find", tree, "--output", "table").out


def test_find_runs_commands_without_a_shell(run: Run, tree: str, tmp_path: Path, bucket: str) -> None:
    result = run("find", tree, "--path", "odd/*", "--exec", "printf '%s|%s' {key} '{size};$HOME'")
    assert result.out == "t/odd/{x}\n.log|1;$HOME"
    assert run("find", tree, "--name", "a.log", "--exec", "echo").out == f"cos://{bucket}/t/a.log\n"
    assert "exit code 1" in run("find", tree, "--name", "a.log", "--exec", "false", code=1).err


@pytest.mark.parametrize(
    "options",
    [
        ["--print", "{nothing}"],
        ["--exec", "echo {nothing}"],
        ["--exec", "'"],
        ["--exec", ""],
        ["--regex", "("],
        ["--name", "["],
        ["--path", "a/[!"],
        ["--count", "--print0"],
        ["--larger", "big"],
        ["--exec", "/no/such/program"],
    ],
)
def test_find_refuses_what_it_cannot_do(run: Run, tree: str, options: list[str]) -> None:
    run("find", tree, *options, code=252)


# --- tree


def test_tree(run: Run, tree: str) -> None:
    assert run("tree", tree, "--sizes").lines[1:] == [
        "├── [10 B]  a.log",
        "├── [2.0 KB]  b.txt",
        "├── logs/",
        "│   ├── 2026/",
        "│   │   └── [4 B]  d.log",
        "│   └── [30 B]  c.LOG",
        "└── odd/",
        "    └── [1 B]  {x}\\n.log",
        "",
        "3 directories, 5 objects",
    ]


def test_tree_of_some_levels_lists_no_deeper(run: Run, tree: str, emulator: Emulator) -> None:
    emulator.requests.reset()
    assert run("tree", tree, "--depth", "1").lines[1:] == [
        "├── a.log",
        "├── b.txt",
        "├── logs/",
        "└── odd/",
        "",
        "2 directories, 2 objects",
    ]
    assert emulator.requests["ListObjects"] == 1
    assert run("tree", tree, "--depth", "2", "--dirs-only").lines[1:] == [
        "├── logs/",
        "│   └── 2026/",
        "└── odd/",
        "",
        "3 directories",
    ]


def test_tree_in_json_and_of_nothing(run: Run, tree: str, bucket: str) -> None:
    first = run("tree", tree, "--output", "json").json["Nodes"][0]
    assert first == {"Depth": 0, "Name": "a.log", "Size": 10}
    assert json.loads(run("tree", tree, "--output", "jsonl").lines[2]) == {"Depth": 0, "Name": "logs/"}
    run("tree", f"cos://{bucket}/nothing/", code=1)
    assert run("tree", f"cos://{bucket}/").lines[-1]


def test_tree_knows_a_name_that_is_both_object_and_directory() -> None:
    keys: Iterator[tuple[str, int | None]] = iter([("a", 1), ("a/", 0), ("a/b", 2), ("a//c", 3)])
    options = Options(depth=None, sizes=False, dirs_only=False, page_size=1000)
    assert list(nodes(keys, "", options)) == [
        Node(0, "a", 1),
        Node(0, "a/", None),
        Node(1, "b", 2),
        Node(1, "/", None),
        Node(2, "c", 3),
    ]


# --- diff


def test_diff_of_texts(run: Run, client: CosClient, bucket: str, tmp_path: Path) -> None:
    client.put_object(bucket, "k", b"one\ntwo\x1b[31m\nthree\n")
    (tmp_path / "f").write_bytes(b"one\n2\nthree\n")
    result = run("diff", "f", f"cos://{bucket}/k", code=1)
    assert result.lines == [
        "--- f",
        f"+++ cos://{bucket}/k",
        "@@ -1,3 +1,3 @@",
        " one",
        "-2",
        "+two\\x1b[31m",
        " three",
    ]
    assert run("diff", f"cos://{bucket}/k", f"cos://{bucket}/k").out == ""


def test_diff_of_what_is_not_text(run: Run, client: CosClient, bucket: str) -> None:
    client.put_object(bucket, "a", b"\0\1\2")
    client.put_object(bucket, "b", b"\0\1\3")
    assert "differ" in run("diff", f"cos://{bucket}/a", f"cos://{bucket}/b", code=1).out


def test_diff_of_trees(run: Run, tree: str, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/a.log").write_bytes(b"x" * 10)
    (tmp_path / "d/more").write_bytes(b"")
    result = run("diff", "d", tree, "--exclude", "odd/*", "--exclude", "logs/*", code=1)
    assert "more" in result.out and "b.txt" in result.out and "a.log" not in result.out
    run("diff", "d", f"cos://{bucket}/none", code=1)


def test_key_copied_from_a_list_that_escapes_it(run: Run, client: CosClient, bucket: str) -> None:
    client.put_object(bucket, "two\nlines", b"x")
    copied = run("ls", f"cos://{bucket}/two", "--output", "text").lines[0]
    assert copied == "two\\nlines"
    for command, code in (("cat", 1), ("stat", 254), ("ls", 1), ("rm", 0)):
        told = run(command, f"cos://{bucket}/{copied}", code=code).err
        assert "If \\n stands for one character, as in lists, write the URL as $'...' in the shell" in told
    assert "stands for" not in run("cat", f"cos://{bucket}/back\\slash", code=1).err
    assert run("cat", f"cos://{bucket}/two\nlines").out == "x"
