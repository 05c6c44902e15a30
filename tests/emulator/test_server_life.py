"""How an emulator starts and ends, and what it refuses to start on."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import requests

from cosfs.emulator import Emulator, EmulatorError
from tests.emulator.conftest import sdk_for
from tests.emulator.wire import running, sdk_at
from tests.waiting import until


def test_killing_it_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    data, written = tmp_path / "data", dict[str, bytes]()
    with running(data) as (process, url, key_id, key):
        sdk = sdk_at(int(url.rpartition(":")[2]), key_id, key)
        timer = threading.Timer(0.1, process.kill)
        with pytest.raises(Exception):  # noqa: B017
            for number in range(100_000):
                if number == 30:
                    timer.start()
                body = os.urandom(50_000 if number % 3 == 0 else 100)
                sdk.put_object(Bucket="b-1250000000", Key=f"k{number}", Body=body)
                written[f"k{number}"] = body
        process.wait()
    assert len(written) > 20
    with running(data) as (process, url, again_id, again_key):
        assert (again_id, again_key) == (key_id, key)
        sdk = sdk_at(int(url.rpartition(":")[2]), key_id, key)
        for name, body in written.items():
            assert sdk.get_object(Bucket="b-1250000000", Key=name)["Body"].get_raw_stream().read() == body
        process.terminate()
        process.wait()
    wanted = sum(len(body) > 16 * 1024 for body in written.values())
    assert len(list((data / "objects").glob("*/*"))) in (wanted, wanted + 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    with running(tmp_path / "data") as (process, url, _, _):
        idle = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])))
        process.send_signal(number)
        assert process.wait(60) == 0  # an idle connection would last for longer
        idle.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_requests_are_told_on_stderr_when_asked(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--log") as (process, url, _, _):
        assert requests.get(f"{url}/b/k?x=1", timeout=90).status_code == 403
        process.terminate()
        assert process.stderr is not None
        line = process.stderr.read()
        assert re.fullmatch(
            r"\d\d:\d\d:\d\d GET 127\.0\.0\.1:\d+/b/k\?x=1 -> 403 AccessDenied "
            r"\(GetObject, 0 in, \d+ out, [\d.]+ ms\)\n",
            line,
        ), line


def test_a_directory_serves_one_emulator(tmp_path: Path) -> None:
    with Emulator(tmp_path / "data"), pytest.raises(EmulatorError, match="another emulator is using"):
        Emulator(tmp_path / "data").start()


def test_a_foreign_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "objects").mkdir()
    (tmp_path / "objects" / "precious").write_text("mine")
    with pytest.raises(EmulatorError, match="neither empty nor a data directory"):
        Emulator(tmp_path).start()
    assert (tmp_path / "objects" / "precious").read_text() == "mine"


def test_a_taken_port_is_told(tmp_path: Path) -> None:
    with Emulator(tmp_path / "a") as first, pytest.raises(EmulatorError, match="cannot listen on"):
        Emulator(tmp_path / "b", port=int(first.endpoint_url.rpartition(":")[2])).start()


def test_it_can_be_stopped_and_started(tmp_path: Path) -> None:
    emulator = Emulator(tmp_path / "data", buckets=["b"])
    with emulator:
        url = emulator.endpoint_url
        sdk_for(emulator).put_object(Bucket="b-1250000000", Key="k", Body=b"x")
        emulator.stop()
        with pytest.raises(requests.ConnectionError):
            requests.get(url, timeout=90)
        # Nobody else takes the port meanwhile, as any connection of another program might.
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", int(url.rpartition(":")[2])))
        emulator.start()
        assert emulator.endpoint_url == url
        assert sdk_for(emulator).object_exists(Bucket="b-1250000000", Key="k")


def test_stopping_does_not_wait_for_stalled_requests(tmp_path: Path) -> None:
    with Emulator(tmp_path / "data", buckets=["b"]) as emulator:
        emulator.faults.latency(60)

        def ask() -> None:
            with pytest.raises(requests.ConnectionError):
                requests.get(emulator.endpoint_url, timeout=100)

        thread = threading.Thread(target=ask)
        thread.start()
        until(lambda: emulator.requests.total, "the request is there")
        emulator.stop()
        thread.join(30)
        assert not thread.is_alive()


def test_a_temporary_directory_goes_away() -> None:
    with Emulator() as emulator:
        data = emulator.data
        assert data.is_dir()
    assert not data.exists()


def test_a_temporary_directory_goes_away_with_the_program() -> None:
    """Where it starts the emulator and never leaves a with block."""
    code = "from cosfs.emulator import Emulator; print(Emulator(buckets=['b']).start().data)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "cos-emulator-" in done.stdout and not Path(done.stdout.strip()).exists()
