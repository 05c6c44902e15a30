"""Ctrl-C in a real process: it ends at once and leaves nothing behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cosfs.client.client import CosClient
from cosfs.emulator import Emulator
from cosfs.units import MIB
from tests.objects import options_of
from tests.transfer.support import make_file, open_uploads

PROGRAM = """
import json, sys
from pathlib import Path
import trio
from cosfs.client.client import CosClient
from cosfs.config import load_settings
from cosfs.transfer.bulk import DownloadJob, UploadJob, transfer_many
from cosfs.transfer.engine import Engine
from cosfs.transfer.paths import DestinationRoot

what, options, bucket, path = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
settings = load_settings(options, environ={"HOME": "/nonexistent"})

async def main(client):
    async with Engine(client, settings.transfer) as engine:
        print("started", flush=True)
        if what == "upload":
            jobs = [UploadJob(str(file), file.stat().st_size, bucket, file.name) for file in path.iterdir()]
            await transfer_many(engine, jobs, on_result=lambda *_: None)
        else:
            with DestinationRoot(path / "down") as root:
                infos = client.list_objects(bucket).objects
                jobs = [DownloadJob(bucket, info, root.target(info.key)) for info in infos]
                await transfer_many(engine, jobs, on_result=lambda *_: None)

client = CosClient.from_settings(settings, options)
try:
    trio.run(main, client)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """One for these tests, whose requests hang there long after them."""
    with Emulator(tmp_path_factory.mktemp("hanging")) as running:
        yield running


@pytest.mark.parametrize("what", ["upload", "download"])
def test_interrupted_process(
    emulator: Emulator, client: CosClient, bucket: str, tmp_path: Path, what: str
) -> None:
    sizes = [100, 2 * MIB, 18 * MIB, 20 * MIB]
    for number, size in enumerate(sizes):
        data = make_file(tmp_path / f"f{number}", size, number)
        if what == "download":
            client.put_object(bucket, f"f{number}", data)
    emulator.faults.latency(100, "UploadPart")
    emulator.faults.stall(100, offset=50, count=0)
    options = options_of(emulator)
    arguments = [what, json.dumps(options), bucket, str(tmp_path)]
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        time.sleep(0.6)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
        # A moment is for requests under way, so that no part comes after the abort.
        took = time.monotonic() - began
    assert (process.returncode, errors.decode()) == (130, "")
    assert took < 60  # not for their end
    assert [path.name for path in tmp_path.rglob("*") if ".cos-" in path.name] == []
    emulator.faults.clear()
    time.sleep(0.2)
    assert open_uploads(client, bucket) == []
