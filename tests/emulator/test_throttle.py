"""x-cos-traffic-limit: bodies pass at the rate that was asked for, in both directions."""

from __future__ import annotations

import http.client
import threading
from types import SimpleNamespace

import pytest
from qcloud_cos import CosS3Client

from cosfs.emulator import Emulator
from cosfs.emulator.app import Application
from tests.emulator.asking import code
from tests.emulator.signed import Signed
from tests.waiting import until

LOWEST = "819200"  # 102,400 bytes per second


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the server would have waited, without waiting."""
    recorded: list[float] = []

    async def pause(_application: Application, seconds: float) -> None:
        recorded.append(seconds)

    monkeypatch.setattr(Application, "pause", pause)
    # Nor does time pass by itself: what a slow machine takes would count.
    monkeypatch.setattr("cosfs.emulator.bandwidth.time", SimpleNamespace(monotonic=lambda: 1.0))
    return recorded


@pytest.mark.parametrize("where", ["header", "query"])
def test_both_directions_are_paced(wire: Signed, pauses: list[float], where: str) -> None:
    data = bytes(300_000)
    query = f"?x-cos-traffic-limit={LOWEST}" if where == "query" else ""
    headers = {"x_cos_traffic_limit": LOWEST} if where == "header" else {}
    assert wire("PUT", f"/k{query}", data, **headers).status == 200
    # Nothing really waits, so what is due adds up: the last pause is what all bytes take.
    assert max(pauses) == pytest.approx(len(data) / 102_400, rel=0.3)
    assert len(pauses) >= 2  # the body was never taken in whole
    pauses.clear()
    assert wire("GET", f"/k{query}", **headers).body == data
    assert max(pauses) == pytest.approx(len(data) / 102_400, rel=0.3)
    assert len(pauses) >= 50
    pauses.clear()
    wire("GET", "/k")
    wire("PUT", "/k", data)
    assert pauses == []


@pytest.mark.parametrize("limit", ["819199", "838860801", "fast", "-1"])
def test_limits_out_of_range_are_refused(wire: Signed, limit: str) -> None:
    assert code(wire("PUT", "/k", b"x", x_cos_traffic_limit=limit)) == (400, "InvalidArgument")


def test_a_slow_request_holds_up_neither_others_nor_the_end() -> None:
    with Emulator(buckets=["b"]) as emulator:
        connections = [Signed(emulator, "b-1250000000") for _ in range(9)]  # more than worker threads
        connections[8]("PUT", "/k", bytes(50_000_000))
        broken: list[Exception] = []

        def slow(wire: Signed) -> None:
            try:
                wire("GET", "/k", x_cos_traffic_limit=LOWEST)
            except (OSError, http.client.HTTPException) as error:
                broken.append(error)

        readers = [threading.Thread(target=slow, args=(wire,)) for wire in connections[:8]]
        for reader in readers:
            reader.start()
        until(lambda: emulator.requests["GetObject"] == 8, "all have begun")
        assert connections[8]("PUT", "/other", bytes(2_000_000)).status == 200
    for reader in readers:
        reader.join(60)
        assert not reader.is_alive()
    assert len(broken) == 8
    for connection in connections:
        connection.close()


def test_the_sdk_limits_its_uploads_and_downloads(sdk: CosS3Client, bucket: str, pauses: list[float]) -> None:
    sdk.put_object(Bucket=bucket, Key="k", Body=b"x" * 10_240, TrafficLimit=LOWEST)
    assert max(pauses) == pytest.approx(0.1, rel=0.3)
    pauses.clear()
    got = sdk.get_object(Bucket=bucket, Key="k", TrafficLimit=LOWEST)
    assert got["Body"].get_raw_stream().read() == b"x" * 10_240
    assert max(pauses) == pytest.approx(0.1, rel=0.3)
