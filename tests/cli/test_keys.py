"""Keys from what a terminal sends."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshcore_cli.keys import Keys


@pytest.mark.parametrize(
    ("sent", "keys"),
    [
        (b"q1/", ["q", "1", "/"]),
        (b"\x1b[A\x1b[B", ["up", "down"]),
        (b"\x1bOA\x1bOH", ["up", "home"]),
        (b"\x1b[5~\x1b[6~\x1b[Z", ["page up", "page down", "back tab"]),
        (b"\t\r\x7f\x15", ["tab", "enter", "backspace", "clear"]),
        ("é東".encode(), ["é", "東"]),
        (b"\x1b[1;5C\x1b[200~x", ["x"]),
        (b"\x00\x01x", ["x"]),
        (b"\xff\xfeq", ["�", "�", "q"]),
    ],
)
def test_keys_have_names(sent: bytes, keys: list[str]) -> None:
    assert Keys().feed(sent) == keys


def test_an_escape_alone_is_known_once_nothing_follows() -> None:
    keys = Keys()
    assert keys.feed(b"\x1b") == []
    assert keys.waiting
    assert keys.flush() == ["escape"]
    assert not keys.waiting
    assert keys.feed(b"\x1bx") == ["escape", "x"]


@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=5))
def test_it_makes_no_difference_in_which_pieces_they_come(data: bytes, cuts: list[int]) -> None:
    whole, pieces = Keys(), Keys()
    found = []
    edges = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    for start, end in itertools.pairwise(edges):
        found += pieces.feed(data[start:end])
    assert [*found, *pieces.flush()] == [*whole.feed(data), *whole.flush()]
