"""A mount while COS cannot be reached: refused, or accepted and never answered; and when it is back."""

from __future__ import annotations

import errno
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cosfs.client.client import CosClient
from cosfs.config import Settings, load_settings
from cosfs.emulator import Emulator
from tests.conftest import Cos
from tests.fuse.support import environment, fails_with, until
from tests.line import Line
from tests.mounting import Mounted
from tests.objects import options_of

pytestmark = pytest.mark.fuse
BUCKET = "offline-1250000000"
# Longer than a busy machine stands still: while COS is there nothing may take so long.
LASTING = 6  # seconds; requests of a slow machine have to arrive in them
BRIEF = ("--io-timeout", "4s", "--metadata-ttl", "0.2s", "--max-retries", "2")


@pytest.fixture
def line(emulator: Emulator) -> Iterator[Line]:
    made = Line(int(emulator.endpoint_url.rpartition(":")[2]))
    yield made
    made.close()


@pytest.fixture
def files(client: CosClient, bucket: str) -> dict[str, bytes]:
    found = {f"d/{number:02}": f"content {number}\n".encode() * 500 for number in range(20)}
    for key, data in found.items():
        client.put_object(bucket, key, data)
    return found


Start = Callable[..., Mounted]


@pytest.fixture
def start(line: Line, emulator: Emulator, mount: Callable[..., Mounted], bucket: str) -> Start:
    def make(*options: str) -> Mounted:
        url = f"http://127.0.0.1:{line.port}"
        return mount(f"cos://{bucket}", *BRIEF, *options, env={"COS_ENDPOINT_URL": url})

    return make


def took(what: Callable[[], object]) -> float:
    started = time.monotonic()
    what()
    return time.monotonic() - started


def status(cos: Cos, mounted: Mounted) -> dict[str, object]:
    found = json.loads(cos("status", mounted.path, "--output", "json", check=True).stdout)
    (record,) = found
    assert isinstance(record, dict)
    return record


@pytest.mark.parametrize("how", ["refused", "unanswered"])
def test_what_is_known_and_cached_can_be_used_and_the_rest_fails_fast(
    start: Start, line: Line, files: dict[str, bytes], how: str, cos: Cos
) -> None:
    mounted = start()
    top = mounted.path / "d"
    for number in reversed(range(10)):  # in order, those behind them would be fetched ahead
        assert (top / f"{number:02}").read_bytes() == files[f"d/{number:02}"]
    subprocess.run(["ls", "-l", top], check=True, stdout=subprocess.DEVNULL)
    line.cut(how)
    time.sleep(0.3)  # what was known is too old now
    with fails_with(errno.ETIMEDOUT):
        (top / "15").read_bytes()
    until(lambda: "cannot be reached" in mounted.log_text(), "the outage is in the log")
    done = subprocess.run(["grep", "-rc", "content", top], capture_output=True, text=True, timeout=90)
    lines = dict(row.rsplit(":", 1) for row in done.stdout.splitlines())
    assert [lines[str(top / f"{number:02}")] for number in range(10)] == ["500"] * 10
    assert done.stderr.count("timed out") == 10
    subprocess.run(["ls", "-l", top], check=True, stdout=subprocess.DEVNULL)
    record = status(cos, mounted)
    assert isinstance(record["unreachable"], float)
    assert record["unreachable"] > 0
    assert mounted.log_text().count("cannot be reached") == 1
    line.repair()
    until(lambda: "reached again" in mounted.log_text(), "COS is found to be back")
    assert (top / "15").read_bytes() == files["d/15"]
    assert status(cos, mounted)["unreachable"] == 0


@pytest.mark.parametrize("how", ["refused", "unanswered"])
def test_close_waits_then_fails_and_the_file_is_sent_later(
    start: Start, line: Line, how: str, client: CosClient, bucket: str
) -> None:
    mounted = start()
    list(mounted.path.iterdir())
    line.cut(how)
    file = (mounted.path / "late").open("wb")
    file.write(b"written while there was no way")
    with fails_with(errno.ETIMEDOUT):
        file.close()
    assert (mounted.path / "late").read_bytes() == b"written while there was no way"
    line.repair()

    def arrived() -> bool:
        return [info.key for info in client.list_objects(bucket).objects] == ["late"]

    until(arrived, "the file is in COS")


def test_close_rides_out_a_short_outage(start: Start, line: Line, client: CosClient, bucket: str) -> None:
    mounted = start("--io-timeout", "30s")
    list(mounted.path.iterdir())
    line.refuse()
    with ThreadPoolExecutor() as pool:
        writing = pool.submit((mounted.path / "file").write_bytes, b"x")
        try:
            until(lambda: "cannot be reached" in mounted.log_text(), "the outage is noticed")
            assert not writing.done()
        finally:
            line.repair()
        assert writing.result() == 1
    assert client.head_object(bucket, "file") is not None
    until(lambda: "reached again" in mounted.log_text(), "so is its end")


def test_async_writes_go_on(start: Start, line: Line, client: CosClient, bucket: str) -> None:
    mounted = start("--write-back", "async")
    list(mounted.path.iterdir())
    line.refuse()
    for number in range(20):
        (mounted.path / f"{number:02}").write_bytes(b"x" * number)
    line.repair()
    until(lambda: len(client.list_objects(bucket).objects) == 20, "everything is in COS")
    assert mounted.unmount() == 0


@pytest.mark.parametrize("how", ["refused", "unanswered"])
def test_no_call_hangs_longer_than_it_may(
    start: Start, line: Line, files: dict[str, bytes], how: str
) -> None:
    mounted = start()
    names = sorted(path.name for path in (mounted.path / "d").iterdir())
    line.cut(how)
    calls: list[Callable[[], object]] = [
        lambda: (mounted.path / "d" / names[0]).read_bytes(),
        lambda: (mounted.path / "new").mkdir(),
        lambda: (mounted.path / "d" / names[1]).rename(mounted.path / "d" / "other"),
        lambda: (mounted.path / "link").symlink_to("target"),
        lambda: list((mounted.path / "d" / "nowhere").iterdir()),
    ]
    failed: list[int | None] = []

    def run(call: Callable[[], object]) -> None:
        try:
            call()
        except OSError as exc:
            failed.append(exc.errno)

    threads = [threading.Thread(target=run, args=(call,), daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 100
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    assert not any(thread.is_alive() for thread in threads)
    assert len(failed) == len(calls)
    assert set(failed) <= {errno.ETIMEDOUT, errno.EIO, errno.ENOENT}
    line.repair()
    until(lambda: "reached again" in mounted.log_text(), "COS is found to be back")
    assert (mounted.path / "d" / names[5]).read_bytes() == files[f"d/{names[5]}"]


def test_emulator_that_ends_and_starts_again(
    tmp_path: Path, mount: Callable[..., Mounted], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The same as above with a real server on the same port, and nothing in between."""
    data = tmp_path / "data"
    with Emulator(data) as first:
        port = int(first.endpoint_url.rpartition(":")[2])
        with CosClient.from_settings(_settings(first), options_of(first)) as client:
            client.create_bucket(BUCKET)
            client.put_object(BUCKET, "cached", b"cached")
            client.put_object(BUCKET, "other", b"other")
        env = environment(first, tmp_path_factory.mktemp("home"))
        mounted = mount(f"cos://{BUCKET}", *BRIEF, env=env)
        assert (mounted.path / "cached").read_bytes() == b"cached"
        (mounted.path / "other").stat()
    with fails_with(errno.ETIMEDOUT):
        (mounted.path / "other").read_bytes()
    assert (mounted.path / "cached").read_bytes() == b"cached"
    with Emulator(data, port=port):
        until(lambda: "reached again" in mounted.log_text(), "COS is found to be back")
        assert (mounted.path / "other").read_bytes() == b"other"


def _settings(emulator: Emulator) -> Settings:
    return load_settings(options_of(emulator), environ={"HOME": "/nonexistent"})


def test_keys_that_end_during_an_outage(
    line: Line,
    emulator: Emulator,
    client: CosClient,
    bucket: str,
    mount: Callable[..., Mounted],
    cos_environment: dict[str, str],
) -> None:
    """STS is as far away as COS; the mount asks it for new keys when both are back."""
    place = Path(cos_environment["HOME"], ".cos")
    place.mkdir(mode=0o700)
    url = f"http://127.0.0.1:{line.port}"
    (place / "credentials").write_text(
        "[default]\nassume_role = qcs::cam::uin/100000000001:roleName/emulator\n"
        f"duration_seconds = {LASTING}\nsts_endpoint = {url}\n"
        f"secret_id = {emulator.secret_id}\nsecret_key = {emulator.secret_key}\n"
    )
    (place / "credentials").chmod(0o600)
    for key in ("cached", "removed"):
        client.put_object(bucket, key, key.encode())
    env = {"COS_ENDPOINT_URL": url, "COS_SECRET_ID": "", "COS_SECRET_KEY": ""}
    mounted = mount(f"cos://{bucket}", *BRIEF, "--write-back", "async", env=env)
    assert (mounted.path / "cached").read_bytes() == b"cached"
    (mounted.path / "removed").stat()
    line.refuse()
    for name in ("one", "two"):
        (mounted.path / name).write_bytes(name.encode())
    (mounted.path / "removed").unlink()
    time.sleep(LASTING + 0.2)  # the keys have ended
    assert (mounted.path / "cached").read_bytes() == b"cached"
    line.repair()

    def names() -> list[str]:
        return [info.key for info in client.list_objects(bucket).objects]

    until(lambda: names() == ["cached", "one", "two"], "all is sent and removed")
    assert " ERROR " not in mounted.log_text()
