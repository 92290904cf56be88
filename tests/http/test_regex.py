"""Regular expressions in linear time."""

from __future__ import annotations

import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshcore.errors import ConfigError
from meshcore.http.regex import LONGEST_TEXT, Regex

ATOMS = st.sampled_from(
    [
        "a",
        "b",
        "/",
        ".",
        "-",
        "é",
        "a{x}",
        "[ab]",
        "[^a]",
        "[a-c0-9]",
        r"[\w.-]",
        r"[^\d]",
        r"\x41",
        r"\D",
        r"\d",
        r"\w",
        r"\.",
    ]
)
PATTERNS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda two: f"({two[0]}|{two[1]})"),
        st.tuples(
            inner, st.sampled_from(["*", "+", "?", "*?", "+?", "{2}", "{1,3}", "{0,2}", "{2,}", "{,2}", "{0}"])
        ).map(lambda two: f"(?:{two[0]}){two[1]}"),
        inner.map(lambda pattern: f"(?P<name>{pattern})"),
    ),
    max_leaves=8,
)
TEXTS = st.text("abAB/.-1é", max_size=12).map(str.encode)


@given(PATTERNS.filter(lambda pattern: pattern.count("?P<") < 2), st.lists(TEXTS, max_size=8), st.booleans())
def test_whole_texts_match_where_they_do_for_pythons_own(pattern: str, texts: list[bytes], fold: bool) -> None:
    ours = Regex(f"(?i){pattern}" if fold else pattern)
    # A set of bytes has no é, and Python would repeat its last byte alone.
    theirs = re.compile(pattern.encode().replace("é".encode(), "(?:é)".encode()), re.DOTALL | (re.I if fold else 0))
    for text in texts:
        assert ours.fullmatch(text) == bool(theirs.fullmatch(text))


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("(a", "a ( without its )"),
        ("a)", "a ) without its ("),
        ("[a", "a [ without its ]"),
        ("*", "nothing to repeat"),
        ("a**", "nothing to repeat"),
        ("a{2", "a { that does not say how often"),
        ("a{3,2}", "{m,n} goes from 0 to 255"),
        ("a{256}", "{m,n} goes from 0 to 255"),
        ("a\\", "a \\ at the end"),
        (r"(a)\1", r"\1 is not supported"),
        (r"\bword", r"\b is not supported"),
        ("(?=a)", "look-around"),
        ("(?<name", "look-around"),
        ("a^b", "the whole text is matched anyway"),
        ("[b-a]", "a range that goes nowhere"),
        ("[[:alpha:]]", "[: :] is not supported"),
        ("[é]", "texts are bytes"),
        ("a" * 1_025, "longer than 1024 characters"),
        ("(a{200}){200}", "more than 512 places"),
        ("((((){255}){255}){255}){255}", "too many repetitions in repetitions"),
        ("(" * 40 + ")" * 40, "nested deeper than 32"),
    ],
)
def test_what_is_no_pattern_is_told_with_its_place(pattern: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Regex(pattern)
    assert problem in caught.value.problems[0]


@pytest.mark.parametrize("pattern", ["(a+)+b", "(a|a)*b", "(a|aa)+b", "(.*)(.*)(.*)(.*)(.*)b", "(a?){200}a{200}b"])
def test_no_pattern_takes_more_steps_than_the_text_has_bytes(pattern: str) -> None:
    regex = Regex(pattern)
    steps = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal steps
        steps += event == "call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        assert not regex.fullmatch(b"a" * LONGEST_TEXT)
    finally:
        sys.setprofile(before)
    assert steps <= 3 * LONGEST_TEXT


def test_the_states_that_texts_can_make_are_bounded() -> None:
    regex = Regex("(a|b)*a(a|b){12}")
    for number in range(3_000):
        text = f"{number * 7919:013b}".replace("0", "a").replace("1", "b").encode()
        assert regex.fullmatch(text) == (len(text) >= 13 and text[-13:-12] == b"a")
    assert len(regex._states) <= 512


def test_a_text_that_is_too_long_matches_nothing() -> None:
    assert Regex("a*").fullmatch(b"a" * LONGEST_TEXT)
    assert not Regex("a*").fullmatch(b"a" * (LONGEST_TEXT + 1))


def test_anchors_at_the_ends_and_case_say_what_they_say() -> None:
    assert Regex("^/a$").fullmatch(b"/a")
    assert Regex("(?i)ab[c-d]").fullmatch(b"aBD")
    assert not Regex("(?i)[^a]").fullmatch(b"A")
    assert Regex("a") == Regex("a") != Regex("b")
    assert repr(Regex("a")) == "Regex('a')"
