"""Large objects in a process of their own: memory is bounded by settings, not by sizes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cosfs.emulator import Emulator
from cosfs.units import MIB
from tests.objects import options_of
from tests.transfer.support import run_program

SIZE = 512 * MIB

PROGRAM = """
import json, os, sys
from pathlib import Path
from typing import Any
import trio
from cosfs.client.client import CosClient
from cosfs.config import load_settings
from cosfs.transfer.download import download_file, download_stream
from cosfs.transfer.engine import Engine
from cosfs.transfer.upload import upload_file, upload_stream

what, options, bucket, path = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
settings = load_settings(options, environ={"HOME": "/nonexistent"})

async def main(client):
    async with Engine(client, settings.transfer) as engine:
        if what == "upload":
            result = await upload_file(engine, path, bucket, "large")
        elif what == "download":
            result = await download_file(engine, bucket, "large", path)
        elif what == "stdin":
            with path.open("rb", buffering=0) as stream:
                result = await upload_stream(engine, stream, bucket, "large")
        else:
            with open(os.devnull, "wb", buffering=0) as sink:
                result = await download_stream(engine, bucket, "large", sink)
    return result

with CosClient.from_settings(settings, options) as client:
    result = trio.run(main, client)
# Not ru_maxrss: it begins with the memory of the process that started this one.
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024
print(json.dumps({"peak": peak, "size": result.size, "crc64": result.crc64, "verified": result.verified}))
"""


def run(what: str, emulator: Emulator, bucket: str, path: Path) -> dict[str, Any]:
    return run_program(PROGRAM, what, json.dumps(options_of(emulator)), bucket, str(path))


@pytest.mark.parametrize(("up", "down"), [("upload", "download"), ("stdin", "stdout")])
def test_peak_memory_of_half_a_gibibyte(
    emulator: Emulator, bucket: str, tmp_path: Path, up: str, down: str
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    with source.open("wb") as file:
        file.truncate(SIZE)
    sent = run(up, emulator, bucket, source)
    got = run(down, emulator, bucket, target)
    assert sent["size"] == got["size"] == SIZE
    assert sent["crc64"] == got["crc64"]
    assert got["verified"] == "crc64"
    # About 40 MiB are Python and its modules. Streams hold 64 MiB of parts, files only pieces.
    limit = 80 * MIB if up == "upload" else 150 * MIB
    assert (sent["peak"] < limit, got["peak"] < limit) == (True, True), (sent, got)
    if down == "download":
        assert target.stat().st_size == SIZE
