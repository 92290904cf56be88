"""The registry and its text."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from meshcore.metrics import LATENCY_MS, Histogram, Registry, crashes_total, h2_abuse_closed_total, process_metrics
from meshcore.metrics.prometheus import MAX_VALUE, label_name, label_value, labels_text, number
from tests.metrics.exposed import parse

VALUES = st.text(st.characters(), max_size=300) | st.text('a="\\\n,{}', max_size=9)
PAIRS = st.lists(st.tuples(st.text(max_size=8), VALUES), max_size=4)


def samples(text: str) -> dict[str, float]:
    """Samples by name and labels."""
    found = {}
    for family in parse(text).values():
        for (name, labels), value in family.samples.items():
            found[name + labels_text(labels)] = value
    return found


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


@pytest.mark.parity("M-02", "X-50")
@pytest.mark.parametrize("openmetrics", [False, True])
@hypothesis.given(PAIRS, st.text(max_size=30))
def test_whatever_stands_in_labels_and_help_the_text_can_be_read(
    openmetrics: bool, pairs: list[tuple[str, str]], help_text: str
) -> None:
    registry = Registry()
    registry.counter("c_total", help_text).labels(extra=tuple(pairs)).value = 7
    registry.histogram("h", help_text, buckets=(1, 2.5)).labels(extra=tuple(pairs)).observe(2)

    families = parse(registry.render(openmetrics), openmetrics=openmetrics)

    expected: dict[str, str] = {}
    for name, value in pairs:
        if value and label_name(name) not in ("le", "overflow"):
            expected.setdefault(label_name(name), label_value(value))
    counter = families["c" if openmetrics else "c_total"]
    assert help_text == counter.description
    assert {("c_total", tuple(expected.items())): 7.0} == counter.samples
    ((labels, histogram),) = families["h"].histograms().items()
    assert tuple(expected.items()) == labels
    assert [0, 1, 1, 2, 1] == list(histogram.values())


@hypothesis.given(st.text(st.characters(), max_size=300))
def test_values_are_cut_and_keep_all_but_what_ends_a_line_or_is_no_character(value: str) -> None:
    cleaned = label_value(value)

    assert len(cleaned) == min(len(value), MAX_VALUE)
    assert cleaned == label_value(cleaned)
    cleaned.encode()
    assert cleaned.replace("\n", "").splitlines() in ([], [cleaned.replace("\n", "")])
    for before, after in zip(value[: MAX_VALUE - 1], cleaned, strict=False):
        assert after in (before, "\N{REPLACEMENT CHARACTER}")
        if before.isprintable():
            assert before == after


def test_a_name_that_stands_twice_in_further_labels_counts_once_and_reserved_ones_never() -> None:
    family = Registry().counter("c_total", "C.", "zone")
    extra = (("a.b", "1"), ("a_b", "2"), ("zone", "3"), ("le", "4"), ("overflow", "5"), ("empty", ""))

    family.labels("z", extra=extra)

    ((labels, _),) = family.series()
    assert (("zone", "z"), ("a_b", "1")) == labels
    assert family.labels("z", extra=(("a_b", "1"),)) is family.labels("z", extra=extra)


def test_numbers_are_written_as_the_format_wants_them() -> None:
    assert ["1", "1", "0.5", "+Inf", "-Inf", "NaN", "1e+300", "-3"] == [
        number(value) for value in (1, 1.0, 0.5, math.inf, -math.inf, math.nan, 1e300, -3.0)
    ]
    assert '{a="\\\\ \\" \\n"}' == labels_text([("a", '\\ " \n'), ("b", "")])


def test_names_from_outside_become_labels() -> None:
    assert ["a_b", "_1a", "_", "zone", "x__"] == [label_name(name) for name in ("a.b", "1a", "", "zone", "ü-")]


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
    with pytest.raises(ValueError, match="which ends in _total"):
        registry.counter("requests", "")
    with pytest.raises(ValueError, match="would have the name of c_total in OpenMetrics"):
        registry.gauge("c", "")
    for label in ("", "1a", "a-b", "__a", "le"):
        with pytest.raises(ValueError, match="not a label's name"):
            registry.counter("d_total", "", label)
    for bounds in ((), (2, 1), (1, 1)):
        with pytest.raises(ValueError, match="bounds have to ascend"):
            registry.histogram("h", "", buckets=bounds)


def test_a_view_and_a_family_cannot_have_one_name() -> None:
    registry = Registry()
    registry.counter("c_total", "C.")
    view = registry.view("v_total", "V.", {"c_total": lambda labels: labels})

    assert view is registry.view("v_total", "V.", {})
    with pytest.raises(ValueError, match="is there already"):
        registry.view("c_total", "C.", {})
    with pytest.raises(ValueError, match="is there already"):
        registry.counter("v_total", "V.")


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


def test_a_collector_that_has_much_to_do_gives_way_between() -> None:
    registry = Registry()
    cell = registry.gauge("g", "G.").labels()

    def collect() -> Iterator[None]:
        for value in range(3):
            cell.value = value
            yield

    registry.collect(collect)
    pieces = list(registry.pieces())

    assert ["", "", "", "", "# HELP g G.\n# TYPE g gauge\ng 2\n"] == pieces


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

    found = samples(registry.render())

    assert 1_700_000_000.25 == found["process_start_time_seconds"]
    assert any(name.startswith('proxy_build_info{version="1.2.3",engines="ngh2",python="3.') for name in found)
    assert found["process_cpu_seconds_total"] > 0
    assert found["process_resident_memory_bytes"] > 1 << 20
    assert found["process_virtual_memory_bytes"] > found["process_resident_memory_bytes"]
    assert 0 < found["process_open_fds"] < found["process_max_fds"]


def test_reprs_say_what_there_is() -> None:
    registry = Registry()
    family: Any = registry.counter("c_total", "C.")
    assert "<Counter 0>" == repr(family.labels())
    assert "<Family counter c_total series=1>" == repr(family)
    assert "<Registry families=1>" == repr(registry)
    assert "<Histogram count=0 total=0.0>" == repr(Histogram())
