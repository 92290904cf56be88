"""The ids by which several proxies know one request."""

from __future__ import annotations

import random

import hypothesis
import pytest
from hypothesis import strategies as st

from meshcore.errors import ConfigError
from meshcore.http.log_choice import LogChoice
from meshcore.http.trace_ids import ids_of, limit_of, noted, place_of

W3C = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ([(b"traceparent", W3C)], (b"4bf92f3577b34da6a3ce929d0e0e4736", b"00f067aa0ba902b7")),
        ([(b"traceparent", W3C + b"-later")], (b"4bf92f3577b34da6a3ce929d0e0e4736", b"00f067aa0ba902b7")),
        ([(b"traceparent", b"00-abc-def-01")], (b"00-abc-def-01", b"")),
        ([(b"x-b3-spanid", b"05"), (b"x-b3-traceid", b"463ac35c9f6413ad")], (b"463ac35c9f6413ad", b"05")),
        ([(b"b3", b"463ac35c9f6413ad-0020000000000001-1")], (b"463ac35c9f6413ad", b"0020000000000001")),
        ([(b"b3", b"0")], (b"0", b"")),
        ([(b"x-request-id", b"r1")], (b"r1", b"")),
        ([(b"x-amzn-trace-id", b"Root=1-67891233-abcdef01234567")], (b"1-67891233-abcdef01234567", b"")),
        ([(b"x-amzn-trace-id", b"Self=1-6;Root=1-67;Parent=5;Sampled=1")], (b"1-67", b"")),
        ([(b"x-amzn-trace-id", b"none")], (b"none", b"")),
        ([(b"x-request-id", b"r1"), (b"traceparent", W3C)], (b"4bf92f3577b34da6a3ce929d0e0e4736", b"00f067aa0ba902b7")),
        ([(b"x-b3-spanid", b"05")], (b"", b"")),
        ([], (b"", b"")),
    ],
)
def test_the_first_that_is_there_says_it(fields: list[tuple[bytes, bytes]], found: tuple[bytes, bytes]) -> None:
    assert ids_of(fields) == found


def test_the_user_agent_is_seen_in_the_same_look() -> None:
    assert noted([(b"user-agent", b"a"), (b"user-agent", b"b"), (b"x-request-id", b"r")]) == (b"a", b"r", b"")


@hypothesis.given(
    st.lists(
        st.tuples(
            st.sampled_from([b"traceparent", b"b3", b"x-b3-traceid", b"x-request-id", b"x-amzn-trace-id", b"a"]),
            st.binary(max_size=600),
        ),
        max_size=4,
    )
)
def test_whatever_is_sent_gives_bounded_ids(fields: list[tuple[bytes, bytes]]) -> None:
    assert all(len(each) <= 512 for each in ids_of(fields))


# ----- which exchanges are told -----


def test_the_words_of_a_configuration_are_read() -> None:
    choice = LogChoice.of(0.5, ["5xx", "404", "200-201", "Unavailable", "error"], 0.5)
    assert choice.statuses == {*range(500, 600), 404, 200, 201}
    assert (choice.grpc, choice.errors, choice.slower_than) == ({14}, True, 0.5)
    assert not choice.early
    assert not choice.everything


def test_a_word_that_means_nothing_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(ConfigError) as caught:
        LogChoice.of(2, ["6xx", "unavailble"])
    assert caught.value.problems == [
        "sample 2 is not one from 0 to 1",
        "'6xx' is no status such as 404, 5xx or 500-504, no gRPC status such as unavailable, and not error; did you "
        "mean '5xx'?",
        "'unavailble' is no status such as 404, 5xx or 500-504, no gRPC status such as unavailable, and not error; did "
        "you mean 'unavailable'?",
    ]


@pytest.mark.parametrize("size", [8, 16])
def test_a_share_of_traces_is_about_that_share(size: int) -> None:
    rng, limit = random.Random(1), limit_of(0.25)
    told = sum(place_of(rng.randbytes(size).hex().encode()) < limit for _ in range(2_000))
    assert 420 < told < 580


@hypothesis.given(st.lists(st.binary(min_size=1, max_size=64), min_size=200, max_size=200, unique=True))
@hypothesis.settings(max_examples=10)
def test_a_share_of_whatever_else_names_a_request_is_about_that_share(ids: list[bytes]) -> None:
    limit = limit_of(0.5)
    told = sum(place_of(b"request-" + each) < limit for each in ids)
    assert 60 < told < 140


def test_a_trace_has_one_place_however_it_is_written() -> None:
    assert place_of(b"4bf92f3577b34da6a3ce929d0e0e4736") == b"ce929d0e0e4736"
    assert place_of(b"A3CE929D0E0E4736") == b"ce929d0e0e4736"
    assert limit_of(0.5) == b"80000000000000"


def test_everything_and_nothing_are_both_shares() -> None:
    for each in (b"any", b"f" * 32):
        assert place_of(each) < limit_of(1.0)
        assert not place_of(each) < limit_of(0.0)
