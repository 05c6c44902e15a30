"""cos bench."""

from __future__ import annotations

from cli.bench import Measured, suggest
from cosfs.client.client import CosClient
from cosfs.emulator import Emulator
from tests.cli.conftest import Run


def test_it_measures_and_leaves_nothing(run: Run, client: CosClient, bucket: str) -> None:
    run("versioning", "enable", f"cos://{bucket}")
    client.put_object(bucket, "p/mine", b"")
    options = ("--size", "8MiB", "--time", "10ms", "--small", "20")
    document = run("bench", f"cos://{bucket}/p", *options, "--output", "json").json
    kinds = {row["What"] for row in document["Measurements"]}
    assert kinds == {"latency, median", "latency, 95 %", "up", "down", "small up", "small down"}
    assert all(row["Seconds"] > 0 for row in document["Measurements"])
    assert document["Suggested"]["max_concurrent_requests"] in (1, 4, 16, 32, 64)
    assert [version.key for version in client.list_versions(bucket).versions] == ["p/mine"]


def test_it_leaves_nothing_when_it_fails(
    run: Run, client: CosClient, bucket: str, emulator: Emulator
) -> None:
    emulator.faults.error("GetObject", "AccessDenied", 403, count=0)
    try:
        result = run("bench", f"cos://{bucket}", "--size", "8MiB", "--time", "10ms", code=254)
    finally:
        emulator.faults.clear()
    assert "AccessDenied" in result.err
    assert client.list_objects(bucket).objects == []
    assert client.list_uploads(bucket).uploads == []


def test_more_requests_are_suggested_only_where_they_help() -> None:
    def rows(*rates: float) -> list[Measured]:
        levels = zip((1, 4, 16, 32, 64), rates, strict=True)
        return [Measured(what, level, 1.0, int(rate)) for level, rate in levels for what in ("up", "down")]

    assert suggest(rows(100, 102, 103, 101, 99)) == 1
    assert suggest(rows(100, 400, 1000, 1040, 1045)) == 16
    assert suggest(rows(100, 200, 400, 800, 1600)) == 64


def test_usage(run: Run, bucket: str) -> None:
    run("bench", f"cos://{bucket}", "--size", "1KB", code=252)
    run("bench", f"cos://{bucket}", "--time", "0s", code=252)
    run("bench", code=252)
