"""Histograms, and Prometheus's text, read back by Prometheus's own parser."""

from __future__ import annotations

import itertools
import random

from prometheus_client.parser import text_string_to_metric_families

from cosfs.client.stats import Histogram, percentile, upper_bound
from cosfs.fs.metrics import BOUNDS, Family, prometheus


def slots(histogram: Histogram) -> list[tuple[int, int]]:
    return [(int(slot), count) for slot, count in histogram.snapshot()["slots"].items()]


def test_slots_are_at_most_a_quarter_wide() -> None:
    bounds = [upper_bound(slot) for slot in range(127)]
    assert bounds == sorted(set(bounds))
    for lower, upper in itertools.pairwise(bounds[8:]):
        assert upper / lower <= 1.2501
    for bound in BOUNDS:
        assert bound in bounds  # so that no slot is on both sides of a bound


def test_what_is_added_is_found_below_the_bound_of_its_slot() -> None:
    source = random.Random(1)
    for _ in range(2000):
        seconds = 10 ** source.uniform(-5, 3)
        histogram = Histogram()
        histogram.add(seconds)
        ((slot, count),) = slots(histogram)
        assert count == 1 and upper_bound(slot) / 1.26 <= seconds <= upper_bound(slot)


def test_times_out_of_all_bounds() -> None:
    histogram = Histogram()
    for seconds in (0.0, 1e-9, 1e9):
        histogram.add(seconds)
    assert histogram.count == 3 and slots(histogram) == [(0, 2), (127, 1)]


def test_percentiles() -> None:
    histogram = Histogram()
    for number in range(1, 1001):
        histogram.add(number / 1000)
    for share in (0.5, 0.95, 0.99, 1.0):
        found = percentile(slots(histogram), share)
        assert found is not None and share <= found <= share * 1.26
    assert percentile([], 0.5) is None


def test_text_is_what_prometheus_reads() -> None:
    histogram = Histogram()
    for seconds in (5e-6, 20e-6, 20e-6, 0.5, 1000.0):
        histogram.add(seconds)
    awkward = 'a "b" \\ c\nd'
    families = [
        Family(
            "cosfs_a_total", "counter", "Help with \\ and\nlines.", [({"of": awkward}, 12), ({"of": "x"}, 3)]
        ),
        Family("cosfs_gauge", "gauge", "A gauge.", [({}, 0.25)]),
        Family("cosfs_seconds", "histogram", "A histogram.", [({"of": "x"}, histogram.snapshot())]),
        Family("cosfs_nothing", "gauge", "Without samples."),
    ]
    counter, gauge, times = text_string_to_metric_families(prometheus(families))
    assert [(sample.labels["of"], sample.value) for sample in counter.samples] == [(awkward, 12), ("x", 3)]
    assert counter.documentation == "Help with \\ and\nlines."
    assert [(sample.name, sample.value) for sample in gauge.samples] == [("cosfs_gauge", 0.25)]
    assert times.type == "histogram"
    buckets = {s.labels["le"]: s.value for s in times.samples if s.name.endswith("_bucket")}
    assert buckets["1.6e-05"] == 1 and buckets["6.4e-05"] == 3 and buckets["1.048576"] == 4
    assert list(buckets.values())[-2:] == [4, 5] and list(buckets)[-1] == "+Inf"
    assert {s.name: s.value for s in times.samples if "bucket" not in s.name} == {
        "cosfs_seconds_sum": histogram.seconds,
        "cosfs_seconds_count": 5,
    }
