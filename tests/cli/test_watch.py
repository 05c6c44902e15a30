"""cos sync --watch: the program runs, files change, the bucket follows; then it is interrupted."""

from __future__ import annotations

import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.objects import keys, put, stored

if TYPE_CHECKING:
    from cosfs.client.client import CosClient
    from cosfs.emulator import Emulator


class Watcher:
    """A running `cos sync --watch`."""

    def __init__(self, args: list[str], environment: Mapping[str, str], directory: Path) -> None:
        self.process = subprocess.Popen(
            ["cos", "sync", "--watch", *args],
            env=environment,
            cwd=directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.out: list[str] = []
        self.err: list[str] = []
        self._readers = [
            threading.Thread(target=lines.extend, args=(stream,))
            for lines, stream in ((self.out, self.process.stdout), (self.err, self.process.stderr))
        ]
        for reader in self._readers:
            reader.start()

    def wait_until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 90
        while not condition():
            assert time.monotonic() < end and self.process.poll() is None, (self.out, self.err)
            time.sleep(0.02)

    def ready(self) -> None:
        self.wait_until(lambda: any("watching" in line for line in self.err))

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            code = self.process.wait(90)
        finally:
            self.process.kill()
        for reader in self._readers:
            reader.join()
        assert self.process.stdout is not None and self.process.stderr is not None
        self.process.stdout.close()
        self.process.stderr.close()
        return code


@pytest.fixture
def watch(cos_environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Watcher]]:
    started: list[Watcher] = []

    def start(*args: str) -> Watcher:
        started.append(Watcher(list(args), cos_environment, tmp_path))
        started[-1].ready()
        return started[-1]

    yield start
    for each in started:
        each.stop()


def test_changes_follow(
    watch: Callable[..., Watcher], client: CosClient, bucket: str, tmp_path: Path, emulator: Emulator
) -> None:
    for name in ("a", "s/b"):
        (tmp_path / "d" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "d" / name).write_text(name)
    running = watch("d", f"cos://{bucket}/p", "--delete", "--exclude", "*.tmp")
    assert keys(client, bucket) == ["p/a", "p/s/b"]
    emulator.requests.reset()
    (tmp_path / "d/a").write_text("changed")
    (tmp_path / "d/x.tmp").write_text("not wanted")
    running.wait_until(lambda: stored(client, bucket, "p/a") == b"changed")
    assert emulator.requests["ListObjects"] == 0
    (tmp_path / "d/s").rename(tmp_path / "d/t")
    (tmp_path / "d/t/c").write_text("c")
    running.wait_until(lambda: keys(client, bucket) == ["p/a", "p/t/b", "p/t/c"])
    shutil.rmtree(tmp_path / "d/t")
    (tmp_path / "d/a").rename(tmp_path / "d/ä")
    running.wait_until(lambda: keys(client, bucket) == ["p/ä"])
    assert running.stop() == 130
    assert f"delete: cos://{bucket}/p/t/b\n" in running.out
    assert not any("Traceback" in line for line in running.err)


def test_a_change_deletes_nothing_but_what_it_concerns(
    watch: Callable[..., Watcher], client: CosClient, bucket: str, tmp_path: Path
) -> None:
    (tmp_path / "d").mkdir()
    for name in ("a", "b", "c.tmp"):
        (tmp_path / "d" / name).write_text(name)
    put(client, bucket, "old", "c.tmp")
    own = ("--report", "d/report", "--snapshot", "d/snapshot")  # would be changes without end
    running = watch("d", f"cos://{bucket}", "--exclude", "*.tmp", "--delete-excluded", *own)
    assert keys(client, bucket) == ["a", "b"]
    for number in ("1", "2"):  # what the first change deletes is gone before the second is sent
        (tmp_path / "d/a").write_text(number)
        running.wait_until(lambda number=number: stored(client, bucket, "a") == number.encode())
    assert keys(client, bucket) == ["a", "b"]
    assert running.stop() == 130


def test_an_emptied_source_deletes_nothing(
    watch: Callable[..., Watcher], client: CosClient, bucket: str, tmp_path: Path
) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/a").write_text("a")
    running = watch("d", f"cos://{bucket}", "--delete")
    (tmp_path / "d/a").unlink()
    running.wait_until(lambda: any("--allow-empty-source" in line for line in running.err))
    assert keys(client, bucket) == ["a"]
    (tmp_path / "d/b").write_text("b")
    running.wait_until(lambda: "b" in keys(client, bucket))


def test_a_failure_is_made_up_for(
    watch: Callable[..., Watcher], client: CosClient, bucket: str, tmp_path: Path, emulator: Emulator
) -> None:
    """And everything is compared now and then: that finds what nobody told of."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d/a").write_text("a")
    running = watch("d", f"cos://{bucket}", "--watch-interval", "1s", "--delete")
    emulator.faults.error("PutObject", "AccessDenied", 403)
    (tmp_path / "d/b").write_text("b")
    running.wait_until(lambda: any("AccessDenied" in line for line in running.err))
    running.wait_until(lambda: keys(client, bucket) == ["a", "b"])
    client.delete_object(bucket, "a")
    client.put_object(bucket, "c", b"c")
    running.wait_until(lambda: keys(client, bucket) == ["a", "b"])
    assert running.stop() == 130


def test_keys_that_are_refused_for_a_while_do_not_end_it(
    watch: Callable[..., Watcher], client: CosClient, bucket: str, tmp_path: Path, emulator: Emulator
) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/a").write_text("a")
    running = watch("d", f"cos://{bucket}", "--watch-interval", "1s")
    emulator.faults.error("PutObject", "ExpiredToken", 403, count=2)
    (tmp_path / "d/b").write_text("b")
    running.wait_until(lambda: any("ExpiredToken" in line for line in running.err))
    running.wait_until(lambda: keys(client, bucket) == ["a", "b"])
    assert running.stop() == 130


def test_the_source_goes(
    watch: Callable[..., Watcher], bucket: str, tmp_path: Path, client: CosClient
) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/a").write_text("a")
    running = watch("d", f"cos://{bucket}", "--delete")
    (tmp_path / "d").rename(tmp_path / "e")
    assert running.process.wait(90) == 1
    assert keys(client, bucket) == ["a"]
