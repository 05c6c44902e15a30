"""cos run: many commands in one process; and doing again what a report says has failed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.objects import keys

if TYPE_CHECKING:
    from cosfs.client.client import CosClient
    from cosfs.emulator import Emulator

Run = Callable[..., Any]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """20 small files and one of several parts."""
    for number in range(20):
        (tmp_path / f"f {number:02}").write_text(str(number))
    (tmp_path / "big").write_bytes(bytes(18_000_000))
    return tmp_path


def write(path: Path, *lines: str) -> None:
    (path / "list").write_text("".join(f"{line}\n" for line in lines))


def test_lines_of_all_kinds(run: Run, client: CosClient, bucket: str, files: Path) -> None:
    client.put_object(bucket, "old/a", b"1")
    client.put_object(bucket, "old/b", b"22")
    write(
        files,
        "# a comment",
        "",
        *(f"cp 'f {number:02}' cos://{bucket}/in/" for number in range(20)),
        f'cos cp big "cos://{bucket}/b i g"',
        f"  cp cos://{bucket}/old/a fetched",
        f"cp -r cos://{bucket}/old/ tree/ --exclude a",
        f"rm cos://{bucket}/gone",
        f"ls cos://{bucket}/old/",
        f"cp 'cos://{bucket}/old/*' globbed/",
    )
    result = run("run", "list")
    assert len(keys(client, bucket, "in/")) == 20 and keys(client, bucket, "b i g")
    assert (files / "fetched").read_text() == "1"
    assert [path.name for path in (files / "tree").iterdir()] == ["b"]
    assert sorted(path.name for path in (files / "globbed").iterdir()) == ["a", "b"]
    told = result.err.splitlines()
    assert f"upload: f 07 to cos://{bucket}/in/f 07" in told
    assert sum(line.startswith("upload:") for line in told) == 21
    assert [line.split()[-2:] for line in result.lines] == [["1", "a"], ["2", "b"]]


@pytest.mark.parametrize("piped", [False, True], ids=["file", "pipe"])
@pytest.mark.parametrize("output", ["text", "jsonl"])
def test_data_has_stdout_for_itself(
    client: CosClient, bucket: str, files: Path, cos_environment: dict[str, str], output: str, piped: bool
) -> None:
    client.put_object(bucket, "data", b"no newline at its end")
    write(
        files,
        f"cat cos://{bucket}/data",
        *(f"cp 'f {number:02}' cos://{bucket}/in/" for number in range(5)),
        f"cp cos://{bucket}/data -",
    )
    result = subprocess.run(
        ["cos", "run", "-" if piped else "list", "--output", output],
        input=(files / "list").read_bytes(),
        cwd=files, env=cos_environment, capture_output=True, check=True,
    )  # fmt: skip
    assert result.stdout == b"no newline at its end" * 2
    assert result.stderr.count(b"upload") == 5


def test_results_are_on_stdout_where_no_data_is(run: Run, bucket: str, files: Path) -> None:
    write(files, f"cp 'f 00' cos://{bucket}/", f"rm cos://{bucket}/x")
    assert len(run("run", "list").lines) == 2


def test_one_process_and_one_pool_of_connections(
    run: Run, bucket: str, files: Path, emulator: Emulator
) -> None:
    write(files, *(f"cp 'f {number % 20:02}' cos://{bucket}/{number}" for number in range(100)))
    emulator.requests.reset()
    event = run("run", "list", "--output", "jsonl").events[-1]
    assert (event["type"], event["ok"], event["failed"]) == ("summary", 100, 0)
    assert emulator.requests["PutObject"] == emulator.requests.total == 100


def test_failing_lines_do_not_stop_the_others(run: Run, client: CosClient, bucket: str, files: Path) -> None:
    write(
        files,
        f"cp missing cos://{bucket}/x",
        f"cp 'f 00' cos://{bucket}/ok",
        f"cp cos://{bucket}/missing there",
        f"cp 'f 01' cos://{bucket}/ok2 --no-such-option",
        f"cp 'f 02' cos://{bucket}/ok3 --profile other",
        f"cp 'f 02' cos://{bucket}/ok3 --concurrency 3",
        f"ls cos://{bucket}/nothing",
    )
    result = run("run", "list", "--report", "r.jsonl", code=1)
    assert keys(client, bucket) == ["ok"]
    for text in (
        "line 1: missing: no such file",
        f"download failed: cos://{bucket}/missing",
        "line 4: no such option",
        "line 5: --profile is for all lines",
        "line 6: --concurrency",
        "line 7: nothing found",
    ):
        assert text in result.err
    events = [json.loads(line) for line in (files / "r.jsonl").read_text().splitlines()]
    assert events[0]["type"] == "command" and events[-1]["failed"] == 6 and events[-1]["ok"] == 1
    assert sorted(event["number"] for event in events if event["type"] == "line") == [1, 4, 5, 6, 7]


@pytest.mark.parametrize("line", ["mount cos://b /m", "run list", "nonsense", "cp 'open", "cp - cos://b/k"])
def test_what_cannot_be_run_is_refused_before_any_line_is(
    run: Run, bucket: str, files: Path, emulator: Emulator, line: str
) -> None:
    write(files, f"cp 'f 00' cos://{bucket}/x", line)
    emulator.requests.reset()
    result = run("run", "list", code=252)
    assert "line 2" in result.err and emulator.requests.total == 0
    assert "cp 'open" not in line or "no closing quotation: cp 'open" in result.err


def test_skipping_lines_exit_2(run: Run, client: CosClient, bucket: str, tmp_path: Path) -> None:
    client.put_object(bucket, "p/../x", b"1")
    write(tmp_path, f"cp -r cos://{bucket}/p/ out/")
    run("run", "list", code=2)


def test_data_that_lines_print_is_not_mixed(run: Run, client: CosClient, bucket: str, files: Path) -> None:
    bodies = [letter * 300_000 for letter in (b"a", b"b", b"c")]
    for body in bodies:
        client.put_object(bucket, f"d/{body[:1].decode()}", body)
    write(files, *(f"cat cos://{bucket}/d/{name}" for name in "abc"))
    out = run("run", "list").out.encode()
    assert all(body in out for body in bodies) and len(out) == 900_000
    write(files, *[f"ls cos://{bucket}/d/ --output json"] * 5)
    out, decoder = run("run", "list").out, json.JSONDecoder()
    for _ in range(5):
        document, end = decoder.raw_decode(out)
        out = out[end:].lstrip()
        assert len(document["Objects"]) == 3
    assert not out


@pytest.mark.parametrize("line", ["ls", "cat cos://b/k", "cp cos://b/k -"])
def test_json_is_one_document(run: Run, bucket: str, files: Path, emulator: Emulator, line: str) -> None:
    write(files, f"cp 'f 00' cos://{bucket}/x", f"rm cos://{bucket}/y")
    assert run("run", "list", "--output", "json").json["Summary"]["ok"] == 2
    write(files, f"cp 'f 00' cos://{bucket}/x", line)
    emulator.requests.reset()
    assert "line 2" in run("run", "list", "--output", "json", code=252).err and not emulator.requests.total


def test_commands_from_standard_input(cos: Any, client: CosClient, bucket: str, files: Path) -> None:
    done = cos("run", "-", input=f"cp 'f 03' cos://{bucket}/a\n\n# x\nbad\ncp 'f 04' cos://{bucket}/b\n")
    assert done.returncode == 1 and "line 4: there is no command 'bad'" in done.stderr
    assert keys(client, bucket) == ["a", "b"]


def test_dryrun_changes_nothing(
    run: Run, client: CosClient, bucket: str, files: Path, emulator: Emulator
) -> None:
    client.put_object(bucket, "k", b"")
    write(files, f"cp 'f 00' cos://{bucket}/x", f"rm cos://{bucket}/k", "mb cos://new-1250000000")
    result = run("run", "list", "--dryrun")
    assert sorted(result.lines) == [
        f"(dryrun) delete: cos://{bucket}/k",
        "(dryrun) make_bucket: new-1250000000",
        f"(dryrun) upload: f 00 to cos://{bucket}/x",
    ]
    assert keys(client, bucket) == ["k"]


def test_fail_fast(run: Run, client: CosClient, bucket: str, files: Path) -> None:
    lines = [f"cp 'f 00' cos://{bucket}/{number:03}" for number in range(600)]
    # No more than 64 lines run at a time, so some have ended when this one begins.
    write(files, *lines[:100], f"cp missing cos://{bucket}/x", *lines[100:])
    result = run("run", "list", "--fail-fast", "--concurrency", "2", code=1)
    assert "stopped at line 101" in result.err
    assert 36 < len(client.list_objects(bucket).objects) < 550


def test_prompts_are_not_for_lines(
    terminal: Callable[..., Any], client: CosClient, bucket: str, tmp_path: Path
) -> None:
    write(tmp_path, f"rb cos://{bucket} --all-versions")
    screen = terminal("run", "list")
    assert screen.finish() == 1
    assert "Add --yes" in screen.text and bucket in [each.name for each in client.list_buckets()]


def test_failed_items_are_done_again_with_their_options(
    run: Run, client: CosClient, bucket: str, files: Path, emulator: Emulator
) -> None:
    client.put_object(bucket, "old/[a]", b"1")
    client.put_object(bucket, "old/[b]", b"2")
    emulator.faults.error("PutObject", "AccessDenied", key="p/f 0?", count=0)
    emulator.faults.error("GetObject", "AccessDenied", count=0)
    emulator.faults.error("DeleteObjects", "AccessDenied", count=0)
    try:
        options = ["--metadata", "a=1,b=x y", "--no-guess-mime-type", "--storage-class", "STANDARD_IA"]
        run(
            "cp",
            "-r",
            ".",
            f"cos://{bucket}/p",
            "--report",
            "up.jsonl",
            "--exclude",
            "*.jsonl",
            *options,
            code=1,
        )
        write(files, f"cp cos://{bucket}/old/[a] here --key-policy encode", "# nothing")
        run("run", "list", "--report", "more.jsonl", code=1)
        run("rm", f"cos://{bucket}/old/[b]", code=1)
        write(files, f"rm cos://{bucket}/old/[b]", f"cp 'f 05' cos://{bucket}/p/f\\ 06 --tags x=1")
        run("run", "list", "--report", "last.jsonl", code=1)
    finally:
        emulator.faults.clear()
    assert len(keys(client, bucket, "p/")) == 11
    run("run", "--retry-failed", "up.jsonl", "--report", "again.jsonl")
    assert len(keys(client, bucket, "p/")) == 21
    info = client.head_object(bucket, "p/f 05")
    assert info is not None and info.headers is not None
    assert dict(info.headers.metadata) == {"a": "1", "b": "x y"} and info.storage_class == "STANDARD_IA"
    run("run", "--retry-failed", "again.jsonl")
    run("run", "--retry-failed", "more.jsonl")
    assert (files / "here").read_text() == "1"
    run("run", "--retry-failed", "last.jsonl")
    assert keys(client, bucket, "old/") == ["old/[a]"]
    assert client.object_tags(bucket, "p/f 06") == "x=1"


def test_failed_items_can_be_a_list_of_files(
    run: Run,
    client: CosClient,
    bucket: str,
    files: Path,
    emulator: Emulator,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    report = tmp_path_factory.mktemp("elsewhere") / "r.jsonl"
    emulator.faults.error("PutObject", "AccessDenied", key="p/f 0?", count=0)
    try:
        run("cp", "-r", ".", f"cos://{bucket}/p", "--report", report, code=1)
    finally:
        emulator.faults.clear()
    emulator.requests.reset()
    result = run("cp", ".", f"cos://{bucket}/p", "--files-from", report)
    assert len(result.lines) == 10 and len(keys(client, bucket, "p/")) == 21


def test_secret_options_are_not_written_and_cannot_be_repeated(
    run: Run, bucket: str, files: Path, emulator: Emulator
) -> None:
    emulator.faults.error("PutObject", "AccessDenied")
    run("cp", "f 00", f"cos://{bucket}/k", "--sse-c-key", "k" * 32, "--report", "r.jsonl", code=1)
    assert "kkkk" not in (files / "r.jsonl").read_text()
    assert "--sse-c-key" in run("run", "--retry-failed", "r.jsonl", code=252).err


@pytest.mark.parametrize("name", ["a\u2028b", "a\x85b", "a\x0bb", " a"])
def test_only_line_feeds_end_lines(run: Run, client: CosClient, bucket: str, files: Path, name: str) -> None:
    (files / name).write_text("x")
    write(files, f"cp '{name}' 'cos://{bucket}/in/{name}'")
    run("run", "list")
    assert keys(client, bucket) == [f"in/{name}"]
    run("cp", name, f"cos://{bucket}/", "--no-overwrite", "--report", "r.jsonl")
    report = (files / "r.jsonl").read_text().replace('"status":"ok"', '"status":"failed"')
    (files / "r.jsonl").write_text(report)
    (files / "patterns").write_text(f"{name}\n")
    run("cp", "-r", ".", f"cos://{bucket}/again", "--include-from", "patterns")
    run("rm", f"cos://{bucket}/{name}")
    run("run", "--retry-failed", "r.jsonl")
    assert keys(client, bucket) == sorted(f"{place}{name}" for place in ("again/", "in/", ""))


@pytest.mark.parametrize("text", ["[1]", '"x"', "3", "null", "{", "cp a b"])
def test_what_is_no_report_is_refused(run: Run, tmp_path: Path, text: str) -> None:
    (tmp_path / "r.jsonl").write_text(f"{text}\n")
    assert "line 1 of r.jsonl" in run("run", "--retry-failed", "r.jsonl", code=252).err


@pytest.mark.parametrize(
    "args", [[], ["list", "--retry-failed", "r"], ["missing"], ["--retry-failed", "missing"]]
)
def test_what_makes_no_sense(run: Run, tmp_path: Path, args: list[str]) -> None:
    run("run", *args, code=252)


def test_interruption_ends_all_lines(
    client: CosClient, bucket: str, files: Path, emulator: Emulator, cos_environment: dict[str, str]
) -> None:
    import signal
    import time

    write(files, *(f"cp 'f {number % 20:02}' cos://{bucket}/{number}" for number in range(200)))
    emulator.faults.latency(0.3, "PutObject", count=0)
    try:
        process = subprocess.Popen(
            ["cos", "run", "list", "--concurrency", "4"],
            cwd=files, env=cos_environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        end = time.monotonic() + 90
        while len(client.list_objects(bucket).objects) < 2 and time.monotonic() < end:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=90)
    finally:
        emulator.faults.clear()
    assert process.returncode == 130, err[-3000:]
    assert "interrupted" in err and "Traceback" not in err
    assert 0 < len(keys(client, bucket)) < 190
