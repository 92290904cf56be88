"""The registry and its text."""

from __future__ import annotations

import gc
import math
import re
from typing import Any

import hypothesis
import pytest
import trio
from hypothesis import strategies as st
from trio.testing import MockClock

from meshcore.metrics import LATENCY_MS, Histogram, Registry, crashes_total, h2_abuse_closed_total, process_metrics
from meshcore.metrics.prometheus import label_name, labels_text, number

SAMPLE = re.compile(r'[a-zA-Z_:][a-zA-Z0-9_:]*(\{([a-zA-Z_][a-zA-Z0-9_]*="([^"\\\n]|\\["\\n])*",?)+\})? [^ \n]+')


def parse(text: str) -> dict[str, float]:
    """Samples by name and labels; every line is checked."""
    samples: dict[str, float] = {}
    for line in text.removesuffix("\n").split("\n"):
        if line.startswith("#"):
            assert re.fullmatch(r"# (HELP \S+ [^\n]*|TYPE \S+ (counter|gauge|histogram)|EOF)", line), line
            continue
        assert SAMPLE.fullmatch(line), line
        name, _, value = line.rpartition(" ")
        assert name not in samples
        samples[name] = float(value)
    return samples


def test_counters_and_gauges_are_plain_numbers() -> None:
    registry = Registry()
    requests = registry.counter("request_total", "Requests.", "direction").labels("inbound")
    open_now = registry.gauge("open", "Open now.").labels()

    requests.value += 2
    open_now.value = 1.5

    assert (
        "# HELP open Open now.\n# TYPE open gauge\nopen 1.5\n"
        '# HELP request_total Requests.\n# TYPE request_total counter\nrequest_total{direction="inbound"} 2\n'
    ) == registry.render()


def test_histograms_are_cumulative_and_their_bounds_inclusive() -> None:
    registry = Registry()
    cell = registry.histogram("d", "D.", "a", buckets=(1, 2.5)).labels("x")

    for value in (0, 1, 2.5, 2.6, 100):
        cell.observe(value)

    assert (
        '# HELP d D.\n# TYPE d histogram\nd_bucket{a="x",le="1"} 2\nd_bucket{a="x",le="2.5"} 3\n'
        'd_bucket{a="x",le="+Inf"} 5\nd_sum{a="x"} 106.1\nd_count{a="x"} 5\n'
    ) == registry.render()
    assert 5 == cell.count


@pytest.mark.parity("M-03")
def test_latencies_have_linkerds_buckets() -> None:
    expected = "1 2 3 4 5 10 20 30 40 50 100 200 300 400 500 1000 2000 3000 4000 5000 10000 20000 30000 40000 50000"

    assert expected == " ".join(map(number, LATENCY_MS))
    assert LATENCY_MS == Histogram().bounds


@hypothesis.given(st.lists(st.floats(0, 1e6)), st.sets(st.floats(0.001, 1e5), min_size=1))
def test_every_observation_is_in_the_first_bucket_that_is_not_below_it(values: list[float], bounds: set[float]) -> None:
    histogram = Histogram(sorted(bounds))
    for value in values:
        histogram.observe(value)

    for index, bound in enumerate(sorted(bounds)):
        assert sum(histogram.counts[: index + 1]) == sum(value <= bound for value in values)
    assert len(values) == histogram.count
    assert pytest.approx(sum(values)) == histogram.total


@pytest.mark.parity("M-02", "X-50")
def test_every_family_has_help_and_type_and_labels_without_value_are_left_out() -> None:
    registry = Registry()
    family = registry.counter("c_total", "C.", "a", "b", "c")
    family.labels("", "", "")
    family.labels("1", "", "3")
    registry.gauge("unused", "Never bound.")

    text = registry.render()

    assert "# HELP c_total C.\n# TYPE c_total counter\nc_total 0\nc_total{a=\"1\",c=\"3\"} 0\n" == text
    assert "{," not in text
    assert ",," not in text
    assert "{}" not in text


@pytest.mark.parity("M-02")
@hypothesis.given(st.lists(st.tuples(st.text(max_size=8), st.text(max_size=20)), max_size=4), st.text(max_size=30))
def test_whatever_stands_in_labels_and_help_the_text_can_be_read(pairs: list[tuple[str, str]], help_text: str) -> None:
    registry = Registry()
    names = {label_name(name) for name, _ in pairs}
    hypothesis.assume(len(names) == len(pairs))
    registry.counter("c_total", help_text).labels(extra=tuple(pairs)).value = 7

    samples = parse(registry.render())

    assert [7.0] == list(samples.values())
    (sample,) = samples
    found = dict(re.findall(r'([a-zA-Z0-9_]+)="((?:[^"\\]|\\.)*)"', sample))
    unescaped = {
        name: re.sub(r"\\(.)", lambda match: "\n" if match[1] == "n" else match[1], value)
        for name, value in found.items()
    }
    assert {label_name(name): value for name, value in pairs if value} == unescaped


def test_numbers_are_written_as_the_format_wants_them() -> None:
    assert ["1", "1", "0.5", "+Inf", "-Inf", "NaN", "1e+300", "-3"] == [
        number(value) for value in (1, 1.0, 0.5, math.inf, -math.inf, math.nan, 1e300, -3.0)
    ]
    assert '{a="\\\\ \\" \\n"}' == labels_text([("a", '\\ " \n'), ("b", "")])


def test_names_from_outside_become_labels() -> None:
    assert ["a_b", "_1a", "_", "zone", "__"] == [label_name(name) for name in ("a.b", "1a", "", "zone", "ü-")]


def test_a_family_is_the_same_one_again_and_cannot_be_another() -> None:
    registry = Registry()
    family = registry.counter("c_total", "C.", "a")

    assert family is registry.counter("c_total", "Other words.", "a")
    assert family.labels("x") is family.labels("x")
    for make in (registry.gauge, registry.histogram):
        with pytest.raises(ValueError, match="c_total is a counter"):
            make("c_total", "C.", "a")
    with pytest.raises(ValueError, match="with the labels"):
        registry.counter("c_total", "C.", "b")
    for values in ((), ("x", "y")):
        with pytest.raises(ValueError, match="argument"):
            family.labels(*values)
    for name in ("", "1a", "a-b", "a b"):
        with pytest.raises(ValueError, match="not a metric's name"):
            registry.counter(name, "")
    for label in ("", "1a", "a-b", "__a"):
        with pytest.raises(ValueError, match="not a label's name"):
            registry.counter("d_total", "", label)
    for bounds in ((), (2, 1), (1, 1)):
        with pytest.raises(ValueError, match="bounds have to ascend"):
            registry.histogram("h", "", buckets=bounds)


def test_series_are_bounded_and_what_is_too_much_shares_one() -> None:
    registry = Registry(max_series=3)
    family = registry.counter("c_total", "C.", "path")

    cells = [family.labels(str(number)) for number in range(10)]
    for cell in cells:
        cell.value += 1

    assert 4 == len(family.series())
    assert 'c_total{overflow="true"} 7\n' in registry.render()
    assert cells[0] is family.labels("0")


def test_a_collector_is_called_before_each_scrape_until_it_is_taken_back() -> None:
    registry = Registry()
    cell = registry.gauge("g", "G.").labels()

    def collect() -> None:
        cell.value += 1

    take_back = registry.collect(collect)
    assert "g 1\n" in registry.render()
    assert "g 2\n" in registry.render()
    take_back()
    take_back()
    assert "g 2\n" in registry.render()


def test_an_idle_series_that_nobody_holds_is_forgotten_at_a_scrape_after_ten_minutes() -> None:
    registry = Registry()
    family = registry.counter("c_total", "C.", "a")
    held, busy = family.labels("held"), family.labels("busy")
    family.labels("idle").value += 1

    for minute in range(11):
        busy.value += 1
        text = registry.render(now=minute * 60.0)
        assert ('a="idle"' in text) == (minute < 10)
    held.value += 1
    del busy
    gc.collect()

    assert 'c_total{a="held"} 1\n' in registry.render(now=660.0)
    for now in (700.0, 1_300.0):
        text = registry.render(now=now)
    assert 'a="busy"' not in text
    assert 'a="held"' in text
    assert held is family.labels("held")


async def test_the_clock_of_a_scrape_is_trios(autojump_clock: MockClock) -> None:
    registry = Registry(retain=10.0)
    registry.counter("c_total", "C.").labels()

    assert "c_total" in registry.render()
    await trio.sleep(11)
    assert "" == registry.render()


def test_openmetrics_names_counters_without_their_suffix_and_says_where_it_ends() -> None:
    registry = Registry()
    registry.counter("c_total", 'C "quoted".').labels().value = 1

    assert '# HELP c C \\"quoted\\".\n# TYPE c counter\nc_total 1\n# EOF\n' == registry.render(True)


@pytest.mark.parity("X-51")
def test_the_process_tells_its_start_its_cpu_its_memory_and_its_descriptors() -> None:
    registry = Registry(max_series=10)
    process_metrics(registry, start_time=1_700_000_000.25, version="1.2.3", engines="ngh2")
    crashes_total(registry).value += 1
    h2_abuse_closed_total(registry, "ping").value += 2

    for now in (0.0, 700.0, 1400.0):
        samples = parse(registry.render(now=now))

    assert 1_700_000_000.25 == samples["process_start_time_seconds"]
    assert 1 == samples['proxy_build_info{version="1.2.3",engines="ngh2"}']
    assert samples["process_cpu_seconds_total"] > 0
    assert samples["process_resident_memory_bytes"] > 1 << 20
    assert samples["process_virtual_memory_bytes"] > samples["process_resident_memory_bytes"]
    assert 0 < samples["process_open_fds"] < samples["process_max_fds"]


def test_reprs_say_what_there_is() -> None:
    registry = Registry()
    family: Any = registry.counter("c_total", "C.")
    assert "<Counter 0>" == repr(family.labels())
    assert "<Family counter c_total series=1>" == repr(family)
    assert "<Registry families=1>" == repr(registry)
    assert "<Histogram count=0 total=0.0>" == repr(Histogram())
