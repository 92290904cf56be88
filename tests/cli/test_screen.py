"""What ``meshcore top`` shows and what keys do, without a terminal."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshcore_cli.columns import width
from meshcore_cli.figures import age, millis, percent, rate
from meshcore_cli.screen import HELP, Screen

FIXTURE = json.loads((Path(__file__).parent.parent / "fixtures" / "stats.json").read_text())
COLOUR = re.compile(r"\x1b\[[0-9]+m")


def screen(told: dict[str, Any] | None = FIXTURE, **options: Any) -> Screen:
    made = Screen("127.0.0.1:4191", 10, **options)
    if told is not None:
        made.update(copy.deepcopy(told))
    return made


def shown(made: Screen, columns: int = 80, rows: int = 24) -> list[str]:
    return [COLOUR.sub("", line).rstrip() for line in made.lines(columns, rows)]


def names(made: Screen) -> list[str]:
    """The first column of the table."""
    return [line.split()[0] for line in shown(made)[5:-1] if line]


def press(made: Screen, *keys: str) -> None:
    for key in keys:
        made.press(key)


def test_it_fits_a_terminal_of_80_columns_and_24_rows() -> None:
    made = screen()
    for key in "123":
        made.press(key)
        lines = made.lines(80, 24)
        assert len(lines) == 24
        assert all(width(COLOUR.sub("", line)) <= 80 for line in lines)
    assert shown(made)[0].startswith("meshcore top  orders.shop  ready  up 1h10m  127.0.0.1:4191  last 10 s")
    assert shown(made)[1] == "inbound      811.9 rps    99.88%  p50 3.4ms  p95 18.9ms  p99 44.2ms"
    assert shown(made)[-1] == "1/2/3 view  s sort  r reverse  / filter  p pause  ? help  q quit"


def test_the_help_fits_it_too() -> None:
    assert max(map(width, HELP)) <= 80
    assert len(HELP) + 2 <= 24


def test_the_keys_1_2_3_and_tab_change_the_view() -> None:
    made = screen()
    assert "[1 routes]" in shown(made)[3]
    press(made, "2")
    assert "[2 backends]" in shown(made)[3]
    assert names(made) == ["payments:80", "application", "stock:80"]
    press(made, "tab")
    assert "[3 endpoints]" in shown(made)[3]
    press(made, "tab")
    assert "[1 routes]" in shown(made)[3]
    press(made, "back tab")
    assert "[3 endpoints]" in shown(made)[3]


def test_rows_are_sorted_by_traffic_first_by_letters_and_by_the_next_column() -> None:
    made = screen()
    press(made, "3")
    assert names(made)[0] == "127.0.0.1:8000"
    press(made, "n")
    assert names(made) == ["10.0.0.7:4143", "10.0.0.8:4143", "10.0.0.9:4143", "127.0.0.1:8000", "[fd00::17]:4143"]
    press(made, "r")
    assert names(made)[0] == "[fd00::17]:4143"
    assert "sort ENDPOINT ▼" in shown(made)[3]
    press(made, "e")
    # What fails most; what has had no answer comes last.
    assert (names(made)[0], names(made)[-1]) == ("10.0.0.9:4143", "[fd00::17]:4143")
    press(made, "0")
    assert names(made)[0] == "10.0.0.9:4143"
    press(made, "S", "s", "right", "left")
    assert "sort P99 ▼" in shown(made)[3]


def test_a_filter_is_typed_kept_and_forgotten() -> None:
    made = screen()
    press(made, "3", "/", *"PAYM")
    assert shown(made)[-1] == "/PAYM_"
    assert len(names(made)) == 3
    press(made, "backspace", "backspace", "backspace", "backspace", *"q1", "enter")
    # Keys were text while it was typed.
    assert not made.over
    assert "no endpoints with 'q1' in their name" in shown(made)[5]
    assert "filter q1" in shown(made)[3]
    press(made, "escape")
    assert len(names(made)) == 5
    press(made, "/", *"open", "enter")
    assert names(made) == ["10.0.0.9:4143"]


def test_a_pause_keeps_the_figures_until_it_is_over() -> None:
    made = screen()
    press(made, " ")
    later = copy.deepcopy(FIXTURE)
    later["total"]["inbound"]["rps"] = 7.0
    made.update(later)
    assert "811.9 rps" in shown(made)[1]
    assert "PAUSED" in shown(made)[3]
    press(made, "p")
    assert "7.0 rps" in shown(made)[1]
    assert not made.paused


def test_help_is_shown_and_left_by_any_key() -> None:
    made = screen()
    press(made, "?")
    assert any("filter by name" in line for line in shown(made))
    press(made, "q")
    assert not made.over
    press(made, "q")
    assert made.over


def test_a_proxy_that_is_lost_is_told_until_it_is_back() -> None:
    made = screen()
    made.lost("no proxy answers at 127.0.0.1:4191: Connection refused\n")
    assert shown(made)[-1] == "no proxy answers at 127.0.0.1:4191: Connection refused; trying again"
    assert "811.9 rps" in shown(made)[1]
    made.update(copy.deepcopy(FIXTURE))
    assert "trying again" not in shown(made)[-1]


def test_more_rows_than_there_is_room_for_can_be_walked_through() -> None:
    told = copy.deepcopy(FIXTURE)
    told["routes"] = [{"parent": f"p{number:03}", "route": "r", "rps": 1_000 - number} for number in range(100)]
    made = screen(told)
    assert names(made)[0] == "p000"
    press(made, "down", "j")
    assert names(made)[0] == "p002"
    press(made, "page down")
    assert names(made)[0] == "p019"
    press(made, "end")
    assert names(made)[-1] == "p099"
    press(made, "up", "page up", "home", "up")
    assert names(made)[0] == "p000"


def test_names_from_elsewhere_do_nothing_to_the_terminal() -> None:
    told = copy.deepcopy(FIXTURE)
    told["routes"][0]["parent"] = "\x1b]0;owned\x07\x1b[2J\N{RIGHT-TO-LEFT OVERRIDE}"
    told["proxy"]["name"] = "\x1b[31m"
    made = screen(told, coloured=False)
    made.lost("\x1b[5n")
    for columns in (80, 40):
        text = "".join(made.lines(columns, 24))
        assert "\x1b" not in COLOUR.sub("", text)
        assert not {"\x07", "\N{RIGHT-TO-LEFT OVERRIDE}"} & set(text)


def test_colour_is_left_out_where_it_is_not_wanted_and_characters_where_there_are_none() -> None:
    made = screen(coloured=False, unicode=False)
    text = "\n".join(made.lines(80, 24))
    assert set(COLOUR.findall(text)) <= {"\x1b[1m", "\x1b[7m", "\x1b[0m"}
    assert text.isascii()


ROWS = [(name, st.sampled_from(sorted(FIXTURE[name][0]))) for name in ("routes", "backends", "endpoints")]
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 10**12), st.floats(), st.text(max_size=10)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=10,
)


@given(
    st.fixed_dictionaries(
        dict.fromkeys(("proxy", "total", "window", "more"), JSON)
        | {name: st.one_of(JSON, st.lists(st.dictionaries(keys, JSON), max_size=4)) for name, keys in ROWS}
    ),
    st.text(alphabet="123spr/?ne 059lbqxy", max_size=12),
    st.integers(1, 100),
    st.integers(1, 40),
)
def test_whatever_a_proxy_answers_and_whichever_keys_are_pressed_it_fits(
    told: dict[str, Any], keys: str, columns: int, rows: int
) -> None:
    made = screen(told)
    for key in ["", *keys]:
        made.press(key)
        lines = made.lines(columns, rows)
        assert len(lines) <= rows
        assert all(width(COLOUR.sub("", line)) <= columns for line in lines)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.0, "0.0"),
        (9_999.4, "9999.4"),
        (12_345.0, "12.3k"),
        (123_456.0, "123k"),
    ],
)
def test_rates(value: float | None, text: str) -> None:
    assert rate(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (1.0, "100.00%"), (0.999999, "99.99%"), (0.5, "50.00%"), (0.0, "0.00%")]
)
def test_percentages_are_never_rounded_up_to_all_of_it(value: float | None, text: str) -> None:
    assert percent(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (0.5, "0.5ms"), (187.4, "187ms"), (2_500.0, "2.50s"), (120_000.0, "120s")]
)
def test_times(value: float | None, text: str) -> None:
    assert millis(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (12.7, "12s"), (250, "4m10s"), (4_211.7, "1h10m"), (270_000, "3d3h"), (-1, "0s")]
)
def test_ages(value: float | None, text: str) -> None:
    assert age(value) == text
