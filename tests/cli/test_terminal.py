"""What a person sees: progress, tables, questions; and Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from cosfs.client.client import CosClient
    from cosfs.emulator import Emulator

Start = Callable[..., Any]
BAR = "━"
HELD = 3600.0  # seconds that a request takes which is not to be answered


@pytest.fixture
def big(tmp_path: Path) -> Path:
    path = tmp_path / "big"
    path.write_bytes(bytes(12_000_000))
    return path


@pytest.fixture
def half(emulator: Emulator) -> Iterator[Callable[[], None]]:
    """Uploads go on half-way when this is called: what is shown of them does not depend on the time."""
    fault = emulator.faults.stall_request(HELD, "PutObject", 4_000_000, count=0)
    yield lambda: emulator.faults.release(fault)
    emulator.faults.release(fault)


Half = Callable[[], None]


def test_progress_is_drawn_on_the_terminal_and_never_on_stdout(
    terminal: Start, bucket: str, big: Path
) -> None:
    # A speed needs bytes that move between two looks: it takes three seconds.
    screen = terminal("cp", "big", f"cos://{bucket}/big", "--max-bandwidth", "4MB/s", stdout_pipe=True)
    screen.read_until(BAR)
    screen.read_until("B/s")
    assert screen.finish() == 0
    assert "uploading" in screen.text and "/11.4 MB" in screen.text
    out = screen.process.stdout.read().decode()
    assert out == f"upload: big to cos://{bucket}/big\n"


def test_display_goes_away_and_the_result_stays(terminal: Start, bucket: str, big: Path, half: Half) -> None:
    screen = terminal("cp", "big", f"cos://{bucket}/big")
    screen.read_until(BAR)
    half()
    assert screen.finish() == 0
    before, result, after = screen.text.rpartition(f"upload: big to cos://{bucket}/big\n")
    assert result and before.endswith("\x1b[J")
    assert after == "" or after.endswith("\x1b[J")  # it may have been drawn once more


def test_tree_shows_its_large_files_and_counts(
    terminal: Start, bucket: str, tmp_path: Path, half: Half
) -> None:
    (tmp_path / "d").mkdir()
    for name in ("one", "two"):
        (tmp_path / "d" / name).write_bytes(bytes(8_000_000))
    for number in range(20):
        (tmp_path / "d" / f"small{number}").write_text("x")
    screen = terminal("cp", "-r", "d", f"cos://{bucket}")
    for text in ("/22", "d/one", "d/two"):
        screen.read_until(text)
    half()
    assert screen.finish() == 0


@pytest.mark.parametrize("option", ["--no-progress", "--quiet", "--only-show-errors"])
def test_progress_can_be_switched_off(terminal: Start, bucket: str, big: Path, option: str) -> None:
    screen = terminal("cp", "big", f"cos://{bucket}/big", "--max-bandwidth", "16MB/s", option)
    assert screen.finish() == 0
    assert BAR not in screen.text and "\x1b" not in screen.text


def test_no_progress_without_a_terminal(cos: Any, bucket: str, big: Path) -> None:
    done = cos("cp", "big", f"cos://{bucket}/big", "--max-bandwidth", "16MB/s", check=True)
    assert done.stderr == "" and done.stdout.count("\n") == 1


def test_progress_in_plain_lines_without_a_terminal(cos: Any, bucket: str, tmp_path: Path, big: Path) -> None:
    options = ["--max-bandwidth", "8MB/s", "--progress-frequency", "0.3"]
    done = cos("cp", "big", f"cos://{bucket}/big", *options, check=True)
    lines = done.stderr.splitlines()
    # The last one may come when the file is sent, and the command has not ended yet.
    assert lines and all(re.match(r"uploading: [01] of 1, ", line) for line in lines)
    assert lines[0].startswith("uploading: 0 of 1, ")
    assert re.search(r"of 11\.4 MB, [\d.]+ \w+/s, [\dms ]+ left$", lines[-1]) and "\x1b" not in done.stderr
    assert done.stdout == f"upload: big to cos://{bucket}/big\n"


def test_progress_line_by_line_on_a_terminal(terminal: Start, bucket: str, big: Path, half: Half) -> None:
    options = ["--progress-multiline", "--progress-frequency", "0.3"]
    screen = terminal("cp", "big", f"cos://{bucket}/big", *options)
    while screen.text.count("uploading: 0 of 1, ") < 2:
        assert screen._read_some(), screen.text
    half()
    assert screen.finish() == 0
    assert "\x1b" not in screen.text and BAR not in screen.text


def test_progress_on_a_terminal_that_moves_no_cursor(
    terminal: Start, bucket: str, big: Path, half: Half
) -> None:
    screen = terminal("cp", "big", f"cos://{bucket}/big", env={"TERM": "dumb"})
    screen.read_until("uploading: 0 of 1, ")
    half()
    assert screen.finish() == 0
    assert "\x1b" not in screen.text and BAR not in screen.text


def test_many_files_end_with_their_sum(terminal: Start, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    for number in range(3):
        (tmp_path / "d" / f"{number}").write_text("x")
    screen = terminal("cp", "-r", "d", f"cos://{bucket}")
    assert screen.finish() == 0
    assert re.search(r"^3 done; 3 B in [\dms ]+ \(", screen.left.splitlines()[-1])
    again = terminal("cp", "-r", "d", f"cos://{bucket}", "--no-overwrite", stdout_pipe=True)
    assert again.finish() == 0 and "0 done, 3 needed nothing" in again.text
    compared = terminal("check", "d", f"cos://{bucket}")
    assert compared.finish() == 0 and compared.left.startswith("3 the same")
    (tmp_path / "d" / "0").unlink()
    (tmp_path / "d" / "1").unlink()
    single = terminal("sync", "d", f"cos://{bucket}")
    assert single.finish() == 0 and "0 done, 1 needed nothing" in single.text
    quiet = terminal("cp", "-r", "d", f"cos://{bucket}", "--only-show-errors")
    assert quiet.finish() == 0 and quiet.text == ""


def test_no_color_is_honoured(terminal: Start, bucket: str) -> None:
    colored = terminal("ls", f"cos://{bucket}/nothing")
    plain = terminal("ls", f"cos://{bucket}/nothing", env={"NO_COLOR": "1"})
    off = terminal("ls", f"cos://{bucket}/nothing", "--color", "off")
    for screen in (colored, plain, off):
        assert screen.finish() == 1
    assert "\x1b[31m" in colored.text
    assert "\x1b[3" not in plain.text + off.text


def test_ls_is_a_table_on_a_terminal(terminal: Start, client: CosClient, bucket: str) -> None:
    client.put_object(bucket, "[red]k[/red]", b"x" * 1300)
    screen = terminal("ls", "-r", f"cos://{bucket}")
    assert screen.finish() == 0
    assert "┌" in screen.text and "│ [red]k[/red] │ 1.3 KB │" in screen.text


@pytest.mark.parametrize(("answer", "code"), [("\n", 1), ("n\n", 1), ("y\n", 0), ("yes\n", 0)])
def test_question_defaults_to_no(
    terminal: Start, client: CosClient, bucket: str, answer: str, code: int
) -> None:
    client.put_object(bucket, "k", b"x")
    screen = terminal("rb", f"cos://{bucket}", "--all-versions")
    screen.read_until("[y/N]")
    screen.type(answer)
    assert screen.finish() == code
    assert (bucket in [each.name for each in client.list_buckets()]) is bool(code)


def test_rb_force_says_how_much_goes_away(terminal: Start, client: CosClient, bucket: str) -> None:
    for number in range(3):
        client.put_object(bucket, f"k{number}", b"x")
    client.create_upload(bucket, "open")
    screen = terminal("rb", f"cos://{bucket}", "--force")
    screen.read_until("[y/N]")
    assert "with 3 objects and old versions and 1 unfinished uploads?" in screen.text
    screen.type("n\n")
    assert screen.finish() == 1
    assert len(client.list_objects(bucket).objects) == 3
    unasked = terminal("rb", f"cos://{bucket}", "--force", "--yes")
    assert unasked.finish() == 0
    assert "[y/N]" not in unasked.text


# --- interruption


@pytest.fixture
def slow(emulator: Emulator) -> Iterator[None]:
    emulator.faults.latency(HELD, "UploadPart")
    emulator.faults.latency(HELD, "PutObject", key="slow*")
    yield
    emulator.faults.clear()


def started(process: subprocess.Popen[str], ready: Callable[[], bool]) -> None:
    end = time.monotonic() + 90
    while not ready():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def begin(cos_environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []

    def start(*args: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            ["cos", *args],
            cwd=tmp_path,
            env=cos_environment,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_ends_an_upload_promptly_and_leaves_nothing(
    begin: Callable[..., subprocess.Popen[str]],
    client: CosClient,
    bucket: str,
    tmp_path: Path,
    emulator: Emulator,
    slow: None,
    number: int,
    code: int,
) -> None:
    (tmp_path / "big").write_bytes(bytes(40_000_000))
    emulator.requests.reset()
    process = begin("cp", "big", f"cos://{bucket}/big")
    started(process, lambda: emulator.requests["UploadPart"] > 0)
    process.send_signal(number)
    out, err = process.communicate(timeout=90)
    assert process.returncode == code
    assert out == "" and err == "cos: interrupted\n"
    assert list(client.list_uploads(bucket).uploads) == [] and list(client.list_objects(bucket).objects) == []


def test_signal_leaves_no_half_file(
    begin: Callable[..., subprocess.Popen[str]],
    client: CosClient,
    bucket: str,
    tmp_path: Path,
    emulator: Emulator,
) -> None:
    client.put_object(bucket, "k", bytes(3_000_000))
    (tmp_path / "k").write_text("before")
    emulator.requests.reset()
    emulator.faults.slow(100_000, "GetObject", key="k")
    try:
        process = begin("cp", f"cos://{bucket}/k", "k")
        started(process, lambda: emulator.requests["GetObject"] > 0)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=90)
    finally:
        emulator.faults.clear()
    assert process.returncode == 130
    assert [path.name for path in tmp_path.iterdir()] == ["k"] and (tmp_path / "k").read_text() == "before"


def test_ctrl_c_says_how_to_go_on_and_that_works(
    terminal: Start, client: CosClient, bucket: str, tmp_path: Path, emulator: Emulator
) -> None:
    data = os.urandom(70 << 20)
    (tmp_path / "big").write_bytes(data)
    screen = terminal("cp", "big", f"cos://{bucket}/big", "--max-bandwidth", "12MB/s")
    screen.read_until(BAR)
    end = time.monotonic() + 90
    # Of the first part the answer has come when there is a second one.
    while not any(len(client.list_parts(each)) > 1 for each in client.list_uploads(bucket).uploads):
        assert time.monotonic() < end
        time.sleep(0.1)
    screen.interrupt()
    assert screen.finish() == 130
    assert "interrupted" in screen.text
    (command,) = re.findall(r"resume with: cos (jobs resume \w+)", screen.text)
    emulator.requests.reset()
    again = terminal(*command.split())
    assert again.finish() == 0
    # Some parts were there already.
    assert emulator.requests["UploadPart"] < 9
    with client.get_object(bucket, "big") as stream:
        assert b"".join(stream.chunks()) == data


def test_second_signal_ends_at_once(
    begin: Callable[..., subprocess.Popen[str]], bucket: str, tmp_path: Path, emulator: Emulator, slow: None
) -> None:
    (tmp_path / "d").mkdir()
    for name in ("a", "slow1", "slow2"):
        (tmp_path / "d" / name).write_text("x")
    emulator.requests.reset()
    process = begin("cp", "-r", "d", f"cos://{bucket}")
    started(process, lambda: emulator.requests["PutObject"] >= 3)
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    process.communicate(timeout=90)
    assert process.returncode == 130


def test_ctrl_c_in_a_listing(
    begin: Callable[..., subprocess.Popen[str]], bucket: str, emulator: Emulator
) -> None:
    emulator.requests.reset()
    emulator.faults.latency(HELD, "ListObjects")
    try:
        process = begin("ls", f"cos://{bucket}")
        started(process, lambda: emulator.requests["ListObjects"] > 0)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=90)
    finally:
        emulator.faults.clear()
    assert process.returncode == 130
    assert err.strip() == "cos: interrupted"


def test_reader_that_goes_away_ends_cat_silently(
    client: CosClient, bucket: str, cos_environment: dict[str, str]
) -> None:
    client.put_object(bucket, "big", bytes(30_000_000))
    for command in (f"cos cat cos://{bucket}/big", f"cos cp cos://{bucket}/big -"):
        script = f"{command} | head -c 10 >/dev/null; echo ${{PIPESTATUS[0]}}"
        done = subprocess.run(
            ["bash", "-c", script], env=cos_environment, capture_output=True, text=True, timeout=90
        )
        assert (done.stdout, done.stderr) == ("141\n", "")


def test_reader_that_goes_away_ends_a_copy(
    client: CosClient, bucket: str, cos_environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "d").mkdir()
    # More than a pipe holds, so that nothing depends on when the reader ends.
    for number in range(300):
        (tmp_path / "d" / f"{number:0240}").write_text("x")
    script = f"cos cp -r d cos://{bucket} | head -1 >/dev/null; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", script], env=cos_environment, cwd=tmp_path, capture_output=True, text=True, timeout=90
    )
    assert (done.stdout, done.stderr) == ("141\n", "")


def test_missing_credentials_are_asked_for(
    terminal: Start, client: CosClient, bucket: str, emulator: Emulator, cos_environment: dict[str, str]
) -> None:
    client.put_object(bucket, "k", b"")
    screen = terminal("ls", f"cos://{bucket}", env={"COS_SECRET_ID": "", "COS_SECRET_KEY": ""})
    screen.read_until("SecretId")
    screen.type(f"{emulator.secret_id}\n")
    screen.read_until("SecretKey")
    screen.type(f"{emulator.secret_key}\n")
    assert screen.finish() == 0
    assert emulator.secret_key not in screen.text and "Last Modified" in screen.text
    assert not (Path(cos_environment["HOME"]) / ".cos").exists()


def test_doctor_does_not_ask(terminal: Start) -> None:
    screen = terminal("doctor", env={"COS_SECRET_ID": "", "COS_SECRET_KEY": ""})
    assert screen.finish() == 1 and "SecretKey:" not in screen.text


def test_display_stays_on_screen_among_many_lines(
    terminal: Start, bucket: str, tmp_path: Path, emulator: Emulator
) -> None:
    (tmp_path / "d").mkdir()
    for number in range(600):
        (tmp_path / "d" / f"{number:03}").write_text("x")
    emulator.faults.latency(HELD, "PutObject", skip=300)
    screen = terminal("cp", "-r", "d", f"cos://{bucket}")
    screen.read_until("uploading")
    screen.interrupt()
    assert screen.finish() == 130
    lines = [line for line in screen.text.splitlines() if "upload: d/" in line]
    assert len(lines) == len(set(lines)) > 0
    assert "interrupted" in screen.text and "Traceback" not in screen.text
