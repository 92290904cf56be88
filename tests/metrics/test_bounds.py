"""Families are bounded: who makes room, what becomes of counts, and what is told of it."""

from __future__ import annotations

import logging
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from meshcore.metrics import Registry


def total(registry: Registry, family: str) -> float:
    """The sum over a family's series, as a scrape has it."""
    lines = registry.render().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.partition("{")[0].partition(" ")[0] == family)


@pytest.mark.parity("M-01")
def test_an_idle_series_is_kept_however_often_it_is_scraped() -> None:
    registry = Registry()
    registry.counter("c_total", "C.", "a").labels("idle").value += 1

    for _ in range(1_000):
        text = registry.render()

    assert 'c_total{a="idle"} 1\n' in text


def test_what_is_too_much_shares_one_series_where_all_others_are_held() -> None:
    registry = Registry(max_series=3)
    family = registry.counter("c_total", "C.", "path")

    cells = [family.labels(str(number)) for number in range(10)]
    for cell in cells:
        cell.value += 1

    assert 4 == len(family.series())
    assert 'c_total{overflow="true"} 7\n' in registry.render()
    assert cells[0] is family.labels("0")


def test_the_series_that_is_idle_for_longest_makes_room_and_its_counts_are_not_lost() -> None:
    registry = Registry(max_series=3)
    family = registry.counter("c_total", "C.", "a")
    held = family.labels("held")
    for name in ("older", "newer"):
        family.labels(name).value += 5
    registry.render()
    family.labels("older").value += 1
    registry.render()

    family.labels("another").value += 1

    names = [dict(labels).get("a", "overflow") for labels, _ in family.series()]
    assert ["overflow", "held", "older", "another"] == names
    assert 'c_total{overflow="true"} 5\n' in registry.render()
    assert 12 == total(registry, "c_total")
    # It comes again, beside what was counted of it.
    family.labels("newer").value += 1
    assert 13 == total(registry, "c_total")
    assert held is family.labels("held")


def test_a_histogram_that_makes_room_is_added_bucket_by_bucket() -> None:
    registry = Registry(max_series=2)
    family = registry.histogram("h", "H.", "a", buckets=(1, 10))
    for number in range(5):
        family.labels(str(number)).observe(0.5)
        family.labels(str(number)).observe(number * 100)

    text = registry.render()

    assert 'h_bucket{overflow="true",le="1"} 4\n' in text
    assert 'h_count{overflow="true"} 6\n' in text
    assert 10 == total(registry, "h_count")
    assert 1_002.5 == total(registry, "h_sum")


def test_gauges_without_room_are_summed_while_somebody_holds_them() -> None:
    registry = Registry(max_series=1)
    family = registry.gauge("g", "G.", "a")
    cells = [family.labels(str(number)) for number in range(4)]
    for number, cell in enumerate(cells):
        cell.value = 10**number

    assert 'g{overflow="true"} 1110\n' in registry.render()
    assert cells[2] is family.labels("2")
    del cells[2], cell
    assert 'g{overflow="true"} 1010\n' in registry.render()


@hypothesis.given(
    st.lists(st.tuples(st.sampled_from(["count", "hold", "drop", "scrape"]), st.integers(0, 30)), max_size=200),
    st.integers(1, 8),
)
def test_whatever_happens_no_sum_goes_down_and_no_family_grows(steps: list[tuple[str, int]], bound: int) -> None:
    registry = Registry(max_series=bound)
    family = registry.counter("c_total", "C.", "a")
    held: dict[int, Any] = {}
    counted = 0
    for what, number in steps:
        if what == "count":
            (held.get(number) or family.labels(str(number))).value += 1
            counted += 1
        elif what == "hold":
            held[number] = family.labels(str(number))
        elif what == "drop":
            held.pop(number, None)
        else:
            assert counted == total(registry, "c_total")
        assert len(family.series()) <= bound + 1
    assert counted == total(registry, "c_total")


def test_a_series_that_is_read_piece_by_piece_is_not_counted_twice_when_it_makes_room_meanwhile() -> None:
    registry = Registry(max_series=1_000)
    family = registry.counter("c_total", "C.", "a")
    for number in range(1_000):
        family.labels(str(number)).value += 1
    family.labels("one more").value += 1

    pieces = registry.pieces()
    text = next(pieces)
    for number in range(500):
        family.labels(f"further {number}").value += 1
    text += "".join(pieces)

    values = [float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith("c_total")]
    assert 1_001 == sum(values)
    assert 1_501 == total(registry, "c_total")


def test_one_warning_a_family_and_a_counter_tell_of_it(caplog: pytest.LogCaptureFixture) -> None:
    registry = Registry(max_series=2)
    full, held = registry.counter("full_total", "F.", "a"), registry.counter("held_total", "H.", "a")
    cells = [held.labels(str(number)) for number in range(5)]
    with caplog.at_level(logging.WARNING):
        for number in range(10):
            full.labels(str(number)).value += 1

    assert 5 == len(cells)
    assert ['metric full_total has 2 series, which is its limit: some are counted together, as overflow="true"'] == [
        record.getMessage() for record in caplog.records if "full_total" in record.getMessage()
    ]
    text = registry.render()
    assert 'metrics_series_dropped_total{family="full_total",reason="idle"} 8\n' in text
    assert 'metrics_series_dropped_total{family="held_total",reason="full"} 3\n' in text


@pytest.mark.parametrize("holding", [0, 500, 799, 800])
def test_a_label_that_is_new_each_time_costs_no_look_at_all_series_each_time(
    holding: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry(max_series=800)
    family: Any = registry.counter("c_total", "C.", "a")
    looks = [0]
    find = type(family)._find_idle

    def counted(self: Any) -> None:
        looks[0] += 1
        find(self)

    monkeypatch.setattr(type(family), "_find_idle", counted)
    held = [family.labels(f"held {number}") for number in range(holding)]
    for number in range(10_000):
        family.labels(str(number)).value += 1

    assert holding == len(held)
    assert looks[0] <= 10_000 / 100 + 1
