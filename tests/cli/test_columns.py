"""Tables of text from anywhere: as wide as terminals show it, and nothing that a terminal would obey."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshcore_cli.columns import Cell, Heading, clean, fit, lines_of, table, width

TEXTS = st.text(max_size=40)


def plain(name: str, text: str) -> str:
    return text


@pytest.fixture(autouse=True)
def _no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")


def test_wide_characters_take_two_columns_and_combining_marks_none() -> None:
    assert width("abc") == 3
    assert width("東京") == 4
    assert width("e\N{COMBINING ACUTE ACCENT}") == 1
    assert width("√…") == 2


def test_columns_align_whatever_is_in_them() -> None:
    headings = [Heading("NAME"), Heading("N", right=True)]
    rows = [[Cell("東京"), Cell("1")], [Cell("e\N{COMBINING ACUTE ACCENT}t"), Cell("10")], [Cell("orders"), Cell("7")]]
    assert table(headings, rows).splitlines() == [
        "NAME     N",
        "東京     1",
        "e\N{COMBINING ACUTE ACCENT}t      10",
        "orders   7",
    ]


def test_what_does_not_fit_is_cut_with_an_ellipsis() -> None:
    assert fit("payments", 8) == "payments"
    assert fit("payments", 5) == "paym…"
    assert fit("東京都", 4) == "東… "
    assert fit("ab", 4, right=True) == "  ab"
    assert fit("ab", 0) == ""


@given(TEXTS, st.integers(0, 30), st.booleans())
def test_what_is_fitted_is_exactly_so_wide(text: str, columns: int, right: bool) -> None:
    assert width(fit(clean(text), columns, right=right)) == columns


@given(TEXTS)
def test_what_is_shown_has_nothing_that_a_terminal_obeys(text: str) -> None:
    shown = clean(text)
    assert all(unicodedata.category(each) not in ("Cc", "Cf", "Cs", "Zl", "Zp") for each in shown)


def test_escape_sequences_and_turned_text_are_not_shown() -> None:
    assert clean("\x1b[2Ja\r\nb\x07\N{RIGHT-TO-LEFT OVERRIDE}c\x9b") == "�[2Ja��b��c�"
    assert clean(None) == "None"
    assert len(clean("x" * 10_000)) == 501


@given(
    st.lists(st.tuples(TEXTS, TEXTS, st.integers(0, 10**9)), max_size=5),
    st.integers(20, 120),
)
def test_every_line_of_a_table_is_as_wide_as_the_others_and_no_wider_than_there_is_room(
    values: list[tuple[str, str, int]], columns: int
) -> None:
    headings = [Heading("A", shrinks=True), Heading("B", shrinks=True, rank=1), Heading("C", right=True)]
    rows = [[Cell(clean(one)), Cell(clean(other)), Cell(str(number))] for one, other, number in values]
    header, body = lines_of(headings, rows, columns, plain)
    assert {width(line) for line in body} <= {width(header)}
    assert width(header) <= columns


def test_names_are_cut_before_numbers_are_left_out_and_never_to_nothing() -> None:
    headings = [Heading("NAME", shrinks=True), Heading("RPS", right=True), Heading("P50", right=True, rank=1)]
    rows = [[Cell("a-name-that-is-quite-long"), Cell("1234.5"), Cell("12.3ms")]]
    assert lines_of(headings, rows, 33, plain)[1] == ["a-name-that-is-q…  1234.5  12.3ms"]
    assert lines_of(headings, rows, 25, plain)[1] == ["a-name-that-is-q…  1234.5"]
    assert lines_of(headings, rows, 14, plain)[1] == ["a-nam…  1234.5"]
    assert lines_of(headings, rows, 5, plain)[1] == ["a-na…"]
