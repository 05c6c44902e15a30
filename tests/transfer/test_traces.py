"""What a killed download leaves is found and removed; what belongs to a process that lives is not."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cosfs.transfer.paths import LocalTarget, temporary_name
from cosfs.transfer.resume import Records
from cosfs.transfer.temporary import TemporaryFile
from cosfs.transfer.traces import Traces, left_behind

# Makes a temporary file beside each target, says so, and waits to be killed.
_MAKE = """\
import sys, time
from pathlib import Path
from cosfs.transfer.paths import LocalTarget
from cosfs.transfer.resume import Records
from cosfs.transfer.temporary import TemporaryFile
from cosfs.transfer.traces import Traces
records = Records(Path(sys.argv[1]))
traces = Traces(records.directory, records.temporaries)
made = [TemporaryFile(LocalTarget(target), traces) for target in sys.argv[2:]]
print("made", flush=True)
time.sleep(60)
"""


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return Records(tmp_path / "resume")


def start(records: Records, *targets: Path) -> subprocess.Popen[str]:
    args = [sys.executable, "-c", _MAKE, str(records.directory), *map(str, targets)]
    process = subprocess.Popen(args, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "made\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def write(records: Records, target: Path) -> None:
    """Make another file as a later command does, to its end."""
    traces = Traces(records.directory, records.temporaries)
    TemporaryFile(LocalTarget(str(target)), traces).discard()
    traces.close()


def notes(records: Records) -> int:
    return len(list(records.directory.glob("*.files")))


def test_next_command_cleans_the_directory_it_uses(records: Records, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    kill(start(records, tmp_path / "a/1", tmp_path / "a/2", tmp_path / "b/1"))
    mine = tmp_path / "a" / temporary_name(1)
    mine.touch()  # nobody's that we know of
    write(records, tmp_path / "a/3")
    assert list((tmp_path / "a").iterdir()) == [mine]
    assert len(list((tmp_path / "b").iterdir())) == 1
    write(records, tmp_path / "b/3")
    assert list((tmp_path / "b").iterdir()) == []
    assert notes(records) == 0


def test_living_process_is_left_alone(records: Records, tmp_path: Path) -> None:
    process = start(records, tmp_path / "1")
    try:
        write(records, tmp_path / "3")
        assert len(list(tmp_path.glob(".cos-*"))) == 1
        assert list(left_behind(records.directory)) == []
    finally:
        kill(process)
    (left,) = left_behind(records.directory)
    assert left.files() == list(map(str, tmp_path.glob(".cos-*")))
    left.close()


def test_what_a_record_keeps_stays(records: Records, tmp_path: Path) -> None:
    kill(start(records, tmp_path / "1", tmp_path / "2"))
    kept, other = sorted(path.name for path in tmp_path.glob(".cos-*"))
    record = records.claim("download", "cos://b/1", str(tmp_path / "1"))
    assert record is not None
    record.state.temporary = kept
    record.save()
    record.release()
    (left,) = left_behind(records.directory)
    assert left.files(records.temporaries()) == [str(tmp_path / other)]
    left.close()
    write(records, tmp_path / "3")
    assert [path.name for path in tmp_path.glob(".cos-*")] == [kept]


def test_directory_that_is_gone(records: Records, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    kill(start(records, tmp_path / "a/1"))
    for path in (tmp_path / "a").iterdir():
        path.unlink()
    (tmp_path / "a").rmdir()
    (left,) = left_behind(records.directory)
    assert left.files() == []
    left.clean(str(tmp_path / "a"), ())
    left.close()
    assert notes(records) == 0


def test_note_that_cannot_be_read(records: Records, tmp_path: Path) -> None:
    kill(start(records, tmp_path / "1"))
    (note,) = records.directory.glob("*.files")
    with note.open("a") as file:
        file.write('{"direct')
    (left,) = left_behind(records.directory)
    assert len(left.files()) == 1
    left.close()


def test_note_goes_with_its_process(records: Records, tmp_path: Path) -> None:
    traces = Traces(records.directory, records.temporaries)
    temporary = TemporaryFile(LocalTarget(str(tmp_path / "1")), traces)
    assert notes(records) == 1
    temporary.discard()
    traces.close()
    assert notes(records) == 0


def test_no_notes_where_none_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    traces = Traces(tmp_path / "file/resume", list)
    TemporaryFile(LocalTarget(str(tmp_path / "1")), traces).discard()
    traces.close()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
